//! The rules of the house that neither the compiler nor Clippy checks.
//!
//! Each rule is a function from a file's path and text to what is wrong with it, so that the tests
//! below need no files. [`run`] walks the tree; one of the tests runs it on this repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

/// Which crates of the workspace a crate may use (architecture, "who may depend on whom").
const ALLOWED_EDGES: &[(&str, &[&str])] = &[
    ("change", &[]),
    ("filters", &["change"]),
    ("protocol", &["change"]),
    ("channels", &["change", "filters", "protocol"]),
    ("replicator", &["change"]),
    ("server", &["change", "channels", "filters", "protocol", "replicator"]),
];

/// What the pure crates may use from outside. A line more here is an architectural change.
const PURE_CRATES: &[(&str, &[&str])] = &[
    ("change", &["bytes"]),
    ("filters", &["regex", "rust_decimal", "sqlparser"]),
    ("protocol", &["bytes", "serde", "serde_json"]),
    ("channels", &[]),
];

/// The modules of `replicator` without I/O.
const PURE_REPLICATOR_MODULES: [&str; 4] = ["wire", "pgoutput", "assemble", "progress"];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = ["utils", "util", "helpers", "helper", "common", "types", "misc"];

/// Folders of one developer's machine. Split, so that this file passes its own rule.
const MACHINE_PATHS: [&str; 3] =
    [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/")];

/// Where Homebrew lives on Linux: the same on every machine.
const LINUXBREW: &str = concat!("/ho", "me/linuxbrew/");

/// Hosts of package registries: which one is used is the machine's business, not the project's.
const REGISTRY_HOSTS: [&str; 6] = [
    concat!("registry.npm", "js.org"),
    concat!("py", "pi.org"),
    concat!("pythonho", "sted.org"),
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("deb.deb", "ian.org"),
];

/// A file longer than this usually holds two concepts. Listed, not refused.
const LONG_FILE_LINES: usize = 600;

/// Not written by us, or not text.
const SKIPPED: [&str; 5] = ["target", ".git", "node_modules", "__pycache__", "corpus"];

/// Checks the whole tree; the error lists everything that is wrong.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let mut paths = Vec::new();
    collect_files(root, &mut paths)?;
    paths.sort();

    let crates = root.join("crates");
    let mut wrong = Vec::new();
    for path in &paths {
        let Ok(text) = fs::read_to_string(path) else { continue };
        let relative = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
        let found = findings(&relative, &text);
        wrong.extend(found.into_iter().map(|finding| format!("{relative}: {finding}")));
        if relative.ends_with(".md") {
            let folder = path.parent().unwrap_or(root);
            let is_there =
                |name: &str| [folder, root, &crates].iter().any(|base| base.join(name).exists());
            let missing = named_paths(&text).into_iter().filter(|name| !is_there(name));
            wrong.extend(
                missing.map(|name| format!("{relative}: names {name}, which is not there")),
            );
        }
        let n_lines = text.lines().count();
        if relative.ends_with(".rs") && n_lines > LONG_FILE_LINES {
            println!("note: {relative} has {n_lines} lines; is it two concepts?");
        }
    }
    if !wrong.is_empty() {
        bail!("{} findings:\n  {}", wrong.len(), wrong.join("\n  "));
    }
    println!("tidy: {} files are in order", paths.len());
    Ok(())
}

/// Everything that is wrong with one file.
fn findings(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(machine_path(text));
    found.extend(registry_host(path, text));
    if path.ends_with("Cargo.toml") {
        found.extend(edges(path, text));
    }
    if path.ends_with(".rs") {
        found.extend(opening(text));
        found.extend(name(path));
        found.extend(environment(path, text));
        found.extend(tokio_in_pure_module(path, text));
    }
    found
}

/// Dependencies that the tables above do not allow.
fn edges(path: &str, manifest: &str) -> Vec<String> {
    let Some(name) = crate_of(path) else { return Vec::new() };
    let Some((_, allowed)) = ALLOWED_EDGES.iter().find(|(from, _)| *from == name) else {
        return vec![format!("the crate {name} has no line in ALLOWED_EDGES of xtask/src/tidy.rs")];
    };
    let outside = PURE_CRATES.iter().find(|(pure, _)| *pure == name).map(|(_, outside)| *outside);
    let refused = |dependency: &&str| match (dependency.strip_prefix("walcast-"), outside) {
        (Some(inside), _) => !allowed.contains(&inside),
        (None, Some(outside)) => !outside.contains(dependency),
        (None, None) => false,
    };
    dependencies(manifest)
        .into_iter()
        .filter(refused)
        .map(|dependency| format!("{name} may not depend on {dependency}"))
        .collect()
}

