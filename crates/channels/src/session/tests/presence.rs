//! Presence: calls, their replies, their limits.

use super::*;

const ENABLED: &str = r#"{"presence":{"enabled":true,"key":"u1"}}"#;

/// A client whose channel 1 takes part in presence.
fn enabled() -> Client {
    Client::joined(ENABLED)
}

fn call(client: &mut Client, payload: &str) -> Vec<String> {
    client.send(&format!(r#"["1","9","realtime:room","presence",{payload}]"#))
}

fn track(client: &mut Client, remarks: &str) -> Vec<String> {
    call(client, &format!(r#"{{"type":"presence","event":"track","payload":{remarks}}}"#))
}

fn untrack(client: &mut Client) -> Vec<String> {
    call(client, r#"{"type":"presence","event":"untrack"}"#)
}

fn reply(status: &str, response: &str) -> String {
    format!(
        r#"["1","9","realtime:room","phx_reply",{{"status":"{status}","response":{response}}}]"#
    )
}

fn ok() -> String {
    reply("ok", "{}")
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_join_with_presence_is_told_who_is_there_after_its_reply() {
    let mut client = Client::v2();
    let lines = client.join("1", "room", ENABLED);
    assert_eq!(lines, [joined("1", "room"), "show presence 1".to_owned()]);
    assert_eq!(
        client.presence_state(1),
        [r#"["1",null,"realtime:room","presence_state",{"k":{"metas":[]}}]"#]
    );
    assert_eq!(client.join("2", "other", "{}"), [joined("2", "other")]);
}

#[test]
fn a_join_that_waits_is_told_who_is_there_once_it_is_joined() {
    let mut client = Client::v2();
    let config = r#"{"presence":{"enabled":true},"postgres_changes":[{"schema":"public","table":"t"}],"postgres_changes_options":{"wait":true}}"#;
    let lines = client.join("1", "room", config);
    assert!(matches!(&lines[..], [line] if line.starts_with("subscribe")), "{lines:?}");
    assert_eq!(track(&mut client, "{}"), [reply("error", "{}")]);
    let lines = client.subscribed(1, 1, Ok(()));
    assert!(lines[0].contains("phx_reply"), "{lines:?}");
    assert_eq!(lines[1], "show presence 1");
}

#[test]
fn who_tracks_appears_until_untracked() {
    let mut client = enabled();
    assert_eq!(track(&mut client, r#"{"n":1}"#), [ok(), "track 1 u1: 5 bytes".to_owned()]);
    assert_eq!(track(&mut client, r#"{"n":22}"#), [ok(), "track 1 u1: 6 bytes".to_owned()]);
    assert_eq!(untrack(&mut client), ["untrack 1".to_owned(), ok()]);
    assert_eq!(untrack(&mut client), [ok()]);
}

#[test]
fn to_track_without_presence_takes_part_in_it() {
    let mut client = Client::joined("{}");
    assert_eq!(
        track(&mut client, "{}"),
        [ok(), "show presence 1".to_owned(), "track 1 (its own): 0 bytes".to_owned()]
    );
    assert_eq!(track(&mut client, "{}"), [ok(), "track 1 (its own): 0 bytes".to_owned()]);
}

#[test]
fn what_cannot_be_carried_out_is_answered() {
    let map = reply("error", r#"{"reason":"Presence track payload must be a map"}"#);
    for (payload, expected) in [
        ("{}", ok()),
        ("[]", ok()),
        ("7", ok()),
        (r#"{"type":"presence","payload":{}}"#, ok()),
        (r#"{"event":"track","payload":[]}"#, map.clone()),
        (r#"{"event":"track","payload":null}"#, map),
        (r#"{"event":"dance"}"#, reply("error", "{}")),
        (r#"{"event":5}"#, reply("error", "{}")),
    ] {
        assert_eq!(call(&mut enabled(), payload), [expected], "{payload}");
    }
}

#[test]
fn a_stale_or_missing_join_ref_makes_no_difference() {
    let mut client = enabled();
    for join_ref in ["null", "\"0\""] {
        let frame = format!(r#"[{join_ref},"9","realtime:room","presence",{{"event":"track"}}]"#);
        assert_eq!(client.send(&frame), [ok(), "track 1 u1: 0 bytes".to_owned()]);
    }
}

#[test]
fn six_calls_in_thirty_seconds_close_the_channel() {
    let mut client = enabled();
    for _ in 0..4 {
        track(&mut client, "{}");
    }
    // Without an event it is no call; with one it is, whatever comes of it.
    for _ in 0..10 {
        assert_eq!(call(&mut client, "{}"), [ok()]);
    }
    assert_eq!(call(&mut client, r#"{"event":"dance"}"#), [reply("error", "{}")]);
    assert_eq!(
        untrack(&mut client),
        [
            "untrack 1".to_owned(),
            system("system", "error", "Client presence rate limit exceeded"),
            closed("1", "room"),
        ]
    );
    assert_eq!(client.events().last(), Some(&Event::ChannelShutdown));
    assert!(!client.session.is_open(ChannelId(1)));
    // The connection stays.
    assert_eq!(client.join("2", "room", "{}"), [joined("2", "room")]);
}

#[test]
fn who_says_too_much_about_itself_is_closed() {
    let limits = Limits { payload_bytes_max: 10, ..Limits::default() };
    let mut client = Client::new(Version::V2, limits);
    client.join("1", "room", ENABLED);
    assert_eq!(track(&mut client, r#"{"a":"1234"}"#), [ok(), "track 1 u1: 10 bytes".to_owned()]);
    assert_eq!(
        track(&mut client, r#"{"a":"12345"}"#),
        [
            "untrack 1".to_owned(),
            system("system", "error", "Track message size exceeded"),
            closed("1", "room"),
        ]
    );
}

#[test]
fn calls_come_back_with_time_and_count_per_channel() {
    let mut client = enabled();
    client.join("2", "other", "{}");
    for _ in 0..5 {
        assert_eq!(track(&mut client, "{}").len(), 2);
    }
    let other = r#"["2","9","realtime:other","presence",{"event":"track"}]"#;
    assert!(client.send(other).contains(&"track 2 (its own): 0 bytes".to_owned()));
    client.pass(30);
    for _ in 0..5 {
        assert_eq!(track(&mut client, "{}").len(), 2);
    }
}

#[test]
fn too_many_calls_on_the_server_close_the_channel_of_the_call() {
    let mut client = enabled();
    track(&mut client, "{}");
    assert_eq!(
        client.presence_refused(1),
        [
            "untrack 1".to_owned(),
            system("system", "error", "Too many presence messages per second"),
            closed("1", "room"),
        ]
    );
    assert_eq!(client.presence_refused(1), NOTHING);
}

#[test]
fn whoever_goes_appears_no_longer() {
    let leave = r#"["1","5","realtime:room","phx_leave",{}]"#;
    let check = |what: &str, act: &dyn Fn(&mut Client) -> Vec<String>| {
        let mut client = enabled();
        track(&mut client, "{}");
        let lines = act(&mut client);
        assert_eq!(lines[0], "untrack 1", "{what}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("untrack")).count(), 1, "{what}");
    };
    check("leaves", &|client| client.send(leave));
    check("joins again", &|client| client.join("2", "room", ENABLED));
    check("joins again and is refused", &|client| client.join("2", "room", "5"));
    check("is silent", &|client| {
        client.now += Duration::from_secs(60);
        client.handle(Input::Tick)
    });
    check("the server stops", &|client| client.handle(Input::Shutdown));
    let mut client = enabled();
    track(&mut client, "{}");
    untrack(&mut client);
    assert!(client.send(leave).iter().all(|line| !line.starts_with("untrack")));
}
