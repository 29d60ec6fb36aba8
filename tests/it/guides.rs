//! What the guides tell to type works.

use anyhow::{Context, Result};
use serde_json::json;
use walcast_tests::{Database, Token, Version};

use crate::world::{ALICE, BOB, World};

const DATABASE_BROADCAST: &str = include_str!("../../docs/guides/database-broadcast.md");
const PRIVATE_CHANNELS: &str = include_str!("../../docs/guides/private-channels.md");

/// Runs the SQL of a guide, from its first to its last line.
async fn follow(guide: &str, database: &Database) -> Result<()> {
    let blocks: Vec<&str> = guide
        .split("```sql\n")
        .skip(1)
        .map(|rest| rest.split_once("```").map_or(rest, |(sql, _)| sql))
        .collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        database.run(block).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_guide_to_broadcasts_from_the_database() -> Result<()> {
    let world = World::with_messages("guide_broadcast", "").await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    client.join("realtime:lobby", &json!({"config": {}})).await?;
    follow(DATABASE_BROADCAST, &world.database).await?;
    let greeting =
        client.next_where("the greeting", |message| message.payload["event"] == "greeting").await?;
    assert_eq!(greeting.payload["payload"]["text"], "hello");

    let token = Token::service_role();
    let mut client = world.walcast.client(&token).await?;
    let private = json!({"config": {"private": true}});
    let reply = client.join("realtime:todos:1", &private).await?;
    assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    world
        .database
        .run("insert into todos values (1, 'a'); update todos set body = 'b'; delete from todos")
        .await?;
    for (event, record) in [
        ("INSERT", json!({"id": 1, "body": "a"})),
        ("UPDATE", json!({"id": 1, "body": "b"})),
        ("DELETE", json!(null)),
    ] {
        let change = client
            .next_where(event, |message| message.payload["event"] == event)
            .await
            .context(event)?;
        assert_eq!(change.payload["payload"]["record"], record);
    }

    // The policy lets users send to the lobby, and to nowhere else.
    world
        .database
        .run(
            "begin; set local role authenticated;
             select realtime.send('{}', 'allowed', 'lobby'), realtime.send('{}', 'forbidden', 'hall');
             commit;",
        )
        .await?;
    let sent = world
        .database
        .text("select string_agg(event, ',') from realtime.messages where event in ('allowed', 'forbidden')")
        .await?;
    assert_eq!(sent.as_deref(), Some("allowed"));
    world.end().await
}

#[tokio::test]
async fn the_guide_to_private_channels() -> Result<()> {
    let world = World::with_messages("guide_private", "").await?;
    follow(PRIVATE_CHANNELS, &world.database).await?;
    world.database.run(&format!("insert into rooms_users values ('room-1', '{ALICE}')")).await?;
    let config = json!({"config": {"private": true, "broadcast": {"ack": true}}});
    let topic = "realtime:room-1";
    for (token, status) in [(Token::user(ALICE), "ok"), (Token::user(BOB), "error")] {
        let mut client =
            walcast_tests::Client::connect(world.walcast.port(), &token.sign(), Version::V2)
                .await?;
        let reply = client.join(topic, &config).await?;
        assert_eq!(reply.payload["status"], status, "{}", reply.payload_text);
        if status == "ok" {
            let message = json!({"type": "broadcast", "event": "e", "payload": {}});
            let reference = client.push(topic, "broadcast", &message).await?;
            assert_eq!(client.reply(&reference).await?.payload["status"], "ok");
        }
    }
    world.end().await
}
