//! The smallest HTTP client that the tests need.

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::{DEADLINE, within};

/// What the server answered.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// The head as it was sent, status line included, in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

impl HttpAnswer {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// Gets `path` from 127.0.0.1.
pub async fn http_get(port: u16, path: &str) -> Result<HttpAnswer> {
    http_request(port, "GET", path, &[]).await
}

/// Sends a request without a body to 127.0.0.1 and reads the answer up to its end.
pub async fn http_request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<HttpAnswer> {
    http_send(port, method, path, headers, b"").await
}

/// Posts a body to 127.0.0.1 and reads the answer up to its end.
pub async fn http_post(
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<HttpAnswer> {
    let length = body.len().to_string();
    let headers = [headers, &[("Content-Length", length.as_str())]].concat();
    http_send(port, "POST", path, &headers, body).await
}

/// Sends a request with a body, whose length the headers name, and reads the answer up to its end.
pub async fn http_send(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<HttpAnswer> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
        request.push_str("Connection: close\r\n");
    }
    request.push_str("\r\n");
    within(&format!("the answer to {method} {path}"), DEADLINE, async move {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.write_all(&[request.as_bytes(), body].concat()).await?;
        read_answer(&mut socket).await
    })
    .await
}

async fn read_answer(socket: &mut TcpStream) -> Result<HttpAnswer> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        if let Some(answer) = complete_answer(&bytes)? {
            return Ok(answer);
        }
        let count = socket.read(&mut buffer).await?;
        if count == 0 {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let (head, body) = text.split_once("\r\n\r\n").context("the answer has no end")?;
            return answer(head, body);
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
}

/// The answer, once as many bytes are there as its head promises.
fn complete_answer(bytes: &[u8]) -> Result<Option<HttpAnswer>> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let answer = |body| answer(head, body).map(Some);
    match length {
        // What follows an upgrade is no body.
        _ if head.contains(" 101 ") => answer(""),
        Some(length) if body.len() >= length => answer(body),
        Some(_) | None => Ok(None),
    }
}

fn answer(head: &str, body: &str) -> Result<HttpAnswer> {
    let status = head
        .split_whitespace()
        .nth(1)
        .context("the answer has no status")?
        .parse()
        .context("the status is no number")?;
    Ok(HttpAnswer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}
