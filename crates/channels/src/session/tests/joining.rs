//! Joins: replies, echoes, duplicates and refusals.

use super::*;

const NOTHING: [&str; 0] = [];
const NO_REPLAY: &str = "UnableToReplayMessages: Replay is not allowed for public channels";

#[test]
fn a_join_without_bindings_is_answered_at_once() {
    let mut client = Client::v2();
    assert_eq!(client.join("1", "room", "{}"), [joined("1", "room")]);
    assert_eq!(client.events(), [Event::Joined]);
    assert!(client.session.is_open(ChannelId(1)));
    let v1 = r#"{"topic":"realtime:a:b","event":"phx_join","payload":{"config":{}},"ref":7}"#;
    assert_eq!(
        Client::v1().send(v1),
        [
            r#"{"event":"phx_reply","payload":{"status":"ok","response":{"postgres_changes":[]}},"ref":7,"topic":"realtime:a:b"}"#
        ]
    );
}

#[test]
fn the_reply_echoes_the_bindings_before_anything_else_happens() {
    let mut client = Client::v2();
    let config = r#"{"postgres_changes":[{"event":"insert","table":"t","x":1.50},null,{"schema":"s"},{"table":"t","x":1.50,"event":"insert"}]}"#;
    assert_eq!(
        client.join("1", "room", config),
        [
            r#"["1","1","realtime:room","phx_reply",{"status":"ok","response":{"postgres_changes":[{"event":"insert","table":"t","x":1.50,"id":1},{"schema":"s","id":2},{"table":"t","x":1.50,"event":"insert","id":1}]}}]"#,
            "subscribe 1#1 anon: 1=INSERT public.t, 2=* s.*",
        ]
    );
}

