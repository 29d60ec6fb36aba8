//! What may break, one test per failure, and what must hold then.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::sync::watch;
use walcast_tests::{
    Client, Database, ImageCell, Postgres, Token, WalReader, Walcast, eventually, http_get,
};

use crate::world::{NOTES, World, await_mark, summary, watch_marks};

#[tokio::test]
async fn postgres_restarts() -> Result<()> {
    let mut server = Postgres::start_with_prelude().await?;
    let mut world = World::on(&server, "restarts", NOTES, |builder| builder).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world.database.run("insert into notes values (1)").await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 1"]);

    server.stop()?;
    world.walcast.unhealthy().await?;
    server.start_again().await?;
    world.walcast.ready().await?;

    world.database.reconnect().await?;
    world.database.run("insert into notes values (2)").await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 2"]);
    world.end().await
}

#[tokio::test]
async fn backend_is_terminated() -> Result<()> {
    let world = World::new("terminated", NOTES).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    for round in 0..5 {
        for id in round * 40..round * 40 + 40 {
            world.database.run(&format!("insert into notes values ({id})")).await?;
        }
        world
            .database
            .run(
                "select pg_terminate_backend(pid) from pg_stat_activity \
                 where datname = current_database() and usename = 'walcast'",
            )
            .await?;
    }
    let changes = world.settled(&mut client).await?;
    let ids: Vec<u64> = changes.iter().filter_map(|data| data["record"]["id"].as_u64()).collect();
    assert_eq!(ids, (0..200).collect::<Vec<u64>>(), "once and in order");
    world.end().await
}

#[tokio::test]
async fn slot_is_taken_by_another() -> Result<()> {
    let world = World::new("taken", NOTES).await?;
    let mut standby = Walcast::on(&world.database).spawn()?;
    standby.unhealthy().await?;
    assert_eq!(standby.exit_status()?, None);

    let World { database, walcast } = world;
    drop(walcast);
    standby.ready().await?;
    let world = World { database, walcast: standby };
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world.database.run("insert into notes values (1)").await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 1"]);
    world.end().await
}

#[tokio::test]
async fn slot_is_dropped() -> Result<()> {
    let world = World::new("dropped", NOTES).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    let slot = format!("slot_{}", world.database.name());
    // The server takes its slot back as quickly as it can.
    eventually("the slot to be dropped", || async {
        world
            .database
            .run(&format!(
                "select pg_terminate_backend(active_pid) from pg_replication_slots \
                 where slot_name = '{slot}'"
            ))
            .await?;
        world.database.run(&format!("select pg_drop_replication_slot('{slot}')")).await?;
        Ok(Some(()))
    })
    .await?;
    let query = format!("select 1 from pg_replication_slots where slot_name = '{slot}' and active");
    eventually("a new slot", || world.database.text(&query)).await?;
    // What was committed in between is lost; the channel is told that it starts anew.
    let system = client.system("realtime:test").await?;
    assert!(system.is_system("Subscribed to PostgreSQL"), "{}", system.payload_text);
    world.database.run("insert into notes values (2)").await?;
    let change = client.change_on("realtime:test").await?;
    assert_eq!(change["record"]["id"], 2);
    world.end().await
}

#[tokio::test]
async fn wal_budget_is_exceeded() -> Result<()> {
    let mut world =
        World::with("budget", NOTES, |builder| builder.set("WALCAST_WAL_BUDGET", "16MiB")).await?;
    world.walcast.kill9()?;
    world
        .database
        .run(
            "select pg_logical_emit_message(false, 'x', repeat('x', 1000000)) \
             from generate_series(1, 40)",
        )
        .await?;
    world.walcast.start_again().await?;
    let retained = world
        .database
        .text(&format!(
            "select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) < 16 * 1024 * 1024 \
             from pg_replication_slots where slot_name = 'slot_{}'",
            world.database.name()
        ))
        .await?;
    assert_eq!(retained.as_deref(), Some("t"), "the slot retains more than its budget");
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world.database.run("insert into notes values (1)").await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 1"]);
    world.end().await
}

