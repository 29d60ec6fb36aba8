//! The conformance checklist of the protocol, `tests/conformance.toml`: runs the tests of each item.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;

const CHECKLIST: &str = "tests/conformance.toml";

/// What to do with the checklist.
#[derive(Args)]
pub struct Options {
    /// Only checks that each item names tests, and that these exist.
    #[arg(long)]
    check: bool,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Checklist(BTreeMap<String, Section>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    behaviour: String,
    /// What is different here, and why.
    differs: Option<String>,
    tests: Vec<TestName>,
}

/// A test by its place and name.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
enum TestName {
    /// A test of Rust: a crate (or `it`), and its path.
    Rust { target: String, path: String },
    /// A test of a client: the suite, the file, the name.
    Client { suite: String, file: String, name: String },
}

impl TryFrom<String> for TestName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (target, rest) = text.split_once("::").ok_or_else(|| format!("{text:?} is no test"))?;
        if !matches!(target, "javascript" | "python") {
            return Ok(Self::Rust { target: target.to_owned(), path: rest.to_owned() });
        }
        let (file, name) =
            rest.split_once("::").ok_or_else(|| format!("{text:?} names no file"))?;
        Ok(Self::Client { suite: target.to_owned(), file: file.to_owned(), name: name.to_owned() })
    }
}

impl std::fmt::Display for TestName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rust { target, path } => write!(f, "{target}::{path}"),
            Self::Client { suite, file, name } => write!(f, "{suite}::{file}::{name}"),
        }
    }
}

/// Runs the tests of all items and prints each with what became of it.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let text = fs::read_to_string(root.join(CHECKLIST)).context(CHECKLIST)?;
    let Checklist(sections) = toml::from_str(&text).context(CHECKLIST)?;
    let items = sections.values().flat_map(|section| &section.items);
    let tests: BTreeSet<TestName> = items.flat_map(|item| item.tests.iter().cloned()).collect();
    check(root, &sections, &tests)?;
    if options.check {
        let n_items: usize = sections.values().map(|section| section.items.len()).sum();
        println!("conformance: {n_items} items name {} tests, which all exist", tests.len());
        return Ok(());
    }
    let passed = run_tests(root, &tests)?;
    report(&sections, &passed)
}

/// Each item has tests, and each test exists.
fn check(
    root: &Path,
    sections: &BTreeMap<String, Section>,
    tests: &BTreeSet<TestName>,
) -> Result<()> {
    let mut wrong = Vec::new();
    for (name, section) in sections {
        let without = section.items.iter().filter(|item| item.tests.is_empty());
        wrong.extend(without.map(|item| format!("{name}: {:?} names no test", item.behaviour)));
    }
    for test in tests {
        if !exists(root, test)? {
            wrong.push(format!("{test} does not exist"));
        }
    }
    ensure!(wrong.is_empty(), "{CHECKLIST}:\n  {}", wrong.join("\n  "));
    Ok(())
}

