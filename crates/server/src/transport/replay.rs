//! A channel that is given earlier messages before it hears its topic.
//!
//! It listens from before they are looked for, so that nothing falls between the two. What it hears
//! meanwhile is held back. The stream may be behind the table: what was stored when the earlier
//! messages were read is not told again, neither then nor later.

use walcast_protocol::message::UserBroadcast;

use crate::{catalogue::snapshot::Snapshot, messages::replay::Found, outbox::TopicMessage};

/// Messages that are held back for a channel, and their bytes; with more, its join fails.
const HELD_MAX: usize = 1_000;
const HELD_BYTES_MAX: usize = 8 << 20;

/// How far a channel is with its earlier messages.
#[derive(Debug)]
pub(super) struct Replay {
    /// What was heard before the earlier messages were sent; `None` from then on.
    held: Option<Vec<TopicMessage>>,
    held_bytes: usize,
    /// What was stored when they were read.
    stored: Snapshot,
}

/// More was heard than may be held back.
#[derive(Debug)]
pub(super) struct TooMany;

impl Default for Replay {
    fn default() -> Self {
        Self { held: Some(Vec::new()), held_bytes: 0, stored: Snapshot::default() }
    }
}

impl Replay {
    /// What of a message is to be told now.
    pub(super) fn hear(&mut self, message: TopicMessage) -> Result<Option<TopicMessage>, TooMany> {
        let Some(held) = &mut self.held else {
            let is_told = message.transaction_id.is_some_and(|id| self.stored.sees(id));
            return Ok((!is_told).then_some(message));
        };
        self.held_bytes += message.frame.bytes().len();
        if held.len() >= HELD_MAX || self.held_bytes > HELD_BYTES_MAX {
            return Err(TooMany);
        }
        held.push(message);
        Ok(None)
    }

    /// Notes what was stored; the earlier messages.
    pub(super) fn found(&mut self, found: Found) -> Vec<UserBroadcast> {
        self.stored = found.snapshot;
        found.messages
    }

    /// The earlier messages were sent; what was held back.
    pub(super) fn resume(&mut self) -> Vec<TopicMessage> {
        self.held.take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use walcast_channels::ChannelId;
    use walcast_protocol::Frame;

    use super::*;

    fn message(transaction_id: Option<u32>, n_bytes: usize) -> TopicMessage {
        let frame = Frame::Text(Bytes::from(vec![b' '; n_bytes]));
        TopicMessage { channel: ChannelId(1), frame, transaction_id }
    }

    #[test]
    fn what_was_stored_is_not_told_again() {
        let mut replay = Replay::default();
        for transaction_id in [Some(7), Some(12), None] {
            assert!(replay.hear(message(transaction_id, 1)).unwrap().is_none());
        }
        let snapshot = Snapshot::parse("10:10:").unwrap();
        replay.found(Found { messages: Vec::new(), snapshot });
        let held = replay.resume();
        assert_eq!(held.len(), 3);
        let told: Vec<_> = held
            .into_iter()
            .filter_map(|message| replay.hear(message).unwrap())
            .map(|message| message.transaction_id)
            .collect();
        assert_eq!(told, [Some(12), None]);
        assert!(replay.hear(message(Some(9), 1)).unwrap().is_none());
        assert!(replay.hear(message(Some(13), 1)).unwrap().is_some());
    }

    #[test]
    fn only_so_much_is_held_back() {
        let mut replay = Replay::default();
        assert!(replay.hear(message(None, HELD_BYTES_MAX)).is_ok());
        assert!(replay.hear(message(None, 1)).is_err());
        let mut replay = Replay::default();
        assert!((0..HELD_MAX).all(|_| replay.hear(message(None, 1)).is_ok()));
        assert!(replay.hear(message(None, 1)).is_err());
    }
}
