//! One message of the Phoenix protocol as a client receives it.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::client::Version;

/// A message from the server.
#[derive(Clone, Debug)]
pub struct Message {
    /// The channel's `join_ref`; serialiser 1.0.0 never carries one.
    pub join_ref: Option<String>,
    /// The `ref` of the push that is answered.
    pub reference: Option<String>,
    /// The topic.
    pub topic: String,
    /// The event, e.g. `phx_reply`.
    pub event: String,
    /// The payload; null when it holds a number that no double can, as only its text then tells.
    pub payload: Value,
    /// The payload as it was on the wire, with every digit of its numbers.
    pub payload_text: String,
    /// The whole frame when it was a binary one.
    pub binary: Option<Vec<u8>>,
}

impl Message {
    /// Reads a text frame.
    pub fn parse(version: Version, text: &str) -> Result<Self> {
        Self::read(version, text).with_context(|| format!("unreadable frame: {text}"))
    }

    /// Reads a binary frame, which can only be a broadcast of kind 4. The payload becomes what a text
    /// message would hold; bytes that are no JSON become null there.
    pub fn parse_binary(frame: &[u8]) -> Result<Self> {
        Self::read_binary(frame).with_context(|| format!("unreadable frame: {frame:?}"))
    }

    /// Whether it answers the push `reference`.
    #[must_use]
    pub fn is_reply_to(&self, reference: &str) -> bool {
        self.event == "phx_reply" && self.reference.as_deref() == Some(reference)
    }

    /// Whether it is a `system` message with `text`.
    #[must_use]
    pub fn is_system(&self, text: &str) -> bool {
        self.event == "system" && self.payload["message"] == text
    }

    /// Whether it carries a row.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.event == "postgres_changes"
    }

    /// The `data` of a change.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.payload["data"]
    }

    fn read_binary(frame: &[u8]) -> Result<Self> {
        let [4, topic, event, metadata, encoding, rest @ ..] = frame else {
            bail!("no frame of kind 4");
        };
        let (topic, rest) = text_of(rest, *topic)?;
        let (event, rest) = text_of(rest, *event)?;
        let (metadata, payload) = text_of(rest, *metadata)?;
        let value: Value = match encoding {
            0 => Value::Null,
            _ => serde_json::from_slice(payload)?,
        };
        let mut whole = json!({"type": "broadcast", "event": event, "payload": value});
        if !metadata.is_empty() {
            whole["meta"] = serde_json::from_str(&metadata)?;
        }
        Ok(Self {
            join_ref: None,
            reference: None,
            topic,
            event: "broadcast".to_owned(),
            payload_text: whole.to_string(),
            payload: whole,
            binary: Some(frame.to_vec()),
        })
    }

    fn read(version: Version, text: &str) -> Result<Self> {
        let (join_ref, reference, topic, event, payload) = match version {
            Version::V1 => {
                let object: VersionOne = serde_json::from_str(text)?;
                (Value::Null, object.reference, object.topic, object.event, object.payload)
            }
            Version::V2 => {
                let parts: (Value, Value, String, String, Box<RawValue>) =
                    serde_json::from_str(text)?;
                parts
            }
        };
        let payload_text = payload.get().to_owned();
        Ok(Self {
            join_ref: text_or_null(&join_ref)?,
            reference: text_or_null(&reference)?,
            topic,
            event,
            payload: serde_json::from_str(&payload_text).unwrap_or_default(),
            payload_text,
            binary: None,
        })
    }
}

/// Exactly these four keys; clients refuse a message without `ref`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionOne {
    #[serde(rename = "ref")]
    reference: Value,
    topic: String,
    event: String,
    payload: Box<RawValue>,
}

fn text_of(bytes: &[u8], length: u8) -> Result<(String, &[u8])> {
    let (text, rest) = bytes.split_at_checked(length.into()).context("the frame is too short")?;
    Ok((String::from_utf8(text.to_vec())?, rest))
}

fn text_or_null(value: &Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => bail!("a ref is no {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let one = r#"{"ref":"1","topic":"t","event":"phx_reply","payload":{"a":1.10}}"#;
        let two = r#"["7","1","t","phx_reply",{"a":1.10}]"#;
        for (version, text, join_ref) in
            [(Version::V1, one, None), (Version::V2, two, Some("7".to_owned()))]
        {
            let message = Message::parse(version, text).unwrap();
            assert!(message.is_reply_to("1"));
            assert_eq!(message.join_ref, join_ref);
            assert_eq!(message.payload_text, r#"{"a":1.10}"#);
        }
    }

    #[test]
    fn a_frame_without_ref_is_refused() {
        assert!(Message::parse(Version::V1, r#"{"topic":"t","event":"e","payload":{}}"#).is_err());
    }
}
