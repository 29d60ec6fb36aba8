//! One reading of the catalogue: what it says, and which part of the stream it belongs to.

use std::{sync::Arc, time::Instant};

use walcast_change::Lsn;

use super::{Catalogue, snapshot::Snapshot};

/// A catalogue with its place.
#[derive(Debug, Default)]
pub struct Reading {
    /// What was read.
    pub catalogue: Arc<Catalogue>,
    /// Where in the stream it belongs.
    pub place: Place,
    /// When reading began; `None` before anything was read.
    pub began: Option<Instant>,
}

/// The place of a reading in the stream.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// The transactions whose changes of definitions it has.
    pub snapshot: Snapshot,
    /// The end of the log after the snapshot was taken: all those transactions are before it.
    pub position: Lsn,
    /// Which event triggers announce changes of definitions, as oid and version; `None` when they
    /// are missing or switched off, so that the stream says nothing about such changes.
    pub trigger: Option<Box<str>>,
}
