//! A few connections that questions take turns on.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::Semaphore;
use tokio_postgres::Client;
use walcast_replicator::ConnectOptions;

use crate::{
    database,
    http::{Condition, Health},
};

/// Between attempts to connect again.
pub(super) const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// Puts PostgreSQL's own schema in front where a user's was put before it. Policies are printed, and
/// filters written, with the names of that schema unqualified; a user's `=` must not stand in.
const OWN_NAMES_FIRST: &str = "select pg_catalog.set_config('search_path', \
     pg_catalog.array_to_string(array( \
       select pg_catalog.quote_ident(name) \
       from pg_catalog.unnest(pg_catalog.current_schemas(false)) as path(name) \
       where name operator(pg_catalog.<>) 'pg_catalog'::pg_catalog.name \
     ), ', '), false) \
     where (pg_catalog.current_schemas(true))[1] \
       operator(pg_catalog.<>) 'pg_catalog'::pg_catalog.name";

/// Connections to PostgreSQL, opened when first needed.
#[derive(Debug)]
pub(super) struct Lanes {
    connect: ConnectOptions,
    health: Arc<Health>,
    /// One permit per lane; whoever waits longest is next.
    free: Semaphore,
    idle: Mutex<VecDeque<Client>>,
}

impl Lanes {
    /// So many lanes, at least one.
    pub(super) fn new(connect: ConnectOptions, health: Arc<Health>, n_lanes: usize) -> Self {
        let free = Semaphore::new(n_lanes.max(1));
        Self { connect, health, free, idle: Mutex::default() }
    }

    /// A lane for the time being.
    pub(super) async fn take(&self) -> Lane<'_> {
        // The semaphore is never closed.
        let permit = self.free.acquire().await.ok();
        let client = self.idle.lock().ok().and_then(|mut idle| idle.pop_front());
        Lane { lanes: self, client, _permit: permit }
    }
}

/// One connection, for one user at a time; it goes back when it is dropped.
pub(super) struct Lane<'a> {
    lanes: &'a Lanes,
    client: Option<Client>,
    _permit: Option<tokio::sync::SemaphorePermit<'a>>,
}

impl Lane<'_> {
    /// The connection; opens one, for as long as that takes.
    pub(super) async fn connected(&mut self) -> &Client {
        let opened = match self.client.take().filter(|client| !client.is_closed()) {
            Some(open) => open,
            None => self.open().await,
        };
        self.client.insert(opened)
    }

    /// Gives up a connection that broke.
    pub(super) fn close(&mut self) {
        self.client = None;
    }

    async fn open(&self) -> Client {
        let Lanes { connect, health, .. } = self.lanes;
        loop {
            match connect_for_questions(connect).await {
                Ok(opened) => {
                    health.set_database(Condition::Up);
                    return opened;
                }
                Err(error) => {
                    let reason = "PostgreSQL cannot be asked for verdicts".to_owned();
                    health.set_database(Condition::Down { reason });
                    tracing::warn!(
                        "failed to ask PostgreSQL for verdicts, will try again: {error:#}"
                    );
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
            }
        }
    }
}

async fn connect_for_questions(connect: &ConnectOptions) -> anyhow::Result<Client> {
    let client = database::connect(connect).await?;
    client.batch_execute(OWN_NAMES_FIRST).await.context("set the search path")?;
    Ok(client)
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        if let (Some(client), Ok(mut idle)) = (self.client.take(), self.lanes.idle.lock()) {
            idle.push_back(client);
        }
    }
}