#[tokio::test]
async fn temporary_slot_leaves_nothing_behind() -> Result<()> {
    let mut world =
        World::with("temporary", NOTES, |builder| builder.set("WALCAST_SLOT_TEMPORARY", "true"))
            .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world.database.run("insert into notes values (1)").await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 1"]);
    let slots = "select count(*) from pg_replication_slots where database = current_database()";
    assert_eq!(world.database.text(slots).await?.as_deref(), Some("1"));
    world.walcast.kill9()?;
    eventually("the slot to be gone", || async {
        Ok((world.database.text(slots).await?.as_deref() == Some("0")).then_some(()))
    })
    .await?;
    world.end().await
}

#[tokio::test]
async fn publication_appears_later() -> Result<()> {
    let database = Postgres::shared().await?.database("appears_later").await?;
    database
        .run("drop publication supabase_realtime; create table notes (id int primary key)")
        .await?;
    let mut walcast = Walcast::on(&database).spawn()?;
    let port = walcast.port();
    eventually("an answer", || async move { Ok(http_get(port, "/healthcheck").await.ok()) })
        .await?;
    database.run("create publication supabase_realtime for table notes").await?;
    walcast.ready().await?;
    let mut client = walcast.client(&Token::service_role()).await?;
    subscribe_when_known(&mut client, "notes").await?;
    database.run("insert into notes values (1)").await?;
    assert_eq!(client.change().await?.data()["record"], json!({"id": 1}));
    drop(walcast);
    database.remove().await
}

#[tokio::test]
async fn table_is_added_while_running() -> Result<()> {
    let world = World::new("added", NOTES).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world
        .database
        .run(
            "create table later (id int primary key); \
              alter publication supabase_realtime add table later; \
              insert into notes values (1)",
        )
        .await?;
    subscribe_when_known(&mut client, "later").await?;
    world.database.run("insert into later values (2); insert into notes values (3)").await?;
    let change = client.change_on("realtime:later").await?;
    assert_eq!(change["record"], json!({"id": 2}));
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 1", "INSERT 3"]);
    world.end().await
}

#[tokio::test]
async fn column_is_added_while_running() -> Result<()> {
    let world = World::new("column_added", NOTES).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world.database.run("insert into notes values (1, 'a', 1)").await?;
    world.database.run("alter table notes add column later text default 'x'").await?;
    world.database.run("insert into notes values (2, 'b', 2, 'y')").await?;
    let changes = world.settled(&mut client).await?;
    assert_eq!(changes[0]["record"], json!({"id": 1, "body": "a", "n": 1}));
    assert_eq!(changes[1]["record"], json!({"id": 2, "body": "b", "n": 2, "later": "y"}));
    let columns = changes[1]["columns"].as_array().map(Vec::len);
    assert_eq!(columns, Some(4), "{}", changes[1]["columns"]);
    world.end().await
}

