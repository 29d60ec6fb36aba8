//! Private channels: what the policies of `realtime.messages` let a client read and write.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Client, Message, Token, Version, eventually, http_get, http_post};

use crate::world::{ALICE, BOB, VERSIONS, World};

const TOPIC: &str = "realtime:room";

/// Alice may do everything in the room, Bob may only listen to broadcasts there.
const POLICIES: &str = "
    create policy alice_reads on realtime.messages for select to authenticated
      using (realtime.topic() = 'room' and auth.uid() = 'a11ce000-0000-4000-8000-000000000001');
    create policy alice_writes on realtime.messages for insert to authenticated
      with check (realtime.topic() = 'room' and auth.uid() = 'a11ce000-0000-4000-8000-000000000001');
    create policy bob_listens on realtime.messages for select to authenticated
      using (realtime.topic() = 'room' and extension = 'broadcast'
        and auth.uid() = 'b0b00000-0000-4000-8000-000000000002');";

async fn world(name: &str) -> Result<World> {
    let world = World::with_messages(name, "").await?;
    world.database.run(POLICIES).await?;
    Ok(world)
}

fn config(extra: &Value) -> Value {
    let mut config = json!({"private": true, "broadcast": {"ack": true}});
    if let (Some(config), Some(extra)) = (config.as_object_mut(), extra.as_object()) {
        config.extend(extra.clone());
    }
    json!({ "config": config })
}

/// Connects; the reply to the join of the private room.
async fn join(world: &World, token: &Token, version: Version) -> Result<(Client, Message)> {
    join_with(world, token, version, &json!({})).await
}

async fn join_with(
    world: &World,
    token: &Token,
    version: Version,
    extra: &Value,
) -> Result<(Client, Message)> {
    let mut client = Client::connect(world.walcast.port(), &token.sign(), version).await?;
    let reply = client.join(TOPIC, &config(extra)).await?;
    Ok((client, reply))
}

async fn joined(world: &World, sub: &str, version: Version) -> Result<Client> {
    let (client, reply) = join(world, &Token::user(sub), version).await?;
    assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    Ok(client)
}

fn reason(reply: &Message) -> &str {
    reply.payload["response"]["reason"].as_str().unwrap_or_default()
}

/// Sends a broadcast; the reply.
async fn say(client: &mut Client, event: &str) -> Result<Value> {
    let payload = json!({"type": "broadcast", "event": event, "payload": {}});
    let reference = client.push(TOPIC, "broadcast", &payload).await?;
    Ok(client.reply(&reference).await?.payload)
}

async fn hear(client: &mut Client, event: &str) -> Result<Message> {
    client
        .next_where(event, |message| {
            message.event == "broadcast" && message.payload["event"] == event
        })
        .await
}

const MAY_NOT_READ: &str =
    "Unauthorized: You do not have permissions to read from this Channel topic: room";
const MAY_NOT_WRITE: &str =
    "Unauthorized: You do not have permissions to write to this Channel topic: room";

#[tokio::test]
async fn policies_decide_who_joins_listens_and_speaks() -> Result<()> {
    let world = world("private_policies").await?;
    for version in VERSIONS {
        let mut alice = joined(&world, ALICE, version).await?;
        let mut bob = joined(&world, BOB, version).await?;
        assert_eq!(say(&mut alice, "hello").await?, json!({"status": "ok", "response": {}}));
        hear(&mut bob, "hello").await?;
        let refused = say(&mut bob, "psst").await?;
        assert_eq!(refused, json!({"status": "error", "response": {"reason": MAY_NOT_WRITE}}));
        say(&mut alice, "end").await?;
        assert!(!alice.take_inbox().iter().any(|message| message.payload["event"] == "psst"));
    }
    for token in [Token::anon(), Token::user("c0000000-0000-4000-8000-000000000003")] {
        let (_, reply) = join(&world, &token, Version::V2).await?;
        assert_eq!(reason(&reply), MAY_NOT_READ);
    }
    let mut alice = world.walcast.client(&Token::user(ALICE)).await?;
    let reply = alice.join("realtime:hall", &config(&json!({}))).await?;
    assert!(reason(&reply).ends_with("topic: hall"), "{}", reason(&reply));
    // A role that bypasses row-level security may do all.
    let mut service = {
        let (client, reply) = join(&world, &Token::service_role(), Version::V2).await?;
        assert_eq!(reply.payload["status"], "ok");
        client
    };
    assert_eq!(say(&mut service, "all").await?["status"], "ok");
    world.end().await
}

