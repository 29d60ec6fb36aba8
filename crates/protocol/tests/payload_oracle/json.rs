//! JSON that keeps every number's digits, for comparing.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// A JSON value; members of objects have no order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Json {
    /// A number, a boolean or null, as it was written.
    Word(String),
    Text(String),
    Array(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

impl Json {
    /// Reads a text; `{"$repeat": ["x", n]}` stands for a string of n times x.
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.trim();
        match text.as_bytes().first() {
            Some(b'{') => {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap();
                if let Some(repeat) = members.get("$repeat") {
                    let (part, n): (String, usize) = serde_json::from_str(repeat.get()).unwrap();
                    return Self::Text(part.repeat(n));
                }
                let parse = |(key, value): (String, &RawValue)| (key, Self::parse(value.get()));
                Self::Object(members.into_iter().map(parse).collect())
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).unwrap();
                Self::Array(items.into_iter().map(|item| Self::parse(item.get())).collect())
            }
            Some(b'"') => Self::Text(serde_json::from_str(text).unwrap()),
            _ => {
                serde_json::from_str::<&RawValue>(text).unwrap();
                Self::Word(text.to_owned())
            }
        }
    }

    pub(crate) fn member(&mut self, name: &str) -> Option<&mut Self> {
        match self {
            Self::Object(members) => members.get_mut(name),
            Self::Word(_) | Self::Text(_) | Self::Array(_) => None,
        }
    }
}