#[tokio::test]
async fn walcast_is_killed_under_load() -> Result<()> {
    let mut world = World::new("killed", NOTES).await?;
    let slot = format!("slot_{}", world.database.name());
    let mut client = world.listener(&Token::anon(), "notes").await?;
    let writer = Writer::start(&world.database).await?;

    let before = ids_until(&mut client, 600).await?;
    assert_eq!(before, (1..=600).collect::<Vec<u64>>(), "before the kill");
    world.walcast.kill9()?;

    // What a fresh reader finds from the last acknowledged position on.
    writer.until(900).await?;
    let after_acknowledged = peek(&world.database, &slot).await?;
    let first = *after_acknowledged.first().context("nothing was left to read")?;
    assert!(first <= 601, "row {first} is first after the acknowledged position: rows were lost");
    assert!(
        after_acknowledged.iter().copied().eq(first..first + after_acknowledged.len() as u64),
        "the slot skips rows"
    );

    world.walcast.start_again().await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    let last = writer.stop().await?;
    let changes = world.settled(&mut client).await?;
    let seen: Vec<u64> = changes.iter().filter_map(|data| data["record"]["id"].as_u64()).collect();
    let resumed = *seen.first().context("the client saw nothing after its reconnect")?;
    assert_eq!(seen, (resumed..=last).collect::<Vec<u64>>(), "after the reconnect");

    // Every row after the acknowledged position went through the restarted process, and the mark.
    let events = events_read(&world).await?;
    assert_eq!(events, last - first + 2, "rows from {first} to {last} and one mark");
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_stalls() -> Result<()> {
    let world = World::with("stalls", NOTES, |builder| {
        builder
            .set("WALCAST_OUTBOUND_QUEUE_BYTES", "2MiB")
            .set("WALCAST_OUTBOUND_QUEUE_FRAMES", "1000")
    })
    .await?;
    let mut stalled = world.listener(&Token::anon(), "notes").await?;
    let mut attentive = world.listener(&Token::anon(), "notes").await?;
    for batch in 0..80 {
        let first = batch * 200;
        world
            .database
            .run(&format!(
                "insert into notes select i, repeat('x', 4000), i \
                 from generate_series({first}, {}) i",
                first + 199
            ))
            .await?;
        let changes = world.settled(&mut attentive).await?;
        assert_eq!(changes.len(), 200, "the attentive reader misses rows of batch {batch}");
    }
    // What was under way still arrives, and then the end.
    stalled.closed().await?;
    let seen = stalled.take_inbox().iter().filter(|message| message.is_change()).count();
    assert!(seen < 16_000, "the stalled reader was served without bound");
    attentive.heartbeat().await?;
    assert!(acknowledged(&world.database).await?, "the slot is held back");
    world.end().await
}

#[tokio::test]
async fn sigterm_closes_with_1012_and_exits_with_0() -> Result<()> {
    let mut world = World::new("sigterm", NOTES).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world.database.run("insert into notes values (1)").await?;
    assert_eq!(world.settled(&mut client).await?.len(), 1);
    world.walcast.terminate()?;
    assert_eq!(client.closed().await?, Some(1012));
    let status = world.walcast.wait().await?;
    assert!(status.success(), "{status}:\n{}", world.walcast.log_tail());
    let slot = format!("slot_{}", world.database.name());
    assert_eq!(peek(&world.database, &slot).await?, Vec::<u64>::new(), "not acknowledged");
    world.end().await
}

#[tokio::test]
async fn wal_sender_timeout_is_never_hit() -> Result<()> {
    let setup = format!(
        "{NOTES}
         do $$ begin execute format('alter database %I set wal_sender_timeout = ''1s''', \
           current_database()); end $$;"
    );
    let world = World::new("sender_timeout", &setup).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    let sender = "select pid || ' ' || backend_start::text from pg_stat_replication \
                  where usename = 'walcast' and pid in (select active_pid \
                  from pg_replication_slots where database = current_database())";
    let before = world.database.text(sender).await?;
    assert!(before.is_some());
    // Three times the timeout, idle.
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.database.run("insert into notes values (1)").await?;
    assert_eq!(world.settled(&mut client).await?.len(), 1);
    assert_eq!(world.database.text(sender).await?, before, "the connection was replaced");
    world.end().await
}

/// Subscribes to a table that was published a moment ago.
async fn subscribe_when_known(client: &mut Client, table: &str) -> Result<()> {
    let bindings = json!([{"event": "*", "schema": "public", "table": table}]);
    let topic = format!("realtime:{table}");
    let mut refusal = String::new();
    for _ in 0..100 {
        match client.subscribe(&topic, &bindings).await {
            Ok(_) => return Ok(()),
            Err(error) => refusal = format!("{error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("a published table cannot be subscribed to: {refusal}")
}

/// The ids of the rows that arrive, up to `last`.
async fn ids_until(client: &mut Client, last: u64) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    while ids.last() != Some(&last) {
        let data = client.change_on("realtime:test").await?;
        ids.push(data["record"]["id"].as_u64().context("a row without id")?);
    }
    Ok(ids)
}

/// The ids of the rows of `notes` that the slot has not acknowledged.
async fn peek(database: &Database, slot: &str) -> Result<Vec<u64>> {
    let session = database.session().await?;
    // The process that held it may still be listed.
    let changes = eventually("the slot to be free", || async {
        Ok(Some(WalReader::peek(&session, slot, "supabase_realtime").await?))
    })
    .await?;
    Ok(changes
        .iter()
        .filter(|change| change.relation.name == "notes")
        .filter_map(|change| match change.new.as_ref()?.first()? {
            ImageCell::Text(id) => id.parse().ok(),
            _ => None,
        })
        .collect())
}

/// Whether the slot is acknowledged up to what is committed.
async fn acknowledged(database: &Database) -> Result<bool> {
    let lsn = database.text("select pg_current_wal_flush_lsn()").await?.context("a position")?;
    let query = format!(
        "select 1 from pg_replication_slots where database = current_database() \
         and confirmed_flush_lsn >= '{lsn}'"
    );
    eventually("the slot to be acknowledged", || database.text(&query)).await.map(|_| true)
}

/// How many row events the process has read since it started.
async fn events_read(world: &World) -> Result<u64> {
    let metrics = http_get(world.walcast.port(), "/metrics").await?.body;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("walcast_row_events_total"))
        .with_context(|| format!("no metric of events read:\n{metrics}"))?;
    let number = line.split_whitespace().last().context("a metric without value")?;
    Ok(number.parse()?)
}

/// Inserts 500 rows a second, each in a transaction of its own.
struct Writer {
    task: tokio::task::JoinHandle<Result<u64>>,
    stop: watch::Sender<bool>,
    written: watch::Receiver<u64>,
}

impl Writer {
    async fn start(database: &Database) -> Result<Self> {
        let session = database.session().await?;
        let (stop, stopped) = watch::channel(false);
        let (progress, written) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(2));
            let mut id = 0;
            while !*stopped.borrow() {
                ticks.tick().await;
                id += 1;
                session
                    .batch_execute(&format!("insert into notes values ({id}, 'row {id}', 1)"))
                    .await?;
                progress.send_replace(id);
            }
            Ok(id)
        });
        Ok(Self { task, stop, written })
    }

    /// Waits until this many rows are committed.
    async fn until(&self, rows: u64) -> Result<()> {
        let mut written = self.written.clone();
        written.wait_for(|written| *written >= rows).await?;
        Ok(())
    }

    /// Ends and returns the number of rows.
    async fn stop(self) -> Result<u64> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

