//! Broadcasts: what one client or application says to all who joined a topic.

use std::sync::Arc;

use crate::{
    message::{ClientPayload, Encoding, Reference, ServerMessage, Topic, UserBroadcast},
    raw_json::RawJson,
    text::push_string,
};

/// The event of every broadcast in its text form.
const EVENT: &str = "broadcast";

/// Why a broadcast cannot be passed on.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum BroadcastFault {
    /// A text message whose payload is no JSON object.
    NotAnObject,
    /// A binary frame that claims to hold JSON and does not.
    NotJson,
    /// A binary frame of kind 0, which no client library could read on the other side.
    Opaque,
}

impl BroadcastFault {
    /// What is wrong, for the sender.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAnObject => "the payload of a broadcast must be a JSON object",
            Self::NotJson => "the payload of the broadcast is not the JSON its frame announces",
            Self::Opaque => "binary broadcasts must be frames of kind 3",
        }
    }
}

/// The size of what a broadcast carries, in bytes: of the JSON in a text message, of the content
/// alone in a binary frame.
#[must_use]
pub fn payload_size(payload: &ClientPayload) -> usize {
    match payload {
        ClientPayload::Json(json) => json.as_bytes().len(),
        ClientPayload::UserBroadcast(broadcast) => broadcast.payload.len(),
        ClientPayload::Push(bytes) => bytes.len(),
    }
}

/// What the others receive of a broadcast that a client sent on `topic`: a text message as a whole,
/// and of a binary frame all but its metadata, which is for the server.
///
/// # Errors
/// When the payload is not what it must be.
pub fn relay(topic: &Topic, payload: ClientPayload) -> Result<ServerMessage, BroadcastFault> {
    match payload {
        ClientPayload::Json(json) if json.is_object() => Ok(push(topic, json)),
        ClientPayload::Json(_) => Err(BroadcastFault::NotAnObject),
        ClientPayload::UserBroadcast(broadcast) => {
            user_broadcast(topic, UserBroadcast { metadata: None, ..broadcast })
        }
        ClientPayload::Push(_) => Err(BroadcastFault::Opaque),
    }
}

/// A broadcast with a name, in the form that keeps its content untouched.
///
/// # Errors
/// When it claims to be JSON and is not: every client would have to find out for itself.
pub fn user_broadcast(
    topic: &Topic,
    broadcast: UserBroadcast,
) -> Result<ServerMessage, BroadcastFault> {
    if broadcast.encoding == Encoding::Json && RawJson::parse(&broadcast.payload).is_none() {
        return Err(BroadcastFault::NotJson);
    }
    Ok(ServerMessage::UserBroadcast { topic: topic.clone(), broadcast })
}

/// A broadcast with a name in the text form:
/// `{"type":"broadcast","event":…,"payload":…,"meta":{"id":…}}`, `meta` only when there is an `id`.
#[must_use]
pub fn named(topic: &Topic, event: &str, payload: &RawJson, id: Option<&str>) -> ServerMessage {
    let mut out = Vec::with_capacity(payload.as_bytes().len() + event.len() + 64);
    out.extend_from_slice(b"{\"type\":\"broadcast\",\"event\":");
    push_string(&mut out, event);
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(payload.as_bytes());
    if let Some(id) = id {
        out.extend_from_slice(b",\"meta\":{\"id\":");
        push_string(&mut out, id);
        out.push(b'}');
    }
    out.push(b'}');
    // Made of strings and JSON, so nothing is lost.
    push(topic, RawJson::written(String::from_utf8_lossy(&out).into_owned()))
}

/// An earlier broadcast, told to one channel: JSON in the text form, with its metadata as `meta`;
/// bytes in the form that keeps them.
#[must_use]
pub fn replayed(topic: &Topic, join_ref: &Reference, broadcast: UserBroadcast) -> ServerMessage {
    let payload = match broadcast.encoding {
        Encoding::Json => RawJson::parse(&broadcast.payload),
        Encoding::Binary => None,
    };
    let Some(payload) = payload else {
        return ServerMessage::UserBroadcast { topic: topic.clone(), broadcast };
    };
    let mut out = Vec::with_capacity(payload.as_bytes().len() + broadcast.event.len() + 128);
    out.extend_from_slice(b"{\"type\":\"broadcast\",\"event\":");
    push_string(&mut out, &broadcast.event);
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(payload.as_bytes());
    if let Some(metadata) = &broadcast.metadata {
        out.extend_from_slice(b",\"meta\":");
        out.extend_from_slice(metadata.as_bytes());
    }
    out.push(b'}');
    ServerMessage::Push {
        join_ref: join_ref.clone(),
        topic: topic.clone(),
        event: Arc::from(EVENT),
        // Made of strings and JSON, so nothing is lost.
        payload: RawJson::written(String::from_utf8_lossy(&out).into_owned()),
    }
}