#[test]
fn a_join_of_the_old_interface_takes_its_binding_from_the_topic() {
    let mut client = Client::v2();
    let mut out = Vec::new();
    let frame = Bytes::from_static(br#"["1","1","realtime:public:t:id=eq.1","phx_join",{}]"#);
    let message = frame::decode(Version::V2, &Frame::Text(frame)).unwrap();
    client.session.handle(client.now, Input::Message(message), &mut out);
    let request = request(&out).unwrap();
    assert!(request.is_legacy);
    assert_eq!(request.bindings[0].conditions[0].column, "id");
    assert_eq!(
        Client::v2().send(r#"["1","1","realtime:public:t","phx_join",{}]"#),
        [
            r#"["1","1","realtime:public:t","phx_reply",{"status":"ok","response":{"postgres_changes":[{"schema":"public","table":"t","id":1}]}}]"#,
            "subscribe 1#1 anon: 1=* public.t",
        ]
    );
}

#[test]
fn a_second_join_takes_the_place_of_the_first() {
    let mut client = Client::joined(r#"{"postgres_changes":[{"table":"t"}]}"#);
    assert_eq!(
        client.join("5", "room", "{}"),
        ["unsubscribe 1".to_owned(), joined("5", "room"), closed("1", "room")]
    );
    assert!(!client.session.is_open(ChannelId(1)));
    assert!(client.session.is_open(ChannelId(2)));
    assert_eq!(client.session.n_channels(), 1);
    // Answers meant for the first one are nobody's.
    assert_eq!(client.subscribed(1, 1, Ok(())), NOTHING);
}

#[test]
fn the_first_channel_gives_way_even_when_the_second_join_is_refused() {
    let mut client = Client::joined("{}");
    assert_eq!(
        client.join("5", "room", r#"{"broadcast":{"replay":{}}}"#),
        [refused("5", "room", NO_REPLAY), closed("1", "room")]
    );
    assert_eq!(client.session.n_channels(), 0);
}

#[test]
fn a_replaced_channel_is_not_closed_aloud_when_refs_cannot_tell_it_apart() {
    let join = |reference: &str| {
        format!(
            r#"{{"topic":"realtime:room","event":"phx_join","payload":{{"config":{{}}}},"ref":"1"{reference}}}"#
        )
    };
    for reference in ["", r#","join_ref":null"#, r#","join_ref":"1""#] {
        let mut client = Client::v1();
        assert_eq!(client.send(&join(reference)).len(), 1);
        assert_eq!(client.send(&join(reference)).len(), 1, "{reference}");
        assert_eq!(client.session.n_channels(), 1);
    }
    let second = join(r#","join_ref":"2""#);
    for (first, n_lines) in [("", 1), (r#","join_ref":"1""#, 2)] {
        let mut client = Client::v1();
        client.send(&join(first));
        assert_eq!(client.send(&second).len(), n_lines, "{first}");
    }
}

#[test]
fn a_join_that_is_replaced_while_its_token_is_checked_is_not_answered() {
    let mut client = Client::v2();
    let join = |reference: &str, token: &str| {
        format!(
            r#"["{reference}","{reference}","realtime:room","phx_join",{{"config":{{}},"access_token":"{token}"}}]"#
        )
    };
    assert_eq!(client.send(&join("1", "a")), ["verify 1 a"]);
    assert_eq!(client.send(&join("2", "b")), ["verify 2 b"]);
    assert_eq!(client.verified(1, "a", Ok(claims("a", 60))), NOTHING);
    assert_eq!(
        client.verified(2, "b", Ok(claims("b", 60))),
        [joined("2", "room"), closed("1", "room")]
    );
}

#[test]
fn refusals_say_what_is_wrong_and_leave_nothing_behind() {
    let check = |payload: &str, topic: &str, reason: &str| {
        let mut client = Client::v2();
        let lines = client.send(&format!(r#"["1","1","realtime:{topic}","phx_join",{payload}]"#));
        assert_eq!(lines, [refused("1", topic, reason)], "{payload}");
        assert_eq!(client.session.n_channels(), 0);
        assert!(client.events().iter().any(|event| matches!(event, Event::JoinRefused(_))));
    };
    check("{}", "", "TopicNameRequired: You must provide a topic name");
    check("5", "room", "UnknownErrorOnChannel: join payload must be an object");
    check(
        r#"{"config":{"broadcast":5}}"#,
        "room",
        "UnknownErrorOnChannel: config.broadcast must be an object",
    );
    check(r#"{"config":{"broadcast":{"replay":null}}}"#, "room", NO_REPLAY);
}

#[test]
fn an_invalid_field_does_not_fail_the_join() {
    let mut client = Client::v2();
    let lines = client.join("1", "room", r#"{"private":"maybe","presence":7}"#);
    assert_eq!(lines, [joined("1", "room")]);
    assert_eq!(client.events().len(), 3, "two warnings and the join");
}

#[test]
fn channels_do_not_wait_for_each_other() {
    let mut client = Client::v2();
    let token = r#"["1","1","realtime:slow","phx_join",{"config":{},"access_token":"t"}]"#;
    assert_eq!(client.send(token), ["verify 1 t"]);
    let waiting =
        r#"{"postgres_changes":[{"table":"t"}],"postgres_changes_options":{"wait":true}}"#;
    assert_eq!(client.join("2", "waiting", waiting), ["subscribe 2#1 anon: 1=* public.t"]);
    assert_eq!(client.join("3", "quick", "{}"), [joined("3", "quick")]);
    assert_eq!(client.send(r#"[null,"5","phoenix","heartbeat",{}]"#).len(), 1);
    assert!(!client.session.is_open(ChannelId(1)) && !client.session.is_open(ChannelId(2)));
    assert_eq!(client.session.n_channels(), 3);
}

#[test]
fn leaving_while_joining_ends_the_join() {
    let mut client = Client::v2();
    let waiting =
        r#"{"postgres_changes":[{"table":"t"}],"postgres_changes_options":{"wait":true}}"#;
    client.join("1", "room", waiting);
    assert_eq!(
        client.send(r#"["1","9","realtime:room","phx_leave",{}]"#),
        [
            "unsubscribe 1".to_owned(),
            r#"["1","9","realtime:room","phx_reply",{"status":"ok","response":{}}]"#.to_owned(),
            closed("1", "room")
        ]
    );
    assert_eq!(client.subscribed(1, 1, Ok(())), NOTHING);
}

#[test]
fn who_asks_whether_replication_is_ready_is_told_or_closed() {
    let asked = r#"{"broadcast":{"replication_ready":true}}"#;
    let mut client = Client::v2();
    let lines = client.join("1", "room", asked);
    assert_eq!(lines.last().map(String::as_str), Some("await replication 1 60s"));
    let channel = ChannelId(1);
    assert_eq!(
        client.handle(Input::Replication { channel, is_ready: true }),
        [
            r#"["1",null,"realtime:room","system",{"extension":"system","status":"ok","message":"Replication connection established","channel":"room"}]"#
        ]
    );
    client.join("2", "hall", asked);
    let channel = ChannelId(2);
    let lines = client.handle(Input::Replication { channel, is_ready: false });
    assert_eq!(
        lines,
        [
            r#"["2",null,"realtime:hall","system",{"extension":"system","status":"error","message":"Replication connection was not established in time","channel":"hall"}]"#,
            r#"["2","2","realtime:hall","phx_close",{}]"#,
        ]
    );
    assert!(!client.session.is_open(channel) && client.session.is_open(ChannelId(1)));
    // An answer to a channel that is gone is nobody's.
    let lines = client.handle(Input::Replication { channel, is_ready: true });
    assert_eq!(lines, Vec::<String>::new());
}
