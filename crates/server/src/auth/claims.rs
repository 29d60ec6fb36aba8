//! The rules for claims of a token whose signature is good.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};
use walcast_channels::{TokenError, VerifiedClaims};
use walcast_filters::claims::{Claims, Role};

/// The longest life of a token that is told apart from eternity: a hundred years. It keeps sums of
/// times within their types.
const EXPIRES_IN_MAX: u64 = 100 * 365 * 24 * 3600;

/// Claims that must have exactly these values in tokens that carry them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimValidators(BTreeMap<String, Value>);

/// Why validators cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("must be a JSON object such as {{\"iss\": \"https://example.com\"}}")]
pub struct ValidatorsError;

impl ClaimValidators {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// The text is no JSON object.
    pub fn parse(text: &str) -> Result<Self, ValidatorsError> {
        serde_json::from_str(text).map(Self).map_err(|_| ValidatorsError)
    }

    fn accept(&self, claims: &Map<String, Value>) -> bool {
        self.0.iter().all(|(name, value)| claims.get(name).is_none_or(|claim| claim == value))
    }
}

/// A token that was accepted once.
#[derive(Clone)]
pub(super) struct Accepted {
    role: Role,
    claims: Claims,
    expires_at: Expiration,
}

/// When a token expires.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Expiration {
    Seconds(i128),
    /// A decimal number.
    Decimal(f64),
}

impl Expiration {
    fn of(value: &Value) -> Option<Self> {
        let number = value.as_number()?;
        number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .map(Self::Seconds)
            .or_else(|| number.as_f64().map(Self::Decimal))
    }

    /// What is left of the token's life.
    fn remaining(self, now_unix: u64) -> Result<Duration, TokenError> {
        let seconds = match self {
            Self::Seconds(expiration) => {
                let remaining = expiration - i128::from(now_unix);
                if remaining <= 0 {
                    let seconds_ago = u64::try_from(-remaining).unwrap_or(u64::MAX);
                    return Err(TokenError::Expired { seconds_ago });
                }
                u64::try_from(remaining).unwrap_or(EXPIRES_IN_MAX)
            }
            Self::Decimal(expiration) => decimal_seconds(expiration.round(), now_unix)
                .ok_or(TokenError::ExpirationInvalid)?,
        };
        Ok(Duration::from_secs(seconds.min(EXPIRES_IN_MAX)))
    }
}

/// The seconds from now to a rounded time, when there are any.
fn decimal_seconds(expiration: f64, now_unix: u64) -> Option<u64> {
    // Goes through `Duration`, whose conversions from decimals are checked.
    match Duration::try_from_secs_f64(expiration) {
        Ok(time) => time.as_secs().checked_sub(now_unix).filter(|seconds| *seconds > 0),
        Err(_) if expiration > 0.0 => Some(EXPIRES_IN_MAX),
        Err(_) => None,
    }
}

impl Accepted {
    /// The claims as of now, unless the token has expired.
    pub(super) fn at(&self, now_unix: u64) -> Result<VerifiedClaims, TokenError> {
        Ok(VerifiedClaims {
            role: self.role.clone(),
            claims: self.claims.clone(),
            expires_in: self.expires_at.remaining(now_unix)?,
        })
    }
}

/// Checks `exp` and `iat` where they are present, and says when the token expires.
pub(super) fn check_times(
    claims: &Map<String, Value>,
    now_unix: u64,
) -> Result<Option<Expiration>, TokenError> {
    let expiration = match claims.get("exp") {
        Some(value) => {
            let expiration = Expiration::of(value).ok_or(TokenError::ExpirationInvalid)?;
            expiration.remaining(now_unix)?;
            Some(expiration)
        }
        None => None,
    };
    match claims.get("iat") {
        Some(issued_at) if !issued_at.is_number() => Err(TokenError::ClaimMismatch),
        _ => Ok(expiration),
    }
}

