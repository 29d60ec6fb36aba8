//! Subscriptions: announced, refused, tried again, waited for.

use super::*;

const NOTHING: [&str; 0] = [];
const CONFIG: &str = r#"{"postgres_changes":[{"event":"INSERT","schema":"public","table":"t","filter":"a=eq.1,b=not.in.(x,\"y\")","select":["a","b"]}]}"#;
const DESCRIBED: &str = r#"[event: INSERT, schema: public, table: t, filters: [{\"a\", \"eq\", \"1\", false}, {\"b\", \"in\", \"{x,\\\"y\\\"}\", true}], select: [\"a\", \"b\"]]"#;
const LIVE: &str = "Subscribed to PostgreSQL";

fn waiting(options: &str) -> String {
    format!(
        r#"{{"postgres_changes":[{{"table":"t"}}],"postgres_changes_options":{{"wait":true{options}}}}}"#
    )
}

fn no_table() -> SubscribeFailure {
    SubscribeFailure::NoTable { binding: 0 }
}

fn unavailable() -> SubscribeFailure {
    SubscribeFailure::Unavailable { error: "connection refused".to_owned() }
}

fn live() -> String {
    system("postgres_changes", "ok", LIVE)
}

#[test]
fn a_subscription_is_announced_each_time_it_is_in_place() {
    let mut client = Client::joined(CONFIG);
    assert_eq!(client.subscribed(1, 2, Ok(())), NOTHING);
    assert_eq!(client.subscribed(1, 1, Ok(())), [live()]);
    assert_eq!(
        client.handle(Input::SubscriptionLost { channel: ChannelId(1) }),
        ["subscribe 1#2 anon: 1=INSERT public.t"]
    );
    assert_eq!(client.subscribed(1, 1, Ok(())), NOTHING);
    assert_eq!(client.subscribed(1, 2, Ok(())), [live()]);
    assert_eq!(client.subscribed(1, 2, Ok(())), [live()]);
}

#[test]
fn refusals_name_the_binding_as_the_reference_server_does() {
    let check = |failure: SubscribeFailure, expected: String| {
        let mut client = Client::joined(CONFIG);
        assert_eq!(
            client.subscribed(1, 1, Err(failure)),
            [system("postgres_changes", "error", &expected)]
        );
        assert!(client.session.is_open(ChannelId(1)));
        assert_eq!(client.pass(600), NOTHING);
    };
    check(
        no_table(),
        format!(
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled \
             for the given connect parameters: {DESCRIBED}"
        ),
    );
    check(
        SubscribeFailure::Refused {
            binding: 0,
            error: "ERROR P0001 (raise_exception) invalid column for filter a".to_owned(),
        },
        format!(
            "Unable to subscribe to changes with given parameters. An exception happened so please \
             check your connect parameters: {DESCRIBED}. Exception: ERROR P0001 (raise_exception) \
             invalid column for filter a"
        ),
    );
}

