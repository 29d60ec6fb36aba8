//! The routes, asked without a socket.

use axum::http::Method;
use tower_service::Service;
use walcast_channels::{ChannelId, Extensions};
use walcast_protocol::{Frame, Version};
use walcast_replicator::{ConnectOptions, Host, Secret, SslMode};

use super::*;
use crate::{
    auth::{TokenRequest, mint},
    config::JwtConfig,
    http::Health,
    outbox::{Delivery, Inbox, OutboxLimits, queue},
    quota::Quota,
    router::ConnectionId,
    topics::{Listener, ListenerId, Membership},
};

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2";
const ONE: &str = "/api/broadcast/room/events/e";
const MANY: &str = "/api/broadcast";

/// Routes with one listener of each version on `realtime:room`.
struct World {
    parts: Arc<BroadcastParts>,
    token: String,
    inboxes: Vec<Inbox>,
    memberships: Vec<Membership>,
}

/// Nobody listens there, so that no right is ever given.
fn unreachable_authorizer(metrics: &Arc<Metrics>) -> Arc<Authorizer> {
    let connect = ConnectOptions {
        host: Host::Tcp("127.0.0.1".to_owned()),
        port: 1,
        user: "nobody".to_owned(),
        password: None,
        database: "nothing".to_owned(),
        ssl_mode: SslMode::Disable,
        ssl_root_cert: None,
        application_name: "walcast".to_owned(),
        connect_timeout: Duration::from_secs(1),
    };
    let (timeout, health) = (Duration::from_secs(1), Arc::new(Health::new()));
    Arc::new(Authorizer::new(connect, 1, timeout, health, Arc::clone(metrics)))
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl World {
    fn new(payload_bytes_max: usize, events_per_second: u32) -> Self {
        Self::on_server(payload_bytes_max, events_per_second, None)
    }

    fn on_server(
        payload_bytes_max: usize,
        events_per_second: u32,
        server_events_per_second: Option<u32>,
    ) -> Self {
        let secret = Secret::new(SECRET);
        let request = TokenRequest {
            role: "anon".to_owned(),
            subject: None,
            claims: serde_json::Map::new(),
            expires_in: Duration::from_secs(60),
        };
        let token = mint(&secret, &request, now_unix()).unwrap();
        let config = JwtConfig { secret: Some(secret), ..JwtConfig::default() };
        let metrics = Arc::new(Metrics::new());
        let topics = Arc::new(Topics::new(Arc::clone(&metrics)));
        let parts = Arc::new(BroadcastParts::new(
            Arc::new(TokenVerifier::new(&config, &metrics).unwrap()),
            Arc::clone(&topics),
            unreachable_authorizer(&metrics),
            metrics,
            payload_bytes_max,
            events_per_second,
            Arc::new(ServerQuotas {
                joins: Quota::new(1),
                events: server_events_per_second.map(Quota::new),
            }),
        ));
        let (mut inboxes, mut memberships) = (Vec::new(), Vec::new());
        for (connection, version) in [(1, Version::V1), (2, Version::V2)] {
            let (outbox, inbox) = queue(OutboxLimits { frames: 100, bytes: 100_000 });
            let id = ListenerId { connection: ConnectionId(connection), channel: ChannelId(1) };
            let name = TopicName { topic: Topic::of_sub_topic("room"), is_private: false };
            memberships.push(
                topics.join(
                    name,
                    Listener { id, version, hears: Extensions::ALL, outbox, wire: None },
                ),
            );
            inboxes.push(inbox);
        }
        Self { parts, token, inboxes, memberships }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_vec())).unwrap();
        let response = routes(Arc::clone(&self.parts)).call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let body =
            if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Posts with a valid token.
    async fn post(&self, path: &str, content_type: &str, body: &str) -> (u16, Value) {
        let authorization = format!("Bearer {}", self.token);
        let headers = [("authorization", authorization.as_str()), ("content-type", content_type)];
        let answer = self.ask(Method::POST, path, &headers, body.as_bytes()).await;
        (answer.status, answer.body)
    }

    /// What the listeners were told since the last call.
    fn told(&mut self) -> Vec<Vec<String>> {
        let text = |delivery| match delivery {
            Delivery::Message(message) => match message.frame {
                Frame::Text(bytes) | Frame::Binary(bytes) => {
                    String::from_utf8_lossy(&bytes).into_owned()
                }
            },
            Delivery::Changes(_) | Delivery::Answer(_) => panic!("expected a message"),
        };
        self.inboxes
            .iter_mut()
            .map(|inbox| {
                let mut deliveries = Vec::new();
                inbox.receive_waiting(&mut deliveries, 100);
                deliveries.into_iter().map(text).collect()
            })
            .collect()
    }
}

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const NOBODY: [[&str; 0]; 2] = [[], []];

