//! The endpoints for whoever runs the server.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use walcast_tests::{Client, Token, Version, Walcast, http_get, http_request};

use crate::world::{ALICE, BOB, NOTES, VERSIONS, World};

const SECRET: &str = "another-secret-of-the-tests-with-more-than-32-characters";

async fn world(name: &str) -> Result<World> {
    World::with(name, NOTES, |with| with.set("WALCAST_ADMIN_JWT_SECRET", SECRET)).await
}

/// Status and body.
async fn ask(walcast: &Walcast, method: &str, path: &str) -> Result<(u16, Value)> {
    let authorization = format!("Bearer {}", Token::role("admin").sign_with(SECRET));
    let headers = [("authorization", authorization.as_str())];
    let answer = http_request(walcast.port(), method, path, &headers).await?;
    let body = if answer.body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&answer.body).with_context(|| answer.body.clone())?
    };
    Ok((answer.status, body))
}

/// A client as Supabase's connects: with the key of the project, and a token of its user on channels.
async fn user(world: &World, sub: &str, version: Version) -> Result<Client> {
    let port = world.walcast.port();
    let mut client = Client::connect(port, &Token::anon().sign(), version).await?;
    let payload = json!({"config": {}, "access_token": Token::user(sub).sign()});
    let reply = client.join("realtime:room", &payload).await?;
    assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    Ok(client)
}

#[tokio::test]
async fn nobody_else_is_let_in_and_without_a_secret_there_is_nothing() -> Result<()> {
    let world = world("admin_tokens").await?;
    let port = world.walcast.port();
    let of_service_role = format!("Bearer {}", Token::service_role().sign());
    let expired = format!("Bearer {}", Token::role("admin").expires_in(-1).sign_with(SECRET));
    let paths = ["connections", "channels", "subscriptions", "slot", "log-level"];
    for path in paths.map(|path| format!("/admin/api/{path}")) {
        for authorization in ["", "Bearer ", "Bearer hunter2", &of_service_role, &expired] {
            let headers = [("authorization", authorization)];
            let answer = http_request(port, "GET", &path, &headers).await?;
            assert_eq!((answer.status, answer.body.as_str()), (403, ""), "{authorization}");
        }
        assert_eq!(ask(&world.walcast, "GET", &path).await?.0, 200, "{path}");
    }
    world.end().await?;
    let without = World::new("admin_without", "").await?;
    assert_eq!(http_get(without.walcast.port(), "/admin/api/connections").await?.status, 404);
    without.end().await
}

#[tokio::test]
async fn connections_channels_and_subscriptions_are_listed_in_pages() -> Result<()> {
    let world = world("admin_lists").await?;
    let mut alice = user(&world, ALICE, Version::V1).await?;
    let mut bob = user(&world, BOB, Version::V2).await?;
    let bindings = json!([
        {"event": "*", "schema": "public", "table": "notes", "filter": "n=gt.5"},
        {"event": "INSERT", "schema": "public", "table": "notes"},
    ]);
    world.database.run("grant select on notes to authenticated").await?;
    bob.subscribe_with("realtime:notes", &bindings, Some(&Token::user(BOB).sign())).await?;

    let (status, page) = ask(&world.walcast, "GET", "/admin/api/connections?limit=1").await?;
    assert_eq!(status, 200);
    let first = &page["connections"][0];
    assert_eq!((&first["vsn"], &first["transport"]), (&json!("1.0.0"), &json!("websocket")));
    assert_eq!((&first["role"], &first["sub"]), (&json!("anon"), &Value::Null));
    let channel =
        json!({"topic": "realtime:room", "private": false, "role": "authenticated", "sub": ALICE});
    assert_eq!(first["channels"], json!([channel]));
    assert_eq!(page["connections"].as_array().map(Vec::len), Some(1));
    let next = format!("/admin/api/connections?after={}", page["next"]);
    let (_, page) = ask(&world.walcast, "GET", &next).await?;
    assert_eq!(page["connections"].as_array().map(Vec::len), Some(1));
    assert_eq!(page["connections"][0]["channels"].as_array().map(Vec::len), Some(2));
    let id = page["connections"][0]["id"].clone();
    let last = format!("/admin/api/connections?after={id}");
    let (_, page) = ask(&world.walcast, "GET", &last).await?;
    assert_eq!(page, json!({"connections": [], "next": null}));

    let (_, page) = ask(&world.walcast, "GET", "/admin/api/channels?limit=1").await?;
    let notes = json!({"topic": "realtime:notes", "private": false, "connections": 1});
    assert_eq!(page["channels"], json!([notes]));
    let (_, page) = ask(&world.walcast, "GET", "/admin/api/channels?after=realtime:notes").await?;
    let room = json!({"topic": "realtime:room", "private": false, "connections": 2});
    assert_eq!(page["channels"], json!([room]));

    let (_, page) = ask(&world.walcast, "GET", "/admin/api/subscriptions").await?;
    let mut found = page["subscriptions"].as_array().cloned().unwrap_or_default();
    found.sort_by_key(|subscription| subscription["filter"].to_string());
    let subscription = |filter: Value| {
        json!({"connection": id, "topic": "realtime:notes", "role": "authenticated",
            "table": "public.notes", "filter": filter})
    };
    assert_eq!(found.len(), 2);
    assert!(found[0]["filter"].as_str().is_some_and(|filter| filter.contains("\"n\"")), "{page}");
    assert_eq!(found[1], subscription(Value::Null));
    let text = page.to_string();
    assert!(!text.contains("exp") && !text.contains("eyJ"), "{text}");

    let (_, body) = ask(&world.walcast, "GET", "/admin/api/slot").await?;
    let slot = &body["slot"];
    assert_eq!(
        (&slot["name"], &slot["active"]),
        (&json!(format!("slot_{}", world.database.name())), &json!(true))
    );
    assert!(slot["retained_bytes"].as_f64() >= slot["lag_bytes"].as_f64(), "{slot}");
    alice.heartbeat().await?;
    world.end().await
}

