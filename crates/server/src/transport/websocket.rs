//! The WebSocket: `/socket/websocket` and `/realtime/v1/websocket`.
//!
//! The handshake is answered here and the TCP socket taken over from the HTTP server: what is written
//! goes to it directly, see [`super::wire`].

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use walcast_protocol::CloseCode;

use super::{
    TransportParts,
    admission::{Admitted, ConnectParameters, Refusal, admit},
    driver::Driver,
    outgoing::Farewell,
    reader::Reader,
    wire::{Kind, Wire, WireFrame},
};
use crate::http::error_response;

/// How long the farewell to a client may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

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
    mut request: Request,
) -> Response {
    let Some(accept) = accept_key(request.headers()) else {
        return error_response(
            StatusCode::BAD_REQUEST,
            "this is the address of a WebSocket (version 13): send an upgrade request",
        );
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return error_response(
            StatusCode::UPGRADE_REQUIRED,
            "a WebSocket needs a connection with HTTP/1.1",
        );
    };
    let admitted = match admit(&parts, parameters, request.headers()).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refuse(&refusal),
    };
    let tracker = parts.connections.clone();
    drop(tracker.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => serve(parts, admitted, upgraded).await,
            Err(error) => tracing::debug!(%error, "a client did not wait for its WebSocket"),
        }
    }));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// The answer to the key of a handshake; `None` when it is none.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let mut words = values.flat_map(|value| value.split(',')).map(str::trim);
        words.any(|found| found.eq_ignore_ascii_case(word))
    };
    let is_upgrade = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_upgrade)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

fn refuse(refusal: &Refusal) -> Response {
    if refusal.text.is_empty() {
        return refusal.status.into_response();
    }
    (refusal.status, Json(json!({ "error": refusal.text }))).into_response()
}

async fn serve(parts: Arc<TransportParts>, admitted: Admitted, upgraded: Upgraded) {
    let Ok(taken) = downcast::<TokioIo<TcpStream>>(upgraded) else {
        tracing::error!("the HTTP server gave a WebSocket that is no TCP socket");
        return;
    };
    let Admitted { version, token, headers } = admitted;
    let metrics = Arc::clone(&parts.metrics);
    metrics.connections.increment(1.0);
    metrics.connections_opened.increment(1);
    let (socket, limits) = (taken.io.into_inner(), parts.outbox_limits);
    let wire = Arc::new(Wire::new(socket, limits, Arc::clone(&metrics)));
    let bytes_max = parts.frame_bytes_max;
    let mut reader = Reader::new(Arc::clone(&wire), version, bytes_max, &taken.read_buf);
    drop(taken.read_buf);
    let farewell = Farewell::default();
    let own = Some(Arc::clone(&wire));
    let mut driver = Driver::new(parts, version, token, headers, farewell.clone(), own);
    driver.run(&mut reader, None).await;
    drop(driver);
    wire.push_last(WireFrame::new(Kind::Close, close_payload(farewell.code())));
    // A client that does not take the farewell is left without one.
    let _ = timeout(FAREWELL_TIMEOUT, wire.drained()).await;
    let _ = timeout(LINGER, reader.exhaust()).await;
    metrics.connections.decrement(1.0);
}

fn close_payload(code: Option<CloseCode>) -> Bytes {
    let Some(code) = code else { return Bytes::new() };
    [&code.code().to_be_bytes()[..], code.reason().as_bytes()].concat().into()
}
