//! Heartbeats, strangers, silence and the end.

use super::*;

const NOTHING: [&str; 0] = [];

#[test]
fn heartbeats_are_answered_whatever_their_refs() {
    let mut client = Client::v2();
    let check = |client: &mut Client, frame: &str, expected: &str| {
        assert_eq!(client.send(frame), [expected], "{frame}");
    };
    check(
        &mut client,
        r#"[null,"5","phoenix","heartbeat",{}]"#,
        r#"[null,"5","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
    );
    check(
        &mut client,
        r#"["9",null,"phoenix","heartbeat",{}]"#,
        r#"[null,null,"phoenix","phx_reply",{"status":"ok","response":{}}]"#,
    );
    check(
        &mut Client::v1(),
        r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}"#,
        r#"{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":null,"topic":"phoenix"}"#,
    );
}

#[test]
fn messages_to_topics_without_a_channel_are_unmatched() {
    let mut client = Client::v2();
    for (topic, event) in [
        ("phoenix", "x"),
        ("phoenix", "phx_join"),
        ("room", "phx_join"),
        ("realtime:room", "heartbeat"),
        ("realtime:room", "broadcast"),
        ("realtime:room", "access_token"),
    ] {
        let lines = client.send(&format!(r#"["1","2","{topic}","{event}",{{}}]"#));
        assert_eq!(
            lines,
            [format!(
                r#"[null,"2","{topic}","phx_reply",{{"status":"error","response":{{"reason":"unmatched topic"}}}}]"#
            )],
            "{topic} {event}"
        );
        assert_eq!(client.events(), [Event::UnmatchedTopic]);
    }
    assert_eq!(client.session.n_channels(), 0);
}

#[test]
fn what_means_nothing_on_a_channel_is_counted_and_not_answered() {
    let mut client = Client::joined("{}");
    for event in ["x", "postgres_changes", "system", "presence_state", "heartbeat"] {
        let frame = format!(r#"["1","2","realtime:room","{event}",{{}}]"#);
        assert_eq!(client.send(&frame), NOTHING, "{event}");
        assert_eq!(client.events(), [Event::UnknownEvent], "{event}");
    }
}

#[test]
fn malformed_frames_are_counted_and_dropped() {
    let mut client = Client::joined("{}");
    for frame in ["", "{}", "[1,2]", "x"] {
        assert_eq!(client.send(frame), NOTHING, "{frame}");
        assert!(matches!(client.events()[..], [Event::MalformedFrame(_)]), "{frame}");
    }
    assert!(client.session.is_open(ChannelId(1)));
}

#[test]
fn silence_closes_the_connection_and_any_frame_breaks_it() {
    let mut client = Client::joined("{}");
    let second = Duration::from_secs(1);
    for sign_of_life in
        [Input::Activity, Input::Malformed(walcast_protocol::MalformedFrame::NotJson)]
    {
        client.now += 59 * second;
        assert_eq!(client.handle(Input::Tick), NOTHING);
        assert_eq!(client.handle(sign_of_life), NOTHING);
        assert_eq!(client.session.deadline(), client.now + 60 * second);
    }
    client.now += 60 * second;
    assert_eq!(client.handle(Input::Tick), ["close 1000 "]);
    assert_eq!(client.session.deadline(), Duration::MAX);
    assert_eq!(client.session.n_channels(), 0);
    assert_eq!(client.send(r#"[null,"5","phoenix","heartbeat",{}]"#), NOTHING);
}

#[test]
fn answers_of_the_server_are_no_signs_of_life() {
    let mut client = Client::joined(r#"{"postgres_changes":[{"table":"t"}]}"#);
    client.now += Duration::from_secs(59);
    assert_eq!(client.subscribed(1, 1, Ok(())).len(), 1);
    client.now += Duration::from_secs(1);
    assert_eq!(client.handle(Input::Tick), ["unsubscribe 1", "close 1000 "]);
}

#[test]
fn a_shutdown_closes_with_service_restart() {
    let mut client = Client::joined(r#"{"postgres_changes":[{"table":"t"}]}"#);
    assert_eq!(client.handle(Input::Shutdown), ["unsubscribe 1", "close 1012 service restart"]);
    assert_eq!(client.handle(Input::Shutdown), NOTHING);
}

#[test]
fn leaving_is_confirmed_and_closes_the_channel() {
    let check = |join_ref: &str| {
        let mut client = Client::joined("{}");
        let lines = client.send(&format!(r#"[{join_ref},"9","realtime:room","phx_leave",{{}}]"#));
        assert_eq!(
            lines,
            [
                r#"["1","9","realtime:room","phx_reply",{"status":"ok","response":{}}]"#.to_owned(),
                closed("1", "room")
            ],
            "{join_ref}"
        );
        assert!(!client.session.is_open(ChannelId(1)));
        assert_eq!(client.session.n_channels(), 0);
    };
    check(r#""1""#);
    check("null");
}

#[test]
fn leaving_a_channel_joined_without_a_ref_needs_none() {
    let mut client = Client::v1();
    client
        .send(r#"{"topic":"realtime:room","event":"phx_join","payload":{"config":{}},"ref":"1"}"#);
    let leave =
        r#"{"topic":"realtime:room","event":"phx_leave","payload":{},"ref":"2","join_ref":"7"}"#;
    assert_eq!(
        client.send(leave),
        [
            r#"{"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"2","topic":"realtime:room"}"#,
            r#"{"event":"phx_close","payload":{},"ref":null,"topic":"realtime:room"}"#
        ]
    );
}

#[test]
fn a_leave_of_an_earlier_join_does_not_touch_the_channel() {
    let mut client = Client::joined("{}");
    assert_eq!(client.send(r#"["0","9","realtime:room","phx_leave",{}]"#), NOTHING);
    assert_eq!(client.events(), [Event::StaleLeave]);
    assert!(client.session.is_open(ChannelId(1)));
}

#[test]
fn leaving_what_was_not_joined_is_fine() {
    let mut client = Client::v2();
    assert_eq!(
        client.send(r#"["7","9","realtime:room","phx_leave",{}]"#),
        [r#"["7","9","realtime:room","phx_reply",{"status":"ok","response":{}}]"#]
    );
}

#[test]
fn whoever_is_sent_away_is_told_on_each_channel() {
    let mut client = Client::joined("{}");
    client.join("2", "hall", "{}");
    let topics: Vec<&str> = client.session.joined().map(|channel| channel.topic.as_str()).collect();
    assert_eq!(topics, ["realtime:room", "realtime:hall"]);
    let told = |join_ref: &str, name: &str| {
        format!(
            r#"["{join_ref}",null,"realtime:{name}","system",{{"extension":"system","status":"ok","message":"Server requested disconnect","channel":"{name}"}}]"#
        )
    };
    assert_eq!(
        client.handle(Input::Disconnect),
        [told("1", "room"), told("2", "hall"), "close 1012 service restart".to_owned()]
    );
    assert!(client.listening.is_empty());
}
