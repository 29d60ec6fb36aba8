//! One connection to PostgreSQL in replication mode: set-up by plain queries, then a copy stream.

mod channel_binding;
mod login;
pub(crate) mod tls;

use std::io;

use bytes::{Buf, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::{
    backend::{DataRowBody, ErrorResponseBody, Message},
    frontend,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    ConnectOptions, Definite, Host, ReplicationError, ServerError, SslMode, TlsError, Transient,
    error::classify,
    wire::{Frame, WireError},
};

/// Room for one read: with 64 KiB the system calls cost more than the decoding.
const READ_BYTES: usize = 256 * 1024;
/// A buffer that grew beyond this for a large message is given back afterwards.
const READ_BUFFER_KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Upper bound for a message while setting up, where none is large.
const SET_UP_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Upper bound for the rows of an answer while setting up.
const ANSWER_ROWS_MAX: usize = 10_000;

/// Rows of an answer; every value is text or NULL.
pub(crate) type Answer = Vec<Vec<Option<String>>>;

trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for S {}

/// A connection with its buffers.
pub(crate) struct Connection {
    socket: Box<dyn Socket>,
    /// Bytes that arrived and are not yet taken.
    pub(crate) arrived: BytesMut,
    /// Bytes to send; kept here so that an interrupted write goes on where it stopped.
    to_send: BytesMut,
    needs_flush: bool,
    /// The server's certificate (DER) when the connection is secured by TLS.
    peer_certificate: Option<Vec<u8>>,
}

impl Connection {
    /// Connects and logs in.
    pub(crate) async fn open(options: &ConnectOptions) -> Result<Self, ReplicationError> {
        let limit = options.connect_timeout;
        timeout(limit, Box::pin(Self::open_preferring_tls(options))).await.unwrap_or_else(|_| {
            Err(Transient::ConnectTimeout { address: options.address(), timeout: limit }.into())
        })
    }

    async fn open_preferring_tls(options: &ConnectOptions) -> Result<Self, ReplicationError> {
        let result = Self::open_once(options, options.ssl_mode).await;
        match &result {
            // As libpq: what is only preferred may fail, also because pg_hba.conf refuses it.
            Err(ReplicationError::Definite(Definite::Tls { .. }))
                if options.ssl_mode == SslMode::Prefer => {}
            Err(ReplicationError::Definite(Definite::Login { source, .. }))
                if options.ssl_mode == SslMode::Prefer && source.code == "28000" => {}
            _ => return result,
        }
        match Self::open_once(options, SslMode::Disable).await {
            Ok(connection) => Ok(connection),
            Err(_) => result,
        }
    }

    async fn open_once(
        options: &ConnectOptions,
        ssl_mode: SslMode,
    ) -> Result<Self, ReplicationError> {
        let refused = |source| Transient::Connect { address: options.address(), source };
        let mut connection = match &options.host {
            Host::Unix(folder) => {
                let path = options.socket_path(folder);
                Self::new(Box::new(UnixStream::connect(path).await.map_err(refused)?), None)
            }
            Host::Tcp(host) => {
                let socket =
                    TcpStream::connect((host.as_str(), options.port)).await.map_err(refused)?;
                socket.set_nodelay(true).map_err(Transient::Lost)?;
                secure(socket, host, options, ssl_mode).await?
            }
        };
        login::log_in(&mut connection, options).await?;
        Ok(connection)
    }

    fn new(socket: Box<dyn Socket>, peer_certificate: Option<Vec<u8>>) -> Self {
        Self {
            socket,
            arrived: BytesMut::new(),
            to_send: BytesMut::new(),
            needs_flush: false,
            peer_certificate,
        }
    }

    /// Runs one statement or replication command and collects its rows.
    pub(crate) async fn query(
        &mut self,
        action: &'static str,
        sql: &str,
    ) -> Result<Answer, ReplicationError> {
        self.put(|buffer| frontend::query(sql, buffer))?;
        self.flush().await?;
        let mut rows = Vec::new();
        let mut error = None;
        loop {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is of no interest")]
            match self.message().await? {
                Message::DataRow(_) if rows.len() == ANSWER_ROWS_MAX => {
                    return Err(WireError::Answer(action).into());
                }
                Message::DataRow(body) => {
                    rows.push(read_row(&body).map_err(|_| WireError::Answer(action))?);
                }
                Message::ErrorResponse(body) => error = Some(read_server_error(&body)),
                Message::ReadyForQuery(_) => break,
                _ => {}
            }
        }
        error.map_or(Ok(rows), |error| Err(classify(action, error)))
    }

    /// Runs START_REPLICATION; afterwards both sides send copy data.
    pub(crate) async fn start_copy(&mut self, command: &str) -> Result<(), ReplicationError> {
        const ACTION: &str = "start the replication stream";
        const COPY_BOTH_RESPONSE: u8 = b'W';
        self.put(|buffer| frontend::query(command, buffer))?;
        self.flush().await?;
        loop {
            let frame = self.frame(SET_UP_MESSAGE_BYTES_MAX).await?;
            // The one message of the protocol that postgres-protocol does not know.
            if frame.tag == COPY_BOTH_RESPONSE {
                self.arrived.advance(frame.n_bytes);
                // The set-up has shared the buffer's memory out; a new one is owned alone, and
                // then grows and moves its content cheaply.
                let mut arrived = BytesMut::with_capacity(READ_BYTES);
                arrived.extend_from_slice(&self.arrived);
                self.arrived = arrived;
                return Ok(());
            }
            #[expect(clippy::wildcard_enum_match_arm, reason = "the rest does not belong here")]
            match self.message().await? {
                Message::ErrorResponse(body) => {
                    return Err(classify(ACTION, read_server_error(&body)));
                }
                Message::NoticeResponse(_) | Message::ParameterStatus(_) => {}
                _ => return Err(WireError::Answer(ACTION).into()),
            }
        }
    }

    /// Waits for the next message while setting up.
    async fn message(&mut self) -> Result<Message, ReplicationError> {
        let Frame { tag, .. } = self.frame(SET_UP_MESSAGE_BYTES_MAX).await?;
        let unexpected = WireError::Unexpected { tag, context: "while setting up" };
        match Message::parse(&mut self.arrived) {
            Ok(Some(message)) => Ok(message),
            Ok(None) | Err(_) => Err(unexpected.into()),
        }
    }

    /// Waits until a whole message lies at the front of the buffer.
    pub(crate) async fn frame(&mut self, n_bytes_max: usize) -> Result<Frame, ReplicationError> {
        loop {
            if let Some(frame) = Frame::peek(&self.arrived)? {
                if frame.n_bytes > n_bytes_max {
                    let length = u32::try_from(frame.n_bytes - 1).unwrap_or(u32::MAX);
                    return Err(WireError::Length { tag: frame.tag, length }.into());
                }
                if self.arrived.len() >= frame.n_bytes {
                    return Ok(frame);
                }
            }
            self.read().await?;
        }
    }

    /// Waits for bytes. Cancel-safe: a read that is given up takes nothing.
    pub(crate) async fn read(&mut self) -> Result<(), ReplicationError> {
        if self.arrived.is_empty() && self.arrived.capacity() > READ_BUFFER_KEPT_BYTES {
            self.arrived = BytesMut::new();
        }
        // Grows as bytes arrive, never by what a message's header claims.
        if self.arrived.capacity() - self.arrived.len() < READ_BYTES / 4 {
            self.arrived.reserve(READ_BYTES);
        }
        match self.socket.read_buf(&mut self.arrived).await {
            Ok(0) => Err(Transient::Closed.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(Transient::Lost(error).into()),
        }
    }

    /// Appends a message to what is to be sent.
    pub(crate) fn put(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<(), ReplicationError> {
        // Only texts with a zero byte cannot be written.
        write(&mut self.to_send).map_err(|_| {
            ReplicationError::from(Definite::Option {
                option: "user, password, database, slot or publication",
                problem: "it contains a zero byte, which PostgreSQL does not allow",
            })
        })
    }

    /// Sends what was put. Cancel-safe: the rest is sent with the next flush.
    pub(crate) async fn flush(&mut self) -> Result<(), ReplicationError> {
        self.needs_flush |= !self.to_send.is_empty();
        while !self.to_send.is_empty() {
            match self.socket.write_buf(&mut self.to_send).await {
                Ok(0) => return Err(Transient::Closed.into()),
                Ok(_) => {}
                Err(error) => return Err(Transient::Lost(error).into()),
            }
        }
        if self.needs_flush {
            self.socket.flush().await.map_err(Transient::Lost)?;
            self.needs_flush = false;
        }
        Ok(())
    }

    /// Says goodbye. The server would notice without it, so a failure does not matter.
    pub(crate) async fn close(mut self) {
        frontend::terminate(&mut self.to_send);
        let _ = self.flush().await;
        let _ = self.socket.shutdown().await;
    }
}

async fn secure(
    mut socket: TcpStream,
    host: &str,
    options: &ConnectOptions,
    ssl_mode: SslMode,
) -> Result<Connection, ReplicationError> {
    if ssl_mode == SslMode::Disable {
        return Ok(Connection::new(Box::new(socket), None));
    }
    let failed = |source| Definite::Tls { address: options.address(), source };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await.map_err(Transient::Lost)?;
    // One byte and not more: whatever follows before the handshake was put there by somebody else.
    match socket.read_u8().await.map_err(Transient::Lost)? {
        b'S' => {}
        b'N' if ssl_mode == SslMode::Prefer => {
            return Ok(Connection::new(Box::new(socket), None));
        }
        b'N' => return Err(failed(TlsError::NotOffered).into()),
        _ => return Err(failed(TlsError::Answer).into()),
    }
    let config =
        tls::tls_client_config(ssl_mode, options.ssl_root_cert.as_deref()).map_err(failed)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| failed(TlsError::HostName(host.to_owned())))?;
    let stream = TlsConnector::from(config)
        .connect(name, socket)
        .await
        .map_err(|error| failed(TlsError::handshake(error)))?;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let peer_certificate = certificate.map(|certificate| certificate.to_vec());
    Ok(Connection::new(Box::new(stream), peer_certificate))
}

fn read_row(body: &DataRowBody) -> io::Result<Vec<Option<String>>> {
    let mut values = Vec::new();
    let mut ranges = body.ranges();
    while let Some(range) = ranges.next()? {
        let bytes = range.map(|range| body.buffer().get(range).unwrap_or_default());
        values.push(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
    }
    Ok(values)
}

/// Before the login texts may come in any encoding, hence the lossy conversion.
pub(crate) fn read_server_error(body: &ErrorResponseBody) -> ServerError {
    let mut error =
        ServerError { code: String::new(), message: String::new(), detail: None, hint: None };
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => error.code = value,
            b'M' => error.message = value,
            b'D' => error.detail = Some(value),
            b'H' => error.hint = Some(value),
            _ => {}
        }
    }
    error
}
