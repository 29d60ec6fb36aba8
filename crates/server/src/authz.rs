//! The questions only PostgreSQL can answer.
//!
//! A question is a boolean expression over row images: a table's policies as they concern an
//! audience, or a filter that only PostgreSQL can compare. The images are given as values, so what
//! happened to the rows since their commit plays no part:
//!
//! ```sql
//! begin read only;
//! select set_config('statement_timeout', …), set_config('jit', 'off', …),
//!        set_config('request.jwt.claims', …), set_config('role', …);
//! select (select (EXPRESSION) from unnest(array[image::"s"."t"]) as "t")
//! from unnest($1::text[]) with ordinality as rows(image, position) order by position;
//! rollback;
//! ```
//!
//! `unnest` of an array of the table's row type gives an alias whose whole-row value has that very
//! type, so that expressions that pass the row to a function work, too.
//! All questions of a batch are sent at once, pipelined over a few connections. Each is a
//! transaction of its own: an error or a time-out denies that audience and harms nobody else.

mod image;

use std::{
    collections::HashSet,
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::{join_all, join4};
use tokio_postgres::{
    Client, Error, Row as SqlRow,
    error::SqlState,
    types::{ToSql, Type},
};
use walcast_filters::claims::Audience;
use walcast_replicator::ConnectOptions;

pub use self::image::composite_literal;
use crate::{
    catalogue::KnownTable,
    database::{self, quote_identifier},
    http::{Condition, Health},
    telemetry::Metrics,
};

/// Questions in flight on one connection at a time.
const IN_FLIGHT_MAX: usize = 64;

/// Filters in flight on one connection at a time: each may take its whole time limit.
const FILTERS_IN_FLIGHT_MAX: usize = 8;

/// How often a question is asked again on a new connection after its connection broke. A statement
/// that takes the server down each time must not hold the stream for ever.
const ATTEMPTS_MAX: usize = 5;

/// How many time limits may pass while the rows of one failed question are told apart.
const PARTS_TIMEOUTS: u32 = 4;

/// How many time limits may pass for the filters of one batch. Clients choose filters: one that takes
/// long must not hold up the stream.
const FILTER_TIMEOUTS: u32 = 4;

const VISIBLE: &str = include_str!("authz/visible.sql");

/// How long a commit may stay invisible: with synchronous replication it waits for the standbys.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Between looks at whether a commit is visible; it nearly always is at the first.
const VISIBLE_PAUSE: Duration = Duration::from_millis(1);

/// Between attempts to connect again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// Errors that are logged once each; past this many different ones only the counter tells.
const LOGGED_MAX: usize = 1_000;

/// The helpers' names in a question. No column has them, so that an expression over a column that
/// was renamed meanwhile raises and is not taken to mean a helper.
const ROWS: &str = "\"walcast: rows\"";
const IMAGE: &str = "\"walcast: image\"";
const POSITION: &str = "\"walcast: position\"";

/// An expression to evaluate over row images.
#[derive(Clone, Debug)]
pub struct Question {
    /// As whom; `None` is walcast's own login, for filters.
    pub audience: Option<Arc<Audience>>,
    /// The table whose row type the images have.
    pub guard: Arc<KnownTable>,
    /// The boolean expression; NULL counts as false.
    pub expression: Arc<str>,
    /// Composite literals, see [`composite_literal`].
    pub images: Vec<Arc<str>>,
}

/// Asks PostgreSQL over a few connections of its own.
#[derive(Debug)]
pub struct Authorizer {
    connect: ConnectOptions,
    statement_timeout: Duration,
    statement_timeout_ms: String,
    lanes: Vec<tokio::sync::Mutex<Option<Client>>>,
    logged: Mutex<HashSet<(String, String)>>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

enum Failure {
    /// The connection broke; the answer is unknown.
    Connection,
    /// PostgreSQL refused or raised.
    Statement(SqlState),
}

impl Authorizer {
    /// An authorizer with `n_connections` connections, opened when first needed.
    #[must_use]
    pub fn new(
        connect: ConnectOptions,
        n_connections: usize,
        statement_timeout: Duration,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let lanes = (0..n_connections.max(1)).map(|_| tokio::sync::Mutex::new(None)).collect();
        Self {
            connect,
            statement_timeout,
            statement_timeout_ms: statement_timeout.as_millis().max(1).to_string(),
            lanes,
            logged: Mutex::default(),
            health,
            metrics,
        }
    }

    /// One answer per image of each question: whether the expression is true.
    ///
    /// Waits while PostgreSQL cannot be reached; an error or a time-out of the statement is false.
    pub async fn ask(&self, questions: &[Question]) -> Vec<Vec<bool>> {
        let mut answers: Vec<Vec<bool>> =
            questions.iter().map(|question| vec![false; question.images.len()]).collect();
        let n_lanes = self.lanes.len();
        let shares = (0..n_lanes).map(|lane| {
            let share: Vec<(usize, &Question)> =
                questions.iter().enumerate().skip(lane).step_by(n_lanes).collect();
            self.ask_on_lane(lane, share)
        });
        for (index, answer) in join_all(shares).await.into_iter().flatten() {
            if let Some(slot) = answers.get_mut(index) {
                *slot = answer;
            }
        }
        answers
    }

    async fn ask_on_lane(
        &self,
        lane: usize,
        share: Vec<(usize, &Question)>,
    ) -> Vec<(usize, Vec<bool>)> {
        let mut answers = Vec::with_capacity(share.len());
        let Some(lane) = self.lanes.get(lane) else { return answers };
        if share.is_empty() {
            return answers;
        }
        let mut client = lane.lock().await;
        let (filters, policies): (Vec<_>, Vec<_>) =
            share.into_iter().partition(|(_, question)| question.audience.is_none());
        for flight in policies.chunks(IN_FLIGHT_MAX) {
            answers.extend(self.fly(&mut client, flight).await);
        }
        let until = Instant::now() + self.statement_timeout * FILTER_TIMEOUTS;
        for flight in filters.chunks(FILTERS_IN_FLIGHT_MAX) {
            if Instant::now() < until {
                answers.extend(self.fly(&mut client, flight).await);
            } else {
                // What is not answered is no.
                flight.iter().for_each(|(_, filter)| self.note(filter, &SqlState::QUERY_CANCELED));
            }
        }
        answers
    }

    /// Asks the questions of one flight, and again those whose connection broke.
    async fn fly(
        &self,
        client: &mut Option<Client>,
        flight: &[(usize, &Question)],
    ) -> Vec<(usize, Vec<bool>)> {
        let mut answers = Vec::with_capacity(flight.len());
        let mut open: Vec<(usize, &Question)> = flight.to_vec();
        for _ in 0..ATTEMPTS_MAX {
            let connected = self.connected(client).await;
            let asked = open.iter().map(|(_, question)| {
                evaluate(connected, question, &question.images, &self.statement_timeout_ms)
            });
            let outcomes = join_all(asked).await;
            let mut unanswered = Vec::new();
            for ((index, question), outcome) in open.into_iter().zip(outcomes) {
                match outcome {
                    Ok(answer) => answers.push((index, answer)),
                    Err(Failure::Connection) => unanswered.push((index, question)),
                    Err(Failure::Statement(code)) => {
                        self.note(question, &code);
                        let is_slow_filter =
                            question.audience.is_none() && code == SqlState::QUERY_CANCELED;
                        if is_slow_filter {
                            answers.push((index, vec![false; question.images.len()]));
                            continue;
                        }
                        match self.ask_in_parts(connected, question).await {
                            Ok(answer) => answers.push((index, answer)),
                            Err(_) => unanswered.push((index, question)),
                        }
                    }
                }
            }
            if unanswered.is_empty() {
                return answers;
            }
            open = unanswered;
            *client = None;
        }
        for (index, question) in open {
            self.note(question, &SqlState::CONNECTION_FAILURE);
            answers.push((index, vec![false; question.images.len()]));
        }
        answers
    }

    /// After an error or a time-out of a whole question, finds the rows it was about by halving it.
    /// Rows for which there is no time left are denied.
    async fn ask_in_parts(
        &self,
        client: &Client,
        question: &Question,
    ) -> Result<Vec<bool>, Failure> {
        let mut answers = vec![false; question.images.len()];
        let until = Instant::now() + self.statement_timeout * PARTS_TIMEOUTS;
        let mut parts = halves(0..question.images.len());
        while let Some(part) = parts.pop() {
            let Some(images) = question.images.get(part.clone()) else { continue };
            if Instant::now() >= until {
                break;
            }
            match evaluate(client, question, images, &self.statement_timeout_ms).await {
                Ok(answer) => {
                    for (slot, answer) in answers.iter_mut().skip(part.start).zip(answer) {
                        *slot = answer;
                    }
                }
                Err(Failure::Connection) => return Err(Failure::Connection),
                Err(Failure::Statement(_)) => parts.extend(halves(part)),
            }
        }
        Ok(answers)
    }

    /// The lane's connection; opens one, for as long as that takes.
    async fn connected<'a>(&self, client: &'a mut Option<Client>) -> &'a Client {
        if client.as_ref().is_some_and(Client::is_closed) {
            *client = None;
        }
        let opened = match client.take() {
            Some(open) => open,
            None => self.open().await,
        };
        client.insert(opened)
    }

    async fn open(&self) -> Client {
        loop {
            match database::connect(&self.connect).await {
                Ok(opened) => {
                    self.health.set_database(Condition::Up);
                    return opened;
                }
                Err(error) => {
                    let reason = "PostgreSQL cannot be asked for verdicts".to_owned();
                    self.health.set_database(Condition::Down { reason });
                    tracing::warn!(
                        "failed to ask PostgreSQL for verdicts, will try again: {error:#}"
                    );
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
            }
        }
    }

    fn note(&self, question: &Question, code: &SqlState) {
        self.metrics.authorization_errors.increment(1);
        let table = &question.guard.table;
        let place = format!("{}.{}", table.schema, table.name);
        let Ok(mut logged) = self.logged.lock() else { return };
        let is_new =
            logged.len() < LOGGED_MAX && logged.insert((place.clone(), code.code().to_owned()));
        if is_new {
            // The error's text can quote row values and claims; its code cannot.
            let role = question.audience.as_ref().map_or("", |audience| audience.role.as_str());
            tracing::warn!(
                table = place,
                role,
                sqlstate = code.code(),
                "a policy or filter raised an error or timed out; its rows are withheld from that \
                 subscriber (said once per table and code)"
            );
        }
    }

    /// Waits until questions see what these transactions wrote.
    ///
    /// PostgreSQL sends a transaction as soon as its commit is in the log, which is a moment before
    /// other sessions see it. A policy that reads another table, and the catalogue, would be asked
    /// too early.
    pub async fn wait_until_visible(&self, transactions: &[u32]) {
        let transactions: Vec<i64> = transactions.iter().copied().map(i64::from).collect();
        let Some(lane) = self.lanes.first() else { return };
        let mut client = lane.lock().await;
        let until = Instant::now() + VISIBLE_TIMEOUT;
        loop {
            let connected = self.connected(&mut client).await;
            let asked = connected.query_typed(VISIBLE, &[(&transactions, Type::INT8_ARRAY)]).await;
            match asked {
                Ok(rows) => {
                    if rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false)) {
                        return;
                    }
                    if Instant::now() >= until {
                        tracing::warn!("a commit stayed invisible; its rows are judged without it");
                        return;
                    }
                    tokio::time::sleep(VISIBLE_PAUSE).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to ask PostgreSQL for its snapshot, will try again");
                    *client = None;
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
            }
        }
    }

    /// Evaluates an expression that raises when an operand is unusable; used when somebody
    /// subscribes.
    ///
    /// # Errors
    /// PostgreSQL's error.
    pub async fn verify(&self, expression: &str) -> Result<(), Error> {
        let sql = format!("select {expression}");
        let Some(lane) = self.lanes.first() else { return Ok(()) };
        let mut client = lane.lock().await;
        let connected = self.connected(&mut client).await;
        let (begin, settings, verified, end) = join4(
            connected.batch_execute("begin read only"),
            settings(connected, None, &self.statement_timeout_ms),
            connected.query_typed(&sql, &[]),
            connected.batch_execute("rollback"),
        )
        .await;
        begin?;
        settings?;
        end?;
        verified.map(|_| ())
    }
}

