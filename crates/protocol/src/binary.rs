//! The binary frames of V2, kinds 0 to 4.
//!
//! ```text
//! client → server   0 push                  join_ref, ref, topic, event | data
//!                   3 user broadcast push   join_ref, ref, topic, event, metadata | encoding | payload
//! server → client   0 push                  join_ref, topic, event | data
//!                   1 reply                 join_ref, ref, topic, status | data
//!                   2 broadcast             topic, event | data
//!                   4 user broadcast        topic, event, metadata | encoding | payload
//! ```
//!
//! A frame is the kind, one byte of length per field, (the encoding,) the fields, and the rest.
//! Clients understand kind 4 only; the other kinds of the server are here for completeness.

use std::str;

use bytes::Bytes;

use crate::{
    message::{
        ClientEvent, ClientMessage, ClientPayload, Encoding, MalformedFrame, Reference, Topic,
        UserBroadcast,
    },
    raw_json::RawJson,
};

const PUSH: u8 = 0;
const REPLY: u8 = 1;
const BROADCAST: u8 = 2;
const USER_BROADCAST_PUSH: u8 = 3;
const USER_BROADCAST: u8 = 4;

/// A frame of the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerFrame {
    /// Kind 0: an event on a channel.
    Push {
        /// The join of the channel.
        join_ref: Box<str>,
        /// The channel's topic.
        topic: Topic,
        /// The event's name.
        event: Box<str>,
        /// The payload.
        data: Bytes,
    },
    /// Kind 1: an answer.
    Reply {
        /// The join of the channel.
        join_ref: Box<str>,
        /// The `ref` of the message that is answered.
        reference: Box<str>,
        /// The channel's topic.
        topic: Topic,
        /// `ok` or `error`.
        status: Box<str>,
        /// The payload.
        data: Bytes,
    },
    /// Kind 2: an event for all on a topic.
    Broadcast {
        /// The topic.
        topic: Topic,
        /// The event's name.
        event: Box<str>,
        /// The payload.
        data: Bytes,
    },
    /// Kind 4: a broadcast named by the user.
    UserBroadcast {
        /// The topic.
        topic: Topic,
        /// The broadcast.
        broadcast: UserBroadcast,
    },
}

/// Reads a client's frame; the payload shares the frame's memory.
pub fn decode(frame: &Bytes) -> Result<ClientMessage, MalformedFrame> {
    let mut reader = Reader { frame, position: 0 };
    match reader.byte()? {
        PUSH => {
            let [join_ref, reference, topic, event] = reader.lengths()?;
            Ok(ClientMessage {
                join_ref: Reference::text(reader.text(join_ref)?),
                reference: Reference::text(reader.text(reference)?),
                topic: Topic::new(reader.text(topic)?),
                event: ClientEvent::new(reader.text(event)?),
                payload: ClientPayload::Push(reader.rest()),
            })
        }
        USER_BROADCAST_PUSH => {
            let [join_ref, reference, topic, event, metadata] = reader.lengths()?;
            let encoding = reader.encoding()?;
            Ok(ClientMessage {
                join_ref: Reference::text(reader.text(join_ref)?),
                reference: Reference::text(reader.text(reference)?),
                topic: Topic::new(reader.text(topic)?),
                event: ClientEvent::Broadcast,
                payload: ClientPayload::UserBroadcast(reader.broadcast(event, metadata, encoding)?),
            })
        }
        _ => Err(MalformedFrame::UnknownKind),
    }
}

