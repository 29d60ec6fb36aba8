//! Tokens, and why one is refused.

use std::{fmt, sync::Arc, time::Duration};

use walcast_filters::claims::{Claims, Role};
use walcast_protocol::{ErrorCode, error_code::JoinError, inspect_text};

/// A token that was checked.
#[derive(Clone)]
pub struct Token {
    /// The token itself, to recognise it when it is sent again.
    pub text: Arc<str>,
    /// What it says.
    pub claims: VerifiedClaims,
}

impl fmt::Debug for Token {
    /// Leaves the token out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("claims", &self.claims).finish_non_exhaustive()
    }
}

/// What a token says that was checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedClaims {
    /// The role to act as.
    pub role: Role,
    /// All claims.
    pub claims: Claims,
    /// How long it is valid, from the moment it was checked.
    pub expires_in: Duration,
}

/// Why a token is refused; `Display` is the text for humans, without a code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TokenError {
    /// It is over.
    Expired {
        /// Since when.
        seconds_ago: u64,
    },
    /// It lacks `role` or `exp`.
    MissingClaims,
    /// It is no JWT.
    Malformed,
    /// Its signature does not match.
    Signature,
    /// There is no key to check it with.
    Signer {
        /// The id of the key it names.
        kid: Option<String>,
    },
    /// Its `exp` is no time in the future.
    ExpirationInvalid,
    /// A claim differs from what this server asks for.
    ClaimMismatch,
}

impl TokenError {
    /// The kind of failure.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Expired { .. }
            | Self::MissingClaims
            | Self::ExpirationInvalid
            | Self::ClaimMismatch => ErrorCode::InvalidJWTToken,
            Self::Malformed => ErrorCode::MalformedJWT,
            Self::Signature => ErrorCode::JwtSignatureError,
            Self::Signer { .. } => ErrorCode::JwtSignerError,
        }
    }

    /// The refusal of a join with this token.
    #[must_use]
    pub fn join_error(&self) -> JoinError {
        JoinError::new(self.code(), self.to_string())
    }

    /// The `reason` in the reply to a join with this token: `Code: text`.
    #[must_use]
    pub fn join_reason(&self) -> String {
        self.join_error().to_string()
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { seconds_ago } => {
                write!(f, "Token has expired {seconds_ago} seconds ago")
            }
            Self::MissingClaims => f.write_str("Fields `role` and `exp` are required in JWT"),
            Self::Malformed => f.write_str("The token provided is not a valid JWT"),
            Self::Signature => f.write_str("Failed to validate JWT signature"),
            Self::Signer { kid: None } => f.write_str(
                "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
            ),
            Self::Signer { kid: Some(kid) } => write!(
                f,
                "Failed to generate JWT signer for key ID (kid) {}, check your JWT secret or JWKS \
                 configuration",
                inspect_text(kid)
            ),
            Self::ExpirationInvalid => f.write_str("Token expiration time is invalid"),
            Self::ClaimMismatch => f.write_str("Token claims are not accepted by this server"),
        }
    }
}

impl std::error::Error for TokenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_those_clients_know() {
        let check = |error: TokenError, expected: &str| {
            assert_eq!(error.join_reason(), expected);
            assert!(expected.ends_with(&error.to_string()));
        };
        check(
            TokenError::Expired { seconds_ago: 7 },
            "InvalidJWTToken: Token has expired 7 seconds ago",
        );
        check(
            TokenError::MissingClaims,
            "InvalidJWTToken: Fields `role` and `exp` are required in JWT",
        );
        check(TokenError::ExpirationInvalid, "InvalidJWTToken: Token expiration time is invalid");
        check(TokenError::Malformed, "MalformedJWT: The token provided is not a valid JWT");
        check(TokenError::Signature, "JwtSignatureError: Failed to validate JWT signature");
        check(
            TokenError::Signer { kid: None },
            "JwtSignerError: Failed to generate JWT signer, check your JWT secret or JWKS \
             configuration",
        );
        check(
            TokenError::Signer { kid: Some("a\"b".to_owned()) },
            "JwtSignerError: Failed to generate JWT signer for key ID (kid) \"a\\\"b\", check your \
             JWT secret or JWKS configuration",
        );
        check(
            TokenError::ClaimMismatch,
            "InvalidJWTToken: Token claims are not accepted by this server",
        );
    }
}
