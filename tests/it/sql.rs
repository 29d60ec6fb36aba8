//! The objects of `sql/objects`, by the scripts and expected outputs of `sql/tests`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use walcast_tests::Postgres;

#[tokio::test]
async fn objects_do_what_their_tests_say() -> Result<()> {
    let server = Postgres::start_with_prelude().await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql/tests");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    let beside = server.programs().path("psql");
    let psql = if beside.exists() { beside } else { PathBuf::from("psql") };
    for script in scripts {
        let database = server.database("sql").await?;
        let output = Command::new(&psql)
            .args(["--no-psqlrc", "--quiet", "--echo-all", "--file"])
            .arg(&script)
            .arg(database.superuser_url())
            .env("LC_ALL", "C.UTF-8")
            .output()
            .with_context(|| format!("cannot run {}", psql.display()))?;
        let printed = [output.stdout, output.stderr].concat();
        let printed = without_places(&String::from_utf8_lossy(&printed));
        let expected = std::fs::read_to_string(script.with_extension("out"))?;
        assert_eq!(printed, expected, "{}", script.display());
        database.remove().await?;
    }
    Ok(())
}

/// Takes `psql:FILE:LINE: ` off the lines that psql writes before warnings and errors.
fn without_places(printed: &str) -> String {
    let message = |line: &str| {
        let (place, message) = line.strip_prefix("psql:")?.split_once(": ")?;
        place.contains(".sql:").then(|| message.trim_start().to_owned())
    };
    printed
        .split_inclusive('\n')
        .map(|line| message(line).unwrap_or_else(|| line.to_owned()))
        .collect()
}
