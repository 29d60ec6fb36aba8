//! Gathers the frames of a batch per connection, so that a connection is woken once for many.
//!
//! One wake per frame made 65 k frames/s to one client; gathered, the replication stream is the
//! limit (230 k).

use std::collections::HashMap;

use super::subscriptions::{ChannelHandle, ConnectionId};
use crate::{
    outbox::{Change, Delivery, Outbox, Sent},
    telemetry::Metrics,
};

/// Frames gathered over all connections before they are handed over: enough to gather, few enough
/// that a change with many subscribers does not lie here twice.
const FRAMES_MAX: usize = 4_096;

/// Frames by connection, each connection's in their order.
#[derive(Debug)]
pub(super) struct Gathering<'a> {
    metrics: &'a Metrics,
    by_connection: HashMap<ConnectionId, (&'a Outbox, Vec<Change>)>,
    n_frames: usize,
}

impl<'a> Gathering<'a> {
    /// Nothing yet.
    pub(super) fn new(metrics: &'a Metrics) -> Self {
        Self { metrics, by_connection: HashMap::new(), n_frames: 0 }
    }

    /// Adds a frame for a channel.
    pub(super) fn add(&mut self, channel: &'a ChannelHandle, change: Change) {
        let entry = self.by_connection.entry(channel.connection);
        let (_, changes) = entry.or_insert_with(|| (&channel.outbox, Vec::new()));
        changes.push(change);
        self.n_frames += 1;
        if self.n_frames >= FRAMES_MAX {
            self.hand_over();
        }
    }

    /// Hands everything to the outboxes.
    pub(super) fn hand_over(&mut self) {
        self.n_frames = 0;
        for (connection, (outbox, changes)) in self.by_connection.drain() {
            let n_changes = changes.len() as u64;
            match outbox.send(Delivery::Changes(changes)) {
                Sent::Queued => self.metrics.events_out.increment(n_changes),
                Sent::Overflowed => {
                    self.metrics.queue_overflows.increment(1);
                    tracing::warn!(
                        connection = connection.0,
                        "a client does not read fast enough: its connection is closed"
                    );
                }
                Sent::Gone => {}
            }
        }
    }
}
