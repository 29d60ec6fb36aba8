//! Who wants what: channels, their bindings, and the index over them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use walcast_change::{ColumnSet, Table, TableId};
use walcast_channels::ChannelId;
use walcast_filters::{
    EventSelection, Filter, Interest, MatchIndex, RawCondition, SubscriptionId, Visible,
    claims::{Audience, AudienceId, Audiences, Role},
    policy::{Necessary, RowRule},
};
use walcast_protocol::{Topic, Version};

use crate::{
    catalogue::{Catalogue, Coverage},
    outbox::Outbox,
};

/// Names a connection within this process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId(pub u64);

/// A channel as the router sees it.
#[derive(Debug)]
pub struct ChannelHandle {
    /// The connection it is on.
    pub connection: ConnectionId,
    /// Its number within the connection.
    pub id: ChannelId,
    /// Its topic, for the frames.
    pub topic: Topic,
    /// The serialiser of its connection.
    pub version: Version,
    /// Whether changes are sent in the pre-2022 form.
    pub is_legacy: bool,
    /// Who is behind it.
    pub audience: Audience,
    /// Where its frames go.
    pub outbox: Outbox,
}

/// One binding of a channel, checked against the catalogue.
#[derive(Clone, Debug)]
pub struct PreparedBinding {
    /// The id clients know it by.
    pub id: u32,
    /// The schema's name; `None` for every schema.
    pub schema: Option<Box<str>>,
    /// The table's name; `None` for every table.
    pub table: Option<Box<str>>,
    /// Which changes.
    pub events: EventSelection,
    /// The filter as parsed, to be checked against tables that join the publication later.
    pub conditions: Arc<[RawCondition]>,
    /// The columns to send besides the primary key; `None` for all.
    pub select: Option<Arc<[String]>>,
    /// The tables it covers, each with the filter checked against it.
    pub coverage: Vec<(Coverage, Arc<Filter>)>,
}

/// One binding on one table: an entry of the index.
#[derive(Debug)]
pub(super) struct Subscriber {
    /// The channel.
    pub(super) channel: Arc<ChannelHandle>,
    /// The channel's audience.
    pub(super) audience: AudienceId,
    /// The id clients know the binding by.
    pub(super) binding: u32,
    /// The table whose policies and privileges decide.
    pub(super) guard: TableId,
    /// The columns to send besides the primary key; `None` for all.
    pub(super) select: Option<Arc<[String]>>,
    /// The filter.
    pub(super) filter: Arc<Filter>,
    table: TableId,
    events: EventSelection,
    filter_sql: OnceLock<Arc<str>>,
}

impl Subscriber {
    fn rule_key(&self) -> (TableId, Role) {
        (self.guard, self.channel.audience.role.clone())
    }

    fn interest(&self, visible: Visible) -> Interest {
        Interest { events: self.events, filter: Arc::clone(&self.filter), visible }
    }

    /// The filter as SQL, for PostgreSQL to answer; the same for the life of the subscription.
    pub(super) fn filter_sql(&self, guard: &Table) -> &Arc<str> {
        self.filter_sql.get_or_init(|| self.filter.to_sql(guard).into())
    }
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// Finds the candidates of an event.
    pub(super) index: MatchIndex,
    /// Everyone who must get the same verdict.
    pub(super) audiences: Audiences,
    subscribers: Vec<Option<Arc<Subscriber>>>,
    free: Vec<SubscriptionId>,
    channels: HashMap<(ConnectionId, ChannelId), Entry>,
    published: BTreeSet<Published>,
    /// The rules by which subscribers are indexed: those of the catalogue followed last.
    rules: HashMap<(TableId, Role), RowRule>,
}

/// A subscription as it is shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubscriptionDescription {
    /// The connection it is on.
    pub connection: ConnectionId,
    /// The topic of its channel.
    pub topic: String,
    /// The role that must be allowed to see a row.
    pub role: String,
    /// The table as `schema.name`, or its oid where the catalogue has lost it.
    pub table: String,
    /// The filter as SQL.
    pub filter: Option<String>,
}

/// What decides which bindings cover a table: its oid, name and the tables above it.
type Published = (TableId, Box<str>, Box<str>, Box<[TableId]>);

#[derive(Debug)]
struct Entry {
    channel: Arc<ChannelHandle>,
    audience: AudienceId,
    bindings: Vec<PreparedBinding>,
    subscriptions: Vec<SubscriptionId>,
}

