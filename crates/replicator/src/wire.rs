//! Frames: the server's messages in the byte stream, and what is inside the copy stream.

use walcast_change::Lsn;

use crate::pgoutput::{
    Problem,
    reader::{Malformed, Reader},
};

/// Upper bound for one message of the server.
///
/// PostgreSQL builds a message in a buffer that cannot exceed 1 GiB (`MaxAllocSize`); tag and
/// length stand before it.
pub const MESSAGE_BYTES_MAX: usize = (1 << 30) + 5;

/// The server's byte stream is not what the protocol allows.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// A message claims an impossible length.
    #[error("a message '{}' claims {length} bytes", .tag.escape_ascii())]
    Length {
        /// The message's first byte.
        tag: u8,
        /// The length it claims.
        length: u32,
    },
    /// A message that has no place here.
    #[error("unexpected message '{}' {context}", .tag.escape_ascii())]
    Unexpected {
        /// The message's first byte.
        tag: u8,
        /// When it came.
        context: &'static str,
    },
    /// A message or a frame of the copy stream is damaged.
    #[error("a damaged {what}, byte {offset}: {problem}")]
    Damaged {
        /// What it was to be.
        what: &'static str,
        /// The first byte that does not fit.
        offset: usize,
        /// What is wrong.
        problem: Problem,
    },
    /// An answer that cannot be understood.
    #[error("the answer to {0} is not understood")]
    Answer(&'static str),
}

/// Where one whole message lies at the front of the buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    /// The first byte, which says what it is.
    pub(crate) tag: u8,
    /// Bytes of the message with tag and length.
    pub(crate) n_bytes: usize,
}

impl Frame {
    /// Bytes before the message's content.
    pub(crate) const HEADER_BYTES: usize = 5;

    /// The frame at the front of the buffer, or `None` while its header is not complete.
    pub(crate) fn peek(buffer: &[u8]) -> Result<Option<Self>, WireError> {
        let Some((&[tag, a, b, c, d], _)) = buffer.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        let n_bytes = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1);
        if length < 4 || n_bytes > MESSAGE_BYTES_MAX {
            return Err(WireError::Length { tag, length });
        }
        Ok(Some(Self { tag, n_bytes }))
    }
}

/// One frame of the copy stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CopyFrame<'a> {
    /// A message of the output plugin.
    XLogData {
        /// Position of the message in the log; zero for messages that have none.
        lsn: Lsn,
        /// The message.
        message: &'a [u8],
    },
    /// Nothing to send.
    Keepalive {
        /// Everything before this position was sent.
        wal_end: Lsn,
        /// Whether the server wants an answer at once.
        reply_requested: bool,
    },
}

/// Decodes the content of one CopyData message of the server.
///
/// # Errors
/// When it is neither XLogData nor a keepalive.
pub fn decode_copy_frame(bytes: &[u8]) -> Result<CopyFrame<'_>, WireError> {
    let damaged =
        |what| move |Malformed { offset, problem }| WireError::Damaged { what, offset, problem };
    let mut reader = Reader::new(bytes);
    match reader.u8().map_err(damaged("frame"))? {
        b'w' => xlog_data(reader).map_err(damaged("XLogData")),
        b'k' => keepalive(reader).map_err(damaged("keepalive")),
        tag => Err(WireError::Unexpected { tag, context: "in the copy stream" }),
    }
}

fn xlog_data(mut reader: Reader<'_>) -> Result<CopyFrame<'_>, Malformed> {
    let lsn = Lsn::new(reader.u64()?);
    let _wal_end = reader.u64()?;
    let _sent_at = reader.i64()?;
    Ok(CopyFrame::XLogData { lsn, message: reader.remainder() })
}

fn keepalive(mut reader: Reader<'_>) -> Result<CopyFrame<'_>, Malformed> {
    let wal_end = Lsn::new(reader.u64()?);
    let _sent_at = reader.i64()?;
    let reply_requested = reader.u8()? != 0;
    reader.end()?;
    Ok(CopyFrame::Keepalive { wal_end, reply_requested })
}

/// What the server is told about our progress.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StandbyStatus {
    /// Everything before this position has arrived.
    pub received: Lsn,
    /// Everything before this position will not be asked for again.
    pub handed_over: Lsn,
    /// Whether the server shall answer with a keepalive.
    pub request_reply: bool,
}

impl StandbyStatus {
    /// The content of the CopyData message that says so.
    #[must_use]
    pub fn encode(&self) -> [u8; 34] {
        let positions = [self.received, self.handed_over, self.handed_over];
        let mut bytes = [0; 34];
        let mut fields = bytes.iter_mut();
        let mut put = |value: &[u8]| {
            for (byte, place) in value.iter().zip(fields.by_ref()) {
                *place = *byte;
            }
        };
        put(b"r");
        for position in positions {
            put(&position.as_u64().to_be_bytes());
        }
        // The sender's clock: PostgreSQL only shows it, in pg_stat_replication.reply_time.
        put(&0_i64.to_be_bytes());
        put(&[u8::from(self.request_reply)]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_found_at_the_front_of_the_buffer() {
        assert_eq!(Frame::peek(b"d\0\0\0"), Ok(None));
        assert_eq!(Frame::peek(b"d\0\0\0\x07abc"), Ok(Some(Frame { tag: b'd', n_bytes: 8 })));
        assert_eq!(Frame::peek(b"c\0\0\0\x04"), Ok(Some(Frame { tag: b'c', n_bytes: 5 })));
        for length in [0, 3, (1 << 30) + 5, u32::MAX] {
            let mut bytes = vec![b'd'];
            bytes.extend(length.to_be_bytes());
            assert_eq!(Frame::peek(&bytes), Err(WireError::Length { tag: b'd', length }));
        }
    }

    #[test]
    fn copy_frames_are_decoded() {
        let mut data = b"w".to_vec();
        data.extend([0, 0, 0, 0, 0, 0, 0, 9].repeat(3));
        data.extend(b"Bxy");
        let lsn = Lsn::new(9);
        assert_eq!(decode_copy_frame(&data), Ok(CopyFrame::XLogData { lsn, message: b"Bxy" }));
        let mut keepalive = b"k".to_vec();
        keepalive.extend([0, 0, 0, 0, 0, 0, 0, 9].repeat(2));
        keepalive.push(1);
        let expected = CopyFrame::Keepalive { wal_end: lsn, reply_requested: true };
        assert_eq!(decode_copy_frame(&keepalive), Ok(expected));
        for length in 0..keepalive.len() {
            assert!(decode_copy_frame(&keepalive[..length]).is_err());
        }
        for length in 0..25 {
            assert!(decode_copy_frame(&data[..length]).is_err());
        }
        keepalive.push(0);
        assert!(decode_copy_frame(&keepalive).is_err());
        assert!(decode_copy_frame(b"x").is_err());
    }

    #[test]
    fn progress_is_told_as_postgresql_reads_it() {
        let (received, handed_over) = (Lsn::new(0x0102), Lsn::new(0x0101));
        let bytes = StandbyStatus { received, handed_over, request_reply: true }.encode();
        let mut expected = b"r".to_vec();
        for position in [0x0102_u64, 0x0101, 0x0101, 0] {
            expected.extend(position.to_be_bytes());
        }
        expected.push(1);
        assert_eq!(bytes.to_vec(), expected);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_copy_frame(&bytes);
            let _ = Frame::peek(&bytes);
        }
    }
}
