//! Tokens as a Supabase project would mint them: HS256 with the shared secret.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Map, Value, json};

use crate::identity_provider::SigningKey;

/// The secret every `walcast` of the tests is started with.
pub const JWT_SECRET: &str = "a-secret-of-the-tests-with-more-than-32-characters";

/// The claims of a token in the making.
#[derive(Clone, Debug)]
pub struct Token {
    claims: Map<String, Value>,
}

impl Token {
    /// A token of `role` that expires in an hour.
    #[must_use]
    pub fn role(role: &str) -> Self {
        Self { claims: Map::new() }.claim("role", json!(role)).expires_in(3600)
    }

    /// A signed-in user's token.
    #[must_use]
    pub fn user(sub: &str) -> Self {
        Self::role("authenticated").claim("sub", json!(sub))
    }

    /// The token of somebody who is not signed in.
    #[must_use]
    pub fn anon() -> Self {
        Self::role("anon")
    }

    /// The token of the backend, which bypasses row-level security.
    #[must_use]
    pub fn service_role() -> Self {
        Self::role("service_role")
    }

    /// Exactly these claims, and an expiry in an hour unless they name one.
    #[must_use]
    pub fn claims(claims: Map<String, Value>) -> Self {
        let token = Self { claims };
        if token.claims.contains_key("exp") { token } else { token.expires_in(3600) }
    }

    /// Sets one claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.to_owned(), value);
        self
    }

    /// Removes one claim.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Expires that many seconds from this moment; a negative number has expired.
    #[must_use]
    pub fn expires_in(self, seconds: i64) -> Self {
        let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let expiry = i64::try_from(moment).unwrap_or(i64::MAX).saturating_add(seconds);
        self.claim("exp", json!(expiry))
    }

    /// Signs with the key of an identity provider.
    #[must_use]
    pub fn sign_by(&self, key: &SigningKey) -> String {
        let header = Header { kid: Some(key.id.clone()), ..Header::new(key.algorithm) };
        encode(&header, &self.claims, &key.key)
            .expect("claims made of JSON values and a key can always be signed")
    }

    /// Signs with the secret of the tests.
    #[must_use]
    pub fn sign(&self) -> String {
        self.sign_with(JWT_SECRET)
    }

    /// Signs with another secret.
    #[must_use]
    pub fn sign_with(&self, secret: &str) -> String {
        encode(&Header::default(), &self.claims, &EncodingKey::from_secret(secret.as_bytes()))
            .expect("claims made of JSON values and a secret can always be signed")
    }
}
