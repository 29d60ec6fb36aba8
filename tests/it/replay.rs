//! Earlier messages for channels that ask for them when they join.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_server::migrate::{self, Bootstrap, DdlTriggers, Scope};
use walcast_tests::{Client, Message, Postgres, SUPERUSER, Token, Version, Walcast};

use crate::{
    oracle::stage::connect_options,
    world::{ALICE, World, allow_messages},
};

const TOPIC: &str = "realtime:room";

/// A world whose public channels may have messages replayed.
async fn world(name: &str) -> Result<World> {
    let database = Postgres::shared().await?.database(name).await?;
    allow_messages(&database).await?;
    let walcast =
        Walcast::on(&database).set("WALCAST_REPLAY_PUBLIC_CHANNELS", "true").start().await?;
    Ok(World { database, walcast })
}

async fn join(world: &World, version: Version, replay: Value) -> Result<(Client, Message)> {
    let token = Token::anon().sign();
    let mut client = Client::connect(world.walcast.port(), &token, version).await?;
    let config = json!({"config": {"broadcast": {"replay": replay}}});
    let reply = client.join(TOPIC, &config).await?;
    Ok((client, reply))
}

/// The broadcasts that were replayed, up to a live one which is sent after the join.
async fn replayed(world: &World, version: Version, replay: Value) -> Result<Vec<Message>> {
    let (mut client, reply) = join(world, version, replay).await?;
    assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    world.database.run("select realtime.send('{}', 'live', 'room', false)").await?;
    client
        .next_where("the live one", |message| {
            message.payload["event"] == "live" && message.payload["meta"]["replayed"].is_null()
        })
        .await?;
    let mut messages = client.take_inbox();
    messages.retain(|message| message.event == "broadcast");
    Ok(messages)
}

fn events(messages: &[Message]) -> Vec<&str> {
    messages.iter().filter_map(|message| message.payload["event"].as_str()).collect()
}

#[tokio::test]
async fn the_newest_are_replayed_oldest_first_in_each_version() -> Result<()> {
    let world = world("replay_order").await?;
    world
        .database
        .run(
            "select realtime.send('{\"n\": 1.0}', 'first', 'room', false);
             select realtime.send('{}', 'hidden', 'room', true);
             select realtime.send('{}', 'elsewhere', 'hall', false);
             select realtime.send(null, 'nothing', 'room', false);
             select realtime.send_binary('\\x00ff', 'blob', 'room', false);
             select realtime.send('{\"id\": \"mine\"}', 'last', 'room', false);",
        )
        .await?;
    let id = world.database.text("select id from realtime.messages where event = 'first'").await?;
    let id = id.unwrap_or_default();
    for (version, expected) in
        [(Version::V1, &["first", "last"][..]), (Version::V2, &["first", "blob", "last"])]
    {
        let messages = replayed(&world, version, json!({})).await?;
        let old: Vec<Message> =
            messages.into_iter().filter(|message| message.payload["event"] != "live").collect();
        assert_eq!(events(&old), expected);
        assert!(old.iter().all(|message| message.payload["meta"]["replayed"] == true));
        assert!(old[0].binary.is_none());
        assert_eq!(
            old[0].payload_text,
            format!(
                r#"{{"type":"broadcast","event":"first","payload":{{"n": 1.0, "id": "{id}"}},"meta":{{"replayed":true,"id":"{id}"}}}}"#
            )
        );
    }
    let messages = replayed(&world, Version::V2, json!({"limit": 3})).await?;
    assert_eq!(events(&messages), ["last", "live", "live"]);
    world.database.run("delete from realtime.messages").await?;
    // More than the server allows.
    for n in 0..30 {
        world.database.run(&format!("select realtime.send('{{}}', 'e{n}', 'room', false)")).await?;
    }
    let messages = replayed(&world, Version::V2, json!({"limit": 1000})).await?;
    let expected: Vec<String> = (5..30).map(|n| format!("e{n}")).collect();
    assert_eq!(events(&messages), expected);
    world.end().await
}

