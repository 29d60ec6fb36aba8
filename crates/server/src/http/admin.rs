//! For whoever runs the server, with a token of its own: who is connected, what they listen to, the
//! slot, the log.
//!
//! Of tokens only the role and the claim `sub` are shown.

use std::sync::Arc;

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{Path, Query, Request, State, rejection::JsonRejection},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use walcast_protocol::Topic;
use walcast_replicator::{ConnectOptions, Secret};

use super::{bearer, error_response, json_response, now_unix};
use crate::{
    auth, database,
    router::{Command, ConnectionId, SubscriptionDescription},
    telemetry::LogControl,
    topics::{TopicName, Topics},
    transport::control::{ConnectionDescription, Identity, OpenConnections},
};

/// Entries on a page, unless the request says otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;

/// What the routes need.
#[derive(Debug)]
pub struct AdminParts {
    /// Signs the tokens of those who may ask.
    pub secret: Secret,
    /// The connections.
    pub open: Arc<OpenConnections>,
    /// The channels.
    pub topics: Arc<Topics>,
    /// The router, which has the subscriptions.
    pub router: mpsc::Sender<Command>,
    /// Where the slot is.
    pub database: ConnectOptions,
    /// Its name.
    pub slot: String,
    /// The log of this process; none where somebody else opened it.
    pub log: Option<LogControl>,
}

/// The routes.
pub fn routes(parts: Arc<AdminParts>) -> Router {
    Router::new()
        .route("/admin/api/connections", get(connections))
        .route("/admin/api/connections/{id}", delete(disconnect))
        .route("/admin/api/users/{sub}/connections", delete(disconnect_user))
        .route("/admin/api/channels", get(channels))
        .route("/admin/api/subscriptions", get(subscriptions))
        .route("/admin/api/slot", get(slot))
        .route("/admin/api/log-level", get(log_level).put(set_log_level))
        .layer(middleware::from_fn_with_state(Arc::clone(&parts), admit))
        .with_state(parts)
}

/// As the reference: no answer but 403 to others.
async fn admit(State(parts): State<Arc<AdminParts>>, request: Request, next: Next) -> Response {
    let is_admitted = bearer(request.headers())
        .is_some_and(|token| auth::is_signed_with(&parts.secret, token, now_unix()));
    if is_admitted { next.run(request).await } else { StatusCode::FORBIDDEN.into_response() }
}

#[derive(Debug, Deserialize)]
struct Page {
    after: Option<u64>,
    limit: Option<usize>,
}

fn n_max(limit: Option<usize>) -> usize {
    limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
}

async fn connections(State(parts): State<Arc<AdminParts>>, Query(page): Query<Page>) -> Response {
    let after = ConnectionId(page.after.unwrap_or_default());
    let (found, last) = parts.open.describe(after, n_max(page.limit)).await;
    let next = last.map(|last| last.0);
    let connections: Vec<Value> = found.iter().map(connection).collect();
    json_response(StatusCode::OK, &json!({ "connections": connections, "next": next }))
}

fn connection(description: &ConnectionDescription) -> Value {
    let channels: Vec<Value> = description
        .channels
        .iter()
        .map(|channel| {
            let Identity { role, subject } = &channel.identity;
            json!({
                "topic": channel.topic,
                "private": channel.is_private,
                "role": role,
                "sub": subject,
            })
        })
        .collect();
    let Identity { role, subject } = &description.opened_by;
    json!({
        "id": description.id.0,
        "transport": if description.is_websocket { "websocket" } else { "longpoll" },
        "vsn": description.version,
        "connected_at": description.opened_unix,
        "role": role,
        "sub": subject,
        "frames_waiting": description.n_waiting,
        "channels": channels,
    })
}

async fn disconnect(State(parts): State<Arc<AdminParts>>, Path(id): Path<u64>) -> Response {
    if parts.open.disconnect(ConnectionId(id)).await {
        StatusCode::NO_CONTENT.into_response()
    } else {
        error_response(StatusCode::NOT_FOUND, "there is no such connection")
    }
}

async fn disconnect_user(
    State(parts): State<Arc<AdminParts>>,
    Path(subject): Path<String>,
) -> Response {
    let n_disconnected = parts.open.disconnect_subject(&subject).await;
    json_response(StatusCode::OK, &json!({ "disconnected": n_disconnected }))
}

#[derive(Debug, Deserialize)]
struct ChannelPage {
    after: Option<String>,
    #[serde(default)]
    after_private: bool,
    limit: Option<usize>,
}