impl Subscriptions {
    /// At most `n_max` subscriptions of connections with numbers above `after`, by these numbers; all
    /// of a connection or none.
    pub(super) fn describe(
        &self,
        catalogue: &Catalogue,
        after: ConnectionId,
        n_max: usize,
    ) -> Vec<SubscriptionDescription> {
        let all = self.subscribers.iter().flatten();
        let mut later: Vec<_> =
            all.filter(|subscriber| subscriber.channel.connection > after).collect();
        later.sort_by_key(|subscriber| {
            (subscriber.channel.connection, subscriber.channel.id, subscriber.binding)
        });
        if let Some(next) = later.get(n_max).map(|next| next.channel.connection)
            && later.first().is_some_and(|first| first.channel.connection != next)
        {
            later.retain(|subscriber| subscriber.channel.connection < next);
        }
        let description = |subscriber: &Arc<Subscriber>| {
            let guard = catalogue.tables.get(&subscriber.guard);
            SubscriptionDescription {
                connection: subscriber.channel.connection,
                topic: subscriber.channel.topic.as_str().to_owned(),
                role: subscriber.channel.audience.role.as_str().to_owned(),
                table: guard.map_or_else(
                    || subscriber.guard.0.to_string(),
                    |known| format!("{}.{}", known.table.schema, known.table.name),
                ),
                filter: guard
                    .filter(|_| !subscriber.filter.is_empty())
                    .map(|known| subscriber.filter_sql(&known.table).to_string()),
            }
        };
        later.into_iter().take(n_max).map(description).collect()
    }

    /// How many subscriptions there are, one per binding and table.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether nobody subscribed; a channel whose tables are all gone still has.
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Whether a publication of the user has the table.
    pub(super) fn has_table(&self, table: TableId) -> bool {
        self.published.iter().any(|published| published.0 == table)
    }

    /// The channels that have any.
    pub(super) fn channels(&self) -> impl Iterator<Item = &Arc<ChannelHandle>> {
        self.channels.values().map(|entry| &entry.channel)
    }

    /// The subscriber behind an id the index gave.
    pub(super) fn find(&self, id: SubscriptionId) -> Option<&Arc<Subscriber>> {
        self.subscribers.get(usize::try_from(id.0).ok()?)?.as_ref()
    }

    /// Makes a channel's bindings live, in place of those it had, covering what `catalogue` has.
    pub(super) fn subscribe(
        &mut self,
        channel: &Arc<ChannelHandle>,
        bindings: Vec<PreparedBinding>,
        catalogue: &Catalogue,
    ) {
        self.unsubscribe(channel.connection, channel.id);
        let audience = self.audiences.enter(channel.audience.clone());
        let mut entry = Entry {
            channel: Arc::clone(channel),
            audience,
            bindings: Vec::new(),
            subscriptions: Vec::new(),
        };
        for binding in bindings {
            for (coverage, filter) in &binding.coverage {
                self.insert(catalogue, &mut entry, &binding, coverage, filter);
            }
            entry.bindings.push(binding);
        }
        self.follow_entry(catalogue, &mut entry);
        self.channels.insert((channel.connection, channel.id), entry);
    }

    /// Forgets a channel.
    pub(super) fn unsubscribe(&mut self, connection: ConnectionId, channel: ChannelId) {
        let Some(entry) = self.channels.remove(&(connection, channel)) else { return };
        for id in entry.subscriptions {
            self.remove(id);
        }
        self.audiences.leave(entry.audience);
    }

    /// Follows a catalogue before rows are judged by it: bindings cover tables that joined the
    /// publication and forget tables that no longer exist; subscribers whose row rule changed are
    /// indexed anew.
    pub(super) fn follow(&mut self, catalogue: &Catalogue) {
        self.follow_rules(catalogue);
        self.follow_publication(catalogue);
    }

    fn follow_rules(&mut self, catalogue: &Catalogue) {
        let mut changed = HashSet::new();
        self.rules.retain(|key, rule| {
            let Some(guard) = catalogue.tables.get(&key.0) else { return false };
            let newer = catalogue.rule(&key.1, guard);
            if *rule != newer {
                changed.insert(key.clone());
                *rule = newer;
            }
            true
        });
        if changed.is_empty() {
            return;
        }
        let subscribers = (0..).zip(&self.subscribers);
        let concerned: Vec<(SubscriptionId, Arc<Subscriber>)> = subscribers
            .filter_map(|(id, subscriber)| Some((SubscriptionId(id), subscriber.clone()?)))
            .filter(|(_, subscriber)| changed.contains(&subscriber.rule_key()))
            .collect();
        for (id, subscriber) in concerned {
            let visible = self.visible(catalogue, &subscriber);
            self.index.insert(id, subscriber.table, subscriber.interest(visible));
        }
    }

    /// What the rule in force lets a subscriber see at most.
    fn visible(&mut self, catalogue: &Catalogue, subscriber: &Subscriber) -> Visible {
        let Some(guard) = catalogue.tables.get(&subscriber.guard) else { return Visible::Perhaps };
        let audience = &subscriber.channel.audience;
        let rule = self
            .rules
            .entry(subscriber.rule_key())
            .or_insert_with(|| catalogue.rule(&audience.role, guard));
        match rule.necessary(audience) {
            Necessary::Unknown => Visible::Perhaps,
            Necessary::Never => Visible::Never,
            Necessary::Equal(condition) => {
                let columns = ColumnSet::all(guard.table.columns.len());
                Filter::check(&[condition], &guard.table, &columns)
                    .map_or(Visible::Perhaps, |filter| Visible::Where(Arc::new(filter)))
            }
        }
    }

