//! From one WebSocket to others.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Client, Message, Token, Version, http_get};

use crate::world::{VERSIONS, World};

const TOPIC: &str = "realtime:room";

/// Connects and joins `realtime:room` with this `broadcast` configuration.
pub(super) async fn joined(world: &World, version: Version, broadcast: Value) -> Result<Client> {
    let mut client = Client::connect(world.walcast.port(), &Token::anon().sign(), version).await?;
    join(&mut client, broadcast).await?;
    Ok(client)
}

async fn join(client: &mut Client, broadcast: Value) -> Result<()> {
    let reply = client.join(TOPIC, &json!({"config": {"broadcast": broadcast}})).await?;
    assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    Ok(())
}

/// The broadcasts this client was sent so far.
pub(super) async fn broadcasts(client: &mut Client) -> Result<Vec<Message>> {
    client.heartbeat().await?;
    let mut messages = client.take_inbox();
    messages.retain(|message| message.event == "broadcast");
    Ok(messages)
}

/// The payloads of the broadcasts this client was sent so far.
pub(super) async fn payloads(client: &mut Client) -> Result<Vec<Value>> {
    Ok(broadcasts(client).await?.into_iter().map(|message| message.payload).collect())
}

/// Sends a broadcast and waits for its reply.
async fn push(client: &mut Client, payload: &Value) -> Result<Value> {
    let reference = client.push(TOPIC, "broadcast", payload).await?;
    Ok(client.reply(&reference).await?.payload)
}

/// A frame of kind 3 on `realtime:room`, ref 99.
fn kind_3(event: &str, encoding: u8, payload: &[u8]) -> Vec<u8> {
    let lengths = [1, 2, TOPIC.len(), event.len(), 0].map(|length| length as u8);
    let head = [&[3][..], &lengths, &[encoding]].concat();
    [&head[..], b"199", TOPIC.as_bytes(), event.as_bytes(), payload].concat()
}

fn kind_4(event: &str, encoding: u8, payload: &[u8]) -> Vec<u8> {
    let lengths = [TOPIC.len(), event.len(), 0].map(|length| length as u8);
    let head = [&[4][..], &lengths, &[encoding]].concat();
    [&head[..], TOPIC.as_bytes(), event.as_bytes(), payload].concat()
}

fn ok() -> Value {
    json!({"status": "ok", "response": {}})
}

#[tokio::test]
async fn text_reaches_everyone_else_as_it_was_sent() -> Result<()> {
    let world = World::new("broadcast_text", "").await?;
    for sender_version in VERSIONS {
        let mut sender = joined(&world, sender_version, json!({"ack": true})).await?;
        let mut others = Vec::new();
        for version in VERSIONS {
            others.push(joined(&world, version, json!({})).await?);
        }
        let payload =
            json!({"type": "broadcast", "event": "e", "payload": {"x": [1, null]}, "y": 2});
        assert_eq!(push(&mut sender, &payload).await?, ok());
        for other in &mut others {
            let messages = broadcasts(other).await?;
            let [message] = &messages[..] else { panic!("expected one: {messages:?}") };
            assert_eq!(message.payload_text, payload.to_string());
            assert_eq!((&message.join_ref, &message.reference), (&None, &None));
            assert_eq!(message.topic, TOPIC);
        }
        assert_eq!(payloads(&mut sender).await?, Vec::<Value>::new());
    }
    world.end().await
}

