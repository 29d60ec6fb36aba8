//! The stream: START_REPLICATION, reading, feedback.

use std::{
    fmt,
    time::{Duration, Instant},
};

use bytes::Buf;
use postgres_protocol::message::{backend::Message, frontend};
use tokio::time::{sleep_until, timeout};
use walcast_change::Lsn;

use crate::{
    Assembler, ConnectOptions, Continuity, Progress, ReplicationError, ReplicationOptions, Resume,
    SlotStart, Started, StreamItem, SystemIdentity, Taken, Transient,
    connection::{Connection, read_server_error},
    continuity::Branch,
    error::classify,
    progress::SILENCE_MAX,
    slot::{self, Prepared},
    wire::{CopyFrame, Frame, MESSAGE_BYTES_MAX, StandbyStatus, WireError, decode_copy_frame},
};

/// How long the server may take to end the copy.
const FINISH_MAX: Duration = Duration::from_secs(5);
/// How long a caller must have waited for bytes before the server's silence counts.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// A slot being read.
pub struct ReplicationStream {
    connection: Connection,
    assembler: Assembler,
    progress: Progress,
    identity: SystemIdentity,
    publications: Vec<String>,
    /// The zero of the time that `progress` is given.
    started: Instant,
    /// An error that was found behind items which were given out first.
    failed: Option<ReplicationError>,
}