#[tokio::test]
async fn the_messages_of_one_transaction_come_in_their_order() -> Result<()> {
    let database = Postgres::shared().await?.database("replay_transaction").await?;
    allow_messages(&database).await?;
    let walcast = Walcast::on(&database)
        .set("WALCAST_REPLAY_PUBLIC_CHANNELS", "true")
        .set("WALCAST_MAX_REPLAYED_MESSAGES", "1000")
        .start()
        .await?;
    let world = World { database, walcast };
    // Small gaps that PostgreSQL fills again once the page behind them is full: the rows of the
    // transaction do not lie in their order.
    world
        .database
        .run(
            "insert into realtime.messages (topic, extension, payload, event, private)
               select 'other', 'broadcast', jsonb_build_object('n', n), 'e', false
               from generate_series(1, 1000) as n;
             delete from realtime.messages where (payload ->> 'n')::int % 10 = 0;",
        )
        .await?;
    world.database.run("vacuum realtime.messages").await?;
    world
        .database
        .run(
            "begin;
             select realtime.send(jsonb_build_object('long',
               (select string_agg(md5(n::text), '') from generate_series(1, 45) as n)),
               'a', 'room', false);
             select realtime.send('{}', 'b' || n, 'room', false) from generate_series(100, 199) as n;
             savepoint undone;
             select realtime.send('{}', 'undone', 'room', false);
             rollback to undone;
             do $$ begin
               for n in 100..199 loop perform realtime.send('{}', 'c' || n, 'room', false); end loop;
             end $$;
             insert into realtime.messages (topic, extension, payload, event, private)
               values ('room', 'broadcast', '{}', 'd1', false), ('room', 'broadcast', '{}', 'd2', false);
             commit;",
        )
        .await?;
    let by_place = world
        .database
        .text(
            "select string_agg(event, ' ' order by tableoid, ctid) = string_agg(event, ' ' order by event)
             from realtime.messages where topic = 'room'",
        )
        .await?;
    assert_eq!(by_place.as_deref(), Some("f"), "their places alone would not tell");
    let messages = replayed(&world, Version::V2, json!({"limit": 1000})).await?;
    let numbered = |letter: &'static str| (100..200).map(move |n| format!("{letter}{n}"));
    let expected: Vec<String> = ["a".to_owned()]
        .into_iter()
        .chain(numbered("b"))
        .chain(numbered("c"))
        .chain(["d1".to_owned(), "d2".to_owned()])
        .collect();
    assert_eq!(events(&messages), expected);
    world.end().await
}

#[tokio::test]
async fn only_what_is_as_young_as_asked_is_replayed() -> Result<()> {
    let world = world("replay_since").await?;
    world
        .database
        .run(
            "insert into realtime.messages (topic, extension, payload, event, private, inserted_at)
             select 'room', 'broadcast', '{}', name, false, timezone('UTC', now()) + age
             from (values ('old', interval '-2 hours'), ('young', interval '-10 minutes'),
                          ('in Tokyo', interval '9 hours'),
                          ('never sent', interval '16 hours')) as times(name, age);",
        )
        .await?;
    let now_ms = world
        .database
        .text("select (extract(epoch from now()) * 1000)::bigint")
        .await?
        .unwrap_or_default()
        .parse::<i64>()?;
    for (since, expected) in [
        (json!(now_ms - 3_600_000), &["young", "in Tokyo"][..]),
        (json!(0), &["old", "young", "in Tokyo"]),
        (json!(-5), &["old", "young", "in Tokyo"]),
        (json!("soon"), &["old", "young", "in Tokyo"]),
        (json!(i64::MAX), &[]),
    ] {
        let messages = replayed(&world, Version::V2, json!({"since": since})).await?;
        let mut found = events(&messages);
        found.retain(|event| *event != "live");
        assert_eq!(found, expected, "{since}");
    }
    world.end().await
}

#[tokio::test]
async fn nobody_is_told_twice_or_misses_what_is_sent_while_joining() -> Result<()> {
    let world = world("replay_meanwhile").await?;
    let url = world.database.superuser_url().to_owned();
    let sending = tokio::spawn(async move {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        for n in 0..300 {
            client
                .batch_execute(&format!("select realtime.send('{{}}', 'e{n:03}', 'room', false)"))
                .await?;
        }
        client.batch_execute("select realtime.send('{}', 'end', 'room', false)").await?;
        anyhow::Ok(())
    });
    let mut clients = Vec::new();
    for _ in 0..10 {
        let (client, reply) = join(&world, Version::V2, json!({"limit": 25})).await?;
        assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
        clients.push(client);
    }
    sending.await??;
    for mut client in clients {
        client.next_where("the end", |message| message.payload["event"] == "end").await?;
        let mut messages = client.take_inbox();
        messages.retain(|message| message.event == "broadcast");
        let found = events(&messages);
        let first = found.first().map_or(300, |event| event[1..].parse().unwrap_or(300));
        let expected: Vec<String> = (first..300).map(|n| format!("e{n:03}")).collect();
        assert_eq!(found, expected);
    }
    world.end().await
}

