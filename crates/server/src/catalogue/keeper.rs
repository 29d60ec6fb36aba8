//! Keeps the newest snapshot and reads another when it is too old.
//!
//! Nothing is read while nothing changes: a snapshot is refreshed by whoever needs a young one, a
//! row event or a subscription, so an idle server sends no SQL.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio_postgres::Client;
use walcast_filters::claims::Role;
use walcast_replicator::ConnectOptions;

use crate::{
    catalogue::{
        Catalogue, read,
        reading::{Place, Reading},
    },
    database,
    http::{Condition, Health},
    telemetry::Metrics,
};

/// How many different roles are kept; tokens name them, so the number must be bounded.
const ROLES_MAX: usize = 1_000;

/// The newest snapshot, shared by the router and by those who subscribe.
#[derive(Debug)]
pub struct CatalogueKeeper {
    connect: ConnectOptions,
    publications: Vec<String>,
    max_age: Duration,
    newest: ArcSwap<Reading>,
    last_generation: AtomicU64,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    reader: Arc<Mutex<Reader>>,
}

#[derive(Debug)]
struct Reader {
    client: Option<Client>,
    roles: BTreeSet<Role>,
}

impl CatalogueKeeper {
    /// A keeper without a snapshot; the first use reads one.
    #[must_use]
    pub fn new(
        connect: ConnectOptions,
        publications: Vec<String>,
        max_age: Duration,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let reader = Reader { client: None, roles: BTreeSet::new() };
        Self {
            connect,
            publications,
            max_age,
            newest: ArcSwap::default(),
            last_generation: AtomicU64::new(0),
            health,
            metrics,
            reader: Arc::new(Mutex::new(reader)),
        }
    }

    /// The newest snapshot, however old.
    #[must_use]
    pub fn current(&self) -> Arc<Catalogue> {
        Arc::clone(&self.newest.load().catalogue)
    }

    /// The newest reading, however old.
    #[must_use]
    pub fn newest(&self) -> Arc<Reading> {
        self.newest.load_full()
    }

    /// A number for a catalogue that no other has.
    pub fn next_generation(&self) -> u64 {
        self.last_generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A reading no older than the configured age. Past half of that age another one begins in the
    /// background, so that a steady flow of rows never waits for it.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached or its catalogue cannot be read.
    pub async fn fresh(self: &Arc<Self>) -> anyhow::Result<Arc<Reading>> {
        if let Some(age) = self.age() {
            if age < self.max_age / 2 {
                return Ok(self.newest());
            }
            if age < self.max_age {
                self.read_in_background();
                return Ok(self.newest());
            }
        }
        let mut reader = self.reader.lock().await;
        if self.age().is_some_and(|age| age < self.max_age) {
            return Ok(self.newest());
        }
        self.read(&mut reader).await
    }

    /// A reading that began after this call.
    ///
    /// # Errors
    /// As [`Self::fresh`].
    pub async fn refreshed(&self) -> anyhow::Result<Arc<Reading>> {
        self.read_since(Instant::now()).await
    }

    /// A reading that began after `since`.
    ///
    /// # Errors
    /// As [`Self::fresh`].
    pub async fn read_since(&self, since: Instant) -> anyhow::Result<Arc<Reading>> {
        let newest = self.newest();
        if newest.began.is_some_and(|began| began > since) {
            return Ok(newest);
        }
        let mut reader = self.reader.lock().await;
        if self.newest.load().began.is_some_and(|began| began > since) {
            return Ok(self.newest());
        }
        self.read(&mut reader).await
    }

    /// A fresh snapshot that knows about `role`.
    ///
    /// # Errors
    /// As [`Self::fresh`]; and when too many different roles are in use.
    pub async fn with_role(&self, role: &Role) -> anyhow::Result<Arc<Catalogue>> {
        let mut reader = self.reader.lock().await;
        let is_known = reader.roles.contains(role);
        let is_read = self.current().roles.contains_key(role);
        if is_known && is_read && self.age().is_some_and(|age| age < self.max_age) {
            return Ok(self.current());
        }
        if !is_known {
            anyhow::ensure!(
                reader.roles.len() < ROLES_MAX,
                "know another role: {ROLES_MAX} different roles are in use already"
            );
            reader.roles.insert(role.clone());
        }
        let snapshot = Arc::clone(&self.read(&mut reader).await?.catalogue);
        // A role that does not exist is not kept, so that made-up names do not fill the list.
        if snapshot.role(role).is_none() {
            reader.roles.remove(role);
        }
        Ok(snapshot)
    }

    fn age(&self) -> Option<Duration> {
        self.newest.load().began.map(|began| began.elapsed())
    }

    /// Starts to read unless somebody reads already.
    pub fn read_in_background(self: &Arc<Self>) {
        let Ok(mut reader) = Arc::clone(&self.reader).try_lock_owned() else { return };
        let keeper = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = keeper.read(&mut reader).await {
                tracing::warn!("failed to read the catalogue: {error:#}");
            }
        });
    }

    async fn read(&self, reader: &mut Reader) -> anyhow::Result<Arc<Reading>> {
        let began = Instant::now();
        // A connection that broke shows it at its next use; one new connection is tried then.
        let was_connected = reader.client.is_some();
        let outcome = match self.read_once(reader).await {
            Err(_) if was_connected => {
                reader.client = None;
                self.read_once(reader).await
            }
            outcome => outcome,
        };
        match &outcome {
            Ok(_) => self.health.set_database(Condition::Up),
            Err(_) => {
                reader.client = None;
                // The error's own text may name addresses and roles; it goes to the log only.
                let reason = "PostgreSQL's catalogue cannot be read".to_owned();
                self.health.set_database(Condition::Down { reason });
            }
        }
        let (catalogue, place) = outcome?;
        self.metrics.catalogue_refreshes.increment(1);
        let reading = Arc::new(Reading { catalogue, place, began: Some(began) });
        self.newest.store(Arc::clone(&reading));
        Ok(reading)
    }

    async fn read_once(&self, reader: &mut Reader) -> anyhow::Result<(Arc<Catalogue>, Place)> {
        if reader.client.as_ref().is_none_or(Client::is_closed) {
            reader.client = Some(database::connect(&self.connect).await?);
        }
        let Some(client) = reader.client.as_mut() else {
            anyhow::bail!("connect to PostgreSQL: no connection");
        };
        let previous = self.current();
        let (read, place) =
            read::catalogue(client, &self.publications, &previous, &reader.roles).await?;
        // What is derived from a catalogue is kept for as long as it says the same.
        if read.says_the_same(&previous) {
            return Ok((previous, place));
        }
        let mut catalogue = read.sharing(&previous);
        catalogue.generation = self.next_generation();
        Ok((Arc::new(catalogue), place))
    }
}
