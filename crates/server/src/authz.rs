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
//! Each question is a transaction of its own: an error or a time-out denies that audience and harms
//! nobody else. Questions with one expression fly together, pipelined over a connection; an
//! expression that was slow flies on a connection apart, so that it holds up only its own like.

mod channels;
mod evaluate;
mod image;
mod lanes;
mod outdated;
mod pace;
pub mod rules;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::{join_all, join4};
use tokio_postgres::{Client, Error, error::SqlState, types::Type};
use walcast_filters::claims::Audience;
use walcast_replicator::ConnectOptions;

pub use self::image::composite_literal;
use self::{
    evaluate::{Failure, Words, evaluate, evaluate_members, halves, settings},
    lanes::{Lane, Lanes, RECONNECT_PAUSE},
    outdated::{Renewal, Renewed, is_sign},
    pace::{Expression, Pace, Paces},
    rules::RulesKeeper,
};
use crate::{
    catalogue::{KnownTable, keeper::CatalogueKeeper},
    http::Health,
    telemetry::Metrics,
};

/// Questions in flight on one connection at a time.
const QUICK_IN_FLIGHT: usize = 64;

/// As long as nobody knows how long they take: each may take its whole time limit.
const UNKNOWN_IN_FLIGHT: usize = 2;

/// Slow questions in flight.
const SLOW_IN_FLIGHT: usize = 8;

/// How often a question is asked again on a new connection after its connection broke. A statement
/// that takes the server down each time must not hold its rows for ever.
const ATTEMPTS_MAX: usize = 5;

/// How many time limits may pass while the rows of one failed question are told apart.
const PARTS_TIMEOUTS: u32 = 4;

/// How many time limits slow questions may spend before one that waits for them is denied: whoever
/// has a slow policy does not wait for ever either.
const SLOW_TIMEOUTS: u32 = 4;

/// Connections for what private channels may do; a join takes less than a millisecond of one.
const CHANNEL_CONNECTIONS: usize = 2;

const VISIBLE: &str = include_str!("authz/visible.sql");

/// How long a commit may stay invisible: with synchronous replication it waits for the standbys.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Between looks at whether a commit is visible; it nearly always is at the first.
const VISIBLE_PAUSE: Duration = Duration::from_millis(1);

/// Errors that are logged once each; past this many different ones only the counter tells.
const LOGGED_MAX: usize = 1_000;

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
    statement_timeout: Duration,
    statement_timeout_ms: String,
    quick: Lanes,
    /// For slow expressions; none when there is but one connection.
    slow: Option<Lanes>,
    /// For what must not wait behind any question.
    own: Lanes,
    /// For what private channels may do, apart from all questions about rows.
    channels: Lanes,
    /// For topics whose policies are slow.
    slow_channels: Lanes,
    /// What is known of their policies; none when PostgreSQL is asked each time.
    channel_rules: Option<Arc<RulesKeeper>>,
    paces: Paces,
    /// For questions that a change of definitions has overtaken.
    renewal: Option<Renewal>,
    /// How long slow questions have been executing altogether.
    slow_spent: Mutex<Duration>,
    logged: Mutex<HashSet<(String, String)>>,
    metrics: Arc<Metrics>,
}

/// Questions by their numbers.
type Numbered<'a> = Vec<(usize, &'a Question)>;

/// An answer per image, by the question's number.
type Answered = Vec<(usize, Vec<bool>)>;

impl Authorizer {
    /// An authorizer with `n_connections` connections for questions and one more, opened when first
    /// needed.
    #[must_use]
    pub fn new(
        connect: ConnectOptions,
        n_connections: usize,
        statement_timeout: Duration,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let lanes = |n_lanes| Lanes::new(connect.clone(), Arc::clone(&health), n_lanes);
        let quick = lanes(n_connections.saturating_sub(1));
        let slow = (n_connections > 1).then(|| lanes(1));
        Self {
            statement_timeout,
            statement_timeout_ms: statement_timeout.as_millis().max(1).to_string(),
            quick,
            slow,
            channels: lanes(CHANNEL_CONNECTIONS),
            slow_channels: lanes(1),
            channel_rules: None,
            own: Lanes::new(connect, health, 1),
            paces: Paces::default(),
            renewal: None,
            slow_spent: Mutex::default(),
            logged: Mutex::default(),
            metrics,
        }
    }

    /// The same with a catalogue to look into when a change of definitions has overtaken a question.
    #[must_use]
    pub fn looking_into(self, catalogue: Arc<CatalogueKeeper>) -> Self {
        Self { renewal: Some(Renewal::new(catalogue)), ..self }
    }

    /// The same with rules of private channels that may decide without PostgreSQL.
    #[must_use]
    pub fn knowing(self, rules: Arc<RulesKeeper>) -> Self {
        Self { channel_rules: Some(rules), ..self }
    }