/// Applies all rules: times, validators, and the claims that must be there.
pub(super) fn accept(
    claims: &Map<String, Value>,
    claims_text: &str,
    validators: &ClaimValidators,
    now_unix: u64,
) -> Result<Accepted, TokenError> {
    let expiration = check_times(claims, now_unix)?;
    if !validators.accept(claims) {
        return Err(TokenError::ClaimMismatch);
    }
    // A role is used as the name of a PostgreSQL role, so only a text can be one.
    let role = claims.get("role").and_then(Value::as_str).filter(|role| !role.is_empty());
    let (Some(role), Some(expires_at)) = (role, expiration) else {
        return Err(TokenError::MissingClaims);
    };
    Ok(Accepted { role: Role::new(role), claims: Claims::new(claims_text), expires_at })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    #[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
    fn check(claims: &Value, expected: Result<u64, TokenError>) {
        let validators =
            ClaimValidators::parse(r#"{"iss": "https://issuer", "level": 2}"#).unwrap();
        let object = claims.as_object().unwrap();
        let found = accept(object, &claims.to_string(), &validators, NOW)
            .and_then(|accepted| accepted.at(NOW))
            .map(|verified| verified.expires_in.as_secs());
        assert_eq!(found, expected, "{claims}");
    }

    #[test]
    fn expiration_must_be_a_number_in_the_future() {
        let with = |exp: Value| json!({"role": "anon", "exp": exp});
        check(&with(json!(NOW + 60)), Ok(60));
        check(&with(json!(NOW + 1)), Ok(1));
        check(&with(json!(NOW)), Err(TokenError::Expired { seconds_ago: 0 }));
        check(&with(json!(NOW - 5)), Err(TokenError::Expired { seconds_ago: 5 }));
        check(&with(json!(-5)), Err(TokenError::Expired { seconds_ago: NOW + 5 }));
        check(&with(json!(u64::MAX)), Ok(EXPIRES_IN_MAX));
        check(&with(json!(1_700_000_060.4)), Ok(60));
        check(&with(json!(1_700_000_060.5)), Ok(61));
        check(&with(json!(1_700_000_000.4)), Err(TokenError::ExpirationInvalid));
        check(&with(json!(1_600_000_000.5)), Err(TokenError::ExpirationInvalid));
        check(&with(json!(-1e300)), Err(TokenError::ExpirationInvalid));
        check(&with(json!(1e300)), Ok(EXPIRES_IN_MAX));
        check(&with(json!("1700000060")), Err(TokenError::ExpirationInvalid));
        check(&with(json!(null)), Err(TokenError::ExpirationInvalid));
    }

    #[test]
    fn role_and_expiration_are_required() {
        check(&json!({"role": "anon"}), Err(TokenError::MissingClaims));
        check(&json!({"exp": NOW + 60}), Err(TokenError::MissingClaims));
        check(&json!({}), Err(TokenError::MissingClaims));
        check(&json!({"role": 7, "exp": NOW + 60}), Err(TokenError::MissingClaims));
        check(&json!({"role": "", "exp": NOW + 60}), Err(TokenError::MissingClaims));
    }

    #[test]
    fn validators_look_only_at_claims_that_are_there() {
        let with = |name: &str, value: Value| json!({"role": "anon", "exp": NOW + 60, name: value});
        check(&with("iss", json!("https://issuer")), Ok(60));
        check(&with("iss", json!("https://other")), Err(TokenError::ClaimMismatch));
        check(&with("iss", json!(["https://issuer"])), Err(TokenError::ClaimMismatch));
        check(&with("level", json!(2)), Ok(60));
        check(&with("level", json!("2")), Err(TokenError::ClaimMismatch));
        check(&with("nbf", json!(NOW + 1000)), Ok(60));
        check(&with("iat", json!(NOW + 1000)), Ok(60));
        check(&with("iat", json!("yesterday")), Err(TokenError::ClaimMismatch));
    }

    #[test]
    fn validators_must_be_an_object() {
        for text in ["", "[]", "1", "{", "null"] {
            assert!(ClaimValidators::parse(text).is_err(), "{text}");
        }
    }
}
