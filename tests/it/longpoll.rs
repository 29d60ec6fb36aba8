//! Phoenix' long-polling, with plain HTTP as Phoenix' client sends it.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use walcast_tests::{Client, Message, Token, Version, http_post, http_request};

use crate::world::{VERSIONS, World};

const TOPIC: &str = "realtime:room";

/// A session over HTTP.
struct LongPoll {
    port: u16,
    version: Version,
    path: String,
    n_pushes: u32,
}

impl LongPoll {
    /// Opens a session.
    async fn open(port: u16, token: &str, version: Version) -> Result<Self> {
        let path = format!("/socket/longpoll?apikey={token}&vsn={}", version.text());
        let mut poll = Self { port, version, path, n_pushes: 0 };
        let opened = poll.get().await?;
        assert_eq!(opened["status"], 410, "{opened}");
        let session = opened["token"].as_str().context("a session has a token")?.to_owned();
        poll.path.push_str(&format!("&token={session}"));
        Ok(poll)
    }

    async fn get(&self) -> Result<Value> {
        let headers = [("Accept", "application/json"), ("Origin", "http://app.example")];
        let answer = http_request(self.port, "GET", &self.path, &headers).await?;
        assert!(answer.head.contains("access-control-allow-origin: *"), "{}", answer.head);
        Ok(answer.json())
    }

    async fn post(&self, content_type: &str, body: &str) -> Result<Value> {
        let headers = [("Content-Type", content_type)];
        Ok(http_post(self.port, &self.path, &headers, body.as_bytes()).await?.json())
    }

    fn message(&mut self, event: &str, payload: &Value) -> String {
        self.n_pushes += 1;
        let reference = self.n_pushes.to_string();
        match self.version {
            Version::V1 => json!({"topic": TOPIC, "event": event, "payload": payload,
                "ref": reference, "join_ref": "1"})
            .to_string(),
            Version::V2 => json!(["1", reference, TOPIC, event, payload]).to_string(),
        }
    }

    /// Polls until a message has this event.
    async fn next(&self, event: &str) -> Result<Message> {
        loop {
            let answer = self.get().await?;
            assert!(answer["status"] == 200 || answer["status"] == 204, "{answer}");
            for text in answer["messages"].as_array().context("messages are a list")? {
                let text = text.as_str().context("a message is a text")?;
                let message = Message::parse(self.version, text)?;
                if message.event == event {
                    return Ok(message);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_session_joins_and_hears_what_others_say() -> Result<()> {
    let world = World::new("longpoll_broadcast", "").await?;
    let port = world.walcast.port();
    let token = Token::anon().sign();
    for version in VERSIONS {
        let mut poll = LongPoll::open(port, &token, version).await?;
        let join = poll.message("phx_join", &json!({"config": {"broadcast": {"ack": true}}}));
        assert_eq!(poll.post("application/x-ndjson", &join).await?["status"], 200);
        let reply = poll.next("phx_reply").await?;
        assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);

        // A kind-3 frame of another client arrives as text, since nothing binary fits in here.
        let mut other = Client::connect(port, &token, Version::V2).await?;
        other.join(TOPIC, &json!({"config": {"broadcast": {"ack": true}}})).await?;
        let frame = [&[3, 1, 2, TOPIC.len() as u8, 1, 0, 1][..], b"199", TOPIC.as_bytes(), b"e{}"];
        other.send_binary(&frame.concat()).await?;
        other.reply("99").await?;
        let heard = poll.next("broadcast").await?;
        assert_eq!(heard.payload, json!({"type": "broadcast", "event": "e", "payload": {}}));

        let said = json!({"type": "broadcast", "event": "f", "payload": {"x": 1}});
        let broadcast = poll.message("broadcast", &said);
        let again = poll.message("broadcast", &said);
        let batch = format!("{broadcast}\n{again}\n");
        assert_eq!(poll.post("application/x-ndjson", &batch).await?["status"], 200);
        for _ in 0..2 {
            let heard = other.next_where("a broadcast", |message| message.event == "broadcast");
            assert_eq!(heard.await?.payload, said);
        }
        other.close().await?;
    }
    world.end().await
}

#[tokio::test]
async fn binary_pushes_travel_as_base64() -> Result<()> {
    let world = World::new("longpoll_base64", "").await?;
    let port = world.walcast.port();
    let token = Token::anon().sign();
    let mut poll = LongPoll::open(port, &token, Version::V2).await?;
    let join = poll.message("phx_join", &json!({"config": {"broadcast": {"self": true}}}));
    poll.post("application/x-ndjson", &join).await?;
    poll.next("phx_reply").await?;
    // The frame 3, join_ref "1", ref "2", topic realtime:room, event "e", no metadata, JSON {}.
    let frame = "AwEBDQEAATEycmVhbHRpbWU6cm9vbWV7fQ==";
    assert_eq!(poll.post("application/x-ndjson", frame).await?["status"], 200);
    assert_eq!(poll.next("broadcast").await?.payload["event"], "e");
    world.end().await
}

#[tokio::test]
async fn a_poll_with_nothing_to_tell_ends_with_its_window() -> Result<()> {
    let world = World::new("longpoll_window", "").await?;
    let poll = LongPoll::open(world.walcast.port(), &Token::anon().sign(), Version::V2).await?;
    let answer = poll.get().await?;
    assert_eq!((&answer["status"], &answer["messages"]), (&json!(204), &json!([])));
    assert!(answer["token"].is_string());
    world.end().await
}

#[tokio::test]
async fn what_is_unknown_or_refused_is_said_in_the_body() -> Result<()> {
    let world = World::new("longpoll_refused", "").await?;
    let port = world.walcast.port();
    let token = Token::anon().sign();
    let mut poll = LongPoll::open(port, &token, Version::V2).await?;
    for body in ["", "\n\n", "{", "null", "\u{0}\u{0}", "AAAA", "[1]"] {
        assert_eq!(poll.post("application/x-ndjson", body).await?["status"], 200, "{body:?}");
        assert_eq!(poll.post("application/json", body).await?["status"], 200, "{body:?}");
    }
    // The session lives on.
    let heartbeat = r#"[null,"7","phoenix","heartbeat",{}]"#;
    assert_eq!(poll.post("application/json", heartbeat).await?["status"], 200);
    assert_eq!(poll.next("phx_reply").await?.reference.as_deref(), Some("7"));

    poll.path = format!("/socket/longpoll?apikey={token}&vsn=2.0.0&token=unknown");
    assert_eq!(poll.post("application/x-ndjson", "[]").await?["status"], 410);
    let again = poll.get().await?;
    assert_eq!(again["status"], 410);
    assert_ne!(again["token"], "unknown");

    for (query, status) in [("", 401), ("apikey=x", 401), ("apikey=x&vsn=9.0.0", 403)] {
        let path = format!("/realtime/v1/longpoll?{query}");
        let answer = http_request(port, "GET", &path, &[]).await?;
        assert_eq!(answer.status, status, "{query}");
        assert_eq!(answer.json()["status"], 403, "{query}");
    }
    world.end().await
}
