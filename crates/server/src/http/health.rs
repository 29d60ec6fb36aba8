//! Whether the parts of the server work, as `/healthcheck` tells it.

use serde_json::{Value, json};
use tokio::sync::watch;

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
    database: watch::Sender<Condition>,
    stream: watch::Sender<Condition>,
    /// Whether the stream brings messages that SQL sends.
    messages: watch::Sender<bool>,
}

impl Health {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            database: watch::Sender::new(Condition::Starting),
            stream: watch::Sender::new(Condition::Starting),
            messages: watch::Sender::new(false),
        }
    }

    /// The connections that ask PostgreSQL questions changed their state.
    pub fn set_database(&self, condition: Condition) {
        self.database.send_replace(condition);
    }

    /// The replication stream changed its state.
    pub fn set_stream(&self, condition: Condition) {
        self.stream.send_replace(condition);
    }

    /// Messages that SQL sends arrive from here on, or no longer.
    pub fn set_messages(&self, are_arriving: bool) {
        self.messages.send_replace(are_arriving);
    }

    /// Waits until messages that SQL sends arrive.
    pub async fn messages_ready(&self) {
        // The sender does not go away while `self` is borrowed.
        let _ = self.messages.subscribe().wait_for(|are_arriving| *are_arriving).await;
    }

    /// The state of the connections that ask PostgreSQL questions.
    #[must_use]
    pub fn database(&self) -> Condition {
        self.database.borrow().clone()
    }

    /// The state of the replication stream.
    #[must_use]
    pub fn stream(&self) -> Condition {
        self.stream.borrow().clone()
    }

    /// Whether changes reach clients.
    #[must_use]
    pub fn is_up(&self) -> bool {
        *self.database.borrow() == Condition::Up && *self.stream.borrow() == Condition::Up
    }

    /// Waits until changes reach clients.
    pub async fn ready(&self) {
        let is_up = |condition: &Condition| *condition == Condition::Up;
        let (mut database, mut stream) = (self.database.subscribe(), self.stream.subscribe());
        while !self.is_up() {
            // Neither sender goes away while `self` is borrowed.
            let _ = database.wait_for(is_up).await;
            let _ = stream.wait_for(is_up).await;
        }
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
