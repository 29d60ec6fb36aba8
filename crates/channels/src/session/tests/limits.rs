//! What happens at each bound.

use super::*;

const NOTHING: [&str; 0] = [];

#[test]
fn channels_are_counted_and_a_replaced_one_does_not_count() {
    let mut client = Client::new(Version::V2, Limits { channels_max: 2, ..Limits::default() });
    client.join("1", "a", "{}");
    client.join("2", "b", "{}");
    assert_eq!(
        client.join("3", "c", "{}"),
        [refused("3", "c", "ChannelRateLimitReached: Too many channels")]
    );
    assert_eq!(client.join("4", "b", "{}").len(), 2);
    client.send(r#"["1","5","realtime:a","phx_leave",{}]"#);
    assert_eq!(client.join("6", "c", "{}"), [joined("6", "c")]);
}

#[test]
fn joining_too_fast_closes_the_connection() {
    let limits = Limits { joins_per_second: 1, joins_burst: 2, ..Limits::default() };
    let mut client = Client::new(Version::V2, limits);
    client.join("1", "a", "{}");
    client.join("2", "a", "{}");
    assert_eq!(
        client.join("3", "b", "{}"),
        [
            refused("3", "b", "ClientJoinRateLimitReached: Too many joins per second"),
            "close 1001 too many joins".to_owned()
        ]
    );
    assert_eq!(client.join("4", "b", "{}"), NOTHING);
}

#[test]
fn joining_slowly_is_fine() {
    let limits = Limits { joins_per_second: 1, joins_burst: 1, ..Limits::default() };
    let mut client = Client::new(Version::V2, limits);
    for n in 0..20 {
        assert_eq!(client.join("1", &format!("{n}"), "{}").len(), 1);
        client.pass(1);
    }
    assert_eq!(client.session.n_channels(), 20);
}

#[test]
fn sizes_are_bounded() {
    let limits = Limits {
        topic_bytes_max: 20,
        join_payload_bytes_max: 100,
        token_bytes_max: 10,
        bindings_per_channel_max: 2,
        ..Limits::default()
    };
    let check = |frame: &str, reason: &str| {
        let mut client = Client::new(Version::V2, limits.clone());
        let lines = client.send(frame);
        assert_eq!(lines.len(), 1, "{frame}");
        assert!(lines[0].contains(reason), "{lines:?}");
        assert_eq!(client.session.n_channels(), 0);
    };
    check(
        r#"["1","1","realtime:0123456789ab","phx_join",{"config":{}}]"#,
        "TopicNameTooLong: Topic names must not exceed 20 bytes",
    );
    check(
        &format!(r#"["1","1","realtime:a","phx_join",{{"config":{{}},"x":"{}"}}]"#, "x".repeat(90)),
        "UnknownErrorOnChannel: join payload must not exceed 100 bytes",
    );
    check(
        r#"["1","1","realtime:a","phx_join",{"config":{},"access_token":"01234567890"}]"#,
        "MalformedJWT: The token provided is not a valid JWT",
    );
    check(
        r#"["1","1","realtime:a","phx_join",{"config":{"postgres_changes":[{},{},{}]}}]"#,
        "RealtimeDisabledForConfiguration: Too many postgres_changes bindings, at most 2 per channel",
    );
}

#[test]
fn messages_with_endless_refs_are_dropped() {
    let limits = Limits { reference_bytes_max: 5, ..Limits::default() };
    let mut client = Client::new(Version::V2, limits);
    for refs in [r#""123456",null"#, r#"null,"123456""#, "null,1234567"] {
        assert_eq!(client.send(&format!(r#"[{refs},"phoenix","heartbeat",{{}}]"#)), NOTHING);
        assert_eq!(client.events(), [Event::ReferenceTooLong]);
    }
    assert_eq!(client.send(r#"["12345",12345,"phoenix","heartbeat",{}]"#).len(), 1);
}

#[test]
fn an_endless_new_token_counts_as_malformed() {
    let limits = Limits { token_bytes_max: 10, ..Limits::default() };
    let mut client = Client::new(Version::V2, limits);
    client.join("1", "room", "{}");
    let renew = r#"["1","7","realtime:room","access_token",{"access_token":"01234567890"}]"#;
    assert_eq!(
        client.send(renew),
        [system("system", "error", "The token provided is not a valid JWT"), closed("1", "room")]
    );
}

#[test]
fn a_server_without_room_refuses_joins_and_leaves_the_channels_alone() {
    let mut client = Client::joined("{}");
    let join = r#"["2","2","realtime:hall","phx_join",{}]"#;
    assert_eq!(
        client.send_too_much(ServerLimit::ConcurrentUsers, join),
        [refused("2", "hall", "ConnectionRateLimitReached: Too many connected users")]
    );
    assert!(client.session.is_open(ChannelId(1)));
    // Also the channel of the same topic stays what it is.
    let again = r#"["3","3","realtime:room","phx_join",{}]"#;
    assert_eq!(
        client.send_too_much(ServerLimit::Joins, again),
        [
            refused("3", "room", "ClientJoinRateLimitReached: Too many joins per second"),
            "close 1001 too many joins".to_owned()
        ]
    );
    assert!(client.listening.is_empty(), "closing leaves the topics");
}

#[test]
fn a_server_without_room_for_a_broadcast_closes_its_channel() {
    let mut client = Client::joined("{}");
    client.join("2", "hall", "{}");
    let lines = client.send_too_much(
        ServerLimit::Events,
        r#"["1","3","realtime:room","broadcast",{"type":"broadcast","event":"e","payload":{}}]"#,
    );
    assert!(lines.iter().any(|line| line.contains("Too many messages per second")), "{lines:?}");
    assert!(!client.session.is_open(ChannelId(1)));
    assert!(client.session.is_open(ChannelId(2)));
    let elsewhere = r#"["9","9","realtime:nowhere","broadcast",{}]"#;
    let lines = client.send_too_much(ServerLimit::Events, elsewhere);
    assert!(lines.iter().all(|line| line.contains("unmatched topic")), "{lines:?}");
}

#[test]
fn who_has_left_all_channels_is_closed_after_a_while_and_who_never_had_one_is_not() {
    let limits = Limits { no_channel_timeout: Duration::from_secs(600), ..Limits::default() };
    let mut client = Client::new(Version::V2, limits);
    assert_eq!(client.pass(1_000), NOTHING);
    client.join("1", "a", "{}");
    assert_eq!(client.pass(1_000), NOTHING);
    client.send(r#"["1","2","realtime:a","phx_leave",{}]"#);
    assert_eq!(client.pass(599), NOTHING);
    client.join("3", "a", "{}");
    assert_eq!(client.pass(700), NOTHING);
    client.send(r#"["3","4","realtime:a","phx_leave",{}]"#);
    assert_eq!(client.pass(599), NOTHING);
    assert_eq!(client.pass(2), ["close 1000 "]);
}
