//! The project's own tasks: `cargo xtask --help`.

mod bench;
mod ci;
mod conformance;
mod docs;
mod oracle;
mod postgres_matrix;
mod tidy;
mod vectors;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "The project's own tasks.")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Every check and test; what CI runs.
    Ci,
    /// The rules that neither the compiler nor Clippy knows.
    Tidy,
    /// Writes docs/reference from the tables in the code.
    Docs {
        /// Compares instead of writing.
        #[arg(long)]
        check: bool,
    },
    /// The protocol's conformance checklist: each item with its tests and what became of them.
    Conformance(conformance::Options),
    /// Replays recorded cases of the reference server.
    Vectors(vectors::Options),
    /// The measures, as a table.
    Bench(bench::Options),
    /// Compares verdicts on random policies and filters with PostgreSQL's.
    Oracle(oracle::Options),
    /// The integration tests and vectors on several releases of PostgreSQL.
    Matrix(postgres_matrix::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let root = root()?;
    match task {
        Task::Ci => ci::run(&root),
        Task::Tidy => tidy::run(&root),
        Task::Docs { check } => docs::run(&root, check),
        Task::Conformance(options) => conformance::run(&root, &options),
        Task::Vectors(options) => vectors::run(&root, &options),
        Task::Bench(options) => bench::run(&root, &options),
        Task::Oracle(options) => oracle::run(&root, &options),
        Task::Matrix(options) => postgres_matrix::run(&root, &options),
    }
}

/// The root of the workspace.
fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(Path::to_owned).context("xtask has no parent folder")
}
