//! Earlier messages for channels that ask for them when they join.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use tokio::{sync::Mutex, time::timeout};
use tokio_postgres::{Client, Statement};
use walcast_protocol::{
    join::Replay,
    message::{Encoding, UserBroadcast},
};
use walcast_replicator::ConnectOptions;

use super::metadata;
use crate::{database, topics::TopicName};

/// How long a join waits for its messages, the wait for its turn included.
const TIMEOUT: Duration = Duration::from_secs(5);

/// As [`TIMEOUT`], for PostgreSQL: it must not go on for nobody.
const STATEMENT_TIMEOUT: &str =
    "set statement_timeout = '5s'; set search_path = pg_catalog, pg_temp";

/// The latest moment that is asked for: the end of the year 9999, in ms since 1970.
const SINCE_MAX_MS: i64 = 253_402_300_799_000;

/// Reads earlier messages, over one connection and one at a time.
#[derive(Debug)]
pub struct Replayer {
    connect: ConnectOptions,
    payload_bytes_max: usize,
    session: Mutex<Option<Session>>,
}

#[derive(Debug)]
struct Session {
    client: Client,
    private: Statement,
    public: Statement,
}

impl Replayer {
    /// Not connected before somebody asks.
    #[must_use]
    pub fn new(connect: ConnectOptions, payload_bytes_max: usize) -> Self {
        Self { connect, payload_bytes_max, session: Mutex::default() }
    }

    /// The newest messages of a topic within what is asked for, oldest first.
    ///
    /// # Errors
    /// When they cannot be read, or not in time.
    pub async fn find(
        &self,
        name: &TopicName,
        replay: Replay,
    ) -> anyhow::Result<Vec<UserBroadcast>> {
        let found = timeout(TIMEOUT, self.ask(name, replay)).await;
        found.unwrap_or_else(|_| anyhow::bail!("no answer within {} s", TIMEOUT.as_secs()))
    }

    async fn ask(&self, name: &TopicName, replay: Replay) -> anyhow::Result<Vec<UserBroadcast>> {
        let mut slot = self.session.lock().await;
        // A question that is given up in the middle, or fails, takes its connection with it.
        let session = match slot.take().filter(|session| !session.client.is_closed()) {
            Some(session) => session,
            None => Session::open(&self.connect).await?,
        };
        let topic = name.topic.sub_topic().unwrap_or_default();
        let since_ms = replay.since_ms.clamp(0, SINCE_MAX_MS);
        let statement = if name.is_private { &session.private } else { &session.public };
        let rows = session
            .client
            .query(statement, &[&topic, &since_ms, &i64::from(replay.limit)])
            .await
            .context("read realtime.messages")?;
        *slot = Some(session);
        drop(slot);
        let mut messages = Vec::with_capacity(rows.len());
        for row in rows.iter().rev() {
            let (id, event): (&str, &str) = (row.try_get("id")?, row.try_get("event")?);
            let json: Option<&str> = row.try_get("payload")?;
            let bytes: Option<&[u8]> = row.try_get("binary_payload")?;
            let (encoding, payload) = match (bytes, json) {
                (Some(bytes), _) => (Encoding::Binary, Bytes::copy_from_slice(bytes)),
                (None, Some(json)) => (Encoding::Json, Bytes::copy_from_slice(json.as_bytes())),
                (None, None) => continue,
            };
            // What is too large was not told the first time either.
            if payload.len() <= self.payload_bytes_max {
                let metadata = metadata(id, true);
                messages.push(UserBroadcast { event: event.into(), metadata, encoding, payload });
            }
        }
        Ok(messages)
    }
}

impl Session {
    async fn open(connect: &ConnectOptions) -> anyhow::Result<Self> {
        let client = database::connect(connect).await?;
        client.batch_execute(STATEMENT_TIMEOUT).await.context("set up the connection")?;
        let private = include_str!("replay.sql");
        let public = private.replace("private is true", "private is false");
        let private = client.prepare(private).await.context("read realtime.messages")?;
        let public = client.prepare(&public).await.context("read realtime.messages")?;
        Ok(Self { client, private, public })
    }
}
