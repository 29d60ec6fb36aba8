//! The task without a clock: commands in, deliveries out.

use serde_json::{Value, json};
use walcast_channels::Extensions;
use walcast_protocol::{
    ClientMessage, Frame, Topic, Version, frame,
    push::{PresenceAction, presence_action},
};

use super::*;
use crate::{
    outbox::{Inbox, OutboxLimits, TopicMessage, queue},
    topics::{Listener, ListenerId, Membership},
};

const CHANNEL: ChannelId = ChannelId(1);

struct World {
    task: PresenceTask,
    handle: PresenceHandle,
    registry: Arc<Topics>,
}

/// One client on the topic.
struct Client {
    visitor: Visitor,
    outbox: Outbox,
    inbox: Inbox,
    membership: Option<Membership>,
}

fn room() -> TopicName {
    TopicName { topic: Topic::new("realtime:room"), is_private: false }
}

/// Remarks, read from what a client sends.
fn tracked(remarks: &Value) -> Tracked {
    let payload = json!({"event": "track", "payload": remarks});
    let text = json!(["1", "2", "realtime:room", "presence", payload]).to_string();
    let message = frame::decode(Version::V2, &Frame::Text(text.into())).unwrap();
    let ClientMessage { payload, .. } = message;
    let action = presence_action(&payload);
    let PresenceAction::Track(tracked) = action else { panic!("{action:?}") };
    tracked
}

impl World {
    fn new(calls: TokenBucket) -> Self {
        let metrics = Arc::new(Metrics::new());
        let registry = Arc::new(Topics::new(Arc::clone(&metrics)));
        let (task, handle) = PresenceTask::new(7, calls, Arc::clone(&registry), metrics);
        Self { task, handle, registry }
    }

    fn client(&self, connection: u64) -> Client {
        let (outbox, inbox) = queue(OutboxLimits { frames: 16, bytes: 16 << 20 });
        let connection = ConnectionId(connection);
        let id = ListenerId { connection, channel: CHANNEL };
        let listener = Listener {
            id,
            version: Version::V2,
            hears: Extensions::ALL,
            outbox: outbox.clone(),
            wire: None,
        };
        let membership = Some(self.registry.join(room(), listener));
        Client { visitor: self.handle.visitor(connection), outbox, inbox, membership }
    }

    /// Carries out what waits.
    fn work(&mut self) {
        while let Ok((connection, command)) = self.task.commands.try_recv() {
            self.task.perform(connection, command);
        }
    }
}

impl Client {
    async fn call(&mut self, call: Call) {
        let command = Command { channel: CHANNEL, name: room(), call };
        self.visitor.push(command);
        assert!(self.visitor.forward().await);
    }

    async fn track(&mut self, remarks: Value) {
        let outbox = self.outbox.clone();
        self.call(Call::Track { key: Some("k".into()), tracked: tracked(&remarks), outbox }).await;
    }

    /// What came: payloads of diffs, and answers.
    fn received(&mut self) -> Vec<Received> {
        self.deliveries().into_iter().map(Received::of).collect()
    }

    fn deliveries(&mut self) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        self.inbox.receive_waiting(&mut deliveries, 1_000_000);
        deliveries
    }
}

#[derive(Debug, PartialEq)]
enum Received {
    Diff(Value, usize),
    State(Value),
    Refused,
}

impl Received {
    fn of(delivery: Delivery) -> Self {
        match delivery {
            Delivery::Message(TopicMessage { frame, .. }) => {
                let message: Value = serde_json::from_slice(frame.bytes()).unwrap();
                assert_eq!(message[3], "presence_diff");
                assert_eq!((&message[0], &message[1]), (&Value::Null, &Value::Null));
                Self::Diff(message[4].clone(), frame.bytes().len())
            }
            Delivery::Answer(input) => {
                if let Input::PresenceState { channel: CHANNEL, state } = &*input {
                    Self::State(serde_json::from_slice(state.as_bytes()).unwrap())
                } else {
                    assert!(matches!(*input, Input::PresenceRefused { channel: CHANNEL }));
                    Self::Refused
                }
            }
            Delivery::Changes(changes) => panic!("{changes:?}"),
        }
    }

    /// The remarks in a diff, those of who came and those of who went.
    fn sides(&self) -> (usize, usize) {
        let Self::Diff(diff, _) = self else { panic!("{self:?}") };
        let count = |side: &str| {
            let keys = diff[side].as_object().unwrap().values();
            keys.map(|held| held["metas"].as_array().unwrap().len()).sum()
        };
        (count("joins"), count("leaves"))
    }
}

fn plenty() -> TokenBucket {
    TokenBucket::new(1_000_000, 1_000_000)
}

