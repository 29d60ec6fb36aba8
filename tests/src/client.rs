//! A client that speaks the Phoenix protocol over a real WebSocket, in both versions.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message as Frame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::message::Message;
use crate::wait::DEADLINE;

/// The serialiser.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// `vsn=1.0.0`: objects.
    V1,
    /// `vsn=2.0.0`: arrays.
    V2,
}

impl Version {
    /// The text of the `vsn` parameter.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::V1 => "1.0.0",
            Self::V2 => "2.0.0",
        }
    }
}

/// Why the server did not open the WebSocket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The body of the answer.
    pub body: String,
}

/// What a successful subscription returned.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// The ids of the bindings, in the order they were sent.
    pub ids: Vec<i64>,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    version: Version,
    next_reference: u32,
    /// The `join_ref` of the last join of each topic.
    joins: HashMap<String, String>,
    inbox: VecDeque<Message>,
    closed: Option<Option<CloseFrame>>,
}

impl Client {
    /// Opens a WebSocket with `token`.
    pub async fn connect(port: u16, token: &str, version: Version) -> Result<Self> {
        match Self::try_connect(port, token, version).await? {
            Ok(client) => Ok(client),
            Err(refused) => bail!("the WebSocket was refused with status {}", refused.status),
        }
    }

    /// Opens a WebSocket, telling a refusal from a failure.
    pub async fn try_connect(
        port: u16,
        token: &str,
        version: Version,
    ) -> Result<std::result::Result<Self, Refused>> {
        let url =
            format!("ws://127.0.0.1:{port}/socket/websocket?apikey={token}&vsn={}", version.text());
        let config = WebSocketConfig::default()
            .max_message_size(Some(256 << 20))
            .max_frame_size(Some(256 << 20));
        let opened = tokio::time::timeout(
            DEADLINE,
            Box::pin(connect_async_with_config(url, Some(config), true)),
        )
        .await
        .context("the WebSocket was not opened in time")?;
        match opened {
            Ok((socket, _)) => Ok(Ok(Self {
                socket,
                version,
                next_reference: 1,
                joins: HashMap::new(),
                inbox: VecDeque::new(),
                closed: None,
            })),
            Err(Error::Http(response)) => Ok(Err(Refused {
                status: response.status().as_u16(),
                body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default())
                    .into_owned(),
            })),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a push and returns its `ref`.
    pub async fn push(&mut self, topic: &str, event: &str, payload: &Value) -> Result<String> {
        let reference = self.new_reference();
        if event == "phx_join" {
            self.joins.insert(topic.to_owned(), reference.clone());
        }
        let join_ref = self.joins.get(topic).cloned();
        self.push_with(topic, event, payload, Some(&reference), join_ref.as_deref()).await?;
        Ok(reference)
    }

    /// Sends a push with these refs.
    pub async fn push_with(
        &mut self,
        topic: &str,
        event: &str,
        payload: &Value,
        reference: Option<&str>,
        join_ref: Option<&str>,
    ) -> Result<()> {
        let message = match self.version {
            Version::V1 => json!({
                "topic": topic, "event": event, "payload": payload,
                "ref": reference, "join_ref": join_ref,
            }),
            Version::V2 => json!([join_ref, reference, topic, event, payload]),
        };
        self.send_text(&message.to_string()).await
    }

    /// Sends a text frame as it is.
    pub async fn send_text(&mut self, text: &str) -> Result<()> {
        Ok(self.socket.send(Frame::text(text)).await?)
    }

    /// Sends a binary frame as it is.
    pub async fn send_binary(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.socket.send(Frame::binary(Bytes::copy_from_slice(bytes))).await?)
    }

    /// Joins `topic` and returns the reply.
    pub async fn join(&mut self, topic: &str, payload: &Value) -> Result<Message> {
        let reference = self.push(topic, "phx_join", payload).await?;
        self.reply(&reference).await
    }

    /// Waits for the reply to the push `reference`.
    pub async fn reply(&mut self, reference: &str) -> Result<Message> {
        self.next_where(&format!("the reply to {reference}"), |message| {
            message.is_reply_to(reference)
        })
        .await
    }

    /// Joins `topic` with these bindings and waits until they are live.
    pub async fn subscribe(&mut self, topic: &str, bindings: &Value) -> Result<Subscription> {
        self.subscribe_with(topic, bindings, None).await
    }

    /// The same with a token of the channel's own.
    pub async fn subscribe_with(
        &mut self,
        topic: &str,
        bindings: &Value,
        token: Option<&str>,
    ) -> Result<Subscription> {
        let mut payload = json!({"config": {"postgres_changes": bindings}});
        if let Some(token) = token {
            payload["access_token"] = json!(token);
        }
        let reply = self.join(topic, &payload).await?;
        if reply.payload["status"] != "ok" {
            bail!("the join of {topic} was refused: {}", reply.payload_text);
        }
        let system = self.system(topic).await?;
        if system.payload["status"] != "ok" {
            bail!("the subscription of {topic} was refused: {}", system.payload["message"]);
        }
        let ids = reply.payload["response"]["postgres_changes"]
            .as_array()
            .context("the reply of a join lists no bindings")?
            .iter()
            .map(|binding| binding["id"].as_i64().context("a binding without an integer id"))
            .collect::<Result<_>>()?;
        Ok(Subscription { topic: topic.to_owned(), ids })
    }

