//! Broadcasts: who is told, what the sender hears, what is refused.

use walcast_protocol::broadcast::BroadcastFault;

use super::*;
use crate::BroadcastRefusal;

const NOTHING: [&str; 0] = [];
const ACKNOWLEDGED: &str = r#"{"broadcast":{"ack":true}}"#;
const PUSH: &str = r#"["1","2","realtime:room","broadcast",{"event":"e","payload":{"x":1.0}}]"#;
const TEXT: &str = r#"[null,null,"realtime:room","broadcast",{"event":"e","payload":{"x":1.0}}]"#;
const OK: &str = r#"["1","2","realtime:room","phx_reply",{"status":"ok","response":{}}]"#;

fn refused_with(reason: &str) -> String {
    format!(
        r#"["1","2","realtime:room","phx_reply",{{"status":"error","response":{{"reason":"{reason}"}}}}]"#
    )
}

/// A frame of kind 3 on `realtime:room`, join_ref 1, ref 2, event `e`, metadata `{}`.
fn binary(encoding: u8, payload: &[u8]) -> Bytes {
    let head = [3, 1, 1, 13, 1, 2, encoding];
    [&head[..], b"12realtime:roome{}", payload].concat().into()
}

impl Client {
    fn send_binary(&mut self, frame: Bytes) -> Vec<String> {
        let message = frame::decode(Version::V2, &Frame::Binary(frame)).unwrap();
        self.handle(Input::Message(message))
    }
}

