//! What clients must not send, of every kind of message: each has a defined answer, and nobody else
//! notices.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::{Client, Message, Postgres, Token, Version, Walcast, http_post};

use crate::world::{VERSIONS, World, allow_messages};

const ROOM: &str = "realtime:room";

/// A value that nests too deeply for anybody's good.
fn deep(n_levels: usize) -> String {
    [vec!["["; n_levels], vec!["]"; n_levels]].concat().concat()
}

/// Somebody else, who must not notice anything.
struct Neighbour {
    client: Client,
    n_said: u32,
}

impl Neighbour {
    async fn of(walcast: &Walcast) -> Result<Self> {
        let token = Token::anon().sign();
        let mut client = Client::connect(walcast.port(), &token, Version::V2).await?;
        let config = json!({"config": {"broadcast": {"ack": true, "self": true}}});
        client.join("realtime:next door", &config).await?;
        Ok(Self { client, n_said: 0 })
    }

    async fn is_well(&mut self) -> Result<()> {
        self.n_said += 1;
        let event = self.n_said.to_string();
        let payload = json!({"type": "broadcast", "event": event, "payload": {}});
        self.client.push("realtime:next door", "broadcast", &payload).await?;
        self.client
            .next_where(&event, |message| message.payload["event"] == event.as_str())
            .await
            .map(drop)
    }
}

/// The same process serves as before, and has complained of nothing.
async fn is_sound(world: &mut World, neighbour: &mut Neighbour) -> Result<()> {
    neighbour.is_well().await?;
    let log = world.walcast.log().join("\n");
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    Ok(())
}

async fn connect(world: &World, version: Version) -> Result<Client> {
    Client::connect(world.walcast.port(), &Token::anon().sign(), version).await
}

