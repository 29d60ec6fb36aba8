//! The messages of both directions as types.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::raw_json::RawJson;

/// The serialiser a client asked for with the `vsn` parameter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// JSON objects, text frames only.
    V1,
    /// JSON arrays and binary frames.
    V2,
    /// V2 on a transport that carries text only, long-polling: what V2 frames in binary is written as
    /// an array where it has that form. What the client sends is read as on V2.
    V2Text,
}

impl Version {
    /// The version as clients name it.
    #[must_use]
    pub fn vsn(self) -> &'static str {
        match self {
            Self::V1 => "1.0.0",
            Self::V2 | Self::V2Text => "2.0.0",
        }
    }

    /// Reads `vsn`: absent means 1.0.0, `~> 1.0.0` is V1, `~> 2.0.0` is V2.
    ///
    /// `None` for any other version; such a connection is refused.
    #[must_use]
    pub fn from_vsn(vsn: Option<&str>) -> Option<Self> {
        let Some(vsn) = vsn else { return Some(Self::V1) };
        let mut parts = vsn.splitn(3, '.');
        let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next()?);
        // Builds (`+x`) do not count; a pre-release (`-x`) sorts before its version, so that
        // `2.0.0-rc` does not satisfy `~> 2.0.0` but `2.0.1-rc` does.
        let patch = patch.split('+').next().unwrap_or(patch);
        let (patch, is_prerelease) = match patch.split_once('-') {
            Some((_, "")) => return None,
            Some((patch, _)) => (patch, true),
            None => (patch, false),
        };
        let is_number = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && (part == "0" || !part.starts_with('0'))
        };
        if !is_number(patch) || minor != "0" || (is_prerelease && patch == "0") {
            return None;
        }
        match major {
            "1" => Some(Self::V1),
            "2" => Some(Self::V2),
            _ => None,
        }
    }
}

/// A topic as it stands on the wire, e.g. `realtime:room`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Topic(Arc<str>);

impl Topic {
    const PREFIX: &str = "realtime:";
    const PHOENIX: &str = "phoenix";

    /// Wraps a topic, verbatim.
    #[must_use]
    pub fn new(topic: &str) -> Self {
        Self(topic.into())
    }

    /// The topic of this sub-topic, which is how applications and the database name topics.
    #[must_use]
    pub fn of_sub_topic(sub_topic: &str) -> Self {
        Self([Self::PREFIX, sub_topic].concat().into())
    }

    /// The whole topic.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the first `realtime:`; `None` for topics that can hold no channel.
    #[must_use]
    pub fn sub_topic(&self) -> Option<&str> {
        self.0.strip_prefix(Self::PREFIX)
    }

    /// Whether this is the topic heartbeats are sent on.
    #[must_use]
    pub fn is_phoenix(&self) -> bool {
        &*self.0 == Self::PHOENIX
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A `ref` or `join_ref`: chosen by the client, echoed as given, compared by value.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub enum Reference {
    /// `null`, or absent where that is allowed.
    #[default]
    Null,
    /// A string, decoded.
    Text(Box<str>),
    /// A number, digit for digit.
    Number(Box<str>),
}

impl Reference {
    /// A string reference.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// Whether the client gave none.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// How many bytes it keeps in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Text(text) | Self::Number(text) => text.len(),
        }
    }

    /// Whether it holds no bytes: null or the empty string.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a client sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientMessage {
    /// The join this message belongs to, as far as the client says.
    pub join_ref: Reference,
    /// The message's own `ref`, for the reply.
    pub reference: Reference,
    /// Where it was sent to.
    pub topic: Topic,
    /// What it asks for.
    pub event: ClientEvent,
    /// With which words.
    pub payload: ClientPayload,
}

/// The events a client can send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientEvent {
    /// `heartbeat`
    Heartbeat,
    /// `phx_join`
    Join,
    /// `phx_leave`
    Leave,
    /// `access_token`
    AccessToken,
    /// `broadcast`
    Broadcast,
    /// `presence`
    Presence,
    /// Anything else; it means nothing to the server.
    Other(Box<str>),
}

impl ClientEvent {
    /// Recognises the name of an event.
    #[must_use]
    pub fn new(name: &str) -> Self {
        match name {
            "heartbeat" => Self::Heartbeat,
            "phx_join" => Self::Join,
            "phx_leave" => Self::Leave,
            "access_token" => Self::AccessToken,
            "broadcast" => Self::Broadcast,
            "presence" => Self::Presence,
            other => Self::Other(other.into()),
        }
    }

    /// The event's name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Join => "phx_join",
            Self::Leave => "phx_leave",
            Self::AccessToken => "access_token",
            Self::Broadcast => "broadcast",
            Self::Presence => "presence",
            Self::Other(name) => name,
        }
    }
}

/// The payload of a client's message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientPayload {
    /// JSON, from a text frame.
    Json(RawJson),
    /// A broadcast whose content the server does not look into: binary frame, kind 3.
    UserBroadcast(UserBroadcast),
    /// Opaque bytes: binary frame, kind 0.
    Push(Bytes),
}

/// A broadcast named by the user, its content untouched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserBroadcast {
    /// The user's name for it.
    pub event: Box<str>,
    /// Remarks for the other side, a JSON object.
    pub metadata: Option<RawJson>,
    /// How the payload is to be read.
    pub encoding: Encoding,
    /// The content; claimed, but not checked, to be JSON when `encoding` says so.
    pub payload: Bytes,
}