/// The names under `[dependencies]`, also of targets; not `[dev-dependencies]`.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = section == "dependencies" || section.ends_with(".dependencies");
            names.extend(section.strip_prefix("dependencies."));
        } else if inside && !line.starts_with('#') {
            let end = line.find(['.', '=', ' ']).unwrap_or_default();
            names.extend(line.get(..end).filter(|name| !name.is_empty()));
        }
    }
    names
}

/// The first line says what the file is for.
fn opening(text: &str) -> Option<String> {
    let purpose = text.lines().next().and_then(|line| line.strip_prefix("//! "));
    let is_sentence = purpose.is_some_and(|purpose| purpose.len() > "A word.".len());
    (!is_sentence).then(|| "must open with a `//!` line that says what it is for".to_owned())
}

/// No `mod.rs`, no name that says nothing.
fn name(path: &str) -> Option<String> {
    let mut parts = path.trim_end_matches(".rs").split('/');
    if path.ends_with("/mod.rs") {
        return Some("name the file after its module; there is no mod.rs here".to_owned());
    }
    let empty = parts.find(|part| EMPTY_NAMES.contains(part))?;
    Some(format!("`{empty}` says nothing about what is inside"))
}

/// Only `server::config` reads the environment.
fn environment(path: &str, text: &str) -> Option<String> {
    let is_product = path.starts_with("crates/") && path.contains("/src/");
    let may = !is_product || path.starts_with("crates/server/src/config");
    let line = code_lines(text).find(|(_, line)| line.contains("env::var"));
    let (number, _) = line.filter(|_| !may)?;
    Some(format!("line {number} reads the environment; only server::config may"))
}

/// The pure half of `replicator` does not name tokio.
fn tokio_in_pure_module(path: &str, text: &str) -> Option<String> {
    let inside = path.strip_prefix("crates/replicator/src/")?;
    let module = inside.split(['/', '.']).next()?;
    PURE_REPLICATOR_MODULES.contains(&module).then_some(())?;
    let (number, _) = code_lines(text).find(|(_, line)| line.contains("tokio"))?;
    Some(format!("line {number} names tokio; {module} is pure"))
}

/// A folder that exists on one machine only.
fn machine_path(text: &str) -> Option<String> {
    let named = |line: &str| {
        let line = line.replace(LINUXBREW, "");
        MACHINE_PATHS.iter().any(|path| {
            // `/network/` holds one of them and is no path of a machine: what comes before decides.
            line.match_indices(path).any(|(start, _)| {
                !line[..start].ends_with(|before: char| before.is_alphanumeric() || before == '.')
            })
        })
    };
    let position = text.lines().position(named)?;
    Some(format!("line {} names a folder of one machine", position + 1))
}

/// The address of a package registry.
fn registry_host(path: &str, text: &str) -> Option<String> {
    let named = |line: &str| REGISTRY_HOSTS.iter().any(|host| line.contains(host));
    let position = text.lines().position(named).filter(|_| !path.ends_with("Cargo.lock"))?;
    Some(format!("line {} names a package registry's host", position + 1))
}

/// What a Markdown page names in this repository: targets of links, and `code` that is the path of
/// a source file. A map kept by hand rots unless something reads it.
fn named_paths(page: &str) -> Vec<&str> {
    let links = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let local = links.filter(|link| !link.is_empty() && !link.contains("://"));
    let code = page.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let sources = code.filter(|code| code.ends_with(".rs") && code.contains('/'));
    local.chain(sources).collect()
}

/// The lines that are no comments, numbered from 1.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(position, line)| (position + 1, line.trim()));
    numbered.filter(|(_, line)| !line.starts_with("//"))
}

/// `crates/NAME/…` → `NAME`.
fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.split('/').next()
}