    /// One answer per image of each question: whether the expression is true.
    ///
    /// Waits while PostgreSQL cannot be reached; an error or a time-out of the statement is false.
    pub async fn ask(&self, questions: &[Question]) -> Vec<Vec<bool>> {
        let mut by_expression: HashMap<Expression, Numbered<'_>> = HashMap::new();
        for (number, question) in questions.iter().enumerate() {
            let expression = (question.guard.table.id, Arc::clone(&question.expression));
            by_expression.entry(expression).or_default().push((number, question));
        }
        let slow_spent = self.slow_spent();
        let asked = by_expression
            .into_iter()
            .map(|(expression, asked)| self.ask_alike(expression, asked, slow_spent));
        let mut answers: Vec<Vec<bool>> =
            questions.iter().map(|question| vec![false; question.images.len()]).collect();
        for (number, answer) in join_all(asked).await.into_iter().flatten() {
            if let Some(slot) = answers.get_mut(number) {
                *slot = answer;
            }
        }
        answers
    }

    /// The members that the question's expression lists, for each image; `None` when that raised or
    /// took too long. Nobody is denied anything by that.
    pub async fn members(&self, question: &Question) -> Option<Vec<Option<Vec<String>>>> {
        let expression = (question.guard.table.id, Arc::clone(&question.expression));
        let slow = self.slow.as_ref().filter(|_| self.paces.of(&expression) == Pace::Slow);
        let mut lane = slow.unwrap_or(&self.quick).take().await;
        for _ in 0..ATTEMPTS_MAX {
            let client = lane.connected().await;
            let started = Instant::now();
            let members = evaluate_members(client, question, &self.statement_timeout_ms).await;
            self.paces.note(&expression, 1, started.elapsed());
            match members {
                Ok(members) => return Some(members),
                Err(Failure::Statement(_)) => return None,
                Err(Failure::Connection) => lane.close(),
            }
        }
        None
    }

    /// Asks the questions with one expression.
    async fn ask_alike(
        &self,
        expression: Expression,
        mut asked: Numbered<'_>,
        slow_spent: Duration,
    ) -> Answered {
        let mut answers = Vec::with_capacity(asked.len());
        while !asked.is_empty() {
            let pace = self.paces.of(&expression);
            if pace == Pace::Quick {
                let flights = asked.chunks(QUICK_IN_FLIGHT);
                let flown = flights.map(|flight| self.fly(&self.quick, &expression, flight));
                answers.extend(join_all(flown).await.into_iter().flatten());
                return answers;
            }
            let n_flying = if pace == Pace::Slow { SLOW_IN_FLIGHT } else { UNKNOWN_IN_FLIGHT };
            let later = asked.split_off(n_flying.min(asked.len()));
            let flight = std::mem::replace(&mut asked, later);
            match self.slow.as_ref().filter(|_| pace == Pace::Slow) {
                Some(slow) => {
                    answers.extend(self.fly_slowly(slow, &expression, &flight, slow_spent).await);
                }
                None => answers.extend(self.fly(&self.quick, &expression, &flight).await),
            }
        }
        answers
    }

    /// Asks slow questions when it is their turn, if that comes soon enough.
    async fn fly_slowly(
        &self,
        lanes: &Lanes,
        expression: &Expression,
        flight: &[(usize, &Question)],
        slow_spent: Duration,
    ) -> Answered {
        let lane = lanes.take().await;
        if self.slow_spent().saturating_sub(slow_spent) > self.statement_timeout * SLOW_TIMEOUTS {
            // What is not answered is no.
            flight.iter().for_each(|(_, question)| self.note(question, &SqlState::QUERY_CANCELED));
            return Vec::new();
        }
        let started = Instant::now();
        let answers = self.fly_on(lane, expression, flight).await;
        if let Ok(mut spent) = self.slow_spent.lock() {
            *spent += started.elapsed();
        }
        answers
    }

    async fn fly(
        &self,
        lanes: &Lanes,
        expression: &Expression,
        flight: &[(usize, &Question)],
    ) -> Answered {
        let lane = lanes.take().await;
        self.fly_on(lane, expression, flight).await
    }

    /// Asks the questions of one flight, and again those whose connection broke.
    async fn fly_on(
        &self,
        mut lane: Lane<'_>,
        expression: &Expression,
        flight: &[(usize, &Question)],
    ) -> Answered {
        let mut answers = Vec::with_capacity(flight.len());
        let mut open = flight.to_vec();
        for _ in 0..ATTEMPTS_MAX {
            let client = lane.connected().await;
            let started = Instant::now();
            let asked = open.iter().map(|(_, question)| {
                self.evaluate(client, question, &question.images, &Words::RowType)
            });
            let outcomes = join_all(asked).await;
            let failed_at = Instant::now();
            self.paces.note(expression, open.len(), failed_at.duration_since(started));
            let mut unanswered = Vec::new();
            for ((number, question), outcome) in open.into_iter().zip(outcomes) {
                match outcome {
                    Ok(answer) => answers.push((number, answer)),
                    Err(Failure::Connection) => unanswered.push((number, question)),
                    Err(Failure::Statement(code)) => {
                        let again = if is_sign(&code) {
                            self.ask_in_other_words(&mut lane, question, &code, failed_at).await
                        } else {
                            Ok(None)
                        };
                        match again {
                            Ok(None) => {}
                            Ok(Some(answer)) => {
                                answers.push((number, answer));
                                continue;
                            }
                            Err(_) => {
                                unanswered.push((number, question));
                                continue;
                            }
                        }
                        self.note(question, &code);
                        if question.audience.is_none() && code == SqlState::QUERY_CANCELED {
                            // Clients choose filters: one that takes long is not worth more time.
                            continue;
                        }
                        match self.ask_in_parts(&mut lane, question).await {
                            Ok(answer) => answers.push((number, answer)),
                            Err(_) => unanswered.push((number, question)),
                        }
                    }
                }
            }
            if unanswered.is_empty() {
                return answers;
            }
            open = unanswered;
            lane.close();
        }
        open.iter().for_each(|(_, question)| self.note(question, &SqlState::CONNECTION_FAILURE));
        answers
    }