#[test]
fn the_join_decides_what_the_sender_hears() {
    let check = |config: &str, expected: &[&str]| {
        assert_eq!(Client::joined(config).send(PUSH), expected, "{config}");
    };
    let (others, all) = (format!("tell others 1: {TEXT}"), format!("tell all 1: {TEXT}"));
    check("{}", &[&others]);
    check(r#"{"broadcast":{"self":true}}"#, &[&all]);
    check(ACKNOWLEDGED, &[&others, OK]);
    check(r#"{"broadcast":{"self":true,"ack":true}}"#, &[&all, OK]);
}

#[test]
fn a_stale_or_missing_join_ref_makes_no_difference() {
    for join_ref in ["null", "\"0\"", "7"] {
        let mut client = Client::joined(ACKNOWLEDGED);
        let lines = client.send(&PUSH.replacen("\"1\"", join_ref, 1));
        assert_eq!(lines, [format!("tell others 1: {TEXT}"), OK.to_owned()], "{join_ref}");
    }
}

#[test]
fn binary_frames_keep_their_content_and_lose_their_metadata() {
    for (encoding, payload) in [(0, &b"\0\x01"[..]), (0, b""), (1, b"{\"x\": 1}"), (1, b"[]")] {
        let mut client = Client::joined(ACKNOWLEDGED);
        let told = [&[4, 13, 1, 0, encoding][..], b"realtime:roome", payload].concat();
        let told = String::from_utf8(told).unwrap();
        let lines = client.send_binary(binary(encoding, payload));
        assert_eq!(lines, [format!("tell others 1: {told}"), OK.to_owned()]);
    }
}

#[test]
fn what_is_no_broadcast_goes_to_nobody() {
    let check = |config: &str, fault: BroadcastFault, expected: &[String]| {
        let mut client = Client::joined(config);
        let lines = match fault {
            BroadcastFault::NotAnObject => {
                client.send(r#"["1","2","realtime:room","broadcast",["x"]]"#)
            }
            BroadcastFault::NotJson => client.send_binary(binary(1, b"{")),
            BroadcastFault::Opaque => client.send_binary(Bytes::from_static(
                b"\x00\x01\x01\x0d\x0912realtime:roombroadcastxyz",
            )),
        };
        assert_eq!(lines, expected, "{fault:?}");
        let refusal = BroadcastRefusal::Malformed(fault);
        assert_eq!(client.events(), [Event::BroadcastRefused(refusal)]);
        assert!(client.session.is_open(ChannelId(1)));
    };
    for fault in [BroadcastFault::NotAnObject, BroadcastFault::NotJson, BroadcastFault::Opaque] {
        check("{}", fault, &[]);
        let reason = format!("UnableToHandleBroadcast: {}", fault.as_str());
        check(ACKNOWLEDGED, fault, &[refused_with(&reason)]);
    }
}

#[test]
fn a_payload_that_is_too_large_goes_to_nobody() {
    let limits = Limits { payload_bytes_max: 30, ..Limits::default() };
    let mut client = Client::new(Version::V2, limits);
    client.join("1", "room", ACKNOWLEDGED);
    client.events();
    let refusal = [refused_with("payload_size_exceeded")];
    assert_eq!(client.send_binary(binary(0, &[b'x'; 30])).len(), 2);
    assert_eq!(client.send_binary(binary(0, &[b'x'; 31])), refusal);
    let text = |n: usize| {
        format!(r#"["1","2","realtime:room","broadcast",{{"x":"{}"}}]"#, "y".repeat(n - 8))
    };
    assert_eq!(client.send(&text(30)).len(), 2);
    assert_eq!(client.send(&text(31)), refusal);
    let too_large = Event::BroadcastRefused(BroadcastRefusal::TooLarge);
    assert_eq!(client.events(), [too_large, too_large]);
    assert!(client.session.is_open(ChannelId(1)));
}

#[test]
fn sending_too_fast_closes_the_channel_of_the_sender() {
    let limits = Limits { events_per_second: 1, events_burst: 2, ..Limits::default() };
    let mut client = Client::new(Version::V2, limits);
    client.join("1", "room", ACKNOWLEDGED);
    client.join("3", "other", "{}");
    assert_eq!(client.send(PUSH).len(), 2);
    assert_eq!(client.send(PUSH).len(), 2);
    assert_eq!(
        client.send(PUSH),
        [system("system", "error", "Too many messages per second"), closed("1", "room")]
    );
    assert!(client.events().contains(&Event::BroadcastRefused(BroadcastRefusal::TooMany)));
    // The other channel is still there, and after a second so is a token.
    client.pass(1);
    let other = r#"["3","4","realtime:other","broadcast",{}]"#;
    assert_eq!(client.send(other).len(), 1);
    assert_eq!(
        client.send(other),
        [
            r#"["3",null,"realtime:other","system",{"extension":"system","status":"error","message":"Too many messages per second","channel":"other"}]"#.to_owned(),
            closed("3", "other")
        ]
    );
}

#[test]
fn nobody_speaks_where_they_have_not_joined() {
    let unmatched = r#"[null,"2","realtime:room","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#;
    let mut client = Client::v2();
    assert_eq!(client.send(PUSH), [unmatched]);
    // A join that waits for its subscription has not been replied to.
    client.join(
        "1",
        "room",
        r#"{"postgres_changes":[{"table":"t"}],"postgres_changes_options":{"wait":true}}"#,
    );
    assert_eq!(client.send(PUSH), [unmatched]);
    client.subscribed(1, 1, Ok(()));
    assert_eq!(client.send(PUSH).len(), 1);
    client.send(r#"["1","3","realtime:room","phx_leave",{}]"#);
    assert_eq!(client.send(PUSH), [unmatched]);
    assert_eq!(client.send_binary(binary(1, b"{}")), [unmatched]);
}

#[test]
fn old_clients_broadcast_as_well() {
    let mut client = Client::v1();
    client.send(
        r#"{"topic":"realtime:room","event":"phx_join","payload":{"config":{"broadcast":{"ack":true}}},"ref":"1"}"#,
    );
    let push = r#"{"topic":"realtime:room","event":"broadcast","payload":{"x":1},"ref":"2"}"#;
    assert_eq!(
        client.send(push),
        [
            r#"tell others 1: [null,null,"realtime:room","broadcast",{"x":1}]"#,
            r#"{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"2","topic":"realtime:room"}"#
        ]
    );
    assert_eq!(client.send("{}"), NOTHING);
}
