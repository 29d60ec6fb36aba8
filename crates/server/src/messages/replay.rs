//! Earlier messages for a channel that asks for them.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_postgres::{Client, Row, types::Type};
use walcast_channels::ReplayRequest;
use walcast_protocol::message::{Encoding, UserBroadcast};
use walcast_replicator::ConnectOptions;

use super::{metadata, recent::RecentTransactions};
use crate::{
    authz::Authorizer,
    catalogue::snapshot::Snapshot,
    database,
    telemetry::{Metrics, milliseconds},
};

/// How long one question may take, the wait for those before it included.
const TIMEOUT: Duration = Duration::from_secs(5);

/// As the owner of the table: whether the channel may read was asked before, and policies about
/// single rows play no part. The table is found by the catalogue: a name would need USAGE on the
/// schema, which the login has as the owner only.
const BEGIN: &str = "begin isolation level repeatable read read only; \
     set local statement_timeout = '5s'; set local lock_timeout = '2s'; \
     select pg_catalog.set_config('role', pg_catalog.pg_get_userbyid(c.relowner)::text, true) \
     from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace \
     where n.nspname = 'realtime' and c.relname = 'messages'";

/// The newest first. Rows of one transaction have one time, the moment it began, and random ids; the
/// number of their command tells their order, and within one command their place. Places alone are not
/// enough: PostgreSQL fills gaps that older rows left.
///
/// The clocks on walls are at most 14 hours before UTC; rows of later times are no messages that were
/// sent. A table that is older than binary messages lacks their column: then the outer one is meant.
const NEWEST: &str = "select found.* from (select null::bytea as binary_payload) as missing, lateral ( \
     select id::text, event, payload::text, binary_payload from realtime.messages \
     where topic = $1 and private is true and extension = 'broadcast' and event is not null \
       and inserted_at >= pg_catalog.timezone('UTC', pg_catalog.to_timestamp($2 / 1000)) \
       and inserted_at < pg_catalog.timezone('UTC', pg_catalog.now()) + interval '15 hours' \
     order by inserted_at desc, cmin::text::bigint desc, tableoid desc, ctid desc \
     limit $3) as found";

/// Since when messages are asked for at most: what PostgreSQL's `to_timestamp` can take, in ms.
const SINCE_MAX_MS: i64 = 253_402_300_799_000;

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The messages with the metadata that clients get, oldest first.
    pub messages: Vec<UserBroadcast>,
    /// The transactions whose messages were there to be found.
    pub snapshot: Snapshot,
}

/// Reads earlier messages over one connection, opened when first needed.
#[derive(Debug)]
pub struct Replayer {
    connect: ConnectOptions,
    client: Mutex<Option<Client>>,
    payload_bytes_max: usize,
    recent: Arc<RecentTransactions>,
    authorizer: Arc<Authorizer>,
    metrics: Arc<Metrics>,
}

impl Replayer {
    /// Not connected yet. Messages of more than `payload_bytes_max` are left out: they were not told
    /// the first time either.
    #[must_use]
    pub fn new(
        connect: ConnectOptions,
        payload_bytes_max: usize,
        recent: Arc<RecentTransactions>,
        authorizer: Arc<Authorizer>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let client = Mutex::default();
        Self { connect, client, payload_bytes_max, recent, authorizer, metrics }
    }

    /// The messages that are asked for, oldest first.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached, takes too long or has no such table.
    pub async fn read(&self, request: &ReplayRequest) -> anyhow::Result<Found> {
        let began = Instant::now();
        let found = timeout(TIMEOUT, self.ask(request)).await;
        self.metrics.replay_ms.record(milliseconds(began.elapsed()));
        found.context("read earlier messages in time")?
    }

    async fn ask(&self, request: &ReplayRequest) -> anyhow::Result<Found> {
        // The channel listens already. What was passed on before it did must be found in the table.
        self.authorizer.wait_until_visible(&self.recent.ids()).await;
        let mut kept = self.client.lock().await;
        // Taken out, so that a question that is given up half-way takes its connection with it.
        let client = match kept.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => database::connect(&self.connect).await?,
        };
        let rows = ask(&client, request).await;
        *kept = Some(client);
        let (snapshot, rows) = rows?;
        let mut messages: Vec<UserBroadcast> = rows.iter().filter_map(message).collect();
        messages.retain(|message| message.payload.len() <= self.payload_bytes_max);
        messages.reverse();
        Ok(Found { messages, snapshot })
    }
}

async fn ask(client: &Client, request: &ReplayRequest) -> anyhow::Result<(Snapshot, Vec<Row>)> {
    let sql = if request.is_private {
        NEWEST.to_owned()
    } else {
        NEWEST.replace("private is true", "private is false")
    };
    let topic = request.topic.sub_topic().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let since = request.since_ms.clamp(0, SINCE_MAX_MS) as f64;
    let limit = i64::from(request.limit);
    let asking = async {
        client.batch_execute(BEGIN).await.context("act as the owner of realtime.messages")?;
        let snapshot = client
            .query_typed("select pg_catalog.pg_current_snapshot()::pg_catalog.text", &[])
            .await
            .context("look at the place of the table in the stream")?;
        let snapshot = snapshot.first().and_then(|row| Snapshot::parse(row.try_get(0).ok()?));
        let rows = client
            .query_typed(
                &sql,
                &[(&topic, Type::TEXT), (&since, Type::FLOAT8), (&limit, Type::INT8)],
            )
            .await
            .context("read earlier messages")?;
        Ok((snapshot.context("understand the snapshot")?, rows))
    };
    let found = asking.await;
    client.batch_execute("rollback").await.context("end the transaction")?;
    found
}

/// Rows that hold nothing are left out.
fn message(row: &Row) -> Option<UserBroadcast> {
    let (id, event): (String, String) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
    let json: Option<String> = row.try_get(2).ok()?;
    let binary: Option<Vec<u8>> = row.try_get(3).ok()?;
    let (encoding, payload) = match (binary, json) {
        (Some(bytes), _) => (Encoding::Binary, Bytes::from(bytes)),
        (None, Some(json)) => (Encoding::Json, Bytes::from(json)),
        (None, None) => return None,
    };
    Some(UserBroadcast { event: event.into(), metadata: metadata(&id, true), encoding, payload })
}
