//! What a connection and a stream need to know.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// Where PostgreSQL is, who we are there, and how the way is secured.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The server.
    pub host: Host,
    /// Its port, for a Unix socket the number in the socket's name.
    pub port: u16,
    /// The role to log in as; it needs the attribute REPLICATION.
    pub user: String,
    /// Its password, if it has one.
    pub password: Option<Secret>,
    /// The database whose changes are wanted.
    pub database: String,
    /// How TLS is used; without meaning for a Unix socket.
    pub ssl_mode: SslMode,
    /// A PEM file with the certificates to trust; without it the platform's trust store counts.
    pub ssl_root_cert: Option<PathBuf>,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
    /// How long connecting and logging in may take together.
    pub connect_timeout: Duration,
}

impl ConnectOptions {
    /// The server's address as error messages show it.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]:{}", self.port),
            Host::Tcp(name) => format!("{name}:{}", self.port),
            Host::Unix(folder) => self.socket_path(folder).display().to_string(),
        }
    }

    pub(crate) fn socket_path(&self, folder: &Path) -> PathBuf {
        folder.join(format!(".s.PGSQL.{}", self.port))
    }
}

/// Where a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// A host name or an address.
    Tcp(String),
    /// The folder of a Unix socket.
    Unix(PathBuf),
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS when the server offers it, else plain.
    #[default]
    Prefer,
    /// TLS; the certificate is checked only when a root certificate file is given.
    Require,
    /// TLS with a certificate of a trusted authority.
    VerifyCa,
    /// TLS with a certificate of a trusted authority that names the host.
    VerifyFull,
}

impl SslMode {
    /// libpq's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SslMode {
    type Err = SslModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| SslModeError(text.to_owned()))
    }
}

/// The text is none of libpq's words for `sslmode`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("parse \"{0}\" as sslmode: use disable, prefer, require, verify-ca or verify-full")]
pub struct SslModeError(String);

/// A text that is never printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Which slot and publications a stream reads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReplicationOptions {
    /// The slot's name: lower-case letters, digits and underscores.
    pub slot: String,
    /// Whether the slot ends with the connection.
    pub temporary: bool,
    /// The publications to read, at least one.
    pub publications: Vec<String>,
    /// How much write-ahead log an existing slot may have retained, in bytes; one that retains more
    /// is given up for a new one, with a break in continuity. `None` is no limit.
    pub wal_budget_bytes: Option<u64>,
    /// Whether an existing slot is dropped and made anew.
    ///
    /// To be set after [`next_batch`](crate::ReplicationStream::next_batch) failed with
    /// [`PublicationMissing`](crate::ReplicationError::PublicationMissing): a slot decodes with the
    /// catalogue as it was at each change, so it stays stuck in the time without the publication,
    /// even when there is one again.
    pub recreate_slot: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssl_modes_are_libpqs_words() {
        for word in ["disable", "prefer", "require", "verify-ca", "verify-full"] {
            assert_eq!(word.parse::<SslMode>().map(SslMode::as_str), Ok(word));
        }
        for word in ["", "allow", "VERIFY-FULL", "verify_full"] {
            assert!(word.parse::<SslMode>().is_err(), "{word}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let options = ConnectOptions {
            host: Host::Tcp("::1".to_owned()),
            port: 5432,
            user: "walcast".to_owned(),
            password: Some(Secret::new("hunter2")),
            database: "app".to_owned(),
            ssl_mode: SslMode::default(),
            ssl_root_cert: None,
            application_name: "walcast".to_owned(),
            connect_timeout: Duration::from_secs(10),
        };
        let printed = format!("{options:?} {}", Secret::new("hunter2"));
        assert!(printed.contains("***") && !printed.contains("hunter2"), "{printed}");
        assert_eq!(options.address(), "[::1]:5432");
        let local = ConnectOptions { host: Host::Unix("/run".into()), ..options };
        assert_eq!(local.address(), "/run/.s.PGSQL.5432");
    }
}
