//! Which subscriptions a row event concerns, at a cost that follows the matches.
//!
//! Subscriptions with equal filters and events form a group, which is decided once. A group that asks
//! a column to be equal to a value, or to one of several, is found by that value; the rest of its
//! filter is decided when it is found. The other groups of the table are decided one by one.
//!
//! Where row security lets a subscriber see only rows with a certain value (`user_id = auth.uid()`),
//! its group is found by that value, too: one look-up finds the one user in 100,000.

mod list;
mod postings;
mod table;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use walcast_change::{EventKind, RowChange, RowEvent, Table, TableId};

use crate::Filter;
use table::{Candidate, Place, TableIndex};

/// A subscription, as its owner numbers it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SubscriptionId(pub u64);

/// The events a subscription wants.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EventSelection {
    /// INSERT, UPDATE and DELETE.
    All,
    /// One kind.
    Only(EventKind),
}

impl EventSelection {
    /// Whether an event of that kind is wanted; TRUNCATE never is.
    #[must_use]
    pub fn includes(self, kind: EventKind) -> bool {
        kind != EventKind::Truncate && (self == Self::All || self == Self::Only(kind))
    }
}

/// What a subscription wants, and what its subscriber may see at most.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Interest {
    /// Which changes.
    pub events: EventSelection,
    /// Of which rows; must have been checked against the table.
    pub filter: Arc<Filter>,
    /// The rows that row security may show to the subscriber.
    pub visible: Visible,
}

/// Which rows row security may show to a subscriber: a bound, not a verdict.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Visible {
    /// Any, as far as can be told without looking at the row.
    Perhaps,
    /// Only rows that meet this.
    Where(Arc<Filter>),
    /// None.
    Never,
}

/// Whether an event is looked up among the rows that subscribers may see.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Only those who may see the row are wanted.
    Visible,
    /// Everyone is: nobody can tell whether they may see the row.
    Everyone,
}

/// Who a row event concerns.
#[derive(Debug, Default)]
pub struct Matches {
    /// Their filters match.
    pub certain: Vec<SubscriptionId>,
    /// PostgreSQL must be asked about their filters.
    pub undecided: Vec<SubscriptionId>,
}

impl Matches {
    /// Forgets what was found, and keeps the memory.
    pub fn clear(&mut self) {
        self.certain.clear();
        self.undecided.clear();
    }
}

/// All subscriptions by table and filter.
#[derive(Debug, Default)]
pub struct MatchIndex {
    tables: HashMap<TableId, TableIndex>,
    subscriptions: HashMap<SubscriptionId, (TableId, Place)>,
}

impl MatchIndex {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// Adds a subscription; one with the same id is replaced.
    pub fn insert(&mut self, id: SubscriptionId, table: TableId, interest: Interest) {
        self.remove(id);
        let place = self.tables.entry(table).or_default().insert(id, interest);
        self.subscriptions.insert(id, (table, place));
    }

    /// Removes a subscription; false when there is none of that id.
    pub fn remove(&mut self, id: SubscriptionId) -> bool {
        let Some((table, place)) = self.subscriptions.remove(&id) else { return false };
        let Entry::Occupied(mut index) = self.tables.entry(table) else { return true };
        if let Some(moved) = index.get_mut().remove(place)
            && let Some((_, moved_place)) = self.subscriptions.get_mut(&moved)
        {
            // The group's last member took the place that became free.
            *moved_place = place;
        }
        if index.get().is_empty() {
            index.remove();
        }
        true
    }

    /// Finds the subscriptions that an event concerns; `out` is cleared before.
    ///
    /// The table is aligned with the event's relation. INSERT and UPDATE are judged by the new row,
    /// DELETE by the old image; TRUNCATE concerns nobody. Within [`Scope::Visible`] those may be left
    /// out to whom row security shows no such row.
    pub fn matches(&self, table: &Table, event: &RowEvent, scope: Scope, out: &mut Matches) {
        out.clear();
        let Some(index) = self.tables.get(&event.relation.id) else { return };
        let row = match &event.change {
            RowChange::Insert { new } | RowChange::Update { new, .. } => new,
            RowChange::Delete { old } => old.row(),
            RowChange::Truncate => return,
        };
        let candidate = Candidate { table, row, kind: event.kind(), scope };
        index.matches(&candidate, out);
    }

    /// Every subscription of the table to events of that kind, whatever its filter; `out` is cleared
    /// before.
    pub fn all_of(&self, table: TableId, kind: EventKind, out: &mut Vec<SubscriptionId>) {
        out.clear();
        if let Some(index) = self.tables.get(&table) {
            index.all_of(kind, out);
        }
    }
}