#[tokio::test]
async fn public_and_private_channels_of_one_topic_do_not_hear_each_other() -> Result<()> {
    let world = world("private_isolation").await?;
    let mut private = joined(&world, ALICE, Version::V2).await?;
    let mut public = world.walcast.client(&Token::user(ALICE)).await?;
    let open = json!({"config": {"broadcast": {"ack": true, "self": true}}});
    public.join(TOPIC, &open).await?;
    say(&mut private, "secret").await?;
    say(&mut public, "open").await?;
    hear(&mut public, "open").await?;
    world
        .database
        .run(
            "select realtime.send('{}', 'stored secret', 'room');
             select realtime.send('{}', 'stored open', 'room', false);",
        )
        .await?;
    hear(&mut private, "stored secret").await?;
    hear(&mut public, "stored open").await?;
    let events = |messages: Vec<Message>| -> Vec<String> {
        let events = messages.iter().filter_map(|message| message.payload["event"].as_str());
        events.map(str::to_owned).collect()
    };
    assert_eq!(events(public.take_inbox()), Vec::<String>::new());
    assert_eq!(events(private.take_inbox()), Vec::<String>::new());
    world.end().await
}

#[tokio::test]
async fn presence_has_rights_of_its_own() -> Result<()> {
    let world = world("private_presence").await?;
    let presence = json!({"presence": {"enabled": true, "key": "k"}});
    let (mut alice, _) = join_with(&world, &Token::user(ALICE), Version::V2, &presence).await?;
    alice.next_where("the state", |message| message.event == "presence_state").await?;
    let (mut bob, reply) = join_with(&world, &Token::user(BOB), Version::V2, &presence).await?;
    assert_eq!(reply.payload["status"], "ok");
    let track = json!({"type": "presence", "event": "track", "payload": {"n": 1}});
    let reference = alice.push(TOPIC, "presence", &track).await?;
    assert_eq!(alice.reply(&reference).await?.payload["status"], "ok");
    alice.next_where("a diff", |message| message.event == "presence_diff").await?;
    let reference = bob.push(TOPIC, "presence", &track).await?;
    assert_eq!(bob.reply(&reference).await?.payload, json!({"status": "error", "response": {}}));
    // Broadcasts and diffs take the same way, so what Bob was told is there by now.
    say(&mut alice, "end").await?;
    hear(&mut bob, "end").await?;
    let events: Vec<String> = bob.take_inbox().into_iter().map(|message| message.event).collect();
    assert!(!events.iter().any(|event| event.starts_with("presence")), "{events:?}");
    world.end().await
}

#[tokio::test]
async fn a_new_token_brings_new_rights() -> Result<()> {
    let world = world("private_token").await?;
    let mut client = joined(&world, BOB, Version::V2).await?;
    assert_eq!(say(&mut client, "no").await?["status"], "error");
    let token = json!({"access_token": Token::user(ALICE).sign()});
    client.push(TOPIC, "access_token", &token).await?;
    assert_eq!(say(&mut client, "yes").await?["status"], "ok");

    let mut client = joined(&world, ALICE, Version::V2).await?;
    let token = json!({"access_token": Token::user("c0000000-0000-4000-8000-000000000003").sign()});
    client.push(TOPIC, "access_token", &token).await?;
    let text = "You no longer have permission to read from this Channel topic: room";
    client.next_where("the loss", |message| message.is_system(text)).await?;
    client.next_where("the close", |message| message.event == "phx_close").await?;
    world.end().await
}

#[tokio::test]
async fn policies_see_topic_claims_and_headers_and_probes_leave_nothing() -> Result<()> {
    let world = World::with_messages("private_settings", "").await?;
    world
        .database
        .run(
            "create policy reads on realtime.messages for select to authenticated using (
               topic = 'room' and extension in ('broadcast', 'presence') and private is null
               and event is null and payload is null
               and current_setting('request.jwt.claim.sub') = auth.uid()::text
               and current_setting('request.jwt.claim.role') = 'authenticated'
               and current_setting('request.headers')::jsonb = '{}');
             create policy writes on realtime.messages for insert to authenticated with check (
               topic = realtime.topic() and extension = 'broadcast');",
        )
        .await?;
    let mut client = joined(&world, ALICE, Version::V2).await?;
    assert_eq!(say(&mut client, "yes").await?["status"], "ok");
    assert_eq!(
        world.database.text("select count(*)::text from realtime.messages").await?.as_deref(),
        Some("0")
    );
    world.end().await
}

