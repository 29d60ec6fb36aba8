//! Keys, and which of them a token must be signed with.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::{Map, Value};
use walcast_channels::TokenError;
use walcast_replicator::Secret;

use super::token::{Header, Token};

/// A JSON Web Key Set: keys by id.
///
/// Keys without an id cannot be chosen by a token and are left out, as are key types that no
/// supported algorithm uses.
#[derive(Clone, Default)]
pub struct KeySet {
    by_id: BTreeMap<String, Vec<Key>>,
    /// What it was made of, so that sets can be compared.
    source: Box<str>,
}

/// Keys of a published set that are looked at.
const PUBLISHED_KEYS_MAX: usize = 100;

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// Why a key set cannot be read. Repeats no value of it: it may hold shared secrets.
#[derive(Debug, thiserror::Error, Eq, PartialEq)]
pub enum KeySetError {
    /// The text is no JSON document.
    #[error("must be a JSON Web Key Set, but is no JSON (line {line}, column {column})")]
    Json {
        /// The line of the fault.
        line: usize,
        /// The column of the fault.
        column: usize,
    },
    /// The document has another shape.
    #[error("must be a JSON Web Key Set of the form {{\"keys\": [{{…}}, …]}}")]
    Shape,
    /// A key of a supported type lacks a member, or holds one that is no base64url.
    #[error("key {kid:?} of type {kty} has no usable member {member:?}")]
    Member {
        /// The key's id.
        kid: String,
        /// The key's type.
        kty: &'static str,
        /// The member that is missing or unreadable.
        member: &'static str,
    },
}

/// One key. The variant is the family, and an algorithm only ever meets keys of its own family: a
/// public key cannot be used as a shared secret.
#[derive(Clone)]
enum Key {
    Shared(DecodingKey),
    Rsa(DecodingKey),
    P256(DecodingKey),
    P384(DecodingKey),
    /// The uncompressed point.
    P521(Vec<u8>),
    Ed25519(DecodingKey),
    /// Of a supported family, on a curve that cannot be verified (secp256k1, Ed448).
    Unsupported(Family),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Family {
    Shared,
    Rsa,
    Elliptic,
    Edwards,
}

/// A key together with the algorithm a token wants to use it with.
pub(super) struct ChosenKey {
    key: Key,
    algorithm: Wanted,
}

/// An algorithm that a token may name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    Library(Algorithm),
    /// ECDSA with P-521.
    Es512,
}

impl KeySet {
    /// Reads `{"keys": […]}`.
    ///
    /// # Errors
    /// The text is no key set, or one of its keys cannot be used.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        let document: Value = serde_json::from_str(text)
            .map_err(|error| KeySetError::Json { line: error.line(), column: error.column() })?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(KeySetError::Shape)?;
        let mut set = Self { source: text.into(), ..Self::default() };
        for key in keys {
            let key = key.as_object().ok_or(KeySetError::Shape)?;
            let Some(kid) = key.get("kid").and_then(Value::as_str) else { continue };
            if let Some(parsed) = Key::parse(kid, key)? {
                set.by_id.entry(kid.to_owned()).or_default().push(parsed);
            }
        }
        Ok(set)
    }

    /// Reads a key set that is there for all to see. A shared secret in it is none, and left out, as is
    /// a key that cannot be used: the rest of a set that others keep still counts.
    ///
    /// # Errors
    /// The text is no key set.
    pub(super) fn parse_published(text: &str) -> Result<Self, KeySetError> {
        let document: Value = serde_json::from_str(text)
            .map_err(|error| KeySetError::Json { line: error.line(), column: error.column() })?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(KeySetError::Shape)?;
        let mut set = Self { source: text.into(), ..Self::default() };
        for key in keys.iter().take(PUBLISHED_KEYS_MAX).filter_map(Value::as_object) {
            let Some(kid) = key.get("kid").and_then(Value::as_str) else { continue };
            match Key::parse(kid, key) {
                Ok(Some(Key::Shared(_))) => {
                    tracing::warn!(
                        kid,
                        "a key set that is public holds a shared secret; it is left out"
                    );
                }
                Ok(Some(parsed)) => set.by_id.entry(kid.to_owned()).or_default().push(parsed),
                Ok(None) => {}
                Err(error) => tracing::warn!("a key that was fetched is left out: {error}"),
            }
        }
        Ok(set)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.values().map(Vec::len).sum()
    }

    /// The public key with this id for this header's algorithm.
    pub(super) fn published(&self, header: &Header) -> Option<ChosenKey> {
        let (family, algorithm) = Family::of(&header.algorithm)?;
        let keys = self.by_id.get(header.key_id.as_ref()?)?;
        let key = keys.iter().find(|key| key.family() == family && family != Family::Shared)?;
        Some(ChosenKey { key: key.clone(), algorithm })
    }

    /// The key that a token with this header must be signed with.
    pub(super) fn choose(
        &self,
        header: &Header,
        secret: Option<&Secret>,
    ) -> Result<ChosenKey, TokenError> {
        let (family, algorithm) =
            Family::of(&header.algorithm).ok_or(TokenError::Signer { kid: None })?;
        let named = header
            .key_id
            .as_ref()
            .and_then(|kid| self.by_id.get(kid))
            .and_then(|keys| keys.iter().find(|key| key.family() == family));
        match (named, secret) {
            (Some(key), _) => Ok(ChosenKey { key: key.clone(), algorithm }),
            // An unknown kid is no fault of an HMAC token.
            (None, Some(secret)) if family == Family::Shared => Ok(ChosenKey {
                key: Key::Shared(DecodingKey::from_secret(secret.expose().as_bytes())),
                algorithm,
            }),
            (None, _) if family == Family::Shared => Err(TokenError::Signer { kid: None }),
            (None, _) => Err(TokenError::Signer { kid: header.key_id.clone() }),
        }
    }
}

