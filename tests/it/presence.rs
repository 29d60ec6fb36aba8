//! Presence: who is told about whom, by the real server.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Client, Message, Token, Version, eventually, http_get};

use crate::world::{NOTES, World};

const ROOM: &str = "realtime:room";

async fn connect(world: &World, version: Version) -> Result<Client> {
    Client::connect(world.walcast.port(), &Token::anon().sign(), version).await
}

/// Joins with presence under this key and returns the state that is told.
async fn join(client: &mut Client, key: &str) -> Result<Value> {
    let config = json!({"config": {"presence": {"enabled": true, "key": key}}});
    let reply = client.join(ROOM, &config).await?;
    assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    let state = client.next_where("the state", |message| message.event == "presence_state").await?;
    assert_eq!((state.topic.as_str(), state.reference), (ROOM, None));
    Ok(state.payload)
}

async fn call(client: &mut Client, payload: &Value) -> Result<Value> {
    let reference = client.push(ROOM, "presence", payload).await?;
    Ok(client.reply(&reference).await?.payload)
}

async fn track(client: &mut Client, remarks: Value) -> Result<()> {
    let payload = json!({"type": "presence", "event": "track", "payload": remarks});
    assert_eq!(call(client, &payload).await?, ok());
    Ok(())
}

async fn untrack(client: &mut Client) -> Result<()> {
    assert_eq!(call(client, &json!({"type": "presence", "event": "untrack"})).await?, ok());
    Ok(())
}

fn ok() -> Value {
    json!({"status": "ok", "response": {}})
}

/// The next diff, without its join_ref and ref: it has none.
async fn diff(client: &mut Client) -> Result<Value> {
    let diff = client.next_where("a diff", |message| message.event == "presence_diff").await?;
    assert_eq!((diff.topic.as_str(), diff.join_ref, diff.reference), (ROOM, None, None));
    Ok(diff.payload)
}

/// The only appearance under a key, with its `phx_ref`.
fn only(side: &Value, key: &str) -> (Value, String) {
    assert_eq!(side.as_object().map(serde_json::Map::len), Some(1), "{side}");
    let metas = side[key]["metas"].as_array().unwrap();
    assert_eq!(metas.len(), 1, "{side}");
    let mut meta = metas[0].clone();
    let reference = meta.as_object_mut().unwrap().remove("phx_ref").unwrap();
    (meta, reference.as_str().unwrap().to_owned())
}

/// Everything that has come about presence since.
async fn rest(client: &mut Client) -> Result<Vec<Message>> {
    client.heartbeat().await?;
    let mut messages = client.take_inbox();
    messages.retain(|message| message.event.starts_with("presence"));
    Ok(messages)
}

#[tokio::test]
async fn clients_of_both_versions_see_each_other_come_change_and_go() -> Result<()> {
    let world = World::new("presence", NOTES).await?;
    let mut a = connect(&world, Version::V1).await?;
    let mut b = connect(&world, Version::V2).await?;
    assert_eq!(join(&mut a, "a").await?, json!({}));
    assert_eq!(join(&mut b, "b").await?, json!({}));

    track(&mut a, json!({"n": 1, "phx_ref": "forged"})).await?;
    let seen = [diff(&mut a).await?, diff(&mut b).await?];
    assert_eq!(seen[0], seen[1]);
    let (meta, first) = only(&seen[0]["joins"], "a");
    assert_eq!((meta, &seen[0]["leaves"]), (json!({"n": 1}), &json!({})));
    assert_eq!(first.len(), 16);

    track(&mut a, json!({"n": 2})).await?;
    let seen = diff(&mut b).await?;
    let (meta, second) = only(&seen["joins"], "a");
    assert_eq!(meta, json!({"n": 2, "phx_ref_prev": first}));
    assert_eq!(only(&seen["leaves"], "a"), (json!({"n": 1}), first));

    // A third one is told the state, the others nothing.
    let mut c = connect(&world, Version::V2).await?;
    let state = join(&mut c, "c").await?;
    assert_eq!(only(&state, "a"), (json!({"n": 2}), second.clone()));

    untrack(&mut a).await?;
    for client in [&mut b, &mut c] {
        let seen = diff(client).await?;
        assert_eq!(seen["joins"], json!({}));
        assert_eq!(only(&seen["leaves"], "a"), (json!({"n": 2}), second.clone()));
        assert!(rest(client).await?.is_empty());
    }
    world.end().await
}

