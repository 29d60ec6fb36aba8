//! The task that owns the subscriptions: row events in, deliveries out.
//!
//! ```text
//! batch of row events
//!   │  announced     split where definitions change
//!   │  catalogue     the one of this place: in force, or read again
//!   │  plan          MatchIndex → candidates; per audience Allow | Deny | a question
//!   │  authz         all questions of the batch at once
//!   │  waiting       what is behind a question, per connection
//!   │  deliver       in commit order: encode once, one message per channel and select list
//!   ▼
//! outboxes           never waits; a full one closes its connection
//! ```
//!
//! A row that waits for PostgreSQL's verdict is not overtaken on its connection; the others go on.
//! When too much waits, the WAL reader waits, too. It never waits for a client.

mod announced;
mod answers;
mod deliver;
mod gathering;
mod in_force;
mod layout;
mod plan;
mod questions;
mod subscriptions;
mod waiting;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use walcast_change::{Lsn, Relation};
use walcast_channels::{ChannelId, Input};
use walcast_replicator::{Continuity, StreamItem};

pub use self::subscriptions::{
    ChannelHandle, ConnectionId, PreparedBinding, SubscriptionDescription,
};
use self::{
    announced::{Announced, announcements},
    answers::Answers,
    deliver::Deliverer,
    in_force::InForce,
    layout::Layouts,
    plan::{Plan, Planner},
    questions::Questions,
    subscriptions::Subscriptions,
    waiting::{Due, Waiting},
};
use crate::{
    authz::Authorizer,
    catalogue::{Catalogue, keeper::CatalogueKeeper, reading::Reading},
    config::DeletesUnverifiable,
    messages::Messages,
    outbox::{Delivery, Sent},
    telemetry::Metrics,
};

/// Commands that may wait; whoever subscribes waits for room.
const COMMANDS_MAX: usize = 1_024;

/// Batches that may wait; the source waits for room.
const FEEDS_MAX: usize = 2;

/// Announced changes that are remembered while nobody is subscribed; past it the catalogue is read
/// anew for whoever comes.
const PASSED_MAX: usize = 1_000;

/// Between attempts to read the catalogue while PostgreSQL cannot be reached.
const CATALOGUE_PAUSE: Duration = Duration::from_millis(250);

/// What the source tells the router.
#[derive(Debug)]
pub enum Feed {
    /// What the stream said, in its order.
    Items(Vec<StreamItem>),
    /// A stream started; changes before it may have been missed.
    Started(Continuity),
}

/// What connections ask of the router.
#[derive(Debug)]
pub enum Command {
    /// Makes the subscriptions of a channel live, replacing those it had; answered through the
    /// channel's outbox with [`Input::Subscribed`].
    Subscribe {
        /// The channel.
        channel: Arc<ChannelHandle>,
        /// Which attempt of the session this is.
        attempt: u32,
        /// What it wants.
        bindings: Vec<PreparedBinding>,
    },
    /// Describes subscriptions.
    Describe {
        /// Those of connections with higher numbers.
        after: ConnectionId,
        /// At most so many.
        n_max: usize,
        /// Where the answer goes.
        answer: oneshot::Sender<Vec<SubscriptionDescription>>,
    },
    /// Forgets a channel's subscriptions.
    Unsubscribe {
        /// The connection.
        connection: ConnectionId,
        /// The channel.
        channel: ChannelId,
    },
}

/// What the router is made from.
#[derive(Debug)]
pub struct RouterParts {
    /// Gives catalogue snapshots.
    pub catalogue: Arc<CatalogueKeeper>,
    /// Asks PostgreSQL.
    pub authorizer: Arc<Authorizer>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What becomes of deletes that cannot be authorised.
    pub deletes_unverifiable: DeletesUnverifiable,
    /// The size from which on a change is delivered without its long values, in bytes.
    pub max_record_bytes: usize,
    /// Takes the rows that are messages to channels.
    pub messages: Messages,
}

