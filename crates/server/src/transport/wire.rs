//! The sending half of a WebSocket, written to by whoever has something for it.
//!
//! ```text
//! publisher ─► push ─┐                       ┌─► the socket takes it at once
//! driver ────► push ─┴─► queue ─► flush ─────┤
//!                                            └─► it does not: the driver flushes when it does
//! ```
//!
//! A frame is pushed to a queue and flushed by the same task, many frames in one system call; only
//! what the socket does not take waits for the connection's own task. So a message costs one write
//! per connection and wakes nobody. The queue is bounded: past it the connection is closed.

use std::{
    collections::VecDeque,
    io::{ErrorKind, IoSlice},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::{net::TcpStream, sync::Notify};
use walcast_protocol::Frame;

use crate::{outbox::OutboxLimits, telemetry::Metrics};

/// Pieces that are written in one system call.
const SLICES_MAX: usize = 64;

/// Connections that are flushed before others run.
const TURN: usize = 128;

/// The longest head of a frame from a server: it has no mask.
const HEAD_BYTES_MAX: usize = 10;

/// The kinds of frames that a server sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Text = 1,
    Binary = 2,
    Close = 8,
    Pong = 10,
}

/// A frame as it goes out.
#[derive(Clone, Debug)]
pub struct WireFrame {
    head: [u8; HEAD_BYTES_MAX],
    n_head: u8,
    payload: Bytes,
}

/// The sending half of one connection.
#[derive(Debug)]
pub struct Wire {
    socket: TcpStream,
    limits: OutboxLimits,
    queue: Mutex<Queue>,
    /// Whether the socket took no more.
    is_blocked: AtomicBool,
    has_overflowed: AtomicBool,
    is_broken: AtomicBool,
    /// Something for the connection's own task.
    wake: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<WireFrame>,
    /// What was written of the first one.
    n_written: usize,
    n_bytes: usize,
    /// Whether somebody is about to flush.
    is_dirty: bool,
    /// Whether the close frame is there; nothing may follow it.
    has_last: bool,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pushed {
    /// It is queued, and somebody else flushes.
    Queued,
    /// It is queued, and whoever pushed it must flush.
    Dirty,
    /// The queue is full with it: the connection is being closed. Told once.
    Overflowed,
    /// The connection is gone or on its way out.
    Gone,
}

impl WireFrame {
    pub(super) fn new(kind: Kind, payload: Bytes) -> Self {
        let mut head = [0; HEAD_BYTES_MAX];
        head[0] = 0x80 | kind as u8;
        let length = payload.len() as u64;
        let n_head = if let Some(short) = u8::try_from(length).ok().filter(|short| *short < 126) {
            head[1] = short;
            2
        } else if let Ok(medium) = u16::try_from(length) {
            head[1] = 126;
            head[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        } else {
            head[1] = 127;
            head[2..10].copy_from_slice(&length.to_be_bytes());
            10
        };
        Self { head, n_head, payload }
    }

    /// The same as one piece, for a frame that goes to many.
    #[must_use]
    pub fn shared(frame: &Frame) -> Self {
        let Self { head, n_head, payload } = Self::from(frame.clone());
        let whole = [&head[..usize::from(n_head)], &payload].concat();
        Self { head, n_head: 0, payload: whole.into() }
    }

    fn len(&self) -> usize {
        usize::from(self.n_head) + self.payload.len()
    }

    fn slices(&self, n_written: usize) -> [&[u8]; 2] {
        let n_head = usize::from(self.n_head);
        let head = self.head.get(n_written.min(n_head)..n_head).unwrap_or_default();
        let payload = self.payload.get(n_written.saturating_sub(n_head)..).unwrap_or_default();
        [head, payload]
    }
}

impl From<Frame> for WireFrame {
    fn from(frame: Frame) -> Self {
        match frame {
            Frame::Text(bytes) => Self::new(Kind::Text, bytes),
            Frame::Binary(bytes) => Self::new(Kind::Binary, bytes),
        }
    }
}

impl Wire {
    /// Counts what was read from the socket.
    pub(super) fn count_received(&self, n_bytes: usize) {
        self.metrics.bytes_in.increment(n_bytes as u64);
    }

    pub(super) fn new(socket: TcpStream, limits: OutboxLimits, metrics: Arc<Metrics>) -> Self {
        Self {
            socket,
            limits,
            queue: Mutex::default(),
            is_blocked: AtomicBool::new(false),
            has_overflowed: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            wake: Notify::new(),
            metrics,
        }
    }