/// Writes a client's frame, as test clients send it.
///
/// `None` when it cannot be framed: the payload is JSON, or a field is longer than 255 bytes.
#[must_use]
pub fn encode_client(message: &ClientMessage) -> Option<Bytes> {
    let reference = |reference: &Reference| match reference {
        Reference::Null => Box::from(""),
        Reference::Text(text) | Reference::Number(text) => text.clone(),
    };
    let (join_ref, own_ref) = (reference(&message.join_ref), reference(&message.reference));
    let topic = message.topic.as_str();
    match &message.payload {
        ClientPayload::Json(_) => None,
        ClientPayload::Push(data) => {
            write(PUSH, &[&join_ref, &own_ref, topic, message.event.as_str()], None, data)
        }
        ClientPayload::UserBroadcast(broadcast) => {
            let metadata = metadata_text(broadcast);
            let fields = [&*join_ref, &own_ref, topic, &broadcast.event, metadata];
            write(USER_BROADCAST_PUSH, &fields, Some(broadcast.encoding), &broadcast.payload)
        }
    }
}

impl ServerFrame {
    /// Reads a server's frame, as test clients do.
    pub fn decode(frame: &Bytes) -> Result<Self, MalformedFrame> {
        let mut reader = Reader { frame, position: 0 };
        match reader.byte()? {
            PUSH => {
                let [join_ref, topic, event] = reader.lengths()?;
                Ok(Self::Push {
                    join_ref: reader.text(join_ref)?.into(),
                    topic: Topic::new(reader.text(topic)?),
                    event: reader.text(event)?.into(),
                    data: reader.rest(),
                })
            }
            REPLY => {
                let [join_ref, reference, topic, status] = reader.lengths()?;
                Ok(Self::Reply {
                    join_ref: reader.text(join_ref)?.into(),
                    reference: reader.text(reference)?.into(),
                    topic: Topic::new(reader.text(topic)?),
                    status: reader.text(status)?.into(),
                    data: reader.rest(),
                })
            }
            BROADCAST => {
                let [topic, event] = reader.lengths()?;
                Ok(Self::Broadcast {
                    topic: Topic::new(reader.text(topic)?),
                    event: reader.text(event)?.into(),
                    data: reader.rest(),
                })
            }
            USER_BROADCAST => {
                let [topic, event, metadata] = reader.lengths()?;
                let encoding = reader.encoding()?;
                Ok(Self::UserBroadcast {
                    topic: Topic::new(reader.text(topic)?),
                    broadcast: reader.broadcast(event, metadata, encoding)?,
                })
            }
            _ => Err(MalformedFrame::UnknownKind),
        }
    }

    /// Writes the frame; `None` when a field is longer than 255 bytes.
    #[must_use]
    pub fn encode(&self) -> Option<Bytes> {
        match self {
            Self::Push { join_ref, topic, event, data } => {
                write(PUSH, &[join_ref, topic.as_str(), event], None, data)
            }
            Self::Reply { join_ref, reference, topic, status, data } => {
                write(REPLY, &[join_ref, reference, topic.as_str(), status], None, data)
            }
            Self::Broadcast { topic, event, data } => {
                write(BROADCAST, &[topic.as_str(), event], None, data)
            }
            Self::UserBroadcast { topic, broadcast } => user_broadcast(topic, broadcast),
        }
    }
}

/// Writes kind 4; `None` when a field is longer than 255 bytes.
pub(crate) fn user_broadcast(topic: &Topic, broadcast: &UserBroadcast) -> Option<Bytes> {
    let fields = [topic.as_str(), &*broadcast.event, metadata_text(broadcast)];
    write(USER_BROADCAST, &fields, Some(broadcast.encoding), &broadcast.payload)
}

fn metadata_text(broadcast: &UserBroadcast) -> &str {
    let bytes = broadcast.metadata.as_ref().map_or(&b""[..], RawJson::as_bytes);
    str::from_utf8(bytes).unwrap_or_default()
}

