//! What a change costs, by the number of subscribers and by what decides who gets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio::task::JoinHandle;
use walcast_tests::{Client, Database, Postgres, Token, Version, Walcast};

use super::{Options, cpu};

/// Channels on one connection.
const CHANNELS: u64 = 500;

/// Deliveries of one measurement, about; and its changes at most.
const DELIVERIES: u64 = 200_000;
const CHANGES_MAX: u64 = 4_000;
const CHANGES_MIN: u64 = 40;

/// Members of a team: how many subscribers see a change under the membership policy.
const TEAM: u64 = 10;

/// Limits that the measured load may not reach.
const UNBOUNDED: [(&str, &str); 5] = [
    ("WALCAST_OUTBOUND_QUEUE_FRAMES", "10000000"),
    ("WALCAST_OUTBOUND_QUEUE_BYTES", "8GiB"),
    ("WALCAST_MAX_CHANNELS_PER_CONNECTION", "100000"),
    ("WALCAST_MAX_JOINS_PER_SECOND", "100000"),
    ("WALCAST_MAX_CONCURRENT_USERS", "1000000"),
];

/// What decides who gets a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shape {
    /// Everybody gets everything.
    Open,
    /// One `eq` filter each, one match.
    Filter,
    /// `auth.uid() = user_id`, a user each, one match.
    Owner,
    /// The same with an `eq` filter each.
    OwnerAndFilter,
    /// A subquery over a table of members.
    Membership,
}

/// With PostgreSQL's milliseconds per change under the reference at 1, 10, 100, 1,000 and 5,000
/// subscribers, measured on two cores with PostgreSQL 15.
const SHAPES: [(Shape, &str, [f64; 5]); 5] = [
    (Shape::Open, "no filter", [1.1, 1.3, 1.8, 14.5, 178.0]),
    (Shape::Filter, "eq filter", [1.1, 1.1, 3.5, 16.0, 73.0]),
    (Shape::Owner, "auth.uid() = user_id", [1.4, 1.6, 5.2, 18.6, 96.5]),
    (Shape::OwnerAndFilter, "the same and eq filter", [1.9, 1.7, 3.2, 18.3, 87.0]),
    (Shape::Membership, "membership subquery", [1.2, 3.5, 4.9, 22.0, 115.0]),
];

const SUBSCRIBERS: [u64; 6] = [1, 10, 100, 1_000, 5_000, 100_000];

const SCHEMA: &str = "create table members (team int, user_id uuid, primary key (team, user_id));
    create table notes (id bigserial primary key, room int, user_id uuid, team int, body text);
    grant select on members, notes to authenticated;
    alter publication supabase_realtime add table notes;";

/// Prints a row for each shape and number of subscribers.
pub async fn run(options: &Options) -> Result<()> {
    println!("\n== subscribers: CPU per change (one insert per transaction), microseconds");
    println!(
        "{:<24} {:>8} {:>8} {:>10} {:>10} {:>9} {:>10} {:>11} {:>12}",
        "who gets it",
        "subscr.",
        "changes",
        "walcast",
        "questions",
        "decoding",
        "changes/s",
        "deliveries",
        "reference ms"
    );
    for (shape, title, reference) in SHAPES {
        if options.shape.as_ref().is_some_and(|wanted| !title.contains(wanted.as_str())) {
            continue;
        }
        for (column, n_subscribers) in SUBSCRIBERS.into_iter().enumerate() {
            let range = options.subscribers_min..=options.subscribers_max;
            if !range.contains(&n_subscribers) {
                continue;
            }
            let measured = Box::pin(measure(shape, n_subscribers)).await?;
            let reference = reference.get(column).map_or("-".to_owned(), f64::to_string);
            println!(
                "{title:<24} {n_subscribers:>8} {:>8} {:>10.1} {:>10.1} {:>9.1} {:>10.0} {:>11} {reference:>12}",
                measured.n_changes,
                measured.walcast_us,
                measured.questions_us,
                measured.decoding_us,
                measured.changes_per_second,
                measured.n_deliveries,
            );
        }
    }
    Ok(())
}

