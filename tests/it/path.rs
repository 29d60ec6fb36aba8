//! From a committed row to a client.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Client, Message, Token};

use crate::world::{NOTES, VERSIONS, World, summary, watch_marks};

#[tokio::test]
async fn changes_arrive_in_commit_order_with_their_rows() -> Result<()> {
    let world = World::new("changes_arrive", NOTES).await?;
    for version in VERSIONS {
        let token = Token::anon().sign();
        let mut client = Client::connect(world.walcast.port(), &token, version).await?;
        let bindings = json!([{"event": "*", "schema": "public", "table": "notes"}]);
        let subscription = client.subscribe("realtime:test", &bindings).await?;
        world.database.run("insert into notes values (1, 'a', 10)").await?;
        world.database.run("update notes set body = 'b'").await?;
        world.database.run("delete from notes").await?;

        let insert = client.change().await?;
        assert_eq!(insert.payload["ids"], json!(subscription.ids));
        let data = insert.data();
        assert_eq!(data["schema"], "public");
        assert_eq!(data["table"], "notes");
        assert_eq!(data["type"], "INSERT");
        assert_eq!(data["record"], json!({"id": 1, "body": "a", "n": 10}));
        assert_eq!(data.get("old_record"), None);
        assert_eq!(data["errors"], Value::Null);
        assert_eq!(
            data["columns"],
            json!([
                {"name": "id", "type": "int4"},
                {"name": "body", "type": "text"},
                {"name": "n", "type": "int4"},
            ])
        );
        assert!(data["commit_timestamp"].as_str().is_some_and(|text| text.ends_with('Z')));

        let update = client.change_on("realtime:test").await?;
        assert_eq!(update["record"], json!({"id": 1, "body": "b", "n": 10}));
        assert_eq!(update["old_record"], json!({"id": 1}));

        let delete = client.change_on("realtime:test").await?;
        assert_eq!(delete["old_record"], json!({"id": 1}));
        assert_eq!(delete.get("record"), None);
        client.close().await?;
    }
    world.end().await
}

#[tokio::test]
async fn every_operator_filters() -> Result<()> {
    let world = World::new(
        "every_operator",
        "create table notes (id int primary key, n int, s text, b bool, touched bool);
         alter table notes replica identity full;
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let cases: [(&str, &[u32]); 20] = [
        ("n=eq.10", &[2]),
        ("n=neq.10", &[1, 3]),
        ("n=lt.10", &[1]),
        ("n=lte.10", &[1, 2]),
        ("n=gt.9", &[2, 3]),
        ("n=gte.100", &[3]),
        ("n=in.(9,100)", &[1, 3]),
        ("n=not.in.(9,100)", &[2]),
        ("s=like.A%", &[1]),
        ("s=ilike.a%", &[1, 2, 3]),
        ("s=match.^[A-Z]", &[1]),
        ("s=imatch.^A", &[1, 2, 3]),
        ("n=is.null", &[4]),
        ("n=not.is.null", &[1, 2, 3]),
        ("b=is.true", &[1]),
        ("b=is.unknown", &[3, 4]),
        ("n=isdistinct.10", &[1, 3, 4]),
        ("n=not.isdistinct.10", &[2]),
        ("n=gt.9,s=ilike.a%", &[2, 3]),
        ("s=eq.\"a,b\"", &[3]),
    ];
    let mut client = world.walcast.client(&Token::anon()).await?;
    for (filter, _) in cases {
        let bindings =
            json!([{"event": "*", "schema": "public", "table": "notes", "filter": filter}]);
        client.subscribe(&format!("realtime:{filter}"), &bindings).await?;
    }
    watch_marks(&mut client).await?;
    world
        .database
        .run(
            "insert into notes values (1, 9, 'Abc', true), (2, 10, 'abc', false), \
             (3, 100, 'a,b', null), (4, null, null, null); \
             update notes set touched = true; delete from notes",
        )
        .await?;
    let id = world.database.text("insert into marks default values returning id").await?;
    crate::world::await_mark(&mut client, &id.unwrap_or_default()).await?;
    let messages = client.take_inbox();
    for (filter, expected) in cases {
        let topic = format!("realtime:{filter}");
        let of_filter = messages.iter().filter(|found| found.is_change() && found.topic == topic);
        let changes: Vec<&Value> = of_filter.map(Message::data).collect();
        for (operation, image) in
            [("INSERT", "record"), ("UPDATE", "record"), ("DELETE", "old_record")]
        {
            let ids: Vec<u64> = changes
                .iter()
                .filter(|change| change["type"] == operation)
                .filter_map(|change| change[image]["id"].as_u64())
                .collect();
            let expected: Vec<u64> = expected.iter().copied().map(u64::from).collect();
            assert_eq!(ids, expected, "{filter} on {operation}");
        }
    }
    world.end().await
}

#[tokio::test]
async fn a_filter_sees_the_new_row_of_an_update() -> Result<()> {
    let world = World::new("new_row_of_an_update", NOTES).await?;
    let bindings = json!([{"event": "UPDATE", "table": "notes", "schema": "public",
                           "filter": "n=eq.2"}]);
    let mut client = world.listener_to(&Token::anon(), &bindings).await?;
    world.database.run("insert into notes values (1, 'a', 1), (2, 'b', 2)").await?;
    world.database.run("update notes set n = 2 where id = 1").await?;
    world.database.run("update notes set n = 3 where id = 2").await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["UPDATE 1"]);
    world.end().await
}

