//! Much at once: what is large or slow harms nobody else.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use walcast_tests::{Token, Walcast, eventually};

use crate::world::{ALICE, BOB, World, summary};

/// W20: a transaction was held whole, and lost when it took too long. It passes through in pieces:
/// the process' memory does not follow the transaction's size, and no row is missing.
#[tokio::test]
async fn w20_a_huge_transaction_passes_in_flat_memory() -> Result<()> {
    /// 270 MB of row text.
    const ROWS: u64 = 150_000;
    const ROW_BYTES: u64 = 1_800;
    /// 64 MiB of rows may wait for PostgreSQL's verdict, and their images are in the questions once
    /// more; a process that collects the transaction holds all of its text. 12 to 49 MB were seen.
    const GROWTH_MAX: u64 = ROWS * ROW_BYTES / 2;
    let world = World::new(
        "w20",
        "create table notes (id int primary key, owner uuid, body text);
         alter table notes enable row level security;
         create policy own on notes for select to authenticated using (owner = auth.uid());
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut alice = world.listener(&Token::user(ALICE), "notes").await?;
    let binding =
        json!([{"event": "*", "schema": "public", "table": "notes", "filter": "body=like.first%"}]);
    let mut service = world.listener_to(&Token::service_role(), &binding).await?;
    let before = memory_peak(&world.walcast)?;
    world
        .database
        .run(&format!(
            "insert into notes select i, case i % 1000 when 0 then '{ALICE}'::uuid end,
               case i % 1000 when 1 then 'first' else '' end || repeat('x', {ROW_BYTES})
             from generate_series(1, {ROWS}) i"
        ))
        .await?;
    wait_for_slot(&world).await?;
    let growth = memory_peak(&world.walcast)?.saturating_sub(before);
    let ids = |changes: Vec<Value>| -> Vec<u64> {
        changes.iter().filter_map(|data| data["record"]["id"].as_u64()).collect()
    };
    let every_thousandth = |first: u64| (first..=ROWS).step_by(1000).collect::<Vec<u64>>();
    assert_eq!(ids(world.settled(&mut alice).await?), every_thousandth(1000));
    assert_eq!(ids(world.settled(&mut service).await?), every_thousandth(1));
    assert!(growth < GROWTH_MAX, "the process grew by {growth} bytes");
    world.end().await
}

/// W21: a bulk load of a table that is not published held up what was. The next published change
/// arrives, and the slot does not stay behind.
#[tokio::test]
async fn w21_an_unrelated_bulk_load_holds_up_nothing() -> Result<()> {
    let world = World::new(
        "w21",
        "create table calm (id int primary key); create table bulk (id int, body text);
         alter publication supabase_realtime add table calm;",
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "calm").await?;
    let session = world.database.session().await?;
    let load = session.batch_execute(
        "insert into bulk select i, repeat('x', 200) from generate_series(1, 300000) i",
    );
    let calm = async {
        for id in 1..=20 {
            world.database.run(&format!("insert into calm values ({id})")).await?;
        }
        anyhow::Ok(())
    };
    let (loaded, written) = tokio::join!(load, calm);
    loaded?;
    written?;
    world.database.run("insert into calm values (21)").await?;
    let changes = world.settled(&mut client).await?;
    let ids: Vec<u64> = changes.iter().filter_map(|data| data["record"]["id"].as_u64()).collect();
    assert_eq!(ids, (1..=21).collect::<Vec<u64>>());
    wait_for_slot(&world).await?;
    world.end().await
}

/// W22: a policy that takes its time held up every table. It holds up its own audience alone: while
/// it runs the others receive their rows, those of the same table and transaction included, and its
/// own rows come when it is done, in their order.
#[tokio::test]
async fn w22_a_slow_policy_holds_up_its_own_audience_alone() -> Result<()> {
    slow_policy_beside("true").await
}

/// W22, when the others' policy is one that PostgreSQL must be asked about, too.
#[tokio::test]
async fn w22_a_slow_policy_holds_up_no_other_question() -> Result<()> {
    slow_policy_beside("quick(n)").await
}

/// Runs a policy that does not end until it may, beside another audience of the same table whose
/// policy is `others`, and somebody on another table.
async fn slow_policy_beside(others: &str) -> Result<()> {
    const LOCK: u32 = 22;
    let world = World::with(
        "w22",
        &format!(
            "create function slow() returns bool language plpgsql as
               $$ begin perform pg_advisory_xact_lock_shared({LOCK}); return true; end $$;
             create function quick(n int) returns bool language plpgsql as
               $$ begin return n > 0; end $$;
             create table notes (id int primary key, n int);
             alter table notes enable row level security;
             create policy p on notes for select to authenticated using (slow());
             create policy q on notes for select to anon using ({others});
             create table calm (id int primary key);
             alter publication supabase_realtime add table notes, calm;"
        ),
        |builder| builder.set("WALCAST_AUTHORIZATION_TIMEOUT", "60s"),
    )
    .await?;
    let mut victim = world.listener(&Token::user(ALICE), "notes").await?;
    let mut neighbour = world.listener(&Token::anon(), "notes").await?;
    let mut bystander = world.listener(&Token::user(BOB), "calm").await?;
    let session = world.database.session().await?;
    session.batch_execute(&format!("select pg_advisory_lock({LOCK})")).await?;

    world.database.run("insert into notes values (1, 1); insert into calm values (1)").await?;
    let waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted \
                   and database = (select oid from pg_database where datname = current_database())";
    eventually("the policy to run", || world.database.text(waiting)).await?;
    world.database.run("insert into calm values (2); insert into notes values (2, 2)").await?;
    for (client, who) in [(&mut bystander, "bystander"), (&mut neighbour, "neighbour")] {
        for id in [1, 2] {
            let data = client.change_on("realtime:test").await.context(who)?;
            assert_eq!(data["record"]["id"], id, "{who}");
        }
    }
    assert_eq!(world.database.text(waiting).await?.as_deref(), Some("1"), "it runs on");
    session.batch_execute(&format!("select pg_advisory_unlock({LOCK})")).await?;
    assert_eq!(summary(&world.settled(&mut victim).await?), ["INSERT 1", "INSERT 2"]);
    world.end().await
}

/// The most memory the process has held, in bytes. Only Linux tells; elsewhere it is 0.
fn memory_peak(walcast: &Walcast) -> Result<u64> {
    if !cfg!(target_os = "linux") {
        return Ok(0);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", walcast.id()))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kibibytes: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kibibytes * 1024)
}

/// Waits until everything committed so far was handed over and acknowledged.
async fn wait_for_slot(world: &World) -> Result<()> {
    let query = "select pg_current_wal_flush_lsn()";
    let lsn = world.database.text(query).await?.context("a position")?;
    let reached = format!(
        "select 1 from pg_replication_slots where database = current_database() \
         and confirmed_flush_lsn >= '{lsn}'"
    );
    eventually("the slot to be acknowledged", || world.database.text(&reached)).await.map(drop)
}
