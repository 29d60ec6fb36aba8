//! What a connection's loop and its transport tell each other: frames in batches, where there is no
//! socket to write to, and how the connection ends.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio_util::sync::CancellationToken;
use walcast_protocol::{CloseCode, Frame};

use crate::telemetry::Metrics;

/// A frame on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The frame.
    pub(super) frame: Frame,
    /// When the change in it was committed, in µs since 1970, for the latency histogram.
    pub(super) committed_us: Option<i64>,
}

/// How a connection ends: the writer says the code as its last word.
#[derive(Clone, Debug, Default)]
pub(super) struct Farewell {
    code: Arc<OnceLock<CloseCode>>,
    abandon: CancellationToken,
}

impl Farewell {
    /// Ends after what was written so far.
    pub(super) fn close(&self, code: CloseCode) {
        // Only the first reason counts.
        let _ = self.code.set(code);
    }

    /// Ends now, whatever still waits to be written.
    pub(super) fn abandon(&self, code: CloseCode) {
        self.close(code);
        self.abandon.cancel();
    }

    /// The reason, if there is one.
    pub(super) fn code(&self) -> Option<CloseCode> {
        self.code.get().copied()
    }

    /// Waits until the connection is to end at once.
    pub(super) async fn abandoned(&self) {
        self.abandon.cancelled().await;
    }
}

/// What a client was given, to be counted once it has it.
#[derive(Debug, Default)]
pub(super) struct Written {
    n_frames: u64,
    n_bytes: u64,
    committed_us: Vec<i64>,
}

impl Written {
    /// Notes a frame.
    pub(super) fn add(&mut self, outgoing: &Outgoing) {
        self.n_frames += 1;
        self.n_bytes += outgoing.frame.bytes().len() as u64;
        self.committed_us.extend(outgoing.committed_us);
    }

    /// Counts what was noted.
    pub(super) fn count(self, metrics: &Metrics) {
        metrics.frames_out.increment(self.n_frames);
        metrics.bytes_out.increment(self.n_bytes);
        if self.committed_us.is_empty() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for committed_us in self.committed_us {
            let committed = Duration::from_micros(u64::try_from(committed_us).unwrap_or_default());
            metrics.delivery_seconds.record(now.saturating_sub(committed));
        }
    }
}
