//! The task that owns who is present on this server's topics.
//!
//! ```text
//! driver ──► Visitor ──► commands ──► Presence of the topic ──► state ──► outbox of who asked
//!               └─ dropped: gone ─┘            └─ every 50 ms at most: one diff ──► Topics
//! ```
//!
//! The task sleeps while nothing changes. A connection that ends, in whatever way, drops its
//! [`Visitor`], and everything it tracked leaves; so nobody stays as a ghost.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use walcast_channels::{
    ChannelId, Input, TokenBucket,
    presence::{MemberId, Presence, ReplicaId},
};
use walcast_protocol::{RawJson, Reference, ServerMessage, presence::Tracked};

use crate::{
    outbox::{Delivery, Outbox, Sent},
    router::ConnectionId,
    telemetry::Metrics,
    topics::{TopicName, Topics},
};

/// Changes of a topic that come within this time are told as one. Nobody sees a delay as short, and
/// ten thousand clients that come back within a second cause 20 diffs for each of them, not 10,000.
const DIFF_INTERVAL: Duration = Duration::from_millis(50);

/// Commands that may wait; then connections wait with theirs.
const COMMANDS_MAX: usize = 4_096;

/// The event that tells who came and who went.
const PRESENCE_DIFF: &str = "presence_diff";

/// Something a channel wants.
#[derive(Debug)]
pub struct Command {
    /// The channel.
    pub channel: ChannelId,
    /// Its topic.
    pub name: TopicName,
    /// What it wants.
    pub call: Call,
}

/// What a channel wants.
#[derive(Debug)]
pub enum Call {
    /// To appear.
    Track {
        /// Under which key; without one, under one of its own.
        key: Option<Arc<str>>,
        /// What it says about itself.
        tracked: Tracked,
        /// Where a refusal goes.
        outbox: Outbox,
    },
    /// To appear no longer.
    Untrack,
    /// To know who appears.
    Show {
        /// Where the answer goes.
        outbox: Outbox,
    },
}

/// Gives access to the task.
#[derive(Clone, Debug)]
pub struct PresenceHandle {
    commands: mpsc::Sender<(ConnectionId, Command)>,
    gone: Arc<Gone>,
}

/// The connections that ended; each at most once, so that there are never more than connections.
#[derive(Debug, Default)]
struct Gone {
    connections: Mutex<Vec<ConnectionId>>,
    notify: Notify,
}

/// A connection, as the task knows it. What it tracked leaves when this is dropped.
#[derive(Debug)]
pub struct Visitor {
    connection: ConnectionId,
    handle: PresenceHandle,
    waiting: VecDeque<Command>,
    has_tracked: bool,
}

impl PresenceHandle {
    /// A connection that may track.
    #[must_use]
    pub fn visitor(&self, connection: ConnectionId) -> Visitor {
        Visitor { connection, handle: self.clone(), waiting: VecDeque::new(), has_tracked: false }
    }
}

impl Visitor {
    /// Queues a command here; [`Self::forward`] hands it to the task.
    pub fn push(&mut self, command: Command) {
        self.waiting.push_back(command);
    }

    /// How many commands wait here.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Hands the first command to the task, once it has room; `false` when the task has ended.
    /// Cancel-safe.
    pub async fn forward(&mut self) -> bool {
        let Ok(permit) = self.handle.commands.reserve().await else { return false };
        if let Some(command) = self.waiting.pop_front() {
            self.has_tracked |= matches!(command.call, Call::Track { .. });
            permit.send((self.connection, command));
        }
        true
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        if self.has_tracked {
            let gone = &self.handle.gone;
            gone.connections.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
            gone.notify.notify_one();
        }
    }
}

/// The task.
#[derive(Debug)]
pub struct PresenceTask {
    commands: mpsc::Receiver<(ConnectionId, Command)>,
    gone: Arc<Gone>,
    registry: Arc<Topics>,
    metrics: Arc<Metrics>,
    node: u32,
    /// How many lives topics had; it names the next one.
    lives: u32,
    topics: HashMap<TopicName, Presence>,
    /// Where the channels of each connection appear.
    tracked: HashMap<ConnectionId, BTreeMap<ChannelId, TopicName>>,
    /// The topics that have something to tell.
    changed: HashSet<TopicName>,
    /// When it is told.
    flush_at: Option<Instant>,
    calls: TokenBucket,
    started: Instant,
}

