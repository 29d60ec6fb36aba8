//! The long run of the oracle: random tables, policies, roles, claims, rows and filters, compared
//! with what PostgreSQL says.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// The tests whose short runs are part of the integration tests.
const TESTS: [&str; 2] = [
    "oracle::policies_and_filters_agree_with_postgresql",
    "oracle::channels::private_channels_are_decided_as_postgresql_decides",
];

/// How much, and where to begin.
#[derive(Args)]
pub struct Options {
    /// How many verdicts to compare, at least; worlds are played as a whole.
    #[arg(long, default_value_t = 1_000_000)]
    cases: u64,
    /// The seed of the first world; the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Builds without optimisation: to replay one case.
    #[arg(long)]
    dev: bool,
}

/// Runs the same code as the integration test, longer.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["test", "--quiet", "--package", "walcast-tests", "--test", "it"]);
    if !options.dev {
        command.arg("--release");
    }
    command
        .args(["--", "--exact", TESTS[0], TESTS[1], "--nocapture"])
        .current_dir(root)
        .env("WALCAST_ORACLE_CASES", options.cases.to_string())
        .env("WALCAST_ORACLE_SEED", options.seed.to_string());
    if !command.status().context("cannot run cargo")?.success() {
        bail!("the oracle found disagreements, or did not run");
    }
    Ok(())
}
