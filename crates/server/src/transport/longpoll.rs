//! Phoenix' long-polling: `/socket/longpoll` and `/realtime/v1/longpoll`.
//!
//! ```text
//! GET without a living session ──► admitted like a WebSocket ──► 410 with the session's token
//! GET with it                  ──► waits for messages         ──► 200 with them, or 204
//! POST with it                 ──► messages to the session    ──► 200, or 410 when it is gone
//! ```
//!
//! The session is driven as that of a WebSocket; where that has a socket, this has two bounded
//! queues. Clients read the status inside the body. What leaves is text: a binary broadcast has no
//! form here, as with Phoenix.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc},
    time::{Instant, sleep, timeout},
};
use walcast_channels::Token;
use walcast_protocol::{Frame, Version, frame};

use super::{
    TransportParts,
    admission::{ConnectParameters, Refusal, admit},
    driver::{Driver, Inbound, Receive},
    outgoing::{Farewell, Outgoing, Written},
};
use crate::{
    http::{cors, json_response},
    random::random_hex,
};

/// How long a poll waits for messages, as with Phoenix.
const POLL_WINDOW: Duration = Duration::from_secs(10);

/// How long a session lives without a poll: a window, and time to come back after it.
const UNPOLLED_MAX: Duration = Duration::from_secs(30);

/// How long a client may take to send the body of a POST.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long messages wait for a session that takes none, before the client is told to try again.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the last messages of a session that has ended can be fetched.
const LINGER: Duration = Duration::from_secs(10);

/// Messages of a client that may wait for its session; whoever sends more waits for room.
const INBOUND_MAX: usize = 64;

/// The length of a session's token, in random bytes.
const TOKEN_BYTES: usize = 24;

/// Size of a POST, in bytes.
const BODY_BYTES_MAX: usize = 8_000_000;

/// The header that newer clients send the session's token in; others use the parameter `token`.
const TOKEN_HEADER: &str = "x-phoenix-longpoll-token";

/// The sessions of this server, by token. There are never more than connections are admitted.
struct Sessions {
    parts: Arc<TransportParts>,
    by_token: Mutex<HashMap<String, Arc<Mailbox>>>,
}

/// The two queues of a session.
struct Mailbox {
    inbound: mpsc::Sender<Inbound>,
    /// Held by the poll that waits.
    outbound: AsyncMutex<mpsc::Receiver<Vec<Outgoing>>>,
    farewell: Farewell,
    version: Version,
    last_poll: Mutex<Instant>,
}

/// The routes.
pub fn routes(parts: Arc<TransportParts>) -> Router {
    let sessions = Arc::new(Sessions { parts, by_token: Mutex::default() });
    let methods = get(poll).post(publish);
    Router::new()
        .route("/socket/longpoll", methods.clone())
        .route("/realtime/v1/longpoll", methods)
        .layer(cors())
        .with_state(sessions)
}

#[derive(Debug, Deserialize)]
struct SessionParameters {
    token: Option<String>,
}

impl SessionParameters {
    fn token<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a str> {
        let header = headers.get(TOKEN_HEADER).and_then(|value| value.to_str().ok());
        header.or(self.token.as_deref()).filter(|token| !token.is_empty())
    }
}

async fn poll(
    State(sessions): State<Arc<Sessions>>,
    Query(connect): Query<ConnectParameters>,
    Query(session): Query<SessionParameters>,
    headers: HeaderMap,
) -> Response {
    if let Some(token) = session.token(&headers)
        && let Some(mailbox) = sessions.find(token)
        && let Some(messages) = mailbox.messages(&sessions.parts).await
    {
        let status = if messages.is_empty() { StatusCode::NO_CONTENT } else { StatusCode::OK };
        return answer(status, &json!({ "token": token, "messages": messages }));
    }
    let admitted = match admit(&sessions.parts, connect, &headers).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refuse(&refusal),
    };
    let version = match admitted.version {
        Version::V1 => Version::V1,
        Version::V2 | Version::V2Text => Version::V2Text,
    };
    match random_hex(TOKEN_BYTES) {
        Ok(token) => {
            sessions.start(token.clone(), version, admitted.token, admitted.headers);
            answer(StatusCode::GONE, &json!({ "token": token, "messages": [] }))
        }
        Err(error) => {
            tracing::error!("failed to make a long-poll session: {error:#}");
            answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({}))
        }
    }
}

async fn publish(
    State(sessions): State<Arc<Sessions>>,
    Query(session): Query<SessionParameters>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(mailbox) = session.token(&headers).and_then(|token| sessions.find(token)) else {
        return answer(StatusCode::GONE, &json!({}));
    };
    // Only then, and not for as long as the client likes.
    let body = match timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return answer(StatusCode::PAYLOAD_TOO_LARGE, &json!({})),
        Err(_) => return answer(StatusCode::REQUEST_TIMEOUT, &json!({})),
    };
    let is_batch = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/x-ndjson"));
    let frame_bytes_max = sessions.parts.frame_bytes_max;
    sessions.parts.metrics.bytes_in.increment(body.len() as u64);
    let sending = async {
        for line in lines(&body, is_batch) {
            let inbound = inbound(mailbox.version, line, frame_bytes_max);
            if mailbox.inbound.send(inbound).await.is_err() {
                return StatusCode::GONE;
            }
        }
        StatusCode::OK
    };
    let status = timeout(SEND_TIMEOUT, sending).await.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer(status, &json!({}))
}