#[tokio::test]
async fn one_message_is_sent_in_the_form_that_keeps_its_content() {
    let mut world = World::new(1_000, 100);
    let check = async |world: &mut World, content_type: &str, body: &str, v1: &[&str], v2: &str| {
        assert_eq!(world.post(ONE, content_type, body).await, (202, Value::Null));
        assert_eq!(world.told(), [v1, &[v2]], "{body}");
    };
    check(
        &mut world,
        "application/json; charset=utf-8",
        "{\"x\": 1.0}",
        &[r#"{"event":"broadcast","payload":{"type":"broadcast","event":"e","payload":{"x": 1.0}},"ref":null,"topic":"realtime:room"}"#],
        "\u{4}\u{d}\u{1}\u{0}\u{1}realtime:roome{\"x\": 1.0}",
    )
    .await;
    let wrapped = "\u{4}\u{d}\u{1}\u{0}\u{1}realtime:roome{\"_json\":[1]}";
    check(
        &mut world,
        JSON,
        " [1] ",
        &[r#"{"event":"broadcast","payload":{"type":"broadcast","event":"e","payload":{"_json":[1]}},"ref":null,"topic":"realtime:room"}"#],
        wrapped,
    )
    .await;
    check(&mut world, BYTES, "xyz", &[], "\u{4}\u{d}\u{1}\u{0}\u{0}realtime:roomexyz").await;
    check(&mut world, BYTES, "", &[], "\u{4}\u{d}\u{1}\u{0}\u{0}realtime:roome").await;
    let headers = [("apikey", world.token.clone())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = world.ask(Method::POST, ONE, &headers, b"").await;
    assert_eq!(answer.status, 202);
    assert_eq!(world.told()[1], ["\u{4}\u{d}\u{1}\u{0}\u{1}realtime:roome{}"]);
}

#[tokio::test]
async fn path_segments_are_decoded_and_both_prefixes_served() {
    let mut world = World::new(1_000, 100);
    let (outbox, inbox) = queue(OutboxLimits { frames: 10, bytes: 10_000 });
    let id = ListenerId { connection: ConnectionId(3), channel: ChannelId(1) };
    let name = TopicName { topic: Topic::of_sub_topic("a/b:c é"), is_private: false };
    let listener =
        Listener { id, version: Version::V2, hears: Extensions::ALL, outbox, wire: None };
    world.memberships.push(world.parts.topics.join(name, listener));
    world.inboxes.push(inbox);
    for prefix in ["", "/realtime/v1"] {
        let path = format!("{prefix}/api/broadcast/a%2Fb%3Ac%20%C3%A9/events/e%2F1?private=TRUE");
        assert_eq!(world.post(&path, JSON, "{}").await.0, 202);
        let told = world.told();
        assert_eq!(told[..2], NOBODY);
        assert_eq!(told[2], ["\u{4}\u{11}\u{3}\u{0}\u{1}realtime:a/b:c ée/1{}"]);
        let batch = r#"{"messages":[{"topic":"room","event":"e","payload":{}}]}"#;
        assert_eq!(world.post(&format!("{prefix}{MANY}"), JSON, batch).await.0, 202);
        assert_eq!(world.told()[1].len(), 1);
    }
    assert_eq!(world.post("/api/broadcast/%ff/events/e", JSON, "{}").await.0, 400);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_sent_as_text_and_private_messages_are_left_out() {
    let mut world = World::new(1_000, 100);
    let body = r#"{"messages":[
        {"topic":"room","event":"a","payload":{"x": 1.0},"id":"7"},
        {"topic":"room","event":"b","payload":{},"private":true},
        {"topic":"elsewhere","event":"c","payload":{}},
        {"topic":"room","event":"d","payload":{}}]}"#;
    assert_eq!(world.post(MANY, JSON, body).await, (202, Value::Null));
    let told = world.told();
    assert_eq!(
        told[1],
        [
            r#"[null,null,"realtime:room","broadcast",{"type":"broadcast","event":"a","payload":{"x": 1.0},"meta":{"id":"7"}}]"#,
            r#"[null,null,"realtime:room","broadcast",{"type":"broadcast","event":"d","payload":{}}]"#,
        ]
    );
    assert_eq!(told[0].len(), 2);
    // One that is invalid keeps all back.
    let body = r#"{"messages":[{"topic":"room","event":"a","payload":{}},{}]}"#;
    let blank = json!(["can't be blank"]);
    let problems = json!({"topic": blank, "event": blank, "payload": blank});
    let expected = json!({"errors": {"messages": [{}, problems]}});
    assert_eq!(world.post(MANY, JSON, body).await, (422, expected));
    assert_eq!(world.told(), NOBODY);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_is_answered_with_the_reason() {
    let mut world = World::new(20, 100);
    let private = format!("{ONE}?private=true");
    let large = "\"0123456789\"";
    let media = "Unsupported Media Type. Use application/json or application/octet-stream";
    let too_large = json!({"errors": {"payload": ["Payload size exceeds tenant limit"]}});
    for (path, content_type, body, status, expected) in [
        (private.as_str(), JSON, "{}", 422, json!({"message": "Tenant database unavailable"})),
        (ONE, "text/plain", "{}", 415, json!({"error": media})),
        (ONE, JSON, "{", 400, json!({"error": "the body is not valid JSON"})),
        (ONE, JSON, large, 422, too_large.clone()),
        (ONE, BYTES, "012345678901234567890", 422, too_large),
        (MANY, JSON, "nonsense", 400, json!({"error": "the body is not valid JSON"})),
        (MANY, JSON, "{}", 422, json!({"errors": {"messages": ["can't be blank"]}})),
    ] {
        assert_eq!(world.post(path, content_type, body).await, (status, expected), "{path} {body}");
    }
    let authorization = format!("Bearer {}", world.token);
    let headers = [("authorization", authorization.as_str()), ("accept", "text/html")];
    for path in [ONE, MANY] {
        assert_eq!(world.ask(Method::POST, path, &headers, b"{}").await.status, 406);
        let answer = world.ask(Method::GET, path, &[], b"").await;
        assert_eq!((answer.status, answer.body), (405, json!({"error": "Method Not Allowed"})));
    }
    let huge = "x".repeat(BODY_BYTES_MAX + 1);
    assert_eq!(world.post(ONE, BYTES, &huge).await.0, 413);
    assert_eq!(world.post(MANY, JSON, &huge).await.0, 413);
    assert_eq!(world.told(), NOBODY);
}

#[tokio::test]
async fn without_a_valid_token_nothing_is_sent() {
    let mut world = World::new(1_000, 100);
    let token = world.token.clone();
    let good = format!("bearer {token}");
    let bad = format!("Bearer {token}x");
    for (headers, status) in [
        (&[][..], 401),
        (&[("authorization", bad.as_str())][..], 401),
        // A token that is there counts, whatever the key is.
        (&[("authorization", bad.as_str()), ("apikey", token.as_str())][..], 401),
        (&[("authorization", token.as_str())][..], 401),
        (&[("apikey", "sb_publishable_x")][..], 401),
        (&[("authorization", good.as_str())][..], 202),
        (&[("authorization", "Basic eDp5"), ("apikey", token.as_str())][..], 202),
    ] {
        for (path, body) in
            [(ONE, "{}"), (MANY, r#"{"messages":[{"topic":"room","event":"e","payload":{}}]}"#)]
        {
            let answer = world.ask(Method::POST, path, headers, body.as_bytes()).await;
            assert_eq!(answer.status, status, "{path} {headers:?}");
            let expected =
                if status == 401 { json!({"message": "Unauthorized"}) } else { Value::Null };
            assert_eq!(answer.body, expected);
            assert_eq!(world.told()[1].len(), usize::from(status == 202));
        }
    }
}

#[tokio::test]
async fn what_the_whole_server_has_no_room_for_is_answered_with_429() {
    let mut world = World::on_server(1_000, 100, Some(1));
    for status in std::iter::repeat_n(202, 60).chain([429]) {
        assert_eq!(world.post(ONE, JSON, "{}").await.0, status);
    }
    assert_eq!(world.told()[1].len(), 60);
}

#[tokio::test]
async fn too_many_messages_are_answered_with_429() {
    let mut world = World::new(1_000, 1);
    let batch = |n: usize| {
        let message = r#"{"topic":"room","event":"e","payload":{}}"#;
        format!(r#"{{"messages":[{}]}}"#, vec![message; n].join(","))
    };
    assert_eq!(
        world.post(MANY, JSON, &batch(61)).await,
        (429, json!({"message": BATCH_TOO_LARGE}))
    );
    assert_eq!(world.told(), NOBODY);
    assert_eq!(world.post(MANY, JSON, &batch(60)).await.0, 202);
    let answer = world.ask(Method::POST, ONE, &[], b"{}").await;
    assert_eq!((answer.status, answer.body), (429, json!({"message": TOO_MANY_REQUESTS})));
    let header = |name: &str| answer.headers.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(
        [header("x-rate-rolling"), header("x-rate-limit"), header("x-rate-limit-remaining")],
        ["1", "1", "0"]
    );
}

#[tokio::test]
async fn browsers_may_ask_from_any_origin() {
    let world = World::new(1_000, 100);
    let origin = ("origin", "https://app.example");
    for path in [ONE, MANY, "/realtime/v1/api/broadcast"] {
        let headers = [
            origin,
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,apikey,content-type"),
        ];
        let preflight = world.ask(Method::OPTIONS, path, &headers, b"").await;
        let header = |name: &str| preflight.headers.get(name).unwrap().to_str().unwrap();
        assert_eq!(preflight.status, 200);
        assert_eq!(header("access-control-allow-origin"), "*");
        assert_eq!(header("access-control-allow-methods"), "POST");
        assert_eq!(header("access-control-allow-headers"), "authorization,apikey,content-type");
        let refused = world.ask(Method::POST, path, &[origin], b"").await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.headers.get("access-control-allow-origin").unwrap(), "*");
    }
}
