//! Which changes become events, with which members.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Postgres, Token};

use super::column_names;
use crate::world::{ALICE, NOTES, World, summary};

#[tokio::test]
async fn a_change_has_the_members_of_its_kind() -> Result<()> {
    let world = World::new("members", NOTES).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world
        .database
        .run("insert into notes values (1, 'a', 1); update notes set n = 1; delete from notes")
        .await?;
    let changes = world.settled(&mut client).await?;
    let common = ["columns", "commit_timestamp", "errors", "schema", "table", "type"];
    for (data, (kind, own)) in changes.iter().zip([
        ("INSERT", &["record"][..]),
        ("UPDATE", &["old_record", "record"]),
        ("DELETE", &["old_record"]),
    ]) {
        let mut expected = [&common[..], own].concat();
        expected.sort_unstable();
        let mut members: Vec<&str> =
            data.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        members.sort_unstable();
        assert_eq!(members, expected);
        assert_eq!(data["type"], kind);
        assert_eq!(data["errors"], Value::Null);
        assert_eq!(column_names(data), ["id", "body", "n"]);
    }
    assert_eq!(changes.len(), 3);
    world.end().await
}

/// What each statement makes of a table that holds the rows 1 and 2.
const STATEMENTS: &[(&str, &[&str])] = &[
    ("update notes set n = n where id = 1", &["UPDATE 1"]),
    ("update notes set id = 5 where id = 2", &["UPDATE 5"]),
    ("insert into notes values (1) on conflict do nothing", &[]),
    (
        "insert into notes values (1), (3) on conflict (id) do update set n = 9",
        &["UPDATE 1", "INSERT 3"],
    ),
    ("begin; insert into notes values (4); rollback", &[]),
    (
        "begin; savepoint a; insert into notes values (4); rollback to a;
         delete from notes where id = 5; commit",
        &["DELETE 5"],
    ),
    (
        "begin; insert into notes values (6); update notes set n = 1 where id = 6;
         delete from notes where id = 6; commit",
        &["INSERT 6", "UPDATE 6", "DELETE 6"],
    ),
    (
        "set session_replication_role = replica; insert into notes values (7);
         reset session_replication_role",
        &["INSERT 7"],
    ),
    (
        "select pg_replication_origin_create(current_database());
         select pg_replication_origin_session_setup(current_database());
         insert into notes values (8);
         select pg_replication_origin_session_reset();
         select pg_replication_origin_drop(current_database())",
        &["INSERT 8"],
    ),
    ("truncate notes", &[]),
    // Rows that foreign keys and triggers change come where they are changed.
    (
        "insert into parents values (1), (2);
         insert into notes values (1, 'x', 1), (2, 'x', 2);
         alter table notes add foreign key (n) references parents on delete cascade;
         delete from parents",
        &["INSERT 1", "INSERT 2", "DELETE 1", "DELETE 2"],
    ),
    (
        "create function twice() returns trigger language plpgsql as
           $$ begin insert into notes values (new.id + 100); return new; end $$;
         create trigger twice before insert on notes
           for each row when (new.id < 100) execute function twice();
         insert into notes values (1), (2)",
        &["INSERT 101", "INSERT 1", "INSERT 102", "INSERT 2"],
    ),
    ("copy notes (id) from program 'seq 901 903'", &["INSERT 901", "INSERT 902", "INSERT 903"]),
    // Only what is published.
    (
        "alter publication supabase_realtime set (publish = 'insert, delete');
         update notes set body = 'new'; insert into notes values (904);
         delete from notes where id = 904",
        &["INSERT 904", "DELETE 904"],
    ),
];

#[tokio::test]
async fn each_statement_makes_its_events_in_their_order() -> Result<()> {
    let setup = format!(
        "{NOTES} create table parents (id int primary key); insert into notes values (1), (2);"
    );
    let world = World::new("statements", &setup).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    for (statement, expected) in STATEMENTS {
        world.database.run(statement).await?;
        assert_eq!(summary(&world.settled(&mut client).await?), *expected, "{statement}");
    }
    world.end().await
}

/// In UTC, cut to milliseconds, whatever the database's time zone is.
#[tokio::test]
async fn all_rows_of_a_transaction_carry_the_time_of_its_commit() -> Result<()> {
    let setup = format!(
        "{NOTES} do $$ begin execute format('alter database %I set timezone = ''Asia/Tokyo''',
           current_database()); end $$;"
    );
    let world = World::new("commit_time", &setup).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    let now = "select to_char(clock_timestamp() at time zone 'UTC', \
               'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
    // A moment inside the transaction is not the time of its commit.
    world.database.run("begin; insert into notes values (1); select pg_sleep(0.05)").await?;
    let before = world.database.text(now).await?;
    world.database.run("insert into notes values (2); commit").await?;
    let after = world.database.text(now).await?;
    let changes = world.settled(&mut client).await?;
    let times: Vec<Option<String>> =
        changes.iter().map(|data| data["commit_timestamp"].as_str().map(str::to_owned)).collect();
    assert_eq!(times.len(), 2);
    assert_eq!(times[0], times[1]);
    // Texts of this form are in the order of their times.
    assert!(before <= times[0] && times[0] <= after, "{before:?} {times:?} {after:?}");
    world.end().await
}

