//! Why a policy is left to PostgreSQL.

use std::fmt;

/// Why a policy cannot be decided in process; `Display` completes "PostgreSQL is asked because …".
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotDecided {
    /// The catalogue gave no expression to compile.
    NotRead,
}

impl fmt::Display for NotDecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRead => f.write_str("its expression was not read"),
        }
    }
}
