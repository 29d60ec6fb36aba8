//! Which channels of this server listen to which topic, and the one way to tell all of them
//! something.
//!
//! ```text
//! driver ──► Topics::join(name, listener) ──► Membership     dropped: the channel has left
//! anybody ─► Topics::publish(name, message, except)
//!               └─► one frame per serialiser, shared ──► outbox of each listener
//! ```
//!
//! A listener is there from its join until its [`Membership`] is dropped, which also happens when
//! its connection ends in whatever way; a topic exists while somebody listens. There are never more
//! listeners than connections may have channels.
//!
//! Messages of one topic reach all its listeners in one order: they are handed over under the lock
//! of the topic's shard. Handing over never waits, see [`crate::outbox`].

use std::{
    collections::{BTreeMap, HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use walcast_channels::{ChannelId, Extensions};
use walcast_protocol::{Frame, ServerMessage, Topic, Version, frame};

use crate::{
    outbox::{Delivery, Outbox, Sent, TopicMessage},
    router::ConnectionId,
    telemetry::Metrics,
    transport::wire::{Pushed, Unflushed, Wire, WireFrame},
};

/// Many more than cores, so that two topics rarely wait for each other.
const SHARDS: usize = 64;

/// What is listened to. Public and private channels of one topic do not hear each other.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct TopicName {
    /// The topic as clients join it, e.g. `realtime:room`.
    pub topic: Topic,
    /// Whether its channels are private.
    pub is_private: bool,
}

/// A channel within this server.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ListenerId {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its number there.
    pub channel: ChannelId,
}

/// A channel that listens to a topic.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Which.
    pub id: ListenerId,
    /// The serialiser of its connection.
    pub version: Version,
    /// What it hears: a private channel what its rights allow.
    pub hears: Extensions,
    /// Where its frames go.
    pub outbox: Outbox,
    /// Its socket, where frames may go at once.
    pub wire: Option<Arc<Wire>>,
}

/// How a message gets to the listeners of a topic.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Who does not hear it.
    except: Option<ListenerId>,
    /// The transaction that stored it.
    transaction_id: Option<u32>,
    /// Whether it is written to sockets at once.
    is_direct: bool,
}

impl Default for Way {
    fn default() -> Self {
        Self { except: None, transaction_id: None, is_direct: true }
    }
}

/// A topic's listeners.
type Listeners = HashMap<ListenerId, Listener>;

/// The topics of this server with their listeners.
#[derive(Debug)]
pub struct Topics {
    hashing: RandomState,
    shards: Vec<Mutex<HashMap<TopicName, Listeners>>>,
    metrics: Arc<Metrics>,
}

/// A channel listens as long as this lives.
#[derive(Debug)]
#[must_use = "the channel stops listening when this is dropped"]
pub struct Membership {
    topics: Arc<Topics>,
    name: TopicName,
    listener: ListenerId,
}

impl Membership {
    /// What is listened to.
    #[must_use]
    pub fn name(&self) -> &TopicName {
        &self.name
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.topics.leave(&self.name, self.listener);
    }
}

