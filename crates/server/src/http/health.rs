//! Whether the parts of the server work, as `/healthcheck` tells it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Value, json};

/// The state of one part of the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Condition {
    /// Not known yet.
    Starting,
    /// It works.
    Up,
    /// Another process holds the slot, and this one waits for it.
    Standby {
        /// Who holds it, or what else is known. Shown to anybody: no secrets.
        reason: String,
    },
    /// It does not work.
    Down {
        /// Why. Shown to anybody: no secrets.
        reason: String,
    },
}

/// The state of the parts without which no change reaches anybody.
#[derive(Debug)]
pub struct Health {
    database: ArcSwap<Condition>,
    stream: ArcSwap<Condition>,
}

impl Health {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            database: ArcSwap::from_pointee(Condition::Starting),
            stream: ArcSwap::from_pointee(Condition::Starting),
        }
    }

    /// The connections that ask PostgreSQL questions changed their state.
    pub fn set_database(&self, condition: Condition) {
        self.database.store(Arc::new(condition));
    }

    /// The replication stream changed its state.
    pub fn set_stream(&self, condition: Condition) {
        self.stream.store(Arc::new(condition));
    }

    /// The state of the connections that ask PostgreSQL questions.
    #[must_use]
    pub fn database(&self) -> Arc<Condition> {
        self.database.load_full()
    }

    /// The state of the replication stream.
    #[must_use]
    pub fn stream(&self) -> Arc<Condition> {
        self.stream.load_full()
    }

    /// Whether changes reach clients.
    #[must_use]
    pub fn is_up(&self) -> bool {
        **self.database.load() == Condition::Up && **self.stream.load() == Condition::Up
    }

    /// The answer of `/healthcheck`.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "status": if self.is_up() { "ok" } else { "unavailable" },
            "database": self.database().to_json(),
            "stream": self.stream().to_json(),
        })
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Condition {
    fn to_json(&self) -> Value {
        match self {
            Self::Starting => json!({"status": "starting"}),
            Self::Up => json!({"status": "up"}),
            Self::Standby { reason } => json!({"status": "standby", "reason": reason}),
            Self::Down { reason } => json!({"status": "down", "reason": reason}),
        }
    }
}