/// Whether the sources have the test.
fn exists(root: &Path, test: &TestName) -> Result<bool> {
    let (files, wanted) = match test {
        TestName::Rust { target, path } => {
            let folder =
                if target == "it" { "tests/it".into() } else { format!("crates/{target}/src") };
            let mut modules: Vec<&str> = path.split("::").collect();
            let name = modules.pop().context("a path has a last part")?;
            let place = format!("{folder}/{}", modules.join("/"));
            // Small modules of tests are in the file that they test.
            let inline = place.strip_suffix("/tests").unwrap_or(&place);
            let files = [format!("{place}.rs"), format!("{inline}.rs")];
            (files.to_vec(), format!("fn {name}("))
        }
        TestName::Client { suite, file, name } => {
            (vec![format!("tests/clients/{suite}/{file}")], name.clone())
        }
    };
    for file in files {
        let file = root.join(file);
        if file.exists() && fs::read_to_string(&file)?.contains(&wanted) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs the tests, those of one kind together; those that passed.
fn run_tests(root: &Path, tests: &BTreeSet<TestName>) -> Result<BTreeSet<TestName>> {
    let mut by_target: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut suites: BTreeSet<&str> = BTreeSet::new();
    for test in tests {
        match test {
            TestName::Rust { target, path } => by_target.entry(target).or_default().push(path),
            TestName::Client { suite, .. } => _ = suites.insert(suite),
        }
    }
    let mut passed = BTreeSet::new();
    let built = command(root, "cargo", &["build", "--quiet", "--workspace"]).status()?;
    ensure!(built.success(), "what is to be tested cannot be built");
    for (target, paths) in by_target {
        let package =
            if target == "it" { "walcast-tests".into() } else { format!("walcast-{target}") };
        let mut arguments = vec!["test", "--package", &package];
        arguments.extend(if target == "it" { vec!["--test", "it"] } else { vec!["--lib"] });
        arguments.extend(["--", "--exact"]);
        arguments.extend(&paths);
        println!("== {} tests of {package}", paths.len());
        let printed = output(&mut command(root, "cargo", &arguments))?;
        passed.extend(printed.lines().filter_map(|line| {
            let path = line.strip_prefix("test ")?.strip_suffix(" ... ok")?;
            Some(TestName::Rust { target: target.to_owned(), path: path.to_owned() })
        }));
    }
    for suite in suites {
        println!("== the client tests in {suite}");
        let program = root.join("tests/clients/run.sh");
        let program = program.to_str().context("a folder whose name is no UTF-8")?;
        let printed = output(&mut command(root, program, &[suite]))?;
        let of_suite = tests.iter().filter(|test| is_of(test, suite));
        passed.extend(of_suite.filter(|test| has_passed(&printed, test)).cloned());
    }
    Ok(passed)
}

fn is_of(test: &TestName, wanted: &str) -> bool {
    matches!(test, TestName::Client { suite, .. } if suite == wanted)
}

/// Whether a suite printed that the test passed, for each version it runs with, and none failed.
fn has_passed(printed: &str, test: &TestName) -> bool {
    let TestName::Client { suite, name, .. } = test else { return false };
    let lines = || printed.lines().filter(|line| line.contains(name.as_str()));
    let (passes, fails): (&[&str], &[&str]) = if suite == "python" {
        (&["... ok"], &["... FAIL", "... ERROR"])
    } else {
        (&["✔"], &["✖"])
    };
    let says = |marks: &[&str]| lines().any(|line| marks.iter().any(|mark| line.contains(mark)));
    says(passes) && !says(fails)
}

fn command(root: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root);
    if let Ok(this) = std::env::current_exe() {
        command.env("WALCAST_BIN", this.with_file_name("walcast"));
    }
    command
}

/// What a command prints on both streams; it may fail.
fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let printed = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&printed).into_owned())
}

fn report(sections: &BTreeMap<String, Section>, passed: &BTreeSet<TestName>) -> Result<()> {
    let (mut n_passed, mut n_differing, mut n_failed) = (0, 0, 0);
    for (name, section) in sections {
        println!("\n{name}");
        for item in &section.items {
            let failed: Vec<&TestName> =
                item.tests.iter().filter(|test| !passed.contains(test)).collect();
            let mark = match (failed.is_empty(), &item.differs) {
                (true, None) => {
                    n_passed += 1;
                    "passed "
                }
                (true, Some(_)) => {
                    n_differing += 1;
                    "differs"
                }
                (false, _) => {
                    n_failed += 1;
                    "FAILED "
                }
            };
            println!("  {mark}  {}", item.behaviour);
            if let Some(differs) = &item.differs {
                println!("           {differs}");
            }
            for test in &item.tests {
                let mark = if failed.contains(&test) { "FAILED " } else { "" };
                println!("           {mark}{test}");
            }
        }
    }
    println!(
        "\n{n_passed} passed, {n_differing} differ on purpose and do what their tests say, {n_failed} failed"
    );
    if n_failed > 0 {
        bail!("{n_failed} items of {CHECKLIST} failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_tests() {
        let name = |text: &str| TestName::try_from(text.to_owned());
        let rust = TestName::Rust { target: "it".to_owned(), path: "a::b".to_owned() };
        assert_eq!(name("it::a::b"), Ok(rust));
        let client = TestName::Client {
            suite: "javascript".to_owned(),
            file: "a.test.mjs".to_owned(),
            name: "self and ack".to_owned(),
        };
        assert_eq!(name("javascript::a.test.mjs::self and ack"), Ok(client.clone()));
        assert_eq!(client.to_string(), "javascript::a.test.mjs::self and ack");
        assert!(name("nothing").is_err());
        assert!(name("python::nothing").is_err());
    }

    #[test]
    fn a_client_test_passes_when_no_version_of_it_fails() {
        let test = |suite: &str| TestName::Client {
            suite: suite.to_owned(),
            file: String::new(),
            name: "self and ack".to_owned(),
        };
        let both = "✔ 1.0.0: self and ack (5 ms)\n✔ 2.0.0: self and ack (5 ms)";
        assert!(has_passed(both, &test("javascript")));
        assert!(!has_passed(&both.replacen('✔', "✖", 1), &test("javascript")));
        assert!(!has_passed("", &test("javascript")));
        assert!(has_passed("self and ack (x.Y) ... ok", &test("python")));
        assert!(!has_passed("self and ack (x.Y) ... FAIL", &test("python")));
    }
}