    /// The socket, for reading.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Queues a frame. With [`Pushed::Dirty`] the caller must call [`Self::flush`] soon.
    pub fn push(&self, frame: WireFrame) -> Pushed {
        if self.has_overflowed.load(Ordering::Relaxed) || self.is_broken.load(Ordering::Relaxed) {
            return Pushed::Gone;
        }
        let mut queue = self.queue();
        let n_bytes = queue.n_bytes + frame.len();
        if queue.frames.len() >= self.limits.frames || n_bytes > self.limits.bytes {
            drop(queue);
            if self.has_overflowed.swap(true, Ordering::Relaxed) {
                return Pushed::Gone;
            }
            self.wake.notify_one();
            return Pushed::Overflowed;
        }
        queue.n_bytes = n_bytes;
        queue.frames.push_back(frame);
        if queue.is_dirty || self.is_blocked.load(Ordering::Relaxed) {
            return Pushed::Queued;
        }
        queue.is_dirty = true;
        Pushed::Dirty
    }

    /// Queues a frame of the connection's own task, which holds itself back while too much waits.
    pub(super) fn push_own(&self, frame: WireFrame) -> Pushed {
        let mut queue = self.queue();
        if queue.has_last || self.is_broken() {
            return Pushed::Gone;
        }
        queue.n_bytes += frame.len();
        queue.frames.push_back(frame);
        if queue.is_dirty || self.is_blocked.load(Ordering::Relaxed) {
            return Pushed::Queued;
        }
        queue.is_dirty = true;
        Pushed::Dirty
    }

