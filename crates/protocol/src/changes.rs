//! A committed change as the `data` object of a `postgres_changes` message.
//!
//! ```text
//! Table (aligned) ── TableEncoder::new ──► names, types and JSON forms, once per table version
//! RowEvent + View ── TableEncoder::encode ──► {"schema":…,"record":…,"errors":null}
//! ```
//!
//! A [`View`] is what one group of recipients may see: whoever shares it shares the bytes.

mod change_size;
mod commit_timestamp;
mod encoder;
mod type_name;

use walcast_change::{ColumnSet, EventKind, Table};

pub use encoder::TableEncoder;

/// The reference's limit for a change: 1 MiB.
pub const MAX_RECORD_BYTES: usize = 1_048_576;

/// What one group of recipients may see of a change.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The columns the role may SELECT.
    pub selectable: &'a ColumnSet,
    /// The columns of the `select` list, to which the primary key is added; `None` for all.
    pub selected: Option<&'a ColumnSet>,
    /// How much of the old image may be shown.
    pub old: OldView,
    /// Above this size a change is reduced to its small values, see [`MAX_RECORD_BYTES`].
    pub max_record_bytes: usize,
}

/// How much of the old image a group of recipients may see.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum OldView {
    /// Everything the stream carried.
    Whole,
    /// The primary key's columns: row security is on and the old image was not allowed.
    KeyOnly,
}

/// Why a role gets an error event in place of an INSERT or UPDATE.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Problem {
    /// 400: the table has no primary key.
    NoPrimaryKey,
    /// 401: the role may not SELECT every column of the primary key.
    Unauthorized,
}

impl Problem {
    /// The text in the event's `errors`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoPrimaryKey => "Error 400: Bad Request, no primary key",
            Self::Unauthorized => "Error 401: Unauthorized",
        }
    }
}

/// Whether INSERT or UPDATE must be an error event for a role that may SELECT `selectable`. DELETE
/// never is one: it shows whatever is selectable.
#[must_use]
pub fn problem(table: &Table, selectable: &ColumnSet, kind: EventKind) -> Option<Problem> {
    match kind {
        EventKind::Delete | EventKind::Truncate => None,
        EventKind::Insert | EventKind::Update => {
            if !table.has_primary_key {
                Some(Problem::NoPrimaryKey)
            } else if !selectable.is_superset(&table.primary_key()) {
                Some(Problem::Unauthorized)
            } else {
                None
            }
        }
    }
}