/// The two halves of a range; nothing for one of a single row, which is judged by then.
fn halves(range: Range<usize>) -> Vec<Range<usize>> {
    if range.len() < 2 {
        return Vec::new();
    }
    let middle = range.start + range.len() / 2;
    // The first half is taken first.
    vec![middle..range.end, range.start..middle]
}

/// Sends one question as one transaction. The four statements leave together on the first poll, in
/// order: `join4` polls in argument order, and tokio-postgres sends on first poll.
async fn evaluate(
    client: &Client,
    question: &Question,
    images: &[Arc<str>],
    statement_timeout_ms: &str,
) -> Result<Vec<bool>, Failure> {
    let table = &question.guard.table;
    let (schema, name) = (quote_identifier(&table.schema), quote_identifier(&table.name));
    let sql = format!(
        "select (select ({}) \
                 from pg_catalog.unnest(array[{IMAGE}::{schema}.{name}]) as {name}) \
         from pg_catalog.unnest($1) with ordinality as {ROWS}({IMAGE}, {POSITION}) \
         order by {POSITION}",
        question.expression
    );
    let images: Vec<&str> = images.iter().map(AsRef::as_ref).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&images, Type::TEXT_ARRAY)];
    let (begin, settings, answer, end) = join4(
        client.batch_execute("begin read only"),
        settings(client, question.audience.as_deref(), statement_timeout_ms),
        client.query_typed(&sql, &parameters),
        client.batch_execute("rollback"),
    )
    .await;
    begin.map_err(failure)?;
    settings.map_err(failure)?;
    let rows = answer.map_err(failure)?;
    end.map_err(failure)?;
    let is_true = |row: &SqlRow| row.try_get::<_, Option<bool>>(0).ok().flatten() == Some(true);
    Ok(rows.iter().map(is_true).collect())
}