fn collect_files(folder: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
            continue;
        }
        if kind.is_dir() {
            collect_files(&entry.path(), paths)?;
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        assert_eq!(findings(path, text), expected, "{path}:\n{text}");
    }

    #[test]
    fn this_repository_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        run(root).unwrap();
    }

    #[test]
    fn edges_outside_the_table_are_refused() {
        let path = "crates/filters/Cargo.toml";
        check(path, "[dependencies]\nwalcast-change.workspace = true\nregex = \"1\"\n", &[]);
        check(path, "[dev-dependencies]\nproptest.workspace = true\n", &[]);
        check(
            path,
            "[dependencies]\n# a comment\nwalcast-server = { path = \"../server\" }\n",
            &["filters may not depend on walcast-server"],
        );
        check(
            path,
            "[dependencies]\ntokio.workspace = true\n",
            &["filters may not depend on tokio"],
        );
        check(path, "[dependencies.rand]\nversion = \"1\"\n", &["filters may not depend on rand"]);
        check(
            "crates/change/Cargo.toml",
            "[target.'cfg(unix)'.dependencies]\nlibc = \"1\"\n",
            &["change may not depend on libc"],
        );
        check("crates/server/Cargo.toml", "[dependencies]\ntokio.workspace = true\n", &[]);
        check(
            "crates/replicator/Cargo.toml",
            "[dependencies]\nwalcast-protocol.workspace = true\n",
            &["replicator may not depend on walcast-protocol"],
        );
        check(
            "crates/surprise/Cargo.toml",
            "",
            &["the crate surprise has no line in ALLOWED_EDGES of xtask/src/tidy.rs"],
        );
    }

    #[test]
    fn files_open_with_their_purpose() {
        let wanted = "must open with a `//!` line that says what it is for";
        check("crates/change/src/lsn.rs", "//! Positions in the log.\n", &[]);
        check("crates/change/src/lsn.rs", "//! .\n", &[wanted]);
        check("crates/change/src/lsn.rs", "\n//! Positions in the log.\n", &[wanted]);
        check("xtask/src/main.rs", "fn main() {}\n", &[wanted]);
    }

    #[test]
    fn names_say_something() {
        let purpose = "//! Something useful.\n";
        let no_mod = "name the file after its module; there is no mod.rs here";
        check("crates/change/src/row/mod.rs", purpose, &[no_mod]);
        check("tests/src/helpers.rs", purpose, &["`helpers` says nothing about what is inside"]);
        check("tests/common/server.rs", purpose, &["`common` says nothing about what is inside"]);
        check("crates/change/src/pg_type.rs", purpose, &[]);
    }

    #[test]
    fn the_environment_is_read_in_one_place() {
        let text = "//! Something useful.\nlet x = std::env::var(\"HOME\");\n";
        let wanted = "line 2 reads the environment; only server::config may";
        check("crates/server/src/config/load.rs", text, &[]);
        check("crates/server/src/config.rs", text, &[]);
        check("tests/src/lib.rs", text, &[]);
        check("crates/replicator/tests/stream.rs", text, &[]);
        check("crates/server/src/embedded.rs", text, &[wanted]);
        check("crates/server/src/embedded.rs", "//! Not by env::var itself.\n", &[]);
    }

    #[test]
    fn the_pure_half_of_the_replicator_stays_pure() {
        let text = "//! Something useful.\nuse tokio::net::TcpStream;\n";
        let path = "crates/replicator/src/pgoutput/decode.rs";
        check(path, text, &["line 2 names tokio; pgoutput is pure"]);
        check("crates/replicator/src/wire.rs", text, &["line 2 names tokio; wire is pure"]);
        check("crates/replicator/src/stream.rs", text, &[]);
    }

    #[test]
    fn pages_are_read_for_what_they_name() {
        let page =
            "[a](b.md#part), [web](https://example.com), [here](#part), `x/src/y.rs`, `row.rs`";
        assert_eq!(named_paths(page), ["b.md", "x/src/y.rs"]);
    }

    #[test]
    fn nothing_names_one_machine_or_a_registry() {
        for folder in MACHINE_PATHS {
            let text = format!("See {folder}x.");
            check("README.md", &text, &["line 1 names a folder of one machine"]);
            check("README.md", &format!("See net{folder}x."), &[]);
        }
        check("README.md", &format!("{LINUXBREW}.linuxbrew/bin"), &[]);
        for host in REGISTRY_HOSTS {
            let text = format!("\nget it from {host}");
            check("scripts/setup.sh", &text, &["line 2 names a package registry's host"]);
            check("Cargo.lock", &text, &[]);
        }
    }
}
