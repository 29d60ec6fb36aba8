//! Tokens become claims.
//!
//! ```text
//! token    cleaned, split, decoded                 text → header, claims, signature
//! keys     the key is chosen by family and kid     header → key
//! claims   times, validators, role                 claims → VerifiedClaims
//! cache    what was verified once is not verified again
//! mint     the other direction, for the command line
//! ```
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

mod cache;
mod claims;
mod keys;
mod mint;
mod token;

use std::{fmt, sync::Mutex};

use axum::http::StatusCode;

use walcast_channels::{TokenError, VerifiedClaims};
use walcast_replicator::Secret;

use crate::config::JwtConfig;

pub use claims::{ClaimValidators, ValidatorsError};
pub use keys::{KeySet, KeySetError};
pub use mint::{MintError, TokenRequest, mint};

use cache::TokenCache;
use token::Token;

/// The text for a connection without a token; its status is 401.
pub const API_KEY_MISSING: &str = "API key is missing";

/// Verifies tokens against the configured keys.
pub struct TokenVerifier {
    secret: Option<Secret>,
    keys: KeySet,
    validators: ClaimValidators,
    /// Held for a look-up or an insertion, never while verifying.
    cache: Mutex<TokenCache>,
}

impl TokenVerifier {
    /// A verifier for these keys.
    #[must_use]
    pub fn new(config: &JwtConfig) -> Self {
        Self {
            secret: config.secret.clone(),
            keys: config.keys.clone().unwrap_or_default(),
            validators: config.validators.clone(),
            cache: Mutex::default(),
        }
    }

    /// Verifies a token as it came from a client, at this time in seconds since 1970.
    ///
    /// # Errors
    /// What is wrong with the token, in the order of the checks: form, key, signature, claims.
    pub fn verify(&self, token: &str, now_unix: u64) -> Result<VerifiedClaims, TokenError> {
        let cleaned = token::clean(token)?;
        let digest = TokenCache::digest(&cleaned);
        let cached = self.cache().find(&digest);
        let accepted = match cached {
            Some(accepted) => accepted,
            None => {
                let token = Token::parse(&cleaned)?;
                self.verify_signature(&token)?;
                claims::accept(&token.claims, &token.claims_text, &self.validators, now_unix)?
            }
        };
        // A cached token may have expired since.
        let verified = accepted.at(now_unix)?;
        self.cache().insert(digest, accepted);
        Ok(verified)
    }

    fn verify_signature(&self, token: &Token<'_>) -> Result<(), TokenError> {
        let key = self.keys.choose(&token.header, self.secret.as_ref())?;
        if key.verifies(token) { Ok(()) } else { Err(TokenError::Signature) }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, TokenCache> {
        // The cache is whole after every statement that changes it.
        self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TokenVerifier").finish_non_exhaustive()
    }
}

/// Whether a bearer token is signed with this secret and has not expired; it needs no role.
#[must_use]
pub fn is_signed_with(secret: &Secret, token: &str, now_unix: u64) -> bool {
    let Ok(cleaned) = token::clean(token) else { return false };
    let Ok(token) = Token::parse(&cleaned) else { return false };
    KeySet::default().choose(&token.header, Some(secret)).is_ok_and(|key| {
        key.verifies(&token) && claims::check_times(&token.claims, now_unix).is_ok()
    })
}

/// The answer to a WebSocket handshake whose token is refused: the status, and the text for
/// `{"error": …}`.
#[must_use]
pub fn connect_error(error: &TokenError) -> (StatusCode, String) {
    let text = match error {
        TokenError::Expired { .. } => "Token has expired".to_owned(),
        // The reference answers 500 to these two; the fault is the token's.
        TokenError::ExpirationInvalid | TokenError::ClaimMismatch => {
            TokenError::Malformed.to_string()
        }
        TokenError::MissingClaims
        | TokenError::Malformed
        | TokenError::Signature
        | TokenError::Signer { .. } => error.to_string(),
    };
    (StatusCode::UNAUTHORIZED, text)
}

#[cfg(test)]
mod tests;
