//! The integration tests and vectors on several releases of PostgreSQL.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// Which releases.
#[derive(Args)]
pub struct Options {
    /// Major releases.
    #[arg(default_values_t = [14, 16, 17, 18])]
    majors: Vec<u32>,
}

/// Installs each release with `scripts/postgres.sh` and runs the tests on it.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    super::vectors::build_server(root)?;
    let vectors = root.join("../shared/vectors").is_dir();
    let mut failed = Vec::new();
    for major in &options.majors {
        let programs = install(root, *major)?;
        println!("== PostgreSQL {major} in {programs}");
        let mut passed =
            cargo(root, &programs, &["test", "--quiet", "--package", "walcast-tests"])?;
        if vectors {
            passed &= cargo(root, &programs, &["xtask", "vectors"])?;
        }
        if !passed {
            failed.push(*major);
        }
    }
    if failed.is_empty() {
        println!("passed on PostgreSQL {:?}", options.majors);
        return Ok(());
    }
    bail!("failed on PostgreSQL {failed:?}")
}

/// Installs a release and returns the folder of its programs.
fn install(root: &Path, major: u32) -> Result<String> {
    let answer = Command::new("scripts/postgres.sh")
        .arg(major.to_string())
        .current_dir(root)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run scripts/postgres.sh")?;
    if !answer.status.success() {
        bail!("PostgreSQL {major} cannot be installed");
    }
    let text = String::from_utf8(answer.stdout)?;
    let folder = text.lines().last().context("scripts/postgres.sh names no folder")?;
    Ok(folder.trim().to_owned())
}

fn cargo(root: &Path, programs: &str, arguments: &[&str]) -> Result<bool> {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(root).env("PG_BIN", programs);
    Ok(command.status()?.success())
}