    fn follow_publication(&mut self, catalogue: &Catalogue) {
        let published: BTreeSet<Published> = catalogue
            .tables
            .values()
            .filter(|known| known.is_published)
            .map(|known| {
                let table = &known.table;
                (table.id, table.schema.clone(), table.name.clone(), known.ancestors.clone())
            })
            .collect();
        if published == self.published {
            return;
        }
        self.published = published;
        let keys: Vec<_> = self.channels.keys().copied().collect();
        for key in keys {
            let Some(mut entry) = self.channels.remove(&key) else { continue };
            self.follow_entry(catalogue, &mut entry);
            self.channels.insert(key, entry);
        }
    }

    fn follow_entry(&mut self, catalogue: &Catalogue, entry: &mut Entry) {
        entry.subscriptions.retain(|id| {
            let stays = self
                .find(*id)
                .is_some_and(|subscriber| may_guard(catalogue, subscriber.guard, subscriber.table));
            if !stays {
                self.remove(*id);
            }
            stays
        });
        let mut bindings = std::mem::take(&mut entry.bindings);
        for binding in &mut bindings {
            binding
                .coverage
                .retain(|(old, _)| may_guard(catalogue, old.guard.table.id, old.target));
            let covered = catalogue.covered_by(binding.schema.as_deref(), binding.table.as_deref());
            for coverage in covered {
                if binding.coverage.iter().any(|(old, _)| old.target == coverage.target) {
                    continue;
                }
                let role = &entry.channel.audience.role;
                let Some(filter) = checked(catalogue, role, binding, &coverage) else { continue };
                self.insert(catalogue, entry, binding, &coverage, &filter);
                binding.coverage.push((coverage, filter));
            }
        }
        entry.bindings = bindings;
    }

    fn insert(
        &mut self,
        catalogue: &Catalogue,
        entry: &mut Entry,
        binding: &PreparedBinding,
        coverage: &Coverage,
        filter: &Arc<Filter>,
    ) {
        let subscriber = Subscriber {
            channel: Arc::clone(&entry.channel),
            audience: entry.audience,
            binding: binding.id,
            guard: coverage.guard.table.id,
            select: binding.select.clone(),
            table: coverage.target,
            events: binding.events,
            filter: Arc::clone(filter),
            filter_sql: OnceLock::new(),
        };
        let visible = self.visible(catalogue, &subscriber);
        let interest = subscriber.interest(visible);
        let id = self.free.pop().unwrap_or_else(|| {
            self.subscribers.push(None);
            SubscriptionId(self.subscribers.len() as u64 - 1)
        });
        if let Some(slot) =
            usize::try_from(id.0).ok().and_then(|position| self.subscribers.get_mut(position))
        {
            *slot = Some(Arc::new(subscriber));
        }
        self.index.insert(id, coverage.target, interest);
        entry.subscriptions.push(id);
    }

    fn remove(&mut self, id: SubscriptionId) {
        self.index.remove(id);
        if let Some(slot) =
            usize::try_from(id.0).ok().and_then(|position| self.subscribers.get_mut(position))
        {
            *slot = None;
            self.free.push(id);
        }
    }
}

/// Whether `guard`'s rules still decide about `target`: it is the table itself or one above it. A
/// renamed table is followed; a partition that was detached is a table of its own.
fn may_guard(catalogue: &Catalogue, guard: TableId, target: TableId) -> bool {
    catalogue
        .tables
        .get(&target)
        .is_some_and(|known| guard == target || known.ancestors.contains(&guard))
}

/// The binding's filter checked against a table that joined later; `None` when it does not fit.
fn checked(
    catalogue: &Catalogue,
    role: &Role,
    binding: &PreparedBinding,
    coverage: &Coverage,
) -> Option<Arc<Filter>> {
    let table = &coverage.guard.table;
    let selectable = catalogue.selectable(role, table, table);
    Filter::check(&binding.conditions, table, &selectable).ok().map(Arc::new)
}

#[cfg(test)]
pub(super) mod tests {
    use walcast_filters::claims::Claims;

    use super::*;
    use crate::outbox::{OutboxLimits, queue};

    /// A subscriber on a connection of that number.
    pub(in crate::router) fn subscriber(connection: u64) -> Subscriber {
        let channel = ChannelHandle {
            connection: ConnectionId(connection),
            id: ChannelId(1),
            topic: Topic::new("realtime:test"),
            version: Version::V2,
            is_legacy: false,
            audience: Audience { role: Role::new("anon"), claims: Claims::new("{}") },
            outbox: queue(OutboxLimits { frames: 1, bytes: 1 }).0,
        };
        Subscriber {
            channel: Arc::new(channel),
            audience: Audiences::default()
                .enter(Audience { role: Role::new("anon"), claims: Claims::new("{}") }),
            binding: 1,
            guard: TableId(1),
            select: None,
            filter: Arc::new(Filter::default()),
            table: TableId(1),
            events: EventSelection::All,
            filter_sql: OnceLock::new(),
        }
    }
}
