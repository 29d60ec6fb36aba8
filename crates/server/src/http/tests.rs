//! The routes, asked without a socket.

use std::collections::BTreeSet;

use axum::{
    body::{Body, to_bytes},
    http::{Method, Request},
};
use serde_json::{Value, json};
use tower_service::Service;

use super::*;
use crate::{
    auth::{TokenRequest, mint},
    config::JwtConfig,
};

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2";

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn state(metrics_secret: Option<&str>) -> Arc<HttpState> {
    let config = JwtConfig { secret: Some(Secret::new(SECRET)), ..JwtConfig::default() };
    let metrics = Arc::new(Metrics::new());
    Arc::new(HttpState {
        health: Arc::new(Health::new()),
        metrics_secret: metrics_secret.map(Secret::new),
        verifier: Arc::new(TokenVerifier::new(&config, &metrics).unwrap()),
        metrics,
        connections: TaskTracker::new(),
    })
}

async fn ask(
    state: &Arc<HttpState>,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    let mut routes = with_request_ids(routes(Arc::clone(state)));
    let response = routes.call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

#[tokio::test]
async fn the_health_check_says_what_does_not_work() {
    let state = state(None);
    let starting = ask(&state, Method::GET, "/healthcheck", &[]).await;
    assert_eq!(starting.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        starting.json(),
        json!({
            "status": "unavailable",
            "database": {"status": "starting"},
            "stream": {"status": "starting"},
        })
    );

    state.health.set_database(Condition::Up);
    state.health.set_stream(Condition::Down { reason: "connection refused".to_owned() });
    let down = ask(&state, Method::GET, "/healthcheck", &[]).await;
    assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(down.json()["stream"], json!({"status": "down", "reason": "connection refused"}));

    state.health.set_stream(Condition::Standby { reason: "slot is active for PID 7".to_owned() });
    let standby = ask(&state, Method::GET, "/healthcheck", &[]).await;
    assert_eq!(standby.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(standby.json()["stream"]["status"], "standby");

    state.health.set_stream(Condition::Up);
    let up = ask(&state, Method::GET, "/healthcheck", &[]).await;
    assert_eq!(up.status, StatusCode::OK);
    assert_eq!(up.json()["status"], "ok");
    assert_eq!(up.header("cache-control"), "no-store");

    let head = ask(&state, Method::HEAD, "/healthcheck", &[]).await;
    assert_eq!((head.status, head.body.as_str()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn metrics_are_open_without_a_secret() {
    let state = state(None);
    state.metrics.events_in.increment(7);
    let answer = ask(&state, Method::GET, "/metrics", &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), METRICS_TYPE);
    assert!(answer.body.contains("walcast_row_events_total 7"), "{}", answer.body);
}

#[tokio::test]
async fn metrics_are_closed_with_a_secret() {
    let state = state(Some("hunter2"));
    let request = TokenRequest {
        role: "anon".to_owned(),
        subject: None,
        claims: serde_json::Map::new(),
        expires_in: std::time::Duration::from_secs(60),
    };
    let good = mint(&Secret::new("hunter2"), &request, now_unix()).unwrap();
    let bad = mint(&Secret::new("hunter3"), &request, now_unix()).unwrap();
    let check = async |authorization: &str, expected: StatusCode| {
        let headers = [("authorization", authorization)];
        let answer = ask(&state, Method::GET, "/metrics", &headers).await;
        assert_eq!(answer.status, expected, "{authorization}");
    };
    check(&format!("Bearer {good}"), StatusCode::OK).await;
    check(&format!("bearer {good}"), StatusCode::OK).await;
    check(&format!("Bearer {bad}"), StatusCode::UNAUTHORIZED).await;
    check(&format!("Basic {good}"), StatusCode::UNAUTHORIZED).await;
    check("", StatusCode::UNAUTHORIZED).await;
}

#[tokio::test]
async fn other_routes_answer_as_clients_expect() {
    let state = state(None);
    let ping = ask(&state, Method::GET, "/api/ping", &[]).await;
    assert_eq!((ping.status, ping.json()), (StatusCode::OK, json!({"message": "Success"})));
    let page = ask(&state, Method::GET, "/", &[]).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.header("content-type").starts_with("text/html"));
    // The page works without a network.
    assert!(!page.body.contains("src=") && !page.body.contains("<link"), "{}", page.body);
    let missing = ask(&state, Method::GET, "/nothing", &[]).await;
    assert_eq!(
        (missing.status, missing.json()),
        (StatusCode::NOT_FOUND, json!({"error": "Not Found"}))
    );
    let method = ask(&state, Method::POST, "/metrics", &[]).await;
    assert_eq!(method.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(method.json(), json!({"error": "Method Not Allowed"}));
}

#[tokio::test]
async fn any_origin_may_ask() {
    let state = state(None);
    let plain = ask(&state, Method::GET, "/api/ping", &[("origin", "https://app.example")]).await;
    assert_eq!(plain.header("access-control-allow-origin"), "*");
    let preflight = ask(
        &state,
        Method::OPTIONS,
        "/api/ping",
        &[
            ("origin", "https://app.example"),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "authorization,apikey"),
        ],
    )
    .await;
    assert_eq!(preflight.status, StatusCode::OK);
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    assert_eq!(preflight.header("access-control-allow-methods"), "GET");
    assert_eq!(preflight.header("access-control-allow-headers"), "authorization,apikey");
}

#[test]
fn the_page_and_a_websocket_router_can_be_merged() {
    let websocket = Router::new().route("/socket/websocket", get(ping));
    drop(routes(state(None)).merge(websocket));
}

#[tokio::test]
async fn the_health_of_the_tenant_is_told_to_those_with_a_token() {
    let state = state(None);
    let request = TokenRequest {
        role: "anon".to_owned(),
        subject: None,
        claims: serde_json::Map::new(),
        expires_in: std::time::Duration::from_secs(60),
    };
    let token = format!("Bearer {}", mint(&Secret::new(SECRET), &request, now_unix()).unwrap());
    let path = "/api/tenants/realtime-dev/health";
    for (method, has_body) in [(Method::GET, true), (Method::HEAD, false)] {
        let answer = ask(&state, method, path, &[("authorization", &token)]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(!answer.body.is_empty(), has_body);
    }
    let answer = ask(&state, Method::GET, path, &[("authorization", &token)]).await;
    assert_eq!(answer.json()["data"]["healthy"], false);
    state.health.set_database(Condition::Up);
    state.health.set_stream(Condition::Up);
    let answer = ask(&state, Method::GET, path, &[("authorization", &token)]).await;
    let expected = json!({"data": {"healthy": true, "db_connected": true,
        "replication_connected": true, "connected_cluster": 0, "region": "local",
        "node": "walcast"}});
    assert_eq!(answer.json(), expected);
    for headers in [&[][..], &[("authorization", "Bearer x")]] {
        let answer = ask(&state, Method::GET, path, headers).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (403, ""));
    }
}

#[tokio::test]
async fn every_answer_carries_an_id() {
    let state = state(None);
    for path in ["/", "/healthcheck", "/nothing"] {
        let answer = ask(&state, Method::GET, path, &[("x-request-id", "my-request-7")]).await;
        assert_eq!(answer.header("x-request-id"), "my-request-7", "{path}");
        let answer = ask(&state, Method::GET, path, &[]).await;
        assert_eq!(answer.header("x-request-id").len(), 32, "{path}");
    }
}

/// The routes with their methods as the sources declare them.
fn declared_routes() -> BTreeSet<(String, String)> {
    let sources = [
        include_str!("../http.rs"),
        include_str!("admin.rs"),
        include_str!("broadcast.rs"),
        include_str!("../transport/websocket.rs"),
        include_str!("../transport/longpoll.rs"),
    ];
    let mut routes = BTreeSet::new();
    for source in sources {
        for declaration in source.split(".route(").skip(1) {
            let declaration = declaration.split(".route(").next().unwrap();
            let end = declaration.find(")\n").unwrap();
            let declaration = &declaration[..end];
            let (path, handlers) = declaration.split_once(',').unwrap();
            let path = path.trim().trim_matches('"');
            // Long-polling names its methods once for both paths.
            let handlers = if handlers.contains("methods") { "get( .post(" } else { handlers };
            for method in ["get", "post", "put", "delete"] {
                if handlers.contains(&format!("{method}(")) {
                    routes.insert((path.to_owned(), method.to_owned()));
                }
            }
        }
    }
    routes
}

#[tokio::test]
async fn the_openapi_document_has_exactly_the_routes() {
    let answer = ask(&state(None), Method::GET, "/api/openapi", &[]).await;
    assert_eq!(answer.status, 200);
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path}");
            assert!(!operation["responses"].as_object().unwrap().is_empty(), "{method} {path}");
            documented.insert((path.clone(), method.clone()));
        }
    }
    assert_eq!(documented, declared_routes());
}