#[tokio::test]
async fn binary_frames_reach_each_version_in_its_form() -> Result<()> {
    let world = World::new("broadcast_binary", "").await?;
    let mut sender = joined(&world, Version::V2, json!({"ack": true, "self": true})).await?;
    let mut old = joined(&world, Version::V1, json!({})).await?;
    let mut new = joined(&world, Version::V2, json!({})).await?;

    sender.send_binary(&kind_3("cursor", 1, b"{\"x\": 1.0}")).await?;
    assert_eq!(sender.reply("99").await?.payload, ok());
    let frame = kind_4("cursor", 1, b"{\"x\": 1.0}");
    for client in [&mut new, &mut sender] {
        let messages = broadcasts(client).await?;
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].binary.as_deref(), Some(&frame[..]));
    }
    let messages = broadcasts(&mut old).await?;
    assert_eq!(messages.len(), 1);
    assert_eq!(
        messages[0].payload_text,
        r#"{"type":"broadcast","event":"cursor","payload":{"x": 1.0}}"#
    );

    // Bytes have no form in the old version.
    sender.send_binary(&kind_3("blob", 0, b"\0\xff")).await?;
    assert_eq!(sender.reply("99").await?.payload, ok());
    let frame = kind_4("blob", 0, b"\0\xff");
    for client in [&mut new, &mut sender] {
        let messages = broadcasts(client).await?;
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].binary.as_deref(), Some(&frame[..]));
    }
    assert_eq!(payloads(&mut old).await?, Vec::<Value>::new());
    world.end().await
}

#[tokio::test]
async fn the_own_copy_comes_before_the_reply() -> Result<()> {
    let world = World::new("broadcast_self", "").await?;
    for version in VERSIONS {
        let mut client = joined(&world, version, json!({"self": true, "ack": true})).await?;
        let reference = client.push(TOPIC, "broadcast", &json!({"n": 1})).await?;
        let first = client.next_where("anything", |_| true).await?;
        assert_eq!((first.event.as_str(), &first.payload), ("broadcast", &json!({"n": 1})));
        let second = client.next_where("anything", |_| true).await?;
        assert!(second.is_reply_to(&reference), "{second:?}");
        client.close().await?;
    }
    world.end().await
}

#[tokio::test]
async fn messages_of_one_sender_keep_their_order() -> Result<()> {
    const N: usize = 2_000;
    let world = World::new("broadcast_order", "").await?;
    let mut sender = joined(&world, Version::V2, json!({"self": true})).await?;
    let mut other = joined(&world, Version::V1, json!({})).await?;
    for n in 0..N {
        if n % 2 == 0 {
            sender.push(TOPIC, "broadcast", &json!({"payload": n})).await?;
        } else {
            sender.send_binary(&kind_3("e", 1, n.to_string().as_bytes())).await?;
        }
    }
    let expected: Vec<Value> = (0..N).map(|n| json!(n)).collect();
    for client in [&mut sender, &mut other] {
        let mut received = Vec::new();
        while received.len() < N {
            let message = client.next_where("a broadcast", |m| m.event == "broadcast").await?;
            received.push(message.payload["payload"].clone());
        }
        assert_eq!(received, expected);
    }
    world.end().await
}

#[tokio::test]
async fn who_has_left_or_is_elsewhere_hears_nothing() -> Result<()> {
    let world = World::new("broadcast_left", "").await?;
    let mut sender = joined(&world, Version::V2, json!({"ack": true})).await?;
    let mut elsewhere = world.walcast.client(&Token::anon()).await?;
    elsewhere.join("realtime:rooms", &json!({"config": {}})).await?;
    let mut left = joined(&world, Version::V2, json!({"self": true})).await?;
    let reference = left.push(TOPIC, "phx_leave", &json!({})).await?;
    left.reply(&reference).await?;
    assert_eq!(push(&mut sender, &json!({"n": 1})).await?, ok());
    assert_eq!(payloads(&mut left).await?, Vec::<Value>::new());
    assert_eq!(payloads(&mut elsewhere).await?, Vec::<Value>::new());
    // Nor does it speak there.
    let refused = push(&mut left, &json!({"n": 2})).await?;
    assert_eq!(refused, json!({"status": "error", "response": {"reason": "unmatched topic"}}));
    // It is there again after another join.
    join(&mut left, json!({})).await?;
    assert_eq!(push(&mut sender, &json!({"n": 3})).await?, ok());
    assert_eq!(payloads(&mut left).await?, [json!({"n": 3})]);
    assert_eq!(payloads(&mut sender).await?, Vec::<Value>::new());
    world.end().await
}

