//! What is more than one change between two rows: large transactions, late streams, floods.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use walcast_tests::{Client, Token, http_get, walcast_program};

use super::writer::ANNOUNCE;
use crate::world::{World, summary};

const NOTES: &str = "
    create table notes (id int primary key);
    alter publication supabase_realtime add table notes;";

const HIDE: &str = "alter table notes enable row level security";

async fn world(name: &str) -> Result<(World, Client)> {
    // The client reads only between two steps.
    let world = World::with(name, &format!("{NOTES} {ANNOUNCE}"), |builder| {
        builder
            .set("WALCAST_OUTBOUND_QUEUE_FRAMES", "1000000")
            .set("WALCAST_CATALOGUE_MAX_AGE", "20ms")
    })
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world.database.run("insert into notes values (0)").await?;
    ensure!(summary(&world.settled(&mut client).await?) == ["INSERT 0"]);
    Ok((world, client))
}

fn insert(from: u32, to: u32) -> String {
    format!("insert into notes select * from generate_series({from}, {to})")
}

#[tokio::test]
async fn a_transaction_of_any_size_is_judged_by_what_it_ends_with() -> Result<()> {
    let (world, mut client) = world("any_size").await?;
    // Within one batch, over several, and past what is held back.
    for n_rows in [10, 5_000, 20_000] {
        let rows = insert(1, n_rows);
        world
            .database
            .run(&format!("begin; {rows}; {HIDE}; insert into notes values (-1); commit"))
            .await?;
        assert_eq!(world.settled(&mut client).await?, Vec::<Value>::new(), "{n_rows} rows");
        world
            .database
            .run("begin; delete from notes; alter table notes disable row level security; commit")
            .await?;
        world.settled(&mut client).await?;
        // A large one without a change is delivered whole.
        world.database.run(&rows).await?;
        assert_eq!(world.settled(&mut client).await?.len(), usize::try_from(n_rows)?);
        world.database.run("delete from notes").await?;
        world.settled(&mut client).await?;
    }
    world.end().await
}

#[tokio::test]
async fn a_late_stream_judges_by_the_place_and_not_by_the_clock() -> Result<()> {
    let (world, mut client) = world("late_stream").await?;
    let pid = Pid::from_raw(i32::try_from(world.walcast.id())?).context("a process id")?;
    kill_process(pid, Signal::STOP)?;
    for id in 1..=50 {
        world.database.run(&format!("insert into notes values ({id})")).await?;
    }
    world.database.run(HIDE).await?;
    for id in 51..=100 {
        world.database.run(&format!("insert into notes values ({id})")).await?;
    }
    kill_process(pid, Signal::CONT)?;
    let expected: Vec<String> = (1..=50).map(|id| format!("INSERT {id}")).collect();
    assert_eq!(summary(&world.settled(&mut client).await?), expected);
    world.end().await
}

/// Two tables whose policies PostgreSQL must be asked about.
const TWO: &str = "
    create table large (id int primary key, n int);
    alter table large enable row level security;
    create policy p on large for select using (n > (select 0));
    create table calm (id int primary key);
    alter table calm enable row level security;
    create policy p on calm for select using (id > (select 0));
    alter publication supabase_realtime add table large, calm;";

