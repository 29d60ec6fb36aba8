//! A few connections that questions take turns on.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::Semaphore;
use tokio_postgres::Client;
use walcast_replicator::ConnectOptions;

use crate::{
    database,
    http::{Condition, Health},
};

/// Between attempts to connect again.
pub(super) const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

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
            match database::connect(connect).await {
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

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        if let (Some(client), Ok(mut idle)) = (self.client.take(), self.lanes.idle.lock()) {
            idle.push_back(client);
        }
    }
}