impl Topics {
    /// No topics.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { hashing: RandomState::new(), shards, metrics }
    }

    /// Lets a channel listen: it is told everything that is published from here on.
    pub fn join(self: &Arc<Self>, name: TopicName, listener: Listener) -> Membership {
        let id = listener.id;
        self.with_shard(&name, |topics| {
            topics.entry(name.clone()).or_default().insert(id, listener);
        });
        Membership { topics: Arc::clone(self), name, listener: id }
    }

    fn leave(&self, name: &TopicName, listener: ListenerId) {
        self.with_shard(name, |topics| {
            if let Some(listeners) = topics.get_mut(name) {
                listeners.remove(&listener);
                if listeners.is_empty() {
                    topics.remove(name);
                }
            }
        });
    }

    /// Lets a channel hear this from here on.
    pub fn hear(&self, membership: &Membership, hears: Extensions) {
        self.with_shard(&membership.name, |topics| {
            let listeners = topics.get_mut(&membership.name);
            let listener = listeners.and_then(|found| found.get_mut(&membership.listener));
            if let Some(listener) = listener {
                listener.hears = hears;
            }
        });
    }

    /// Hands a broadcast to every listener of a topic but `except`.
    ///
    /// It is encoded at most once per serialiser; where it has no form ([`frame::encode`]), those
    /// who use that serialiser are left out.
    pub fn publish<'a>(
        &self,
        name: &TopicName,
        message: &'a ServerMessage,
        except: Option<ListenerId>,
    ) -> Published<'a> {
        self.metrics.payload_bytes_broadcast.record(payload_bytes(message));
        self.hand_over(name, message, Way { except, ..Way::default() }, |hears| hears.broadcast)
    }

    /// Hands a change of presence to every listener of a topic, by way of the connection's task: the
    /// whole state goes that way, and a change must not overtake it.
    pub fn publish_presence(&self, name: &TopicName, message: &ServerMessage) {
        self.metrics.payload_bytes_presence.record(payload_bytes(message));
        let way = Way { is_direct: false, ..Way::default() };
        self.hand_over(name, message, way, |hears| hears.presence);
    }

    fn hand_over<'a>(
        &self,
        name: &TopicName,
        message: &'a ServerMessage,
        way: Way,
        is_heard: impl Fn(Extensions) -> bool,
    ) -> Published<'a> {
        let mut published = Published {
            message,
            v1: None,
            v2: None,
            v2_text: None,
            wire: [None, None],
            unflushed: Unflushed::default(),
            n_queued: 0,
        };
        let mut n_overflowed = 0;
        self.with_shard(name, |topics| {
            for listener in topics.get(name).into_iter().flat_map(Listeners::values) {
                if Some(listener.id) == way.except || !is_heard(listener.hears) {
                    continue;
                }
                if let Some(wire) = listener.wire.as_ref().filter(|_| way.is_direct) {
                    let Some(frame) = published.wire_frame(listener.version) else { continue };
                    match wire.push(frame) {
                        Pushed::Queued => published.n_queued += 1,
                        Pushed::Dirty => {
                            published.n_queued += 1;
                            published.unflushed.add(Arc::clone(wire));
                        }
                        Pushed::Overflowed => n_overflowed += 1,
                        Pushed::Gone => {}
                    }
                    continue;
                }
                let Some(frame) = published.frame(listener.version) else { continue };
                let Way { transaction_id, .. } = way;
                let message = TopicMessage { channel: listener.id.channel, frame, transaction_id };
                match listener.outbox.send(Delivery::Message(message)) {
                    Sent::Queued => published.n_queued += 1,
                    Sent::Overflowed => n_overflowed += 1,
                    Sent::Gone => {}
                }
            }
        });
        self.metrics.channel_events.increment(1 + published.n_queued);
        self.metrics.queue_overflows.increment(n_overflowed);
        published
    }

    /// As [`Self::publish`] for a message that this transaction stored: a channel that asked for
    /// earlier messages when it was there does not hear it again.
    pub fn publish_stored<'a>(
        &self,
        name: &TopicName,
        message: &'a ServerMessage,
        transaction_id: u32,
    ) -> Published<'a> {
        self.metrics.payload_bytes_broadcast.record(payload_bytes(message));
        let way = Way { transaction_id: Some(transaction_id), ..Way::default() };
        self.hand_over(name, message, way, |hears| hears.broadcast)
    }

    /// At most `n_max` topics that come after this one, with how many listen to each, in the order of
    /// their names.
    #[must_use]
    pub fn describe(&self, after: Option<&TopicName>, n_max: usize) -> Vec<(TopicName, usize)> {
        let key = |name: &TopicName| (name.topic.as_str().to_owned(), name.is_private);
        let mut found: BTreeMap<(String, bool), (TopicName, usize)> = BTreeMap::new();
        let after = after.map(key);
        for shard in &self.shards {
            for (name, listeners) in lock(shard).iter() {
                let key = key(name);
                if after.as_ref().is_some_and(|after| key <= *after) {
                    continue;
                }
                found.insert(key, (name.clone(), listeners.len()));
                if found.len() > n_max {
                    found.pop_last();
                }
            }
        }
        found.into_values().collect()
    }

    /// How many channels listen to a topic.
    #[must_use]
    pub fn n_listeners(&self, name: &TopicName) -> usize {
        self.with_shard(name, |topics| topics.get(name).map_or(0, HashMap::len))
    }

    /// How many topics have listeners.
    #[must_use]
    pub fn n_topics(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn with_shard<R>(
        &self,
        name: &TopicName,
        act: impl FnOnce(&mut HashMap<TopicName, Listeners>) -> R,
    ) -> R {
        let position = self.hashing.hash_one(name) % (SHARDS as u64);
        let shard = usize::try_from(position).ok().and_then(|position| self.shards.get(position));
        match shard {
            Some(shard) => act(&mut lock(shard)),
            // Not reached: there are as many shards as positions.
            None => act(&mut HashMap::new()),
        }
    }
}

