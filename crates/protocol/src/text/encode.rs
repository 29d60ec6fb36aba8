//! Writing text frames.

use bytes::Bytes;

use crate::message::{
    ClientMessage, ClientPayload, Reference, Reply, ServerMessage, Status, Topic, Version,
};

/// Writes a client's message, as test clients send it; `None` when its payload is not JSON.
#[must_use]
pub fn encode_client(version: Version, message: &ClientMessage) -> Option<Bytes> {
    let ClientPayload::Json(payload) = &message.payload else { return None };
    let mut out = Vec::with_capacity(payload.as_bytes().len() + 128);
    let head = Head {
        join_ref: &message.join_ref,
        reference: &message.reference,
        topic: &message.topic,
        event: message.event.as_str(),
    };
    head.open(version, &mut out);
    out.extend_from_slice(payload.as_bytes());
    match version {
        Version::V1 => {
            head.close_v1(&mut out);
            out.pop();
            out.extend_from_slice(b",\"join_ref\":");
            push_reference(&mut out, &message.join_ref);
            out.push(b'}');
        }
        Version::V2 | Version::V2Text => head.close(version, &mut out),
    }
    Some(Bytes::from(out))
}

/// Writes a server's message; user broadcasts are written by [`crate::frame`].
pub(crate) fn encode(version: Version, message: &ServerMessage) -> Option<Bytes> {
    let mut out = Vec::with_capacity(256);
    let null = Reference::Null;
    match message {
        ServerMessage::Reply { join_ref, reference, topic, reply } => {
            let head = Head { join_ref, reference, topic, event: "phx_reply" };
            head.write(version, &mut out, |out| push_reply(out, reply));
        }
        ServerMessage::System { join_ref, topic, extension, status, message } => {
            let head = Head { join_ref, reference: &null, topic, event: "system" };
            head.write(version, &mut out, |out| {
                out.extend_from_slice(b"{\"extension\":\"");
                out.extend_from_slice(extension.as_str().as_bytes());
                out.extend_from_slice(b"\",\"status\":\"");
                out.extend_from_slice(status.as_str().as_bytes());
                out.extend_from_slice(b"\",\"message\":");
                push_string(out, message);
                out.extend_from_slice(b",\"channel\":");
                push_string(out, topic.sub_topic().unwrap_or(topic.as_str()));
                out.push(b'}');
            });
        }
        ServerMessage::Close { join_ref, topic } => {
            let head = Head { join_ref, reference: join_ref, topic, event: "phx_close" };
            head.write(version, &mut out, |out| out.extend_from_slice(b"{}"));
        }
        ServerMessage::Error { join_ref, topic } => {
            let head = Head { join_ref, reference: join_ref, topic, event: "phx_error" };
            head.write(version, &mut out, |out| out.extend_from_slice(b"{}"));
        }
        ServerMessage::Push { join_ref, topic, event, payload } => {
            let head = Head { join_ref, reference: &null, topic, event };
            head.write(version, &mut out, |out| out.extend_from_slice(payload.as_bytes()));
        }
        ServerMessage::UserBroadcast { .. } => return None,
    }
    Some(Bytes::from(out))
}

fn push_reply(out: &mut Vec<u8>, reply: &Reply) {
    let status = match reply {
        Reply::Ok | Reply::Joined { .. } => Status::Ok,
        Reply::Refused | Reply::Error { .. } => Status::Error,
    };
    out.extend_from_slice(b"{\"status\":\"");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b"\",\"response\":");
    match reply {
        Reply::Ok | Reply::Refused => out.extend_from_slice(b"{}"),
        Reply::Joined { postgres_changes } => {
            out.extend_from_slice(b"{\"postgres_changes\":");
            out.extend_from_slice(postgres_changes.as_bytes());
            out.push(b'}');
        }
        Reply::Error { reason } => {
            out.extend_from_slice(b"{\"reason\":");
            push_string(out, reason);
            out.push(b'}');
        }
    }
    out.push(b'}');
}

/// Everything of a text frame but its payload.
pub(crate) struct Head<'a> {
    pub(crate) join_ref: &'a Reference,
    pub(crate) reference: &'a Reference,
    pub(crate) topic: &'a Topic,
    pub(crate) event: &'a str,
}

impl Head<'_> {
    pub(crate) fn write(
        &self,
        version: Version,
        out: &mut Vec<u8>,
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        self.open(version, out);
        payload(out);
        self.close(version, out);
    }

    /// What precedes the payload.
    pub(crate) fn open(&self, version: Version, out: &mut Vec<u8>) {
        match version {
            Version::V1 => {
                out.extend_from_slice(b"{\"event\":");
                push_string(out, self.event);
                out.extend_from_slice(b",\"payload\":");
            }
            Version::V2 | Version::V2Text => {
                out.push(b'[');
                push_reference(out, self.join_ref);
                out.push(b',');
                push_reference(out, self.reference);
                out.push(b',');
                push_string(out, self.topic.as_str());
                out.push(b',');
                push_string(out, self.event);
                out.push(b',');
            }
        }
    }

    /// What follows it.
    pub(crate) fn close(&self, version: Version, out: &mut Vec<u8>) {
        match version {
            Version::V1 => self.close_v1(out),
            Version::V2 | Version::V2Text => out.push(b']'),
        }
    }

    /// On V1 the key `ref` is always there, and `join_ref` never.
    fn close_v1(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"ref\":");
        push_reference(out, self.reference);
        out.extend_from_slice(b",\"topic\":");
        push_string(out, self.topic.as_str());
        out.push(b'}');
    }
}

pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    // Writing a str to a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn push_reference(out: &mut Vec<u8>, reference: &Reference) {
    match reference {
        Reference::Null => out.extend_from_slice(b"null"),
        Reference::Text(text) => push_string(out, text),
        Reference::Number(digits) => out.extend_from_slice(digits.as_bytes()),
    }
}
