//! Keeps what messages from SQL need: the table, its partitions, its publication.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{sync::Mutex, time::sleep};
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

/// After a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The keeper.
#[derive(Debug)]
pub struct MessagesKeeper {
    connect: ConnectOptions,
    /// How long messages are kept.
    retention: Duration,
    migration: Mutex<Migration>,
}

/// Whether the objects of schema `realtime` were seen to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Migration {
    /// To be done.
    Due,
    /// Left to others, by an option.
    Forbidden,
    /// Done, or given up for now.
    Done,
}

/// What the stream can bring of the messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Published {
    /// Whether the publication is there.
    pub is_there: bool,
    /// Where PostgreSQL writes now.
    pub written: Lsn,
}

impl MessagesKeeper {
    /// Nothing is looked at yet.
    #[must_use]
    pub fn new(connect: ConnectOptions, may_migrate: bool, retention: Duration) -> Arc<Self> {
        let migration = if may_migrate { Migration::Due } else { Migration::Forbidden };
        Arc::new(Self { connect, retention, migration: Mutex::new(migration) })
    }

    /// Creates what is missing, once, where that is allowed; then looks for the publication.
    ///
    /// A login that may not create anything is no failure: it goes without messages from SQL.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached.
    pub async fn prepare(&self) -> anyhow::Result<Published> {
        let mut client = database::connect(&self.connect).await?;
        let mut migration = self.migration.lock().await;
        if *migration == Migration::Due {
            match migrate::run(&self.connect, Scope::Realtime).await {
                Ok(done) => {
                    for line in done {
                        tracing::info!("{line}");
                    }
                }
                Err(error) => tracing::warn!(
                    "failed to prepare schema realtime, so that nothing can be sent from SQL and \
                     there are no private channels; run \"walcast migrate\" as a login that may: \
                     {error:#}"
                ),
            }
            if let Err(error) = create_partitions(&mut client).await {
                tracing::warn!("failed to make the partitions of realtime.messages: {error:#}");
            }
        }
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
        if !is_there && *migration == Migration::Forbidden {
            tracing::warn!(
                "publication {PUBLICATION} is missing, so that nothing can be sent from SQL: run \
                 \"walcast migrate\", or let serve do it"
            );
        }
        if *migration == Migration::Due {
            *migration = Migration::Done;
        }
        let written: Option<String> = row.get(1);
        let written = written.and_then(|lsn| lsn.parse().ok()).unwrap_or(Lsn::ZERO);
        Ok(Published { is_there, written })
    }

    /// Looks after the partitions until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut said = None;
        loop {
            let pause = match self.look().await {
                // The table is about to be made, with its first partitions.
                Ok(false) => LOOK_AGAIN,
                Ok(true) => {
                    said = None;
                    LOOK_EVERY
                }
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

    /// Returns whether it was time for it.
    async fn look(&self) -> anyhow::Result<bool> {
        if *self.migration.lock().await == Migration::Due {
            return Ok(false);
        }
        let mut client = database::connect(&self.connect).await?;
        create_partitions(&mut client).await?;
        for name in partitions::drop_outdated(&mut client, now_unix(), self.retention).await? {
            tracing::info!("dropped partition realtime.{name}, which is older than the retention");
        }
        Ok(true)
    }
}

async fn create_partitions(client: &mut Client) -> anyhow::Result<()> {
    for name in partitions::create(client, now_unix()).await? {
        tracing::info!("created partition realtime.{name}");
    }
    Ok(())
}