    /// Writes what is queued, as far as the socket takes it; the rest is the driver's.
    pub fn flush(&self) {
        let mut queue = self.queue();
        queue.is_dirty = false;
        let (mut n_frames, mut n_bytes) = (0, 0);
        while !queue.frames.is_empty() {
            match self.write(&queue) {
                Ok(n_written) => {
                    n_bytes += n_written as u64;
                    n_frames += queue.advance(n_written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_blocked.store(true, Ordering::Relaxed);
                    self.wake.notify_one();
                    break;
                }
                Err(_) => {
                    *queue = Queue::default();
                    self.is_broken.store(true, Ordering::Relaxed);
                    self.wake.notify_one();
                }
            }
        }
        drop(queue);
        if n_frames > 0 {
            self.metrics.frames_out.increment(n_frames);
        }
        self.metrics.bytes_out.increment(n_bytes);
    }

    /// One system call; for a single piece the cheaper one.
    fn write(&self, queue: &Queue) -> std::io::Result<usize> {
        if let (Some(first), 1) = (queue.frames.front(), queue.frames.len()) {
            let [head, payload] = first.slices(queue.n_written);
            if head.is_empty() && !payload.is_empty() {
                return self.socket.try_write(payload);
            }
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut n_slices = 0;
        let mut n_written = queue.n_written;
        for frame in queue.frames.iter().take(SLICES_MAX / 2) {
            for piece in frame.slices(n_written) {
                if let Some(slice) = slices.get_mut(n_slices).filter(|_| !piece.is_empty()) {
                    *slice = IoSlice::new(piece);
                    n_slices += 1;
                }
            }
            n_written = 0;
        }
        self.socket.try_write_vectored(slices.get(..n_slices).unwrap_or_default())
    }

    /// Waits until [`Self::attend`] has something to do. Cancel-safe.
    pub(super) async fn needs_attention(&self) {
        while !self.has_overflowed() && !self.is_broken() {
            let is_blocked = self.is_blocked.load(Ordering::Relaxed);
            tokio::select! {
                // What happened is in the flags; that the socket is blocked is no reason to write.
                () = self.wake.notified() => {}
                // An error shows in the next write.
                _ = self.socket.writable(), if is_blocked => return,
            }
        }
    }

    /// Goes on where the socket took no more.
    pub(super) fn attend(&self) {
        if self.is_broken() || self.has_overflowed() {
            return;
        }
        // Who pushes from here on flushes, too, and finds the queue or what is left of it.
        if self.is_blocked.swap(false, Ordering::Relaxed) {
            self.flush();
        }
    }

    pub(super) fn has_overflowed(&self) -> bool {
        self.has_overflowed.load(Ordering::Relaxed)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// How many frames wait.
    pub(super) fn n_waiting(&self) -> usize {
        self.queue().frames.len()
    }

    /// Takes nothing more from publishers, and forgets what waits; a frame that was begun is finished.
    pub(super) fn abandon(&self) {
        self.has_overflowed.store(true, Ordering::Relaxed);
        let mut queue = self.queue();
        let keep = usize::from(queue.n_written > 0);
        queue.frames.truncate(keep);
        queue.n_bytes = queue.frames.iter().map(WireFrame::len).sum();
    }

    /// The close frame, whatever waits before it; only the first one counts.
    pub(super) fn push_last(&self, frame: WireFrame) {
        let mut queue = self.queue();
        if std::mem::replace(&mut queue.has_last, true) {
            return;
        }
        queue.n_bytes += frame.len();
        queue.frames.push_back(frame);
        drop(queue);
        self.has_overflowed.store(true, Ordering::Relaxed);
        if !self.is_blocked.load(Ordering::Relaxed) {
            self.flush();
        }
    }

    /// Waits until everything is written or cannot be.
    pub(super) async fn drained(&self) {
        while !self.is_broken() && self.n_waiting() > 0 {
            if self.socket.writable().await.is_err() {
                return;
            }
            self.is_blocked.store(false, Ordering::Relaxed);
            self.flush();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Forgets what was written; how many frames were finished.
    fn advance(&mut self, n_written: usize) -> u64 {
        let mut n_finished = 0;
        self.n_written += n_written;
        while let Some(first) = self.frames.front()
            && self.n_written >= first.len()
        {
            self.n_written -= first.len();
            self.n_bytes -= first.len();
            self.frames.pop_front();
            n_finished += 1;
        }
        n_finished
    }
}

/// Connections that somebody pushed to and has yet to flush.
#[derive(Debug, Default)]
pub struct Unflushed(Vec<Arc<Wire>>);

impl Unflushed {
    /// Takes over what another has to flush.
    pub fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    /// Remembers a connection.
    pub fn add(&mut self, wire: Arc<Wire>) {
        self.0.push(wire);
    }

    /// Flushes all, and lets others run in between: a write takes microseconds, and there may be
    /// thousands.
    pub async fn flush_in_turns(&mut self) {
        while self.0.len() > TURN {
            for wire in self.0.drain(..TURN) {
                wire.flush();
            }
            tokio::task::yield_now().await;
        }
        self.flush();
    }

    /// Flushes all.
    pub fn flush(&mut self) {
        for wire in self.0.drain(..) {
            wire.flush();
        }
    }
}

impl Drop for Unflushed {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits { frames: 8, bytes: 100_000_000 };

    async fn pair() -> (Arc<Wire>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let socket = accepted.unwrap().0;
        socket.writable().await.unwrap();
        let wire = Wire::new(socket, LIMITS, Arc::new(Metrics::new()));
        (Arc::new(wire), client.unwrap())
    }

    fn text(n_bytes: usize) -> Frame {
        Frame::Text(Bytes::from(vec![b'x'; n_bytes]))
    }

    #[tokio::test]
    async fn whoever_pushes_first_flushes_all_of_it() {
        let (wire, mut client) = pair().await;
        for _ in 0..3 {
            let shared = WireFrame::shared(&text(300));
            assert_eq!(wire.push(shared), Pushed::Dirty);
            assert_eq!(wire.push(text(2).into()), Pushed::Queued);
            assert_eq!(wire.push_own(text(70_000).into()), Pushed::Queued);
            wire.flush();
            let mut read = vec![0; 304 + 4 + 70_010];
            client.read_exact(&mut read).await.unwrap();
            assert_eq!(&read[..5], b"\x81\x7e\x01\x2cx");
            assert_eq!(&read[304..308], b"\x81\x02xx");
            assert_eq!(&read[308..319], b"\x81\x7f\0\0\0\0\0\x01\x11\x70x");
            assert_eq!(wire.n_waiting(), 0);
        }
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_waits_and_too_much_overflows_once() {
        let (wire, mut client) = pair().await;
        // More than any socket buffer takes at once.
        let large = 60_000_000;
        assert_eq!(wire.push_own(text(large).into()), Pushed::Dirty);
        wire.flush();
        assert_eq!(wire.n_waiting(), 1);
        for _ in 0..7 {
            assert_eq!(wire.push(text(1).into()), Pushed::Queued);
        }
        assert_eq!(wire.push(text(1).into()), Pushed::Overflowed);
        assert_eq!(wire.push(text(1).into()), Pushed::Gone);
        wire.abandon();
        wire.push_last(WireFrame::new(Kind::Close, Bytes::from_static(b"\x03\xe8")));
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.unwrap();
            read
        });
        // The frame that was begun is finished, and the last one follows.
        wire.drained().await;
        drop(wire);
        let read = reading.await.unwrap();
        assert_eq!(read.len(), large + 10 + 4);
        assert_eq!(&read[read.len() - 5..], b"x\x88\x02\x03\xe8");
    }
}