    /// Waits for the next `system` message of `topic` that is about its subscription.
    pub async fn system(&mut self, topic: &str) -> Result<Message> {
        self.next_where(&format!("a system message on {topic}"), |message| {
            message.event == "system"
                && message.topic == topic
                && message.payload["extension"] == "postgres_changes"
        })
        .await
    }

    /// Waits for the next change of a row on any topic.
    pub async fn change(&mut self) -> Result<Message> {
        self.next_where("a change", Message::is_change).await
    }

    /// Waits for the next change on `topic` and returns its `data`.
    pub async fn change_on(&mut self, topic: &str) -> Result<Value> {
        let message = self
            .next_where(&format!("a change on {topic}"), |message| {
                message.is_change() && message.topic == topic
            })
            .await?;
        Ok(message.data().clone())
    }

    /// Waits for a message that `wanted` accepts. Others stay for later.
    pub async fn next_where(
        &mut self,
        what: &str,
        wanted: impl Fn(&Message) -> bool,
    ) -> Result<Message> {
        if let Some(index) = self.inbox.iter().position(&wanted)
            && let Some(message) = self.inbox.remove(index)
        {
            return Ok(message);
        }
        let end = Instant::now() + DEADLINE;
        loop {
            let message = self
                .read(end)
                .await
                .with_context(|| format!("waiting for {what}; unread: {}", self.unread()))?;
            if wanted(&message) {
                return Ok(message);
            }
            self.inbox.push_back(message);
        }
    }

    /// Everything received so far and not taken, in order.
    pub fn take_inbox(&mut self) -> Vec<Message> {
        self.inbox.drain(..).collect()
    }

    /// Sends a heartbeat and waits for its reply. What the server had queued for this connection
    /// before is then in the inbox.
    pub async fn heartbeat(&mut self) -> Result<()> {
        let reference = self.new_reference();
        self.push_with("phoenix", "heartbeat", &json!({}), Some(&reference), None).await?;
        self.reply(&reference).await.map(drop)
    }

    /// Reads until this many changes have come, without looking into them: for measures, where
    /// the client must not be what is slow.
    pub async fn skip_changes(&mut self, count: u64) -> Result<()> {
        let mut seen = 0;
        while seen < count {
            let frame = tokio::time::timeout(DEADLINE, self.socket.next())
                .await
                .with_context(|| format!("{seen} of {count} changes came"))?;
            match frame {
                Some(Ok(Frame::Text(text))) if text.contains("\"postgres_changes\"") => seen += 1,
                Some(Ok(Frame::Close(frame))) => bail!("the server closed: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the server hung up after {seen} changes"),
            }
        }
        Ok(())
    }

    /// Counts the changes that come, without looking into them, until the connection ends.
    pub async fn count_changes(&mut self, seen: &AtomicU64) -> Result<()> {
        while let Some(frame) = self.socket.next().await {
            if let Frame::Text(text) = frame?
                && text.contains("\"postgres_changes\"")
            {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Waits until the server closes and returns the close code; none when it just hung up.
    pub async fn closed(&mut self) -> Result<Option<u16>> {
        let end = Instant::now() + DEADLINE;
        while self.closed.is_none() {
            match self.read(end).await {
                Ok(message) => self.inbox.push_back(message),
                Err(error) if self.closed.is_none() => {
                    return Err(error.context("waiting for the server to close"));
                }
                Err(_) => {}
            }
        }
        Ok(self.closed.clone().flatten().map(|frame| frame.code.into()))
    }

    /// Closes normally.
    pub async fn close(mut self) -> Result<()> {
        Ok(self.socket.close(None).await?)
    }

    async fn read(&mut self, end: Instant) -> Result<Message> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                bail!("nothing came within {DEADLINE:?}");
            }
            let Ok(frame) = tokio::time::timeout(left, self.socket.next()).await else {
                bail!("nothing came within {DEADLINE:?}")
            };
            match frame {
                Some(Ok(Frame::Text(text))) => return Message::parse(self.version, &text),
                Some(Ok(Frame::Close(frame))) => {
                    self.closed = Some(frame.clone());
                    bail!("the server closed: {frame:?}")
                }
                Some(Ok(Frame::Binary(bytes))) => return Message::parse_binary(&bytes),
                Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => {}
                Some(Err(error)) => {
                    self.closed.get_or_insert(None);
                    return Err(error.into());
                }
                None => {
                    self.closed.get_or_insert(None);
                    bail!("the server hung up")
                }
            }
        }
    }

    fn new_reference(&mut self) -> String {
        let reference = self.next_reference.to_string();
        self.next_reference += 1;
        reference
    }

    fn unread(&self) -> String {
        let last: Vec<String> = self
            .inbox
            .iter()
            .rev()
            .take(5)
            .map(|message| {
                let payload: String = message.payload_text.chars().take(300).collect();
                format!("{} {} {payload}", message.topic, message.event)
            })
            .collect();
        format!("{last:?}")
    }
}
