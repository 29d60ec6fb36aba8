//! The receiving half of a WebSocket: bytes → frames → messages.
//!
//! A buffer is kept only while a frame is incomplete; reading goes through one that the thread owns,
//! so that an idle connection has none.

use std::{cell::RefCell, collections::VecDeque, io::Cursor, sync::Arc};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};
use walcast_protocol::{Frame, Version, frame};

use super::{
    driver::{Inbound, Receive},
    wire::{Kind, Wire, WireFrame},
};

/// What is read at a time.
const READ_BYTES: usize = 64 * 1024;

/// The largest payload of a ping, pong or close.
const CONTROL_BYTES_MAX: u64 = 125;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The receiving half.
pub(super) struct Reader {
    wire: Arc<Wire>,
    version: Version,
    bytes_max: usize,
    /// The beginning of a frame.
    incomplete: BytesMut,
    /// The fragments of a message so far.
    fragments: Option<(Data, Vec<u8>)>,
    received: VecDeque<Inbound>,
    is_over: bool,
}

impl Reader {
    /// Reads messages of at most `bytes_max`; `read` is what came with the handshake.
    pub(super) fn new(wire: Arc<Wire>, version: Version, bytes_max: usize, read: &[u8]) -> Self {
        let mut reader = Self {
            wire,
            version,
            bytes_max,
            incomplete: BytesMut::new(),
            fragments: None,
            received: VecDeque::new(),
            is_over: false,
        };
        reader.take(read);
        reader
    }

    /// Reads until the client says no more.
    pub(super) async fn exhaust(&mut self) {
        while !matches!(self.receive().await, Inbound::Gone) {}
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.incomplete.is_empty() {
            let n_taken = self.parse(bytes);
            self.incomplete.extend_from_slice(bytes.get(n_taken..).unwrap_or_default());
            return;
        }
        self.incomplete.extend_from_slice(bytes);
        let whole = std::mem::take(&mut self.incomplete);
        let n_taken = self.parse(&whole);
        self.incomplete = whole;
        self.incomplete.advance(n_taken);
        if self.incomplete.is_empty() {
            self.incomplete = BytesMut::new();
        }
    }

    /// Takes all whole frames; how many bytes they are.
    fn parse(&mut self, bytes: &[u8]) -> usize {
        let mut n_taken = 0;
        while !self.is_over {
            let mut cursor = Cursor::new(bytes.get(n_taken..).unwrap_or_default());
            let (header, length) = match FrameHeader::parse(&mut cursor) {
                Ok(Some(parsed)) => parsed,
                Ok(None) => break,
                Err(_) => {
                    self.fail();
                    break;
                }
            };
            if !self.is_acceptable(&header, length) {
                break;
            }
            let Ok(n_head) = usize::try_from(cursor.position()) else { break };
            let Ok(length) = usize::try_from(length) else { break };
            let start = n_taken + n_head;
            let Some(payload) = bytes.get(start..start.saturating_add(length)) else { break };
            let payload = unmasked(payload, header.mask.unwrap_or_default());
            n_taken = start + length;
            self.frame(&header, payload);
        }
        n_taken
    }

    /// Whether a frame may be read on.
    fn is_acceptable(&mut self, header: &FrameHeader, length: u64) -> bool {
        let is_control = matches!(header.opcode, OpCode::Control(_));
        let is_plain = !header.rsv1 && !header.rsv2 && !header.rsv3 && header.mask.is_some();
        if !is_plain || (is_control && (!header.is_final || length > CONTROL_BYTES_MAX)) {
            self.fail();
            return false;
        }
        let n_before = self.fragments.as_ref().map_or(0, |(_, fragments)| fragments.len());
        let fits = usize::try_from(length)
            .is_ok_and(|length| n_before.saturating_add(length) <= self.bytes_max);
        if !fits {
            self.end(Inbound::TooLarge);
        }
        fits
    }

    fn frame(&mut self, header: &FrameHeader, payload: Vec<u8>) {
        match header.opcode {
            OpCode::Data(Data::Continue) => match self.fragments.take() {
                Some((kind, mut fragments)) => {
                    fragments.extend_from_slice(&payload);
                    if header.is_final {
                        self.message(kind, fragments);
                    } else {
                        self.fragments = Some((kind, fragments));
                    }
                }
                None => self.fail(),
            },
            OpCode::Data(kind @ (Data::Text | Data::Binary)) => {
                if self.fragments.is_some() {
                    self.fail();
                } else if header.is_final {
                    self.message(kind, payload);
                } else {
                    self.fragments = Some((kind, payload));
                }
            }
            OpCode::Control(Control::Ping) => {
                self.wire.push(WireFrame::new(Kind::Pong, payload.into()));
                self.wire.flush();
                self.received.push_back(Inbound::Activity);
            }
            OpCode::Control(Control::Pong) => self.received.push_back(Inbound::Activity),
            OpCode::Control(Control::Close) => self.end(Inbound::Gone),
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => self.fail(),
        }
    }

    fn message(&mut self, kind: Data, payload: Vec<u8>) {
        let frame = match kind {
            Data::Text => Frame::Text(payload.into()),
            Data::Binary | Data::Continue | Data::Reserved(_) => Frame::Binary(payload.into()),
        };
        self.received.push_back(Inbound::Message(frame::decode(self.version, &frame)));
    }

    /// What came is no WebSocket: says so and reads no further.
    fn fail(&mut self) {
        const PROTOCOL_ERROR: u16 = 1002;
        let code = Bytes::copy_from_slice(&PROTOCOL_ERROR.to_be_bytes());
        self.wire.push_last(WireFrame::new(Kind::Close, code));
        self.end(Inbound::Gone);
    }

    fn end(&mut self, last: Inbound) {
        self.is_over = true;
        self.received.push_back(last);
    }
}

impl Receive for &mut Reader {
    async fn receive(&mut self) -> Inbound {
        Reader::receive(self).await
    }

    fn received(&mut self) -> Option<Inbound> {
        self.received.pop_front()
    }
}

impl Reader {
    async fn receive(&mut self) -> Inbound {
        loop {
            if let Some(received) = self.received.pop_front() {
                return received;
            }
            if self.is_over || self.wire.socket().readable().await.is_err() {
                return Inbound::Gone;
            }
            let wire = Arc::clone(&self.wire);
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let read = wire.socket().try_read(scratch);
                if let Ok(n_read) = read {
                    wire.count_received(n_read);
                    self.take(scratch.get(..n_read).unwrap_or_default());
                }
                read
            });
            match read {
                Ok(0) => return Inbound::Gone,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return Inbound::Gone,
            }
        }
    }
}

/// The payload without its mask.
fn unmasked(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}
