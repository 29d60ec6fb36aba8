//! Every check and test, in the order in which they are likely to fail.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

/// What one step runs.
struct Step {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// A file or folder without which the step is left out.
    needs: Option<&'static str>,
}

const fn cargo(name: &'static str, arguments: &'static [&'static str]) -> Step {
    Step { name, program: "cargo", arguments, needs: None }
}

const STEPS: &[Step] = &[
    Step {
        name: "set-up",
        program: "scripts/setup.sh",
        arguments: &[],
        needs: Some("scripts/setup.sh"),
    },
    cargo("format", &["fmt", "--all", "--check"]),
    cargo("tidy", &["xtask", "tidy"]),
    cargo(
        "clippy",
        &["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"],
    ),
    cargo("build", &["build", "--quiet", "--workspace"]),
    // Always the whole workspace: a choice of packages has other features, and would build the
    // dependencies again.
    cargo("tests", &["test", "--quiet", "--workspace", "--lib", "--bins", "--tests"]),
    cargo("doc tests", &["test", "--quiet", "--workspace", "--doc"]),
    cargo("conformance checklist", &["xtask", "conformance", "--check"]),
    cargo("reference pages", &["xtask", "docs", "--check"]),
    Step {
        name: "integration tests on PostgreSQL 17",
        program: "sh",
        arguments: &[
            "-c",
            "PG_BIN=$(scripts/postgres.sh 17) && export PG_BIN && \
             cargo test --quiet --workspace --test it",
        ],
        needs: Some("scripts/postgres.sh"),
    },
    Step {
        name: "client tests",
        program: "tests/clients/run.sh",
        arguments: &[],
        needs: Some("tests/clients/run.sh"),
    },
    Step {
        name: "soak",
        program: "sh",
        // Built by the step "build", beside the program under test.
        arguments: &[
            "-c",
            "soak=$(dirname \"$WALCAST_BIN\")/soak && \
             \"$soak\" --minutes 0.4 --connections 100 && \
             \"$soak\" --minutes 0.4 --connections 100 --kill",
        ],
        needs: None,
    },
    Step {
        name: "vectors",
        program: "cargo",
        arguments: &["xtask", "vectors"],
        needs: Some("../shared/vectors/cases"),
    },
];

/// Runs all steps; the first that fails ends it.
pub fn run(root: &Path) -> Result<()> {
    let started = Instant::now();
    let mut times = Vec::new();
    let mut programs = None;
    for step in STEPS {
        if step.needs.is_some_and(|needed| !root.join(needed).exists()) {
            println!("== {}: left out, {} is missing", step.name, step.needs.unwrap_or_default());
            continue;
        }
        println!("== {}", step.name);
        let began = Instant::now();
        let program = if step.program.contains('/') {
            root.join(step.program).into_os_string()
        } else {
            step.program.into()
        };
        let mut command = Command::new(program);
        command.args(step.arguments).current_dir(root);
        // Built by a step before the first that needs it, wherever the target folder is.
        command.env("WALCAST_BIN", std::env::current_exe()?.with_file_name("walcast"));
        // What the set-up may have installed is in no usual place.
        command.envs(programs.as_ref().map(|folder| ("PG_BIN", folder)));
        let passed = command.status()?.success();
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "== {}: {} in {seconds:.1} s",
            step.name,
            if passed { "passed" } else { "failed" }
        );
        times.push((step.name, seconds));
        if !passed {
            bail!("{} failed", step.name);
        }
        if programs.is_none() {
            programs = Some(postgres_programs(root)?);
        }
    }
    println!("\n{:<36} {:>8}", "step", "seconds");
    for (name, seconds) in times {
        println!("{name:<36} {seconds:>8.1}");
    }
    println!("{:<36} {:>8.1}", "all", started.elapsed().as_secs_f64());
    Ok(())
}

/// The folder of PostgreSQL's programs.
fn postgres_programs(root: &Path) -> Result<String> {
    let output = Command::new(root.join("scripts/find-postgres.sh")).output()?;
    if !output.status.success() {
        bail!("scripts/find-postgres.sh found no PostgreSQL");
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