#[tokio::test]
async fn changes_within_a_tick_are_told_as_one() {
    let mut world = World::new(plenty());
    let (mut a, mut b) = (world.client(1), world.client(2));
    a.track(json!({"n": 1})).await;
    b.track(json!({"n": 2})).await;
    world.work();
    assert_eq!(a.received(), []);
    assert!(world.task.flush_at.is_some());
    world.task.flush();
    for client in [&mut a, &mut b] {
        let received = client.received();
        assert_eq!(received.iter().map(Received::sides).collect::<Vec<_>>(), [(2, 0)]);
    }
    // The same again changes nothing, and the task goes on sleeping.
    a.track(json!({"n": 1})).await;
    world.work();
    assert_eq!(world.task.flush_at, None);
    a.call(Call::Untrack).await;
    a.call(Call::Untrack).await;
    world.work();
    world.task.flush();
    assert_eq!(b.received().iter().map(Received::sides).collect::<Vec<_>>(), [(0, 1)]);
}

#[tokio::test]
async fn a_connection_that_ends_takes_along_what_it_said_last() {
    let mut world = World::new(plenty());
    let (mut a, mut b) = (world.client(1), world.client(2));
    a.track(json!({"n": 1})).await;
    world.work();
    world.task.flush();
    // This waits in the queue when the connection is gone already.
    a.track(json!({"n": 2})).await;
    drop(a);
    world.task.take_gone();
    world.task.flush();
    let received = b.received();
    assert_eq!(received.iter().map(Received::sides).collect::<Vec<_>>(), [(1, 0), (0, 1)]);
    let n_kept = (world.task.topics.len(), world.task.tracked.len());
    assert_eq!(n_kept, (0, 0), "nothing is left of a topic that nobody is present on");
    assert!(world.task.metrics.render().contains("walcast_presence_members 0"));
}

#[tokio::test]
async fn a_topic_that_comes_back_gives_other_references() {
    let mut world = World::new(plenty());
    let mut client = world.client(1);
    for _ in 0..2 {
        client.track(json!({})).await;
        world.work();
        world.task.flush();
        client.call(Call::Untrack).await;
        world.work();
        world.task.flush();
    }
    let references: Vec<Value> = client
        .received()
        .into_iter()
        .map(|received| match received {
            Received::Diff(diff, _) => diff["joins"]["k"]["metas"][0]["phx_ref"].clone(),
            other @ (Received::State(_) | Received::Refused) => panic!("{other:?}"),
        })
        .collect();
    assert!(references[0].is_string() && references[0] != references[2], "{references:?}");
}

#[tokio::test]
async fn calls_beyond_the_rate_of_the_server_are_refused() {
    let mut world = World::new(TokenBucket::new(1, 2));
    let mut client = world.client(1);
    for n in 0..3 {
        client.track(json!({"n": n})).await;
    }
    world.work();
    assert_eq!(client.received(), [Received::Refused]);
    assert!(world.task.metrics.render().contains("walcast_presence_refusals_total 1"));
}

#[tokio::test]
async fn the_task_ends_when_told_or_out_of_reach() {
    let world = World::new(plenty());
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    world.task.run(shutdown).await;
    let World { task, handle, .. } = World::new(plenty());
    drop(handle);
    task.run(CancellationToken::new()).await;
}

/// What the 10,001st member costs everybody, counted: one delivery to each, of one shared frame.
#[tokio::test]
async fn one_more_among_ten_thousand_is_one_delivery_each() {
    let mut world = World::new(plenty());
    let mut clients: Vec<Client> = (0..10_000).map(|n| world.client(n)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.track(json!({"n": n})).await;
        // The queue of the task is shorter than the crowd.
        world.work();
    }
    world.task.flush();
    for client in &mut clients {
        assert_eq!(client.deliveries().len(), 1, "ten thousand joins within a tick are one diff");
    }
    let mut newcomer = world.client(10_000);
    let outbox = newcomer.outbox.clone();
    newcomer.call(Call::Show { outbox }).await;
    world.work();
    world.task.flush();
    let received = newcomer.received();
    let [Received::State(state)] = &received[..] else { panic!("{}", received.len()) };
    assert_eq!(state["k"]["metas"].as_array().unwrap().len(), 10_000);
    assert!(clients.iter_mut().all(|client| client.deliveries().is_empty()));

    newcomer.track(json!({"n": 10_000})).await;
    world.work();
    world.task.flush();
    let (mut n_deliveries, mut n_bytes) = (0, 0);
    for client in &mut clients {
        for received in client.received() {
            assert_eq!(received.sides(), (1, 0));
            let Received::Diff(_, bytes) = received else { continue };
            n_deliveries += 1;
            n_bytes += bytes;
        }
    }
    assert_eq!((n_deliveries, n_bytes), (10_000, 10_000 * 124));
    drop(clients.iter_mut().map(|client| client.membership.take()).collect::<Vec<_>>());
}
