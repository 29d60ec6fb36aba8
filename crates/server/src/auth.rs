//! Tokens become claims.
//!
//! ```text
//! token    cleaned, split, decoded                 text → header, claims, signature
//! keys     the key is chosen by family and kid     header → key
//! remote   keys that are fetched from URLs
//! claims   times, validators, role                 claims → VerifiedClaims
//! cache    what was verified once is not verified again
//! mint     the other direction, for the command line
//! ```
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

mod cache;
mod claims;
mod keys;
mod mint;
mod remote;
mod token;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use anyhow::Context as _;
use axum::http::StatusCode;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use walcast_channels::{TokenError, VerifiedClaims};
use walcast_replicator::Secret;

use crate::{config::JwtConfig, telemetry::Metrics};

pub use claims::{ClaimValidators, ValidatorsError};
pub use keys::{KeySet, KeySetError};
pub use mint::{MintError, TokenRequest, mint};
pub use remote::{JwksUrl, JwksUrlError};

use cache::TokenCache;
use keys::ChosenKey;
use remote::{Fetched, RemoteKeys};
use token::Token;

/// The text for a connection without a token; its status is 401.
pub const API_KEY_MISSING: &str = "API key is missing";

/// Verifies tokens against the configured keys.
pub struct TokenVerifier {
    secret: Option<Secret>,
    keys: KeySet,
    remote: Vec<RemoteKeys>,
    validators: ClaimValidators,
    /// Held for a look-up or an insertion, never while verifying.
    cache: Mutex<TokenCache>,
}

impl TokenVerifier {
    /// A verifier for these keys. Those at URLs are not fetched yet.
    ///
    /// # Errors
    /// When the certificates of the system, which keys are fetched with, cannot be read.
    pub fn new(config: &JwtConfig, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let remote = config.urls.iter().map(|at| RemoteKeys::new(at.clone(), Arc::clone(metrics)));
        Ok(Self {
            secret: config.secret.clone(),
            keys: config.keys.clone().unwrap_or_default(),
            remote: remote.collect::<Result<_, _>>().context("prepare to fetch key sets")?,
            validators: config.validators.clone(),
            cache: Mutex::default(),
        })
    }

    /// Keeps the keys that are at URLs up to date, until `shutdown`.
    pub async fn keep(&self, shutdown: CancellationToken) {
        // A key that was taken back must not live on in what was verified with it.
        let forget = || self.cache().forget();
        join_all(self.remote.iter().map(|keys| keys.keep(forget, shutdown.clone()))).await;
    }

    /// As [`Self::verify`]; a token whose key is not known waits a moment for the keys at URLs.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn verify_with_new_keys(
        &self,
        token: &str,
        now_unix: u64,
    ) -> Result<VerifiedClaims, TokenError> {
        let asked = Instant::now();
        let result = self.verify(token, now_unix);
        if !self.may_need_new_keys(&result) {
            return result;
        }
        let issuer = token::clean(token)
            .and_then(|cleaned| {
                Token::parse(&cleaned).map(|token| issuer(&token).map(str::to_owned))
            })
            .unwrap_or_default();
        let looking = self.remote.iter().map(|keys| keys.look_for_key(issuer.as_deref(), asked));
        let fetched = join_all(looking).await;
        if fetched.contains(&Fetched::Changed) {
            self.cache().forget();
        }
        if fetched.iter().all(|fetched| *fetched == Fetched::Unchanged) {
            return result;
        }
        self.verify(token, now_unix)
    }

    /// Whether keys that are at URLs, and not known yet, could change this result.
    #[must_use]
    pub fn may_need_new_keys(&self, result: &Result<VerifiedClaims, TokenError>) -> bool {
        !self.remote.is_empty() && matches!(result, Err(TokenError::Signer { kid: Some(_) }))
    }

    /// Verifies a token as it came from a client, at this time in seconds since 1970.
    ///
    /// # Errors
    /// What is wrong with the token, in the order of the checks: form, key, signature, claims.
    pub fn verify(&self, token: &str, now_unix: u64) -> Result<VerifiedClaims, TokenError> {
        let cleaned = token::clean(token)?;
        let digest = TokenCache::digest(&cleaned);
        let (cached, generation) = {
            let cache = self.cache();
            (cache.find(&digest), cache.generation())
        };
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
        self.cache().insert(digest, accepted, generation);
        Ok(verified)
    }

    fn verify_signature(&self, token: &Token<'_>) -> Result<(), TokenError> {
        let key = match self.keys.choose(&token.header, self.secret.as_ref()) {
            Ok(key) => key,
            Err(error) => self.remote_key(token).ok_or(error)?,
        };
        if key.verifies(token) { Ok(()) } else { Err(TokenError::Signature) }
    }

    /// The key at a URL that a token names; one that belongs to an issuer is for that one's tokens.
    fn remote_key(&self, token: &Token<'_>) -> Option<ChosenKey> {
        let issuer = issuer(token);
        let sets = self.remote.iter().filter_map(|remote| remote.keys_for(issuer));
        sets.filter_map(|keys| keys.published(&token.header)).next()
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

fn issuer<'t>(token: &'t Token<'_>) -> Option<&'t str> {
    token.claims.get("iss").and_then(Value::as_str)
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