impl fmt::Debug for ReplicationStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicationStream")
            .field("identity", &self.identity)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl ReplicationStream {
    /// Connects, checks the prerequisites, finds or creates the slot and starts reading it.
    ///
    /// With `resume`, what that stream has given out is not given out again, unless continuity is
    /// broken. Creating a slot waits for the transactions that are open on the server.
    ///
    /// # Errors
    /// As [`ReplicationError`] says; nothing of an existing usable slot has changed then.
    pub async fn start(
        connect: &ConnectOptions,
        options: &ReplicationOptions,
        resume: Option<&Resume>,
    ) -> Result<(Self, Started), ReplicationError> {
        slot::check_name(&options.slot)?;
        let mut connection = Connection::open(connect).await?;
        let server = slot::set_up(&mut connection).await?;
        let identity = slot::identify(&mut connection).await?;
        let publication_tables =
            slot::count_published_tables(&mut connection, &options.publications).await?;
        let prepared = slot::prepare(&mut connection, options, &server, &identity, resume).await?;
        let (handed_over, taken) = first_position(&prepared, resume);
        let start = match prepared.slot {
            SlotStart::Resumed { .. } => handed_over,
            SlotStart::Created { .. } => Lsn::ZERO,
        };
        slot::restore_search_path(&mut connection).await?;
        connection.start_copy(&slot::start_command(options, start)).await?;
        let progress = Progress::new(handed_over, taken.end, server.sender_timeout, Duration::ZERO);
        let stream = Self {
            connection,
            assembler: Assembler::new(taken),
            progress,
            identity: identity.clone(),
            publications: options.publications.clone(),
            started: Instant::now(),
            failed: None,
        };
        let Prepared { slot, continuity, .. } = prepared;
        let server_version = server.version;
        let started = Started { identity, server_version, slot, continuity, publication_tables };
        Ok((stream, started))
    }

    /// Waits for at least one item, then appends everything that has arrived, up to `max_items`
    /// (a TRUNCATE of several tables may exceed it). Sends feedback when due.
    ///
    /// What was appended counts as given out: a stream that resumes this one does not repeat it.
    /// Cancel-safe: nothing is appended before the future is ready.
    ///
    /// # Errors
    /// When the connection or the stream's content fails; never while appending items, these come
    /// first and the error with the next call. After an error the stream is of no further use.
    pub async fn next_batch(
        &mut self,
        max_items: usize,
        out: &mut Vec<StreamItem>,
    ) -> Result<(), ReplicationError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let entered = self.now();
        let n_before = out.len();
        let n_wanted = n_before.saturating_add(max_items.max(1));
        loop {
            self.feedback().await?;
            let result = self.take_arrived(n_wanted, out);
            self.note_position();
            match result {
                Err(error) if out.len() > n_before => {
                    self.failed = Some(error);
                    return Ok(());
                }
                Err(error) => return Err(error),
                Ok(()) if out.len() > n_before => return Ok(()),
                Ok(()) => self.wait(entered).await?,
            }
        }
    }

    /// Notes that everything up to and including this end of a commit was handed over and need not
    /// be sent again.
    pub fn handed_over(&mut self, end: Lsn) {
        self.progress.note_handed_over(end);
    }

    /// Sends feedback if it is due, without reading; for a caller that is busy with the last batch
    /// for longer than some seconds. Cancel-safe.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn feedback(&mut self) -> Result<(), ReplicationError> {
        let now = self.now();
        if let Some(status) = self.progress.feedback(now) {
            self.put_status(status)?;
        }
        self.connection.flush().await
    }

    /// Where the stream stands, for the one that comes after it.
    #[must_use]
    pub fn resume(&self) -> Resume {
        Resume {
            identity: self.identity.clone(),
            handed_over: self.progress.handed_over(),
            taken: self.assembler.taken(),
        }
    }

    /// The positions of the stream.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Confirms what was handed over, ends the copy and closes the connection; gives the confirmed
    /// position.
    ///
    /// # Errors
    /// When the connection fails, or the server does not end the copy in time, as it may inside a
    /// large transaction: it may then not have confirmed the position, and will repeat the rest.
    pub async fn finish(mut self) -> Result<Lsn, ReplicationError> {
        let now = self.now();
        let status = self.progress.feedback_now(now);
        self.put_status(status)?;
        self.connection.put(|buffer| {
            frontend::copy_done(buffer);
            Ok(())
        })?;
        timeout(FINISH_MAX, self.await_end())
            .await
            .unwrap_or(Err(Transient::Silent(FINISH_MAX).into()))?;
        self.connection.close().await;
        Ok(status.handed_over)
    }

    async fn await_end(&mut self) -> Result<(), ReplicationError> {
        self.connection.flush().await?;
        loop {
            let Frame { tag, n_bytes } = self.connection.frame(MESSAGE_BYTES_MAX).await?;
            match tag {
                b'Z' => return Ok(()),
                b'E' => return Err(self.server_error()),
                _ => self.connection.arrived.advance(n_bytes),
            }
        }
    }

    /// Takes whole messages from the front of the buffer.
    fn take_arrived(
        &mut self,
        n_wanted: usize,
        out: &mut Vec<StreamItem>,
    ) -> Result<(), ReplicationError> {
        while out.len() < n_wanted {
            let Some(frame) = Frame::peek(&self.connection.arrived)? else { break };
            let content = Frame::HEADER_BYTES..frame.n_bytes;
            let Some(content) = self.connection.arrived.get(content) else { break };
            match frame.tag {
                b'd' => match decode_copy_frame(content)? {
                    CopyFrame::XLogData { lsn, message } => {
                        self.assembler.push(lsn, message, out)?;
                    }
                    CopyFrame::Keepalive { wal_end, reply_requested } => {
                        out.push(StreamItem::Keepalive { wal_end });
                        self.note_position();
                        self.progress.note_keepalive(wal_end, reply_requested);
                    }
                },
                // Notices and changed settings may come at any time.
                b'N' | b'S' => {}
                b'E' => return Err(self.server_error()),
                b'c' | b'C' => return Err(Transient::Ended.into()),
                tag => {
                    let context = "in the replication stream";
                    return Err(WireError::Unexpected { tag, context }.into());
                }
            }
            self.connection.arrived.advance(frame.n_bytes);
        }
        Ok(())
    }

    fn note_position(&mut self) {
        self.progress.note_position(
            self.assembler.last_lsn(),
            self.assembler.taken().end,
            self.assembler.is_in_transaction(),
        );
    }

    /// Waits for bytes or until feedback is due.
    async fn wait(&mut self, entered: Duration) -> Result<(), ReplicationError> {
        let silence_due = self.progress.silence_due().map(|due| due.max(entered + WAIT_MIN));
        let feedback_due = self.progress.feedback_due();
        let due = silence_due.map_or(feedback_due, |silence_due| silence_due.min(feedback_due));
        let due = tokio::time::Instant::from_std(self.started + due);
        tokio::select! {
            biased;
            result = self.connection.read() => {
                result?;
                let now = self.now();
                self.progress.note_arrival(now);
            }
            () = sleep_until(due) => {
                if silence_due.is_some_and(|silence_due| self.now() >= silence_due) {
                    return Err(Transient::Silent(SILENCE_MAX).into());
                }
            }
        }
        Ok(())
    }

    fn put_status(&mut self, status: StandbyStatus) -> Result<(), ReplicationError> {
        let bytes = status.encode();
        self.connection.put(|buffer| {
            frontend::CopyData::new(&bytes[..])?.write(buffer);
            Ok(())
        })
    }

    /// The error message at the front of the buffer.
    fn server_error(&mut self) -> ReplicationError {
        const ACTION: &str = "read the replication stream";
        const UNDEFINED_OBJECT: &str = "42704";
        let Ok(Some(Message::ErrorResponse(body))) = Message::parse(&mut self.connection.arrived)
        else {
            return WireError::Answer(ACTION).into();
        };
        let error = read_server_error(&body);
        if error.code != UNDEFINED_OBJECT {
            return classify(ACTION, error);
        }
        let named = named_in(&error.message, &self.publications);
        match named.or(self.publications.first()) {
            Some(name) => ReplicationError::PublicationMissing { name: name.clone() },
            None => classify(ACTION, error),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The publication that "publication … does not exist" is about, in whatever language. One name may
/// be a part of another.
fn named_in<'a>(message: &str, publications: &'a [String]) -> Option<&'a String> {
    let named = publications.iter().filter(|name| message.contains(name.as_str()));
    named.max_by_key(|name| name.len())
}

/// What was handed over and given out before the stream begins.
fn first_position(prepared: &Prepared, resume: Option<&Resume>) -> (Lsn, Taken) {
    let fresh = |position| (position, Taken { end: position, partial: None });
    match (prepared.slot, &prepared.continuity, resume) {
        (SlotStart::Created { consistent_point }, _, _) => fresh(consistent_point),
        (SlotStart::Resumed { confirmed }, Continuity::Unbroken, Some(resume)) => {
            // After a failover, positions beyond the branch name other changes.
            let limit = prepared.branch.map_or(resume.handed_over, |Branch { at }| at);
            (resume.handed_over.min(limit).max(confirmed), resume.taken)
        }
        (SlotStart::Resumed { confirmed }, _, _) => fresh(confirmed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_publication_that_is_missing_is_the_one_whose_whole_name_is_there() {
        let publications = ["app", "app_messages", "other"].map(str::to_owned);
        let check = |message, name: Option<&str>| {
            assert_eq!(named_in(message, &publications).map(String::as_str), name);
        };
        check("publication \"app_messages\" does not exist", Some("app_messages"));
        check("Publikation »app« existiert nicht", Some("app"));
        check("something else", None);
    }
}
