//! Broadcasts over HTTP: `POST /api/broadcast` and `POST /api/broadcast/{topic}/events/{event}`.
//!
//! ```text
//! Accept → Content-Type → rate → token → body → what it says → Topics::publish → 202
//! ```
//!
//! Topics are named without `realtime:`. Whether the caller may write to a private channel is asked
//! once per topic and request: one message is answered with 403, those in a batch are left out.

mod batch;
mod negotiation;
mod private;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use walcast_channels::RightsFailure;
use walcast_protocol::{
    RawJson, ServerMessage, Topic,
    broadcast::{named, user_broadcast},
    message::{Encoding, UserBroadcast},
};

use self::{
    batch::{BatchError, BatchMessage},
    negotiation::{ContentType, accepts},
    private::Caller,
};
use super::{
    bearer, cors, error_response, headers_json, is_secret, json_response, method_not_allowed,
    now_unix,
};
use crate::{
    auth::TokenVerifier,
    authz::Authorizer,
    quota::{Quota, ServerQuotas},
    telemetry::Metrics,
    topics::{TopicName, Topics},
    transport::wire::Unflushed,
};

/// The largest body of a request, in bytes, as with the reference.
const BODY_BYTES_MAX: usize = 8_000_000;

/// How long a client may take to send the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

const TOO_MANY_REQUESTS: &str = "Too many requests";
const BATCH_TOO_LARGE: &str = "Too many messages to broadcast, please reduce the batch size";
const PAYLOAD_TOO_LARGE: &str = "Payload size exceeds tenant limit";

/// What the routes need.
#[derive(Debug)]
pub struct BroadcastParts {
    verifier: Arc<TokenVerifier>,
    topics: Arc<Topics>,
    authorizer: Arc<Authorizer>,
    metrics: Arc<Metrics>,
    payload_bytes_max: usize,
    quota: Quota,
    server: Arc<ServerQuotas>,
}

impl BroadcastParts {
    /// Routes that pass on payloads of at most `payload_bytes_max` bytes, and on average over a
    /// minute at most `events_per_second` of them, as long as the whole server has room for them.
    #[must_use]
    pub fn new(
        verifier: Arc<TokenVerifier>,
        topics: Arc<Topics>,
        authorizer: Arc<Authorizer>,
        metrics: Arc<Metrics>,
        payload_bytes_max: usize,
        events_per_second: u32,
        server: Arc<ServerQuotas>,
    ) -> Self {
        let quota = Quota::new(events_per_second);
        Self { verifier, topics, authorizer, metrics, payload_bytes_max, quota, server }
    }

    /// Who asks, if the token is good.
    async fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let apikey = || headers.get("apikey").and_then(|value| value.to_str().ok());
        let token = bearer(headers).or_else(apikey)?;
        let claims = self.verifier.verify_with_new_keys(token, now_unix()).await.ok()?;
        Some(Caller { claims, headers: headers_json(headers, |name| !is_secret(name)) })
    }

    /// Takes so many messages from what HTTP and the server have room for, or none.
    fn take(&self, n_messages: usize) -> bool {
        self.quota.take(n_messages) && self.server.take_events(n_messages)
    }

    fn publish(
        &self,
        message: &ServerMessage,
        topic: Topic,
        is_private: bool,
        unflushed: &mut Unflushed,
    ) {
        let mut published = self.topics.publish(&TopicName { topic, is_private }, message, None);
        published.flush_later(unflushed);
        self.metrics.broadcasts_http.increment(1);
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        match &refusal {
            Refusal::Rate(_) => self.metrics.broadcast_refused("rate"),
            Refusal::TooLarge => self.metrics.broadcast_refused("payload_size_exceeded"),
            Refusal::NotJson | Refusal::Invalid(_) => self.metrics.broadcast_refused("malformed"),
            Refusal::Forbidden | Refusal::Unknown(_) => {
                self.metrics.broadcast_refused("unauthorized");
            }
            Refusal::NotAcceptable
            | Refusal::ContentType
            | Refusal::Unauthorized
            | Refusal::BodyTooLarge
            | Refusal::BodyTooSlow
            | Refusal::BadAddress => {}
        }
        refusal.into_response()
    }
}

