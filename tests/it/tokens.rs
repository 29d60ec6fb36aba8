//! Who is let in, and with which words others are turned away.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Client, Token, Version, http_get, http_request};

use crate::world::{NOTES, World};

/// The unsigned token every library once accepted: `{"alg":"none"}`, role anon, expiry in 2100.
const UNSIGNED: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.\
                        eyJyb2xlIjoiYW5vbiIsImV4cCI6NDEwMjQ0NDgwMH0.";

#[tokio::test]
async fn a_bad_token_is_refused_before_the_upgrade() -> Result<()> {
    let world = World::new("bad_tokens", NOTES).await?;
    let cases = [
        (String::new(), "API key is missing"),
        (Token::anon().expires_in(-60).sign(), "Token has expired"),
        (Token::anon().without("role").sign(), "Fields `role` and `exp` are required in JWT"),
        (Token::anon().without("exp").sign(), "Fields `role` and `exp` are required in JWT"),
        ("not.a.token".to_owned(), "The token provided is not a valid JWT"),
        ("nonsense".to_owned(), "The token provided is not a valid JWT"),
        (
            Token::anon().sign_with("another-secret-with-more-than-32-characters"),
            "Failed to validate JWT signature",
        ),
        (
            UNSIGNED.to_owned(),
            "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
        ),
    ];
    for (token, text) in cases {
        let parameter = if token.is_empty() { String::new() } else { format!("&apikey={token}") };
        let answer = upgrade(&world, &format!("/socket/websocket?vsn=2.0.0{parameter}")).await?;
        assert_eq!((answer.0, answer.1.as_str()), (401, text));
    }
    let good = Token::anon().sign();
    for path in ["/socket/websocket", "/realtime/v1/websocket"] {
        let answer = upgrade(&world, &format!("{path}?vsn=1.0.0&apikey={good}")).await?;
        assert_eq!(answer.0, 101, "{path}");
    }
    world.end().await
}

#[tokio::test]
async fn an_unknown_version_is_refused_without_a_body() -> Result<()> {
    let world = World::new("unknown_version", NOTES).await?;
    let token = Token::anon().sign();
    for version in ["3.0.0", "1.1.0", "nonsense"] {
        let path = format!("/socket/websocket?vsn={version}&apikey={token}");
        let answer = http_request(world.walcast.port(), "GET", &path, &UPGRADE).await?;
        assert_eq!((answer.status, answer.body.as_str()), (403, ""), "{version}");
    }
    world.end().await
}

#[tokio::test]
async fn the_header_wins_over_the_query() -> Result<()> {
    let world = World::new("header_wins", NOTES).await?;
    let token = Token::anon().sign();
    let mut headers = UPGRADE.to_vec();
    headers.push(("x-api-key", &token));
    let path = "/socket/websocket?vsn=2.0.0&apikey=nonsense";
    let answer = http_request(world.walcast.port(), "GET", path, &headers).await?;
    assert_eq!(answer.status, 101);
    world.end().await
}

#[tokio::test]
async fn a_bad_token_of_a_channel_is_named_in_the_reply() -> Result<()> {
    let world = World::new("bad_channel_tokens", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let cases = [
        (
            Token::anon().without("role").sign(),
            "InvalidJWTToken: Fields `role` and `exp` are required in JWT",
        ),
        ("nonsense".to_owned(), "MalformedJWT: The token provided is not a valid JWT"),
        (
            Token::anon().sign_with("another-secret-with-more-than-32-characters"),
            "JwtSignatureError: Failed to validate JWT signature",
        ),
        (Token::anon().expires_in(-60).sign(), "InvalidJWTToken: Token has expired "),
    ];
    for (token, reason) in cases {
        let reply = client.join("realtime:test", &json!({"access_token": token})).await?;
        assert_eq!(reply.payload["status"], "error");
        let given = reply.payload["response"]["reason"].as_str().unwrap_or_default();
        assert!(given.starts_with(reason), "{given:?} for {reason:?}");
    }
    // The socket stays open.
    client.heartbeat().await?;
    world.end().await
}

#[tokio::test]
async fn an_expiring_token_closes_its_channel_only() -> Result<()> {
    let world = World::new("expiring_token", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let config = json!({"postgres_changes": []});
    client.join("realtime:lasting", &json!({"config": config})).await?;
    let token = Token::anon().expires_in(2).sign();
    client.join("realtime:brief", &json!({"config": config, "access_token": token})).await?;
    let system =
        client.next_where("the end of the token", |message| message.event == "system").await?;
    assert_eq!(system.topic, "realtime:brief");
    assert_eq!(system.payload["status"], "error");
    assert_eq!(system.payload["channel"], "brief");
    assert!(
        system.payload["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("Token has expired"))
    );
    let close = client.next_where("the close", |message| message.event == "phx_close").await?;
    assert_eq!(close.topic, "realtime:brief");
    client.heartbeat().await?;
    assert!(client.take_inbox().iter().all(|message| message.topic != "realtime:lasting"));
    world.end().await
}

#[tokio::test]
async fn a_bad_new_token_closes_the_channel_and_says_why() -> Result<()> {
    let world = World::new("bad_new_token", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    client.join("realtime:test", &json!({"config": {}})).await?;
    for ignored in [Value::Null, json!("sb_publishable_key")] {
        client.push("realtime:test", "access_token", &json!({"access_token": ignored})).await?;
    }
    client.push("realtime:test", "access_token", &json!({"access_token": "nonsense"})).await?;
    let system = client.next_where("the reason", |message| message.event == "system").await?;
    assert_eq!(system.payload["message"], "The token provided is not a valid JWT");
    client.next_where("the close", |message| message.event == "phx_close").await?;
    world.end().await
}

#[tokio::test]
async fn secrets_and_tokens_stay_out_of_the_log() -> Result<()> {
    let world =
        World::with("secrets", NOTES, |builder| builder.set("WALCAST_LOG_LEVEL", "debug")).await?;
    let bad = Token::anon().sign_with("another-secret-with-more-than-32-characters");
    let refused = Client::try_connect(world.walcast.port(), &bad, Version::V2).await?;
    assert_eq!(refused.err().map(|refused| refused.status), Some(401));
    let token = Token::user("somebody");
    let mut client = world.walcast.client(&token).await?;
    client.join("realtime:test", &json!({"config": {}, "access_token": token.sign()})).await?;
    let log = world.walcast.log().join("\n");
    for secret in [walcast_tests::JWT_SECRET, &bad, &token.sign()] {
        assert!(!log.contains(secret), "the log shows {secret}");
    }
    world.end().await
}

#[tokio::test]
async fn the_open_routes_answer() -> Result<()> {
    let world = World::new("open_routes", NOTES).await?;
    let port = world.walcast.port();
    let health = http_get(port, "/healthcheck").await?;
    assert_eq!(health.status, 200);
    assert!(health.json().is_object(), "{}", health.body);
    let metrics = http_get(port, "/metrics").await?;
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("# TYPE"), "{}", metrics.body);
    assert_eq!(http_get(port, "/").await?.status, 200);
    assert_eq!(http_get(port, "/nothing/here").await?.status, 404);
    world.end().await
}

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// The status of an upgrade request, and the `error` of its answer.
async fn upgrade(world: &World, path: &str) -> Result<(u16, String)> {
    let answer = http_request(world.walcast.port(), "GET", path, &UPGRADE).await?;
    Ok((answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned()))
}
