//! The measures, as a table.

mod crates;
mod drain;
mod latency;

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

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
    /// Leaves out what needs no PostgreSQL.
    #[arg(long)]
    only_end_to_end: bool,
}

/// Measures release builds and prints tables.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    if cfg!(debug_assertions) {
        return run_release_build(root, options);
    }
    if !options.only_end_to_end {
        crates::run(root)?;
    }
    super::vectors::build_server(root)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        Box::pin(drain::run(options)).await?;
        Box::pin(latency::run(options)).await
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
    command.args(options.only_end_to_end.then_some("--only-end-to-end"));
    if !command.current_dir(root).status()?.success() {
        bail!("the release build of the measures failed");
    }
    Ok(())
}
