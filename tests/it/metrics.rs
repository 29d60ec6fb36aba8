//! `/metrics`: what happens is counted, under the names that dashboards of Supabase Realtime ask for.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;
use walcast_tests::{Client, Token, Version, Walcast, eventually, http_get};

use crate::world::World;

/// Every series with its value.
async fn metrics(walcast: &Walcast) -> Result<BTreeMap<String, f64>> {
    let text = http_get(walcast.port(), "/metrics").await?.body;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Ok(series.collect())
}

#[tokio::test]
async fn what_happens_is_counted() -> Result<()> {
    let world = World::with_messages(
        "metrics",
        "create table notes (id int primary key); alter publication supabase_realtime add table notes;",
    )
    .await?;
    world
        .database
        .run("create policy all_do on realtime.messages using (true) with check (true)")
        .await?;
    let before = metrics(&world.walcast).await?;
    let token = Token::service_role().sign();
    let mut client = Client::connect(world.walcast.port(), &token, Version::V2).await?;
    let config = json!({"config": {
        "private": true,
        "broadcast": {"ack": true, "replay": {"limit": 1}},
        "presence": {"enabled": true, "key": "me"}
    }});
    let reply = client.join("realtime:room", &config).await?;
    assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    let reply = client.join("realtime:", &json!({})).await?;
    assert_eq!(reply.payload["status"], "error");
    let message = json!({"type": "broadcast", "event": "e", "payload": {"a": 1}});
    let push = client.push("realtime:room", "broadcast", &message).await?;
    client.reply(&push).await?;
    let track = json!({"type": "presence", "event": "track", "payload": {}});
    client.push("realtime:room", "presence", &track).await?;
    client.next_where("its presence", |message| message.event == "presence_diff").await?;
    world.database.run("select realtime.send('{}', 'sql', 'room')").await?;
    client.next_where("the message", |message| message.payload["event"] == "sql").await?;
    let bindings = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    client.subscribe("realtime:notes", &bindings).await?;
    world.database.run("insert into notes values (1)").await?;
    client.change_on("realtime:notes").await?;

    let names = [
        ("realtime_connections_connected", 1.0),
        ("realtime_channel_joins", 2.0),
        ("realtime_channel_error{code=\"TopicNameRequired\"}", 1.0),
        ("realtime_channel_presence_events", 1.0),
        ("realtime_channel_db_events", 1.0),
        ("realtime_subscriptions_manager_subscribers", 1.0),
        ("realtime_payload_size_count{message_type=\"broadcast\"}", 2.0),
        ("realtime_payload_size_count{message_type=\"presence\"}", 1.0),
        ("realtime_payload_size_count{message_type=\"postgres_changes\"}", 1.0),
        ("realtime_tenants_read_authorization_check_count", 1.0),
        ("realtime_tenants_write_authorization_check_count", 1.0),
        ("realtime_tenants_replay_count", 1.0),
        ("realtime_tenants_broadcast_from_database_latency_committed_at_count", 1.0),
        // Two broadcasts, of which the channel heard one, and one change of presence.
        ("realtime_channel_events", 5.0),
    ];
    eventually("the counts", || async {
        let after = metrics(&world.walcast).await?;
        let grown = |name: &str| {
            let value = |all: &BTreeMap<String, f64>| all.get(name).copied().unwrap_or_default();
            value(&after) - value(&before)
        };
        let all_grown = grown("realtime_channel_input_bytes") > 300.0
            && grown("realtime_channel_output_bytes") > 300.0;
        let differing: Vec<_> = names
            .iter()
            .map(|(name, expected)| (*name, *expected, grown(name)))
            .filter(|(_, expected, found)| expected != found)
            .collect();
        Ok((all_grown && differing.is_empty()).then_some(()))
    })
    .await?;
    world.end().await
}
