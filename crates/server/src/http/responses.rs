//! JSON answers.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A JSON answer.
#[must_use]
pub fn json_response(status: StatusCode, body: &Value) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, content_type, body.to_string()).into_response()
}

/// `{"error": text}`, as a refused WebSocket handshake is answered.
#[must_use]
pub fn error_response(status: StatusCode, text: &str) -> Response {
    json_response(status, &json!({"error": text}))
}
