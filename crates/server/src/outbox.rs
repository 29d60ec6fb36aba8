//! The bounded queue of one connection.
//!
//! Whoever delivers never waits: a queue that is full closes its connection, with a reason, and
//! nobody else notices (law 3).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use walcast_channels::{ChannelId, Input};
use walcast_protocol::Frame;

/// Something for a connection, in the order it must come out.
#[derive(Debug)]
pub enum Delivery {
    /// Changes, in commit order.
    Changes(Vec<Change>),
    /// Something that was published on a topic.
    Message(TopicMessage),
    /// An answer for the session, which must not overtake the changes before it.
    Answer(Box<Input>),
}

/// A change for a channel; dropped if the channel is closed by then.
#[derive(Debug)]
pub struct Change {
    /// The channel.
    pub channel: ChannelId,
    /// The encoded message.
    pub frame: Frame,
    /// When the change was committed, in µs since 1970.
    pub committed_us: i64,
}

/// A message for a channel, the frame shared with others; dropped if the channel is closed by then.
#[derive(Debug)]
pub struct TopicMessage {
    /// The channel.
    pub channel: ChannelId,
    /// The encoded message.
    pub frame: Frame,
    /// The transaction that stored it, if it is stored.
    pub transaction_id: Option<u32>,
}

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// Frames that may wait.
    pub frames: usize,
    /// Bytes that may wait.
    pub bytes: usize,
}

/// Room for deliveries that an empty queue keeps.
const KEPT_MAX: usize = 8;

/// The sending side; cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbox {
    shared: Arc<Shared>,
}

/// The receiving side.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: OutboxLimits,
    /// Not tokio's channel: that keeps room for 32 deliveries, 2 KB for a connection that is idle.
    queue: Mutex<Queue>,
    arrived: Notify,
    overflow: CancellationToken,
}

