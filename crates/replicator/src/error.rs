//! What can go wrong, and whether waiting helps.

use std::{io, time::Duration};

use crate::{
    connection::tls::TlsError, pgoutput::DecodeError, server_error::ServerError, wire::WireError,
};

/// Why a stream could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// Another process reads the slot: wait as its standby and try again.
    #[error(
        "start the stream: another process{} reads the replication slot; \
         wait until it stops, or give each server its own slot name",
        display_pid(*.pid)
    )]
    SlotActive {
        /// The backend that serves it, when PostgreSQL says so.
        pid: Option<i32>,
    },
    /// A publication does not exist.
    ///
    /// From [`start`](crate::ReplicationStream::start): no slot was created or touched; try again
    /// later. From [`next_batch`](crate::ReplicationStream::next_batch): try again with
    /// [`recreate_slot`](crate::ReplicationOptions::recreate_slot).
    #[error(
        "read the publication \"{name}\": it does not exist; \
         create it with: create publication \"{name}\" for table …"
    )]
    PublicationMissing {
        /// The publication's name.
        name: String,
    },
    /// Likely to succeed later without anybody's help.
    #[error(transparent)]
    Transient(#[from] Transient),
    /// Will fail again until somebody changes something.
    #[error(transparent)]
    Definite(#[from] Definite),
    /// The server sent something that is not valid; the stream cannot be trusted any further, a new
    /// one resumes at the last acknowledged position.
    #[error("decode the replication stream")]
    Decode(#[from] DecodeError),
    /// The server's framing is broken.
    #[error("read the server's messages")]
    Wire(#[from] WireError),
}

impl ReplicationError {
    /// Whether trying again without any change may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Definite(_) => false,
            Self::SlotActive { .. }
            | Self::PublicationMissing { .. }
            | Self::Transient(_)
            | Self::Decode(_)
            | Self::Wire(_) => true,
        }
    }
}

/// A failure that time may heal.
#[derive(Debug, thiserror::Error)]
pub enum Transient {
    /// Nobody answers at the address.
    #[error("connect to PostgreSQL at {address}: check that it runs and can be reached")]
    Connect {
        /// The address.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// Connecting took too long.
    #[error("connect to PostgreSQL at {address}: no answer within {} s", .timeout.as_secs_f32())]
    ConnectTimeout {
        /// The address.
        address: String,
        /// The limit that passed.
        timeout: Duration,
    },
    /// The connection broke.
    #[error("keep the connection to PostgreSQL")]
    Lost(#[source] io::Error),
    /// The server closed the connection without a word.
    #[error("keep the connection to PostgreSQL: the server closed it")]
    Closed,
    /// The server does not answer, although it was asked to.
    #[error("keep the connection to PostgreSQL: no sign of life for {} s", .0.as_secs())]
    Silent(Duration),
    /// The server ended the copy although nobody asked for it.
    #[error("read the replication stream: the server ended it")]
    Ended,
    /// The server reported an error that is likely to pass.
    #[error("{action}")]
    Server {
        /// What was tried.
        action: &'static str,
        /// What the server said.
        source: Box<ServerError>,
    },
}

/// A failure that stays until somebody changes something.
#[derive(Debug, thiserror::Error)]
pub enum Definite {
    /// TLS could not be agreed on.
    #[error("secure the connection to PostgreSQL at {address}")]
    Tls {
        /// The address.
        address: String,
        /// The cause, which says what to do.
        source: TlsError,
    },
    /// The server refused the login.
    #[error("log in to PostgreSQL as \"{user}\": {advice}")]
    Login {
        /// The role.
        user: String,
        /// What to do.
        advice: &'static str,
        /// What the server said.
        source: Box<ServerError>,
    },
    /// The server wants a password and none is set.
    #[error("log in to PostgreSQL as \"{user}\": the server asks for a password; set one")]
    PasswordNeeded {
        /// The role.
        user: String,
    },
    /// The server wants a way of logging in that is not supported.
    #[error(
        "log in to PostgreSQL as \"{user}\": the server asks for {method}; allow scram-sha-256, \
         md5, password or trust for this role in pg_hba.conf"
    )]
    LoginMethod {
        /// The role.
        user: String,
        /// The way the server wants.
        method: &'static str,
    },
    /// The server could not prove that it knows the password.
    #[error(
        "log in to PostgreSQL as \"{user}\": the server's answer does not fit the password; \
         check the address, somebody else may be listening there"
    )]
    LoginProof {
        /// The role.
        user: String,
        /// The cause.
        source: io::Error,
    },
    /// A value of the options cannot be used.
    #[error("use the option {option}: {problem}")]
    Option {
        /// Which one.
        option: &'static str,
        /// What is wrong, and what is allowed.
        problem: &'static str,
    },
    /// The server is too old.
    #[error("read changes from PostgreSQL {version}: version 14 or later is needed")]
    Version {
        /// The server's version.
        version: String,
    },
    /// The server writes too little into its log.
    #[error(
        "read changes: wal_level is {wal_level}; \
         run: alter system set wal_level = logical, then restart PostgreSQL"
    )]
    WalLevel {
        /// The setting in force.
        wal_level: String,
    },
    /// The database's texts have no known encoding.
    #[error(
        "read changes of the database \"{database}\": its encoding is SQL_ASCII, so its texts \
         cannot be converted to UTF-8; use a database with encoding UTF8"
    )]
    Encoding {
        /// The database.
        database: String,
    },
    /// The slot exists and is somebody else's.
    #[error(
        "use the replication slot \"{slot}\": {problem}; choose another slot name, or drop it \
         with: select pg_drop_replication_slot('{slot}')"
    )]
    ForeignSlot {
        /// The slot.
        slot: String,
        /// Whose it is: another plugin, another database, physical replication.
        problem: String,
    },
    /// The server reported an error that will not pass.
    #[error("{action}{}", display_advice(.advice))]
    Server {
        /// What was tried.
        action: &'static str,
        /// What to do, where we know it.
        advice: Option<&'static str>,
        /// What the server said.
        source: Box<ServerError>,
    },
}

