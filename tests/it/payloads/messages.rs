//! One message per change, channel and select list, with the ids of the bindings it is for.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use walcast_tests::{Client, Message, Token};

use crate::world::{NOTES, World, await_mark, watch_marks};

/// The messages that belong to the changes so far, on any topic but that of the marks.
async fn messages(world: &World, client: &mut Client) -> Result<Vec<Message>> {
    let id = world.database.text("insert into marks default values returning id").await?;
    await_mark(client, &id.context("a mark")?).await?;
    let mut messages = client.take_inbox();
    messages.retain(|message| {
        message.is_change()
            && message.topic != "realtime:marks"
            && message.data()["table"] != "marks"
    });
    Ok(messages)
}

/// The ids of a message, sorted: their order carries no meaning.
fn ids(message: &Message) -> Vec<i64> {
    let mut ids: Vec<i64> =
        message.payload["ids"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn bindings_share_a_message_when_they_select_the_same() -> Result<()> {
    let world = World::new("select_groups", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let binding = |select: Value, rest: Value| {
        let mut binding = json!({"event": "*", "schema": "public", "table": "notes"});
        for (key, value) in rest.as_object().into_iter().flatten() {
            binding[key] = value.clone();
        }
        if !select.is_null() {
            binding["select"] = select;
        }
        binding
    };
    let bindings = json!([
        binding(Value::Null, json!({})),
        binding(json!(["n", "body"]), json!({})),
        binding(json!(["body", "n", "n"]), json!({"event": "INSERT"})),
        binding(json!(["n"]), json!({"filter": "n=gt.5"})),
        binding(json!(["n"]), json!({"event": "UPDATE"})),
        // Nothing but its name is left of an empty list, and of a list without names.
        binding(json!([]), json!({"event": "INSERT"})),
        binding(json!([1, null]), json!({"filter": "n=lt.5"})),
        // A schema's tables, and everything.
        json!({"event": "*", "schema": "public"}),
        json!({"event": "insert", "schema": "*", "table": "*"}),
    ]);
    let given = client.subscribe("realtime:test", &bindings).await?.ids;
    watch_marks(&mut client).await?;
    world.database.run("insert into notes values (1, 'a', 6)").await?;
    let mut groups: Vec<(Value, Vec<i64>)> = messages(&world, &mut client)
        .await?
        .iter()
        .map(|message| (message.data()["record"].clone(), ids(message)))
        .collect();
    groups.sort_by_key(|(_, ids)| ids.len());
    let of = |positions: &[usize]| positions.iter().map(|at| given[*at]).collect::<Vec<i64>>();
    let whole = json!({"id": 1, "body": "a", "n": 6});
    let expected = [
        (json!({"id": 1, "n": 6}), of(&[3])),
        // A list of all columns is a list nevertheless.
        (whole.clone(), of(&[1, 2])),
        (whole, of(&[0, 5, 7, 8])),
    ];
    assert_eq!(groups, expected);
    world.end().await
}

/// An id is good for its channel; equal bindings of a channel share it.
#[tokio::test]
async fn equal_bindings_share_an_id_and_each_channel_gets_its_own_message() -> Result<()> {
    let world = World::new("equal_bindings", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let binding = json!({"event": "*", "schema": "public", "table": "notes"});
    let insert = json!({"event": "INSERT", "schema": "public", "table": "notes"});
    let one = client.subscribe("realtime:one", &json!([binding, binding, insert])).await?.ids;
    let two = client.subscribe("realtime:two", &json!([insert, binding])).await?.ids;
    assert_eq!(one[0], one[1]);
    assert_ne!(one[0], one[2]);
    assert_ne!(two[0], two[1]);
    watch_marks(&mut client).await?;
    world.database.run("insert into notes values (1); update notes set n = 1").await?;
    let mut seen: Vec<(String, Value, Vec<i64>)> = messages(&world, &mut client)
        .await?
        .iter()
        .map(|message| (message.topic.clone(), message.data()["type"].clone(), ids(message)))
        .collect();
    seen.sort_by_key(|(topic, kind, _)| (topic.clone(), kind.to_string()));
    let expected = [
        ("realtime:one", "INSERT", vec![one[0], one[2]]),
        ("realtime:one", "UPDATE", vec![one[0]]),
        ("realtime:two", "INSERT", two.clone()),
        ("realtime:two", "UPDATE", vec![two[1]]),
    ];
    let expected = expected.map(|(topic, kind, ids)| (topic.to_owned(), json!(kind), ids));
    assert_eq!(seen, expected);
    world.end().await
}

/// A filter of a wildcard must be possible on each table that it covers.
#[tokio::test]
async fn a_wildcard_with_a_filter_needs_the_column_everywhere() -> Result<()> {
    let setup = format!(
        "{NOTES} create schema app; grant usage on schema app to anon;
         create table app.things (id int primary key, n int); grant select on app.things to anon;
         alter publication supabase_realtime add table app.things;"
    );
    let world = World::new("wildcard_filter", &setup).await?;
    let binding = |schema: &str, filter: &str| {
        json!([
            {"event": "*", "schema": schema, "table": "*", "filter": filter},
        ])
    };
    let mut client = world.walcast.client(&Token::anon()).await?;
    // `marks` has no column n.
    assert!(client.subscribe("realtime:a", &binding("*", "n=eq.1")).await.is_err());
    assert!(client.subscribe("realtime:b", &binding("public", "n=eq.1")).await.is_err());
    client.subscribe("realtime:c", &binding("app", "n=eq.1")).await?;
    client.subscribe("realtime:d", &binding("*", "id=eq.2")).await?;
    watch_marks(&mut client).await?;
    world
        .database
        .run(
            "insert into app.things values (1, 1), (2, 2);
             insert into notes values (1, 'a', 1), (2, 'b', 2)",
        )
        .await?;
    let mut seen: Vec<(String, Value, Value)> = messages(&world, &mut client)
        .await?
        .iter()
        .map(|message| {
            let data = message.data();
            (message.topic.clone(), data["table"].clone(), data["record"]["id"].clone())
        })
        .collect();
    seen.sort_by_key(|(topic, ..)| topic.clone());
    let row = |topic: &str, table: &str, id: i32| (topic.to_owned(), json!(table), json!(id));
    assert_eq!(
        seen,
        [
            row("realtime:c", "things", 1),
            row("realtime:d", "things", 2),
            row("realtime:d", "notes", 2)
        ]
    );
    world.end().await
}

#[tokio::test]
async fn a_wildcard_covers_tables_that_are_published_later() -> Result<()> {
    let world = World::new("published_later", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let schema = client.subscribe("realtime:a", &json!([{"schema": "public"}])).await?.ids;
    let everything = client.subscribe("realtime:b", &json!([{"schema": "*"}])).await?.ids;
    watch_marks(&mut client).await?;
    world
        .database
        .run(
            "create table later (id int primary key);
             alter publication supabase_realtime add table later",
        )
        .await?;
    world.database.run("insert into later values (1)").await?;
    let mut seen: Vec<(String, Vec<i64>)> = messages(&world, &mut client)
        .await?
        .iter()
        .filter(|message| message.data()["record"] == json!({"id": 1}))
        .map(|message| (message.topic.clone(), ids(message)))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [("realtime:a".to_owned(), schema), ("realtime:b".to_owned(), everything)]);
    world.end().await
}