/// The ends that others hold.
#[derive(Clone, Debug)]
pub struct RouterHandle {
    /// For connections.
    pub commands: mpsc::Sender<Command>,
    /// For the source.
    pub feeds: mpsc::Sender<Feed>,
    /// Up to where everything was delivered: the end of a commit.
    pub delivered: watch::Receiver<Lsn>,
}

/// The router.
#[derive(Debug)]
pub struct Router {
    parts: RouterParts,
    commands: mpsc::Receiver<Command>,
    feeds: mpsc::Receiver<Feed>,
    delivered: watch::Sender<Lsn>,
    subscriptions: Subscriptions,
    layouts: Layouts,
    waiting: Waiting,
    /// The catalogue that judges rows; `None` until one is needed.
    in_force: Option<InForce>,
    /// The generation that the subscriptions follow.
    generation: u64,
    /// Whether tables were described since the catalogue was read.
    is_redescribed: bool,
    /// The start of a transaction that may still announce a change of definitions.
    held: Vec<StreamItem>,
    /// Transactions that announced changes while nobody was subscribed, unless a reading has them.
    passed: Vec<u32>,
}

impl Router {
    /// A router without subscriptions.
    #[must_use]
    pub fn new(parts: RouterParts) -> (Self, RouterHandle) {
        let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (feed_sender, feeds) = mpsc::channel(FEEDS_MAX);
        let (delivered, delivered_receiver) = watch::channel(Lsn::ZERO);
        let router = Self {
            parts,
            commands,
            feeds,
            delivered,
            subscriptions: Subscriptions::default(),
            layouts: Layouts::default(),
            waiting: Waiting::default(),
            in_force: None,
            generation: 0,
            is_redescribed: false,
            held: Vec::new(),
            passed: Vec::new(),
        };
        let handle = RouterHandle {
            commands: command_sender,
            feeds: feed_sender,
            delivered: delivered_receiver,
        };
        (router, handle)
    }

    /// Runs until the source is gone or `shutdown` is cancelled.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut commands = Vec::new();
        loop {
            tokio::select! {
                // Commands first: a subscription that waits is live before the rows behind it.
                biased;
                () = shutdown.cancelled() => return,
                n_commands = self.commands.recv_many(&mut commands, COMMANDS_MAX) => {
                    if n_commands == 0 {
                        return;
                    }
                    for command in commands.drain(..) {
                        self.obey(command);
                    }
                }
                () = self.waiting.answered() => self.deliver_due(),
                feed = self.feeds.recv() => match feed {
                    Some(Feed::Items(items)) => {
                        tokio::select! {
                            () = self.route(items) => {}
                            () = shutdown.cancelled() => return,
                        }
                    }
                    Some(Feed::Started(continuity)) => {
                        tokio::select! {
                            () = self.start(&continuity) => {}
                            () = shutdown.cancelled() => return,
                        }
                    }
                    None => return,
                },
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Subscribe { channel, attempt, bindings } => {
                // The bindings were checked against a snapshot that may be older than the newest.
                let catalogue = self.parts.catalogue.current();
                self.subscriptions.subscribe(&channel, bindings, &catalogue);
                self.put_newest_in_force();
                let result = Ok(());
                let answer = Input::Subscribed { channel: channel.id, attempt, result };
                self.count_sent(channel.outbox.send(Delivery::Answer(Box::new(answer))));
            }
            Command::Describe { after, n_max, answer } => {
                let catalogue = self.parts.catalogue.current();
                // Whoever asked may have stopped waiting.
                drop(answer.send(self.subscriptions.describe(&catalogue, after, n_max)));
            }
            Command::Unsubscribe { connection, channel } => {
                self.subscriptions.unsubscribe(connection, channel);
            }
        }
        let n_subscriptions = u32::try_from(self.subscriptions.len()).unwrap_or(u32::MAX);
        self.parts.metrics.subscriptions.set(n_subscriptions);
    }

