//! Tokens: at the join, renewed, expired.

use super::*;

const NOTHING: [&str; 0] = [];

fn join_with(token: &str) -> String {
    format!(
        r#"["1","1","realtime:room","phx_join",{{"config":{{"postgres_changes":[{{"table":"t"}}]}},"access_token":"{token}"}}]"#
    )
}

fn renew(token: &str) -> String {
    format!(r#"["1","7","realtime:room","access_token",{{"access_token":{token}}}]"#)
}

/// A client whose channel has a token of its own that is good for `expires_in` seconds.
fn with_token(expires_in: u64) -> Client {
    let mut client = Client::v2();
    assert_eq!(client.send(&join_with("first")), ["verify 1 first"]);
    assert_eq!(client.verified(1, "first", Ok(claims("user", expires_in))).len(), 2);
    client.subscribed(1, 1, Ok(()));
    client.events();
    client
}

#[test]
fn a_token_of_its_own_is_checked_before_the_reply() {
    let mut client = Client::v2();
    assert_eq!(client.send(&join_with("own")), ["verify 1 own"]);
    assert!(!client.session.is_open(ChannelId(1)));
    assert_eq!(client.verified(1, "other", Ok(claims("user", 60))), NOTHING);
    let lines = client.verified(1, "own", Ok(claims("user", 60)));
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1], "subscribe 1#1 user: 1=* public.t");
    assert_eq!(client.verified(1, "own", Ok(claims("user", 60))), NOTHING);
}

#[test]
fn the_connections_token_needs_no_second_check() {
    for token in ["connection", "sb_publishable_key"] {
        let lines = Client::v2().send(&join_with(token));
        assert_eq!(lines[1], "subscribe 1#1 anon: 1=* public.t", "{token}");
    }
}

#[test]
fn a_bad_token_refuses_the_join_at_once() {
    let mut client = Client::v2();
    client.send(&join_with("own"));
    let error = TokenError::Expired { seconds_ago: 12 };
    assert_eq!(
        client.verified(1, "own", Err(error)),
        [refused("1", "room", "InvalidJWTToken: Token has expired 12 seconds ago")]
    );
    assert_eq!(client.session.n_channels(), 0);
}

#[test]
fn the_connections_token_can_be_over_by_the_time_of_a_join() {
    let mut client = Client::v2();
    client.pass(3_607);
    assert_eq!(
        client.join("1", "room", "{}"),
        [refused("1", "room", "InvalidJWTToken: Token has expired 7 seconds ago")]
    );
}

#[test]
fn what_is_no_new_token_is_ignored() {
    let mut client = with_token(60);
    for token in ["null", "5", r#""first""#, r#""sb_key""#] {
        assert_eq!(client.send(&renew(token)), NOTHING, "{token}");
        assert_eq!(client.events(), [Event::AccessTokenIgnored], "{token}");
    }
}

#[test]
fn a_new_token_is_checked_and_subscribes_again_with_its_claims() {
    let mut client = with_token(60);
    assert_eq!(client.send(&renew(r#""second""#)), ["verify 1 second"]);
    assert_eq!(
        client.verified(1, "second", Ok(claims("admin", 120))),
        ["subscribe 1#2 admin: 1=* public.t"]
    );
    // The answer to the attempt with the old claims comes too late to mean anything.
    assert_eq!(
        client.subscribed(1, 2, Ok(())),
        [system("postgres_changes", "ok", "Subscribed to PostgreSQL")]
    );
    assert_eq!(client.pass(119), NOTHING);
    assert!(client.session.is_open(ChannelId(1)));
}

#[test]
fn a_bad_new_token_shuts_the_channel_down() {
    let check = |token: &str, error: TokenError, message: &str| {
        let mut client = with_token(60);
        assert_eq!(client.send(&renew(&format!("{token:?}"))), [format!("verify 1 {token}")]);
        assert_eq!(
            client.verified(1, token, Err(error)),
            ["unsubscribe 1".to_owned(), system("system", "error", message), closed("1", "room")]
        );
        assert_eq!(client.session.n_channels(), 0);
        assert_eq!(client.events(), [Event::ChannelShutdown]);
    };
    check("", TokenError::Malformed, "The token provided is not a valid JWT");
    check("x", TokenError::Signature, "Failed to validate JWT signature");
    check("x", TokenError::Expired { seconds_ago: 3 }, "Token has expired 3 seconds ago");
}

#[test]
fn tokens_that_come_too_fast_wait_and_only_the_last_one_counts() {
    let mut client = with_token(3_600);
    client.send(&renew(r#""second""#));
    client.verified(1, "second", Ok(claims("user", 3_600)));
    client.events();
    for token in [r#""third""#, r#""fourth""#] {
        assert_eq!(client.send(&renew(token)), NOTHING);
        assert_eq!(client.events(), [Event::AccessTokenThrottled]);
    }
    assert_eq!(client.pass(9), NOTHING);
    assert_eq!(client.pass(1), ["verify 1 fourth"]);
}

#[test]
fn an_expired_token_ends_its_channel_and_no_other() {
    let mut client = with_token(60);
    client.join("2", "other", "{}");
    client.now += Duration::from_secs(30);
    assert_eq!(client.handle(Input::Activity), NOTHING);
    client.now += Duration::from_secs(34);
    assert_eq!(
        client.handle(Input::Tick),
        [
            "unsubscribe 1".to_owned(),
            system("system", "error", "Token has expired 4 seconds ago"),
            closed("1", "room")
        ]
    );
    assert!(client.session.is_open(ChannelId(2)));
}

#[test]
fn an_expired_token_gives_way_to_one_that_waits() {
    let mut client = with_token(60);
    client.send(&renew(r#""second""#));
    client.verified(1, "second", Ok(claims("user", 5)));
    client.send(&renew(r#""third""#));
    assert_eq!(client.pass(5), ["verify 1 third"]);
    assert_eq!(client.verified(1, "third", Ok(claims("user", 60))).len(), 1);
    assert_eq!(client.pass(50), NOTHING);
}

#[test]
fn an_answer_that_never_comes_does_not_keep_an_expired_token_alive() {
    let mut client = with_token(60);
    client.send(&renew(r#""second""#));
    let lines = client.pass(60);
    assert_eq!(lines.last(), Some(&closed("1", "room")));
    assert_eq!(client.verified(1, "second", Ok(claims("user", 60))), NOTHING);
}

#[test]
fn a_token_that_expires_while_a_join_waits_refuses_it() {
    let mut client = Client::v2();
    client.send(r#"["1","1","realtime:room","phx_join",{"config":{"postgres_changes":[{"table":"t"}],"postgres_changes_options":{"wait":true}},"access_token":"own"}]"#);
    assert_eq!(client.verified(1, "own", Ok(claims("user", 3))).len(), 1);
    assert_eq!(
        client.pass(3),
        [
            "unsubscribe 1".to_owned(),
            refused("1", "room", "InvalidJWTToken: Token has expired 0 seconds ago")
        ]
    );
}

#[test]
fn a_token_sent_while_the_join_is_checked_is_applied_after_it() {
    let mut client = Client::v2();
    client.send(&join_with("first"));
    assert_eq!(client.send(&renew(r#""second""#)), NOTHING);
    let lines = client.verified(1, "first", Ok(claims("user", 60)));
    assert_eq!(lines[1..], ["subscribe 1#1 user: 1=* public.t", "verify 1 second"]);
}