#[tokio::test]
async fn whoever_goes_in_whatever_way_leaves() -> Result<()> {
    let world = World::new("presence_gone", NOTES).await?;
    let mut watcher = connect(&world, Version::V2).await?;
    join(&mut watcher, "watcher").await?;
    for way in ["leaves", "closes", "breaks", "joins again"] {
        let mut client = connect(&world, Version::V2).await?;
        join(&mut client, way).await?;
        track(&mut client, json!({})).await?;
        let (_, came) = only(&diff(&mut watcher).await?["joins"], way);
        let mut kept = None;
        match way {
            "leaves" => _ = client.push(ROOM, "phx_leave", &json!({})).await?,
            "closes" => client.close().await?,
            "breaks" => drop(client),
            _ => {
                client.push(ROOM, "phx_join", &json!({"config": {}})).await?;
                kept = Some(client);
            }
        }
        let seen = diff(&mut watcher).await?;
        assert_eq!(only(&seen["leaves"], way), (json!({}), came), "{way}");
        assert_eq!(seen["joins"], json!({}), "{way}");
        drop(kept);
    }
    let mut late = connect(&world, Version::V1).await?;
    assert_eq!(join(&mut late, "late").await?, json!({}));
    let metrics = http_get(world.walcast.port(), "/metrics").await?.body;
    assert!(metrics.contains("walcast_presence_members 0"), "{metrics}");
    world.end().await
}

#[tokio::test]
async fn whoever_is_out_of_reach_leaves_though_its_socket_is_open() -> Result<()> {
    let world =
        World::with("presence_half_open", NOTES, |with| with.set("WALCAST_IDLE_TIMEOUT", "1500ms"))
            .await?;
    let mut watcher = connect(&world, Version::V1).await?;
    join(&mut watcher, "watcher").await?;
    let mut lost = connect(&world, Version::V2).await?;
    join(&mut lost, "lost").await?;
    track(&mut lost, json!({})).await?;
    diff(&mut watcher).await?;
    // The lost one neither reads nor says anything from here on, as behind a network that is gone.
    let watcher = tokio::sync::Mutex::new(watcher);
    let left = eventually("it to leave", || async {
        let mut watcher = watcher.lock().await;
        watcher.heartbeat().await?;
        let diffs = watcher.take_inbox().into_iter();
        Ok(diffs.map(|message| message.payload["leaves"].clone()).find(Value::is_object))
    })
    .await?;
    assert_eq!(only(&left, "lost").0, json!({}));
    assert_eq!(lost.closed().await?, Some(1000));
    world.end().await
}

#[tokio::test]
async fn two_under_one_key_are_two() -> Result<()> {
    let world = World::new("presence_key", NOTES).await?;
    let mut a = connect(&world, Version::V2).await?;
    let mut b = connect(&world, Version::V1).await?;
    join(&mut a, "same").await?;
    join(&mut b, "same").await?;
    track(&mut a, json!({"n": 1})).await?;
    let (_, first) = only(&diff(&mut b).await?["joins"], "same");
    track(&mut b, json!({"n": 2})).await?;
    let (_, second) = only(&diff(&mut b).await?["joins"], "same");
    assert_ne!(first, second);
    let mut c = connect(&world, Version::V2).await?;
    let state = join(&mut c, "c").await?;
    assert_eq!(
        state,
        json!({"same": {"metas": [
            {"phx_ref": first, "n": 1}, {"phx_ref": second, "n": 2},
        ]}})
    );
    b.close().await?;
    assert_eq!(only(&diff(&mut c).await?["leaves"], "same"), (json!({"n": 2}), second));
    world.end().await
}

#[tokio::test]
async fn without_presence_a_channel_is_told_changes_and_by_tracking_takes_part() -> Result<()> {
    let world = World::new("presence_off", NOTES).await?;
    let mut a = connect(&world, Version::V2).await?;
    let mut b = connect(&world, Version::V2).await?;
    join(&mut a, "a").await?;
    assert_eq!(b.join(ROOM, &json!({"config": {}})).await?.payload["status"], "ok");
    track(&mut a, json!({})).await?;
    only(&diff(&mut b).await?["joins"], "a");
    track(&mut b, json!({})).await?;
    let state = b.next_where("the state", |message| message.event == "presence_state").await?;
    only(&state.payload, "a");
    let joins = diff(&mut b).await?["joins"].clone();
    let key = joins.as_object().unwrap().keys().next().unwrap().clone();
    assert_eq!(key.len(), 36, "a UUID: {key}");
    only(&joins, &key);
    world.end().await
}

#[tokio::test]
async fn the_same_again_is_silent_and_what_cannot_be_done_is_answered() -> Result<()> {
    let world = World::new("presence_bad", NOTES).await?;
    let mut a = connect(&world, Version::V2).await?;
    join(&mut a, "a").await?;
    track(&mut a, json!({"n": 1})).await?;
    diff(&mut a).await?;
    track(&mut a, json!({"n": 1})).await?;
    assert_eq!(call(&mut a, &json!({"type": "presence"})).await?, ok());
    assert_eq!(
        call(&mut a, &json!({"event": "track", "payload": 7})).await?,
        json!({"status": "error",
               "response": {"reason": "Presence track payload must be a map"}})
    );
    let refused = json!({"status": "error", "response": {}});
    assert_eq!(call(&mut a, &json!({"event": "dance"})).await?, refused);
    assert_eq!(call(&mut a, &json!({"event": ["track"]})).await?, refused);
    assert!(rest(&mut a).await?.is_empty());
    world.end().await
}

