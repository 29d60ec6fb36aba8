//! The benchmarks that stand beside the code they measure.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

/// Title, package and benchmark.
const BENCHMARKS: [(&str, &str, &str); 5] = [
    ("decode", "walcast-replicator", "decode"),
    ("match", "walcast-filters", "matching"),
    ("policy", "walcast-filters", "policy"),
    ("encode", "walcast-protocol", "encode"),
    ("frames", "walcast-protocol", "frames"),
];

/// Runs each; they print their own lines.
pub fn run(root: &Path) -> Result<()> {
    for (title, package, benchmark) in BENCHMARKS {
        println!("\n== {title}");
        let status = Command::new("cargo")
            .args(["bench", "--quiet", "--package", package, "--bench", benchmark])
            .current_dir(root)
            .status()?;
        if !status.success() {
            bail!("benchmark {benchmark} of {package} failed");
        }
    }
    Ok(())
}
