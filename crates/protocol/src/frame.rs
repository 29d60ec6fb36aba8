//! Frames as they leave: the head of a channel around a payload that many share.

use bytes::Bytes;

use crate::{
    binary,
    message::{
        ClientMessage, Encoding, MalformedFrame, Reference, ServerMessage, Topic, UserBroadcast,
        Version,
    },
    raw_json::RawJson,
    text::{self, Head, push_string},
};

/// One WebSocket message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// A text message. What this crate puts here is UTF-8, since it is made of strings and JSON.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
}

impl Frame {
    /// The bytes of the message.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

/// Reads what a client sent. On V1, a binary frame is read as JSON, too.
pub fn decode(version: Version, frame: &Frame) -> Result<ClientMessage, MalformedFrame> {
    match (version, frame) {
        (Version::V2 | Version::V2Text, Frame::Binary(bytes)) => binary::decode(bytes),
        (Version::V1, Frame::Binary(bytes)) | (_, Frame::Text(bytes)) => {
            text::decode(version, bytes)
        }
    }
}

/// Writes what the server says.
///
/// `None` for a user broadcast that cannot reach this client: bytes on V1 or without binary frames,
/// bytes under a name that is too long to frame, or a payload that claims to be JSON and is not where it must be text.
#[must_use]
pub fn encode(version: Version, message: &ServerMessage) -> Option<Frame> {
    match message {
        ServerMessage::UserBroadcast { topic, broadcast } => {
            user_broadcast(version, topic, broadcast)
        }
        ServerMessage::Reply { .. }
        | ServerMessage::System { .. }
        | ServerMessage::Close { .. }
        | ServerMessage::Error { .. }
        | ServerMessage::Push { .. } => text::encode(version, message).map(Frame::Text),
    }
}

/// A `postgres_changes` message: `data`, the JSON object that all recipients share, with the ids of
/// the channel's bindings it concerns.
#[must_use]
pub fn postgres_changes(version: Version, topic: &Topic, ids: &[u32], data: &[u8]) -> Frame {
    changes(version, topic, "postgres_changes", data, 11 * ids.len() + 20, |out| {
        out.extend_from_slice(b"{\"ids\":[");
        for (position, id) in ids.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            push_number(out, *id);
        }
        out.extend_from_slice(b"],\"data\":");
        out.extend_from_slice(data);
        out.push(b'}');
    })
}

/// A change for a client of the interface of before 2022: the event is INSERT, UPDATE or DELETE, and
/// `data` is the whole payload.
#[must_use]
pub fn legacy_change(version: Version, topic: &Topic, event: &str, data: &[u8]) -> Frame {
    changes(version, topic, event, data, 0, |out| out.extend_from_slice(data))
}

fn changes(
    version: Version,
    topic: &Topic,
    event: &str,
    data: &[u8],
    around: usize,
    payload: impl FnOnce(&mut Vec<u8>),
) -> Frame {
    // Enough for the head unless the topic needs escapes; then the buffer grows once.
    let capacity = data.len() + around + topic.as_str().len() + event.len() + 48;
    let mut out = Vec::with_capacity(capacity);
    let null = Reference::Null;
    Head { join_ref: &null, reference: &null, topic, event }.write(version, &mut out, payload);
    Frame::Text(Bytes::from(out))
}

/// Appends the decimal digits: the formatting machinery costs more than the rest of the head.
fn push_number(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [b'0'; 10];
    let mut n_digits = 0;
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(number % 10).unwrap_or_default();
        n_digits += 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend(digits.into_iter().skip(digits.len() - n_digits));
}

