//! Writes frames to a socket, many per system call.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use futures_util::{Sink, SinkExt};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use walcast_protocol::{CloseCode, Frame};

use crate::telemetry::Metrics;

/// How long the farewell to a client may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

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

    /// Waits until the connection is to end at once.
    pub(super) async fn abandoned(&self) {
        self.abandon.cancelled().await;
    }
}

/// Writes batches until there are no more, the client is gone or the connection is abandoned; then
/// says farewell.
pub(super) async fn write<S>(
    mut sink: S,
    mut batches: mpsc::Receiver<Vec<Outgoing>>,
    farewell: Farewell,
    metrics: Arc<Metrics>,
) where
    S: Sink<Message> + Unpin + Send,
{
    loop {
        let batch = tokio::select! {
            biased;
            () = farewell.abandon.cancelled() => break,
            batch = batches.recv() => batch,
        };
        let Some(batch) = batch else { break };
        tokio::select! {
            biased;
            () = farewell.abandon.cancelled() => break,
            written = write_batch(&mut sink, batch, &metrics) => {
                if written.is_err() {
                    return;
                }
            }
        }
    }
    let frame = farewell.code.get().map(|code| CloseFrame {
        code: code.code(),
        reason: Utf8Bytes::from_static(code.reason()),
    });
    // A client that does not take the farewell is left without one.
    let _ = timeout(FAREWELL_TIMEOUT, sink.send(Message::Close(frame))).await;
}

async fn write_batch<S>(
    sink: &mut S,
    batch: Vec<Outgoing>,
    metrics: &Metrics,
) -> Result<(), S::Error>
where
    S: Sink<Message> + Unpin + Send,
{
    let mut written = Written::default();
    for outgoing in batch {
        written.add(&outgoing);
        sink.feed(message(outgoing.frame)).await?;
    }
    sink.flush().await?;
    written.count(metrics);
    Ok(())
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

fn message(frame: Frame) -> Message {
    match frame {
        // The protocol only makes text frames of UTF-8; if one were not, it would go out as binary,
        // which the client refuses, and not bring the connection down.
        Frame::Text(bytes) => Utf8Bytes::try_from(bytes.clone())
            .map_or_else(|_| Message::Binary(bytes), Message::Text),
        Frame::Binary(bytes) => Message::Binary(bytes),
    }
}