#[tokio::test]
async fn policies_that_raise_or_sleep_say_no_to_their_own() -> Result<()> {
    let world = World::with_messages("private_errors", "").await?;
    world
        .database
        .run(
            "create policy reads on realtime.messages for select to authenticated using (
               case realtime.topic()
                 when 'raises' then 1 / (length(topic) - length(topic)) = 0
                 when 'sleeps' then pg_sleep(30) is not null
                 else true end);",
        )
        .await?;
    let mut sleeper = world.walcast.client(&Token::user(ALICE)).await?;
    let sleeping = sleeper.push("realtime:sleeps", "phx_join", &config(&json!({}))).await?;
    let mut other = joined(&world, BOB, Version::V2).await?;
    let reply = other.join("realtime:raises", &config(&json!({}))).await?;
    assert_eq!(
        reason(&reply),
        "Unauthorized: You do not have permissions to read from this Channel topic: raises"
    );
    let reply = sleeper.reply(&sleeping).await?;
    assert!(reason(&reply).starts_with("QueryCanceled: "), "{}", reason(&reply));
    let role = Token::role("no_such_role");
    let (_, reply) = join(&world, &role, Version::V2).await?;
    assert_eq!(reason(&reply), MAY_NOT_READ);
    let (_, reply) = join(&world, &Token::role("none"), Version::V2).await?;
    assert_eq!(reason(&reply), MAY_NOT_READ);
    world.end().await
}

#[tokio::test]
async fn without_todays_partition_the_reason_is_given() -> Result<()> {
    let world = world("private_partition").await?;
    world
        .database
        .run(
            "do $$ declare name text; begin
               for name in select inhrelid::regclass::text from pg_inherits
                 where inhparent = 'realtime.messages'::regclass
               loop execute 'drop table ' || name; end loop;
             end $$",
        )
        .await?;
    let (_, reply) = join(&world, &Token::user(ALICE), Version::V2).await?;
    assert_eq!(
        reason(&reply),
        "MissingPartition: Realtime was unable to find the expected messages partition"
    );
    world.end().await
}

#[tokio::test]
async fn a_join_costs_one_question_and_a_channel_one_more_when_it_speaks() -> Result<()> {
    let world = world("private_cost").await?;
    let asked = async || -> Result<String> {
        let metrics = http_get(world.walcast.port(), "/metrics").await?.body;
        let line = metrics.lines().find(|line| line.starts_with("walcast_channel_questions_total"));
        Ok(line.and_then(|line| line.split(' ').nth(1)).unwrap_or("0").to_owned())
    };
    let mut alice = joined(&world, ALICE, Version::V2).await?;
    assert_eq!(asked().await?, "1");
    for n in 0..5 {
        say(&mut alice, &n.to_string()).await?;
    }
    assert_eq!(asked().await?, "2");
    world.end().await
}

#[tokio::test]
async fn earlier_messages_are_replayed_in_order_and_not_twice() -> Result<()> {
    let world = world("private_replay").await?;
    world
        .database
        .run(
            r#"select realtime.send('{}', 'too old', 'room');
               update realtime.messages set inserted_at = inserted_at - interval '20 hours';
               select realtime.send('{}', 'public', 'room', false);
               begin;
               select realtime.send(jsonb_build_object('n', n), 'a' || n, 'room') from generate_series(1, 20) as n;
               select realtime.send_binary('\x01ff', 'blob', 'room');
               commit;"#,
        )
        .await?;
    world.database.run("select realtime.send('{}', 'last', 'room')").await?;
    let since = "select (extract(epoch from now() - interval '1 hour') * 1000)::bigint::text";
    let since: i64 = world.database.text(since).await?.unwrap_or_default().parse()?;
    let replay = |limit: i64| json!({"broadcast": {"replay": {"since": since, "limit": limit}}});
    for version in VERSIONS {
        let (mut client, reply) =
            join_with(&world, &Token::user(ALICE), version, &replay(100)).await?;
        assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
        world.database.run("select realtime.send('{}', 'live', 'room')").await?;
        hear(&mut client, "live").await?;
        let messages = client.take_inbox();
        let replayed: Vec<&Message> =
            messages.iter().filter(|message| message.event == "broadcast").collect();
        let mut expected: Vec<String> = (1..=20).map(|n| format!("a{n}")).collect();
        if version == Version::V2 {
            expected.push("blob".to_owned());
        }
        expected.push("last".to_owned());
        let live_of_before = replayed.len() - expected.len();
        expected.extend((0..live_of_before).map(|_| "live".to_owned()));
        let events: Vec<&str> =
            replayed.iter().filter_map(|message| message.payload["event"].as_str()).collect();
        assert_eq!(events, expected);
        assert!(replayed.iter().all(|message| message.payload["meta"]["replayed"] == true));
        assert!(replayed.iter().all(|message| message.payload["meta"]["id"].is_string()));
    }
    let (mut client, _) = join_with(&world, &Token::user(BOB), Version::V1, &replay(2)).await?;
    client.heartbeat().await?;
    let events = client.take_inbox().iter().filter(|message| message.event == "broadcast").count();
    assert_eq!(events, 2);
    let (_, reply) = join_with(&world, &Token::anon(), Version::V2, &replay(2)).await?;
    assert_eq!(reason(&reply), MAY_NOT_READ);
    world.end().await
}

