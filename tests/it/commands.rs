//! The commands that look at a database.

use std::process::Command;

use anyhow::{Context, Result};
use walcast_tests::{Database, Postgres, Walcast, walcast_program};

/// Policies of each kind, one that is not for SELECT, and one of a table that is not published.
const POLICIES: &str = r#"
    create table notes (id int primary key, owner uuid, body text);
    create table secret (id int primary key);
    create table "Other" (id int primary key);
    alter table notes enable row level security;
    alter table secret enable row level security;
    create policy own on notes for select to authenticated using (owner = auth.uid());
    create policy ghost on notes for select using (body ~ 'a');
    create policy never on notes as restrictive for all to anon, authenticated using (id > 0);
    create policy writes on notes for insert with check (true);
    create policy hidden on secret using (true);
    create policy idle on "Other" using (true);
    create function ask(int) returns boolean language sql stable as 'select true';
    create policy asked on notes using (ask(id));
    alter publication supabase_realtime add table notes, "Other";"#;

/// What a command printed, which must have exited with 0.
fn printed(database: &Database, command: &str) -> Result<String> {
    let output = Command::new(walcast_program()?)
        .arg(command)
        .env_clear()
        .env("DATABASE_URL", database.url())
        .env("JWT_SECRET", "a secret that is long enough for HS256")
        .output()
        .with_context(|| format!("cannot run walcast {command}"))?;
    let (printed, errors) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert!(output.status.success(), "{command}: {printed}{errors}");
    Ok(printed)
}

/// The columns of a line of the list.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[tokio::test]
async fn policies_are_listed_with_who_decides_them() -> Result<()> {
    let server = Postgres::start_with_prelude().await?;
    let database = server.database("policies").await?;
    database.run(POLICIES).await?;

    let list = printed(&database, "policies")?;
    let lines: Vec<Vec<&str>> = list.lines().map(cells).collect();
    let asked = "PostgreSQL is asked: it calls public.ask(), which only PostgreSQL can run";
    let pattern = "PostgreSQL is asked: it uses the operator ~, which only PostgreSQL can evaluate";
    let decided = "decided in process";
    let expected: [&[&str]; 6] = [
        &["TABLE", "POLICY", "KIND", "ROLES", "VERDICT"],
        &[
            "public.Other",
            "idle",
            "permissive",
            "public",
            "not used: row-level security of the table is off",
        ],
        &["public.notes", "asked", "permissive", "public", asked],
        &["public.notes", "ghost", "permissive", "public", pattern],
        &["public.notes", "never", "restrictive", "anon, authenticated", decided],
        &["public.notes", "own", "permissive", "authenticated", decided],
    ];
    assert_eq!(lines, expected, "{list}");

    let report = printed(&database, "doctor")?;
    let finding = "note  policies: PostgreSQL is asked about 2 of 5, which costs a question for \
                   each change; `walcast policies` says about which, and why";
    assert!(report.lines().any(|line| line == finding), "{report}");
    database.remove().await
}

/// Whether `walcast healthcheck` is content with what listens at this port, and what it printed.
fn healthcheck(port: u16) -> Result<(Option<i32>, String)> {
    let output = Command::new(walcast_program()?)
        .arg("healthcheck")
        .env_clear()
        .env("PORT", port.to_string())
        .output()
        .context("cannot run walcast healthcheck")?;
    let printed = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8(printed)?))
}

#[tokio::test]
async fn a_container_can_ask_whether_its_server_works() -> Result<()> {
    let mut server = Postgres::start_with_prelude().await?;
    let database = server.database("healthcheck").await?;
    let walcast = Walcast::on(&database).start().await?;
    let (code, printed) = healthcheck(walcast.port())?;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("\"status\":\"ok\""), "{printed}");
    server.stop()?;
    walcast.unhealthy().await?;
    let (code, printed) = healthcheck(walcast.port())?;
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("unavailable"), "{printed}");
    let port = walcast.port();
    drop(walcast);
    let (code, printed) = healthcheck(port)?;
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains(&format!("ask http://127.0.0.1:{port}/healthcheck")), "{printed}");
    Ok(())
}
