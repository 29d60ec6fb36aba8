//! What SQL says to channels: rows of `realtime.messages`, through the stream.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::sync::watch;
use walcast_tests::{Client, Database, Message, Postgres, Token, Version, Walcast};

use crate::world::{VERSIONS, World, allow_messages};

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

/// Sends numbered messages over and over until it is told to stop, and gives those whose commit was
/// confirmed; others may have been committed, too.
async fn keep_sending(
    url: String,
    sent: watch::Sender<i64>,
    stopped: watch::Receiver<bool>,
) -> Vec<i64> {
    let mut committed = Vec::new();
    while !*stopped.borrow() {
        let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
        let Ok((session, connection)) = connected else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(connection);
        while !*stopped.borrow() {
            sent.send_modify(|n| *n += 1);
            let n = *sent.borrow();
            let payload = json!({ "n": n });
            let sql = format!("select realtime.send('{payload}', 'e', 'room', false)");
            if session.batch_execute(&sql).await.is_err() {
                break;
            }
            committed.push(n);
        }
    }
    committed
}

#[tokio::test]
async fn what_is_committed_while_postgresql_restarts_arrives_once_and_in_order() -> Result<()> {
    let mut server = Postgres::start_with_prelude().await?;
    let database = server.database("messages_restart").await?;
    allow_messages(&database).await?;
    let mut walcast = Walcast::on(&database).start().await?;
    let mut client = joined(&walcast, Version::V2).await?;
    let (sent, n_sent) = watch::channel(0);
    let (stop, stopped) = watch::channel(false);
    let url = database.superuser_url().to_owned();
    let sending = tokio::spawn(keep_sending(url.clone(), sent, stopped));
    let number = |message: &Message| message.payload["payload"]["n"].as_i64();
    let mut numbers = Vec::new();
    let first = client.next_where("the first", |message| number(message).is_some()).await?;
    numbers.extend(number(&first));
    server.stop()?;
    walcast.unhealthy().await?;
    server.start_again().await?;
    walcast.ready().await?;
    let before = *n_sent.borrow();
    let later = |message: &Message| number(message).is_some_and(|n| n > before);
    let one_more = client.next_where("one that was sent since", later).await?;
    numbers.extend(client.take_inbox().iter().filter_map(number));
    numbers.extend(number(&one_more));
    stop.send_replace(true);
    let committed = sending.await?;

    let (session, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    session.batch_execute("select realtime.send('{}', 'end', 'room', false)").await?;
    client.next_where("the end", |message| message.payload["event"] == "end").await?;
    numbers.extend(client.take_inbox().iter().filter_map(number));
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order and once: {numbers:?}");
    let missing: Vec<&i64> = committed.iter().filter(|n| !numbers.contains(n)).collect();
    assert!(missing.is_empty(), "{missing:?} of {numbers:?}");
    Ok(())
}

#[tokio::test]
async fn a_slot_that_is_older_than_the_publication_is_read_on() -> Result<()> {
    let database = Postgres::shared().await?.database("messages_older").await?;
    database.run("create table notes (id int primary key); alter publication supabase_realtime add table notes; grant select on notes to walcast").await?;
    let walcast = Walcast::on(&database).set("WALCAST_MIGRATE", "false").start().await?;
    drop(walcast);
    // Changes of the time before the publication are in the slot.
    database.run("insert into notes values (1)").await?;
    allow_messages(&database).await?;
    let walcast = Walcast::on(&database).start().await?;
    for version in VERSIONS {
        let mut client = joined(&walcast, version).await?;
        client.push(TOPIC, "phx_leave", &json!({})).await?;
        let config = json!({"config": {"broadcast": {"replication_ready": true}}});
        client.join(TOPIC, &config).await?;
        client
            .next_where("the replication", |message| {
                message.is_system("Replication connection established")
            })
            .await?;
        assert_eq!(heard(&mut client, &database).await?.len(), 0);
    }
    // Nothing was given up for it, and the log was read without gaps.
    let log = walcast.log().join("\n");
    assert!(!log.contains("continuity is broken"), "{log}");
    drop(walcast);
    database.remove().await
}

#[tokio::test]
async fn a_publication_that_lists_something_else_is_made_anew() -> Result<()> {
    let database = Postgres::shared().await?.database("messages_publication").await?;
    allow_messages(&database).await?;
    drop(Walcast::on(&database).start().await?);
    database
        .run(
            "create table notes (id int primary key);
             alter publication supabase_realtime_messages_publication set table notes;",
        )
        .await?;
    let walcast = Walcast::on(&database).start().await?;
    let tables = database
        .text("select string_agg(distinct left(schemaname || '.' || tablename, 17), ',') from pg_publication_tables where pubname = 'supabase_realtime_messages_publication'")
        .await?;
    assert_eq!(tables.as_deref(), Some("realtime.messages"));
    let mut client = joined(&walcast, Version::V2).await?;
    assert_eq!(heard(&mut client, &database).await?.len(), 0);
    drop(walcast);
    database.remove().await
}

#[tokio::test]
async fn a_login_that_may_create_nothing_goes_without_messages() -> Result<()> {
    let world = World::new("messages_forbidden", "").await?;
    assert!(
        world.walcast.log_tail().contains("schema realtime is missing"),
        "{}",
        world.walcast.log_tail()
    );
    let exists = world.database.text("select to_regnamespace('realtime')::text").await?;
    assert_eq!(exists, None);
    world.end().await
}
