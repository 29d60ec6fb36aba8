//! What a private channel may do, as the policies of `realtime.messages` say.
//!
//! ```sql
//! begin;
//! -- as the table's owner: one row to be read for each extension
//! insert into realtime.messages (id, topic, extension, …) values …;
//! -- as the client: role, claims, topic and headers
//! select set_config(…);
//! select id from realtime.messages where id = any(…);
//! -- one row to be written for each extension
//! savepoint probe; insert into realtime.messages …; rollback to savepoint probe;
//! rollback;
//! ```
//!
//! All of it leaves in one flush and costs one round trip. Nothing of it is ever committed, so that
//! nothing reaches the stream. An error is no right.

use std::{sync::Arc, time::Duration};

use futures_util::future::{join3, join4};
use tokio::time::{Instant, timeout};
use tokio_postgres::{
    Client, Error, Row as SqlRow,
    error::SqlState,
    types::{ToSql, Type},
};
use walcast_change::TableId;
use walcast_channels::{Extensions, Rights, RightsFailure, RightsRequest};

use super::{Authorizer, evaluate::is_connection_loss, pace::Pace};
use crate::{random::random_hex, telemetry::milliseconds};

/// How long a question waits for a connection, beside the time limit of its statements.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The names of the two things a channel is for, as policies read them.
pub(super) const BROADCAST: &str = "broadcast";
pub(super) const PRESENCE: &str = "presence";

/// As the owner, whom policies do not concern; what follows may spend so long. The table is found by
/// the catalogue: a name would need USAGE on the schema, which the login has as the owner only.
const AS_OWNER: &str = "select pg_catalog.set_config('statement_timeout', $1, true), \
     pg_catalog.set_config('lock_timeout', $1, true), \
     pg_catalog.set_config('jit', 'off', true), \
     pg_catalog.set_config('role', (select pg_catalog.pg_get_userbyid(class.relowner)::pg_catalog.text \
       from pg_catalog.pg_class as class join pg_catalog.pg_namespace as namespace \
         on namespace.oid operator(pg_catalog.=) class.relnamespace \
       where namespace.nspname operator(pg_catalog.=) 'realtime' \
         and class.relname operator(pg_catalog.=) 'messages'), true)";

const PROBE: &str = "insert into realtime.messages \
       (id, topic, extension, private, inserted_at, updated_at) \
     select probe.id::pg_catalog.uuid, $2, probe.extension, null, clock.now, clock.now \
     from rows from (pg_catalog.unnest($1), pg_catalog.unnest($3)) as probe(id, extension), \
       pg_catalog.timezone('UTC', pg_catalog.now()) as clock(now)";

/// The role last: the settings before it are for it to read.
const AS_CLIENT: &str = "select pg_catalog.set_config('realtime.topic', $1, true), \
     pg_catalog.set_config('request.jwt.claims', $2, true), \
     pg_catalog.set_config('request.jwt.claim.sub', \
       coalesce(($2)::pg_catalog.jsonb operator(pg_catalog.->>) 'sub', ''), true), \
     pg_catalog.set_config('request.jwt.claim.role', $3, true), \
     pg_catalog.set_config('request.headers', $4, true), \
     pg_catalog.set_config('role', $3, true)";

const READ: &str = "select extension from realtime.messages \
     where id operator(pg_catalog.=) any(($1)::pg_catalog.uuid[])";

impl Authorizer {
    /// What a channel may do, decided in process or by PostgreSQL; nothing but what is asked is allowed.
    ///
    /// # Errors
    /// When nothing can be said; that is no right.
    pub async fn rights(
        &self,
        request: &RightsRequest,
        headers: &str,
    ) -> Result<Rights, RightsFailure> {
        // To PostgreSQL, this word is the login itself.
        if request.role.as_str().eq_ignore_ascii_case("none") {
            return Err(RightsFailure::Refused);
        }
        let began = Instant::now();
        if let Some(rights) = self.channel_rules.as_ref().and_then(|rules| rules.decide(request)) {
            self.metrics.channels_decided.increment(1);
            self.note_check(request, began);
            return Ok(rights);
        }
        let limit = self.statement_timeout.saturating_mul(2).saturating_add(CONNECT_TIMEOUT);
        let outcome = timeout(limit, self.ask_rights(request, headers)).await;
        self.note_check(request, began);
        let result = outcome.unwrap_or(Err(RightsFailure::Unavailable));
        self.metrics.channel_questions.increment(1);
        if result.is_err() {
            self.metrics.authorization_errors.increment(1);
        }
        result
    }

    fn note_check(&self, request: &RightsRequest, began: Instant) {
        let took = milliseconds(began.elapsed());
        if request.asked.write.any() {
            self.metrics.write_check_ms.record(took);
        } else {
            self.metrics.read_check_ms.record(took);
        }
    }

