//! Reading text frames.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    message::{
        ClientEvent, ClientMessage, ClientPayload, MalformedFrame, Reference, Topic, Version,
    },
    raw_json::{self, KeyOf, RawJson},
};

/// Reads a client's message; the payload shares the frame's memory.
pub fn decode(version: Version, frame: &Bytes) -> Result<ClientMessage, MalformedFrame> {
    let text = str::from_utf8(frame).map_err(|_| MalformedFrame::NotJson)?;
    let parts: Parts<'_> = match version {
        Version::V1 => serde_json::from_str::<Object<'_>>(text).map(|object| object.0),
        Version::V2 | Version::V2Text => {
            serde_json::from_str::<Array<'_>>(text).map(|array| array.0)
        }
    }
    .map_err(|_| MalformedFrame::NotJson)?;
    let Parts { join_ref, reference, topic, event, payload, problem } = parts;
    let (Some(topic), Some(event), Some(payload), None) = (topic, event, payload, problem) else {
        return Err(problem.unwrap_or(MalformedFrame::WrongShape));
    };
    Ok(ClientMessage {
        join_ref: reference_of(join_ref)?,
        reference: reference_of(reference)?,
        topic: Topic::new(&topic),
        event,
        payload: ClientPayload::Json(RawJson::within(frame, payload)),
    })
}

fn reference_of(value: Option<&RawValue>) -> Result<Reference, MalformedFrame> {
    let Some(value) = value else { return Ok(Reference::Null) };
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(Reference::Null),
        Some(b'-' | b'0'..=b'9') => Ok(Reference::Number(text.into())),
        Some(b'"') => raw_json::text(value)
            .map(|text| Reference::text(&text))
            .ok_or(MalformedFrame::BadReference),
        _ => Err(MalformedFrame::BadReference),
    }
}

/// What was found in a frame; `problem` when it is JSON but no message.
#[derive(Default)]
struct Parts<'de> {
    join_ref: Option<&'de RawValue>,
    reference: Option<&'de RawValue>,
    topic: Option<Cow<'de, str>>,
    event: Option<ClientEvent>,
    payload: Option<&'de RawValue>,
    problem: Option<MalformedFrame>,
}

impl Parts<'_> {
    fn broken(problem: MalformedFrame) -> Self {
        Self { problem: Some(problem), ..Self::default() }
    }
}

/// Scalars at the top of a frame: JSON, but no message.
macro_rules! no_scalars {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a message")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Parts::broken(MalformedFrame::WrongShape))
        }

        fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Parts::broken(MalformedFrame::WrongShape))
        }

        fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Parts::broken(MalformedFrame::WrongShape))
        }

        fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Parts::broken(MalformedFrame::WrongShape))
        }

        fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Parts::broken(MalformedFrame::WrongShape))
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Parts::broken(MalformedFrame::WrongShape))
        }
    };
}

struct Object<'de>(Parts<'de>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor).map(Self)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Parts<'de>;

    no_scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Parts::broken(MalformedFrame::WrongShape))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        const KEYS: [&str; 5] = ["join_ref", "ref", "topic", "event", "payload"];
        let mut parts = Parts::default();
        while let Some(key) = map.next_key_seed(KeyOf { keys: &KEYS })? {
            match key {
                Some(0) => parts.join_ref = Some(map.next_value()?),
                Some(1) => parts.reference = Some(map.next_value()?),
                Some(2) => parts.topic = text_or_problem(map.next_value()?, &mut parts.problem),
                Some(3) => {
                    parts.event = text_or_problem(map.next_value()?, &mut parts.problem)
                        .map(|name| ClientEvent::new(&name));
                }
                Some(4) => parts.payload = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let is_complete = parts.reference.is_some()
            && parts.topic.is_some()
            && parts.event.is_some()
            && parts.payload.is_some();
        if !is_complete {
            parts.problem = parts.problem.or(Some(MalformedFrame::MissingKey));
        }
        Ok(parts)
    }
}

struct Array<'de>(Parts<'de>);

impl<'de> Deserialize<'de> for Array<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ArrayVisitor).map(Self)
    }
}

struct ArrayVisitor;

impl<'de> Visitor<'de> for ArrayVisitor {
    type Value = Parts<'de>;

    no_scalars!();

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Parts::broken(MalformedFrame::WrongShape))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut parts = Parts {
            join_ref: sequence.next_element()?,
            reference: sequence.next_element()?,
            ..Parts::default()
        };
        if let Some(topic) = sequence.next_element()? {
            parts.topic = text_or_problem(topic, &mut parts.problem);
        }
        if let Some(event) = sequence.next_element()? {
            parts.event =
                text_or_problem(event, &mut parts.problem).map(|name| ClientEvent::new(&name));
        }
        parts.payload = sequence.next_element()?;
        if parts.payload.is_none() {
            parts.problem = Some(MalformedFrame::TooFewElements);
            return Ok(parts);
        }
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(parts)
    }
}

/// The string, or a note that something else stands in its place.
fn text_or_problem<'de>(
    value: &'de RawValue,
    problem: &mut Option<MalformedFrame>,
) -> Option<Cow<'de, str>> {
    let text = raw_json::text(value);
    if text.is_none() {
        *problem = Some(MalformedFrame::WrongShape);
    }
    text
}