impl PresenceTask {
    /// A server on which nobody is present. `node` tells it from others and from itself before its
    /// last start; `calls` bounds the calls of all clients.
    #[must_use]
    pub fn new(
        node: u32,
        calls: TokenBucket,
        registry: Arc<Topics>,
        metrics: Arc<Metrics>,
    ) -> (Self, PresenceHandle) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let gone = Arc::new(Gone::default());
        let handle = PresenceHandle { commands: sender, gone: Arc::clone(&gone) };
        let task = Self {
            commands,
            gone,
            registry,
            metrics,
            node,
            lives: 0,
            topics: HashMap::new(),
            tracked: HashMap::new(),
            changed: HashSet::new(),
            flush_at: None,
            calls,
            started: Instant::now(),
        };
        (task, handle)
    }

    /// Runs until it is told to stop or nobody can reach it.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let gone = Arc::clone(&self.gone);
        loop {
            let flush_at = self.flush_at;
            let flush = async {
                match flush_at {
                    Some(instant) => tokio::time::sleep_until(instant).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                // Before the commands, so that these cannot hold it back.
                () = flush => self.flush(),
                () = gone.notify.notified() => self.take_gone(),
                command = self.commands.recv() => match command {
                    Some((connection, command)) => self.perform(connection, command),
                    None => return,
                },
            }
        }
    }

    /// Lets everything leave that connections which ended had tracked. What they said before they
    /// ended is in the queue, and comes first.
    fn take_gone(&mut self) {
        let gone = {
            let mut connections =
                self.gone.connections.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *connections)
        };
        for _ in 0..self.commands.len() {
            let Ok((connection, command)) = self.commands.try_recv() else { break };
            self.perform(connection, command);
        }
        for connection in gone {
            for (channel, name) in self.tracked.remove(&connection).unwrap_or_default() {
                self.leave(member(connection, channel), &name);
            }
        }
    }

    fn perform(&mut self, connection: ConnectionId, command: Command) {
        let Command { channel, name, call } = command;
        match call {
            Call::Show { outbox } => {
                let nobody = RawJson::empty_object();
                let state = self.topics.get_mut(&name).map_or(nobody, Presence::state);
                self.answer(&outbox, Input::PresenceState { channel, state });
            }
            Call::Track { key, tracked, outbox } => {
                if self.calls.take(self.started.elapsed()) {
                    self.track(connection, channel, name, key.as_deref(), tracked);
                } else {
                    self.metrics.presence_refusals.increment(1);
                    self.answer(&outbox, Input::PresenceRefused { channel });
                }
            }
            Call::Untrack => {
                if let Some(channels) = self.tracked.get_mut(&connection) {
                    channels.remove(&channel);
                    if channels.is_empty() {
                        self.tracked.remove(&connection);
                    }
                }
                self.leave(member(connection, channel), &name);
            }
        }
    }

    fn track(
        &mut self,
        connection: ConnectionId,
        channel: ChannelId,
        name: TopicName,
        key: Option<&str>,
        tracked: Tracked,
    ) {
        let (node, lives) = (self.node, &mut self.lives);
        let presence = self.topics.entry(name.clone()).or_insert_with(|| {
            *lives = lives.wrapping_add(1);
            Presence::new(ReplicaId { node, life: *lives })
        });
        let n_before = presence.n_members();
        if presence.track(member(connection, channel), key, tracked) {
            if presence.n_members() > n_before {
                self.metrics.presence_members.increment(1.0);
            }
            self.tracked.entry(connection).or_default().insert(channel, name.clone());
            self.note(name);
        }
    }

    fn leave(&mut self, member: MemberId, name: &TopicName) {
        if self.topics.get_mut(name).is_some_and(|presence| presence.untrack(member)) {
            self.metrics.presence_members.decrement(1.0);
            self.note(name.clone());
        }
    }

    fn note(&mut self, name: TopicName) {
        self.changed.insert(name);
        self.flush_at.get_or_insert_with(|| Instant::now() + DIFF_INTERVAL);
    }

    /// Tells the listeners of each topic what has changed there.
    fn flush(&mut self) {
        self.flush_at = None;
        for name in std::mem::take(&mut self.changed) {
            let Some(presence) = self.topics.get_mut(&name) else { continue };
            if let Some(payload) = presence.flush() {
                self.metrics.presence_diffs.increment(1);
                let message = ServerMessage::Push {
                    join_ref: Reference::Null,
                    topic: name.topic.clone(),
                    event: PRESENCE_DIFF.into(),
                    payload,
                };
                self.registry.publish_presence(&name, &message);
            }
            if presence.is_idle() {
                self.topics.remove(&name);
            }
        }
    }

    fn answer(&self, outbox: &Outbox, input: Input) {
        if outbox.send(Delivery::Answer(Box::new(input))) == Sent::Overflowed {
            self.metrics.queue_overflows.increment(1);
        }
    }
}

fn member(connection: ConnectionId, channel: ChannelId) -> MemberId {
    MemberId { connection: connection.0, channel }
}

#[cfg(test)]
mod tests;
