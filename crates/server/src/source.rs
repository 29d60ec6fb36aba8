//! Keeps the slot streaming: connect, run, back off, resume.
//!
//! ```text
//!            ┌────────── back-off ◄───────────┐
//!            ▼                                │
//! start ── stream ── items ──► router         │ lost, restarted, terminated
//!   │        ▲                   │            │
//!   │        └── delivered ◄─────┘  acknowledged only then
//!   ├─ questions unanswered   → let go of the stream, start again
//!   ├─ slot active elsewhere  → standby, ask again
//!   └─ publication missing    → wait for it
//! ```

mod pace;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use walcast_change::Lsn;
use walcast_replicator::{
    Backoff, ConnectOptions, Continuity, ReplicationError, ReplicationOptions, ReplicationStream,
    Resume, SlotStart, Started, StreamItem,
};

use self::pace::{PAUSE, Pace};
use crate::{
    catalogue::keeper::CatalogueKeeper,
    error_chain::chain,
    http::{Condition, Health},
    messages::{
        PUBLICATION,
        keeper::{MessagesKeeper, Published},
    },
    router::{Feed, RouterHandle},
    telemetry::Metrics,
};

/// Items taken from the stream at a time: enough to keep the questions of many rows in one round
/// trip, few enough that memory stays small.
const BATCH_ITEMS_MAX: usize = 2_048;

/// Between looks at a slot that another process reads, or at a publication that is missing.
const STANDBY_PAUSE: Duration = Duration::from_secs(2);

/// How often the stream's feedback is looked after while the router is busy.
const FEEDBACK_INTERVAL: Duration = Duration::from_secs(1);

/// Looks at a database that answers no questions before the stream is given up. A PostgreSQL that
/// shuts down refuses new connections, yet waits for the stream to confirm everything, while rows
/// here wait for an answer from it; without this, each would wait for the other.
const UNANSWERED_TICKS_MAX: u32 = 2;

/// How long the end waits for rows that are being delivered.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// The keeper of the slot.
#[derive(Debug)]
pub struct Source {
    /// How PostgreSQL is reached.
    pub connect: ConnectOptions,
    /// The slot and publications.
    pub options: ReplicationOptions,
    /// Where the rows go.
    pub router: RouterHandle,
    /// Read once after each start, so that health tells whether it can be.
    pub catalogue: Arc<CatalogueKeeper>,
    /// Told whether the stream is up.
    pub health: Arc<Health>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What left the stream and is not with the router yet; one batch and a start at most.
    pub pending: VecDeque<Feed>,
    /// Sees to what messages from SQL need.
    pub messages: Arc<MessagesKeeper>,
    /// Up to where the stream goes without messages from SQL: the slot is older than their
    /// publication, and decodes each change with the catalogue of its time.
    pub without_messages_until: Option<Lsn>,
    /// The last such place that the stream has passed.
    pub passed: Lsn,
}

/// Why a stream ended without an error.
enum Ended {
    Shutdown,
    RouterGone,
    /// The database answers no questions, so nothing can be delivered.
    Unanswered,
    /// The stream can bring messages from SQL when it is started again.
    MessagesAppeared,
}

/// Counts looks at a database that answers no questions.
#[derive(Default)]
struct Unanswered(u32);

impl Unanswered {
    fn has_lasted(&mut self, health: &Health) -> bool {
        self.0 = if health.database() == Condition::Up { 0 } else { self.0 + 1 };
        self.0 > UNANSWERED_TICKS_MAX
    }
}

