//! JSON text that is passed on without being taken apart.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// One JSON value as the bytes it arrived in; a cheap clone that shares the frame's memory.
#[derive(Clone, Eq, PartialEq)]
pub struct RawJson(Bytes);

impl RawJson {
    /// The empty object, `{}`.
    #[must_use]
    pub const fn empty_object() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// Checks that the bytes are one JSON value, without blanks around it.
    #[must_use]
    pub fn parse(bytes: &Bytes) -> Option<Self> {
        let value: &RawValue = serde_json::from_slice(bytes).ok()?;
        Some(Self::within(bytes, value))
    }

    /// A value that was found inside `frame`.
    pub(crate) fn within(frame: &Bytes, value: &RawValue) -> Self {
        Self(frame.slice_ref(value.get().as_bytes()))
    }

    /// A copy of a value.
    pub(crate) fn copied(value: &RawValue) -> Self {
        Self(Bytes::copy_from_slice(value.get().as_bytes()))
    }

    /// Text that is known to be JSON because this crate wrote it.
    pub(crate) fn written(text: String) -> Self {
        Self(Bytes::from(text))
    }

    /// As [`Self::written`], for what was put together as bytes.
    pub(crate) fn written_bytes(json: Vec<u8>) -> Self {
        Self(Bytes::from(json))
    }

    /// The bytes: valid UTF-8 and valid JSON.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the value is a JSON object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.0.first() == Some(&b'{')
    }

    /// The value for serde; `null` is unreachable, since the bytes are JSON by construction.
    pub(crate) fn value(&self) -> &RawValue {
        serde_json::from_slice(&self.0).unwrap_or(RawValue::NULL)
    }
}

impl fmt::Debug for RawJson {
    /// Shows the size only: payloads carry tokens and personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawJson({} bytes)", self.0.len())
    }
}

/// The members of an object named in `keys`, in that order; of equal keys the last one counts.
///
/// `None` when the value is not an object. Other members are skipped without being stored.
pub(crate) fn pick<'a, const N: usize>(
    value: &'a RawValue,
    keys: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    let mut deserializer = serde_json::Deserializer::from_str(value.get());
    de::Deserializer::deserialize_map(&mut deserializer, Pick { keys }).ok()
}

/// All members of an object in their order, keys decoded; `None` when it is not an object.
pub(crate) fn members(value: &RawValue) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    let mut deserializer = serde_json::Deserializer::from_str(value.get());
    de::Deserializer::deserialize_map(&mut deserializer, Members).ok()
}

/// The text of a JSON string value; borrowed unless it holds escapes.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let inside = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        serde_json::from_str(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

/// The string of a JSON string value.
pub(crate) fn string(value: &RawValue) -> Option<String> {
    text(value).map(Cow::into_owned)
}

/// Whether the value is `null`.
pub(crate) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

struct Pick<'k, const N: usize> {
    keys: [&'k str; N],
}

impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(position) = map.next_key_seed(KeyOf { keys: &self.keys })? {
            match position.and_then(|position| found.get_mut(position)) {
                Some(slot) => *slot = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Reads a key and says which of the wanted ones it is.
pub(crate) struct KeyOf<'k> {
    pub(crate) keys: &'k [&'k str],
}

impl<'de> DeserializeSeed<'de> for KeyOf<'_> {
    type Value = Option<usize>;

    fn deserialize<D: de::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyOf<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.keys.iter().position(|wanted| *wanted == key))
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = map.next_key::<BorrowedOrOwned<'de>>()? {
            members.push((key.0, map.next_value()?));
        }
        Ok(members)
    }
}

/// A string that borrows from the input when it holds no escapes.
pub(crate) struct BorrowedOrOwned<'de>(pub(crate) Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for BorrowedOrOwned<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn members_are_picked_by_name_and_the_last_of_equals_counts() {
        let [a, b, c] =
            pick(raw(r#"{"a":1,"x":[{}],"\u0061":2,"b":null}"#), ["a", "b", "c"]).unwrap();
        assert_eq!(a.map(RawValue::get), Some("2"));
        assert_eq!(b.map(RawValue::get), Some("null"));
        assert!(c.is_none());
        assert!(pick(raw("[1]"), ["a"]).is_none());
        assert!(pick(raw("\"a\""), ["a"]).is_none());
    }

    #[test]
    fn debug_output_hides_the_payload() {
        let json = RawJson::parse(&Bytes::from_static(br#" {"access_token":"secret"} "#)).unwrap();
        assert_eq!(format!("{json:?}"), "RawJson(25 bytes)");
        assert!(json.is_object());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "{}x", "nul", "\u{1}"] {
            assert_eq!(RawJson::parse(&Bytes::copy_from_slice(text.as_bytes())), None, "{text}");
        }
        assert_eq!(RawJson::parse(&Bytes::from_static(b"\"\xff\"")), None);
    }
}