#[tokio::test]
async fn a_login_that_only_is_a_member_serves_what_a_superuser_migrated() -> Result<()> {
    // A server of its own, since roles belong to all databases.
    let server = Postgres::start_with_prelude().await?;
    let database = server.database("replay_member").await?;
    let scope = Scope::Everything {
        bootstrap: Bootstrap::Yes,
        ddl_triggers: DdlTriggers::Yes,
        publication: "supabase_realtime",
    };
    let superuser = connect_options(&server, SUPERUSER, database.name());
    assert!(!migrate::run(&superuser, scope).await?.is_empty());
    assert_eq!(migrate::run(&superuser, scope).await?, [""; 0], "there is nothing left to do");
    let walcast = Walcast::on(&database).set("WALCAST_REPLAY_PUBLIC_CHANNELS", "true");
    let world = World { database, walcast: walcast.start().await? };
    assert!(
        world
            .walcast
            .log()
            .iter()
            .any(|line| line.contains("is not a member of supabase_realtime_admin")),
        "{}",
        world.walcast.log_tail()
    );
    drop(world.walcast);

    let database = world.database;
    database
        .run(
            "grant supabase_realtime_admin to walcast;
             select realtime.send('{}', 'before', 'room', false);
             do $$ declare day text := to_char(timezone('UTC', now()) + interval '3 days', 'YYYY_MM_DD');
             begin execute format('drop table realtime.%I', 'messages_' || day); end $$;",
        )
        .await?;
    let walcast = Walcast::on(&database).set("WALCAST_REPLAY_PUBLIC_CHANNELS", "true");
    let world = World { database, walcast: walcast.start().await? };
    let messages = replayed(&world, Version::V2, json!({})).await?;
    assert_eq!(events(&messages), ["before"]);
    // The same for private channels, whose policies it asks as the client.
    world
        .database
        .run(
            "create policy everybody on realtime.messages for select to authenticated using (true);
             select realtime.send('{}', 'hidden', 'room');",
        )
        .await?;
    for (token, status) in [(Token::user(ALICE), "ok"), (Token::anon(), "error")] {
        let mut client = world.walcast.client(&token).await?;
        let config = json!({"config": {"private": true, "broadcast": {"replay": {}}}});
        let reply = client.join(TOPIC, &config).await?;
        assert_eq!(reply.payload["status"], status, "{}", reply.payload_text);
        if status == "ok" {
            client
                .next_where("what was hidden", |message| {
                    message.payload["event"] == "hidden"
                        && message.payload["meta"]["replayed"] == true
                })
                .await?;
        }
    }
    let owners = world
        .database
        .text(
            "select count(*) || string_agg(distinct pg_get_userbyid(relowner), ',')
             from pg_inherits join pg_class on pg_class.oid = inhrelid
             where inhparent = 'realtime.messages'::regclass",
        )
        .await?;
    assert_eq!(owners.as_deref(), Some("5supabase_realtime_admin"));
    world.end().await
}

#[tokio::test]
async fn a_join_is_refused_where_nothing_can_be_replayed() -> Result<()> {
    let world = world("replay_refused").await?;
    // A lock holds the question back for longer than it may take.
    world.database.run("begin; lock table realtime.messages in access exclusive mode").await?;
    let (_client, reply) = join(&world, Version::V2, json!({})).await?;
    world.database.run("rollback").await?;
    let reason = "UnableToReplayMessages: Realtime was unable to replay messages";
    assert_eq!(reply.payload["response"]["reason"], reason, "{}", reply.payload_text);
    // The next one is answered.
    assert_eq!(replayed(&world, Version::V2, json!({})).await?.len(), 0);
    world.database.run("drop table realtime.messages").await?;
    let (_client, reply) = join(&world, Version::V2, json!({})).await?;
    assert_eq!(reply.payload["response"]["reason"], reason, "{}", reply.payload_text);

    let world = World::with_messages("replay_forbidden", "").await?;
    let (_client, reply) = join(&world, Version::V2, json!({})).await?;
    assert_eq!(
        reply.payload["response"]["reason"],
        "UnableToReplayMessages: Replay is not allowed for public channels"
    );
    world.end().await
}
