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