impl Source {
    /// Runs until `shutdown`; then confirms what was delivered.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut resume: Option<Resume> = None;
        let mut backoff = Backoff::default();
        let mut said = None;
        loop {
            let attempt = self.stream(&mut resume, &mut backoff, &mut said, &shutdown);
            let pause = match attempt.await {
                Ok(Ended::Shutdown | Ended::RouterGone) => return,
                Ok(Ended::MessagesAppeared) => {
                    self.passed = self.without_messages_until.take().unwrap_or(self.passed);
                    continue;
                }
                Ok(Ended::Unanswered) => {
                    let reason = "PostgreSQL answers no questions".to_owned();
                    self.health.set_stream(Condition::Down { reason });
                    self.metrics.reconnects.increment(1);
                    tracing::warn!("PostgreSQL answers no questions; the stream is started again");
                    backoff.next_delay(randomness())
                }
                Err(ReplicationError::PublicationMissing { name }) if name == PUBLICATION => {
                    // It is there, see `options`; the slot has yet to pass its creation.
                    self.without_messages_until = Some(Lsn::MAX);
                    tracing::info!("the slot is older than {name}; reading on without it");
                    continue;
                }
                Err(error) => {
                    self.health.set_stream(condition(&error));
                    self.options.recreate_slot |= is_stuck_without_publication(&error, &resume);
                    self.say_once(&error, &mut said);
                    pause_after(&error, &mut backoff)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn stream(
        &mut self,
        resume: &mut Option<Resume>,
        backoff: &mut Backoff,
        said: &mut Option<String>,
        shutdown: &CancellationToken,
    ) -> Result<Ended, ReplicationError> {
        self.health.set_messages(false);
        let options = tokio::select! {
            options = self.options() => options,
            () = shutdown.cancelled() => return Ok(Ended::Shutdown),
        };
        let brings_messages = options.publications.len() > self.options.publications.len();
        let starting = ReplicationStream::start(&self.connect, &options, resume.as_ref());
        let (mut stream, started) = tokio::select! {
            started = starting => started?,
            () = shutdown.cancelled() => return Ok(Ended::Shutdown),
        };
        self.options.recreate_slot = false;
        *said = None;
        self.welcome(&started);
        self.pending.push_back(Feed::Started(started.continuity));
        self.health.set_stream(Condition::Up);
        self.health.set_messages(brings_messages);
        self.check_database().await;
        let outcome = self.pump(&mut stream, brings_messages, backoff, shutdown).await;
        *resume = Some(stream.resume());
        match outcome {
            Ok(Ended::Shutdown) => {
                self.confirm(stream).await;
                Ok(Ended::Shutdown)
            }
            other => other,
        }
    }

    /// What the next stream is started with: the publication of messages from SQL, too, where it is
    /// there and the slot is not older.
    async fn options(&mut self) -> ReplicationOptions {
        let mut options = self.options.clone();
        match self.messages.prepare().await {
            Ok(Some(Published { since, written })) => match &mut self.without_messages_until {
                // The publication was created before the first of these places. A transaction that is
                // older may commit after it, so the next time takes a later one.
                Some(until) => *until = if since > self.passed { since } else { written },
                None => options.publications.push(PUBLICATION.to_owned()),
            },
            Ok(None) => self.without_messages_until = None,
            // What is wrong is told by the stream, which meets the same.
            Err(error) => {
                tracing::debug!("failed to look for {PUBLICATION}: {error:#}");
                if self.without_messages_until == Some(Lsn::MAX) {
                    // Where it was created is not known: the stream is started again soon, to look.
                    self.without_messages_until = Some(Lsn::ZERO);
                }
                if self.messages.is_published() && self.without_messages_until.is_none() {
                    options.publications.push(PUBLICATION.to_owned());
                }
            }
        }
        options
    }

    fn is_past_publication(&self, stream: &ReplicationStream) -> bool {
        self.without_messages_until.is_some_and(|until| stream.progress().acknowledged() >= until)
    }

    /// Moves items from the stream to the router, never without feedback in the meantime.
    async fn pump(
        &mut self,
        stream: &mut ReplicationStream,
        brings_messages: bool,
        backoff: &mut Backoff,
        shutdown: &CancellationToken,
    ) -> Result<Ended, ReplicationError> {
        let messages = Arc::clone(&self.messages);
        let waits_for_messages = !brings_messages && self.without_messages_until.is_none();
        let mut delivered = self.router.delivered.clone();
        let mut feedback = interval(FEEDBACK_INTERVAL);
        let mut items = Vec::new();
        let mut unanswered = Unanswered::default();
        let mut pace = Pace::default();
        let started = Instant::now();
        if let Some(ended) = self.hand_over(stream, shutdown).await? {
            return Ok(ended);
        }
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Ended::Shutdown),
                Ok(()) = delivered.changed() => acknowledge(stream, &mut delivered),
                _ = feedback.tick() => {
                    stream.feedback().await?;
                    self.measure(stream);
                    if unanswered.has_lasted(&self.health) {
                        return Ok(Ended::Unanswered);
                    }
                    if self.is_past_publication(stream) {
                        return Ok(Ended::MessagesAppeared);
                    }
                }
                () = messages.appeared(), if waits_for_messages => {
                    tracing::info!("{PUBLICATION} is there; the stream is started again with it");
                    return Ok(Ended::MessagesAppeared);
                }
                read = stream.next_batch(BATCH_ITEMS_MAX, &mut items) => {
                    let n_items = items.len();
                    if is_worth_sending(&items) {
                        // Also what arrived before an error: it will not be given out again.
                        self.pending.push_back(Feed::Items(std::mem::take(&mut items)));
                        if let Some(ended) = self.hand_over(stream, shutdown).await? {
                            return Ok(ended);
                        }
                    }
                    items.clear();
                    read?;
                    backoff.reset();
                    if pace.should_pause(started.elapsed(), n_items, BATCH_ITEMS_MAX) {
                        sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// Waits for room at the router for all that is pending, looking after feedback meanwhile. What
    /// could not be handed over stays pending: the stream does not give it out again.
    async fn hand_over(
        &mut self,
        stream: &mut ReplicationStream,
        shutdown: &CancellationToken,
    ) -> Result<Option<Ended>, ReplicationError> {
        let feeds = self.router.feeds.clone();
        let mut delivered = self.router.delivered.clone();
        let mut feedback = interval(FEEDBACK_INTERVAL);
        let mut unanswered = Unanswered::default();
        while !self.pending.is_empty() {
            tokio::select! {
                biased;
                permit = feeds.reserve() => match (permit, self.pending.pop_front()) {
                    (Ok(permit), Some(feed)) => permit.send(feed),
                    _ => return Ok(Some(Ended::RouterGone)),
                },
                () = shutdown.cancelled() => return Ok(Some(Ended::Shutdown)),
                Ok(()) = delivered.changed() => acknowledge(stream, &mut delivered),
                _ = feedback.tick() => {
                    stream.feedback().await?;
                    if unanswered.has_lasted(&self.health) {
                        return Ok(Some(Ended::Unanswered));
                    }
                }
            }
        }
        Ok(None)
    }

    /// At the end: waits a moment for what the router still delivers, then confirms the position.
    async fn confirm(&self, mut stream: ReplicationStream) {
        let mut delivered = self.router.delivered.clone();
        let until = Instant::now() + DRAIN_TIMEOUT;
        while self.router.feeds.capacity() < self.router.feeds.max_capacity() {
            if timeout(until - Instant::now(), delivered.changed()).await.is_err() {
                break;
            }
        }
        acknowledge(&mut stream, &mut delivered);
        match stream.finish().await {
            Ok(lsn) => tracing::info!(%lsn, "the slot's position is confirmed"),
            Err(error) => {
                tracing::warn!("failed to confirm the slot's position: {}", chain(&error));
            }
        }
    }

    fn welcome(&self, started: &Started) {
        let slot = self.options.slot.as_str();
        match &started.continuity {
            Continuity::Broken(why) => {
                self.metrics.slots_recreated.increment(1);
                tracing::warn!(slot, "continuity is broken, changes may be missing: {why}");
            }
            Continuity::FirstStart | Continuity::Unbroken => match started.slot {
                SlotStart::Resumed { confirmed } => {
                    tracing::info!(slot, from = %confirmed, "streaming");
                }
                SlotStart::Created { consistent_point } => {
                    tracing::info!(slot, from = %consistent_point, "streaming from a new slot");
                }
            },
        }
        if started.publication_tables == 0 {
            let publications = self.options.publications.join(", ");
            tracing::warn!(
                "the publication {publications} publishes no table: nothing will be delivered \
                 until one is added with: alter publication … add table …"
            );
        }
    }

    async fn check_database(&self) {
        if let Err(error) = self.catalogue.refreshed().await {
            tracing::warn!("failed to read the catalogue: {error:#}");
        }
    }

    fn measure(&self, stream: &ReplicationStream) {
        let progress = stream.progress();
        let lag = progress.received().bytes_since(progress.acknowledged());
        self.metrics.slot_lag_bytes.set(f64_from(lag));
    }

    fn say_once(&self, error: &ReplicationError, said: &mut Option<String>) {
        let text = chain(error);
        if said.as_ref() == Some(&text) {
            return;
        }
        match error {
            ReplicationError::SlotActive { .. } => {
                tracing::info!("standing by: {text}");
            }
            ReplicationError::PublicationMissing { .. } => {
                tracing::warn!("waiting for the publication: {text}");
            }
            ReplicationError::Transient(_)
            | ReplicationError::Definite(_)
            | ReplicationError::Decode(_)
            | ReplicationError::Wire(_) => {
                self.metrics.reconnects.increment(1);
                tracing::error!("the stream is down, will try again: {text}");
            }
        }
        *said = Some(text);
    }
}

fn acknowledge(stream: &mut ReplicationStream, delivered: &mut watch::Receiver<Lsn>) {
    let end = *delivered.borrow_and_update();
    if end > Lsn::ZERO {
        stream.handed_over(end);
    }
}

/// Keepalives alone are the stream's own business; everything else must pass the router, commits
/// without rows included, since their end is what gets acknowledged.
fn is_worth_sending(items: &[StreamItem]) -> bool {
    items.iter().any(|item| !matches!(item, StreamItem::Keepalive { .. }))
}

/// A publication that is missing for a running stream leaves its slot stuck at a time without it.
fn is_stuck_without_publication(error: &ReplicationError, resume: &Option<Resume>) -> bool {
    matches!(error, ReplicationError::PublicationMissing { .. }) && resume.is_some()
}

fn pause_after(error: &ReplicationError, backoff: &mut Backoff) -> Duration {
    match error {
        ReplicationError::SlotActive { .. } | ReplicationError::PublicationMissing { .. } => {
            STANDBY_PAUSE
        }
        ReplicationError::Transient(_)
        | ReplicationError::Definite(_)
        | ReplicationError::Decode(_)
        | ReplicationError::Wire(_) => backoff.next_delay(randomness()),
    }
}

/// Spreads the reconnects of several servers; needs no quality.
fn randomness() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(Instant::now())
}

/// What `/healthcheck` says; details that name addresses and roles go to the log only.
fn condition(error: &ReplicationError) -> Condition {
    match error {
        ReplicationError::SlotActive { .. } => {
            Condition::Standby { reason: "another process reads the replication slot".to_owned() }
        }
        ReplicationError::PublicationMissing { name } => {
            Condition::Down { reason: format!("the publication \"{name}\" does not exist") }
        }
        ReplicationError::Transient(_)
        | ReplicationError::Definite(_)
        | ReplicationError::Decode(_)
        | ReplicationError::Wire(_) => Condition::Down {
            reason: "the replication stream cannot be read; see the log".to_owned(),
        },
    }
}

/// Exact up to 2^53, which is more than any log retains.
#[expect(clippy::cast_precision_loss, reason = "a gauge takes floating point")]
fn f64_from(bytes: u64) -> f64 {
    bytes as f64
}
