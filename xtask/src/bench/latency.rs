//! How long a commit takes to reach a client.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::sync::mpsc;
use walcast_tests::{Client, Database, Postgres, Token, Version, Walcast};

use super::Options;

/// Inserts per second.
const RATES: [u64; 2] = [200, 2_000];

/// Sessions that share the inserts, so that one that waits for its commit delays no other.
const WRITERS: u64 = 4;

/// Measures at each rate.
pub async fn run(options: &Options) -> Result<()> {
    let server = Postgres::start_with_prelude().await?;
    let database = server.database("latency").await?;
    database
        .run(
            "create table notes (id int primary key, body text); \
             alter publication supabase_realtime add table notes;",
        )
        .await?;
    let walcast = Walcast::on(&database).start().await?;
    let token = Token::anon().sign();
    println!("\n== latency: from sending COMMIT to the frame at the client");
    println!("{:>9} {:>8} {:>9} {:>9} {:>9}", "inserts/s", "rows", "p50 us", "p99 us", "max us");
    for rate in RATES {
        database.run("truncate notes").await?;
        let mut client = Client::connect(walcast.port(), &token, Version::V2).await?;
        let bindings = json!([{"event": "INSERT", "schema": "public", "table": "notes"}]);
        client.subscribe("realtime:latency", &bindings).await?;
        let mut latencies = measure(&database, &mut client, rate, options.seconds).await?;
        latencies.sort_unstable();
        let at = |permille: usize| {
            let index = latencies.len() * permille / 1000;
            latencies.get(index.min(latencies.len() - 1)).map_or(0, Duration::as_micros)
        };
        println!("{rate:>9} {:>8} {:>9} {:>9} {:>9}", latencies.len(), at(500), at(990), at(1000));
        client.close().await?;
    }
    Ok(())
}

async fn measure(
    database: &Database,
    client: &mut Client,
    rate: u64,
    seconds: u64,
) -> Result<Vec<Duration>> {
    let rows = rate * seconds;
    let (committed, mut commits) = mpsc::unbounded_channel();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let session = database.session().await?;
        let committed = committed.clone();
        let period = Duration::from_micros(1_000_000 * WRITERS / rate);
        writers.push(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(period);
            for id in (writer..rows).step_by(usize::try_from(WRITERS)?) {
                ticks.tick().await;
                session
                    .batch_execute(&format!("begin; insert into notes values ({id}, 'note {id}')"))
                    .await?;
                let started = Instant::now();
                session.batch_execute("commit").await?;
                committed.send((id, started))?;
            }
            anyhow::Ok(())
        }));
    }
    drop(committed);
    let mut received = vec![None; usize::try_from(rows)?];
    for _ in 0..rows {
        let change = client.change().await?;
        let moment = Instant::now();
        let id = change.data()["record"]["id"].as_u64().context("a row has an id")?;
        *received.get_mut(usize::try_from(id)?).context("an unknown row")? = Some(moment);
    }
    for writer in writers {
        writer.await??;
    }
    let mut latencies = Vec::new();
    while let Some((id, started)) = commits.recv().await {
        let moment = received.get(usize::try_from(id)?).copied().flatten();
        latencies.push(moment.context("a row was lost")?.saturating_duration_since(started));
    }
    Ok(latencies)
}