#[tokio::test]
async fn a_select_list_keeps_the_primary_key_and_drops_the_rest() -> Result<()> {
    let world = World::new("select_list", NOTES).await?;
    world.database.run("alter table notes replica identity full").await?;
    let bindings = json!([{"event": "*", "schema": "public", "table": "notes", "select": ["n"]}]);
    let mut client = world.listener_to(&Token::anon(), &bindings).await?;
    world
        .database
        .run(
            "insert into notes values (1, 'secret', 5); update notes set n = 6, body = 'another'; \
             delete from notes",
        )
        .await?;
    let changes = world.settled(&mut client).await?;
    let images: Vec<_> =
        changes.iter().map(|change| (&change["record"], &change["old_record"])).collect();
    let row = |n: i32| json!({"id": 1, "n": n});
    assert_eq!(images, [(&row(5), &Value::Null), (&row(6), &row(5)), (&Value::Null, &row(6)),]);
    assert_eq!(
        changes[0]["columns"],
        json!([{"name": "id", "type": "int4"}, {"name": "n", "type": "int4"}])
    );
    world.end().await
}

#[tokio::test]
async fn wildcards_cover_what_is_published() -> Result<()> {
    let setup = format!(
        "{NOTES}
         create schema app; grant usage on schema app to anon;
         create table app.things (id int primary key); grant select on app.things to anon;
         alter publication supabase_realtime add table app.things;
         create table unpublished (id int primary key);"
    );
    let world = World::new("wildcards", &setup).await?;
    let mut everything =
        world.listener_to(&Token::anon(), &json!([{"schema": "*", "table": "*"}])).await?;
    let mut one_schema = world.listener_to(&Token::anon(), &json!([{"schema": "app"}])).await?;
    world
        .database
        .run(
            "insert into notes values (1); insert into app.things values (2); \
              insert into unpublished values (3)",
        )
        .await?;
    let seen = world.settled(&mut everything).await?;
    let tables: Vec<&Value> = seen.iter().map(|data| &data["table"]).collect();
    assert_eq!(&tables[..2], ["notes", "things"]);
    assert_eq!(summary(&world.settled(&mut one_schema).await?), ["INSERT 2"]);
    world.end().await
}