fn user_broadcast(version: Version, topic: &Topic, broadcast: &UserBroadcast) -> Option<Frame> {
    if version == Version::V2
        && let Some(bytes) = binary::user_broadcast(topic, broadcast)
    {
        return Some(Frame::Binary(bytes));
    }
    match broadcast.encoding {
        Encoding::Binary => None,
        Encoding::Json => {
            // Checked here, so that no publisher can make the server send a broken text frame.
            let payload = RawJson::parse(&broadcast.payload)?;
            let null = Reference::Null;
            let head = Head { join_ref: &null, reference: &null, topic, event: "broadcast" };
            let mut out = Vec::with_capacity(payload.as_bytes().len() + 128);
            head.write(version, &mut out, |out| {
                out.extend_from_slice(b"{\"type\":\"broadcast\",\"event\":");
                push_string(out, &broadcast.event);
                out.extend_from_slice(b",\"payload\":");
                out.extend_from_slice(payload.as_bytes());
                if let Some(metadata) = &broadcast.metadata {
                    out.extend_from_slice(b",\"meta\":");
                    out.extend_from_slice(metadata.as_bytes());
                }
                out.push(b'}');
            });
            Some(Frame::Text(Bytes::from(out)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(frame: &Frame) -> &str {
        match frame {
            Frame::Text(bytes) => std::str::from_utf8(bytes).unwrap(),
            Frame::Binary(_) => panic!("expected a text frame"),
        }
    }

    #[test]
    fn changes_carry_their_ids_around_the_shared_data() {
        let check = |version, ids: &[u32], expected: &str| {
            let frame = postgres_changes(version, &Topic::new("realtime:a\"b"), ids, b"{\"x\":1}");
            assert_eq!(text(&frame), expected);
        };
        check(
            Version::V2,
            &[1, 4_294_967_295],
            r#"[null,null,"realtime:a\"b","postgres_changes",{"ids":[1,4294967295],"data":{"x":1}}]"#,
        );
        check(
            Version::V1,
            &[],
            r#"{"event":"postgres_changes","payload":{"ids":[],"data":{"x":1}},"ref":null,"topic":"realtime:a\"b"}"#,
        );
    }

    #[test]
    fn ids_are_written_as_they_are() {
        for number in [0, 1, 9, 10, 99, 100, 134_217_727, 1_000_000_000, u32::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn a_change_is_written_into_one_allocation() {
        let ids = [u32::MAX; 7];
        let frame = postgres_changes(Version::V1, &Topic::new("realtime:room"), &ids, &[b' '; 100]);
        let Frame::Text(bytes) = frame else { panic!("expected a text frame") };
        let around = 11 * ids.len() + 20;
        assert!(
            bytes.len() <= 100 + around + "realtime:room".len() + "postgres_changes".len() + 48
        );
    }

    #[test]
    fn old_clients_get_the_bare_data_under_its_own_event() {
        let topic = Topic::new("realtime:public:t");
        assert_eq!(
            text(&legacy_change(Version::V2, &topic, "INSERT", b"{}")),
            r#"[null,null,"realtime:public:t","INSERT",{}]"#
        );
        assert_eq!(
            text(&legacy_change(Version::V1, &topic, "DELETE", b"{}")),
            r#"{"event":"DELETE","payload":{},"ref":null,"topic":"realtime:public:t"}"#
        );
    }

    fn broadcast(event: &str, encoding: Encoding, payload: &'static [u8]) -> ServerMessage {
        let payload = Bytes::from_static(payload);
        let broadcast = UserBroadcast { event: event.into(), metadata: None, encoding, payload };
        ServerMessage::UserBroadcast { topic: Topic::new("realtime:r"), broadcast }
    }

    #[test]
    fn a_user_broadcast_takes_the_form_its_receiver_understands() {
        let json = broadcast("e", Encoding::Json, b" {\"x\":1} ");
        assert!(matches!(encode(Version::V2, &json), Some(Frame::Binary(_))));
        assert_eq!(
            text(&encode(Version::V1, &json).unwrap()),
            r#"{"event":"broadcast","payload":{"type":"broadcast","event":"e","payload":{"x":1}},"ref":null,"topic":"realtime:r"}"#
        );
        assert_eq!(encode(Version::V1, &broadcast("e", Encoding::Binary, b"\x01")), None);
        assert_eq!(encode(Version::V1, &broadcast("e", Encoding::Json, b"{broken")), None);
    }

    #[test]
    fn without_binary_frames_a_user_broadcast_is_an_array() {
        let json = broadcast("e", Encoding::Json, b" {\"x\":1} ");
        assert_eq!(
            text(&encode(Version::V2Text, &json).unwrap()),
            r#"[null,null,"realtime:r","broadcast",{"type":"broadcast","event":"e","payload":{"x":1}}]"#
        );
        assert_eq!(encode(Version::V2Text, &broadcast("e", Encoding::Binary, b"\x01")), None);
    }

    #[test]
    fn a_name_too_long_for_a_binary_frame_travels_as_text() {
        let long = "e".repeat(256);
        let frame = encode(Version::V2, &broadcast(&long, Encoding::Json, b"{}")).unwrap();
        assert!(text(&frame).starts_with(r#"[null,null,"realtime:r","broadcast",{"type""#));
        assert_eq!(encode(Version::V2, &broadcast(&long, Encoding::Binary, b"")), None);
    }
}