/// What a message carries, in bytes.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn payload_bytes(message: &ServerMessage) -> f64 {
    let n_bytes = match message {
        ServerMessage::UserBroadcast { broadcast, .. } => broadcast.payload.len(),
        ServerMessage::Push { payload, .. } => payload.as_bytes().len(),
        ServerMessage::Reply { .. }
        | ServerMessage::System { .. }
        | ServerMessage::Close { .. }
        | ServerMessage::Error { .. } => 0,
    };
    n_bytes as f64
}

/// A lock is only poisoned when a thread panicked while it held it; what is in there is whole all
/// the same, since each change of it is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message that was published, in the forms that were needed so far.
#[derive(Debug)]
pub struct Published<'a> {
    message: &'a ServerMessage,
    v1: Option<Option<Frame>>,
    v2: Option<Option<Frame>>,
    v2_text: Option<Option<Frame>>,
    /// The forms of sockets, one for each serialiser that has them.
    wire: [Option<Option<WireFrame>>; 2],
    unflushed: Unflushed,
    n_queued: u64,
}

impl Published<'_> {
    /// To how many channels it was handed.
    #[must_use]
    pub fn n_queued(&self) -> u64 {
        self.n_queued
    }

    /// Leaves it to another to flush the sockets. Without this they are flushed when this is dropped.
    pub fn flush_later(&mut self, unflushed: &mut Unflushed) {
        unflushed.append(&mut self.unflushed);
    }

    fn wire_frame(&mut self, version: Version) -> Option<WireFrame> {
        let position = usize::from(version != Version::V1);
        if let Some(Some(known)) = self.wire.get(position) {
            return known.clone();
        }
        let frame = self.frame(version).map(|frame| WireFrame::shared(&frame));
        if let Some(form) = self.wire.get_mut(position) {
            *form = Some(frame.clone());
        }
        frame
    }

    /// The frame for this serialiser, if the message has one there.
    pub fn frame(&mut self, version: Version) -> Option<Frame> {
        let form = match version {
            Version::V1 => &mut self.v1,
            Version::V2 => &mut self.v2,
            Version::V2Text => &mut self.v2_text,
        };
        form.get_or_insert_with(|| frame::encode(version, self.message)).clone()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use walcast_protocol::{
        RawJson, Reference,
        message::{Encoding, UserBroadcast},
    };

    use super::*;
    use crate::outbox::{Inbox, OutboxLimits, queue};

    const LIMITS: OutboxLimits = OutboxLimits { frames: 8, bytes: 1_000 };

    fn topics() -> Arc<Topics> {
        Arc::new(Topics::new(Arc::new(Metrics::new())))
    }

    fn name(topic: &str, is_private: bool) -> TopicName {
        TopicName { topic: Topic::new(topic), is_private }
    }

    fn id(connection: u64) -> ListenerId {
        ListenerId { connection: ConnectionId(connection), channel: ChannelId(7) }
    }

    fn listener(connection: u64, version: Version, limits: OutboxLimits) -> (Listener, Inbox) {
        let (outbox, inbox) = queue(limits);
        (
            Listener { id: id(connection), version, hears: Extensions::ALL, outbox, wire: None },
            inbox,
        )
    }

    fn message(topic: &str, text: &str) -> ServerMessage {
        ServerMessage::Push {
            join_ref: Reference::Null,
            topic: Topic::new(topic),
            event: "broadcast".into(),
            payload: RawJson::parse(&Bytes::from(format!("{{\"n\":\"{text}\"}}"))).unwrap(),
        }
    }

    /// The frames that wait in an inbox.
    fn frames(mut inbox: Inbox) -> Vec<Frame> {
        let mut deliveries = Vec::new();
        inbox.receive_waiting(&mut deliveries, 1_000);
        let frame = |delivery| match delivery {
            Delivery::Message(TopicMessage { channel, frame, transaction_id: _ }) => {
                assert_eq!(channel, ChannelId(7));
                frame
            }
            Delivery::Changes(_) | Delivery::Answer(_) => panic!("expected a message"),
        };
        deliveries.into_iter().map(frame).collect()
    }

    #[tokio::test]
    async fn everyone_on_the_topic_is_told_but_the_exception() {
        let topics = topics();
        let mut inboxes = Vec::new();
        let mut memberships = Vec::new();
        for connection in 1..=3 {
            let (listener, inbox) = listener(connection, Version::V2, LIMITS);
            memberships.push(topics.join(name("realtime:a", false), listener));
            inboxes.push(inbox);
        }
        for (topic, is_private) in [("realtime:b", false), ("realtime:a", true)] {
            let (listener, inbox) = listener(9, Version::V2, LIMITS);
            memberships.push(topics.join(name(topic, is_private), listener));
            inboxes.push(inbox);
        }
        let room = name("realtime:a", false);
        assert_eq!(topics.publish(&room, &message("realtime:a", "1"), None).n_queued(), 3);
        assert_eq!(topics.publish(&room, &message("realtime:a", "2"), Some(id(2))).n_queued(), 2);
        drop(memberships);
        let mut received = Vec::new();
        for inbox in inboxes {
            received.push(frames(inbox));
        }
        let counts: Vec<usize> = received.iter().map(Vec::len).collect();
        assert_eq!(counts, [2, 1, 2, 0, 0]);
        assert_eq!(received[0], received[2]);
    }

    #[tokio::test]
    async fn a_message_is_encoded_once_per_serialiser_and_shared() {
        let topics = topics();
        let room = name("realtime:a", false);
        let (mut memberships, mut inboxes) = (Vec::new(), Vec::new());
        for (connection, version) in [(1, Version::V1), (2, Version::V1), (3, Version::V2)] {
            let (listener, inbox) = listener(connection, version, LIMITS);
            memberships.push(topics.join(room.clone(), listener));
            inboxes.push(inbox);
        }
        topics.publish(&room, &message("realtime:a", "x"), None);
        // V1 has no form for bytes.
        let broadcast = UserBroadcast {
            event: "e".into(),
            metadata: None,
            encoding: Encoding::Binary,
            payload: Bytes::from_static(b"\0"),
        };
        let bytes = ServerMessage::UserBroadcast { topic: room.topic.clone(), broadcast };
        assert_eq!(topics.publish(&room, &bytes, None).n_queued(), 1);
        drop(memberships);
        let mut received = Vec::new();
        for inbox in inboxes {
            received.push(frames(inbox));
        }
        assert_eq!(received.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2]);
        let place = |frame: &Frame| frame.bytes().as_ptr();
        assert_eq!(place(&received[0][0]), place(&received[1][0]));
        assert_ne!(received[0][0], received[2][0]);
    }

    #[test]
    fn nothing_is_left_of_those_who_left() {
        let topics = topics();
        let mut memberships = Vec::new();
        for connection in 0..1_000 {
            let (listener, _) = listener(connection, Version::V2, LIMITS);
            let topic = name(&format!("realtime:{}", connection % 100), false);
            memberships.push(topics.join(topic, listener));
        }
        assert_eq!(topics.n_topics(), 100);
        assert_eq!(topics.n_listeners(&name("realtime:7", false)), 10);
        memberships.truncate(500);
        assert_eq!(topics.n_listeners(&name("realtime:7", false)), 5);
        drop(memberships);
        assert_eq!(topics.n_topics(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_harms_nobody_else() {
        let topics = topics();
        let room = name("realtime:a", false);
        let (slow, slow_inbox) = listener(1, Version::V2, OutboxLimits { frames: 1, bytes: 1_000 });
        let (other, inbox) = listener(2, Version::V2, LIMITS);
        let memberships = [topics.join(room.clone(), slow), topics.join(room.clone(), other)];
        let n_queued: Vec<u64> = (0..4)
            .map(|n| message("realtime:a", &n.to_string()))
            .map(|message| topics.publish(&room, &message, None).n_queued())
            .collect();
        assert_eq!(n_queued, [2, 1, 1, 1]);
        assert!(slow_inbox.overflow().is_cancelled());
        drop(memberships);
        assert_eq!(frames(inbox).len(), 4);
    }
}
