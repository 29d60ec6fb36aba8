//! How quickly a backlog is worked off, beside PostgreSQL's own reader on the same WAL.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use walcast_tests::{Client, Database, Postgres, SUPERUSER, Token, Version, Walcast};

use super::{Options, cpu};

/// Limits that the backlog of a drain cannot reach: it is not the slow client that is measured.
const UNBOUNDED: [(&str, &str); 2] =
    [("WALCAST_OUTBOUND_QUEUE_FRAMES", "10000000"), ("WALCAST_OUTBOUND_QUEUE_BYTES", "8GiB")];

/// The slots that `pg_recvlogical` reads: one before walcast, one after it, so that the order of the
/// readers favours none.
const REFERENCE_SLOTS: [&str; 2] = ["recvlogical_before", "recvlogical_after"];

/// What reading the backlog cost.
struct Drained {
    name: &'static str,
    seconds: f64,
    cpu_seconds: f64,
}

/// Inserts rows while nothing is sent to walcast, and then lets both readers run, one after the
/// other.
///
/// Whatever else the machine does only ever adds, so the best of several rounds counts.
#[expect(clippy::cast_precision_loss, reason = "counts of rows far below 2^52")]
pub async fn run(options: &Options) -> Result<()> {
    println!(
        "\n== drain: {} inserts in transactions of {}",
        options.rows, options.rows_per_transaction
    );
    println!("{:<26} {:>9} {:>10} {:>14}", "reader", "seconds", "rows/s", "CPU us/row");
    let rows = options.rows as f64;
    let (mut best_reference, mut best_own) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..options.rounds.max(1) {
        let (references, own) = Box::pin(round(options)).await?;
        for reference in &references {
            best_reference = best_reference.min(reference.seconds);
        }
        best_own = best_own.min(own.seconds);
        for drained in references.iter().chain([&own]) {
            println!(
                "{:<26} {:>9.2} {:>10.0} {:>14.2}",
                drained.name,
                drained.seconds,
                rows / drained.seconds,
                drained.cpu_seconds * 1e6 / rows
            );
        }
    }
    if best_reference.is_finite() {
        let ratio = best_reference / best_own;
        println!("walcast's best is {ratio:.2} of pg_recvlogical's best rows/s (wanted: 0.70)");
    }
    Ok(())
}

async fn round(options: &Options) -> Result<(Vec<Drained>, Drained)> {
    let server = Postgres::start_with_prelude().await?;
    let database = server.database("drain").await?;
    database
        .run(
            "create table notes (id int primary key, body text, n int); \
             alter publication supabase_realtime add table notes; \
             do $$ begin execute format('alter database %I set wal_sender_timeout = 0', \
               current_database()); end $$;",
        )
        .await?;
    let mut builder = Walcast::on(&database);
    for (name, value) in UNBOUNDED {
        builder = builder.set(name, value);
    }
    let walcast = builder.start().await?;
    let token = Token::anon().sign();
    let mut client = Client::connect(walcast.port(), &token, Version::V2).await?;
    let bindings = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    client.subscribe("realtime:drain", &bindings).await?;
    for slot in REFERENCE_SLOTS {
        database
            .run(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')"))
            .await?;
    }

    // While the process that sends is stopped, the backlog grows and nothing of it is under way.
    let sender = database
        .text("select active_pid from pg_replication_slots where active")
        .await?
        .context("walcast reads no slot")?;
    let sender = Pid::from_raw(sender.parse()?).context("a process has an id")?;
    kill_process(sender, Signal::STOP)?;
    insert(&database, options).await?;
    let end = database.text("select pg_current_wal_flush_lsn()").await?.context("a position")?;

    let before_walcast = recvlogical(&server, &database, REFERENCE_SLOTS[0], &end)?;
    let before = cpu::of_process(walcast.id())?;
    let started = Instant::now();
    kill_process(sender, Signal::CONT)?;
    client.skip_changes(options.rows).await?;
    let own = Drained {
        name: "walcast, one subscriber",
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: cpu::of_process(walcast.id())? - before,
    };
    drop((client, walcast));
    let after_walcast = recvlogical(&server, &database, REFERENCE_SLOTS[1], &end)?;
    Ok((before_walcast.into_iter().chain(after_walcast).collect(), own))
}

async fn insert(database: &Database, options: &Options) -> Result<()> {
    let per_transaction = options.rows_per_transaction.max(1);
    database
        .run(&format!(
            "do $$ begin for i in 0 .. {} loop \
               insert into notes select i * {per_transaction} + j, \
                 'the body of note ' || i, j from generate_series(1, {per_transaction}) j; \
               commit; end loop; end $$",
            options.rows / per_transaction - 1
        ))
        .await
}

fn recvlogical(
    server: &Postgres,
    database: &Database,
    slot: &str,
    end: &str,
) -> Result<Option<Drained>> {
    let program = server.programs().path("pg_recvlogical");
    if !program.exists() {
        println!("pg_recvlogical is not installed beside {}", server.programs().folder.display());
        return Ok(None);
    }
    let before = cpu::of_children()?;
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", SUPERUSER])
        .args(["-d", database.name(), "--slot", slot, "--start", "--no-loop"])
        .args(["-f", "/dev/null", "--endpos", end])
        .args(["-o", "proto_version=1", "-o", "publication_names=supabase_realtime"])
        .stdin(Stdio::null())
        .spawn()?;
    let status = child.wait()?;
    if !status.success() {
        bail!("pg_recvlogical failed: {status}");
    }
    Ok(Some(Drained {
        name: "pg_recvlogical, /dev/null",
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: cpu::of_children()? - before,
    }))
}
