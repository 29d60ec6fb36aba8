//! The measures, as a table.

use std::path::Path;

use anyhow::Result;
use clap::Args;

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// How many rows the drain inserts.
    #[arg(long, default_value_t = 200_000)]
    rows: u64,
}

/// Measures.
pub fn run(_root: &Path, options: &Options) -> Result<()> {
    println!("{}", options.rows);
    Ok(())
}
