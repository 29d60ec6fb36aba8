//! Earlier messages for a channel that asks for them.

use walcast_protocol::message::{Encoding, UserBroadcast};

use super::*;

const ASKED: &str = r#"{"broadcast":{"replay":{"since":5,"limit":100}}}"#;

/// A message that was found.
pub(super) fn message(id: &str) -> UserBroadcast {
    let metadata = Bytes::from(format!(r#"{{"replayed":true,"id":"{id}"}}"#));
    UserBroadcast {
        event: "e".into(),
        metadata: RawJson::parse(&metadata),
        encoding: Encoding::Json,
        payload: Bytes::from_static(b"{}"),
    }
}

fn client(replay_messages_max: u32) -> Client {
    let limits = Limits { has_public_replay: true, replay_messages_max, ..Limits::default() };
    Client::new(Version::V2, limits)
}

fn found(client: &mut Client, channel: u32, messages: Option<Vec<UserBroadcast>>) -> Vec<String> {
    client.handle(Input::Replayed { channel: ChannelId(channel), messages })
}

#[test]
fn messages_follow_the_reply_in_their_order() {
    let mut client = client(25);
    assert_eq!(client.join("1", "room", ASKED), ["replay 1 25 since 5"]);
    assert!(!client.session.is_open(ChannelId(1)));
    let lines = found(&mut client, 1, Some(vec![message("a"), message("b")]));
    assert!(lines[0].contains("phx_reply") && lines[0].contains("ok"), "{lines:?}");
    let replayed = |id: &str| {
        format!(
            r#"["1",null,"realtime:room","broadcast",{{"type":"broadcast","event":"e","payload":{{}},"meta":{{"replayed":true,"id":"{id}"}}}}]"#
        )
    };
    assert_eq!(lines[1..], [replayed("a"), replayed("b")]);
    assert!(client.session.is_open(ChannelId(1)));
    // An answer is taken once.
    assert!(found(&mut client, 1, Some(vec![message("c")])).is_empty());
}

#[test]
fn messages_wait_for_a_subscription_that_the_reply_waits_for() {
    let mut client = client(25);
    let config = r#"{"broadcast":{"replay":{}},"postgres_changes":[{"table":"t"}],"postgres_changes_options":{"wait":true}}"#;
    assert_eq!(client.join("1", "room", config), ["replay 1 10 since 0"]);
    let lines = found(&mut client, 1, Some(vec![message("a")]));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("subscribe 1#1"), "{lines:?}");
    let lines = client.subscribed(1, 1, Ok(()));
    assert!(lines[0].contains("phx_reply") && lines[1].contains("replayed"), "{lines:?}");
}

#[test]
fn a_join_is_refused_when_messages_cannot_be_read() {
    let mut client = client(25);
    client.join("1", "room", ASKED);
    let lines = found(&mut client, 1, None);
    assert!(
        lines[0].contains("UnableToReplayMessages: Realtime was unable to replay messages"),
        "{lines:?}"
    );
    assert_eq!(client.session.n_channels(), 0);
    assert!(client.waiting.is_empty());
}

#[test]
fn the_server_bounds_how_many_are_asked_for() {
    assert_eq!(client(1_000).join("1", "room", ASKED), ["replay 1 100 since 5"]);
    assert_eq!(client(3).join("1", "room", ASKED), ["replay 1 3 since 5"]);
}

#[test]
fn whoever_leaves_or_joins_anew_in_the_meantime_gets_nothing() {
    let mut client = client(25);
    client.join("1", "room", ASKED);
    assert_eq!(client.join("2", "room", ASKED), ["replay 2 25 since 5"]);
    assert!(found(&mut client, 1, Some(vec![message("a")])).is_empty());
    assert_eq!(client.waiting.len(), 1);
    client.send(r#"["2","3","realtime:room","phx_leave",{}]"#);
    assert!(client.waiting.is_empty());
    assert!(found(&mut client, 2, Some(vec![message("a")])).is_empty());
    assert_eq!(client.session.n_channels(), 0);
}
