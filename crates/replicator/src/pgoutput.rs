//! What PostgreSQL's output plugin `pgoutput` says (protocol version 1, text format).

mod decode;
pub(crate) mod reader;
#[cfg(test)]
pub(crate) mod samples;

use std::fmt;

use walcast_change::{Commit, Lsn, Relation, Row};

pub use decode::decode;

/// One message of `pgoutput`.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A transaction begins. It has committed already, so its place and time are known.
    Begin(Commit),
    /// The transaction ends.
    Commit {
        /// Position of the commit record.
        lsn: Lsn,
        /// The position after it.
        end: Lsn,
    },
    /// The transaction came from another server by replication.
    Origin,
    /// Describes a table, before its first change and after each change of its definition.
    Relation(Relation),
    /// Describes a type that is not built in.
    Type,
    /// A new row.
    Insert {
        /// The table's oid.
        relation: u32,
        /// The row.
        new: Row,
    },
    /// A changed row.
    Update {
        /// The table's oid.
        relation: u32,
        /// The old image, when there is one.
        old: Option<(ImageKind, Row)>,
        /// The new image.
        new: Row,
    },
    /// A deleted row.
    Delete {
        /// The table's oid.
        relation: u32,
        /// The old image.
        old: (ImageKind, Row),
    },
    /// Truncated tables.
    Truncate {
        /// The tables' oids.
        relations: Vec<u32>,
    },
    /// Something an application wrote with `pg_logical_emit_message`.
    Logical(LogicalMessage),
}

/// How much an old image holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ImageKind {
    /// The replica identity's columns; the others are sent as NULL.
    Key,
    /// Every column.
    Full,
}

/// A message that was put into the log with `pg_logical_emit_message`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogicalMessage {
    /// The prefix by which readers know their messages.
    pub prefix: Box<str>,
    /// The content.
    pub content: Vec<u8>,
    /// Its position in the log.
    pub lsn: Lsn,
    /// Whether it belongs to the transaction around it; otherwise it was there at once.
    pub is_transactional: bool,
}

/// A message that is not valid: what, and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DecodeError {
    /// The position in the log that came with the message, or the last one before it.
    pub lsn: Lsn,
    /// The first byte of the message that does not fit.
    pub offset: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lsn, offset, problem } = self;
        write!(f, "decode the message at {lsn}, byte {offset}: {problem}")
    }
}

impl std::error::Error for DecodeError {}

/// What can be wrong with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Problem {
    /// The message is too short.
    #[error("the message ends {n_missing} bytes too early")]
    UnexpectedEnd {
        /// How many bytes are missing at least.
        n_missing: usize,
    },
    /// The message is too long.
    #[error("{n_bytes} bytes follow the end of the message")]
    TrailingBytes {
        /// How many.
        n_bytes: usize,
    },
    /// A length or count is negative.
    #[error("a length is {value}")]
    NegativeLength {
        /// The value.
        value: i32,
    },
    /// A text has no zero byte at its end.
    #[error("a text has no end")]
    NoTerminator,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// The first byte names no known message.
    #[error("unknown message '{}'", .0.escape_ascii())]
    UnknownMessage(u8),
    /// A part of a message is marked by an unexpected byte.
    #[error("unexpected mark '{}'", .0.escape_ascii())]
    UnexpectedMark(u8),
    /// A value in binary form, which was not asked for.
    #[error("a value in binary form, which was not asked for")]
    BinaryValue,
    /// A change of a table that was not described before.
    #[error("the table with oid {0} was not described before")]
    UnknownRelation(u32),
    /// A row does not fit its table.
    #[error("a row has {found} columns, its table {expected}")]
    ColumnCount {
        /// Columns of the table.
        expected: usize,
        /// Columns of the row.
        found: usize,
    },
    /// A change or a commit outside a transaction.
    #[error("the message belongs to a transaction, but none has begun")]
    OutsideTransaction,
    /// A transaction begins inside another one.
    #[error("a transaction begins inside another one")]
    InsideTransaction,
    /// The commit belongs to another transaction.
    #[error("the commit at {found} ends the transaction that was to commit at {expected}")]
    OtherCommit {
        /// The position Begin announced.
        expected: Lsn,
        /// The position of the commit.
        found: Lsn,
    },
}