#[derive(Debug, Default)]
struct Queue {
    deliveries: VecDeque<Delivery>,
    n_frames: usize,
    n_bytes: usize,
    has_overflowed: bool,
    /// Whether the receiving side is gone.
    is_closed: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the queue of one connection.
#[must_use]
pub fn queue(limits: OutboxLimits) -> (Outbox, Inbox) {
    let shared = Arc::new(Shared {
        limits,
        queue: Mutex::default(),
        arrived: Notify::new(),
        overflow: CancellationToken::new(),
    });
    (Outbox { shared: Arc::clone(&shared) }, Inbox { shared })
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sent {
    /// It waits its turn.
    Queued,
    /// The queue is full with it: the connection is being closed. Told once.
    Overflowed,
    /// The connection is gone or on its way out.
    Gone,
}

impl Outbox {
    /// Queues a delivery, never waiting.
    pub fn send(&self, delivery: Delivery) -> Sent {
        let shared = &self.shared;
        let (n_frames, n_bytes) = size(&delivery);
        let mut queue = shared.queue();
        if queue.has_overflowed || queue.is_closed {
            return Sent::Gone;
        }
        queue.n_frames += n_frames;
        queue.n_bytes += n_bytes;
        if queue.n_frames > shared.limits.frames || queue.n_bytes > shared.limits.bytes {
            queue.has_overflowed = true;
            drop(queue);
            shared.overflow.cancel();
            return Sent::Overflowed;
        }
        queue.deliveries.push_back(delivery);
        drop(queue);
        shared.arrived.notify_one();
        Sent::Queued
    }
}

impl Inbox {
    /// Waits for deliveries and takes at most `n_max`. Cancel-safe.
    pub async fn receive(&mut self, into: &mut Vec<Delivery>, n_max: usize) {
        let before = into.len();
        loop {
            self.receive_waiting(into, n_max);
            if into.len() > before {
                return;
            }
            self.shared.arrived.notified().await;
        }
    }

    /// Takes at most `n_max` of the deliveries that are there, never waiting.
    pub fn receive_waiting(&mut self, into: &mut Vec<Delivery>, n_max: usize) {
        let mut queue = self.shared.queue();
        for _ in 0..n_max {
            let Some(delivery) = queue.deliveries.pop_front() else { break };
            let (n_frames, n_bytes) = size(&delivery);
            queue.n_frames = queue.n_frames.saturating_sub(n_frames);
            queue.n_bytes = queue.n_bytes.saturating_sub(n_bytes);
            into.push(delivery);
        }
        if queue.deliveries.is_empty() && queue.deliveries.capacity() > KEPT_MAX {
            queue.deliveries = VecDeque::new();
        }
    }

    /// Ends when the queue has overflowed.
    #[must_use]
    pub fn overflow(&self) -> CancellationToken {
        self.shared.overflow.clone()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.is_closed = true;
        queue.deliveries = VecDeque::new();
    }
}

/// Frames and bytes.
fn size(delivery: &Delivery) -> (usize, usize) {
    match delivery {
        Delivery::Changes(changes) => {
            (changes.len(), changes.iter().map(|change| change.frame.bytes().len()).sum())
        }
        Delivery::Message(message) => (1, message.frame.bytes().len()),
        Delivery::Answer(input) => {
            // As long as the topic has members; everything else an answer holds is small.
            let state =
                if let Input::PresenceState { state, .. } = &**input { Some(state) } else { None };
            (1, state.map_or(0, |state| state.as_bytes().len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(n_bytes: usize) -> Delivery {
        Delivery::Changes(vec![Change {
            channel: ChannelId(1),
            frame: Frame::Text("x".repeat(n_bytes).into()),
            committed_us: 0,
        }])
    }

    #[tokio::test]
    async fn deliveries_come_out_in_order() {
        let (outbox, mut inbox) = queue(OutboxLimits { frames: 8, bytes: 100 });
        for n_bytes in 1..=3 {
            assert_eq!(outbox.send(change(n_bytes)), Sent::Queued);
        }
        let mut received = Vec::new();
        inbox.receive(&mut received, 2).await;
        assert_eq!(received.len(), 2);
        inbox.receive(&mut received, 2).await;
        assert_eq!(received.iter().map(size).collect::<Vec<_>>(), [(1, 1), (1, 2), (1, 3)]);
    }

    #[test]
    fn too_many_frames_overflow_once() {
        let (outbox, inbox) = queue(OutboxLimits { frames: 2, bytes: 100 });
        let sent: Vec<_> = (0..4).map(|_| outbox.send(change(1))).collect();
        assert_eq!(sent, [Sent::Queued, Sent::Queued, Sent::Overflowed, Sent::Gone]);
        assert!(inbox.overflow().is_cancelled());
    }

    #[tokio::test]
    async fn bytes_that_were_taken_no_longer_count() {
        let (outbox, mut inbox) = queue(OutboxLimits { frames: 8, bytes: 100 });
        assert_eq!(outbox.send(change(60)), Sent::Queued);
        inbox.receive(&mut Vec::new(), 8).await;
        assert_eq!(outbox.send(change(60)), Sent::Queued);
        assert_eq!(outbox.send(change(60)), Sent::Overflowed);
    }

    #[tokio::test]
    async fn what_waits_is_taken_without_waiting() {
        let (outbox, mut inbox) = queue(OutboxLimits { frames: 2, bytes: 100 });
        let mut received = Vec::new();
        for _ in 0..4 {
            assert_eq!(outbox.send(change(50)), Sent::Queued);
            assert_eq!(outbox.send(change(50)), Sent::Queued);
            inbox.receive_waiting(&mut received, 1);
            inbox.receive_waiting(&mut received, 8);
        }
        assert_eq!(received.len(), 8);
    }

    #[test]
    fn a_closed_connection_is_no_overflow() {
        let (outbox, inbox) = queue(OutboxLimits { frames: 8, bytes: 100 });
        drop(inbox);
        assert_eq!(outbox.send(change(1)), Sent::Gone);
    }
}