#[tokio::test]
async fn whoever_calls_too_often_or_says_too_much_is_closed_and_leaves() -> Result<()> {
    let world = World::with("presence_limits", NOTES, |builder| {
        builder.set("CLIENT_PRESENCE_MAX_CALLS", "2").set("WALCAST_MAX_PAYLOAD_BYTES", "1000B")
    })
    .await?;
    let mut watcher = connect(&world, Version::V2).await?;
    join(&mut watcher, "watcher").await?;
    let large = json!({"event": "track", "payload": {"text": "x".repeat(1_000)}});
    let third = json!({"event": "untrack"});
    for (key, calls, text) in [
        ("often", vec![third.clone(), third], "Client presence rate limit exceeded"),
        ("much", vec![large], "Track message size exceeded"),
    ] {
        let mut client = connect(&world, Version::V2).await?;
        join(&mut client, key).await?;
        track(&mut client, json!({})).await?;
        let (_, came) = only(&diff(&mut watcher).await?["joins"], key);
        for payload in &calls {
            client.push(ROOM, "presence", payload).await?;
        }
        let system = client.next_where("the reason", |message| message.is_system(text)).await?;
        assert_eq!(
            system.payload,
            json!({"extension": "system", "status": "error", "message": text, "channel": "room"})
        );
        client.next_where("the close", |message| message.event == "phx_close").await?;
        assert_eq!(only(&diff(&mut watcher).await?["leaves"], key).1, came);
        // The connection stays, and may join again.
        join(&mut client, key).await?;
        client.close().await?;
    }
    world.end().await
}

#[tokio::test]
async fn too_many_calls_on_the_whole_server_close_the_channel_of_the_call() -> Result<()> {
    let world = World::with("presence_server", NOTES, |builder| {
        builder
            .set("WALCAST_MAX_PRESENCE_EVENTS_PER_SECOND", "1")
            .set("WALCAST_MAX_PRESENCE_CALLS", "100")
    })
    .await?;
    let mut client = connect(&world, Version::V2).await?;
    join(&mut client, "a").await?;
    // One minute's worth passes at once.
    for n in 0..100 {
        let payload = json!({"event": "track", "payload": {"n": n}});
        client.push(ROOM, "presence", &payload).await?;
    }
    let text = "Too many presence messages per second";
    client.next_where("the reason", |message| message.is_system(text)).await?;
    client.next_where("the close", |message| message.event == "phx_close").await?;
    world.end().await
}

/// A thousand members on a real server: each of them is told about one more in one small diff.
#[tokio::test]
async fn a_thousand_members_see_one_more_come_and_go() -> Result<()> {
    const MEMBERS: usize = 1_000;
    let world = World::with("presence_crowd", NOTES, |builder| {
        // The crowd sends no heartbeats.
        builder.set("WALCAST_IDLE_TIMEOUT", "1h")
    })
    .await?;
    let mut crowd = Vec::new();
    for n in 0..MEMBERS {
        let version = if n % 2 == 0 { Version::V1 } else { Version::V2 };
        let mut client = connect(&world, version).await?;
        assert_eq!(join(&mut client, &format!("member-{n}")).await?, json!({}));
        crowd.push(client);
    }
    for client in &mut crowd {
        client.push(ROOM, "presence", &json!({"event": "track"})).await?;
    }
    let n_present = async |expected: usize| {
        let mut newcomer = connect(&world, Version::V2).await?;
        let state = join(&mut newcomer, "newcomer").await?;
        let is_expected = state.as_object().is_some_and(|state| state.len() == expected);
        Ok(is_expected.then_some(newcomer))
    };
    // Everybody was told about everybody by then.
    let mut late = eventually("all are present", async || n_present(MEMBERS).await).await?;
    track(&mut late, json!({"n": "late"})).await?;
    let about_late = |side: &'static str| {
        move |message: &Message| {
            message.event == "presence_diff" && !message.payload[side]["newcomer"].is_null()
        }
    };
    // A diff about others may have been under way to it, too.
    let joined = late.next_where("its own join", about_late("joins")).await?.payload;
    let (_, came) = only(&joined["joins"], "newcomer");
    late.close().await?;
    for client in &mut crowd {
        let joined = client.next_where("the join", about_late("joins")).await?.payload;
        assert_eq!(joined["leaves"], json!({}));
        assert_eq!(only(&joined["joins"], "newcomer"), (json!({"n": "late"}), came.clone()));
        let left = client.next_where("the leave", about_late("leaves")).await?.payload;
        assert_eq!(left["joins"], json!({}));
        assert_eq!(only(&left["leaves"], "newcomer").1, came);
    }
    drop(crowd);
    eventually("nobody is left", async || n_present(0).await).await?;
    world.end().await
}