/// What an error of the server means for the stream.
pub(crate) fn classify(action: &'static str, error: ServerError) -> ReplicationError {
    const OBJECT_IN_USE: &str = "55006";
    if error.code == OBJECT_IN_USE {
        return ReplicationError::SlotActive { pid: last_number(&error.message) };
    }
    let source = Box::new(error);
    if source.is_transient() {
        return Transient::Server { action, source }.into();
    }
    let advice = match source.code.as_str() {
        "42501" => Some("give the role the right to replicate: alter role … with replication"),
        "53400" => Some(
            "raise max_replication_slots, or drop slots that nobody reads \
             (select slot_name, active from pg_replication_slots)",
        ),
        _ => None,
    };
    Definite::Server { action, advice, source }.into()
}

/// "replication slot … is active for PID 4711", in whatever language.
fn last_number(message: &str) -> Option<i32> {
    message
        .split(|character: char| !character.is_ascii_digit())
        .rfind(|part| !part.is_empty())?
        .parse()
        .ok()
}

fn display_pid(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (backend {pid})")).unwrap_or_default()
}

fn display_advice(advice: &Option<&'static str>) -> String {
    advice.map(|advice| format!(": {advice}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_active_slot_is_no_failure() {
        let error = ServerError {
            code: "55006".to_owned(),
            message: "replication slot \"w1\" is active for PID 4711".to_owned(),
            detail: None,
            hint: None,
        };
        let classified = classify("start the stream", error);
        assert!(matches!(classified, ReplicationError::SlotActive { pid: Some(4711) }));
    }

    #[test]
    fn errors_say_what_to_do() {
        let active = ReplicationError::SlotActive { pid: Some(7) };
        assert!(active.to_string().contains("(backend 7)"), "{active}");
        let missing = ReplicationError::PublicationMissing { name: "news".to_owned() };
        assert!(missing.to_string().contains("create publication \"news\""), "{missing}");
        assert!(active.is_transient() && missing.is_transient());
        let level = ReplicationError::from(Definite::WalLevel { wal_level: "replica".to_owned() });
        assert!(level.to_string().contains("alter system"), "{level}");
        assert!(!level.is_transient());
    }
}