struct Measured {
    n_changes: u64,
    n_deliveries: u64,
    walcast_us: f64,
    questions_us: f64,
    decoding_us: f64,
    changes_per_second: f64,
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
async fn measure(shape: Shape, n_subscribers: u64) -> Result<Measured> {
    let server = Postgres::start_with_prelude().await?;
    let database = server.database("subscribers").await?;
    database.run(SCHEMA).await?;
    prepare(shape, n_subscribers, &database).await?;
    let mut builder = Walcast::on(&database);
    for (name, value) in UNBOUNDED {
        builder = builder.set(name, value);
    }
    let walcast = builder.start().await?;
    let seen = Arc::new(AtomicU64::new(0));
    let readers = subscribe(shape, n_subscribers, walcast.port(), &seen).await?;

    let per_change = match shape {
        Shape::Open => n_subscribers,
        Shape::Filter | Shape::Owner | Shape::OwnerAndFilter => 1,
        Shape::Membership => n_subscribers.min(TEAM),
    };
    // Caches are filled, connections are open.
    insert(&database, n_subscribers, 20).await?;
    wait_for(&seen, 20 * per_change).await?;
    seen.store(0, Ordering::Relaxed);

    let n_changes = (DELIVERIES / per_change).clamp(CHANGES_MIN, CHANGES_MAX);
    let before = [
        cpu::of_process(walcast.id())?,
        spent(&database, false).await?,
        spent(&database, true).await?,
    ];
    let started = Instant::now();
    insert(&database, n_subscribers, n_changes).await?;
    wait_for(&seen, n_changes * per_change).await?;
    let seconds = started.elapsed().as_secs_f64();
    let after = [
        cpu::of_process(walcast.id())?,
        spent(&database, false).await?,
        spent(&database, true).await?,
    ];
    let us = |index: usize| (after[index] - before[index]) * 1e6 / n_changes as f64;
    for reader in readers {
        reader.abort();
    }
    Ok(Measured {
        n_changes,
        n_deliveries: n_changes * per_change,
        walcast_us: us(0),
        questions_us: us(1),
        decoding_us: us(2),
        changes_per_second: n_changes as f64 / seconds,
    })
}

async fn prepare(shape: Shape, n_subscribers: u64, database: &Database) -> Result<()> {
    let policy = match shape {
        Shape::Open | Shape::Filter => return Ok(()),
        Shape::Owner | Shape::OwnerAndFilter => "auth.uid() = user_id",
        Shape::Membership => {
            "exists (select from members \
             where members.team = notes.team and members.user_id = auth.uid())"
        }
    };
    database
        .run(&format!(
            "insert into members select n / {TEAM}, {} from generate_series(0, {}) n; analyze members; \
             alter table notes enable row level security; \
             create policy p on notes for select using ({policy})",
            user_sql("n"),
            n_subscribers - 1
        ))
        .await
}

/// The user of a number, as SQL and as text.
fn user_sql(number: &str) -> String {
    format!("('00000000-0000-4000-8000-' || lpad(({number})::text, 12, '0'))::uuid")
}

fn user(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

async fn subscribe(
    shape: Shape,
    n_subscribers: u64,
    port: u16,
    seen: &Arc<AtomicU64>,
) -> Result<Vec<JoinHandle<Result<()>>>> {
    let mut readers = Vec::new();
    for first in (0..n_subscribers).step_by(usize::try_from(CHANNELS)?) {
        let mut client =
            Client::connect(port, &Token::user(&user(first)).sign(), Version::V2).await?;
        for number in first..n_subscribers.min(first + CHANNELS) {
            let mut binding = json!({"event": "INSERT", "schema": "public", "table": "notes"});
            if matches!(shape, Shape::Filter | Shape::OwnerAndFilter) {
                binding["filter"] = json!(format!("room=eq.{number}"));
            }
            let token = Token::user(&user(number)).sign();
            let topic = format!("realtime:{number}");
            client.subscribe_with(&topic, &json!([binding]), Some(&token)).await?;
        }
        let seen = Arc::clone(seen);
        readers.push(tokio::spawn(async move { client.count_changes(&seen).await }));
    }
    Ok(readers)
}

/// Inserts rows, each in a transaction of its own, for one subscriber after the other.
async fn insert(database: &Database, n_subscribers: u64, n_changes: u64) -> Result<()> {
    database
        .run(&format!(
            "do $$ begin for i in 1 .. {n_changes} loop \
               insert into notes (room, user_id, team, body) select n, {}, n / {TEAM}, 'a note' \
                 from (select (i::bigint * 7919) % {n_subscribers} as n) as s; \
               commit; end loop; end $$",
            user_sql("n")
        ))
        .await
}

async fn wait_for(seen: &AtomicU64, n_deliveries: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(120);
    while seen.load(Ordering::Relaxed) < n_deliveries {
        if Instant::now() > end {
            bail!("{} of {n_deliveries} changes came", seen.load(Ordering::Relaxed));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ensure!(seen.load(Ordering::Relaxed) == n_deliveries, "too many changes came");
    Ok(())
}

/// CPU seconds of walcast's sessions in PostgreSQL: the one that decodes, or the others.
async fn spent(database: &Database, is_decoding: bool) -> Result<f64> {
    let operator = if is_decoding { "=" } else { "<>" };
    let pids = database
        .text(&format!(
            "select coalesce(string_agg(pid::text, ','), '') from pg_stat_activity \
             where application_name = 'walcast' and backend_type {operator} 'walsender'"
        ))
        .await?
        .context("a list of sessions")?;
    let pids = pids.split(',').filter(|pid| !pid.is_empty());
    pids.map(|pid| cpu::of_process(pid.parse()?)).sum()
}
