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
