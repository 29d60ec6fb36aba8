//! How far the stream came: received, handed over, acknowledged; and when to tell PostgreSQL.

use std::time::Duration;

use walcast_change::Lsn;

use crate::wire::StandbyStatus;

/// Longest time without feedback; PostgreSQL's own `wal_receiver_status_interval`.
const INTERVAL_MAX: Duration = Duration::from_secs(10);
/// Shortest time between two statements about progress that nobody asked for.
const INTERVAL_MIN: Duration = Duration::from_millis(500);
/// A server that was asked for a sign of life and gives none for this long is gone.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);

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
    last_arrival: Duration,
    /// Whether the server waits for feedback.
    is_feedback_requested: bool,
    /// Since when the server owes a sign of life.
    asked_at: Option<Duration>,
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
            last_arrival: now,
            is_feedback_requested: true,
            asked_at: None,
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
        self.last_arrival = now;
        self.asked_at = None;
    }

    /// Notes how far the stream came: the position of the last message, the end of the last
    /// transaction that was given out, and whether another one has begun.
    pub(crate) fn note_position(&mut self, lsn: Lsn, given_out: Lsn, is_in_transaction: bool) {
        self.given_out = self.given_out.max(given_out);
        self.received = self.received.max(lsn).max(given_out);
        self.is_in_transaction = is_in_transaction;
    }

    /// Notes a keepalive.
    pub(crate) fn note_keepalive(&mut self, wal_end: Lsn, reply_requested: bool) {
        self.received = self.received.max(wal_end);
        self.is_feedback_requested |= reply_requested;
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
        let wait = if self.is_feedback_requested {
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
        self.is_feedback_requested = false;
        self.acknowledged = self.handed_over;
        // A quiet server is asked for a sign of life.
        let request_reply = now.saturating_sub(self.last_arrival) >= self.interval;
        if request_reply && self.asked_at.is_none() {
            self.asked_at = Some(now);
        }
        StandbyStatus { received: self.received, handed_over: self.handed_over, request_reply }
    }

    /// When a server that was asked for a sign of life and gave none is to be given up.
    pub(crate) fn silence_due(&self) -> Option<Duration> {
        self.asked_at.map(|asked_at| asked_at + SILENCE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn lsn(position: u64) -> Lsn {
        Lsn::new(position)
    }

    /// A stream at 100 that has told so.
    fn started() -> Progress {
        let mut progress = Progress::new(lsn(100), lsn(100), TIMEOUT, seconds(0));
        assert!(progress.feedback(seconds(0)).is_some(), "the first feedback is due at once");
        progress
    }

    #[test]
    fn only_what_was_handed_over_is_acknowledged() {
        let mut progress = started();
        progress.note_position(lsn(150), lsn(200), false);
        progress.note_keepalive(lsn(300), true);
        let told =
            progress.feedback(seconds(1)).map(|status| (status.received, status.handed_over));
        assert_eq!(told, Some((lsn(300), lsn(100))));
        progress.note_handed_over(lsn(200));
        // The keepalive came after the transaction, so nothing is missing up to there.
        assert_eq!(progress.handed_over(), lsn(300));
        assert_eq!(progress.acknowledged(), lsn(100));
        assert_eq!(progress.feedback(seconds(2)).map(|status| status.handed_over), Some(lsn(300)));
        assert_eq!(progress.acknowledged(), lsn(300));
    }

    #[test]
    fn keepalives_advance_an_idle_stream() {
        let mut progress = started();
        progress.note_keepalive(lsn(500), false);
        assert_eq!(progress.handed_over(), lsn(500));
        assert_eq!(progress.feedback_due(), INTERVAL_MIN);
    }

    #[test]
    fn keepalives_inside_a_transaction_advance_nothing() {
        let mut progress = started();
        progress.note_position(lsn(150), lsn(100), true);
        progress.note_keepalive(lsn(500), false);
        assert_eq!(progress.handed_over(), lsn(100));
        progress.note_position(lsn(600), lsn(700), false);
        progress.note_handed_over(lsn(700));
        assert_eq!(progress.handed_over(), lsn(700));
    }

    #[test]
    fn positions_never_go_back_or_ahead_of_what_was_given_out() {
        let mut progress = started();
        progress.note_position(lsn(150), lsn(200), false);
        progress.note_handed_over(lsn(50));
        assert_eq!(progress.handed_over(), lsn(100));
        progress.note_handed_over(lsn(900));
        assert_eq!(progress.handed_over(), lsn(200));
    }

    #[test]
    fn what_an_earlier_stream_gave_out_is_still_outstanding() {
        let mut progress = Progress::new(lsn(100), lsn(400), TIMEOUT, seconds(0));
        progress.note_keepalive(lsn(900), false);
        assert_eq!(progress.handed_over(), lsn(100));
        progress.note_handed_over(lsn(400));
        assert_eq!(progress.handed_over(), lsn(900));
    }

    #[test]
    fn feedback_comes_in_time() {
        let due = |timeout| {
            let mut progress = Progress::new(lsn(1), lsn(1), timeout, seconds(0));
            progress.feedback_now(seconds(5));
            progress.feedback_due()
        };
        assert_eq!(due(seconds(60)), seconds(15));
        assert_eq!(due(seconds(9)), seconds(8));
        assert_eq!(due(seconds(0)), seconds(15));
    }

    #[test]
    fn a_quiet_server_is_asked_and_then_given_up() {
        let mut progress = started();
        assert_eq!(progress.feedback(seconds(9)), None);
        assert_eq!(progress.feedback(seconds(10)).map(|status| status.request_reply), Some(true));
        assert_eq!(progress.silence_due(), Some(seconds(70)));
        assert_eq!(progress.feedback(seconds(20)).map(|status| status.request_reply), Some(true));
        assert_eq!(progress.silence_due(), Some(seconds(70)));
        progress.note_arrival(seconds(21));
        assert_eq!(progress.silence_due(), None);
    }
}
