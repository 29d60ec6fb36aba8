//! What walcast sees to before SQL can send: the table, its publication, and the stream that brings them.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use walcast_tests::{Client, Database, Message, Postgres, Token, Version, Walcast};

use super::{TOPIC, heard, joined};
use crate::world::{VERSIONS, World, allow_messages};

/// How long a login may take, and how long until the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Joins a topic and asks to be told when messages from SQL arrive.
async fn join_and_wait(client: &mut Client, topic: &str) -> Result<()> {
    let config = json!({"config": {"broadcast": {"replication_ready": true}}});
    client.join(topic, &config).await.map(drop)
}

/// They arrive.
async fn replication_is_ready(client: &mut Client) -> Result<()> {
    let text = "Replication connection established";
    client.next_where("the replication", |message| message.is_system(text)).await.map(drop)
}

/// Sends numbered messages over and over until it is told to stop, and gives those whose commit was
/// confirmed; others may have been committed, too.
async fn keep_sending(
    database: Arc<Database>,
    sent: watch::Sender<i64>,
    stopped: watch::Receiver<bool>,
) -> Vec<i64> {
    let mut committed = Vec::new();
    while !*stopped.borrow() {
        // Not at once again: a socket that tries the port of a server that is gone often enough is given
        // that port itself, and is connected to nobody but itself.
        let connecting = timeout(CONNECT_TIMEOUT, database.session());
        let Ok(Ok(session)) = connecting.await else {
            sleep(RETRY_PAUSE).await;
            continue;
        };
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
    let database = Arc::new(database);
    let sending = tokio::spawn(keep_sending(Arc::clone(&database), sent, stopped));
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

    let session = database.session().await?;
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
        join_and_wait(&mut client, TOPIC).await?;
        replication_is_ready(&mut client).await?;
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

#[tokio::test]
async fn a_slot_that_met_a_time_without_the_publication_is_read_on() -> Result<()> {
    let database = Postgres::shared().await?.database("messages_gap").await?;
    database
        .run(
            "create table notes (id int primary key);
             alter publication supabase_realtime add table notes;
             grant select on notes to walcast",
        )
        .await?;
    drop(Walcast::on(&database).set("WALCAST_MIGRATE", "false").start().await?);
    // PostgreSQL remembers the publication of today until the log says that it changes: the second row
    // is decoded with the knowledge of its time.
    database.run("insert into notes values (1)").await?;
    allow_messages(&database).await?;
    drop(Walcast::on(&database).set("WALCAST_SLOT", "slot_of_another").start().await?);
    for statement in [
        "drop publication supabase_realtime_messages_publication",
        "insert into notes values (2)",
        "create publication supabase_realtime_messages_publication for table realtime.messages",
        "insert into notes values (3)",
    ] {
        database.run(statement).await?;
    }
    let walcast = Walcast::on(&database).start().await?;
    let mut client = joined(&walcast, Version::V2).await?;
    client.push(TOPIC, "phx_leave", &json!({})).await?;
    join_and_wait(&mut client, TOPIC).await?;
    replication_is_ready(&mut client).await?;
    assert_eq!(heard(&mut client, &database).await?.len(), 0);
    let log = walcast.log().join("\n");
    assert!(log.contains("reading on without it"), "{log}");
    assert!(!log.contains("continuity is broken"), "{log}");
    drop(walcast);
    database.remove().await
}

#[tokio::test]
async fn a_publication_that_appears_while_the_server_runs_is_read() -> Result<()> {
    let database = Postgres::shared().await?.database("messages_appear").await?;
    let walcast = Walcast::on(&database).set("WALCAST_MIGRATE", "false").start().await?;
    let mut client = joined(&walcast, Version::V2).await?;
    join_and_wait(&mut client, "realtime:ready").await?;
    allow_messages(&database).await?;
    drop(Walcast::on(&database).set("WALCAST_SLOT", "slot_of_a_migration").start().await?);
    replication_is_ready(&mut client).await?;
    assert_eq!(heard(&mut client, &database).await?.len(), 0);
    drop(walcast);
    database.remove().await
}

#[tokio::test]
async fn a_session_that_holds_the_lock_of_migrations_holds_up_nothing_else() -> Result<()> {
    let database = Postgres::shared().await?.database("messages_locked").await?;
    allow_messages(&database).await?;
    database
        .run(
            "create table notes (id int primary key);
             alter publication supabase_realtime add table notes;
             grant select on notes to walcast, service_role",
        )
        .await?;
    let session = database.session().await?;
    session.batch_execute("select pg_advisory_lock(33602640380261236)").await?;
    let lock = session
        .query_one("select (classid::bigint << 32 | objid::bigint) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", &[])
        .await?;
    assert_eq!(lock.get::<_, i64>(0), 33_602_640_380_261_236);
    let walcast = Walcast::on(&database).start().await?;
    assert!(walcast.log_tail().contains("holds the lock of migrations"), "{}", walcast.log_tail());
    let token = Token::service_role().sign();
    let mut client = Client::connect(walcast.port(), &token, Version::V2).await?;
    let bindings = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    client.subscribe("realtime:notes", &bindings).await?;
    database.run("insert into notes values (1)").await?;
    client.change().await?;
    // It is tried again.
    join_and_wait(&mut client, TOPIC).await?;
    drop(session);
    replication_is_ready(&mut client).await?;
    assert_eq!(heard(&mut client, &database).await?.len(), 0);
    drop(walcast);
    database.remove().await
}

#[tokio::test]
async fn a_table_of_an_older_supabase_has_no_binary_messages_and_is_served() -> Result<()> {
    let database = Postgres::shared().await?.database("messages_old_table").await?;
    allow_messages(&database).await?;
    database
        .run(
            "create schema realtime;
             grant usage, create on schema realtime to walcast;
             create table realtime.messages (
               topic text not null, extension text not null, payload jsonb, event text,
               private boolean default false, updated_at timestamp not null default now(),
               inserted_at timestamp not null default now(), id uuid not null default gen_random_uuid(),
               primary key (id, inserted_at)) partition by range (inserted_at);
             alter table realtime.messages owner to walcast;",
        )
        .await?;
    let walcast =
        Walcast::on(&database).set("WALCAST_REPLAY_PUBLIC_CHANNELS", "true").start().await?;
    let mut client = joined(&walcast, Version::V2).await?;
    database.run("select realtime.send('{\"n\": 1}', 'live', 'room', false)").await?;
    let messages = heard(&mut client, &database).await?;
    assert_eq!(messages.len(), 1, "{messages:?}");
    client.push(TOPIC, "phx_leave", &json!({})).await?;
    let config = json!({"config": {"broadcast": {"replay": {"limit": 5}}}});
    client.join(TOPIC, &config).await?;
    let replayed =
        client.next_where("the earlier one", |message| message.payload["event"] == "live").await?;
    assert_eq!(replayed.payload["meta"]["replayed"], true);
    drop(walcast);
    database.remove().await
}