/// How the payload of a user broadcast is to be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// Opaque bytes.
    Binary,
    /// JSON text.
    Json,
}

/// What the server says to one client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerMessage {
    /// `phx_reply`
    Reply {
        /// The join the reply belongs to.
        join_ref: Reference,
        /// The `ref` of the message that is answered.
        reference: Reference,
        /// Where that message was sent to.
        topic: Topic,
        /// The answer.
        reply: Reply,
    },
    /// `system`: a remark about the channel.
    System {
        /// The join of the channel.
        join_ref: Reference,
        /// The channel's topic.
        topic: Topic,
        /// Which part of the server speaks.
        extension: Extension,
        /// Whether all is well.
        status: Status,
        /// What there is to say.
        message: String,
    },
    /// `phx_close`: the channel is gone.
    Close {
        /// The join of the channel; also sent as `ref`.
        join_ref: Reference,
        /// The channel's topic.
        topic: Topic,
    },
    /// `phx_error`: the channel failed; clients join again.
    Error {
        /// The join of the channel; also sent as `ref`.
        join_ref: Reference,
        /// The channel's topic.
        topic: Topic,
    },
    /// Any other event, with a payload that is ready.
    Push {
        /// The join of the channel; null for what is the same for all clients.
        join_ref: Reference,
        /// The channel's topic.
        topic: Topic,
        /// The event's name.
        event: Arc<str>,
        /// A JSON object.
        payload: RawJson,
    },
    /// A broadcast in the form that keeps its content untouched: kind 4, or text on V1.
    UserBroadcast {
        /// The channel's topic.
        topic: Topic,
        /// The broadcast.
        broadcast: UserBroadcast,
    },
}

/// The answer in a `phx_reply`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// Done; nothing to add.
    Ok,
    /// The channel exists; the echo of its bindings with their ids, a JSON array.
    Joined {
        /// The value of `response.postgres_changes`.
        postgres_changes: RawJson,
    },
    /// It cannot be done; sent as `{}`.
    Refused,
    /// It cannot be done; sent as `{"reason": …}`.
    Error {
        /// Why, e.g. `Code: text`.
        reason: String,
    },
}

/// Which part of the server a `system` message comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extension {
    /// `system`
    System,
    /// `postgres_changes`
    PostgresChanges,
}

impl Extension {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::PostgresChanges => "postgres_changes",
        }
    }
}

/// The `status` of a reply or a `system` message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// `ok`
    Ok,
    /// `error`
    Error,
}

impl Status {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// Why a frame is no message; it is counted and dropped, the connection stays.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum MalformedFrame {
    /// Not JSON, or not UTF-8.
    NotJson,
    /// A V1 message that is no object, or a V2 message that is no array.
    WrongShape,
    /// A V1 object without one of `topic`, `event`, `payload`, `ref`.
    MissingKey,
    /// A V2 array of fewer than five elements.
    TooFewElements,
    /// A `ref` or `join_ref` that is neither null, a string nor a number.
    BadReference,
    /// A binary frame of a kind that clients do not send.
    UnknownKind,
    /// A binary frame shorter than its lengths say.
    TooShort,
    /// A text field of a binary frame that is not UTF-8, or metadata that is no JSON object.
    BadField,
}

impl MalformedFrame {
    /// A short name for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::WrongShape => "wrong_shape",
            Self::MissingKey => "missing_key",
            Self::TooFewElements => "too_few_elements",
            Self::BadReference => "bad_reference",
            Self::UnknownKind => "unknown_kind",
            Self::TooShort => "too_short",
            Self::BadField => "bad_field",
        }
    }
}

impl fmt::Display for MalformedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotJson => "frame is not valid JSON",
            Self::WrongShape => {
                "frame has the wrong shape: vsn=1.0.0 sends objects, vsn=2.0.0 arrays"
            }
            Self::MissingKey => "message lacks one of the keys topic, event, payload, ref",
            Self::TooFewElements => "message array has fewer than five elements",
            Self::BadReference => "ref and join_ref must be strings, numbers or null",
            Self::UnknownKind => "binary frame is of a kind that clients do not send",
            Self::TooShort => "binary frame is shorter than its length fields say",
            Self::BadField => "binary frame holds a field that is not the text or JSON it must be",
        })
    }
}

impl std::error::Error for MalformedFrame {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_follows_from_vsn() {
        use Version::{V1, V2};
        let check = |vsn, expected| assert_eq!(Version::from_vsn(vsn), expected, "{vsn:?}");
        check(None, Some(V1));
        check(Some("1.0.0"), Some(V1));
        check(Some("1.0.17"), Some(V1));
        check(Some("2.0.0"), Some(V2));
        check(Some("2.0.1-rc.1"), Some(V2));
        check(Some("2.0.0+build"), Some(V2));
        for bad in [
            "", "1", "2", "2.0", "1.1.0", "2.1.0", "3.0.0", "x", "2.0.x", "2.0.0-rc", "2.0.00",
            "2.0.0-",
        ] {
            check(Some(bad), None);
        }
    }

    #[test]
    fn the_sub_topic_is_what_follows_the_first_prefix() {
        let check =
            |topic, expected| assert_eq!(Topic::new(topic).sub_topic(), expected, "{topic}");
        check("realtime:room", Some("room"));
        check("realtime:room:1", Some("room:1"));
        check("realtime:realtime:x", Some("realtime:x"));
        check("realtime:", Some(""));
        check("phoenix", None);
        check("room", None);
    }
}