#[test]
fn the_refused_binding_is_the_one_that_is_named() {
    let mut client =
        Client::joined(r#"{"postgres_changes":[{"table":"a"},{"table":"a"},{"table":"b"}]}"#);
    let lines = client.subscribed(1, 1, Err(SubscribeFailure::NoTable { binding: 1 }));
    assert!(lines[0].contains("table: b,"), "{lines:?}");
}

#[test]
fn a_binding_that_cannot_be_read_is_reported_after_the_reply() {
    let mut client = Client::v2();
    let lines = client.join("1", "room", r#"{"postgres_changes":[{"table":"t"},{"event":"*"}]}"#);
    assert!(lines[0].contains(r#""postgres_changes":[{"table":"t","id":1},{"event":"*","id":2}]"#));
    assert_eq!(
        lines[1..],
        [system(
            "postgres_changes",
            "error",
            r#"No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: %{\"event\" => \"*\"}"#
        )]
    );
    assert_eq!(client.pass(600), NOTHING);
    // There is nothing to subscribe again with new claims.
    client.send(r#"["1","7","realtime:room","access_token",{"access_token":"x"}]"#);
    assert_eq!(client.verified(1, "x", Ok(claims("user", 60))), NOTHING);
}

#[test]
fn what_may_pass_is_tried_again_in_silence_until_it_works() {
    let mut client = Client::joined(CONFIG);
    for attempt in 1..20 {
        assert_eq!(client.subscribed(1, attempt, Err(unavailable())), NOTHING);
        let lines = client.pass(10);
        assert_eq!(lines, [format!("subscribe 1#{} anon: 1=INSERT public.t", attempt + 1)]);
    }
    assert_eq!(client.subscribed(1, 20, Ok(())), [live()]);
    assert_eq!(client.pass(600), NOTHING);
}

#[test]
fn a_subscription_with_outdated_claims_does_not_outlive_a_failure_of_the_new_one() {
    for failure in [no_table(), unavailable()] {
        let mut client = Client::joined(CONFIG);
        client.subscribed(1, 1, Ok(()));
        client.send(r#"["1","7","realtime:room","access_token",{"access_token":"x"}]"#);
        client.verified(1, "x", Ok(claims("user", 60)));
        assert_eq!(client.subscribed(1, 2, Err(failure))[0], "unsubscribe 1");
    }
}

#[test]
fn new_claims_are_tried_even_where_the_old_ones_were_refused() {
    let mut client = Client::joined(CONFIG);
    client.subscribed(1, 1, Err(no_table()));
    assert_eq!(client.handle(Input::SubscriptionLost { channel: ChannelId(1) }), NOTHING);
    client.send(r#"["1","7","realtime:room","access_token",{"access_token":"x"}]"#);
    assert_eq!(
        client.verified(1, "x", Ok(claims("user", 60))),
        ["subscribe 1#2 user: 1=INSERT public.t"]
    );
}

#[test]
fn a_join_can_wait_for_its_subscription() {
    let mut client = Client::v2();
    assert_eq!(client.join("1", "room", &waiting("")), ["subscribe 1#1 anon: 1=* public.t"]);
    assert!(!client.session.is_open(ChannelId(1)));
    assert_eq!(
        client.subscribed(1, 1, Ok(())),
        [
            r#"["1","1","realtime:room","phx_reply",{"status":"ok","response":{"postgres_changes":[{"table":"t","id":1}]}}]"#.to_owned(),
            live()
        ]
    );
    assert!(client.session.is_open(ChannelId(1)));
    assert_eq!(client.pass(600), NOTHING);
}

#[test]
fn waiting_without_bindings_is_no_waiting() {
    let config = r#"{"postgres_changes_options":{"wait":true}}"#;
    assert_eq!(Client::v2().join("1", "room", config), [joined("1", "room")]);
}

#[test]
fn a_waiting_join_is_refused_when_it_cannot_be() {
    let mut client = Client::v2();
    client.join("1", "room", &waiting(""));
    let lines = client.subscribed(1, 1, Err(no_table()));
    assert!(
        lines[0].contains("RealtimeDisabledForConfiguration: Unable to subscribe"),
        "{lines:?}"
    );
    assert_eq!((lines.len(), client.session.n_channels()), (1, 0));
    let unreadable =
        waiting("").replace(r#""table":"t""#, r#""schema":"s","table":"t","filter":"x""#);
    assert_eq!(
        client.join("2", "room", &unreadable),
        [refused(
            "2",
            "room",
            r#"RealtimeDisabledForConfiguration: Error parsing `filter` params: [\"x\"]"#
        )]
    );
}

#[test]
fn a_waiting_join_tries_until_its_time_is_up() {
    let check = |options: &str, timeout_ms: u64| {
        let mut client = Client::v2();
        client.join("1", "room", &waiting(options));
        let start = client.now;
        let mut attempt = 1;
        let refusal = loop {
            assert_eq!(client.subscribed(1, attempt, Err(unavailable())), NOTHING);
            client.now = client.session.deadline();
            let lines = client.handle(Input::Tick);
            attempt += 1;
            if lines != [format!("subscribe 1#{attempt} anon: 1=* public.t")] {
                break lines;
            }
            assert!(attempt < 1_000, "retries have pauses");
        };
        assert_eq!(client.now - start, Duration::from_millis(timeout_ms), "{options}");
        let text = format!(
            "PostgresChangesSubscribeTimeout: Timed out after {timeout_ms}ms waiting for the \
             postgres_changes subscription"
        );
        assert_eq!(refusal, [refused("1", "room", &text)]);
        assert_eq!(client.session.n_channels(), 0);
    };
    check("", 15_000);
    check(r#","timeout":700"#, 700);
    check(r#","timeout":90000"#, 20_000);
}

#[test]
fn an_attempt_without_an_answer_is_taken_back_when_time_is_up() {
    let mut client = Client::v2();
    client.join("1", "room", &waiting(r#","timeout":1000"#));
    let lines = client.pass(1);
    assert_eq!(lines[0], "unsubscribe 1");
    assert!(lines[1].contains("Timed out after 1000ms"), "{lines:?}");
}
