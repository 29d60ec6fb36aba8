//! What verification finds out.

use std::time::Duration;

use walcast_filters::claims::{Claims, Role};

/// Why a token is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TokenError {
    /// It was good once.
    Expired {
        /// How long ago.
        seconds_ago: u64,
    },
    /// `role` or `exp` is missing.
    MissingClaims,
    /// It is no token.
    Malformed,
    /// It was signed with another key, or changed.
    Signature,
    /// There is no key for it.
    Signer {
        /// The id of the key it names.
        kid: Option<String>,
    },
    /// `exp` is no usable time.
    ExpirationInvalid,
    /// A claim has not the value it must have.
    ClaimMismatch,
}

/// Whom a token speaks for.
#[derive(Clone, Debug)]
pub struct VerifiedClaims {
    /// The PostgreSQL role.
    pub role: Role,
    /// All claims.
    pub claims: Claims,
    /// How long they hold.
    pub expires_in: Duration,
}
