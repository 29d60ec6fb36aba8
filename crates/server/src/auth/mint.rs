//! Makes tokens, for `walcast token`, `walcast listen` and `walcast dev`.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Map, Value};
use walcast_replicator::Secret;

/// What a token should say.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// The PostgreSQL role.
    pub role: String,
    /// The user, when there is one.
    pub subject: Option<String>,
    /// Further claims. They may not repeat `role`, `sub`, `iat` and `exp`.
    pub claims: Map<String, Value>,
    /// How long it is good.
    pub expires_in: Duration,
}

/// Why a token cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// A further claim repeats one that has a field of its own.
    #[error("the claim {0} is set by its own option")]
    Reserved(&'static str),
    /// Signing failed.
    #[error("the token cannot be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// Makes a token, signed with HS256, at this time in seconds since 1970.
///
/// # Errors
/// A claim is given twice.
pub fn mint(secret: &Secret, request: &TokenRequest, now_unix: u64) -> Result<String, MintError> {
    for reserved in ["role", "sub", "iat", "exp"] {
        if request.claims.contains_key(reserved) {
            return Err(MintError::Reserved(reserved));
        }
    }
    let mut claims = Map::new();
    claims.insert("role".to_owned(), request.role.as_str().into());
    if let Some(subject) = &request.subject {
        claims.insert("sub".to_owned(), subject.as_str().into());
    }
    claims.extend(request.claims.clone());
    claims.insert("iat".to_owned(), now_unix.into());
    claims.insert("exp".to_owned(), now_unix.saturating_add(request.expires_in.as_secs()).into());
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    encode(&Header::default(), &claims, &key).map_err(MintError::Sign)
}
