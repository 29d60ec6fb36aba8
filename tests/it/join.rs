//! The life of a channel, and what a connection survives.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Client, Token};

use crate::world::{NOTES, VERSIONS, World, summary, watch_marks};

#[tokio::test]
async fn the_reply_echoes_every_binding_with_an_id() -> Result<()> {
    let world = World::new("echo", NOTES).await?;
    for version in VERSIONS {
        let token = Token::anon().sign();
        let mut client = Client::connect(world.walcast.port(), &token, version).await?;
        let bindings = json!([
            {"event": "insert", "schema": "public", "table": "notes", "unknown": [1]},
            {"event": "*", "schema": "public", "table": "notes", "filter": "id=eq.1"},
            {"event": "insert", "schema": "public", "table": "notes", "unknown": [1]},
        ]);
        let config = json!({"config": {"postgres_changes": bindings}});
        let reply = client.join("realtime:test", &config).await?;
        assert_eq!(reply.payload["status"], "ok");
        let mut echoed = reply.payload["response"]["postgres_changes"].clone();
        let ids: Vec<Value> = echoed
            .as_array_mut()
            .into_iter()
            .flatten()
            .filter_map(|binding| binding.as_object_mut()?.remove("id"))
            .collect();
        assert_eq!(echoed, bindings);
        assert_eq!(ids[0], ids[2], "equal bindings share their id");
        assert_ne!(ids[0], ids[1]);
        assert!(ids.iter().all(|id| id.as_i64().is_some_and(|id| (1..1 << 27).contains(&id))));
        let system = client.system("realtime:test").await?;
        assert_eq!(
            system.payload,
            json!({"extension": "postgres_changes", "status": "ok",
                   "message": "Subscribed to PostgreSQL", "channel": "test"})
        );
        assert_eq!(system.reference, None);
        client.close().await?;
    }
    world.end().await
}

