//! The body of `POST /api/broadcast`, checked as the reference checks it and with its words.

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use walcast_protocol::RawJson;

use super::PAYLOAD_TOO_LARGE;

const BLANK: &str = "can't be blank";
const INVALID: &str = "is invalid";

/// A message that can be sent.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct BatchMessage {
    /// Without `realtime:`.
    pub(super) topic: String,
    pub(super) event: String,
    /// A JSON object, digit for digit.
    pub(super) payload: RawJson,
    pub(super) is_private: bool,
    pub(super) id: Option<String>,
}

/// Why a body cannot be sent.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum BatchError {
    /// It is not JSON.
    NotJson,
    /// It is not what it must be; the value of `errors`.
    Invalid(Value),
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
}

/// The members of a message as they came; all but the payload are short.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(default)]
    topic: Value,
    #[serde(default)]
    event: Value,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    private: Value,
    #[serde(default)]
    id: Value,
}

/// Reads the messages of a body.
///
/// # Errors
/// If one message is invalid, all are refused, with the problems of each.
pub(super) fn read(
    body: &Bytes,
    payload_bytes_max: usize,
) -> Result<Vec<BatchMessage>, BatchError> {
    let whole: &RawValue = serde_json::from_slice(body).map_err(|_| BatchError::NotJson)?;
    let problem = |text: &str| BatchError::Invalid(json!({"messages": [text]}));
    // JSON that is no object holds no messages.
    let messages =
        serde_json::from_str::<Body<'_>>(whole.get()).ok().and_then(|body| body.messages);
    let messages = messages.ok_or_else(|| problem(BLANK))?;
    let messages: Vec<&RawValue> =
        serde_json::from_str(messages.get()).map_err(|_| problem(INVALID))?;
    if messages.is_empty() {
        return Err(problem(BLANK));
    }
    let members: Vec<Members<'_>> = messages
        .iter()
        .filter(|message| message.get().starts_with('{'))
        .filter_map(|message| serde_json::from_str(message.get()).ok())
        .collect();
    if members.len() < messages.len() {
        return Err(problem(INVALID));
    }
    let read: Vec<_> =
        members.into_iter().map(|members| message(body, members, payload_bytes_max)).collect();
    if read.iter().all(Result::is_ok) {
        return Ok(read.into_iter().flatten().collect());
    }
    let problems: Vec<Value> =
        read.into_iter().map(|message| Value::Object(message.err().unwrap_or_default())).collect();
    Err(BatchError::Invalid(json!({"messages": problems})))
}

