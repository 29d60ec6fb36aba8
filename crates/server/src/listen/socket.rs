//! One WebSocket to a server: TCP or TLS, and the handshake.

use std::{fmt, io, sync::Arc, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::{ClientConfig, pki_types::ServerName};
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, client::IntoClientRequest, protocol::WebSocketConfig},
};

use super::address::Address;

/// How long connecting may take, with the server's pause before a refusal.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The largest message that is read. Payloads end at a few MB.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// TCP or TLS over it.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// The open WebSocket.
pub(super) type Socket = WebSocketStream<Box<dyn Transport>>;

/// Why there is no connection. The URL is left out, because it holds the token.
#[derive(Debug)]
pub(super) enum Refused {
    /// The host cannot be reached.
    Unreachable { authority: String, cause: io::Error },
    /// It cannot be reached securely.
    Tls { authority: String, cause: String },
    /// The server answers the handshake with an error.
    Status { status: u16, body: String },
    /// The server does not speak WebSocket.
    Handshake { cause: String },
    /// Nothing happened.
    TimedOut,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { authority, cause } => {
                write!(formatter, "cannot connect to {authority}: {cause}")
            }
            Self::Tls { authority, cause } => {
                write!(formatter, "cannot connect securely to {authority}: {cause}")
            }
            Self::Status { status, body } => {
                write!(formatter, "connection refused with status {status}: {body}")
            }
            Self::Handshake { cause } => write!(formatter, "no WebSocket there: {cause}"),
            Self::TimedOut => {
                write!(formatter, "no connection within {} seconds", CONNECT_TIMEOUT.as_secs())
            }
        }
    }
}

/// Connects with a token.
pub(super) async fn connect(address: &Address, token: &str) -> Result<Socket, Refused> {
    tokio::time::timeout(CONNECT_TIMEOUT, handshake(address, token))
        .await
        .unwrap_or(Err(Refused::TimedOut))
}

async fn handshake(address: &Address, token: &str) -> Result<Socket, Refused> {
    let scheme = if address.tls { "wss" } else { "ws" };
    let url = format!(
        "{scheme}://{}{}?apikey={}&vsn=2.0.0",
        address.authority(),
        address.path,
        utf8_percent_encode(token, NON_ALPHANUMERIC)
    );
    let request = url
        .into_client_request()
        .map_err(|_| Refused::Handshake { cause: "the URL cannot be used".to_owned() })?;
    let stream = open(address).await?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => Err(Refused::Status {
            status: response.status().as_u16(),
            body: error_text(response.body().as_deref().unwrap_or_default()),
        }),
        Err(error) => Err(Refused::Handshake { cause: error.to_string() }),
    }
}

async fn open(address: &Address) -> Result<Box<dyn Transport>, Refused> {
    let unreachable = |cause| Refused::Unreachable { authority: address.authority(), cause };
    let stream =
        TcpStream::connect((address.host.as_str(), address.port)).await.map_err(unreachable)?;
    if !address.tls {
        return Ok(Box::new(stream));
    }
    let insecure = |cause: String| Refused::Tls { authority: address.authority(), cause };
    let config =
        ClientConfig::with_platform_verifier().map_err(|error| insecure(error.to_string()))?;
    let name =
        ServerName::try_from(address.host.clone()).map_err(|error| insecure(error.to_string()))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| insecure(error.to_string()))?;
    Ok(Box::new(stream))
}

/// The text of `{"error": …}`, or the body as it is.
fn error_text(body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    let document: Option<serde_json::Value> = serde_json::from_str(&body).ok();
    document
        .as_ref()
        .and_then(|document| document.get("error"))
        .and_then(serde_json::Value::as_str)
        .map_or_else(|| body.trim().to_owned(), str::to_owned)
}
