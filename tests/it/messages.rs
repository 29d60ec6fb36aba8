//! What SQL says to channels: rows of `realtime.messages`, through the stream.

mod preparing;

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Client, Database, Message, Token, Version, Walcast};

use crate::world::World;

const TOPIC: &str = "realtime:room";

/// Connects and joins `realtime:room`.
async fn joined(walcast: &Walcast, version: Version) -> Result<Client> {
    let mut client = Client::connect(walcast.port(), &Token::anon().sign(), version).await?;
    let reply = client.join(TOPIC, &json!({"config": {}})).await?;
    assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    Ok(client)
}

/// The broadcasts up to one that is sent after all others.
async fn heard(client: &mut Client, database: &Database) -> Result<Vec<Message>> {
    static ENDS: AtomicU32 = AtomicU32::new(0);
    let end = format!("end {}", ENDS.fetch_add(1, Ordering::Relaxed));
    database.run(&format!("select realtime.send('{{}}', '{end}', 'room', false)")).await?;
    let is_end = |message: &Message| message.payload["event"] == end.as_str();
    client.next_where(&end, is_end).await?;
    let mut messages = client.take_inbox();
    messages.retain(|message| {
        message.event == "broadcast"
            && !message.payload["event"].as_str().is_some_and(|event| event.starts_with("end "))
    });
    Ok(messages)
}

fn events(messages: &[Message]) -> Vec<&str> {
    messages.iter().filter_map(|message| message.payload["event"].as_str()).collect()
}

#[tokio::test]
async fn what_sql_sends_reaches_each_version_in_its_form() -> Result<()> {
    let world = World::with_messages("messages_forms", "").await?;
    let (mut old, mut new) =
        (joined(&world.walcast, Version::V1).await?, joined(&world.walcast, Version::V2).await?);
    world
        .database
        .run(
            r#"select realtime.send('{"a": 1.50}', 'first', 'room', false);
               select realtime.send('{"id": null}', 'second', 'room', false);
               select realtime.send_binary('\x00ff', 'blob', 'room', false);
               select realtime.send('{}', 'elsewhere', 'hall', false);
               select realtime.send('{}', 'hidden', 'room', true);"#,
        )
        .await?;
    let ids = world
        .database
        .text("select string_agg(id::text, ',' order by event) from realtime.messages where event in ('first', 'second', 'blob')")
        .await?
        .unwrap_or_default();
    let [blob, first, second] = ids.split(',').collect::<Vec<_>>()[..] else { panic!("{ids}") };

    let messages = heard(&mut old, &world.database).await?;
    assert_eq!(events(&messages), ["first", "second"]);
    assert_eq!(
        messages[0].payload_text,
        format!(
            r#"{{"type":"broadcast","event":"first","payload":{{"a": 1.50, "id": "{first}"}},"meta":{{"id":"{first}"}}}}"#
        )
    );
    assert_eq!(messages[1].payload["payload"], json!({"id": null}));

    let messages = heard(&mut new, &world.database).await?;
    assert_eq!(events(&messages), ["first", "second", "blob"]);
    assert!(messages.iter().all(|message| message.binary.is_some()));
    assert_eq!(messages[1].payload["meta"], json!({"id": second}));
    assert_eq!(messages[2].payload["meta"], json!({"id": blob}));
    assert!(messages[2].binary.as_ref().is_some_and(|frame| frame.ends_with(b"}\0\xff")));
    world.end().await
}

#[tokio::test]
async fn a_transaction_is_heard_whole_in_its_order_or_not_at_all() -> Result<()> {
    let world = World::with_messages("messages_order", "").await?;
    let mut client = joined(&world.walcast, Version::V2).await?;
    world
        .database
        .run(
            "begin;
             select realtime.send(jsonb_build_object('n', n), 'e' || n, 'room', false) from generate_series(1, 200) as n;
             commit;
             begin;
             select realtime.send('{}', 'rolled back', 'room', false);
             rollback;",
        )
        .await?;
    let messages = heard(&mut client, &world.database).await?;
    let expected: Vec<String> = (1..=200).map(|n| format!("e{n}")).collect();
    assert_eq!(events(&messages), expected);
    world.end().await
}