fn write(kind: u8, fields: &[&str], encoding: Option<Encoding>, data: &[u8]) -> Option<Bytes> {
    let length: usize = fields.iter().map(|field| field.len()).sum();
    let mut out = Vec::with_capacity(2 + fields.len() + length + data.len());
    out.push(kind);
    for field in fields {
        out.push(u8::try_from(field.len()).ok()?);
    }
    if let Some(encoding) = encoding {
        out.push(match encoding {
            Encoding::Binary => 0,
            Encoding::Json => 1,
        });
    }
    for field in fields {
        out.extend_from_slice(field.as_bytes());
    }
    out.extend_from_slice(data);
    Some(Bytes::from(out))
}

/// The only place that knows positions.
struct Reader<'a> {
    frame: &'a Bytes,
    position: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, MalformedFrame> {
        let byte = *self.frame.get(self.position).ok_or(MalformedFrame::TooShort)?;
        self.position += 1;
        Ok(byte)
    }

    fn lengths<const N: usize>(&mut self) -> Result<[usize; N], MalformedFrame> {
        let mut lengths = [0; N];
        for length in &mut lengths {
            *length = self.byte()?.into();
        }
        Ok(lengths)
    }

    fn encoding(&mut self) -> Result<Encoding, MalformedFrame> {
        Ok(if self.byte()? == 0 { Encoding::Binary } else { Encoding::Json })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], MalformedFrame> {
        let end = self.position + length;
        let bytes = self.frame.get(self.position..end).ok_or(MalformedFrame::TooShort)?;
        self.position = end;
        Ok(bytes)
    }

    fn text(&mut self, length: usize) -> Result<&'a str, MalformedFrame> {
        str::from_utf8(self.take(length)?).map_err(|_| MalformedFrame::BadField)
    }

    fn rest(&self) -> Bytes {
        self.frame.slice(self.position.min(self.frame.len())..)
    }

    fn broadcast(
        &mut self,
        event: usize,
        metadata: usize,
        encoding: Encoding,
    ) -> Result<UserBroadcast, MalformedFrame> {
        let event = self.text(event)?.into();
        let metadata = match self.take(metadata)? {
            [] => None,
            bytes => {
                let json = RawJson::parse(&self.frame.slice_ref(bytes));
                Some(json.filter(RawJson::is_object).ok_or(MalformedFrame::BadField)?)
            }
        };
        Ok(UserBroadcast { event, metadata, encoding, payload: self.rest() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_oneof, proptest};

    use super::*;

    fn bytes(hex: &str) -> Bytes {
        hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    fn broadcast(
        event: &str,
        metadata: Option<&'static str>,
        encoding: Encoding,
        payload: &'static [u8],
    ) -> UserBroadcast {
        UserBroadcast {
            event: event.into(),
            metadata: metadata.map(|text| RawJson::parse(&Bytes::from(text)).unwrap()),
            encoding,
            payload: Bytes::from_static(payload),
        }
    }

    fn from_client(event: ClientEvent, topic: &str, payload: ClientPayload) -> ClientMessage {
        let (join_ref, reference) = match topic {
            "topic" => ("12", "123"),
            _ => ("1", "2"),
        };
        ClientMessage {
            join_ref: Reference::text(join_ref),
            reference: Reference::text(reference),
            topic: Topic::new(topic),
            event,
            payload,
        }
    }

    #[test]
    fn frames_of_clients_are_read_and_written() {
        let check = |hex: &str, expected: ClientMessage| {
            assert_eq!(decode(&bytes(hex)).as_ref(), Ok(&expected));
            assert_eq!(encode_client(&expected), Some(bytes(hex)));
        };
        check(
            "03 02 03 05 0a 00 00 31 32 31 32 33 74 6f 70 69 63 75 73 65 72 5f 65 76 65 6e 74 65 66 67",
            from_client(
                ClientEvent::Broadcast,
                "topic",
                ClientPayload::UserBroadcast(broadcast(
                    "user_event",
                    None,
                    Encoding::Binary,
                    b"efg",
                )),
            ),
        );
        check(
            "03 01 01 0d 06 00 01 31 32 72 65 61 6c 74 69 6d 65 3a 72 6f 6f 6d 63 75 72 73 6f 72 7b 22 \
             78 22 3a 31 7d",
            from_client(
                ClientEvent::Broadcast,
                "realtime:room",
                ClientPayload::UserBroadcast(broadcast(
                    "cursor",
                    None,
                    Encoding::Json,
                    b"{\"x\":1}",
                )),
            ),
        );
        check(
            "00 02 03 05 05 31 32 31 32 33 74 6f 70 69 63 65 76 65 6e 74 65 66 67",
            from_client(
                ClientEvent::new("event"),
                "topic",
                ClientPayload::Push(Bytes::from_static(b"efg")),
            ),
        );
    }

    #[test]
    fn frames_of_the_server_are_written_and_read() {
        let check = |frame: ServerFrame, hex: &str| {
            assert_eq!(frame.encode(), Some(bytes(hex)));
            assert_eq!(ServerFrame::decode(&bytes(hex)), Ok(frame));
        };
        let user_broadcast = |topic, event, metadata, encoding, payload| {
            let broadcast = broadcast(event, metadata, encoding, payload);
            ServerFrame::UserBroadcast { topic: Topic::new(topic), broadcast }
        };
        check(
            user_broadcast("realtime:room", "cursor", None, Encoding::Json, b"{\"x\":1}"),
            "04 0d 06 00 01 72 65 61 6c 74 69 6d 65 3a 72 6f 6f 6d 63 75 72 73 6f 72 7b 22 78 22 3a 31 7d",
        );
        let replayed = Some(r#"{"replayed":true}"#);
        check(
            user_broadcast("topic", "user_event", replayed, Encoding::Binary, b"efg"),
            "04 05 0a 11 00 74 6f 70 69 63 75 73 65 72 5f 65 76 65 6e 74 7b 22 72 65 70 6c 61 79 65 64 \
             22 3a 74 72 75 65 7d 65 66 67",
        );
        check(
            user_broadcast(
                "realtime:room",
                "blob",
                Some(r#"{"id":"a"}"#),
                Encoding::Binary,
                b"\x01\x02\x03",
            ),
            "04 0d 04 0a 00 72 65 61 6c 74 69 6d 65 3a 72 6f 6f 6d 62 6c 6f 62 7b 22 69 64 22 3a 22 61 22 \
             7d 01 02 03",
        );
        let (topic, data) = (Topic::new("topic"), Bytes::from_static(b"efg"));
        let push = ServerFrame::Push {
            join_ref: "12".into(),
            topic: topic.clone(),
            event: "event".into(),
            data: data.clone(),
        };
        check(push, "00 02 05 05 31 32 74 6f 70 69 63 65 76 65 6e 74 65 66 67");
        let reply = ServerFrame::Reply {
            join_ref: "12".into(),
            reference: "123".into(),
            topic: topic.clone(),
            status: "ok".into(),
            data: data.clone(),
        };
        check(reply, "01 02 03 05 02 31 32 31 32 33 74 6f 70 69 63 6f 6b 65 66 67");
        let broadcast = ServerFrame::Broadcast { topic, event: "event".into(), data };
        check(broadcast, "02 05 05 74 6f 70 69 63 65 76 65 6e 74 65 66 67");
    }

    #[test]
    fn every_prefix_that_ends_within_the_fields_is_too_short() {
        // Header and fields; what follows is payload and may be of any length, even none.
        let frames = [
            (
                "03 02 03 05 0a 02 01 31 32 31 32 33 74 6f 70 69 63 75 73 65 72 5f 65 76 65 6e 74 7b 7d 65",
                29,
            ),
            ("00 02 03 05 05 31 32 31 32 33 74 6f 70 69 63 65 76 65 6e 74 65", 20),
        ];
        for (hex, length) in frames {
            let frame = bytes(hex);
            for end in 0..length {
                assert_eq!(decode(&frame.slice(..end)), Err(MalformedFrame::TooShort), "{end}");
            }
            assert!(decode(&frame.slice(..length)).is_ok());
        }
        let frame = bytes("04 05 05 02 01 74 6f 70 69 63 65 76 65 6e 74 7b 7d 31");
        for end in 0..17 {
            assert_eq!(
                ServerFrame::decode(&frame.slice(..end)),
                Err(MalformedFrame::TooShort),
                "{end}"
            );
        }
    }

    #[test]
    fn what_clients_do_not_send_is_refused() {
        let check = |hex, expected| assert_eq!(decode(&bytes(hex)), Err(expected), "{hex}");
        check("", MalformedFrame::TooShort);
        for kind in ["01", "02", "04", "05", "7b", "ff"] {
            check(kind, MalformedFrame::UnknownKind);
        }
        check("00 00 00 01 00 ff", MalformedFrame::BadField);
        check("03 00 00 01 01 01 00 74 65 7b", MalformedFrame::BadField);
        check("03 00 00 01 01 02 00 74 65 5b 5d", MalformedFrame::BadField);
    }

    #[test]
    fn any_encoding_but_0_is_json_and_empty_refs_are_empty_strings() {
        let message = decode(&bytes("03 00 00 01 01 00 07 74 65 31")).unwrap();
        assert_eq!(
            (message.join_ref, message.reference),
            (Reference::text(""), Reference::text(""))
        );
        let ClientPayload::UserBroadcast(broadcast) = message.payload else {
            panic!("expected a user broadcast")
        };
        assert_eq!(broadcast.encoding, Encoding::Json);
    }

    #[test]
    fn fields_longer_than_255_bytes_cannot_be_framed() {
        let event = |length: usize| "é".repeat(length / 2) + if length % 2 == 1 { "e" } else { "" };
        let frame = |length| ServerFrame::Broadcast {
            topic: Topic::new("t"),
            event: event(length).into(),
            data: Bytes::new(),
        };
        assert!(frame(255).encode().is_some());
        assert_eq!(frame(256).encode(), None);
    }

    fn short_texts() -> impl Strategy<Value = String> {
        any::<String>().prop_map(|text| {
            let mut text = text;
            while text.len() > 255 {
                text.pop();
            }
            text
        })
    }

    fn encodings() -> impl Strategy<Value = Encoding> {
        any::<bool>().prop_map(|is_json| if is_json { Encoding::Json } else { Encoding::Binary })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            join_ref in short_texts(),
            reference in short_texts(),
            topic in short_texts(),
            event in short_texts(),
            has_metadata in any::<bool>(),
            encoding in encodings(),
            payload in any::<Vec<u8>>(),
        ) {
            let metadata = has_metadata.then(RawJson::empty_object);
            let payload = Bytes::from(payload);
            let broadcast = UserBroadcast { event: (&*event).into(), metadata, encoding, payload };
            let topic = Topic::new(&topic);
            let message = |event, payload| ClientMessage {
                join_ref: Reference::text(&join_ref),
                reference: Reference::text(&reference),
                topic: topic.clone(),
                event,
                payload,
            };
            let push = ClientPayload::Push(broadcast.payload.clone());
            for message in [
                message(ClientEvent::Broadcast, ClientPayload::UserBroadcast(broadcast.clone())),
                message(ClientEvent::new(&event), push),
            ] {
                let frame = encode_client(&message).unwrap();
                assert_eq!(decode(&frame), Ok(message));
            }
            let frame = ServerFrame::UserBroadcast { topic, broadcast };
            assert_eq!(ServerFrame::decode(&frame.encode().unwrap()), Ok(frame));
        }

        #[test]
        fn any_bytes_are_survived(kind in prop_oneof![0_u8..5, any::<u8>()], rest in any::<Vec<u8>>()) {
            let frame: Bytes = std::iter::once(kind).chain(rest).collect();
            crate::fuzzing::binary_frame(&frame);
        }
    }
}