/// One message, or the problem of each member that has one.
fn message(
    body: &Bytes,
    members: Members<'_>,
    payload_bytes_max: usize,
) -> Result<BatchMessage, Map<String, Value>> {
    let Members { topic, event, payload, private, id } = members;
    let mut problems = Map::new();
    let mut note = |member: &str, problem: &str| {
        problems.insert(member.to_owned(), json!([problem]));
    };
    let mut text = |member: &str, value: Value| match value {
        Value::String(text) if !text.trim().is_empty() => text,
        Value::String(_) | Value::Null => {
            note(member, BLANK);
            String::new()
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            note(member, INVALID);
            String::new()
        }
    };
    let topic = text("topic", topic);
    let event = text("event", event);
    let payload = match payload {
        None => Err(BLANK),
        Some(payload) if !payload.get().starts_with('{') => Err(INVALID),
        Some(payload) if payload.get().len() > payload_bytes_max => Err(PAYLOAD_TOO_LARGE),
        Some(payload) => RawJson::parse(&body.slice_ref(payload.get().as_bytes())).ok_or(INVALID),
    };
    let payload = payload.unwrap_or_else(|problem| {
        note("payload", problem);
        RawJson::empty_object()
    });
    let is_private = match private {
        Value::Bool(is_private) => is_private,
        Value::Null => false,
        Value::String(text) if text == "true" || text == "1" => true,
        Value::String(text) if text == "false" || text == "0" => false,
        Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            note("private", INVALID);
            false
        }
    };
    let id = match id {
        Value::String(id) => Some(id),
        Value::Null => None,
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            note("id", INVALID);
            None
        }
    };
    if problems.is_empty() {
        Ok(BatchMessage { topic, event, payload, is_private, id })
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn read_text(text: &str) -> Result<Vec<BatchMessage>, BatchError> {
        read(&Bytes::copy_from_slice(text.as_bytes()), 20)
    }

    #[test]
    fn messages_are_read_with_every_digit() {
        let text = r#" {"x":1,"messages":[
            {"topic":"a:b","event":"e","payload": {"n": 1.00} ,"private":"1","id":"i","more":[]},
            {"payload":{},"event":"f","topic":"c"}]} "#;
        let payload = |text: &'static str| RawJson::parse(&Bytes::from(text)).unwrap();
        let expected = [
            BatchMessage {
                topic: "a:b".to_owned(),
                event: "e".to_owned(),
                payload: payload(r#"{"n": 1.00}"#),
                is_private: true,
                id: Some("i".to_owned()),
            },
            BatchMessage {
                topic: "c".to_owned(),
                event: "f".to_owned(),
                payload: payload("{}"),
                is_private: false,
                id: None,
            },
        ];
        assert_eq!(read_text(text).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_the_reference() {
        let check = |text: &str, expected: Value| {
            assert_eq!(read_text(text), Err(BatchError::Invalid(expected)), "{text}");
        };
        for nothing in ["{}", "[]", "5", "null", r#"{"messages":null}"#, r#"{"messages":[]}"#] {
            check(nothing, json!({"messages": ["can't be blank"]}));
        }
        for wrong in ["{}", "\"x\"", "5", "[5]", "[[]]", "[null]"] {
            check(&format!(r#"{{"messages":{wrong}}}"#), json!({"messages": ["is invalid"]}));
        }
        let one = |message: &str, expected: Value| {
            let good = r#"{"topic":"t","event":"e","payload":{}}"#;
            let text = format!(r#"{{"messages":[{message},{good}]}}"#);
            check(&text, json!({"messages": [expected, {}]}));
        };
        let blank = json!(["can't be blank"]);
        one("{}", json!({"topic": blank, "event": blank, "payload": blank}));
        one(
            r#"{"topic":"","event":" ","payload":null}"#,
            json!({"topic": blank, "event": blank, "payload": blank}),
        );
        let invalid = json!(["is invalid"]);
        one(
            r#"{"topic":5,"event":[],"payload":[],"private":"yes","id":7}"#,
            json!({"topic": invalid, "event": invalid, "payload": invalid, "private": invalid, "id": invalid}),
        );
        one(
            r#"{"topic":"t","event":"e","payload":{"x":"0123456789012345"}}"#,
            json!({"payload": ["Payload size exceeds tenant limit"]}),
        );
    }

    #[test]
    fn every_prefix_of_a_body_fails_cleanly() {
        let whole =
            r#"{"messages":[{"topic":"é","event":"e","payload":{"a":[1,{}]},"id":"\u00e9"}]}"#;
        assert_eq!(read_text(whole).map(|messages| messages.len()), Ok(1));
        for end in 0..whole.len() {
            let prefix = Bytes::copy_from_slice(&whole.as_bytes()[..end]);
            assert_eq!(read(&prefix, 20), Err(BatchError::NotJson), "{end}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_survived(
            parts in proptest::collection::vec(
                proptest::sample::select(&[
                    "{", "}", "[", "]", ",", ":", "\"messages\"", "\"topic\"", "\"event\"",
                    "\"payload\"", "\"private\"", "\"id\"", "null", "1", "\"\\ud800\"", " ",
                ][..]),
                0..60,
            ),
            bytes in any::<Vec<u8>>(),
        ) {
            let _ = read(&Bytes::from(bytes), 20);
            for (before, after) in [("", ""), (r#"{"messages":["#, "]}"), (r#"{"messages":[{"#, "}]}")] {
                let Ok(messages) = read_text(&format!("{before}{}{after}", parts.concat())) else {
                    continue;
                };
                for message in messages {
                    assert!(message.payload.is_object() && !message.topic.trim().is_empty());
                }
            }
        }
    }

    #[test]
    fn what_is_deeply_nested_is_read_or_refused() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        let body = |topic: &str, payload: &str| {
            let text =
                format!(r#"{{"messages":[{{"topic":{topic},"event":"e","payload":{payload}}}]}}"#);
            read(&Bytes::from(text), 1_000_000)
        };
        let payload = format!(r#"{{"x":{}}}"#, nested(100_000));
        assert!(body("\"t\"", &payload).is_ok());
        assert!(matches!(body(&nested(100_000), "{}"), Err(BatchError::Invalid(_))));
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        for text in ["", "{", r#"{"messages":[}"#, r#"{"messages":[]}}"#, "\u{0}"] {
            assert_eq!(read_text(text), Err(BatchError::NotJson), "{text}");
        }
        assert_eq!(read(&Bytes::from_static(b"\"\xff\""), 20), Err(BatchError::NotJson));
    }
}