async fn settings(
    client: &Client,
    audience: Option<&Audience>,
    statement_timeout_ms: &str,
) -> Result<Vec<SqlRow>, Error> {
    // Compilation takes longer than any question should.
    let set = "select pg_catalog.set_config('statement_timeout', $1, true), \
               pg_catalog.set_config('jit', 'off', true)";
    let Some(audience) = audience else {
        return client.query_typed(set, &[(&statement_timeout_ms, Type::TEXT)]).await;
    };
    let sql = format!(
        "{set}, pg_catalog.set_config('request.jwt.claims', $2, true), \
         pg_catalog.set_config('role', $3, true)"
    );
    let claims = audience.claims.as_str();
    let role = audience.role.as_str();
    client
        .query_typed(
            &sql,
            &[(&statement_timeout_ms, Type::TEXT), (&claims, Type::TEXT), (&role, Type::TEXT)],
        )
        .await
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn failure(error: Error) -> Failure {
    match error.code() {
        None => Failure::Connection,
        Some(code) if is_connection_loss(code) => Failure::Connection,
        Some(code) => Failure::Statement(code.clone()),
    }
}

/// Class 08, and the server shutting down, crashing or starting.
fn is_connection_loss(code: &SqlState) -> bool {
    code.code().starts_with("08")
        || [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW]
            .contains(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_cover_a_range_once() {
        let (mut parts, mut singles) = (halves(0..7), Vec::new());
        while let Some(part) = parts.pop() {
            if part.len() == 1 {
                singles.push(part.start);
            }
            parts.extend(halves(part));
        }
        assert_eq!(singles, [0, 1, 2, 3, 4, 5, 6]);
        assert!(halves(3..4).is_empty() && halves(3..3).is_empty());
    }
}