#[tokio::test]
async fn a_table_that_is_held_for_long_holds_up_no_other() -> Result<()> {
    for triggers in ["", ANNOUNCE] {
        let setup = format!("{TWO} {triggers}");
        let world = World::with("held_for_long", &setup, |builder| {
            builder.set("WALCAST_CATALOGUE_MAX_AGE", "20ms")
        })
        .await?;
        let bindings = json!([
            {"event": "INSERT", "schema": "public", "table": "large"},
            {"event": "INSERT", "schema": "public", "table": "calm"},
        ]);
        let mut client = world.listener_to(&Token::anon(), &bindings).await?;
        world.database.run("insert into large values (1, 1), (2, -1)").await?;
        assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 1"]);

        let session = world.database.session().await?;
        session.batch_execute("insert into large values (6, 6)").await?;
        session.batch_execute("begin; alter table large add extra text").await?;
        // Asked about while the table is held.
        assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 6"]);
        for id in 10..15 {
            world.database.run(&format!("insert into calm values ({id})")).await?;
            assert_eq!(summary(&world.settled(&mut client).await?), [format!("INSERT {id}")]);
        }
        // Changes of other tables count meanwhile.
        world.database.run("alter policy p on calm using (id < (select 0))").await?;
        for id in 15.. {
            world.database.run(&format!("insert into calm values ({id})")).await?;
            if world.settled(&mut client).await?.is_empty() {
                break;
            }
            ensure!(triggers.is_empty() && id < 1_000, "row {id} is shown");
        }
        session.batch_execute("insert into large values (3, 3), (4, -4); commit").await?;
        world.database.run("insert into large values (5, 5)").await?;
        assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 3", "INSERT 5"]);
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn anybody_may_write_messages_and_nothing_comes_of_it() -> Result<()> {
    let (world, mut client) = world("flood").await?;
    let refreshes = async || -> Result<u64> {
        let metrics = http_get(world.walcast.port(), "/metrics").await?.body;
        let line =
            metrics.lines().find(|line| line.starts_with("walcast_catalogue_refreshes_total"));
        Ok(line.and_then(|line| line.split(' ').next_back()).context("the metric")?.parse()?)
    };
    let before = refreshes().await?;
    let session = world.database.session().await?;
    session.batch_execute("set role anon").await?;
    session
        .batch_execute(
            "do $$ begin
               for i in 1..3000 loop
                 perform pg_logical_emit_message(true, 'walcast', repeat(chr(1 + i % 255), i % 70));
                 perform pg_logical_emit_message(false, 'walcast', '{');
                 commit;
               end loop;
             end $$",
        )
        .await?;
    for id in 1..=100 {
        world
            .database
            .run(&format!(
                "begin; insert into notes values ({id}); \
                 select pg_logical_emit_message(true, 'walcast', 'x'); commit"
            ))
            .await?;
    }
    let expected: Vec<String> = (1..=100).map(|id| format!("INSERT {id}")).collect();
    assert_eq!(summary(&world.settled(&mut client).await?), expected);
    let read = refreshes().await? - before;
    assert!(read < 1_500, "the catalogue was read {read} times for 3100 messages");
    world.end().await
}

#[tokio::test]
async fn triggers_that_go_away_are_missed_at_once() -> Result<()> {
    let (world, mut client) = world("triggers_go").await?;
    for silence in ["alter event trigger walcast_ddl disable", "drop event trigger walcast_ddl"] {
        world.database.run(silence).await?;
        world.database.run(HIDE).await?;
        // Rows are what makes the catalogue be read.
        for id in 1.. {
            ensure!(id < 1_000, "rows are shown for ever after: {silence}");
            world.database.run(&format!("insert into notes values ({id})")).await?;
            if world.settled(&mut client).await?.is_empty() {
                break;
            }
        }
        world
            .database
            .run("delete from notes; alter table notes disable row level security")
            .await?;
        for id in 1.. {
            ensure!(id < 1_000, "rows are hidden for ever");
            world.database.run(&format!("insert into notes values ({id})")).await?;
            if world.settled(&mut client).await?.iter().any(|data| data["type"] == "INSERT") {
                break;
            }
        }
        world.database.run("delete from notes").await?;
        world.settled(&mut client).await?;
    }
    world.end().await
}

#[tokio::test]
async fn a_change_that_nobody_listens_to_counts_for_who_comes_later() -> Result<()> {
    let (world, mut client) = world("nobody_listens").await?;
    for round in 0..5 {
        let reference = client.push("realtime:test", "phx_leave", &json!({})).await?;
        client.reply(&reference).await?;
        let reference = client.push("realtime:marks", "phx_leave", &json!({})).await?;
        client.reply(&reference).await?;
        let (change, n_seen) = if round % 2 == 0 {
            (HIDE, 0)
        } else {
            ("alter table notes disable row level security", 1)
        };
        world.database.run(change).await?;
        client = world.listener(&Token::anon(), "notes").await?;
        world.database.run(&format!("insert into notes values ({})", round + 1)).await?;
        assert_eq!(world.settled(&mut client).await?.len(), n_seen, "round {round}");
    }
    world.end().await
}

#[tokio::test]
async fn migrate_makes_the_triggers_when_it_may() -> Result<()> {
    let world = World::new("migrate", NOTES).await?;
    let migrate = async |url: &str, arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(walcast_program()?);
        command.arg("migrate").args(arguments).env_clear().env("DATABASE_URL", url);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let (login, superuser) = (world.database.url(), world.database.superuser_url());
    let said = migrate(login, &[]).await?;
    assert!(said.contains("walcast may not create them"), "{said}");
    let said = migrate(superuser, &["--without-ddl-triggers"]).await?;
    assert!(!said.contains("event triggers"), "{said}");
    let n_triggers = "select count(*) from pg_event_trigger";
    assert_eq!(world.database.text(n_triggers).await?.as_deref(), Some("0"));
    let said = migrate(superuser, &[]).await?;
    assert!(said.contains("created the event triggers"), "{said}");
    assert_eq!(migrate(superuser, &[]).await?, "");
    // The login is no member of the role that owns realtime.messages now; that is said, and all.
    let said = migrate(login, &[]).await?;
    assert!(said.contains("supabase_realtime_admin") && !said.contains("created"), "{said}");
    assert_eq!(world.database.text(n_triggers).await?.as_deref(), Some("2"));
    world.end().await
}