fn push(topic: &Topic, payload: RawJson) -> ServerMessage {
    ServerMessage::Push {
        join_ref: Reference::Null,
        topic: topic.clone(),
        event: Arc::from(EVENT),
        payload,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{frame, message::Version};

    fn topic() -> Topic {
        Topic::new("realtime:room")
    }

    fn json(text: &'static str) -> RawJson {
        RawJson::parse(&Bytes::from(text)).unwrap()
    }

    fn binary(encoding: Encoding, payload: &'static [u8]) -> ClientPayload {
        ClientPayload::UserBroadcast(UserBroadcast {
            event: "e".into(),
            metadata: Some(json(r#"{"persist":true}"#)),
            encoding,
            payload: Bytes::from_static(payload),
        })
    }

    /// The frames of both serialisers, `-` where there is none.
    fn frames(message: &ServerMessage) -> [String; 2] {
        [Version::V1, Version::V2].map(|version| {
            frame::encode(version, message).map_or_else(
                || "-".to_owned(),
                |frame| String::from_utf8(frame.bytes().to_vec()).unwrap(),
            )
        })
    }

    #[test]
    fn each_serialiser_gets_what_it_can_read() {
        let check = |payload, v1: &str, v2: &str| {
            assert_eq!(frames(&relay(&topic(), payload).unwrap()), [v1, v2]);
        };
        check(
            ClientPayload::Json(json(r#"{"x": 1.0, "type":"y"}"#)),
            r#"{"event":"broadcast","payload":{"x": 1.0, "type":"y"},"ref":null,"topic":"realtime:room"}"#,
            r#"[null,null,"realtime:room","broadcast",{"x": 1.0, "type":"y"}]"#,
        );
        check(
            binary(Encoding::Json, b" [1.0] "),
            r#"{"event":"broadcast","payload":{"type":"broadcast","event":"e","payload":[1.0]},"ref":null,"topic":"realtime:room"}"#,
            "\u{4}\u{d}\u{1}\u{0}\u{1}realtime:roome [1.0] ",
        );
        check(binary(Encoding::Binary, b"\0"), "-", "\u{4}\u{d}\u{1}\u{0}\u{0}realtime:roome\0");
    }

    #[test]
    fn what_is_replayed_says_so_and_belongs_to_its_join() {
        let check = |encoding, payload, expected: [&str; 2]| {
            let broadcast = UserBroadcast {
                event: "e".into(),
                metadata: Some(json(r#"{"replayed":true,"id":"x"}"#)),
                encoding,
                payload: Bytes::from_static(payload),
            };
            let join_ref = Reference::text("7");
            assert_eq!(frames(&replayed(&topic(), &join_ref, broadcast)), expected);
        };
        check(
            Encoding::Json,
            b"{\"a\": 1.0}",
            [
                r#"{"event":"broadcast","payload":{"type":"broadcast","event":"e","payload":{"a": 1.0},"meta":{"replayed":true,"id":"x"}},"ref":null,"topic":"realtime:room"}"#,
                r#"["7",null,"realtime:room","broadcast",{"type":"broadcast","event":"e","payload":{"a": 1.0},"meta":{"replayed":true,"id":"x"}}]"#,
            ],
        );
        let binary = "\u{4}\u{d}\u{1}\u{1a}\u{0}realtime:roome{\"replayed\":true,\"id\":\"x\"}\0";
        check(Encoding::Binary, b"\0", ["-", binary]);
    }

    #[test]
    fn what_is_no_broadcast_is_refused() {
        let check = |payload, fault| assert_eq!(relay(&topic(), payload), Err(fault));
        for text in ["[]", "null", "\"x\"", "5"] {
            check(ClientPayload::Json(json(text)), BroadcastFault::NotAnObject);
        }
        for bytes in [&b""[..], b"{", b"{}}", b"\xff", b"nul"] {
            check(binary(Encoding::Json, bytes), BroadcastFault::NotJson);
        }
        check(ClientPayload::Push(Bytes::new()), BroadcastFault::Opaque);
    }

    #[test]
    fn names_and_ids_are_written_as_json() {
        let message = named(&topic(), "a\"b", &json("{}"), Some("\n"));
        let expected = r#"[null,null,"realtime:room","broadcast",{"type":"broadcast","event":"a\"b","payload":{},"meta":{"id":"\n"}}]"#;
        assert_eq!(frames(&message)[1], expected);
        let message = named(&topic(), "é", &json("{}"), None);
        let expected = r#"[null,null,"realtime:room","broadcast",{"type":"broadcast","event":"é","payload":{}}]"#;
        assert_eq!(frames(&message)[1], expected);
    }
}
