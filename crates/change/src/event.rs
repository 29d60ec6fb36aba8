//! One committed change of one row.

use std::sync::Arc;

use crate::{Lsn, Relation, Row};

/// One committed change, with its place in the stream: (commit LSN, index).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RowEvent {
    /// The table as the stream described it when the change was made.
    pub relation: Arc<Relation>,
    /// The transaction.
    pub commit: Commit,
    /// Position among the row events of the transaction, from 0.
    pub index: u32,
    /// What happened.
    pub change: RowChange,
}

impl RowEvent {
    /// INSERT, UPDATE, DELETE or TRUNCATE.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self.change {
            RowChange::Insert { .. } => EventKind::Insert,
            RowChange::Update { .. } => EventKind::Update,
            RowChange::Delete { .. } => EventKind::Delete,
            RowChange::Truncate => EventKind::Truncate,
        }
    }

    /// The new image, for INSERT and UPDATE.
    #[must_use]
    pub fn new_row(&self) -> Option<&Row> {
        match &self.change {
            RowChange::Insert { new } | RowChange::Update { new, .. } => Some(new),
            RowChange::Delete { .. } | RowChange::Truncate => None,
        }
    }

    /// The old image as far as the stream carried it.
    #[must_use]
    pub fn old_image(&self) -> Option<&OldImage> {
        match &self.change {
            RowChange::Update { old, .. } => old.as_ref(),
            RowChange::Delete { old } => Some(old),
            RowChange::Insert { .. } | RowChange::Truncate => None,
        }
    }
}

/// The transaction a row event belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Commit {
    /// Position of the commit record (pgoutput's "final LSN of the transaction").
    pub lsn: Lsn,
    /// Commit time in µs since 1970-01-01 00:00 UTC.
    pub timestamp_us: i64,
    /// The transaction id.
    pub transaction_id: u32,
}

/// What happened to the row, with exactly the images that can exist.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RowChange {
    /// A new row.
    Insert {
        /// The row as inserted.
        new: Row,
    },
    /// A changed row.
    Update {
        /// The old image; `None` when the identity is a key and the key did not change.
        old: Option<OldImage>,
        /// The row as committed. With a full old image, unchanged TOAST values are filled in.
        new: Row,
    },
    /// A row that is gone.
    Delete {
        /// The old image.
        old: OldImage,
    },
    /// The whole table was truncated.
    Truncate,
}

/// The old image of a row: always one cell per column of the relation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OldImage {
    /// The replica identity's columns; every other cell is [`Cell::Unchanged`](crate::Cell).
    Key(Row),
    /// Every column (replica identity full).
    Full(Row),
}

impl OldImage {
    /// The row, whichever kind it is.
    #[must_use]
    pub fn row(&self) -> &Row {
        match self {
            Self::Key(row) | Self::Full(row) => row,
        }
    }
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum EventKind {
    /// INSERT, COPY.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE, also by a cascade.
    Delete,
    /// TRUNCATE: never delivered to clients.
    Truncate,
}

impl EventKind {
    /// PostgreSQL's word, upper case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
        }
    }
}
