//! Keeps what messages from SQL need: the table, its partitions, its publication.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    sync::{Mutex, watch},
    time::sleep,
};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use walcast_change::Lsn;
use walcast_replicator::ConnectOptions;

use super::{PUBLICATION, partitions};
use crate::{
    database,
    http::now_unix,
    migrate::{self, Scope},
};

/// Between looks at the partitions. Those of the next three days are there, so that a look may fail
/// for long, and the clock may jump.
const LOOK_EVERY: Duration = Duration::from_mins(10);

/// After a look that failed or found no publication: messages that are sent before the stream is told
/// of a publication are stored, but not passed on.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The keeper.
#[derive(Debug)]
pub struct MessagesKeeper {
    connect: ConnectOptions,
    /// How long messages are kept.
    retention: Duration,
    migration: Mutex<Migration>,
    /// Where PostgreSQL wrote when the publication was first seen; `None` while there is none.
    published_since: watch::Sender<Option<Lsn>>,
}

/// Whether the objects of schema `realtime` were seen to.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Migration {
    /// To be done.
    Due {
        /// Why it was not done yet, where that was logged.
        said: Option<String>,
    },
    /// Left to others, by an option.
    Forbidden {
        /// Whether it was logged that something is missing.
        said: bool,
    },
    /// Done.
    Done,
}

/// The publication of the messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Published {
    /// Where PostgreSQL wrote when it was first seen.
    pub since: Lsn,
    /// Where PostgreSQL writes now.
    pub written: Lsn,
}

impl MessagesKeeper {
    /// Nothing is looked at yet.
    #[must_use]
    pub fn new(connect: ConnectOptions, may_migrate: bool, retention: Duration) -> Arc<Self> {
        let migration = if may_migrate {
            Migration::Due { said: None }
        } else {
            Migration::Forbidden { said: false }
        };
        let migration = Mutex::new(migration);
        Arc::new(Self { connect, retention, migration, published_since: watch::Sender::new(None) })
    }

    /// Creates what is missing, where that is allowed and not done yet; then looks for the
    /// publication. `None` without one.
    ///
    /// A login that may not create anything, or waits too long for a lock, is no failure: it goes
    /// without messages from SQL until a later look.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached.
    pub async fn prepare(&self) -> anyhow::Result<Option<Published>> {
        let mut client = database::connect(&self.connect).await?;
        self.migrate(&mut client).await;
        self.look_for_publication(&client).await
    }

    /// Returns as soon as the publication is there.
    pub async fn appeared(&self) {
        // The sender does not go away while `self` is borrowed.
        let _ = self.published_since.subscribe().wait_for(Option::is_some).await;
    }

    /// Whether the publication was there when it was last looked for.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.published_since.borrow().is_some()
    }

    /// Looks after the table, its publication and partitions until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut said = None;
        loop {
            let pause = match self.look().await {
                Ok(true) => {
                    said = None;
                    LOOK_EVERY
                }
                Ok(false) => LOOK_AGAIN,
                Err(error) => {
                    let text = format!("{error:#}");
                    if said.as_ref() != Some(&text) {
                        tracing::warn!(
                            "failed to keep the partitions of realtime.messages: {text}"
                        );
                        said = Some(text);
                    }
                    LOOK_AGAIN
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Returns whether all is there.
    async fn look(&self) -> anyhow::Result<bool> {
        let mut client = database::connect(&self.connect).await?;
        self.migrate(&mut client).await;
        let published = self.look_for_publication(&client).await?;
        create_partitions(&mut client).await?;
        for name in partitions::drop_outdated(&mut client, now_unix(), self.retention).await? {
            tracing::info!("dropped partition realtime.{name}, which is older than the retention");
        }
        Ok(published.is_some())
    }

    /// Once; what failed is tried again at the next look.
    async fn migrate(&self, client: &mut Client) {
        let mut migration = self.migration.lock().await;
        let Migration::Due { said } = &mut *migration else { return };
        match migrate::run(&self.connect, Scope::Realtime).await {
            Ok(done) => {
                for line in done {
                    tracing::info!("{line}");
                }
                // Before the stream starts, so that nothing that is sent lacks a place.
                if let Err(error) = create_partitions(client).await {
                    tracing::warn!("failed to make the partitions of realtime.messages: {error:#}");
                }
                *migration = Migration::Done;
            }
            Err(error) => {
                let text = format!("{error:#}");
                if said.as_ref() != Some(&text) {
                    tracing::warn!(
                        "failed to prepare schema realtime, so that there may be no messages from SQL \
                         and no private channels; it is tried again, or run \"walcast migrate\" as a \
                         login that may: {text}"
                    );
                    *said = Some(text);
                }
            }
        }
    }

    async fn look_for_publication(&self, client: &Client) -> anyhow::Result<Option<Published>> {
        let row = client
            .query_one(
                "select exists (select from pg_catalog.pg_publication where pubname = $1), \
                   case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() \
                     else pg_catalog.pg_current_wal_insert_lsn() end::text",
                &[&PUBLICATION],
            )
            .await
            .context("look for the publication of realtime.messages")?;
        let is_there: bool = row.get(0);
        let written: Option<String> = row.get(1);
        let written = written.and_then(|lsn| lsn.parse().ok()).unwrap_or(Lsn::ZERO);
        self.published_since.send_if_modified(|since| {
            let was_there = since.is_some();
            *since = is_there.then(|| since.unwrap_or(written));
            was_there != is_there
        });
        if !is_there
            && let Migration::Forbidden { said } = &mut *self.migration.lock().await
            && !std::mem::replace(said, true)
        {
            tracing::warn!(
                "publication {PUBLICATION} is missing, so that nothing can be sent from SQL: run \
                 \"walcast migrate\", or let serve do it"
            );
        }
        let since = *self.published_since.borrow();
        Ok(since.map(|since| Published { since, written }))
    }
}

async fn create_partitions(client: &mut Client) -> anyhow::Result<()> {
    for name in partitions::create(client, now_unix()).await? {
        tracing::info!("created partition realtime.{name}");
    }
    Ok(())
}
