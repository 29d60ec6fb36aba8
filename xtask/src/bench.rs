//! The measures, as a table.

mod cpu;
mod crates;
mod drain;
mod fanout;
mod latency;
mod subscribers;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

/// What to measure.
#[derive(Args, Debug)]
pub struct Options {
    /// How many rows the drain inserts.
    #[arg(long, default_value_t = 200_000)]
    rows: u64,
    /// How many rows each transaction of the drain holds.
    #[arg(long, default_value_t = 10)]
    rows_per_transaction: u64,
    /// How often the drain is repeated.
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// How many seconds each latency is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The largest number of subscribers.
    #[arg(long, default_value_t = 100_000)]
    subscribers_max: u64,
    /// The smallest number of subscribers.
    #[arg(long, default_value_t = 1)]
    subscribers_min: u64,
    /// Only what decides who gets a change that has this in its title: `membership`, say.
    #[arg(long)]
    shape: Option<String>,
    /// What to measure; everything when none is named.
    #[arg(long, value_enum)]
    part: Vec<Part>,
}

/// A group of measures.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Part {
    /// The benchmarks that stand beside the code; they need no PostgreSQL.
    Crates,
    /// How quickly a backlog is worked off.
    Drain,
    /// From a commit to the client.
    Latency,
    /// What a change costs by the number of subscribers.
    Subscribers,
    /// What a delivery of a broadcast costs, and a connection that is idle.
    Fanout,
}

impl Options {
    fn has(&self, part: Part) -> bool {
        self.part.is_empty() || self.part.contains(&part)
    }
}

/// Measures release builds and prints tables.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    if cfg!(debug_assertions) {
        return run_release_build(root, options);
    }
    if options.has(Part::Crates) {
        crates::run(root)?;
    }
    if options.part == [Part::Crates] {
        return Ok(());
    }
    super::vectors::build_server(root)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        if options.has(Part::Drain) {
            Box::pin(drain::run(options)).await?;
        }
        if options.has(Part::Latency) {
            Box::pin(latency::run(options)).await?;
        }
        if options.has(Part::Subscribers) {
            Box::pin(subscribers::run(options)).await?;
        }
        if options.has(Part::Fanout) {
            Box::pin(fanout::run(root, options.rounds, options.seconds)).await?;
        }
        Ok(())
    })
}

/// The subscriber is part of what is measured end to end, so it is optimised, too.
fn run_release_build(root: &Path, options: &Options) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--release", "--package", "xtask", "--", "bench"]);
    command.args(["--rows", &options.rows.to_string()]);
    command.args(["--rows-per-transaction", &options.rows_per_transaction.to_string()]);
    command.args(["--rounds", &options.rounds.to_string()]);
    command.args(["--seconds", &options.seconds.to_string()]);
    command.args(["--subscribers-max", &options.subscribers_max.to_string()]);
    command.args(["--subscribers-min", &options.subscribers_min.to_string()]);
    command.args(options.shape.iter().flat_map(|shape| ["--shape", shape]));
    for part in &options.part {
        let name = part.to_possible_value().context("a part has a name")?;
        command.args(["--part", name.get_name()]);
    }
    if !command.current_dir(root).status()?.success() {
        bail!("the release build of the measures failed");
    }
    Ok(())
}