impl Sessions {
    fn find(&self, token: &str) -> Option<Arc<Mailbox>> {
        lock(&self.by_token).get(token).cloned()
    }

    /// Starts a session; it ends by itself.
    fn start(
        self: &Arc<Self>,
        session_token: String,
        version: Version,
        token: Token,
        headers: Arc<str>,
    ) {
        let parts = Arc::clone(&self.parts);
        let (inbound_sender, inbound) = mpsc::channel(INBOUND_MAX);
        let (batches, outbound) = mpsc::channel(1);
        let farewell = Farewell::default();
        let mailbox = Arc::new(Mailbox {
            inbound: inbound_sender,
            outbound: AsyncMutex::new(outbound),
            farewell: farewell.clone(),
            version,
            last_poll: Mutex::new(Instant::now()),
        });
        lock(&self.by_token).insert(session_token.clone(), Arc::clone(&mailbox));
        let sessions = Arc::clone(self);
        let tracker = parts.connections.clone();
        drop(tracker.spawn(async move {
            let metrics = Arc::clone(&parts.metrics);
            metrics.connections.increment(1.0);
            metrics.connections_opened.increment(1);
            let shutdown = parts.shutdown.clone();
            let client = Client { inbound, mailbox };
            let mut driver = Driver::new(parts, version, token, headers, farewell, None);
            driver.run(client, Some(batches)).await;
            drop(driver);
            metrics.connections.decrement(1.0);
            tokio::select! {
                () = sleep(LINGER) => {}
                () = shutdown.cancelled() => {}
            }
            lock(&sessions.by_token).remove(&session_token);
        }));
    }
}

impl Mailbox {
    /// Waits for messages; none when the window has passed, `None` when the session is over.
    async fn messages(&self, parts: &TransportParts) -> Option<Vec<String>> {
        *lock(&self.last_poll) = Instant::now();
        // A full queue holds signs of life enough.
        let _ = self.inbound.try_send(Inbound::Activity);
        let waiting = async {
            let mut outbound = self.outbound.lock().await;
            tokio::select! {
                biased;
                () = self.farewell.abandoned() => None,
                batch = outbound.recv() => batch,
            }
        };
        let received = timeout(POLL_WINDOW, waiting).await;
        *lock(&self.last_poll) = Instant::now();
        let batch = match received {
            Ok(batch) => batch?,
            Err(_) => return Some(Vec::new()),
        };
        let mut written = Written::default();
        let mut messages = Vec::with_capacity(batch.len());
        for outgoing in batch {
            written.add(&outgoing);
            if let Frame::Text(bytes) = &outgoing.frame {
                messages.push(String::from_utf8_lossy(bytes).into_owned());
            }
        }
        written.count(&parts.metrics);
        Some(messages)
    }

    fn unpolled_since(&self) -> Instant {
        *lock(&self.last_poll)
    }
}

/// The receiving half of a session.
struct Client {
    inbound: mpsc::Receiver<Inbound>,
    mailbox: Arc<Mailbox>,
}

impl Receive for Client {
    async fn receive(&mut self) -> Inbound {
        loop {
            let gone_at = self.mailbox.unpolled_since() + UNPOLLED_MAX;
            tokio::select! {
                inbound = self.inbound.recv() => return inbound.unwrap_or(Inbound::Gone),
                () = tokio::time::sleep_until(gone_at) => {
                    if self.mailbox.unpolled_since() + UNPOLLED_MAX <= Instant::now() {
                        return Inbound::Gone;
                    }
                }
            }
        }
    }
}

/// The messages of a POST: one a line in a batch, else the whole body.
fn lines(body: &Bytes, is_batch: bool) -> impl Iterator<Item = Bytes> {
    let separated = body.split(move |byte| is_batch && *byte == b'\n');
    separated.filter_map(|line| {
        let line = line.trim_ascii();
        (!line.is_empty()).then(|| body.slice_ref(line))
    })
}

/// Reads a message; binary ones travel as base64.
fn inbound(version: Version, line: Bytes, bytes_max: usize) -> Inbound {
    if line.len() > bytes_max {
        return Inbound::TooLarge;
    }
    let is_text = matches!(line.first(), Some(b'[' | b'{'));
    let frame = match STANDARD.decode(&line) {
        Ok(binary) if !is_text => Frame::Binary(binary.into()),
        _ => Frame::Text(line),
    };
    Inbound::Message(frame::decode(version, &frame))
}

/// What clients read is the status in the body.
fn answer(status: StatusCode, body: &Value) -> Response {
    let mut body = body.clone();
    if let Some(body) = body.as_object_mut() {
        body.insert("status".to_owned(), json!(status.as_u16()));
    }
    json_response(StatusCode::OK, &body)
}

/// Clients know 403, which is for good, and 500, after which they try again.
fn refuse(refusal: &Refusal) -> Response {
    let status = if refusal.status == StatusCode::TOO_MANY_REQUESTS { 500 } else { 403 };
    json_response(refusal.status, &json!({ "status": status, "error": refusal.text }))
}

/// As in [`crate::topics`], what is inside is whole whatever a thread did.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