    /// A stream that does not go on where the last one ended may have missed announcements, and the
    /// rest of a transaction.
    async fn start(&mut self, continuity: &Continuity) {
        if !matches!(continuity, Continuity::Unbroken) {
            let held = std::mem::take(&mut self.held);
            self.judge(held).await;
            self.in_force = None;
        }
        self.announce(continuity);
    }

    /// After a break in continuity every channel is told anew that it is subscribed, as the
    /// reference does after its own gaps: what was committed in between may be missing.
    fn announce(&mut self, continuity: &Continuity) {
        if !matches!(continuity, Continuity::Broken(_)) {
            return;
        }
        for channel in self.subscriptions.channels() {
            let lost = Input::SubscriptionLost { channel: channel.id };
            self.count_sent(channel.outbox.send(Delivery::Answer(Box::new(lost))));
        }
    }

    /// Delivers items in their order, each transaction judged by the catalogue of its place.
    async fn route(&mut self, mut items: Vec<StreamItem>) {
        self.broadcast(&mut items);
        self.parts.messages.flush().await;
        let mut items = if self.held.is_empty() {
            items
        } else {
            self.held.extend(items);
            std::mem::take(&mut self.held)
        };
        let in_force = match &self.in_force {
            Some(in_force) if !self.subscriptions.is_empty() => in_force,
            Some(_) | None => {
                self.pass(&mut items);
                return self.judge(items).await;
            }
        };
        if !in_force.is_announced() {
            return self.judge(items).await;
        }
        let found = announcements(&items, |transaction_id| in_force.has(transaction_id));
        if let Some(start) = found.held {
            self.held = items.split_off(start);
        }
        if found.announced.is_empty() {
            return self.judge(items).await;
        }
        let mut items = items.into_iter();
        let mut n_taken = 0;
        let mut before = Vec::new();
        for Announced { start, transaction_id } in found.announced {
            before.extend(items.by_ref().take(start - n_taken));
            n_taken = start;
            if self.in_force.as_ref().is_some_and(|in_force| in_force.has(transaction_id)) {
                continue;
            }
            self.judge(std::mem::take(&mut before)).await;
            self.follow_change(transaction_id).await;
        }
        before.extend(items);
        self.judge(before).await;
    }

    /// Passes on what SQL says to channels: it waits for nothing, and nothing is subscribed to it
    /// unless a publication of the user has the table, too.
    fn broadcast(&mut self, items: &mut Vec<StreamItem>) {
        let (messages, subscriptions) = (&mut self.parts.messages, &self.subscriptions);
        items.retain(|item| match item {
            StreamItem::Row(event) => {
                !messages.take(event) || subscriptions.has_table(event.relation.id)
            }
            StreamItem::Relation(_)
            | StreamItem::Commit { .. }
            | StreamItem::Message(_)
            | StreamItem::Keepalive { .. } => true,
        });
    }

    /// Notes announced changes while no catalogue is in force, or nobody needs one: the next that is
    /// in force must have them.
    fn pass(&mut self, items: &mut Vec<StreamItem>) {
        let has_messages = items.iter().any(|item| matches!(item, StreamItem::Message(_)));
        if !has_messages {
            return;
        }
        let found = announcements(items, |_| false);
        if let Some(start) = found.held {
            self.held = items.split_off(start);
        }
        if !found.announced.is_empty() {
            self.in_force = None;
        }
        let newest = self.parts.catalogue.newest();
        self.passed.retain(|transaction_id| !newest.place.snapshot.sees(*transaction_id));
        let room = PASSED_MAX.saturating_sub(self.passed.len());
        self.passed.extend(found.announced.iter().map(|change| change.transaction_id).take(room));
    }

    /// Whoever subscribes was checked against the newest reading. It counts from here on, unless the
    /// stream has passed changes that it does not have.
    fn put_newest_in_force(&mut self) {
        let newest = self.parts.catalogue.newest();
        let has = |transaction_id: &u32| newest.place.snapshot.sees(*transaction_id);
        if self.in_force.is_none() && self.passed.len() < PASSED_MAX && self.passed.iter().all(has)
        {
            self.in_force = Some(InForce::new(&newest));
            self.passed.clear();
        }
    }

