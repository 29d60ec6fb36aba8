//! Changes that are too large: error 413.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Token, WalcastBuilder};

use crate::world::{ALICE, BOB, World, summary};

const ERROR: &str = "Error 413: Payload Too Large";

fn small(builder: WalcastBuilder) -> WalcastBuilder {
    builder.set("WALCAST_MAX_RECORD_BYTES", "2000")
}

/// A value stays when its JSON has 64 bytes at most, quotes and escapes included.
#[tokio::test]
async fn values_of_sixty_four_bytes_stay() -> Result<()> {
    let cases: &[(&str, bool)] = &[
        ("repeat('a', 62)", true),
        ("repeat('a', 63)", false),
        ("repeat('é', 31)", true),
        ("repeat('é', 31) || 'a'", false),
        ("repeat('\"', 31)", true),
        ("repeat('\"', 31) || 'a'", false),
        (r"repeat(E'\x01', 10) || 'aa'", true),
        (r"repeat(E'\x01', 10) || 'aaa'", false),
        (r"repeat('\', 31)", true),
        ("null", false),
    ];
    let columns: String = (0..cases.len()).map(|number| format!(", c{number} text")).collect();
    let world = World::with(
        "sixty_four",
        &format!(
            "create table notes (id int primary key, large text, digits numeric, more numeric,
               list int[], longer int[], doc jsonb {columns});
             alter publication supabase_realtime add table notes;"
        ),
        small,
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    let values: String = cases.iter().map(|(value, _)| format!(", {value}")).collect();
    world
        .database
        .run(&format!(
            "insert into notes values (1, repeat('x', 3000), repeat('1', 64)::numeric,
               repeat('1', 65)::numeric, array_fill(1, array[20]), array_fill(1, array[40]),
               '{{\"a\": 1}}' {values})"
        ))
        .await?;
    let changes = world.settled(&mut client).await?;
    let data = &changes[0];
    assert_eq!(data["errors"], json!([ERROR]));
    assert_eq!(data["columns"].as_array().map(Vec::len), Some(7 + cases.len()));
    let record = &data["record"];
    assert_eq!(record["id"], 1);
    for (name, is_kept) in [
        ("large", false),
        ("digits", true),
        ("more", false),
        ("list", true),
        ("longer", false),
        ("doc", true),
    ] {
        assert_eq!(record.get(name).is_some(), is_kept, "{name}: {record}");
    }
    for (number, (value, is_kept)) in cases.iter().enumerate() {
        assert_eq!(record.get(format!("c{number}")).is_some(), *is_kept, "{value}");
    }
    world.end().await
}

/// The key is no exception, old rows are reduced like new ones, values that come from the old row
/// included, and the size is that of the whole change, before any select list.
#[tokio::test]
async fn old_rows_keys_and_selections_are_reduced_alike() -> Result<()> {
    let world = World::with(
        "reduced",
        "create table notes (id text primary key, n int, empty int, body text);
         alter table notes alter body set storage external, replica identity full;
         alter publication supabase_realtime add table notes;",
        small,
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    let selecting = json!([{"event": "*", "schema": "public", "table": "notes", "select": ["n"]}]);
    let mut selected = world.listener_to(&Token::anon(), &selecting).await?;
    world
        .database
        .run(
            "insert into notes values ('1', 1, null, repeat('x', 5000));
             update notes set n = 2; update notes set id = repeat('k', 63); delete from notes",
        )
        .await?;
    let changes = world.settled(&mut client).await?;
    let expected = [
        (json!({"id": "1", "n": 1}), Value::Null),
        (json!({"id": "1", "n": 2}), json!({"id": "1", "n": 1})),
        (json!({"n": 2}), json!({"id": "1", "n": 2})),
        (Value::Null, json!({"n": 2})),
    ];
    let seen: Vec<(Value, Value)> =
        changes.iter().map(|data| (data["record"].clone(), data["old_record"].clone())).collect();
    assert_eq!(seen, expected);
    assert!(changes.iter().all(|data| data["errors"] == json!([ERROR])), "{changes:?}");
    let changes = world.settled(&mut selected).await?;
    assert_eq!(changes.len(), 4);
    assert!(changes.iter().all(|data| data["errors"] == json!([ERROR])), "{changes:?}");
    assert_eq!(changes[1]["record"], json!({"id": "1", "n": 2}));
    world.end().await
}

/// Filters and policies judge the whole values; only what is sent is reduced.
#[tokio::test]
async fn filters_and_policies_see_the_whole_row() -> Result<()> {
    let world = World::with(
        "whole_row",
        "create table notes (id int primary key, owner uuid, body text);
         alter table notes enable row level security;
         create policy own on notes for select to authenticated
           using (owner = auth.uid() and body like '%end');
         alter publication supabase_realtime add table notes;",
        small,
    )
    .await?;
    let binding =
        json!([{"event": "*", "schema": "public", "table": "notes", "filter": "body=like.%end"}]);
    let mut filtered = world.listener_to(&Token::service_role(), &binding).await?;
    let mut alice = world.listener(&Token::user(ALICE), "notes").await?;
    let mut bob = world.listener(&Token::user(BOB), "notes").await?;
    world
        .database
        .run(&format!(
            "insert into notes values (1, '{ALICE}', repeat('x', 3000) || 'end'),
               (2, '{ALICE}', repeat('x', 3000))"
        ))
        .await?;
    for client in [&mut filtered, &mut alice] {
        let changes = world.settled(client).await?;
        assert_eq!(summary(&changes), ["INSERT 1"]);
        assert_eq!(changes[0]["errors"], json!([ERROR]));
    }
    assert_eq!(world.settled(&mut bob).await?, Vec::<Value>::new());
    world.end().await
}