    /// Asks a question that a change of definitions may have overtaken over the columns its rows were
    /// written with, and then in the newest catalogue's words. `None` when it raises in any.
    async fn ask_in_other_words(
        &self,
        lane: &mut Lane<'_>,
        question: &Question,
        code: &SqlState,
        failed_at: Instant,
    ) -> Result<Option<Vec<bool>>, Failure> {
        // A value that is written as a column's has the collation of its type.
        if question.guard.has_own_collation || question.guard.table.columns.is_empty() {
            return Ok(None);
        }
        let words = Words::Columns {
            expression: Arc::clone(&question.expression),
            table: Arc::clone(&question.guard),
        };
        let client = lane.connected().await;
        match self.evaluate(client, question, &question.images, &words).await {
            Ok(answer) => return Ok(Some(answer)),
            Err(Failure::Connection) => return Err(Failure::Connection),
            Err(Failure::Statement(_)) => {}
        }
        let Some(renewal) = &self.renewal else { return Ok(None) };
        if let Some(renewed) = renewal.known(question)
            && let Some(answer) = self.ask_renewed(lane, question, renewed).await?
        {
            return Ok(Some(answer));
        }
        match renewal.looked_up(question, code, failed_at).await {
            Some(renewed) => self.ask_renewed(lane, question, renewed).await,
            None => Ok(None),
        }
    }

    async fn ask_renewed(
        &self,
        lane: &mut Lane<'_>,
        question: &Question,
        renewed: Renewed,
    ) -> Result<Option<Vec<bool>>, Failure> {
        let words = match renewed {
            Renewed::Constant(answer) => return Ok(Some(vec![answer; question.images.len()])),
            Renewed::Expression(expression, table) => Words::Columns { expression, table },
        };
        let client = lane.connected().await;
        match self.evaluate(client, question, &question.images, &words).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Failure::Connection) => Err(Failure::Connection),
            Err(Failure::Statement(_)) => Ok(None),
        }
    }

    async fn evaluate(
        &self,
        client: &Client,
        question: &Question,
        images: &[Arc<str>],
        words: &Words,
    ) -> Result<Vec<bool>, Failure> {
        evaluate(client, question, images, words, &self.statement_timeout_ms).await
    }

    /// After an error or a time-out of a whole question, finds the rows it was about by halving it.
    /// Rows for which there is no time left are denied.
    async fn ask_in_parts(
        &self,
        lane: &mut Lane<'_>,
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
            let client = lane.connected().await;
            match self.evaluate(client, question, images, &Words::RowType).await {
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

    fn slow_spent(&self) -> Duration {
        self.slow_spent.lock().map_or(Duration::ZERO, |spent| *spent)
    }

    fn note(&self, question: &Question, code: &SqlState) {
        self.metrics.authorization_errors.increment(1);
        let table = &question.guard.table;
        let place = format!("{}.{}", table.schema, table.name);
        let role = question.audience.as_ref().map_or("", |audience| audience.role.as_str());
        self.say_once(&place, role, code);
    }

    /// Logs a failed question, once per table and code.
    fn say_once(&self, place: &str, role: &str, code: &SqlState) {
        let Ok(mut logged) = self.logged.lock() else { return };
        let is_new =
            logged.len() < LOGGED_MAX && logged.insert((place.to_owned(), code.code().to_owned()));
        if is_new {
            // The error's text can quote row values and claims; its code cannot.
            tracing::warn!(
                table = place,
                role,
                sqlstate = code.code(),
                "a policy or filter raised an error or timed out, which counts as a no (said once per \
                 table and code)"
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
        let mut lane = self.own.take().await;
        let until = Instant::now() + VISIBLE_TIMEOUT;
        loop {
            let client = lane.connected().await;
            match client.query_typed(VISIBLE, &[(&transactions, Type::INT8_ARRAY)]).await {
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
                    lane.close();
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
        let mut lane = self.quick.take().await;
        let client = lane.connected().await;
        let (begin, settings, verified, end) = join4(
            client.batch_execute("begin read only"),
            settings(client, None, &self.statement_timeout_ms),
            client.query_typed(&sql, &[]),
            client.batch_execute("rollback"),
        )
        .await;
        begin?;
        settings?;
        end?;
        verified.map(|_| ())
    }
}