    /// Judges items by one catalogue and delivers them.
    async fn judge(&mut self, items: Vec<StreamItem>) {
        let end = items.iter().rev().find_map(|item| match item {
            StreamItem::Commit { end, .. } => Some(*end),
            StreamItem::Relation(_)
            | StreamItem::Row(_)
            | StreamItem::Message(_)
            | StreamItem::Keepalive { .. } => None,
        });
        let transactions = transactions(&items);
        let catalogue = self.catalogue_for(&items, &transactions).await;
        self.follow(&catalogue);
        let mut planner = Planner::new(
            &self.subscriptions,
            &mut self.layouts,
            &catalogue,
            self.parts.deletes_unverifiable,
        );
        for item in items {
            match item {
                StreamItem::Row(event) => {
                    self.parts.metrics.events_in.increment(1);
                    planner.plan(event);
                }
                StreamItem::Commit { .. } => self.parts.metrics.transactions_in.increment(1),
                StreamItem::Relation(_) | StreamItem::Message(_) | StreamItem::Keepalive { .. } => {
                }
            }
        }
        let (plans, questions) = planner.finish();
        self.dispatch(plans, questions, transactions, end).await;
    }

    /// Delivers what is decided, and lets the rest wait for PostgreSQL's answers.
    async fn dispatch(
        &mut self,
        plans: Vec<Plan>,
        questions: Questions,
        transactions: Vec<u32>,
        end: Option<Lsn>,
    ) {
        if questions.is_empty() && self.waiting.is_empty() {
            self.deliver(&[Due { plans, answers: Answers::default() }], end);
            return;
        }
        let authorizer = Arc::clone(&self.parts.authorizer);
        let visible = {
            let authorizer = Arc::clone(&authorizer);
            async move { authorizer.wait_until_visible(&transactions).await }.boxed().shared()
        };
        let (groups, answers) = questions.groups();
        let asked = groups.into_iter().map(|group| {
            let (authorizer, metrics) = (Arc::clone(&authorizer), Arc::clone(&self.parts.metrics));
            let visible = visible.clone();
            let numbers = group.numbers().to_vec();
            let ask = async move {
                visible.await;
                group.ask(&authorizer, &metrics).await
            };
            (numbers, ask)
        });
        let plans = self.waiting.add(plans, asked.collect(), answers, end);
        self.deliver(&[Due { plans, answers: Answers::default() }], None);
        while self.waiting.is_full() {
            self.waiting.answered().await;
            self.deliver_due();
        }
    }

    /// Delivers what waited for answers that are there now.
    fn deliver_due(&mut self) {
        let (due, end) = self.waiting.take_due();
        self.deliver(&due, end);
    }

    /// Delivers in order; `end` is up to where everything is delivered then.
    fn deliver(&mut self, due: &[Due], end: Option<Lsn>) {
        let mut deliverer =
            Deliverer::new(&self.layouts, &self.parts.metrics, self.parts.max_record_bytes);
        for Due { plans, answers } in due {
            for plan in plans {
                deliverer.deliver(plan, answers);
            }
        }
        deliverer.finish();
        self.layouts.forget_replaced(|layout| self.waiting.uses(layout));
        if let Some(end) = end {
            self.delivered.send_replace(end);
        }
    }