#[tokio::test]
async fn what_is_no_broadcast_is_answered_with_the_reason_and_harms_nobody() -> Result<()> {
    let world =
        World::with("broadcast_bad", "", |builder| builder.set("WALCAST_MAX_PAYLOAD_BYTES", "1kB"))
            .await?;
    let mut other = joined(&world, Version::V2, json!({})).await?;
    for version in VERSIONS {
        let mut sender = joined(&world, version, json!({"ack": true})).await?;
        let large = json!({"x": "y".repeat(1_000)});
        for (payload, reason) in [
            (large, "payload_size_exceeded"),
            (
                json!([1]),
                "UnableToHandleBroadcast: the payload of a broadcast must be a JSON object",
            ),
            (
                json!(null),
                "UnableToHandleBroadcast: the payload of a broadcast must be a JSON object",
            ),
        ] {
            let reply = push(&mut sender, &payload).await?;
            assert_eq!(reply, json!({"status": "error", "response": {"reason": reason}}));
        }
    }
    let mut sender = joined(&world, Version::V2, json!({"ack": true})).await?;
    sender.send_binary(&kind_3("e", 1, b"{\"x\":")).await?;
    assert_eq!(sender.reply("99").await?.payload["status"], "error");
    // Lengths that lie make no frame, and no answer.
    let whole = kind_3("event", 1, b"");
    for end in 0..whole.len() {
        sender.send_binary(&whole[..end]).await?;
    }
    assert_eq!(payloads(&mut other).await?, Vec::<Value>::new());
    assert_eq!(push(&mut sender, &json!({})).await?, ok());
    assert_eq!(payloads(&mut other).await?, [json!({})]);
    world.end().await
}

#[tokio::test]
async fn sending_too_fast_closes_the_senders_channel_only() -> Result<()> {
    let world = World::with("broadcast_rate", "", |builder| {
        builder.set("WALCAST_MAX_EVENTS_PER_SECOND", "1")
    })
    .await?;
    let mut other = joined(&world, Version::V2, json!({})).await?;
    let mut sender = joined(&world, Version::V2, json!({})).await?;
    for n in 0..200 {
        sender.push(TOPIC, "broadcast", &json!({"n": n})).await?;
    }
    sender
        .next_where("the warning", |message| message.is_system("Too many messages per second"))
        .await?;
    sender.next_where("the close", |message| message.event == "phx_close").await?;
    // A minute's worth passed.
    for _ in 0..60 {
        other.next_where("a broadcast", |message| message.event == "broadcast").await?;
    }
    join(&mut sender, json!({})).await?;
    let metrics = http_get(world.walcast.port(), "/metrics").await?.body;
    assert!(metrics.contains("walcast_broadcasts_refused_total{reason=\"rate\"} 1"), "{metrics}");
    world.end().await
}

#[tokio::test]
async fn who_stops_reading_in_a_storm_is_closed_and_nobody_else_notices() -> Result<()> {
    const N: usize = 2_000;
    let world = World::with("broadcast_storm", "", |builder| {
        builder.set("WALCAST_OUTBOUND_QUEUE_BYTES", "1MiB")
    })
    .await?;
    let mut sender = joined(&world, Version::V2, json!({"ack": true})).await?;
    let mut other = joined(&world, Version::V1, json!({})).await?;
    let mut slow = joined(&world, Version::V2, json!({})).await?;
    // More than the socket's buffers and the queue hold together.
    let filling = "x".repeat(16 * 1024);
    for n in 0..N {
        assert_eq!(push(&mut sender, &json!({"n": n, "filling": filling})).await?, ok());
        let message = other.next_where("a broadcast", |m| m.event == "broadcast").await?;
        assert_eq!(message.payload["n"], n);
    }
    // What was under way still arrives, and then the end.
    slow.closed().await?;
    let seen = slow.take_inbox().iter().filter(|message| message.event == "broadcast").count();
    assert!(seen < N, "who does not read was served without bound");
    let metrics = http_get(world.walcast.port(), "/metrics").await?.body;
    assert!(metrics.contains("walcast_queue_overflows_total 1"), "{metrics}");
    assert!(metrics.contains("walcast_channels 2"), "{metrics}");
    world.end().await
}
