//! How far the stream came: received, handed over, acknowledged; and when to tell PostgreSQL.

use std::time::Duration;

use walcast_change::Lsn;

use crate::wire::StandbyStatus;

/// Longest time without feedback; PostgreSQL's own `wal_receiver_status_interval`.
const INTERVAL_MAX: Duration = Duration::from_secs(10);
/// Shortest time between two statements about progress that nobody asked for.
const INTERVAL_MIN: Duration = Duration::from_millis(500);
/// A server that was asked for a sign of life and gives none for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The positions of a stream.
///
/// Time is the time since some fixed start; the caller brings it.
#[derive(Clone, Debug)]
pub struct Progress {
    received: Lsn,
    handed_over: Lsn,
    acknowledged: Lsn,
    /// The end of the last transaction that was given out.
    given_out: Lsn,
    /// What can be acknowledged as soon as nothing is outstanding.
    idle_up_to: Lsn,
    is_in_transaction: bool,
    interval: Duration,
    last_feedback: Duration,
    last_received: Duration,
    reply_requested: bool,
}

impl Progress {
    /// A stream that starts at `handed_over`, while everything up to `given_out` was given out by
    /// an earlier one; `sender_timeout` is the server's `wal_sender_timeout`, zero for none.
    #[must_use]
    pub fn new(handed_over: Lsn, given_out: Lsn, sender_timeout: Duration, now: Duration) -> Self {
        let interval = if sender_timeout.is_zero() {
            INTERVAL_MAX
        } else {
            // A third leaves room for a reader that is late once.
            (sender_timeout / 3).min(INTERVAL_MAX)
        };
        Self {
            received: handed_over,
            handed_over,
            acknowledged: Lsn::ZERO,
            given_out: given_out.max(handed_over),
            idle_up_to: Lsn::ZERO,
            is_in_transaction: false,
            interval,
            last_feedback: now,
            last_received: now,
            reply_requested: true,
        }
    }

    /// Everything before this position has arrived.
    #[must_use]
    pub fn received(&self) -> Lsn {
        self.received
    }

    /// Everything before this position was handed over.
    #[must_use]
    pub fn handed_over(&self) -> Lsn {
        self.handed_over
    }

    /// What PostgreSQL was told last.
    #[must_use]
    pub fn acknowledged(&self) -> Lsn {
        self.acknowledged
    }

    /// Notes that bytes arrived.
    pub(crate) fn note_arrival(&mut self, now: Duration) {
        self.last_received = now;
    }

    /// Notes the position of a message.
    pub(crate) fn note_message(&mut self, lsn: Lsn, is_in_transaction: bool) {
        self.received = self.received.max(lsn);
        self.is_in_transaction = is_in_transaction;
    }

    /// Notes a transaction that was given out.
    pub(crate) fn note_commit(&mut self, end: Lsn) {
        self.received = self.received.max(end);
        self.given_out = self.given_out.max(end);
        self.is_in_transaction = false;
    }

    /// Notes a keepalive.
    pub(crate) fn note_keepalive(&mut self, wal_end: Lsn, reply_requested: bool) {
        self.received = self.received.max(wal_end);
        self.reply_requested |= reply_requested;
        if !self.is_in_transaction {
            // All transactions that commit before this position came before this keepalive.
            self.idle_up_to = self.idle_up_to.max(wal_end);
        }
        self.settle();
    }

    /// Notes what was handed over; positions never go back.
    pub(crate) fn note_handed_over(&mut self, end: Lsn) {
        self.handed_over = self.handed_over.max(end.min(self.given_out));
        self.settle();
    }

    /// With nothing outstanding, positions that other databases' traffic moved on count too:
    /// an idle database must not keep the log from being removed.
    fn settle(&mut self) {
        if self.handed_over >= self.given_out {
            self.handed_over = self.handed_over.max(self.idle_up_to);
        }
    }

    /// When feedback is to be sent without anything happening before.
    #[must_use]
    pub fn feedback_due(&self) -> Duration {
        let wait = if self.reply_requested {
            Duration::ZERO
        } else if self.handed_over > self.acknowledged {
            INTERVAL_MIN.min(self.interval)
        } else {
            self.interval
        };
        self.last_feedback + wait
    }

    /// The statement to send, if one is due. The caller sends it.
    pub(crate) fn feedback(&mut self, now: Duration) -> Option<StandbyStatus> {
        (now >= self.feedback_due()).then(|| self.feedback_now(now))
    }

    /// The statement to send now. The caller sends it.
    pub(crate) fn feedback_now(&mut self, now: Duration) -> StandbyStatus {
        self.last_feedback = now;
        self.reply_requested = false;
        self.acknowledged = self.handed_over;
        StandbyStatus {
            received: self.received,
            handed_over: self.handed_over,
            // A quiet server is asked for a sign of life.
            request_reply: now.saturating_sub(self.last_received) >= self.interval,
        }
    }

    /// How long the server has been silent, if that is too long.
    ///
    /// Only to be asked after waiting for bytes: a caller that does not read hears nothing.
    #[must_use]
    pub fn silence(&self, now: Duration) -> Option<Duration> {
        let silence = now.saturating_sub(self.last_received);
        (silence >= SILENCE_MAX).then_some(silence)
    }
}
