//! What the guides tell to type works.

use anyhow::{Context, Result};
use serde_json::json;
use std::process::Command;

use tokio_postgres::NoTls;
use walcast_tests::{
    Client, Database, Postgres, SUPERUSER, Token, Version, Walcast, walcast_program,
};

use crate::world::{ALICE, BOB, World};

const README: &str = include_str!("../../README.md");
const SELF_HOSTING: &str = include_str!("../../docs/guides/self-hosting.md");

const DATABASE_BROADCAST: &str = include_str!("../../docs/guides/database-broadcast.md");
const PRIVATE_CHANNELS: &str = include_str!("../../docs/guides/private-channels.md");

/// Runs the SQL of a guide, from its first to its last line.
async fn follow(guide: &str, database: &Database) -> Result<()> {
    let blocks = sql_of(guide);
    assert!(!blocks.is_empty());
    for block in blocks {
        database.run(block).await?;
    }
    Ok(())
}

/// The snippets of SQL.
fn sql_of(guide: &str) -> Vec<&str> {
    let after = guide.split("```sql\n").skip(1);
    after.map(|rest| rest.split_once("```").map_or(rest, |(sql, _)| sql)).collect()
}

#[test]
fn every_file_with_sql_is_followed_here() -> Result<()> {
    let followed = ["database-broadcast.md", "private-channels.md", "self-hosting.md"];
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guides"))? {
        let path = entry?.path();
        let has_sql = !sql_of(&std::fs::read_to_string(&path)?).is_empty();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(!has_sql || followed.contains(&name), "{name} has SQL that no test runs");
    }
    Ok(())
}

#[tokio::test]
async fn what_readme_says_in_sql() -> Result<()> {
    let world = World::with_messages("guide_readme", "").await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    client.join("realtime:room", &json!({"config": {}})).await?;
    follow(README, &world.database).await?;
    let heard =
        client.next_where("the cursor", |message| message.payload["event"] == "cursor").await?;
    assert_eq!(heard.payload["payload"]["x"], 1);
    world.end().await
}

#[tokio::test]
async fn the_guide_to_self_hosting_on_a_plain_postgresql() -> Result<()> {
    let server = Postgres::start().await?;
    let url = server.url(SUPERUSER, "postgres");
    let (superuser, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    superuser.batch_execute("create table todos (id int primary key, owner uuid)").await?;
    let [wal_level, role, publication, policies, removal] = sql_of(SELF_HOSTING)[..] else {
        anyhow::bail!("the guide has other snippets than this test follows");
    };
    superuser.batch_execute(wal_level).await?;
    let output = Command::new(walcast_program()?)
        .args(["migrate", "--bootstrap"])
        .env_clear()
        .env("DATABASE_URL", &url)
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    superuser.batch_execute(role).await?;
    let (creation, addition) = publication.split_once('\n').context("two lines")?;
    assert!(creation.contains("unless migrate --bootstrap did"), "{creation}");
    superuser.batch_execute(addition).await?;
    superuser.batch_execute(policies).await?;
    superuser.batch_execute("grant select on todos to authenticated").await?;

    let walcast = Walcast::at(&server.url("walcast", "postgres"), "walcast").start().await?;
    let bindings = json!([{"event": "*", "schema": "public", "table": "todos"}]);
    let mut clients = Vec::new();
    for sub in [ALICE, BOB] {
        let token = Token::user(sub).sign();
        let mut client = Client::connect(walcast.port(), &token, Version::V2).await?;
        client.subscribe("realtime:todos", &bindings).await?;
        clients.push(client);
    }
    let rows =
        format!("insert into todos values (1, '{ALICE}'); insert into todos values (2, '{BOB}')");
    superuser.batch_execute(&rows).await?;
    for (client, id) in clients.iter_mut().zip([1, 2]) {
        assert_eq!(client.change().await?.data()["record"]["id"], id);
    }
    drop(walcast);
    // PostgreSQL takes a moment to see that the process is gone.
    walcast_tests::eventually("the slot to be free", || async {
        let slot = "select active from pg_replication_slots where slot_name = 'walcast'";
        let is_active: bool = superuser.query_one(slot, &[]).await?.get(0);
        Ok((!is_active).then_some(()))
    })
    .await?;
    superuser.batch_execute(removal).await?;
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