    async fn ask_rights(
        &self,
        request: &RightsRequest,
        headers: &str,
    ) -> Result<Rights, RightsFailure> {
        // Policies are the same for all, what they do with a topic need not be: who is slow waits
        // among his own.
        let pace = (TableId(0), Arc::from(request.topic.as_str()));
        let is_slow = self.paces.of(&pace) == Pace::Slow;
        let lanes = if is_slow { &self.slow_channels } else { &self.channels };
        let mut lane = lanes.take().await;
        let client = lane.connected().await;
        let started = Instant::now();
        let answer = put(client, request, headers, &self.statement_timeout_ms).await;
        self.paces.note(&pace, 1, started.elapsed());
        if client.is_closed() {
            lane.close();
        }
        answer.map_err(|error| {
            let failure = failure(&error);
            if failure != RightsFailure::Unavailable
                && let Some(code) = error.code()
            {
                self.say_once("realtime.messages", request.role.as_str(), code);
            }
            failure
        })
    }
}

/// The rows of one step: an id for each extension that is asked about.
struct Probes {
    ids: Vec<String>,
    extensions: Vec<&'static str>,
}

impl Probes {
    fn of(asked: Extensions) -> Self {
        let both = [(asked.broadcast, BROADCAST), (asked.presence, PRESENCE)];
        let extensions: Vec<&str> =
            both.iter().filter_map(|(is_asked, name)| is_asked.then_some(*name)).collect();
        // Without randomness there is no id, no row, and so no right.
        let ids = extensions.iter().filter_map(|_| random_hex(16).ok()).collect();
        Self { ids, extensions }
    }
}

/// Puts the question. The statements leave together on the first poll, in order: `join3` and `join4`
/// poll in argument order, and tokio-postgres sends on first poll.
async fn put(
    client: &Client,
    request: &RightsRequest,
    headers: &str,
    statement_timeout_ms: &str,
) -> Result<Rights, Error> {
    let asked = request.asked;
    let topic = request.topic.sub_topic().unwrap_or_default();
    let settings = [topic, request.claims.as_str(), request.role.as_str(), headers];
    let read = Probes::of(asked.read);
    let [broadcast, presence] = [
        Extensions { presence: false, ..asked.write },
        Extensions { broadcast: false, ..asked.write },
    ]
    .map(Probes::of);
    let time_limit = [(&statement_timeout_ms as &(dyn ToSql + Sync), Type::TEXT)];
    let ids = [(&read.ids as &(dyn ToSql + Sync), Type::TEXT_ARRAY)];
    let begun = join4(
        client.batch_execute("begin"),
        client.query_typed(AS_OWNER, &time_limit),
        probe(client, &read, topic),
        as_client(client, settings),
    );
    let first = join4(
        client.query_typed(READ, &ids),
        client.batch_execute("savepoint broadcast"),
        probe(client, &broadcast, topic),
        client.batch_execute("rollback to savepoint broadcast"),
    );
    let second = join4(
        client.batch_execute("savepoint presence"),
        probe(client, &presence, topic),
        client.batch_execute("rollback to savepoint presence"),
        client.batch_execute("rollback"),
    );
    let ((begin, owner, probed, set), (rows, save, wrote, back), (save_2, wrote_2, back_2, end)) =
        join3(begun, first, second).await;
    begin?;
    owner?;
    probed?;
    set?;
    let is_read = |extension: &str, rows: &[SqlRow]| {
        rows.iter().any(|row| row.try_get::<_, String>(0).is_ok_and(|found| found == extension))
    };
    let rows = if asked.read.any() { rows? } else { Vec::new() };
    save?;
    let may_broadcast = is_written(wrote)?;
    back?;
    save_2?;
    let may_appear = is_written(wrote_2)?;
    back_2?;
    end?;
    Ok(Rights {
        read: Extensions {
            broadcast: asked.read.broadcast && is_read(BROADCAST, &rows),
            presence: asked.read.presence && is_read(PRESENCE, &rows),
        },
        write: Extensions {
            broadcast: asked.write.broadcast && may_broadcast,
            presence: asked.write.presence && may_appear,
        },
    })
}

async fn probe(client: &Client, probes: &Probes, topic: &str) -> Result<Vec<SqlRow>, Error> {
    let Probes { ids, extensions } = probes;
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(ids, Type::TEXT_ARRAY), (&topic, Type::TEXT), (extensions, Type::TEXT_ARRAY)];
    client.query_typed(PROBE, &parameters).await
}

async fn as_client(client: &Client, settings: [&str; 4]) -> Result<Vec<SqlRow>, Error> {
    let [topic, claims, role, headers] = &settings;
    client
        .query_typed(
            AS_CLIENT,
            &[(topic, Type::TEXT), (claims, Type::TEXT), (role, Type::TEXT), (headers, Type::TEXT)],
        )
        .await
}

/// Whether a row was written, or the policies, or missing privileges, said no.
fn is_written(outcome: Result<Vec<SqlRow>, Error>) -> Result<bool, Error> {
    match outcome {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
        Err(error) => Err(error),
    }
}

fn failure(error: &Error) -> RightsFailure {
    match error.code() {
        None => RightsFailure::Unavailable,
        Some(code) if is_connection_loss(code) => RightsFailure::Unavailable,
        Some(code)
            if *code == SqlState::QUERY_CANCELED || *code == SqlState::LOCK_NOT_AVAILABLE =>
        {
            RightsFailure::Cancelled
        }
        // Of the table itself there is only the check of payloads, which probes pass.
        Some(code) if *code == SqlState::CHECK_VIOLATION => RightsFailure::MissingPartition,
        Some(_) => RightsFailure::Refused,
    }
}
