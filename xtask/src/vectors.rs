//! Replays recorded cases of the reference server through walcast, and prints a line for each.

mod case;
mod compare;
mod differences;
mod filter_matrix;
mod judge;
mod oracle;
mod parse_params;
mod replay;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use futures_util::{StreamExt, stream};
use walcast_tests::Postgres;

use case::Case;
use differences::Difference;
use judge::{Verdict, judge};

/// What to replay.
#[derive(Args)]
pub struct Options {
    /// A folder with cases/, preamble.sql, parse_params.json and filter_matrix.json.
    folder: Option<PathBuf>,
    /// Plays only cases whose name contains this text.
    #[arg(long)]
    only: Option<String>,
    /// Fails when fewer cases pass or differ deliberately.
    #[arg(long, default_value_t = 85.0)]
    min_percent: f64,
    /// How many cases are played at once.
    #[arg(long, default_value_t = 3)]
    jobs: usize,
}

/// How many of something came out in which way.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    deliberate: usize,
    failed: usize,
    crashed: usize,
    left_out: usize,
}

impl Tally {
    fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Deliberate(_) => self.deliberate += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::Crashed(_) => self.crashed += 1,
            Verdict::LeftOut(_) => self.left_out += 1,
        }
    }

    fn total(&self) -> usize {
        self.passed + self.deliberate + self.failed + self.crashed
    }

    #[expect(clippy::cast_precision_loss, reason = "a percentage of some hundreds")]
    fn percent(&self) -> f64 {
        match self.total() {
            0 => 100.0,
            total => (self.passed + self.deliberate) as f64 * 100.0 / total as f64,
        }
    }

    fn print(&self, what: &str) {
        let left_out = match self.left_out {
            0 => String::new(),
            count => format!("; {count} left out"),
        };
        println!(
            "{what}: {} passed, {} deliberate differences, {} failed, {} crashed of {}: \
             {:.1} %{left_out}",
            self.passed,
            self.deliberate,
            self.failed,
            self.crashed,
            self.total(),
            self.percent()
        );
    }
}

/// Replays a folder.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let folder = match &options.folder {
        Some(folder) => folder.clone(),
        None => root.join("../shared/vectors"),
    };
    if !folder.is_dir() {
        bail!("{} is no folder", folder.display());
    }
    build_server(root)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(replay_folder(&folder, options))
}

/// Builds the program under test beside this one.
pub fn build_server(root: &Path) -> Result<()> {
    if std::env::vars_os().any(|(name, _)| name == "WALCAST_BIN") {
        return Ok(());
    }
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--package", "walcast-server", "--bin", "walcast"]);
    if cfg!(not(debug_assertions)) {
        build.arg("--release");
    }
    if !build.current_dir(root).status()?.success() {
        bail!("walcast does not build");
    }
    Ok(())
}

async fn replay_folder(folder: &Path, options: &Options) -> Result<()> {
    let server = Postgres::start().await?;
    let (roles, database_sql) = preamble(&folder.join("preamble.sql"))?;
    server.prepare_template(&roles, &database_sql).await?;

    let parse_tally = parse_params::run(&folder.join("parse_params.json"))?;
    let matrix_tally =
        Box::pin(filter_matrix::run(&server, &folder.join("filter_matrix.json"), options)).await?;
    let cases = Box::pin(replay_cases(&server, folder, options)).await?;
    if let Some(tally) = &parse_tally {
        tally.print("parse vectors");
    }
    for (name, tally) in &matrix_tally {
        tally.print(name);
    }
    cases.print("cases");
    let parse_failed = parse_tally.is_some_and(|tally| tally.failed > 0);
    if cases.percent() < options.min_percent || cases.crashed > 0 || parse_failed {
        bail!("too few vectors hold: at least {} % of the cases are wanted", options.min_percent);
    }
    Ok(())
}

async fn replay_cases(server: &Postgres, folder: &Path, options: &Options) -> Result<Tally> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder.join("cases"))
        .with_context(|| format!("{} has no cases", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    if let Some(only) = &options.only {
        paths.retain(|path| path.to_string_lossy().contains(only.as_str()));
    }
    paths.sort();
    let mut tally = Tally::default();
    let mut verdicts = stream::iter(paths)
        .map(|path| async move {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let verdict = match Box::pin(verdict_on(server, &path)).await {
                Ok(verdict) => verdict,
                Err(error) => Verdict::Failed(format!("{error:#}")),
            };
            (name, verdict)
        })
        .buffered(options.jobs.max(1));
    while let Some((name, verdict)) = verdicts.next().await {
        print_verdict(&name, &verdict);
        tally.count(&verdict);
    }
    Ok(tally)
}

async fn verdict_on(server: &Postgres, path: &Path) -> Result<Verdict> {
    let case = Case::read(path)?;
    match Box::pin(replay::play(server, &case)).await {
        Ok(played) => Ok(judge(&case, &played)),
        Err(error) if is_of_a_newer_release(server, &error) => Ok(Verdict::LeftOut(format!(
            "PostgreSQL {} does not know what it sets up",
            server.major()
        ))),
        Err(error) => Err(error),
    }
}

/// Whether a case was recorded on a release that knows more than this one.
fn is_of_a_newer_release(server: &Postgres, error: &anyhow::Error) -> bool {
    /// The release of the recordings.
    const RECORDED: u32 = 15;
    let is_syntax_error = error.chain().any(|cause| {
        let sql = cause.downcast_ref::<tokio_postgres::Error>();
        sql.and_then(tokio_postgres::Error::code).is_some_and(|code| code.code() == "42601")
    });
    server.major() < RECORDED && is_syntax_error
}

fn print_verdict(name: &str, verdict: &Verdict) {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    match verdict {
        Verdict::Passed => println!("passed {name}"),
        Verdict::Deliberate(differences) => {
            println!("deliberate difference {name}: {}", reasons(differences));
        }
        Verdict::Failed(difference) => println!("failed {name}: {}", one_line(difference)),
        Verdict::LeftOut(reason) => println!("left out {name}: {reason}"),
        Verdict::Crashed(log) => println!("crashed {name}: {}", one_line(log)),
    }
}

fn reasons(differences: &BTreeSet<Difference>) -> String {
    let reasons: Vec<String> = differences.iter().map(|difference| difference.reason()).collect();
    reasons.join("; ")
}

/// The statements that create roles, which the whole server has, and all others.
fn preamble(path: &Path) -> Result<(String, String)> {
    let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let (roles, others): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.trim_start().starts_with("create role"));
    // The login of the recording looks names up in these schemas.
    let search_path = format!(
        "alter role {} set search_path = \"$user\", public, auth, extensions;",
        walcast_tests::SUPERUSER
    );
    Ok((format!("{}\n{search_path}", roles.join("\n")), others.join("\n")))
}