#[tokio::test]
async fn a_join_without_bindings_still_lists_them() -> Result<()> {
    let world = World::new("without_bindings", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let config = json!({"config": {"broadcast": {"self": true}, "presence": {"key": ""}}});
    let reply = client.join("realtime:room", &config).await?;
    assert_eq!(reply.payload, json!({"status": "ok", "response": {"postgres_changes": []}}));
    world.end().await
}

#[tokio::test]
async fn a_second_join_of_a_topic_replaces_the_first() -> Result<()> {
    let world = World::new("second_join", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let bindings = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    client.subscribe("realtime:test", &bindings).await?;
    let first = "1";
    let reference = client
        .push(
            "realtime:test",
            "phx_join",
            &json!({"config": {"postgres_changes": [
                {"event": "INSERT", "schema": "public", "table": "notes"}
            ]}}),
        )
        .await?;
    let close = client.next_where("the close", |message| message.event == "phx_close").await?;
    assert_eq!(close.join_ref.as_deref(), Some(first));
    assert_eq!(close.reference.as_deref(), Some(first));
    assert_eq!(client.reply(&reference).await?.payload["status"], "ok");
    client.system("realtime:test").await?;
    watch_marks(&mut client).await?;
    world.database.run("insert into notes values (1); delete from notes").await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 1"]);
    world.end().await
}

#[tokio::test]
async fn a_channel_that_was_left_is_silent() -> Result<()> {
    let world = World::new("left", NOTES).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    let reference = client.push("realtime:test", "phx_leave", &json!({})).await?;
    let reply = client.reply(&reference).await?;
    assert_eq!(reply.payload, json!({"status": "ok", "response": {}}));
    client.next_where("the close", |message| message.event == "phx_close").await?;
    world.database.run("insert into notes values (1)").await?;
    assert_eq!(world.settled(&mut client).await?, Vec::<Value>::new());
    let again = client.push("realtime:test", "phx_leave", &json!({})).await?;
    assert_eq!(client.reply(&again).await?.payload["status"], "ok");
    world.end().await
}

#[tokio::test]
async fn a_heartbeat_is_answered_in_both_versions() -> Result<()> {
    let world = World::new("heartbeat", NOTES).await?;
    for version in VERSIONS {
        let token = Token::anon().sign();
        let mut client = Client::connect(world.walcast.port(), &token, version).await?;
        let reference = client.push("phoenix", "heartbeat", &json!({})).await?;
        let reply = client.reply(&reference).await?;
        assert_eq!(reply.payload, json!({"status": "ok", "response": {}}));
        assert_eq!((reply.topic.as_str(), reply.join_ref), ("phoenix", None));
        client.push_with("phoenix", "heartbeat", &json!({}), None, None).await?;
        let reply = client.next_where("the reply", |message| message.event == "phx_reply").await?;
        assert_eq!(reply.reference, None);
        client.close().await?;
    }
    world.end().await
}

#[tokio::test]
async fn a_topic_that_is_not_joined_is_unmatched() -> Result<()> {
    let world = World::new("unmatched", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
    for (topic, event) in
        [("room", "phx_join"), ("realtime:room", "broadcast"), ("phoenix", "nonsense")]
    {
        let reference = client.push(topic, event, &json!({})).await?;
        assert_eq!(client.reply(&reference).await?.payload, unmatched, "{topic} {event}");
    }
    let reply = client.join("realtime:", &json!({})).await?;
    assert_eq!(
        reply.payload["response"]["reason"],
        "TopicNameRequired: You must provide a topic name"
    );
    world.end().await
}

#[tokio::test]
async fn malformed_frames_are_dropped_and_the_connection_stays() -> Result<()> {
    let world = World::new("malformed", NOTES).await?;
    let texts = [
        "",
        "nonsense",
        "{\"topic\":\"phoenix\"}",
        "[null,\"1\",\"phoenix\"]",
        "[1,2,3,4,5]",
        "{}",
        "null",
        "\u{0}",
        "[[[[[[[[[[[[[[[[",
    ];
    let binaries: [&[u8]; 6] =
        [&[], &[0], &[9, 1, 2, 3], &[3, 255, 255, 255, 255, 255, 1], &[0, 1, 1, 1, 1], &[255; 300]];
    for version in VERSIONS {
        let token = Token::anon().sign();
        let mut client = Client::connect(world.walcast.port(), &token, version).await?;
        for text in texts {
            client.send_text(text).await?;
        }
        for bytes in binaries {
            client.send_binary(bytes).await?;
        }
        client.heartbeat().await?;
        client.close().await?;
    }
    world.end().await
}

#[tokio::test]
async fn a_frame_of_six_megabytes_closes_with_1009() -> Result<()> {
    let world = World::new("six_megabytes", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let text =
        format!("[null,\"1\",\"phoenix\",\"heartbeat\",{{\"a\":\"{}\"}}]", "x".repeat(6 << 20));
    // The server may close while the frame is still being sent.
    drop(client.send_text(&text).await);
    assert_eq!(client.closed().await?, Some(1009));
    let mut other = world.walcast.client(&Token::anon()).await?;
    other.heartbeat().await?;
    world.end().await
}

#[tokio::test]
async fn a_silent_connection_is_closed_normally() -> Result<()> {
    let world =
        World::with("silent", NOTES, |builder| builder.set("WALCAST_IDLE_TIMEOUT", "1s")).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    assert_eq!(client.closed().await?, Some(1000));
    world.end().await
}

#[tokio::test]
async fn too_many_channels_are_refused_one_by_one() -> Result<()> {
    let world = World::with("too_many_channels", NOTES, |builder| {
        builder.set("WALCAST_MAX_CHANNELS_PER_CONNECTION", "2")
    })
    .await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    for topic in ["realtime:a", "realtime:b"] {
        assert_eq!(client.join(topic, &json!({"config": {}})).await?.payload["status"], "ok");
    }
    let reply = client.join("realtime:c", &json!({"config": {}})).await?;
    assert_eq!(reply.payload["response"]["reason"], "ChannelRateLimitReached: Too many channels");
    client.heartbeat().await?;
    world.end().await
}
