//! The HTTP routes.
//!
//! The WebSocket routes are the transport's: `routes(state).merge(…)`.
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

pub mod admin;
pub mod broadcast;
mod health;
mod request_id;
mod responses;
mod serve;
mod silent;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use tokio_util::task::TaskTracker;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};
use walcast_replicator::Secret;

use crate::{
    auth::{self, TokenVerifier},
    telemetry::Metrics,
};

pub use health::{Condition, Health};
pub use responses::{error_response, json_response};
pub use serve::serve;

/// What `/` shows: one page without further files.
const INDEX: &str = include_str!("http/index.html");

/// All routes, in OpenAPI's form.
const OPENAPI: &str = include_str!("http/openapi.json");

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
    /// Checks the tokens of those who ask for the health of the tenant.
    pub verifier: Arc<TokenVerifier>,
    /// The connections that are open.
    pub connections: TaskTracker,
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
        .route("/api/openapi", get(openapi))
        .route("/api/tenants/{tenant}/health", get(tenant_health))
        .route("/realtime/v1/api/tenants/{tenant}/health", get(tenant_health))
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

/// What Supabase's compose file asks for, with the key of anonymous clients. One process serves one
/// database, whatever the tenant is called. Always 200 for those who may ask, as with the reference.
async fn tenant_health(State(state): State<Arc<HttpState>>, headers: HeaderMap) -> Response {
    let is_verified = match bearer(&headers) {
        Some(token) => state.verifier.verify_with_new_keys(token, now_unix()).await.is_ok(),
        None => false,
    };
    if !is_verified {
        return StatusCode::FORBIDDEN.into_response();
    }
    let is_up = |condition: &Condition| *condition == Condition::Up;
    let body = serde_json::json!({"data": {
        "healthy": state.health.is_up(),
        "db_connected": is_up(&state.health.database()),
        "replication_connected": is_up(&state.health.stream()),
        "connected_cluster": state.connections.len(),
        "region": "local",
        "node": "walcast",
    }});
    json_response(StatusCode::OK, &body)
}

/// Puts an `x-request-id` on every answer of these routes.
pub fn with_request_ids(routes: Router) -> Router {
    routes.layer(middleware::from_fn(request_id::identify))
}

/// Refuses requests with a header whose value has more than `bytes_max` bytes.
pub fn with_short_headers(routes: Router, bytes_max: usize) -> Router {
    routes.layer(middleware::from_fn(move |request: Request, next: Next| async move {
        let is_long = |(_, value): (_, &HeaderValue)| value.len() > bytes_max;
        if request.headers().iter().any(is_long) {
            return error_response(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                &format!("a header's value must not exceed {bytes_max} bytes"),
            );
        }
        next.run(request).await
    }))
}

async fn openapi() -> Response {
    let document = OPENAPI.replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], document).into_response()
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
