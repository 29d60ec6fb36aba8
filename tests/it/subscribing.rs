//! Which subscriptions are accepted, and what the others are told.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Client, Token};

use crate::world::{NOTES, VERSIONS, World, summary, watch_marks};

#[tokio::test]
async fn a_refused_subscription_is_told_why_and_harms_no_other_channel() -> Result<()> {
    let world = World::new("refused", NOTES).await?;
    let mut client = world.listener(&Token::anon(), "notes").await?;
    let with_filter = |filter: &str| {
        let filter = filter.to_owned();
        json!([{"event": "*", "schema": "public", "table": "notes", "filter": filter}])
    };
    let prefix = "Unable to subscribe to changes with given parameters. ";
    let cases = [
        (
            json!([{"event": "*", "schema": "public", "table": "nope"}]),
            format!(
                "{prefix}Please check Realtime is enabled for the given connect parameters: \
                 [event: *, schema: public, table: nope, filters: [], select: nil]"
            ),
        ),
        (
            with_filter("nope=eq.1"),
            format!(
                "{prefix}An exception happened so please check your connect parameters: \
                 [event: *, schema: public, table: notes, \
                 filters: [{{\"nope\", \"eq\", \"1\", false}}], select: nil]. \
                 Exception: ERROR P0001 (raise_exception) invalid column for filter nope"
            ),
        ),
        (
            with_filter("n=eq.abc"),
            format!(
                "{prefix}An exception happened so please check your connect parameters: \
                 [event: *, schema: public, table: notes, \
                 filters: [{{\"n\", \"eq\", \"abc\", false}}], select: nil]. \
                 Exception: ERROR 22P02 (invalid_text_representation) \
                 invalid input syntax for type integer: \"abc\""
            ),
        ),
        (with_filter("n=foo.1"), "Error parsing `filter` params: [\"foo\", \"1\"]".to_owned()),
        (
            with_filter("n=in.1,2"),
            "Error parsing `filter` params: `in` filter value must be wrapped by parentheses"
                .to_owned(),
        ),
        (
            json!([{"event": "*", "schema": "public", "table": "notes", "select": "body"}]),
            "Error parsing `select` params: expected a list of column name strings, \
             e.g. select: [\"col1\", \"col2\"]"
                .to_owned(),
        ),
    ];
    for (bindings, message) in cases {
        let config = json!({"config": {"postgres_changes": bindings}});
        let reply = client.join("realtime:refused", &config).await?;
        assert_eq!(reply.payload["status"], "ok", "{bindings}");
        let system = client.system("realtime:refused").await?;
        assert_eq!(system.payload["status"], "error", "{bindings}");
        assert_eq!(system.payload["message"], json!(message));
    }
    world.database.run("insert into notes values (1)").await?;
    assert_eq!(summary(&world.settled(&mut client).await?), ["INSERT 1"]);
    world.end().await
}

#[tokio::test]
async fn one_bad_binding_refuses_all_of_its_channel() -> Result<()> {
    let world = World::new("one_bad_binding", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let config = json!({"config": {"postgres_changes": [
        {"event": "*", "schema": "public", "table": "notes"},
        {"event": "*", "schema": "public", "table": "notes", "filter": "nope=eq.1"},
    ]}});
    client.join("realtime:test", &config).await?;
    assert_eq!(client.system("realtime:test").await?.payload["status"], "error");
    watch_marks(&mut client).await?;
    world.database.run("insert into notes values (1)").await?;
    assert_eq!(world.settled(&mut client).await?, Vec::<Value>::new());
    world.end().await
}

#[tokio::test]
async fn a_filter_without_operator_for_its_type_is_refused() -> Result<()> {
    let world = World::new(
        "without_operator",
        "create table notes (id int primary key, j json, p point);
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    for filter in ["j=eq.{}", "p=lt.(1,2)"] {
        let config = json!({"config": {"postgres_changes": [
            {"event": "*", "schema": "public", "table": "notes", "filter": filter},
        ]}});
        client.join("realtime:test", &config).await?;
        let system = client.system("realtime:test").await?;
        assert_eq!(system.payload["status"], "error", "{filter}");
    }
    world.end().await
}

#[tokio::test]
async fn a_topic_of_the_old_interface_is_the_binding() -> Result<()> {
    let world = World::new("old_interface", NOTES).await?;
    for version in VERSIONS {
        let token = Token::anon().sign();
        let mut client = Client::connect(world.walcast.port(), &token, version).await?;
        let topic = "realtime:public:notes:n=gt.1";
        let reply = client.join(topic, &json!({})).await?;
        assert_eq!(reply.payload["status"], "ok");
        assert_eq!(client.system(topic).await?.payload["status"], "ok");
        world.database.run("insert into notes values (1, 'a', 1), (2, 'b', 2)").await?;
        let message = client.next_where("the row", |message| message.event == "INSERT").await?;
        assert_eq!(message.topic, topic);
        assert_eq!(message.payload["record"], json!({"id": 2, "body": "b", "n": 2}));
        assert_eq!(message.payload.get("ids"), None);
        client.close().await?;
        world.database.run("delete from notes").await?;
    }
    world.end().await
}

#[tokio::test]
async fn a_join_that_waits_is_answered_when_the_subscription_is_live() -> Result<()> {
    let world = World::new("waiting_join", NOTES).await?;
    let mut client = world.walcast.client(&Token::anon()).await?;
    let config = |table: &str| {
        json!({"config": {
            "postgres_changes": [{"event": "*", "schema": "public", "table": table}],
            "postgres_changes_options": {"wait": true, "timeout": 15000},
        }})
    };
    let reply = client.join("realtime:test", &config("notes")).await?;
    assert_eq!(reply.payload["status"], "ok");
    world.database.run("insert into notes values (1)").await?;
    assert_eq!(client.change_on("realtime:test").await?["record"]["id"], 1);
    let reply = client.join("realtime:refused", &config("nope")).await?;
    assert_eq!(reply.payload["status"], "error");
    let reason = reply.payload["response"]["reason"].as_str().unwrap_or_default();
    assert!(
        reason.starts_with("RealtimeDisabledForConfiguration: Unable to subscribe"),
        "{reason}"
    );
    world.end().await
}