#[tokio::test]
async fn many_clients_come_and_go() -> Result<()> {
    let world = World::new("come_and_go", NOTES).await?;
    let mut steady = world.listener(&Token::anon(), "notes").await?;
    let bindings = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    let mut expected = BTreeSet::new();
    for id in 0..60_u64 {
        let mut client = world.walcast.client(&Token::anon()).await?;
        client.subscribe("realtime:test", &bindings).await?;
        world.database.run(&format!("insert into notes values ({id})")).await?;
        expected.insert(id);
        if id % 3 == 0 {
            // A row that was under way when the client subscribed may come, too.
            while client.change_on("realtime:test").await?["record"]["id"] != json!(id) {}
        }
        // Some close politely, the others just vanish.
        if id % 2 == 0 {
            client.close().await?;
        }
    }
    let changes: Vec<Value> = world.settled(&mut steady).await?;
    let ids: BTreeSet<u64> =
        changes.iter().filter_map(|data| data["record"]["id"].as_u64()).collect();
    assert_eq!(ids, expected);
    let mut other = world.walcast.client(&Token::anon()).await?;
    watch_marks(&mut other).await?;
    let id = world.database.text("insert into marks default values returning id").await?;
    await_mark(&mut other, &id.unwrap_or_default()).await?;
    world.end().await
}