#[tokio::test]
async fn a_user_is_sent_away_with_a_word_and_nobody_else() -> Result<()> {
    let world = world("admin_disconnect").await?;
    let mut bob = user(&world, BOB, Version::V2).await?;
    let mut alices = Vec::new();
    for version in VERSIONS {
        alices.push(user(&world, ALICE, version).await?);
    }
    let path = format!("/admin/api/users/{ALICE}/connections");
    assert_eq!(ask(&world.walcast, "DELETE", &path).await?, (200, json!({"disconnected": 2})));
    for alice in &mut alices {
        let told = alice
            .next_where("the word", |message| message.is_system("Server requested disconnect"))
            .await?;
        assert_eq!(
            told.payload,
            json!({"extension": "system", "status": "ok", "channel": "room",
                "message": "Server requested disconnect"})
        );
        assert_eq!(alice.closed().await?, Some(1012));
    }
    assert_eq!(ask(&world.walcast, "DELETE", &path).await?, (200, json!({"disconnected": 0})));
    bob.heartbeat().await?;
    let (_, page) = ask(&world.walcast, "GET", "/admin/api/connections").await?;
    let path = format!("/admin/api/connections/{}", page["connections"][0]["id"]);
    assert_eq!(ask(&world.walcast, "DELETE", &path).await?.0, 204);
    assert_eq!(bob.closed().await?, Some(1012));
    assert_eq!(ask(&world.walcast, "DELETE", &path).await?.0, 404);
    world.end().await
}

#[tokio::test]
async fn what_is_logged_can_be_changed() -> Result<()> {
    let world = world("admin_log").await?;
    let authorization = format!("Bearer {}", Token::role("admin").sign_with(SECRET));
    let port = world.walcast.port();
    let put = async |body: &str| {
        let length = body.len().to_string();
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
            ("content-length", &length),
        ];
        walcast_tests::http_send(port, "PUT", "/admin/api/log-level", &headers, body.as_bytes())
            .await
    };
    let (_, level) = ask(&world.walcast, "GET", "/admin/api/log-level").await?;
    assert_eq!(level, json!({"log_level": "info"}));
    assert!(!world.walcast.log().iter().any(|line| line.contains("DEBUG")));
    for wrong in ["", "{}", "[]", r#"{"log_level": 7}"#, r#"{"log_level": "info,=,"}"#] {
        assert_eq!(put(wrong).await?.status, 422, "{wrong}");
    }
    let answer = put(r#"{"log_level": "info,walcast_server=debug"}"#).await?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    user(&world, ALICE, Version::V2).await?;
    walcast_tests::eventually("a line for debugging", || async {
        Ok(world.walcast.log().iter().any(|line| line.contains("DEBUG")).then_some(()))
    })
    .await?;
    world.end().await
}