    /// The catalogue that judges these items; waits while PostgreSQL cannot be reached, since nothing
    /// may be judged by what might no longer hold.
    async fn catalogue_for(
        &mut self,
        items: &[StreamItem],
        transactions: &[u32],
    ) -> Arc<Catalogue> {
        let mut next: Option<Lsn> = None;
        let mut last: Option<&Arc<Relation>> = None;
        for item in items {
            // PostgreSQL describes a table again after each change of its definition, policies and
            // privileges, also when the description is the same.
            self.is_redescribed |= matches!(item, StreamItem::Relation(_));
            let StreamItem::Row(event) = item else { continue };
            next = next.or(Some(event.commit.lsn));
            if last.is_none_or(|last| !Arc::ptr_eq(last, &event.relation)) {
                self.is_redescribed |= !self.layouts.knows(&event.relation);
                last = Some(&event.relation);
            }
        }
        let Some(next) = next.filter(|_| !self.subscriptions.is_empty()) else {
            // Nothing is judged, so nothing newer may be followed.
            let in_force = self.in_force.as_ref().map(|in_force| Arc::clone(in_force.catalogue()));
            return in_force.unwrap_or_else(|| self.parts.catalogue.current());
        };
        let is_announced = self.in_force.as_ref().is_some_and(InForce::is_announced);
        let reading = if self.in_force.is_none() || (self.is_redescribed && !is_announced) {
            let passed = std::mem::take(&mut self.passed);
            let transactions = [transactions, &passed].concat();
            self.parts.authorizer.wait_until_visible(&transactions).await;
            self.refreshed().await
        } else {
            if self.is_redescribed {
                // What was announced counts already. This is for what the triggers could not see.
                self.parts.catalogue.read_in_background();
            }
            self.fresh().await
        };
        self.is_redescribed = false;
        let in_force = self.in_force.get_or_insert_with(|| InForce::new(&reading));
        in_force.look_at(&reading, next, || self.parts.catalogue.next_generation());
        Arc::clone(in_force.catalogue())
    }

    /// At the place of a transaction that announces a change of definitions: puts a catalogue in
    /// force that has it.
    async fn follow_change(&mut self, transaction_id: u32) {
        let newest = self.parts.catalogue.newest();
        if self.take_with(&newest, transaction_id) {
            return;
        }
        self.parts.authorizer.wait_until_visible(&[transaction_id]).await;
        let newest = self.refreshed().await;
        if !self.take_with(&newest, transaction_id) {
            // A commit that stayed invisible: what is known is the best there is.
            self.in_force = Some(InForce::new(&newest));
        }
        let catalogue = self.in_force.as_ref().map(|in_force| Arc::clone(in_force.catalogue()));
        if let Some(catalogue) = catalogue {
            self.follow(&catalogue);
        }
    }

    fn take_with(&mut self, newest: &Arc<Reading>, transaction_id: u32) -> bool {
        let in_force = self.in_force.get_or_insert_with(|| InForce::new(newest));
        in_force.take_with(newest, transaction_id, || self.parts.catalogue.next_generation())
    }

    /// Lets the bindings cover what a catalogue has.
    fn follow(&mut self, catalogue: &Catalogue) {
        if catalogue.generation != self.generation {
            self.generation = catalogue.generation;
            self.subscriptions.follow(catalogue);
        }
    }

    async fn fresh(&self) -> Arc<Reading> {
        loop {
            match self.parts.catalogue.fresh().await {
                Ok(reading) => return reading,
                Err(error) => wait_for_catalogue(&error).await,
            }
        }
    }

    async fn refreshed(&self) -> Arc<Reading> {
        loop {
            match self.parts.catalogue.refreshed().await {
                Ok(reading) => return reading,
                Err(error) => wait_for_catalogue(&error).await,
            }
        }
    }

    fn count_sent(&self, sent: Sent) {
        if sent == Sent::Overflowed {
            self.parts.metrics.queue_overflows.increment(1);
        }
    }
}

async fn wait_for_catalogue(error: &anyhow::Error) {
    tracing::warn!("failed to read the catalogue, will try again: {error:#}");
    tokio::time::sleep(CATALOGUE_PAUSE).await;
}

/// The transactions that rows belong to, each once.
fn transactions(items: &[StreamItem]) -> Vec<u32> {
    let mut transactions: Vec<u32> = items
        .iter()
        .filter_map(|item| match item {
            StreamItem::Row(event) => Some(event.commit.transaction_id),
            StreamItem::Relation(_)
            | StreamItem::Commit { .. }
            | StreamItem::Message(_)
            | StreamItem::Keepalive { .. } => None,
        })
        .collect();
    transactions.dedup();
    transactions
}
