//! `walcast token`, and the same arguments for `walcast listen`.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value};

use crate::{
    auth::{TokenRequest, mint},
    config::{Config, Group, parse_duration},
    http::now_unix,
};

/// The options that making a token needs.
pub(super) const GROUPS: &[Group] = &[Group::Sources, Group::Jwt];

#[derive(Args, Clone, Debug)]
pub(super) struct TokenArguments {
    /// The PostgreSQL role of the token.
    #[arg(long, value_name = "NAME", default_value = "authenticated")]
    pub(super) role: String,
    /// The user's id, which policies read as auth.uid().
    #[arg(long, value_name = "ID")]
    pub(super) sub: Option<String>,
    /// A further claim, as often as needed. A value that is JSON is taken as such, all else as text.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = parse_claim)]
    pub(super) claims: Vec<(String, Value)>,
    /// How long the token is good: 30s, 10m, 1h, 7d.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    pub(super) expires_in: Duration,
}

impl TokenArguments {
    /// The token.
    pub(super) fn mint(&self, config: &Config) -> anyhow::Result<String> {
        let Some(secret) = &config.jwt.secret else {
            bail!("a secret is needed to sign tokens: set jwt-secret (JWT_SECRET)");
        };
        let mut claims = Map::new();
        for (name, value) in &self.claims {
            if claims.insert(name.clone(), value.clone()).is_some() {
                bail!("the claim {name} is given twice");
            }
        }
        let request = TokenRequest {
            role: self.role.clone(),
            subject: self.sub.clone(),
            claims,
            expires_in: self.expires_in,
        };
        mint(secret, &request, now_unix()).context("cannot make the token")
    }
}

fn parse_claim(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            Ok((name.to_owned(), value))
        }
        _ => Err("must be NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_json_or_text() {
        let check = |text: &str, name: &str, value: Value| {
            assert_eq!(parse_claim(text), Ok((name.to_owned(), value)), "{text}");
        };
        check("team=blue", "team", json!("blue"));
        check("level=2", "level", json!(2));
        check("level=\"2\"", "level", json!("2"));
        check("app={\"a\":[1]}", "app", json!({"a": [1]}));
        check("a=b=c", "a", json!("b=c"));
        check("a=", "a", json!(""));
        assert!(parse_claim("team").is_err());
        assert!(parse_claim("=blue").is_err());
    }
}
