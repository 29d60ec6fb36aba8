//! The WebSocket: `/socket/websocket` and `/realtime/v1/websocket`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{
        Query, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::{
    StreamExt,
    stream::{SplitStream, Stream},
};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};
use tokio_tungstenite::tungstenite::{self, error::CapacityError};
use walcast_channels::Token;
use walcast_protocol::{Frame, Version, frame};

use super::{
    TransportParts,
    admission::{Admitted, ConnectParameters, Refusal, admit},
    driver::{Driver, Inbound, Receive},
    writer::{self, Farewell},
};

/// tungstenite's default of 128 KiB costs 138 KB per idle socket; with 4 KiB it is about 7 KB.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Frames are gathered up to this size before they are written.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// How long a client may take to finish sending after it was told goodbye. Closing a socket with
/// unread bytes would reset it, and the client would never see why.
const LINGER: Duration = Duration::from_secs(1);

/// The routes.
pub fn routes(parts: Arc<TransportParts>) -> Router {
    Router::new()
        .route("/socket/websocket", get(upgrade))
        .route("/realtime/v1/websocket", get(upgrade))
        .with_state(parts)
}

async fn upgrade(
    State(parts): State<Arc<TransportParts>>,
    Query(parameters): Query<ConnectParameters>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Admitted { version, token, headers } = match admit(&parts, parameters, &headers) {
        Ok(admitted) => admitted,
        Err(refusal) => return refuse(&refusal),
    };
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(parts.frame_bytes_max)
        .max_frame_size(parts.frame_bytes_max)
        .on_upgrade(move |socket| {
            let tracker = parts.connections.clone();
            tracker.track_future(serve(parts, version, token, headers, socket))
        })
}

fn refuse(refusal: &Refusal) -> Response {
    if refusal.text.is_empty() {
        return refusal.status.into_response();
    }
    (refusal.status, Json(json!({ "error": refusal.text }))).into_response()
}

async fn serve(
    parts: Arc<TransportParts>,
    version: Version,
    token: Token,
    headers: Arc<str>,
    socket: WebSocket,
) {
    let metrics = Arc::clone(&parts.metrics);
    metrics.connections.increment(1.0);
    metrics.connections_opened.increment(1);
    let (sink, stream) = socket.split();
    let farewell = Farewell::default();
    let (batches, received_batches) = mpsc::channel(1);
    let writing = writer::write(sink, received_batches, farewell.clone(), Arc::clone(&metrics));
    let driver = Driver::new(parts, version, token, headers, farewell);
    let mut socket = Socket { stream, version };
    // The driver ends first: it drops the batches' sender, and the writer says farewell.
    let driving = async {
        driver.run(&mut socket, batches).await;
        socket
    };
    let (mut socket, ()) = tokio::join!(driving, writing);
    let lingering = async { while !matches!(socket.receive().await, Inbound::Gone) {} };
    let _ = timeout(LINGER, lingering).await;
    metrics.connections.decrement(1.0);
}

/// The receiving half of a WebSocket.
struct Socket {
    stream: SplitStream<WebSocket>,
    version: Version,
}

impl Receive for &mut Socket {
    async fn receive(&mut self) -> Inbound {
        Socket::receive(self).await
    }
}

impl Socket {
    async fn receive(&mut self) -> Inbound {
        match next(&mut self.stream).await {
            Some(Ok(Message::Text(frame))) => {
                Inbound::Message(frame::decode(self.version, &Frame::Text(frame.into())))
            }
            Some(Ok(Message::Binary(frame))) => {
                Inbound::Message(frame::decode(self.version, &Frame::Binary(frame)))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Inbound::Activity,
            Some(Ok(Message::Close(_))) | None => Inbound::Gone,
            Some(Err(error)) => {
                if is_too_large(error) {
                    Inbound::TooLarge
                } else {
                    Inbound::Gone
                }
            }
        }
    }
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    stream.next().await
}

fn is_too_large(error: axum::Error) -> bool {
    error.into_inner().downcast_ref::<tungstenite::Error>().is_some_and(|error| {
        matches!(error, tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }))
    })
}
