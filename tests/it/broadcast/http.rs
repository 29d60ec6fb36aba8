//! From applications over HTTP to WebSockets.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{HttpAnswer, Token, Version, http_get, http_post};

use super::socket::{broadcasts, joined, payloads};
use crate::world::World;

const ONE: &str = "/api/broadcast/room/events/e";

async fn post(
    world: &World,
    path: &str,
    token: &str,
    content_type: &str,
    body: &[u8],
) -> Result<HttpAnswer> {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", content_type)];
    http_post(world.walcast.port(), path, &headers, body).await
}

#[tokio::test]
async fn both_endpoints_reach_both_versions() -> Result<()> {
    let world = World::new("broadcast_http", "").await?;
    let mut old = joined(&world, Version::V1, json!({})).await?;
    let mut new = joined(&world, Version::V2, json!({})).await?;
    let token = Token::service_role().sign();
    let json = "application/json";

    let batch = json!({"messages": [
        {"topic": "room", "event": "first", "payload": {"n": 1}, "id": "7"},
        {"topic": "other", "event": "first", "payload": {"n": 2}},
        {"topic": "room", "event": "second", "payload": {"n": 3}},
        {"topic": "room", "event": "third", "payload": {"n": 4}, "private": true},
    ]});
    let answer = post(&world, "/api/broadcast", &token, json, batch.to_string().as_bytes()).await?;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    let expected = [
        json!({"type": "broadcast", "event": "first", "payload": {"n": 1}, "meta": {"id": "7"}}),
        json!({"type": "broadcast", "event": "second", "payload": {"n": 3}}),
    ];
    assert_eq!(payloads(&mut old).await?, expected);
    assert_eq!(payloads(&mut new).await?, expected);

    let answer = post(&world, ONE, &token, json, b"{\"n\": 1.50}").await?;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    let messages = broadcasts(&mut old).await?;
    assert_eq!(messages.len(), 1);
    assert_eq!(
        messages[0].payload_text,
        r#"{"type":"broadcast","event":"e","payload":{"n": 1.50}}"#
    );
    let messages = broadcasts(&mut new).await?;
    assert_eq!(messages.len(), 1);
    let frame = b"\x04\x0d\x01\x00\x01realtime:roome{\"n\": 1.50}";
    assert_eq!(messages[0].binary.as_deref(), Some(&frame[..]));

    let path = format!("/realtime/v1{ONE}");
    let answer = post(&world, &path, &token, "application/octet-stream", b"\0\xff").await?;
    assert_eq!(answer.status, 202);
    assert_eq!(payloads(&mut old).await?, Vec::<Value>::new());
    let messages = broadcasts(&mut new).await?;
    assert_eq!(messages.len(), 1);
    assert_eq!(
        messages[0].binary.as_deref(),
        Some(&b"\x04\x0d\x01\x00\x00realtime:roome\0\xff"[..])
    );

    let metrics = http_get(world.walcast.port(), "/metrics").await?.body;
    assert!(metrics.contains("walcast_broadcasts_total{origin=\"http\"} 5"), "{metrics}");
    world.end().await
}

#[tokio::test]
async fn the_token_is_verified_as_at_the_websocket() -> Result<()> {
    let world = World::new("broadcast_http_token", "").await?;
    let mut client = joined(&world, Version::V2, json!({})).await?;
    let good = Token::anon().sign();
    for (token, status) in [("nonsense", 401), (&good[..good.len() - 4], 401), (&good, 202)] {
        let answer = post(&world, ONE, token, "application/json", b"{}").await?;
        assert_eq!(answer.status, status, "{token}");
        if status == 401 {
            assert_eq!(answer.json(), json!({"message": "Unauthorized"}));
            assert!(answer.head.contains("x-rate-limit: 100"), "{}", answer.head);
        }
    }
    assert_eq!(payloads(&mut client).await?.len(), 1);
    world.end().await
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_the_server_goes_on() -> Result<()> {
    let world = World::new("broadcast_http_large", "").await?;
    let token = Token::anon().sign();
    let body = vec![b' '; 8_000_001];
    let answer = post(&world, ONE, &token, "application/json", &body).await?;
    assert_eq!(answer.status, 413);
    let body = [b"\"", &vec![b'x'; 3_000_500][..], b"\""].concat();
    let answer = post(&world, ONE, &token, "application/json", &body).await?;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.json(),
        json!({"errors": {"payload": ["Payload size exceeds tenant limit"]}})
    );
    assert_eq!(post(&world, ONE, &token, "application/json", b"{}").await?.status, 202);
    world.end().await
}