#[tokio::test]
async fn rows_that_are_no_messages_are_skipped_and_harm_nobody() -> Result<()> {
    let world = World::with_messages("messages_skipped", "").await?;
    let mut client = joined(&world.walcast, Version::V2).await?;
    world
        .database
        .run(
            "select realtime.send(null, 'e', 'room', false);
             select realtime.send('{}', null, 'room', false);
             select realtime.send('{}', 'e', 'room', null);
             select realtime.send('[1]', 'e', 'room', false);
             select realtime.send('1', 'e', 'room', false);
             select realtime.send('{}', 'e', null, false);
             select realtime.send(jsonb_build_object('x', repeat('x', 3100000)), 'huge', 'room', false);
             select realtime.send(jsonb_build_object('x', repeat('x', 2000000)), 'large', 'room', false);
             update realtime.messages set event = 'changed';",
        )
        .await?;
    let messages = heard(&mut client, &world.database).await?;
    assert_eq!(events(&messages), ["large"]);
    assert_eq!(messages[0].payload["payload"]["x"].as_str().map(str::len), Some(2_000_000));
    world.end().await
}

#[tokio::test]
async fn triggers_send_the_changes_of_their_rows() -> Result<()> {
    let world = World::with_messages("messages_trigger", "").await?;
    world
        .database
        .run("create policy all_hear on realtime.messages for select using (true)")
        .await?;
    let mut client =
        Client::connect(world.walcast.port(), &Token::anon().sign(), Version::V1).await?;
    client.join(TOPIC, &json!({"config": {"private": true}})).await?;
    world
        .database
        .run(
            "create table todos (id int primary key, body text);
             create function tell() returns trigger language plpgsql as $$
             begin
               perform realtime.broadcast_changes('room', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
               return null;
             end $$;
             create trigger tell after insert or update or delete on todos for each row execute function tell();
             insert into todos values (1, 'a'); update todos set body = 'b'; delete from todos;",
        )
        .await?;
    let payloads = world
        .database
        .text("select jsonb_agg(jsonb_set(payload, '{id}', '0') order by event) from realtime.messages where private")
        .await?
        .unwrap_or_default();
    let change = |operation: &str, new: Value, old: Value| {
        json!({"id": 0, "operation": operation, "schema": "public", "table": "todos",
            "record": new, "old_record": old})
    };
    let (a, b) = (json!({"id": 1, "body": "a"}), json!({"id": 1, "body": "b"}));
    let expected = json!([
        change("DELETE", Value::Null, b.clone()),
        change("INSERT", a.clone(), Value::Null),
        change("UPDATE", b, a),
    ]);
    assert_eq!(serde_json::from_str::<Value>(&payloads)?, expected);
    let mut heard = Vec::new();
    for operation in ["INSERT", "UPDATE", "DELETE"] {
        let is_it = |message: &Message| message.payload["event"] == operation;
        let mut message = client.next_where(operation, is_it).await?.payload["payload"].take();
        message["id"] = json!(0);
        heard.push(message);
    }
    heard.rotate_right(1);
    assert_eq!(Value::from(heard), expected);
    world.end().await
}

#[tokio::test]
async fn what_was_sent_while_the_server_was_down_arrives_afterwards() -> Result<()> {
    let world = World::with_messages("messages_down", "").await?;
    let World { database, mut walcast } = world;
    walcast.kill9()?;
    database.run("select realtime.send('{}', 'while down', 'room', false)").await?;
    // A lock on the table of marks holds the stream's first row back until the client is there.
    let port = walcast.port();
    drop(walcast);
    let walcast = Walcast::on(&database).port(port).start().await?;
    let mut client = joined(&walcast, Version::V2).await?;
    // Whoever comes too late has missed it; whatever is sent from now on arrives.
    let messages = heard(&mut client, &database).await?;
    assert!(events(&messages).iter().all(|event| *event == "while down"));
    let metrics = walcast_tests::http_get(port, "/metrics").await?.body;
    assert!(
        metrics.contains("walcast_broadcasts_total{origin=\"database\"} 2"),
        "both were passed on: {metrics}"
    );
    drop(walcast);
    database.remove().await
}
