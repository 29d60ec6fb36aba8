//! JSON that keeps every number as it was written, so that `1.10` and `1.1` differ.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail};
use serde_json::value::RawValue;

/// A JSON value whose numbers are text.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number with its digits.
    Number(String),
    /// A string.
    String(String),
    /// A list.
    Array(Vec<Self>),
    /// An object; the order of its keys carries no meaning.
    Object(BTreeMap<String, Self>),
}

impl Json {
    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self> {
        let raw: Box<RawValue> = serde_json::from_str(text).with_context(|| excerpt(text))?;
        Self::from_raw(&raw)
    }

    /// The member `key` of an object.
    #[must_use]
    pub fn member(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(key),
            _ => None,
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list; nothing for anything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }

    fn from_raw(raw: &RawValue) -> Result<Self> {
        let text = raw.get().trim();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') => Self::String(serde_json::from_str(text)?),
            Some(b'[') => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(text)?;
                Self::Array(items.iter().map(|item| Self::from_raw(item)).collect::<Result<_>>()?)
            }
            Some(b'{') => {
                let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text)?;
                let members = members
                    .into_iter()
                    .map(|(key, value)| Ok((key, Self::from_raw(&value)?)))
                    .collect::<Result<_>>()?;
                Self::Object(members)
            }
            Some(b'-' | b'0'..=b'9') => Self::Number(text.to_owned()),
            _ => bail!("not JSON: {}", excerpt(text)),
        })
    }
}

impl fmt::Display for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("null"),
            Self::Bool(value) => write!(formatter, "{value}"),
            Self::Number(digits) => formatter.write_str(digits),
            Self::String(text) => {
                formatter.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
            }
            Self::Array(items) => {
                formatter.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(formatter, "{comma}{item}")?;
                }
                formatter.write_str("]")
            }
            Self::Object(members) => {
                formatter.write_str("{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    let key = serde_json::to_string(key).map_err(|_| fmt::Error)?;
                    write!(formatter, "{comma}{key}:{value}")?;
                }
                formatter.write_str("}")
            }
        }
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_survive() {
        for text in ["1.10", "1e300", "-0", "123456789012345678901234567890"] {
            assert_eq!(Json::parse(text).unwrap(), Json::Number(text.to_owned()));
        }
    }

    #[test]
    fn a_text_is_printed_as_it_was_read() {
        let text = r#"{"a":[1.10,null,true,"x\"y"],"b":{}}"#;
        assert_eq!(Json::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "nope", "[1,", "{\"a\"}"] {
            assert!(Json::parse(text).is_err(), "{text:?} was read");
        }
    }
}
