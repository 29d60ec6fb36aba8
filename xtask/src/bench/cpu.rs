//! CPU time of processes, as Linux counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// User and system time of a process.
pub fn of_process(id: u32) -> Result<f64> {
    ticks(&format!("/proc/{id}/stat"), 11)
}

/// User and system time of the children that have ended.
pub fn of_children() -> Result<f64> {
    ticks("/proc/self/stat", 13)
}

/// The sum of two neighbouring fields of a stat file, counted after the program's name.
fn ticks(path: &str, first: usize) -> Result<f64> {
    /// USER_HZ is 100 on every Linux that has /proc.
    const PER_SECOND: f64 = 100.0;
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let (_, fields) = text.rsplit_once(") ").context("a stat file names its program")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let mut sum = Duration::ZERO;
    for index in [first, first + 1] {
        let ticks: f64 = fields.get(index).context("a stat file is too short")?.parse()?;
        sum += Duration::from_secs_f64(ticks / PER_SECOND);
    }
    Ok(sum.as_secs_f64())
}