/// The routes, with and without the prefix that a gateway in front of the reference takes away.
pub fn routes(parts: Arc<BroadcastParts>) -> Router {
    Router::new()
        .route("/api/broadcast", post(many))
        .route("/realtime/v1/api/broadcast", post(many))
        .route("/api/broadcast/{topic}/events/{event}", post(one))
        .route("/realtime/v1/api/broadcast/{topic}/events/{event}", post(one))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(cors())
        .with_state(parts)
}

/// Why nothing is sent.
#[derive(Debug)]
enum Refusal {
    NotAcceptable,
    ContentType,
    BadAddress,
    Rate(&'static str),
    Unauthorized,
    Forbidden,
    BodyTooLarge,
    BodyTooSlow,
    NotJson,
    TooLarge,
    /// The value of `errors`.
    Invalid(Value),
    /// Nobody can say whether the caller may write.
    Unknown(RightsFailure),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let message = |status, text| json_response(status, &json!({"message": text}));
        let errors =
            |errors| json_response(StatusCode::UNPROCESSABLE_ENTITY, &json!({"errors": errors}));
        match self {
            Self::NotAcceptable => error_response(StatusCode::NOT_ACCEPTABLE, "Not Acceptable"),
            Self::ContentType => error_response(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported Media Type. Use application/json or application/octet-stream",
            ),
            Self::BadAddress => error_response(StatusCode::BAD_REQUEST, "Bad Request"),
            Self::Rate(text) => message(StatusCode::TOO_MANY_REQUESTS, text),
            Self::Unauthorized => message(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden => message(StatusCode::FORBIDDEN, "Unauthorized"),
            Self::BodyTooLarge => {
                error_response(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")
            }
            Self::BodyTooSlow => error_response(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
            Self::NotJson => error_response(StatusCode::BAD_REQUEST, "the body is not valid JSON"),
            Self::TooLarge => errors(json!({"payload": [PAYLOAD_TOO_LARGE]})),
            Self::Invalid(problems) => errors(problems),
            Self::Unknown(failure) => {
                message(StatusCode::UNPROCESSABLE_ENTITY, private::text_of(failure))
            }
        }
    }
}

/// `POST /api/broadcast`: many messages; all are valid or none is sent.
async fn many(State(parts): State<Arc<BroadcastParts>>, request: Request) -> Response {
    let answer = match send_many(&parts, request).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(refusal) => parts.refuse(refusal),
    };
    describe(&parts.quota, answer)
}

async fn send_many(parts: &BroadcastParts, request: Request) -> Result<(), Refusal> {
    if !accepts(request.headers(), &["application/json"]) {
        return Err(Refusal::NotAcceptable);
    }
    let (caller, body) = authorized_body(parts, request).await?;
    let messages = batch::read(&body, parts.payload_bytes_max).map_err(|error| match error {
        BatchError::NotJson => Refusal::NotJson,
        BatchError::Invalid(problems) => Refusal::Invalid(problems),
    })?;
    if !parts.take(messages.len()) {
        return Err(Refusal::Rate(BATCH_TOO_LARGE));
    }
    let private = messages.iter().filter(|message| message.is_private);
    let topics: BTreeSet<&str> = private.map(|message| message.topic.as_str()).collect();
    let writable = parts.writable(&caller, topics).await;
    let mut unflushed = Unflushed::default();
    for message in &messages {
        let BatchMessage { topic, event, payload, is_private, id } = message;
        if *is_private && !writable.contains(topic.as_str()) {
            parts.metrics.broadcast_refused("unauthorized");
            continue;
        }
        let topic = Topic::of_sub_topic(topic);
        let message = named(&topic, event, payload, id.as_deref());
        parts.publish(&message, topic, *is_private, &mut unflushed);
    }
    unflushed.flush_in_turns().await;
    Ok(())
}

#[derive(Debug, Deserialize)]
struct OneParameters {
    private: Option<String>,
}

/// `POST /api/broadcast/{topic}/events/{event}`: one message, JSON or bytes.
async fn one(
    State(parts): State<Arc<BroadcastParts>>,
    path: Result<Path<(String, String)>, PathRejection>,
    parameters: Result<Query<OneParameters>, QueryRejection>,
    request: Request,
) -> Response {
    let sent = match (path, parameters) {
        (Ok(Path((topic, event))), Ok(Query(OneParameters { private }))) => {
            // Exactly this word; anything else means public.
            send_one(&parts, &topic, &event, private.as_deref() == Some("true"), request).await
        }
        _ => Err(Refusal::BadAddress),
    };
    let answer = match sent {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(refusal) => parts.refuse(refusal),
    };
    describe(&parts.quota, answer)
}

async fn send_one(
    parts: &BroadcastParts,
    topic: &str,
    event: &str,
    is_private: bool,
    request: Request,
) -> Result<(), Refusal> {
    if !accepts(request.headers(), &["application/json", "application/octet-stream"]) {
        return Err(Refusal::NotAcceptable);
    }
    let encoding = match ContentType::of(request.headers()) {
        ContentType::Json | ContentType::Absent => Encoding::Json,
        ContentType::Bytes => Encoding::Binary,
        ContentType::Other => return Err(Refusal::ContentType),
    };
    let (caller, body) = authorized_body(parts, request).await?;
    let payload = match encoding {
        Encoding::Binary => body,
        Encoding::Json => json_payload(body)?,
    };
    if payload.len() > parts.payload_bytes_max {
        return Err(Refusal::TooLarge);
    }
    if !parts.take(1) {
        return Err(Refusal::Rate(TOO_MANY_REQUESTS));
    }
    if is_private && !parts.may_write(&caller, topic).await.map_err(Refusal::Unknown)? {
        return Err(Refusal::Forbidden);
    }
    let broadcast = UserBroadcast { event: event.into(), metadata: None, encoding, payload };
    let topic = Topic::of_sub_topic(topic);
    let message = user_broadcast(&topic, broadcast).map_err(|_| Refusal::NotJson)?;
    let mut unflushed = Unflushed::default();
    parts.publish(&message, topic, is_private, &mut unflushed);
    unflushed.flush_in_turns().await;
    Ok(())
}

/// Adds the headers that tell clients how near the limit is.
fn describe(quota: &Quota, mut answer: Response) -> Response {
    let (limit, rolling) = (quota.per_second(), quota.rolling());
    let headers = answer.headers_mut();
    headers.insert("x-rate-rolling", HeaderValue::from(rolling));
    headers.insert("x-rate-limit", HeaderValue::from(limit));
    headers.insert("x-rate-limit-remaining", HeaderValue::from(limit.saturating_sub(rolling)));
    answer
}

/// The body of a request that may send, read only then.
async fn authorized_body(
    parts: &BroadcastParts,
    request: Request,
) -> Result<(Caller, Bytes), Refusal> {
    if !parts.quota.has_room() {
        return Err(Refusal::Rate(TOO_MANY_REQUESTS));
    }
    let caller = parts.caller(request.headers()).await.ok_or(Refusal::Unauthorized)?;
    Ok((caller, read_body(request.into_body()).await?))
}

async fn read_body(body: Body) -> Result<Bytes, Refusal> {
    match timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // Or the client has gone, and nobody reads the answer.
        Ok(Err(_)) => Err(Refusal::BodyTooLarge),
        Err(_) => Err(Refusal::BodyTooSlow),
    }
}

/// A JSON object is passed on as it is; other JSON as its member `_json`; no body means `{}`.
fn json_payload(body: Bytes) -> Result<Bytes, Refusal> {
    if body.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    let value = RawJson::parse(&body).ok_or(Refusal::NotJson)?;
    if value.is_object() {
        return Ok(body);
    }
    Ok([&b"{\"_json\":"[..], value.as_bytes(), b"}"].concat().into())
}

#[cfg(test)]
mod tests;