#[tokio::test]
async fn a_row_that_changes_its_partition_is_deleted_and_inserted() -> Result<()> {
    for via_root in [false, true] {
        let world = World::new(
            "partition_move",
            &format!(
                "create table notes (id int, region text, primary key (id, region))
                   partition by list (region);
                 create table east partition of notes for values in ('east');
                 create table west partition of notes for values in ('west');
                 alter publication supabase_realtime set (publish_via_partition_root = {via_root});
                 alter publication supabase_realtime add table notes;"
            ),
        )
        .await?;
        let mut root = world.listener(&Token::anon(), "notes").await?;
        let leaf = world.listener(&Token::anon(), "west").await;
        world
            .database
            .run("insert into notes values (1, 'east'); update notes set region = 'west'")
            .await?;
        let seen: Vec<Value> = world
            .settled(&mut root)
            .await?
            .iter()
            .map(|data| json!([data["type"], data["table"], data["record"], data["old_record"]]))
            .collect();
        let row = |region: &str| json!({"id": 1, "region": region});
        let named = |leaf: &'static str| if via_root { "notes" } else { leaf };
        assert_eq!(
            seen,
            [
                json!(["INSERT", named("east"), row("east"), null]),
                json!(["DELETE", named("east"), null, row("east")]),
                json!(["INSERT", named("west"), row("west"), null]),
            ]
        );
        match leaf {
            Ok(mut leaf) => {
                assert!(!via_root, "a leaf that is published under its root's name");
                let changes = world.settled(&mut leaf).await?;
                assert_eq!(changes.len(), 1);
                assert_eq!(changes[0]["record"], row("west"));
            }
            Err(_) => assert!(via_root, "a published leaf was refused"),
        }
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_table_that_inherits_emits_under_its_own_name() -> Result<()> {
    let setup = format!(
        "{NOTES} create table children (extra int, primary key (id)) inherits (notes);
         alter publication supabase_realtime add table children;"
    );
    let world = World::new("inherits", &setup).await?;
    let mut parent = world.listener(&Token::anon(), "notes").await?;
    let mut child = world.listener(&Token::anon(), "children").await?;
    world.database.run("insert into children values (1, 'a', 1, 7)").await?;
    assert_eq!(world.settled(&mut parent).await?, Vec::<Value>::new());
    let changes = world.settled(&mut child).await?;
    assert_eq!(changes[0]["table"], "children");
    assert_eq!(changes[0]["record"], json!({"id": 1, "body": "a", "n": 1, "extra": 7}));
    world.end().await
}

/// PostgreSQL streams stored generated columns from 18 on, when the publication says so.
#[tokio::test]
async fn generated_columns_come_when_they_are_published() -> Result<()> {
    let is_published = Postgres::shared().await?.major() >= 18;
    let option = if is_published {
        "alter publication supabase_realtime set (publish_generated_columns = stored);"
    } else {
        ""
    };
    let world = World::new(
        "generated",
        &format!(
            "create table notes (id int generated always as identity primary key, s serial,
               twice int generated always as (id * 2) stored, n int default 5);
             alter publication supabase_realtime add table notes; {option}"
        ),
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world.database.run("insert into notes default values").await?;
    let changes = world.settled(&mut client).await?;
    let expected = if is_published {
        json!({"id": 1, "s": 1, "twice": 2, "n": 5})
    } else {
        json!({"id": 1, "s": 1, "n": 5})
    };
    assert_eq!(changes[0]["record"], expected);
    world.end().await
}

#[tokio::test]
async fn names_of_any_kind_are_taken_as_they_are() -> Result<()> {
    let names =
        ["two words", "dot.ted", "com,ma", "quo\"te", "back\\slash", "Übung", "UPPER", "a=b:c"];
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let setup: String = names
        .map(quoted)
        .iter()
        .map(|name| {
            format!(
                "create table {name} (id int primary key, {name} text);
                 alter publication supabase_realtime add table {name};"
            )
        })
        .collect();
    let world = World::new("any_name", &setup).await?;
    for name in names {
        let mut binding =
            json!({"event": "*", "schema": "public", "table": name, "select": [name]});
        // A filter's column ends at its first =, and commas part its conditions.
        if !name.contains(['=', ',']) {
            binding["filter"] = json!(format!("{name}=eq.x"));
        }
        let mut client = world.listener_to(&Token::user(ALICE), &json!([binding])).await?;
        let table = quoted(name);
        world.database.run(&format!("insert into {table} values (1, 'x')")).await?;
        let changes = world.settled(&mut client).await?;
        assert_eq!(changes.len(), 1, "{name}");
        assert_eq!(changes[0]["table"], name);
        assert_eq!(changes[0]["record"], json!({"id": 1, name: "x"}));
        assert_eq!(column_names(&changes[0]), ["id", name]);
    }
    world.end().await
}
