//! What can be wrong with a configuration.

use std::{fmt, path::PathBuf};

use super::value::ConversionError;

/// What is wrong with a configuration, named by the words its author used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A `WALCAST_` variable that is no option.
    #[error("{variable} is not an option{hint}", hint = Hint(hint.as_deref()))]
    UnknownVariable {
        /// The variable.
        variable: String,
        /// The nearest variable that is one.
        hint: Option<String>,
    },
    /// A key of the file that is no option.
    #[error("{key} in {path} is not an option{hint}", path = path.display(), hint = Hint(*hint))]
    UnknownKey {
        /// The key.
        key: String,
        /// The file.
        path: PathBuf,
        /// The nearest key that is one.
        hint: Option<&'static str>,
    },
    /// A value that does not fit its option.
    #[error("{origin}{shown} {reason}", shown = Shown(value.as_deref()))]
    Invalid {
        /// Where the value came from.
        origin: String,
        /// The value, unless it is a secret.
        value: Option<String>,
        /// What it should be.
        reason: String,
    },
    /// Two sources say different things, and neither goes first.
    #[error("{first} and {second} contradict each other; set one of them, or both the same")]
    Contradiction {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// The database URL cannot be read.
    #[error("{origin}: {reason}")]
    DatabaseUrl {
        /// Where the URL came from.
        origin: String,
        /// What is wrong with it; repeats no value.
        reason: String,
    },
    /// Tokens cannot be verified.
    #[error(
        "tokens cannot be verified: set jwt-secret (JWT_SECRET) or jwt-jwks (API_JWT_JWKS), \
         or a file with --jwt-jwks-file"
    )]
    NoKeys,
    /// A file cannot be read.
    #[error("{path} cannot be read: {cause}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// The file is no TOML.
    #[error("{path}, line {line}: {cause}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, without the text itself, which may hold a secret.
        cause: String,
    },
}

impl ConfigError {
    pub(super) fn must_be(origin: String, value: Option<&str>, error: &ConversionError) -> Self {
        Self::Invalid {
            origin,
            value: value.map(str::to_owned),
            reason: format!("must be {}", error.0),
        }
    }
}

struct Hint<'a>(Option<&'a str>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(formatter, "; did you mean {name}?"),
            None => Ok(()),
        }
    }
}

struct Shown<'a>(Option<&'a str>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(formatter, " = {value}:"),
            None => formatter.write_str(":"),
        }
    }
}