/// A frame with this payload, written as it is.
fn frame(version: Version, topic: &str, event: &str, reference: &str, payload: &str) -> String {
    let (topic, event) = (json!(topic), json!(event));
    match version {
        Version::V1 => format!(
            r#"{{"topic":{topic},"event":{event},"payload":{payload},"ref":"{reference}","join_ref":"1"}}"#
        ),
        Version::V2 => format!(r#"["1","{reference}",{topic},{event},{payload}]"#),
    }
}

/// Sends it; the reply, or `None` when a heartbeat is answered first.
async fn answer(
    client: &mut Client,
    version: Version,
    text: &str,
    n: usize,
) -> Result<Option<Value>> {
    client.send_text(text).await?;
    let heartbeat = format!("heartbeat {n}");
    client.send_text(&frame(version, "phoenix", "heartbeat", &heartbeat, "{}")).await?;
    let is_answer =
        |message: &Message| message.is_reply_to(&heartbeat) || message.is_reply_to(&n.to_string());
    let first = client.next_where(text.get(..80).unwrap_or(text), is_answer).await?;
    if first.is_reply_to(&heartbeat) {
        return Ok(None);
    }
    client.reply(&heartbeat).await?;
    Ok(Some(first.payload))
}

#[tokio::test]
async fn joins_of_every_shape_are_answered() -> Result<()> {
    let mut world = World::new("bad_joins", "").await?;
    let mut neighbour = Neighbour::of(&world.walcast).await?;
    let large = format!(r#"{{"config":{{"x":"{}"}}}}"#, "x".repeat(2 << 20));
    // A field of a wrong type counts as absent; three things must be objects, as with the reference.
    let cases: Vec<(String, &str)> = vec![
        ("{}".into(), "ok"),
        (r#"{"config":null}"#.into(), "ok"),
        (r#"{"config":{}}"#.into(), "ok"),
        (r#"{"config":{"broadcast":7}}"#.into(), "error"),
        (r#"{"config":{"broadcast":{"ack":"yes","self":[]}}}"#.into(), "ok"),
        (r#"{"config":{"presence":"on"}}"#.into(), "ok"),
        (r#"{"config":{"presence":{"key":7,"enabled":"true"}}}"#.into(), "ok"),
        (r#"{"config":{"private":"no"}}"#.into(), "ok"),
        (r#"{"config":{"postgres_changes":{}}}"#.into(), "ok"),
        (r#"{"config":{"postgres_changes":[null]}}"#.into(), "ok"),
        (r#"{"config":{},"access_token":null}"#.into(), "ok"),
        (r#"{"config":{},"access_token":7}"#.into(), "ok"),
        (format!(r#"{{"config":{{"x":{}}}}}"#, deep(100)), "ok"),
        (r#"{"config":[]}"#.into(), "ok"),
        (r#"{"config":7}"#.into(), "ok"),
        ("[]".into(), "error"),
        ("7".into(), "error"),
        ("null".into(), "error"),
        (r#""text""#.into(), "error"),
        (large, "error"),
        (r#"{"config":{"postgres_changes":[7]}}"#.into(), "error"),
        (r#"{"config":{"postgres_changes":[{"event":7}]}}"#.into(), "ok"),
    ];
    for version in VERSIONS {
        let mut client = connect(&world, version).await?;
        for (n, (payload, expected)) in cases.iter().enumerate() {
            let topic = format!("realtime:{n}");
            let text = frame(version, &topic, "phx_join", &n.to_string(), payload);
            let reply = answer(&mut client, version, &text, n).await?;
            let shown = payload.get(..100).unwrap_or(payload);
            let status = reply.as_ref().and_then(|reply| reply["status"].as_str());
            assert_eq!(status, Some(*expected), "{shown}: {reply:?}");
            if status == Some("error") {
                let reason = reply.map(|reply| reply["response"]["reason"].to_string());
                assert!(reason.is_some_and(|reason| reason.len() > 10), "{shown}");
            }
        }
        is_sound(&mut world, &mut neighbour).await?;
    }
    world.end().await
}

#[tokio::test]
async fn a_channel_takes_every_shape_of_every_message() -> Result<()> {
    let mut world = World::new("bad_pushes", "").await?;
    let mut neighbour = Neighbour::of(&world.walcast).await?;
    let payloads = [
        "null".to_owned(),
        "7".to_owned(),
        "[]".to_owned(),
        r#""text""#.to_owned(),
        "{}".to_owned(),
        r#"{"type":null,"event":null,"payload":null}"#.to_owned(),
        r#"{"type":7,"event":7,"payload":7}"#.to_owned(),
        r#"{"event":{},"payload":[]}"#.to_owned(),
        r#"{"type":"broadcast","event":"e"}"#.to_owned(),
        r#"{"type":"presence","event":"fly","payload":{}}"#.to_owned(),
        r#"{"access_token":null}"#.to_owned(),
        format!(r#"{{"event":"e","payload":{}}}"#, deep(100)),
        format!(r#"{{"event":"{}","payload":{{}}}}"#, "e".repeat(100_000)),
    ];
    // An unknown event is passed over; a wrong leave or heartbeat is one all the same.
    let events = ["phx_leave", "heartbeat", "broadcast", "presence", "access_token", "unknown", ""];
    for version in VERSIONS {
        for event in events {
            for payload in &payloads {
                let mut client = connect(&world, version).await?;
                let config = r#"{"config":{"broadcast":{"ack":true},"presence":{"enabled":true}}}"#;
                let join = frame(version, ROOM, "phx_join", "1", config);
                assert!(answer(&mut client, version, &join, 1).await?.is_some());
                let text = frame(version, ROOM, event, "2", payload);
                let reply = answer(&mut client, version, &text, 2).await?;
                let status = reply.as_ref().and_then(|reply| reply["status"].as_str());
                let shown = payload.get(..60).unwrap_or(payload);
                match event {
                    "phx_leave" => assert_eq!(status, Some("ok"), "{shown}"),
                    "broadcast" | "presence" => {
                        assert!(
                            matches!(status, Some("ok" | "error")),
                            "{event} {shown}: {reply:?}"
                        );
                    }
                    _ => assert_eq!(reply, None, "{event} {shown}"),
                }
            }
        }
        is_sound(&mut world, &mut neighbour).await?;
    }
    world.end().await
}

#[tokio::test]
async fn frames_that_are_no_messages_are_dropped() -> Result<()> {
    let mut world = World::new("bad_frames", "").await?;
    let mut neighbour = Neighbour::of(&world.walcast).await?;
    let texts = [
        String::new(),
        "{".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "[1,2,3,4,5]".to_owned(),
        r#"["1","2","realtime:room","phx_join"]"#.to_owned(),
        r#"["1","2",7,"phx_join",{}]"#.to_owned(),
        r#"{"topic":"realtime:room"}"#.to_owned(),
        r#"{"topic":7,"event":"phx_join","payload":{},"ref":"1"}"#.to_owned(),
        deep(100_000),
        "\u{0}".to_owned(),
        "🎈".repeat(10_000),
    ];
    // Binary frames: kind, then lengths of join_ref, ref, topic, event, metadata, and the encoding.
    let mut binaries: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![3],
        vec![255; 7],
        vec![3, 255, 255, 255, 255, 255, 1],
        vec![3, 1, 1, 13, 1, 0, 0, b'1'],
        vec![4, 0, 0, 0, 0],
        vec![9; 1_000],
    ];
    let whole = [&[3, 1, 1, 13, 1, 2, 1][..], b"11realtime:roome{}{}"].concat();
    binaries.extend((0..whole.len()).map(|end| whole[..end].to_vec()));
    for length in 1..7 {
        for lie in [0, 1, 200, 255] {
            let mut lying = whole.clone();
            lying[length] = lie;
            binaries.push(lying);
        }
    }
    for version in VERSIONS {
        let mut client = connect(&world, version).await?;
        let join = frame(version, ROOM, "phx_join", "1", "{}");
        assert!(answer(&mut client, version, &join, 1).await?.is_some());
        for text in &texts {
            client.send_text(text).await?;
        }
        for binary in &binaries {
            client.send_binary(binary).await?;
        }
        let last = frame(version, "phoenix", "heartbeat", "last", "{}");
        client.send_text(&last).await?;
        client.reply("last").await?;
        // What nobody meant reached nobody: the one whole message among the lies asks for no copy.
        let rest = client.take_inbox();
        assert!(rest.iter().all(|message| message.event != "broadcast"), "{rest:?}");
        is_sound(&mut world, &mut neighbour).await?;
    }
    world.end().await
}

#[tokio::test]
async fn topics_and_refs_of_any_length_are_answered_or_dropped() -> Result<()> {
    let mut world = World::new("bad_topics", "").await?;
    let mut neighbour = Neighbour::of(&world.walcast).await?;
    for version in VERSIONS {
        let mut client = connect(&world, version).await?;
        for (n, (topic, expected)) in [
            ("realtime:".to_owned() + &"t".repeat(246), "ok"),
            ("realtime:".to_owned() + &"t".repeat(1_015), "ok"),
            ("realtime:".to_owned() + &"t".repeat(1_016), "TopicNameTooLong"),
            ("realtime:".to_owned() + &"ü".repeat(100_000), "TopicNameTooLong"),
            ("realtime:\u{0}\u{7f}\u{202e}\u{feff}".to_owned(), "ok"),
            ("realtime".to_owned(), "unmatched topic"),
            ("other:room".to_owned(), "unmatched topic"),
            (String::new(), "unmatched topic"),
        ]
        .into_iter()
        .enumerate()
        {
            let text = frame(version, &topic, "phx_join", &n.to_string(), "{}");
            let reply = answer(&mut client, version, &text, n).await?.unwrap_or_default();
            let reason = reply["response"]["reason"].as_str().unwrap_or("ok");
            assert!(reason.starts_with(expected), "{reason} for {expected}");
        }
        let reference = "r".repeat(256);
        client.send_text(&frame(version, "phoenix", "heartbeat", &reference, "{}")).await?;
        client.heartbeat().await?;
        assert!(!client.take_inbox().iter().any(|message| message.is_reply_to(&reference)));
        is_sound(&mut world, &mut neighbour).await?;
    }
    world.end().await
}

#[tokio::test]
async fn ten_thousand_joins_of_one_socket_end_that_socket() -> Result<()> {
    let mut world = World::with("many_joins", "", |with| {
        with.set("WALCAST_MAX_SERVER_JOINS_PER_SECOND", "100000")
    })
    .await?;
    let mut neighbour = Neighbour::of(&world.walcast).await?;
    let mut client = connect(&world, Version::V2).await?;
    for n in 0..10_000 {
        let text = frame(Version::V2, &format!("realtime:{n}"), "phx_join", &n.to_string(), "{}");
        // The socket is closed long before the last.
        if client.send_text(&text).await.is_err() {
            break;
        }
    }
    let n_joined = {
        let mut n_joined = 0;
        let mut last = String::new();
        while let Ok(message) =
            client.next_where("replies", |message| message.event == "phx_reply").await
        {
            n_joined += u32::from(message.payload["status"] == "ok");
            last = message.payload["response"]["reason"].to_string();
        }
        assert!(last.contains("ClientJoinRateLimitReached"), "{last}");
        n_joined
    };
    assert_eq!(n_joined, 100, "as many channels as a connection may have");
    is_sound(&mut world, &mut neighbour).await?;
    world.end().await
}

#[tokio::test]
async fn presence_of_a_megabyte_is_told_and_one_that_is_too_large_closes_its_channel() -> Result<()>
{
    let mut world = World::new("large_presence", "").await?;
    let mut neighbour = Neighbour::of(&world.walcast).await?;
    for version in VERSIONS {
        let mut client = connect(&world, version).await?;
        client.join(ROOM, &json!({"config": {"presence": {"enabled": true, "key": "k"}}})).await?;
        let track = |n_bytes: usize| json!({"type": "presence", "event": "track", "payload": {"x": "x".repeat(n_bytes)}});
        let push = client.push(ROOM, "presence", &track(1_000_000)).await?;
        assert_eq!(client.reply(&push).await?.payload["status"], "ok");
        client
            .next_where("the large diff", |message| {
                message.event == "presence_diff" && message.payload_text.len() > 1_000_000
            })
            .await?;
        client.push(ROOM, "presence", &track(3_100_000)).await?;
        client
            .next_where("the reason", |message| message.is_system("Track message size exceeded"))
            .await?;
        client.next_where("the close", |message| message.event == "phx_close").await?;
        is_sound(&mut world, &mut neighbour).await?;
    }
    world.end().await
}

#[tokio::test]
async fn requests_that_cannot_be_understood_are_told_why() -> Result<()> {
    let database = Postgres::shared().await?.database("bad_requests").await?;
    allow_messages(&database).await?;
    let walcast = Walcast::on(&database).start().await?;
    let mut world = World { database, walcast };
    let mut neighbour = Neighbour::of(&world.walcast).await?;
    let port = world.walcast.port();
    let authorization = format!("Bearer {}", Token::anon().sign());
    let post = async |path: &str, content_type: &str, body: &[u8]| -> Result<(u16, String)> {
        let headers = [("authorization", authorization.as_str()), ("content-type", content_type)];
        let answer = http_post(port, path, &headers, body).await?;
        Ok((answer.status, answer.body))
    };
    let (many, one) = ("/api/broadcast", "/api/broadcast/room/events/e");
    let json_type = "application/json";
    let deep = format!(r#"{{"messages":{}}}"#, deep(100_000));
    for (path, content_type, body, status) in [
        (many, json_type, "", 400),
        (many, json_type, "{", 400),
        (many, json_type, "\u{feff}{}", 400),
        (many, json_type, deep.as_str(), 422),
        (many, json_type, "[]", 422),
        (many, json_type, "{}", 422),
        (many, json_type, r#"{"messages":null}"#, 422),
        (many, json_type, r#"{"messages":7}"#, 422),
        (many, json_type, r#"{"messages":[7]}"#, 422),
        (many, json_type, r#"{"messages":[{}]}"#, 422),
        (many, json_type, r#"{"messages":[{"topic":7,"event":"e","payload":{}}]}"#, 422),
        (many, json_type, r#"{"messages":[{"topic":"","event":"e","payload":{}}]}"#, 422),
        (many, json_type, r#"{"messages":[{"topic":"a","event":"e","payload":7}]}"#, 422),
        (one, json_type, "{", 400),
        (one, "text/plain", "{}", 415),
        (one, "application/xml", "<a/>", 415),
        ("/api/broadcast/%ff/events/e", json_type, "{}", 400),
    ] {
        let (found, text) = post(path, content_type, body.as_bytes()).await?;
        let shown = body.get(..60).unwrap_or(body);
        assert_eq!(found, status, "{path} {content_type} {shown}: {text}");
        assert!(serde_json::from_str::<Value>(&text).is_ok_and(|text| text.is_object()), "{text}");
        is_sound(&mut world, &mut neighbour).await?;
    }
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(3_100_000));
    assert_eq!(post(one, json_type, large.as_bytes()).await?.0, 422);
    is_sound(&mut world, &mut neighbour).await?;
    world.end().await
}
