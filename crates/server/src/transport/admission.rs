//! Who may open a connection, decided before there is one.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use walcast_channels::Token;
use walcast_protocol::Version;

use super::TransportParts;
use crate::{
    auth::{API_KEY_MISSING, connect_error},
    http::{headers_json, is_secret},
};

/// What a client says in the URL.
#[derive(Debug, Deserialize)]
pub(super) struct ConnectParameters {
    apikey: Option<String>,
    vsn: Option<String>,
}

/// A client that may open a connection.
pub(super) struct Admitted {
    /// The serialiser it asked for.
    pub(super) version: Version,
    /// Its token, which was verified.
    pub(super) token: Token,
    /// The headers of the handshake that policies may read, a JSON object.
    pub(super) headers: Arc<str>,
}

/// Why a client may not.
pub(super) struct Refusal {
    /// The status of the HTTP answer.
    pub(super) status: StatusCode,
    /// What to tell; nothing for a version that is not spoken here.
    pub(super) text: String,
}

/// Checks version, token, room and the rate of joins, in this order.
///
/// # Errors
/// When one of them says no.
pub(super) async fn admit(
    parts: &TransportParts,
    parameters: ConnectParameters,
    headers: &HeaderMap,
) -> Result<Admitted, Refusal> {
    let refuse = |status, text: String| {
        parts.metrics.connections_refused.increment(1);
        Refusal { status, text }
    };
    let version = Version::from_vsn(parameters.vsn.as_deref())
        .ok_or_else(|| refuse(StatusCode::FORBIDDEN, String::new()))?;
    let header = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let token = header
        .map(str::to_owned)
        .or(parameters.apikey)
        .ok_or_else(|| refuse(StatusCode::UNAUTHORIZED, API_KEY_MISSING.to_owned()))?;
    let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let verified = parts.verifier.verify_with_new_keys(&token, now_unix).await;
    let claims = verified.map_err(|error| {
        let (status, text) = connect_error(&error);
        refuse(status, text)
    })?;
    if !parts.has_room() {
        let text = "Too many connected users".to_owned();
        return Err(refuse(StatusCode::TOO_MANY_REQUESTS, text));
    }
    if !parts.quotas.joins.has_room() {
        let text = "Too many joins per second".to_owned();
        return Err(refuse(StatusCode::TOO_MANY_REQUESTS, text));
    }
    let headers = headers_json(headers, |name| name.starts_with("x-") && !is_secret(name));
    Ok(Admitted { version, token: Token { text: token.into(), claims }, headers })
}
