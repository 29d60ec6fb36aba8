//! A session that writes numbered rows without pause, and lets others in between two rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use walcast_tests::{Database, eventually};

/// Installs the event triggers as `walcast migrate` does.
pub const ANNOUNCE: &str = concat!(
    include_str!("../../../sql/objects/00_report.sql"),
    include_str!("../../../sql/objects/40_announce_ddl.sql"),
);

/// Between two rows: the client reads on the same two cores.
const PAUSE: Duration = Duration::from_millis(2);

/// Between two rows.
pub struct Session {
    client: tokio_postgres::Client,
    insert: String,
    /// The number of the next row.
    pub next: u64,
}

impl Session {
    /// Runs statements; as several in one text they are one transaction.
    pub async fn run(&self, statements: &str) -> Result<()> {
        self.client.batch_execute(statements).await.with_context(|| statements.to_owned())
    }

    /// How rows are written from here on: a statement with `{id}` for the number.
    pub fn write_by(&mut self, insert: &str) {
        insert.clone_into(&mut self.insert);
    }

    /// Whether rows are written this way already.
    pub fn writes_by(&self, insert: &str) -> bool {
        self.insert == insert
    }

    /// The statement for the next row, which counts as written.
    pub fn take_insert(&mut self) -> String {
        let insert = self.insert.replace("{id}", &self.next.to_string());
        self.next += 1;
        insert
    }

    /// Writes some rows.
    pub async fn write(&mut self, n_rows: u64) -> Result<()> {
        for _ in 0..n_rows {
            let insert = self.take_insert();
            self.run(&insert).await?;
        }
        Ok(())
    }
}

/// The writer.
pub struct Writer {
    session: Arc<Mutex<Session>>,
    n_written: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
}

impl Writer {
    /// Starts to write rows from number 1 on.
    pub async fn start(database: &Database, insert: &str) -> Result<Self> {
        let client = database.session().await?;
        let session = Arc::new(Mutex::new(Session { client, insert: insert.to_owned(), next: 1 }));
        let n_written = Arc::new(AtomicU64::new(0));
        let ends = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let (session, n_written, ends) =
                (Arc::clone(&session), Arc::clone(&n_written), Arc::clone(&ends));
            async move {
                while !ends.load(Ordering::Relaxed) {
                    let mut session = session.lock().await;
                    session.write(1).await?;
                    n_written.store(session.next - 1, Ordering::Relaxed);
                    drop(session);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            }
        });
        Ok(Self { session, n_written, ends, task })
    }

    /// Holds the writer between two rows for as long as the guard lives.
    pub async fn pause(&self) -> MutexGuard<'_, Session> {
        self.session.lock().await
    }

    /// Waits until it has written this many rows more.
    pub async fn advance(&self, n_rows: u64) -> Result<()> {
        let wanted = self.n_written.load(Ordering::Relaxed) + n_rows;
        eventually("the writer to go on", || async {
            Ok((self.n_written.load(Ordering::Relaxed) >= wanted).then_some(()))
        })
        .await
    }

    /// Ends it and returns the number of the last row.
    pub async fn stop(self) -> Result<u64> {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await??;
        Ok(self.session.lock().await.next - 1)
    }
}