async fn channels(
    State(parts): State<Arc<AdminParts>>,
    Query(page): Query<ChannelPage>,
) -> Response {
    let after = page
        .after
        .map(|topic| TopicName { topic: Topic::new(&topic), is_private: page.after_private });
    let found = parts.topics.describe(after.as_ref(), n_max(page.limit));
    let next = found
        .last()
        .map(|(name, _)| json!({ "after": name.topic.as_str(), "after_private": name.is_private }));
    let channels: Vec<Value> = found
        .iter()
        .map(|(name, n_listeners)| {
            json!({
                "topic": name.topic.as_str(),
                "private": name.is_private,
                "connections": n_listeners,
            })
        })
        .collect();
    json_response(StatusCode::OK, &json!({ "channels": channels, "next": next }))
}

async fn subscriptions(State(parts): State<Arc<AdminParts>>, Query(page): Query<Page>) -> Response {
    let (answer, found) = oneshot::channel();
    let after = ConnectionId(page.after.unwrap_or_default());
    let command = Command::Describe { after, n_max: n_max(page.limit), answer };
    let found = match parts.router.send(command).await {
        Ok(()) => found.await.ok(),
        Err(_) => None,
    };
    let Some(found) = found else {
        return error_response(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    };
    let next = found.last().map(|last| last.connection.0);
    let subscriptions: Vec<Value> = found.iter().map(subscription).collect();
    json_response(StatusCode::OK, &json!({ "subscriptions": subscriptions, "next": next }))
}

fn subscription(description: &SubscriptionDescription) -> Value {
    json!({
        "connection": description.connection.0,
        "topic": description.topic,
        "role": description.role,
        "table": description.table,
        "filter": description.filter,
    })
}

/// What PostgreSQL says about the slot.
const SLOT: &str = "select jsonb_build_object( \
       'name', slot_name, 'active', active, 'temporary', temporary, 'wal_status', wal_status, \
       'restart_lsn', restart_lsn, 'confirmed_flush_lsn', confirmed_flush_lsn, \
       'written_lsn', written, \
       'lag_bytes', pg_catalog.pg_wal_lsn_diff(written, confirmed_flush_lsn), \
       'retained_bytes', pg_catalog.pg_wal_lsn_diff(written, restart_lsn)) \
     from pg_catalog.pg_replication_slots, lateral (select \
       case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() \
         else pg_catalog.pg_current_wal_lsn() end) as log(written) \
     where slot_name = $1";

async fn slot(State(parts): State<Arc<AdminParts>>) -> Response {
    match read_slot(&parts).await {
        Ok(Some(slot)) => json_response(StatusCode::OK, &json!({ "slot": slot })),
        Ok(None) => error_response(StatusCode::NOT_FOUND, "the slot does not exist"),
        Err(error) => {
            // The text may name addresses and roles.
            tracing::warn!("failed to describe the slot: {error:#}");
            let text = "PostgreSQL cannot be asked; see the log";
            error_response(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

async fn read_slot(parts: &AdminParts) -> anyhow::Result<Option<Value>> {
    let client = database::connect(&parts.database).await?;
    let row = client.query_opt(SLOT, &[&parts.slot]).await.context("look for the slot")?;
    row.map(|row| row.try_get(0).context("read the slot")).transpose()
}

async fn log_level(State(parts): State<Arc<AdminParts>>) -> Response {
    match &parts.log {
        Some(log) => json_response(StatusCode::OK, &json!({ "log_level": log.filter() })),
        None => no_log(),
    }
}

#[derive(Debug, Deserialize)]
struct LogLevel {
    log_level: String,
}

async fn set_log_level(
    State(parts): State<Arc<AdminParts>>,
    body: Result<Json<LogLevel>, JsonRejection>,
) -> Response {
    let Ok(Json(LogLevel { log_level })) = body else {
        let text = "send {\"log_level\": \"debug\"} as application/json";
        return error_response(StatusCode::UNPROCESSABLE_ENTITY, text);
    };
    let Some(log) = &parts.log else { return no_log() };
    match log.set_filter(&log_level) {
        Ok(()) => {
            tracing::info!(log_level, "what is logged was changed");
            json_response(StatusCode::OK, &json!({ "log_level": log.filter() }))
        }
        Err(error) => error_response(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    }
}

fn no_log() -> Response {
    error_response(StatusCode::NOT_FOUND, "this process has no log of its own")
}
