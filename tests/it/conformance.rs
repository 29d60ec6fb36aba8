//! What the checklist of the protocol asks for and no other file of these tests is about;
//! `tests/conformance.toml` has all of it.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Client, Message, Postgres, Token, Version, Walcast, http_post, http_request};

use crate::world::{ALICE, VERSIONS, World, allow_messages};

const ROOM: &str = "realtime:room";

fn acknowledged() -> Value {
    json!({"config": {"broadcast": {"ack": true, "self": true}}})
}

async fn connect(world: &World, version: Version) -> Result<Client> {
    Client::connect(world.walcast.port(), &Token::anon().sign(), version).await
}

fn reason(reply: &Message) -> &str {
    reply.payload["response"]["reason"].as_str().unwrap_or_default()
}

fn broadcast(event: &str) -> Value {
    json!({"type": "broadcast", "event": event, "payload": {}})
}

#[tokio::test]
async fn any_host_is_served() -> Result<()> {
    let world = World::new("any_host", "").await?;
    let path = format!("/socket/websocket?vsn=2.0.0&apikey={}", Token::anon().sign());
    for host in ["unknown.example.com", "localhost", "127.0.0.1", "realtime-dev.supabase-realtime"]
    {
        let headers = [
            ("host", host),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let answer = http_request(world.walcast.port(), "GET", &path, &headers).await?;
        assert_eq!(answer.status, 101, "{host}");
        assert_eq!(
            http_request(world.walcast.port(), "GET", "/api/ping", &[("host", host)]).await?.status,
            200
        );
    }
    world.end().await
}

#[tokio::test]
async fn a_join_ref_may_be_stale_or_missing() -> Result<()> {
    let world = World::new("join_refs", "").await?;
    for version in VERSIONS {
        let mut client = connect(&world, version).await?;
        let config = json!({"config": {"broadcast": {"ack": true}, "presence": {"enabled": true}}});
        client.join(ROOM, &config).await?;
        let track = json!({"type": "presence", "event": "track", "payload": {"n": 1}});
        for (number, join_ref) in [None, Some("0"), Some("no such join")].into_iter().enumerate() {
            for (event, payload) in [("presence", &track), ("broadcast", &broadcast("e"))] {
                let reference = format!("{event} {number}");
                client.push_with(ROOM, event, payload, Some(&reference), join_ref).await?;
                let reply = client.reply(&reference).await?;
                assert_eq!(reply.payload["status"], "ok", "{event} with {join_ref:?}");
            }
        }
    }
    world.end().await
}

#[tokio::test]
async fn an_empty_topic_is_refused_and_nothing_else_is_said() -> Result<()> {
    let world = World::new("empty_topic", "").await?;
    for version in VERSIONS {
        let mut client = connect(&world, version).await?;
        let reply = client.join("realtime:", &acknowledged()).await?;
        assert_eq!(reply.payload["status"], "error");
        assert_eq!(reason(&reply), "TopicNameRequired: You must provide a topic name");
        client.heartbeat().await?;
        let rest = client.take_inbox();
        assert!(rest.is_empty(), "{rest:?}");
    }
    world.end().await
}

#[tokio::test]
async fn topics_may_have_colons_and_any_other_sign() -> Result<()> {
    let database = Postgres::shared().await?.database("topics_of_any_kind").await?;
    allow_messages(&database).await?;
    let walcast = Walcast::on(&database).start().await?;
    let authorization = format!("Bearer {}", Token::anon().sign());
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    for topic in ["a:b:c", "room:ÄÖ 漢字 🎈", "%41 %2F ?&#", "'; drop table x; --", "{\"a\":1}"]
    {
        let mut clients = Vec::new();
        for version in VERSIONS {
            let token = Token::anon().sign();
            let mut client = Client::connect(walcast.port(), &token, version).await?;
            let name = format!("realtime:{topic}");
            let reply = client.join(&name, &acknowledged()).await?;
            assert_eq!(reply.payload["status"], "ok", "{topic}");
            clients.push(client);
        }
        let name = format!("realtime:{topic}");
        clients[0].push(&name, "broadcast", &broadcast("socket")).await?;
        let batch = json!({"messages": [{"topic": topic, "event": "batch", "payload": {}}]});
        let batch = batch.to_string();
        let sent = http_post(walcast.port(), "/api/broadcast", &headers, batch.as_bytes()).await?;
        assert_eq!(sent.status, 202, "{topic}: {}", sent.body);
        let encoded: String = topic.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/broadcast/{encoded}/events/one");
        assert_eq!(http_post(walcast.port(), &path, &headers, b"{}").await?.status, 202, "{topic}");
        let sql =
            format!("select realtime.send('{{}}', 'sql', '{}', false)", topic.replace('\'', "''"));
        database.run(&sql).await?;
        for client in &mut clients {
            for event in ["socket", "batch", "one", "sql"] {
                let heard = client
                    .next_where(event, |message| {
                        message.event == "broadcast" && message.payload["event"] == event
                    })
                    .await?;
                assert_eq!(heard.topic, name);
            }
        }
    }
    drop(walcast);
    database.remove().await
}

#[tokio::test]
async fn without_postgresql_public_channels_go_on_and_private_ones_say_no() -> Result<()> {
    let mut server = Postgres::start_with_prelude().await?;
    let database = server.database("without_postgresql").await?;
    allow_messages(&database).await?;
    let walcast = Walcast::on(&database).start().await?;
    database
        .run("create policy all_do on realtime.messages using (true) with check (true)")
        .await?;
    let world = World { database, walcast };
    let (mut sender, mut listener) =
        (connect(&world, Version::V1).await?, connect(&world, Version::V2).await?);
    for client in [&mut sender, &mut listener] {
        client.join(ROOM, &acknowledged()).await?;
        let private = json!({"config": {"private": true, "broadcast": {"ack": true}}});
        let reply = client.join("realtime:secret", &private).await?;
        assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    }
    server.stop()?;
    world.walcast.unhealthy().await?;
    // Nobody has asked yet what may be written there.
    let push = sender.push("realtime:secret", "broadcast", &broadcast("secret")).await?;
    assert_eq!(sender.reply(&push).await?.payload["status"], "error");
    let reply = sender.join("realtime:other", &json!({"config": {"private": true}})).await?;
    assert_eq!(
        reason(&reply),
        "UnableToConnectToProject: Realtime was unable to connect to the project database"
    );
    let push = sender.push(ROOM, "broadcast", &broadcast("public")).await?;
    assert_eq!(sender.reply(&push).await?.payload["status"], "ok");
    listener.next_where("the public one", |message| message.payload["event"] == "public").await?;
    assert!(!listener.take_inbox().iter().any(|message| message.payload["event"] == "secret"));
    server.start_again().await
}

#[tokio::test]
async fn rights_are_given_for_presence_and_broadcasts_apart() -> Result<()> {
    let world = World::with_messages("rights_apart", "").await?;
    world
        .database
        .run(
            "create policy sees on realtime.messages for select to anon
               using (realtime.topic() = 'room' and extension = 'presence');
             create policy appears on realtime.messages for insert to anon
               with check (realtime.topic() = 'room' and extension = 'presence');
             create policy all_do on realtime.messages to authenticated
               using (true) with check (true);",
        )
        .await?;
    let config = json!({"config": {"private": true, "broadcast": {"ack": true},
        "presence": {"enabled": true, "key": "k"}}});
    for version in VERSIONS {
        let mut guest = connect(&world, version).await?;
        let reply = guest.join(ROOM, &config).await?;
        assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
        guest.next_where("the state", |message| message.event == "presence_state").await?;
        let token = Token::user(ALICE).sign();
        let mut alice = Client::connect(world.walcast.port(), &token, version).await?;
        alice.join(ROOM, &config).await?;
        let track = json!({"type": "presence", "event": "track", "payload": {}});
        for client in [&mut guest, &mut alice] {
            let push = client.push(ROOM, "presence", &track).await?;
            assert_eq!(client.reply(&push).await?.payload["status"], "ok");
        }
        guest.next_where("a diff", |message| message.event == "presence_diff").await?;
        let push = guest.push(ROOM, "broadcast", &broadcast("no")).await?;
        assert_eq!(guest.reply(&push).await?.payload["status"], "error");
        // What is not heard before the right to read is given is heard after it.
        let push = alice.push(ROOM, "broadcast", &broadcast("before")).await?;
        alice.reply(&push).await?;
        guest.push(ROOM, "access_token", &json!({"access_token": token})).await?;
        let push = guest.push(ROOM, "broadcast", &broadcast("own")).await?;
        assert_eq!(guest.reply(&push).await?.payload["status"], "ok");
        let push = alice.push(ROOM, "broadcast", &broadcast("after")).await?;
        alice.reply(&push).await?;
        guest.next_where("the broadcast", |message| message.payload["event"] == "after").await?;
        assert!(!guest.take_inbox().iter().any(|message| message.payload["event"] == "before"));
    }
    world.end().await
}

#[tokio::test]
async fn an_empty_token_closes_its_channel_and_the_same_or_none_changes_nothing() -> Result<()> {
    let world = World::new("empty_tokens", "").await?;
    for version in VERSIONS {
        let mut client = connect(&world, version).await?;
        client.join(ROOM, &acknowledged()).await?;
        client.join("realtime:other", &acknowledged()).await?;
        for ignored in [json!(Token::anon().sign()), Value::Null, json!("sb_publishable_x")] {
            client.push(ROOM, "access_token", &json!({"access_token": ignored})).await?;
        }
        client.push(ROOM, "access_token", &json!({"access_token": ""})).await?;
        let told = client.next_where("the reason", |message| message.event == "system").await?;
        assert_eq!((told.topic.as_str(), &told.payload["status"]), (ROOM, &json!("error")));
        assert_eq!(told.payload["message"], "The token provided is not a valid JWT");
        let closed = client.next_where("the close", |message| message.event == "phx_close").await?;
        assert_eq!(closed.topic, ROOM);
        client.heartbeat().await?;
        let rest = client.take_inbox();
        assert!(rest.is_empty(), "{rest:?}");
    }
    world.end().await
}

#[tokio::test]
async fn a_binding_that_is_null_is_none_and_four_conditions_hold_together() -> Result<()> {
    let world = World::new(
        "composed_filters",
        "create table notes (id int primary key, body text, n int);
         alter publication supabase_realtime add table notes;",
    )
    .await?;
    for version in VERSIONS {
        let token = Token::service_role().sign();
        let mut client = Client::connect(world.walcast.port(), &token, version).await?;
        let nothing = json!({"config": {"postgres_changes": [null]}});
        let reply = client.join("realtime:nothing", &nothing).await?;
        assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
        let filters = [
            "n=gte.2,n=lt.4",
            "n=in.(1,2,3),body=like.a%",
            "n=neq.1,body=not.like.b%",
            "body=not.is.null,body=ilike.A%",
            "id=gt.0,n=gte.2,n=lte.3,body=like.a%",
        ];
        let bindings: Vec<Value> = filters
            .iter()
            .map(|filter| {
                json!({"event": "INSERT", "schema": "public", "table": "notes", "filter": filter})
            })
            .collect();
        let ids = client.subscribe("realtime:notes", &json!(bindings)).await?.ids;
        world
            .database
            .run(
                "delete from notes; insert into notes values
                   (1, 'a', 1), (2, 'ab', 2), (3, 'b', 3), (4, 'a', 4), (5, null, 3), (6, 'A', 9)",
            )
            .await?;
        world.database.run("insert into notes values (7, 'azz', 3)").await?;
        let mut found = vec![Vec::new(); filters.len()];
        loop {
            let change = client.change().await?;
            let row = change.data()["record"]["id"].as_i64().unwrap_or_default();
            for (position, id) in ids.iter().enumerate() {
                if change.payload["ids"].as_array().is_some_and(|ids| ids.contains(&json!(id))) {
                    found[position].push(row);
                }
            }
            if row == 7 {
                break;
            }
        }
        let expected: [&[i64]; 5] =
            [&[2, 3, 5, 7], &[1, 2, 7], &[2, 4, 6, 7], &[1, 2, 4, 6, 7], &[2, 7]];
        assert_eq!(found, expected);
    }
    world.end().await
}

#[tokio::test]
async fn a_message_of_sql_is_heard_by_public_or_private_channels_only() -> Result<()> {
    let world = World::with_messages("sql_isolation", "").await?;
    world
        .database
        .run("create policy all_hear on realtime.messages for select using (true)")
        .await?;
    for version in VERSIONS {
        let (mut public, mut private) =
            (connect(&world, version).await?, connect(&world, version).await?);
        public.join(ROOM, &json!({"config": {}})).await?;
        let reply = private.join(ROOM, &json!({"config": {"private": true}})).await?;
        assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
        world
            .database
            .run(
                "select realtime.send('{}', 'private', 'room');
                 select realtime.send('{}', 'public', 'room', false);
                 select realtime.send('{}', 'private end', 'room');
                 select realtime.send('{}', 'public end', 'room', false);",
            )
            .await?;
        for (client, kind) in [(&mut public, "public"), (&mut private, "private")] {
            let end = format!("{kind} end");
            client.next_where(&end, |message| message.payload["event"] == end.as_str()).await?;
            let heard = client.take_inbox();
            let events: Vec<&str> =
                heard.iter().filter_map(|message| message.payload["event"].as_str()).collect();
            assert_eq!(events, [kind]);
        }
    }
    world.end().await
}