#[tokio::test]
async fn bindings_of_one_channel_share_a_message() -> Result<()> {
    let world = World::new("share_a_message", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let bindings = json!([
        {"event": "*", "schema": "public", "table": "notes"},
        {"event": "INSERT", "schema": "public", "table": "notes"},
        {"event": "*", "schema": "public", "table": "notes", "filter": "n=gt.5"},
        {"event": "DELETE", "schema": "public", "table": "notes"},
    ]);
    let ids = client.subscribe("realtime:test", &bindings).await?.ids;
    assert!(ids.iter().all(|id| *id != 0));
    watch_marks(&mut client).await?;
    world.database.run("insert into notes values (1, 'a', 6)").await?;
    let message = client.change().await?;
    let mut received: Vec<i64> =
        message.payload["ids"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
    received.sort_unstable();
    let mut expected = ids[..3].to_vec();
    expected.sort_unstable();
    assert_eq!(received, expected);
    assert_eq!(world.settled(&mut client).await?, Vec::<Value>::new());
    world.end().await
}

#[tokio::test]
async fn replica_identity_full_carries_the_whole_old_row() -> Result<()> {
    let setup = format!("{NOTES} alter table notes replica identity full;");
    let world = World::new("identity_full", &setup).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world
        .database
        .run("insert into notes values (1, 'a', 1); update notes set n = 2; delete from notes")
        .await?;
    let changes = world.settled(&mut client).await?;
    assert_eq!(changes[1]["old_record"], json!({"id": 1, "body": "a", "n": 1}));
    assert_eq!(changes[2]["old_record"], json!({"id": 1, "body": "a", "n": 2}));
    world.end().await
}

#[tokio::test]
async fn what_is_rolled_back_is_never_sent() -> Result<()> {
    let world = World::new("rolled_back", NOTES).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world.database.run("begin; insert into notes values (1); rollback").await?;
    world
        .database
        .run(
            "begin; insert into notes values (2); savepoint a; insert into notes values (3); \
              rollback to a; insert into notes values (4); commit",
        )
        .await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 2", "INSERT 4"]);
    world.end().await
}

#[tokio::test]
async fn a_change_right_after_subscribed_is_never_missed() -> Result<()> {
    let world = World::new("right_after_subscribed", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let bindings = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    for id in 0..25 {
        let topic = format!("realtime:{id}");
        client.subscribe(&topic, &bindings).await?;
        world.database.run(&format!("insert into notes values ({id})")).await?;
        // A row that was under way when the client subscribed may come, too.
        while client.change_on(&topic).await?["record"]["id"] != json!(id) {}
        let reference = client.push(&topic, "phx_leave", &json!({})).await?;
        client.reply(&reference).await?;
    }
    world.end().await
}

#[tokio::test]
async fn a_change_that_is_too_large_keeps_its_small_values() -> Result<()> {
    let world =
        World::with("too_large", NOTES, |builder| builder.set("WALCAST_MAX_RECORD_BYTES", "2000"))
            .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world.database.run("insert into notes values (1, repeat('x', 5000), 7)").await?;
    let changes = world.settled(&mut client).await?;
    assert_eq!(changes[0]["errors"], json!(["Error 413: Payload Too Large"]));
    assert_eq!(changes[0]["record"], json!({"id": 1, "n": 7}));
    world.end().await
}

#[tokio::test]
async fn a_table_without_primary_key_sends_error_400() -> Result<()> {
    let world = World::new(
        "without_primary_key",
        "create table notes (id int, body text);
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world.database.run("insert into notes values (1, 'a')").await?;
    let changes = world.settled(&mut client).await?;
    assert_eq!(changes[0]["errors"], json!(["Error 400: Bad Request, no primary key"]));
    assert_eq!(changes[0]["record"], json!({}));
    assert!(changes[0]["commit_timestamp"].is_string());
    world.end().await
}

#[tokio::test]
async fn a_large_transaction_arrives_whole_and_in_order() -> Result<()> {
    let world = World::new("large_transaction", NOTES).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    world
        .database
        .run("insert into notes select i, 'row ' || i, i from generate_series(1, 3000) i")
        .await?;
    let changes = world.settled(&mut client).await?;
    let ids: Vec<u64> = changes.iter().filter_map(|data| data["record"]["id"].as_u64()).collect();
    assert_eq!(ids, (1..=3000).collect::<Vec<u64>>());
    world.end().await
}
