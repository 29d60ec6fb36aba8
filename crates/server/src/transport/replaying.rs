//! What a connection keeps while earlier messages are looked for, and which it must not tell twice.
//!
//! A channel hears its topic from before the search on, so that no message falls between the two. What
//! it hears meanwhile is kept here until its join is replied to; what was replayed is left out of it,
//! also later, since the stream may be behind the table.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use walcast_channels::ChannelId;
use walcast_protocol::{Frame, RawJson, message::UserBroadcast};

use crate::outbox::TopicMessage;

/// Messages that may be kept for a channel, and their bytes; beyond it the replay fails, and with it
/// the join.
const KEPT_MAX: usize = 1_024;
const KEPT_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// The channels of a connection that asked for earlier messages.
#[derive(Debug, Default)]
pub(super) struct Replaying(HashMap<ChannelId, Replayed>);

#[derive(Debug, Default)]
struct Replayed {
    /// What was heard before the join was replied to; `None` from then on.
    kept: Option<Vec<TopicMessage>>,
    n_bytes: usize,
    has_overflowed: bool,
    ids: HashSet<Arc<str>>,
}

impl Replaying {
    /// Earlier messages are looked for.
    pub(super) fn begin(&mut self, channel: ChannelId) {
        let kept = Some(Vec::new());
        self.0.insert(channel, Replayed { kept, ..Replayed::default() });
    }

    /// What was found, without it if too much was said meanwhile.
    pub(super) fn found(
        &mut self,
        channel: ChannelId,
        messages: Option<Vec<UserBroadcast>>,
    ) -> Option<Vec<UserBroadcast>> {
        let replayed = self.0.get_mut(&channel)?;
        let messages = messages.filter(|_| !replayed.has_overflowed)?;
        let ids = messages.iter().filter_map(|message| id_of(message.metadata.as_ref()?));
        replayed.ids.extend(ids);
        Some(messages)
    }

    /// A message of the channel's topic: what of it is to be told at once.
    pub(super) fn hear(&mut self, message: TopicMessage) -> Option<TopicMessage> {
        if self.0.is_empty() {
            return Some(message);
        }
        let Some(replayed) = self.0.get_mut(&message.channel) else { return Some(message) };
        let Some(kept) = &mut replayed.kept else {
            return replayed.is_new(&message).then_some(message);
        };
        replayed.n_bytes += message.frame.bytes().len();
        replayed.has_overflowed |= kept.len() >= KEPT_MAX || replayed.n_bytes > KEPT_BYTES_MAX;
        if replayed.has_overflowed {
            kept.clear();
        } else {
            kept.push(message);
        }
        None
    }

    /// The join was replied to, and what was replayed told: what is to be told after it.
    pub(super) fn release(&mut self, channel: ChannelId) -> Vec<Frame> {
        let Some(replayed) = self.0.get_mut(&channel) else { return Vec::new() };
        let kept = replayed.kept.take().unwrap_or_default();
        kept.into_iter()
            .filter(|message| replayed.is_new(message))
            .map(|message| message.frame)
            .collect()
    }

    /// The channel is gone.
    pub(super) fn forget(&mut self, channel: ChannelId) {
        self.0.remove(&channel);
    }

    /// Whether the channel hears its topic already.
    pub(super) fn has(&self, channel: ChannelId) -> bool {
        self.0.contains_key(&channel)
    }
}

impl Replayed {
    fn is_new(&self, message: &TopicMessage) -> bool {
        message.id.as_ref().is_none_or(|id| !self.ids.contains(id))
    }
}

/// The id in the metadata of a stored message.
fn id_of(metadata: &RawJson) -> Option<Arc<str>> {
    #[derive(serde::Deserialize)]
    struct Metadata<'a> {
        id: &'a str,
    }
    let metadata: Metadata<'_> = serde_json::from_slice(metadata.as_bytes()).ok()?;
    Some(Arc::from(metadata.id))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use walcast_protocol::message::Encoding;

    use super::*;
    use crate::messages::metadata;

    const CHANNEL: ChannelId = ChannelId(1);

    fn heard(id: Option<&str>, text: &str) -> TopicMessage {
        let frame = Frame::Text(Bytes::copy_from_slice(text.as_bytes()));
        TopicMessage { channel: CHANNEL, frame, id: id.map(Arc::from) }
    }

    fn found(id: &str) -> UserBroadcast {
        UserBroadcast {
            event: "e".into(),
            metadata: metadata(id, true),
            encoding: Encoding::Json,
            payload: Bytes::from_static(b"{}"),
        }
    }

    fn texts(frames: &[Frame]) -> Vec<&str> {
        frames.iter().filter_map(|frame| std::str::from_utf8(frame.bytes()).ok()).collect()
    }

    #[test]
    fn what_is_heard_meanwhile_follows_and_nothing_is_told_twice() {
        let mut replaying = Replaying::default();
        assert!(replaying.hear(heard(None, "before")).is_some());
        replaying.begin(CHANNEL);
        for message in [heard(Some("a"), "a"), heard(None, "from a client"), heard(Some("b"), "b")]
        {
            assert_eq!(replaying.hear(message).map(|message| message.frame), None);
        }
        let messages = replaying.found(CHANNEL, Some(vec![found("a"), found("c")]));
        assert_eq!(messages.map(|messages| messages.len()), Some(2));
        assert_eq!(texts(&replaying.release(CHANNEL)), ["from a client", "b"]);
        // The stream was behind the table.
        assert!(replaying.hear(heard(Some("c"), "c")).is_none());
        assert!(replaying.hear(heard(Some("d"), "d")).is_some());
        assert!(replaying.hear(heard(None, "from a client")).is_some());
        replaying.forget(CHANNEL);
        assert!(replaying.hear(heard(Some("c"), "c")).is_some());
    }

    #[test]
    fn too_much_meanwhile_fails_the_replay() {
        let check = |n_messages: usize, n_bytes: usize, is_whole: bool| {
            let mut replaying = Replaying::default();
            replaying.begin(CHANNEL);
            let text = "x".repeat(n_bytes);
            for _ in 0..n_messages {
                assert!(replaying.hear(heard(None, &text)).is_none());
            }
            let messages = replaying.found(CHANNEL, Some(vec![found("a")]));
            assert_eq!(messages.is_some(), is_whole, "{n_messages} of {n_bytes}");
        };
        check(KEPT_MAX, 1, true);
        check(KEPT_MAX + 1, 1, false);
        check(8, KEPT_BYTES_MAX / 8, true);
        check(9, KEPT_BYTES_MAX / 8, false);
    }
}
