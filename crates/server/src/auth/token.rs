//! The three parts of a token, decoded and not yet believed.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use walcast_channels::TokenError;

/// The longest token that is looked at. Tokens of identity providers have 1 to 4 kB.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// A token taken apart.
pub(super) struct Token<'a> {
    pub(super) header: Header,
    pub(super) claims: Map<String, Value>,
    /// The claims as they were sent. Policies get them in this form: reading and writing them again
    /// would round large numbers, so that two users could become one.
    pub(super) claims_text: String,
    /// What is signed: the header and the claims as they were sent.
    pub(super) message: &'a [u8],
    /// The signature as it was sent, in base64url.
    pub(super) signature: &'a str,
}

/// The two members of a header that matter.
pub(super) struct Header {
    pub(super) algorithm: String,
    pub(super) key_id: Option<String>,
}

/// Undoes what happens to tokens in query strings: percent-encoding and line breaks.
pub(super) fn clean(token: &str) -> Result<Cow<'_, str>, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let decoded = percent_decode_str(token).decode_utf8().map_err(|_| TokenError::Malformed)?;
    if !decoded.contains(char::is_whitespace) {
        return Ok(decoded);
    }
    Ok(Cow::Owned(decoded.chars().filter(|character| !character.is_whitespace()).collect()))
}

impl<'a> Token<'a> {
    /// Takes a cleaned token apart.
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenError> {
        let (message, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        if claims.contains('.') {
            return Err(TokenError::Malformed);
        }
        let (header, _) = object(header)?;
        let (claims, claims_text) = object(claims)?;
        let Some(Value::String(algorithm)) = header.get("alg") else {
            return Err(TokenError::Signer { kid: None });
        };
        Ok(Self {
            header: Header {
                algorithm: algorithm.clone(),
                key_id: header.get("kid").and_then(Value::as_str).map(str::to_owned),
            },
            claims,
            claims_text,
            message: message.as_bytes(),
            signature,
        })
    }
}

fn object(part: &str) -> Result<(Map<String, Value>, String), TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    let text = String::from_utf8(bytes).map_err(|_| TokenError::Malformed)?;
    let members = serde_json::from_str(&text).map_err(|_| TokenError::Malformed)?;
    Ok((members, text))
}