impl Family {
    fn of(algorithm: &str) -> Option<(Self, Wanted)> {
        Some(match algorithm {
            "HS256" => (Self::Shared, Wanted::Library(Algorithm::HS256)),
            "HS384" => (Self::Shared, Wanted::Library(Algorithm::HS384)),
            "HS512" => (Self::Shared, Wanted::Library(Algorithm::HS512)),
            "RS256" => (Self::Rsa, Wanted::Library(Algorithm::RS256)),
            "RS384" => (Self::Rsa, Wanted::Library(Algorithm::RS384)),
            "RS512" => (Self::Rsa, Wanted::Library(Algorithm::RS512)),
            "ES256" => (Self::Elliptic, Wanted::Library(Algorithm::ES256)),
            "ES384" => (Self::Elliptic, Wanted::Library(Algorithm::ES384)),
            "ES512" => (Self::Elliptic, Wanted::Es512),
            "EdDSA" | "Ed25519" => (Self::Edwards, Wanted::Library(Algorithm::EdDSA)),
            // Ed448 has no implementation here. Everything else is refused by the reference, too:
            // none, PS256 to PS512, ES256K.
            _ => return None,
        })
    }
}

impl ChosenKey {
    /// Whether the signature is this key's.
    pub(super) fn verifies(&self, token: &Token<'_>) -> bool {
        let with = |key: &DecodingKey, algorithm| {
            crypto::verify(token.signature, token.message, key, algorithm).unwrap_or(false)
        };
        match (&self.key, self.algorithm) {
            (
                Key::Shared(key),
                Wanted::Library(
                    algorithm @ (Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512),
                ),
            )
            | (
                Key::Rsa(key),
                Wanted::Library(
                    algorithm @ (Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512),
                ),
            )
            | (Key::P256(key), Wanted::Library(algorithm @ Algorithm::ES256))
            | (Key::P384(key), Wanted::Library(algorithm @ Algorithm::ES384))
            | (Key::Ed25519(key), Wanted::Library(algorithm @ Algorithm::EdDSA)) => {
                with(key, algorithm)
            }
            (Key::P521(point), Wanted::Es512) => {
                URL_SAFE_NO_PAD.decode(token.signature).is_ok_and(|signature| {
                    UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point)
                        .verify(token.message, &signature)
                        .is_ok()
                })
            }
            // The right family on another curve.
            (_, Wanted::Library(_) | Wanted::Es512) => false,
        }
    }
}

impl Key {
    fn parse(kid: &str, members: &Map<String, Value>) -> Result<Option<Self>, KeySetError> {
        let text = |member| members.get(member).and_then(Value::as_str);
        let reader = |kty| {
            move |member: &'static str| {
                text(member)
                    .and_then(|value| URL_SAFE_NO_PAD.decode(value.trim_end_matches('=')).ok())
                    .filter(|bytes| !bytes.is_empty())
                    .ok_or_else(|| KeySetError::Member { kid: kid.to_owned(), kty, member })
            }
        };
        Ok(Some(match text("kty") {
            Some("oct") => Self::Shared(DecodingKey::from_secret(&reader("oct")("k")?)),
            Some("RSA") => {
                let member = reader("RSA");
                Self::Rsa(DecodingKey::from_rsa_raw_components(&member("n")?, &member("e")?))
            }
            Some("EC") => {
                let member = reader("EC");
                let (width, build): (usize, fn(Vec<u8>) -> Self) = match text("crv") {
                    Some("P-256") => (32, |point| Self::P256(DecodingKey::from_ec_der(&point))),
                    Some("P-384") => (48, |point| Self::P384(DecodingKey::from_ec_der(&point))),
                    Some("P-521") => (66, Self::P521),
                    _ => return Ok(Some(Self::Unsupported(Family::Elliptic))),
                };
                let mut point = vec![0x04];
                for name in ["x", "y"] {
                    let coordinate = member(name)?;
                    // Some libraries drop leading zeros.
                    let zeros = width.checked_sub(coordinate.len()).ok_or_else(|| {
                        KeySetError::Member { kid: kid.to_owned(), kty: "EC", member: name }
                    })?;
                    point.extend(std::iter::repeat_n(0, zeros));
                    point.extend(coordinate);
                }
                build(point)
            }
            Some("OKP") if text("crv") == Some("Ed25519") => {
                Self::Ed25519(DecodingKey::from_ed_der(&reader("OKP")("x")?))
            }
            Some("OKP") => Self::Unsupported(Family::Edwards),
            _ => return Ok(None),
        }))
    }

    const fn family(&self) -> Family {
        match self {
            Self::Shared(_) => Family::Shared,
            Self::Rsa(_) => Family::Rsa,
            Self::P256(_) | Self::P384(_) | Self::P521(_) => Family::Elliptic,
            Self::Ed25519(_) => Family::Edwards,
            Self::Unsupported(family) => *family,
        }
    }
}

/// Ids only: a key of type `oct` is a secret.
impl fmt::Debug for KeySet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.by_id.keys()).finish()
    }
}