#[tokio::test]
async fn applications_write_where_the_policies_let_them() -> Result<()> {
    let world = world("private_http").await?;
    let port = world.walcast.port();
    let mut bob = joined(&world, BOB, Version::V2).await?;
    let alice = format!("Bearer {}", Token::user(ALICE).sign());
    let nobody = format!("Bearer {}", Token::anon().sign());
    let post = async |path: &str, token: &str, body: &str| {
        let headers = [("Authorization", token), ("Content-Type", "application/json")];
        http_post(port, path, &headers, body.as_bytes()).await
    };
    let one = "/api/broadcast/room/events/one?private=true";
    assert_eq!(post(one, &alice, "{}").await?.status, 202);
    hear(&mut bob, "one").await?;
    let answer = post(one, &nobody, "{}").await?;
    assert_eq!((answer.status, answer.json()), (403, json!({"message": "Unauthorized"})));
    let batch = json!({"messages": [
        {"topic": "hall", "event": "lost", "payload": {}, "private": true},
        {"topic": "room", "event": "two", "payload": {}, "private": true},
    ]});
    assert_eq!(post("/api/broadcast", &nobody, &batch.to_string()).await?.status, 202);
    assert_eq!(post("/api/broadcast", &alice, &batch.to_string()).await?.status, 202);
    hear(&mut bob, "two").await?;
    assert!(!bob.take_inbox().iter().any(|message| message.event == "broadcast"));
    world
        .database
        .run("create policy raises on realtime.messages for insert to anon with check (1 / 0 = 1)")
        .await?;
    // What was decided in process may be a second old.
    eventually("the new policy to count", || async {
        let answer = post(one, &nobody, "{}").await?;
        Ok((answer.status != 403).then_some((answer.status, answer.json())))
    })
    .await
    .map(|answer| assert_eq!(answer, (422, json!({"message": "RLS policy error"}))))?;
    world.end().await
}

#[tokio::test]
async fn many_joins_are_decided_in_process_and_a_changed_policy_counts_within_a_second()
-> Result<()> {
    let world = world("private_many").await?;
    let counted = async |name: &str| -> Result<u32> {
        let metrics = http_get(world.walcast.port(), "/metrics").await?.body;
        let line = metrics.lines().find(|line| line.starts_with(name));
        Ok(line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_default())
    };
    let mut clients = Vec::new();
    // As often as it takes until the rules were read: two questions within a second ask for that.
    let decided = eventually("decisions in process", || async {
        let (alice, reply) = join(&world, &Token::user(ALICE), Version::V2).await?;
        assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
        let (_, reply) = join(&world, &Token::anon(), Version::V1).await?;
        assert_eq!(reason(&reply), MAY_NOT_READ);
        let decided = counted("walcast_channel_decisions_total").await?;
        Ok((decided >= 10).then_some(alice))
    });
    clients.push(decided.await?);
    assert!(counted("walcast_channel_questions_total").await? >= 2);
    // Who may speak says so as before.
    for client in &mut clients {
        assert_eq!(say(client, "hello").await?["status"], "ok");
    }
    world.database.run("drop policy alice_reads on realtime.messages").await?;
    eventually("the policy to be gone", || async {
        let (_, reply) = join(&world, &Token::user(ALICE), Version::V2).await?;
        Ok((reason(&reply) == MAY_NOT_READ).then_some(()))
    })
    .await?;
    world.end().await
}
