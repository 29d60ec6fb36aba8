//! `walcast listen`: a terminal client over the public WebSocket.
//!
//! ```text
//! address    the server's URL            text → host, port, TLS, path
//! socket     TCP or TLS, the handshake   address, token → WebSocket
//! message    the few messages it knows   text ⇄ Push
//! run        prints changes until something ends it
//! ```
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

mod address;
mod message;
mod socket;

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

pub use address::{Address, AddressError};
pub use message::Binding;

use message::Push;
use socket::Socket;

/// How often a heartbeat is sent, as other clients do. The server closes after a minute of silence.
const HEARTBEAT: Duration = Duration::from_secs(25);

/// How long the server may take to answer a join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What is listened to, and as whom.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// The server.
    pub address: Address,
    /// The token to connect and to join with.
    pub token: String,
    /// What is subscribed to.
    pub bindings: Vec<Binding>,
    /// The number of changes after which listening ends well; without it, it does not.
    pub count: Option<u64>,
}

/// Connects once, prints each change to `output` as one line of JSON and everything else to
/// `status`, and ends when the server refuses or the connection ends. It does not connect again.
///
/// # Errors
/// Writing to `output` or `status` failed.
pub async fn run(
    options: &ListenOptions,
    output: &mut impl Write,
    status: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let socket = match socket::connect(&options.address, &options.token).await {
        Ok(socket) => socket,
        Err(refused) => {
            say(status, &refused)?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut listener = Listener { socket, options, output, status, n_changes: 0, joined: false };
    match listener.run().await? {
        Ended::Enough => Ok(ExitCode::SUCCESS),
        Ended::Failed(reason) => {
            say(listener.status, &reason)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The present state of the one connection.
struct Listener<'a, Output, Status> {
    socket: Socket,
    options: &'a ListenOptions,
    output: &'a mut Output,
    status: &'a mut Status,
    n_changes: u64,
    joined: bool,
}

/// Why listening ended.
enum Ended {
    /// The wanted number of changes has come.
    Enough,
    /// The server refused, or the connection ended.
    Failed(String),
}

impl<Output: Write, Status: Write> Listener<'_, Output, Status> {
    async fn run(&mut self) -> anyhow::Result<Ended> {
        say(self.status, &format!("connected to {}", self.options.address))?;
        let join = message::join(&self.options.token, &self.options.bindings);
        if let Some(ended) = self.send(join).await {
            return Ok(ended);
        }
        let join_deadline = tokio::time::sleep(JOIN_TIMEOUT);
        tokio::pin!(join_deadline);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.reset();
        loop {
            let ended = tokio::select! {
                frame = self.socket.next() => self.take(frame).await?,
                _ = heartbeat.tick() => self.send(message::HEARTBEAT.to_owned()).await,
                () = &mut join_deadline, if !self.joined => {
                    Some(Ended::Failed("the server did not answer the join".to_owned()))
                }
            };
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    async fn send(&mut self, text: String) -> Option<Ended> {
        let sent = self.socket.send(Message::text(text)).await;
        sent.err().map(|error| Ended::Failed(connection_ended(&error.to_string())))
    }

    async fn take(
        &mut self,
        frame: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> anyhow::Result<Option<Ended>> {
        match frame {
            Some(Ok(Message::Text(text))) => self.take_text(&text),
            Some(Ok(Message::Close(frame))) => {
                Ok(Some(Ended::Failed(connection_ended(&close_reason(frame.as_ref())))))
            }
            // Answers to pings are queued by the library and leave with the next flush.
            Some(Ok(Message::Ping(_))) => Ok(self
                .socket
                .flush()
                .await
                .err()
                .map(|error| Ended::Failed(connection_ended(&error.to_string())))),
            Some(Ok(Message::Binary(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
            Some(Err(error)) => Ok(Some(Ended::Failed(connection_ended(&error.to_string())))),
            None => Ok(Some(Ended::Failed(connection_ended("no close frame")))),
        }
    }

    fn take_text(&mut self, text: &str) -> anyhow::Result<Option<Ended>> {
        match message::read(text) {
            Push::Joined => {
                self.joined = true;
                say(self.status, &"joined")?;
                Ok(None)
            }
            Push::Refused { reason } => Ok(Some(Ended::Failed(format!("join refused: {reason}")))),
            Push::System { ok: true, message } => {
                say(self.status, &message)?;
                Ok(None)
            }
            Push::System { ok: false, message } => {
                Ok(Some(Ended::Failed(format!("refused: {message}"))))
            }
            Push::Closed => Ok(Some(Ended::Failed("the server closed the channel".to_owned()))),
            Push::Change { data } => {
                writeln!(self.output, "{data}").context("cannot write a change")?;
                self.output.flush().context("cannot write a change")?;
                self.n_changes += 1;
                Ok((self.options.count == Some(self.n_changes)).then_some(Ended::Enough))
            }
            Push::Other => Ok(None),
        }
    }
}

fn connection_ended(reason: &str) -> String {
    format!("the connection ended: {reason}; changes from here on are missed, start again")
}

fn close_reason(frame: Option<&CloseFrame>) -> String {
    match frame {
        Some(frame) if frame.reason.is_empty() => format!("code {}", u16::from(frame.code)),
        Some(frame) => format!("code {}, {}", u16::from(frame.code), frame.reason),
        None => "no reason given".to_owned(),
    }
}

fn say(status: &mut impl Write, text: &impl std::fmt::Display) -> anyhow::Result<()> {
    writeln!(status, "{text}").context("cannot write the status")?;
    status.flush().context("cannot write the status")
}

#[cfg(test)]
mod tests;
