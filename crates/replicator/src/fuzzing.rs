//! The bodies of the fuzz targets, which the tests run over the committed corpus, too.

use walcast_change::Lsn;

use crate::{
    Assembler, Taken,
    wire::{CopyFrame, Frame},
};

/// Decodes any bytes as one message of `pgoutput`, and as a stream of messages.
pub fn decode_pgoutput(bytes: &[u8]) {
    let _ = crate::decode(Lsn::ZERO, bytes);
    assemble(bytes);
}

/// Decodes any bytes as the frame of a message, and as the content of a CopyData message.
pub fn decode_copy_frame(bytes: &[u8]) {
    let _ = Frame::peek(bytes);
    if let Ok(CopyFrame::XLogData { lsn, message }) = crate::decode_copy_frame(bytes) {
        let _ = crate::decode(lsn, message);
    }
}

/// Assembles a sequence of messages, each after its length in two bytes.
fn assemble(bytes: &[u8]) {
    let mut assembler = Assembler::new(Taken::default());
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let Some((message, after)) = after.split_at_checked(u16::from_be_bytes(*length).into())
        else {
            return;
        };
        if assembler.push(Lsn::ZERO, message, &mut out).is_err() {
            return;
        }
        out.clear();
        rest = after;
    }
}
