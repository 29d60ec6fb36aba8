//! PostgreSQL as the oracle: random tables, policies, roles, claims, rows and filters, and what
//! PostgreSQL itself says about them.
//!
//! ```text
//! seed ─► World ─► a database ─┬─► set role; set claims; select id from the table ─► Shown ──┐
//!                              └─► WAL, catalogue ─► RowRule::decide ─► Verdict ─► compare ◄─┘
//! ```
//!
//! A short run is a test; `cargo xtask oracle --cases 1000000` is a long one. A disagreement is
//! printed with the seed that shows it again.

mod audiences;
mod auth;
mod channels;
mod compare;
mod filters;
mod grammar;
mod objects;
mod random;
mod reading;
mod realistic;
mod report;
mod shrink;
pub mod stage;
mod truth;
mod values;
mod world;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use walcast_tests::Postgres;

use report::Report;
use stage::Stage;
use world::{Size, World};

/// Decisions of the short run: about ten seconds.
const SHORT_RUN: usize = 70_000;

/// How much one world holds: small enough that a case prints on a page, large enough that setting up
/// a database takes less time than asking it.
const SIZE: Size = Size { tables: 16, rows: 60, audiences: 16, looks: 8, filters: 50 };

#[tokio::test]
async fn policies_and_filters_agree_with_postgresql() -> Result<()> {
    let cases = number("WALCAST_ORACLE_CASES")?.unwrap_or(SHORT_RUN as u64);
    let seed = number("WALCAST_ORACLE_SEED")?.unwrap_or(1);
    let server = Postgres::shared().await?;
    let maintenance = server.database("oracle_roles").await?;
    maintenance.run(audiences::CREATE_ROLES).await?;
    let icu = "select 1 from pg_collation where collprovider = 'i' limit 1";
    let has_icu = maintenance.text(icu).await?.is_some();
    maintenance.remove().await?;

    let started = Instant::now();
    let mut report = Report::default();
    for seed in seed.. {
        let mut world = World::new(seed, SIZE, has_icu);
        Box::pin(play(server, &mut world, &mut report))
            .await
            .with_context(|| format!("world {seed}"))?;
        if report.decisions() as u64 >= cases {
            break;
        }
        if report.worlds % 10 == 0 {
            println!("{} decisions, {} wrong", report.decisions(), report.wrong());
        }
    }
    println!("\n{}\n{}", report.details(), report.summary(started.elapsed()));
    ensure!(report.wrong() == 0, "{} disagreements with PostgreSQL", report.wrong());
    Ok(())
}

async fn play(server: &Postgres, world: &mut World, report: &mut Report) -> Result<()> {
    let mut stage = Box::pin(Stage::build(server, world, report)).await?;
    let suspects = compare::world(world, &stage, report).await?;
    filters::compare(world, &stage, SIZE, report).await?;
    shrink::print(world, &mut stage, &suspects, report).await?;
    report.worlds += 1;
    let Stage { database, session, .. } = stage;
    drop(session);
    database.remove().await
}

/// A number from the environment, as `cargo xtask oracle` sets it.
fn number(name: &str) -> Result<Option<u64>> {
    std::env::vars_os()
        .find(|(key, _)| key == name)
        .map(|(_, text)| {
            let text = text.to_string_lossy();
            text.parse().with_context(|| format!("{name} is no number"))
        })
        .transpose()
}
