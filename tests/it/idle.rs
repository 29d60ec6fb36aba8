//! A server that has nothing to do does nothing.

use std::time::{Duration, Instant};

use anyhow::Result;
use walcast_tests::{Postgres, Token};

use crate::ddl::ANNOUNCE;
use crate::world::{ALICE, PRIVATE_NOTES, World};

/// How long nothing may happen. A timer of up to this period would be caught.
const QUIET: Duration = Duration::from_secs(6);

#[tokio::test]
async fn an_idle_server_sends_no_statements() -> Result<()> {
    stays_silent("").await
}

#[tokio::test]
async fn an_idle_server_with_event_triggers_sends_no_statements() -> Result<()> {
    stays_silent(ANNOUNCE).await
}

async fn stays_silent(triggers: &str) -> Result<()> {
    let server = Postgres::start_with_prelude().await?;
    let setup = format!(
        "{PRIVATE_NOTES}
         do $$ begin execute format('alter database %I set log_statement = ''all''', \
           current_database()); end $$; {triggers}"
    );
    let world = World::on(&server, "idle", &setup, |builder| builder).await?;
    let mut client = world.listener(&Token::user(ALICE), "notes").await?;
    world.database.run(&format!("insert into notes values (1, '{ALICE}', 'x')")).await?;
    assert_eq!(world.settled(&mut client).await?.len(), 1);
    world.database.run("create table other (id int)").await?;
    assert_eq!(world.settled(&mut client).await?.len(), 0);

    // Connections may be put in order once more after the last change.
    let mut quiet_since = Instant::now();
    let started = quiet_since;
    let mut seen = statements(&server, world.database.name());
    assert!(!seen.is_empty(), "the log shows no statement at all: the test sees nothing");
    while quiet_since.elapsed() < QUIET {
        client.heartbeat().await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = statements(&server, world.database.name());
        if now.len() != seen.len() {
            assert!(
                started.elapsed() < QUIET * 2,
                "walcast does not become silent: {:?}",
                &now[seen.len()..]
            );
            quiet_since = Instant::now();
            seen = now;
        }
    }
    world.end().await
}

/// The statements of the role `walcast` in one database, as the server logged them.
fn statements(server: &Postgres, database: &str) -> Vec<String> {
    let marker = format!(" {database} walcast ");
    server
        .log()
        .lines()
        .filter(|line| line.contains(&marker))
        .filter(|line| line.contains("statement:") || line.contains("execute "))
        .map(ToOwned::to_owned)
        .collect()
}
