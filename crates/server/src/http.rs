//! The HTTP routes.
//!
//! The WebSocket routes are the transport's: `routes(state).merge(…)`.
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

pub mod broadcast;
mod health;
mod responses;
mod serve;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};
use walcast_replicator::Secret;

use crate::{auth, telemetry::Metrics};

pub use health::{Condition, Health};
pub use responses::{error_response, json_response};
pub use serve::serve;

/// What `/` shows: one page without further files.
const INDEX: &str = include_str!("http/index.html");

/// The content type of Prometheus' text form.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the routes need.
#[derive(Debug)]
pub struct HttpState {
    /// Whether the parts of the server work. The source and the authorization tell it.
    pub health: Arc<Health>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The secret that signs tokens for `/metrics`, when they are not open.
    pub metrics_secret: Option<Secret>,
}

/// The routes for people and machines that watch the server, with a 404 for everything else.
///
/// Any origin may read the answers, as with the reference.
pub fn routes(state: Arc<HttpState>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthcheck", get(healthcheck))
        .route("/metrics", get(metrics))
        .route("/api/ping", get(ping))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(cors())
        .with_state(state)
}

/// Answers for any origin. Headers and methods are mirrored, because a browser does not take `*`
/// for `authorization`.
pub(crate) fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::any())
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
}

async fn index() -> Html<&'static str> {
    Html(INDEX)
}

async fn healthcheck(State(state): State<Arc<HttpState>>) -> Response {
    let status =
        if state.health.is_up() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = json_response(status, &state.health.to_json());
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

async fn metrics(State(state): State<Arc<HttpState>>, headers: HeaderMap) -> Response {
    if let Some(secret) = &state.metrics_secret
        && !bearer(&headers).is_some_and(|token| auth::is_signed_with(secret, token, now_unix()))
    {
        return error_response(StatusCode::UNAUTHORIZED, "a token for the metrics is required");
    }
    ([(header::CONTENT_TYPE, METRICS_TYPE)], state.metrics.render()).into_response()
}

async fn ping() -> Response {
    json_response(StatusCode::OK, &serde_json::json!({"message": "Success"}))
}

async fn not_found() -> Response {
    error_response(StatusCode::NOT_FOUND, "Not Found")
}

async fn method_not_allowed() -> Response {
    error_response(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// The token of `Authorization: Bearer …`.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Headers as policies read them in `request.headers`: a JSON object by their lower-case names. Of
/// several with one name the last counts; bytes that are no UTF-8 are replaced.
#[must_use]
pub fn headers_json(headers: &HeaderMap, is_wanted: impl Fn(&str) -> bool) -> Arc<str> {
    let mut object = serde_json::Map::new();
    for (name, value) in headers {
        if is_wanted(name.as_str()) {
            // PostgreSQL's settings and JSON take no zero bytes, and HTTP has none in values.
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            object.insert(name.as_str().to_owned(), value.into());
        }
    }
    Arc::from(serde_json::Value::Object(object).to_string())
}

/// Headers that carry secrets and are not shown to policies; these have the claims, which were
/// verified.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    matches!(name, "authorization" | "apikey" | "cookie" | "x-api-key" | "proxy-authorization")
}

/// The present time in seconds since 1970.
#[must_use]
pub fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
