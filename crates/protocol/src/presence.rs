//! Who is present on a topic: what members say about themselves, and how others are told.

use bytes::Bytes;
use serde_json::{Value, value::RawValue};

use crate::{
    raw_json::{self, RawJson},
    text::push_string,
};

/// Members that the server writes itself, whatever a client says.
const RESERVED: [&str; 2] = ["phx_ref", "phx_ref_prev"];

/// What a member says about itself: the members of a JSON object, without the reserved ones.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tracked {
    /// `"name":value` joined by commas; empty for `{}`.
    members: Bytes,
}

impl Tracked {
    /// Takes an object; `None` for any other value.
    #[must_use]
    pub(crate) fn read(value: &RawValue) -> Option<Self> {
        let members = raw_json::members(value)?;
        let mut out = Vec::with_capacity(value.get().len());
        for (name, value) in members {
            if RESERVED.contains(&&*name) {
                continue;
            }
            if !out.is_empty() {
                out.push(b',');
            }
            push_string(&mut out, &name);
            out.push(b':');
            out.extend_from_slice(value.get().as_bytes());
        }
        Some(Self { members: Bytes::from(out) })
    }

    /// The size as JSON, in bytes, without braces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether both say the same, written as they may.
    ///
    /// Values nested more deeply than is worth comparing are the same only byte for byte.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.members == other.members
            || self.value().is_some_and(|value| Some(value) == other.value())
    }

    fn value(&self) -> Option<Value> {
        let mut object = Vec::with_capacity(self.members.len() + 2);
        object.push(b'{');
        object.extend_from_slice(&self.members);
        object.push(b'}');
        serde_json::from_slice(&object).ok()
    }
}

/// The name of one appearance of a member, `phx_ref`: opaque to clients, 16 characters on the wire.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PresenceRef(pub [u8; 12]);

/// One appearance as others see it.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    /// Its name.
    pub reference: PresenceRef,
    /// The appearance it takes the place of.
    pub previous: Option<PresenceRef>,
    /// What the member says about itself.
    pub tracked: &'a Tracked,
}

/// Appearances under their keys, as `{"key":{"metas":[…]}}`.
///
/// What is pushed must be in the order of the keys: all appearances of a key are neighbours.
#[derive(Debug)]
pub struct Metas<'a> {
    out: Vec<u8>,
    key: Option<&'a str>,
}

impl Default for Metas<'_> {
    fn default() -> Self {
        Self { out: vec![b'{'], key: None }
    }
}

impl<'a> Metas<'a> {
    /// Appends an appearance.
    pub fn push(&mut self, key: &'a str, meta: Meta<'_>) {
        if self.key == Some(key) {
            self.out.push(b',');
        } else {
            if self.key.is_some() {
                self.out.extend_from_slice(b"]},");
            }
            push_string(&mut self.out, key);
            self.out.extend_from_slice(b":{\"metas\":[");
            self.key = Some(key);
        }
        let out = &mut self.out;
        out.extend_from_slice(b"{\"phx_ref\":\"");
        push_reference(out, meta.reference);
        if let Some(previous) = meta.previous {
            out.extend_from_slice(b"\",\"phx_ref_prev\":\"");
            push_reference(out, previous);
        }
        out.push(b'"');
        if !meta.tracked.is_empty() {
            out.push(b',');
            out.extend_from_slice(&meta.tracked.members);
        }
        out.push(b'}');
    }

    fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(if self.key.is_some() { b"]}}" } else { b"}" });
        self.out
    }
}

/// The payload of `presence_state`: everybody who is present.
#[must_use]
pub fn state(metas: Metas<'_>) -> RawJson {
    RawJson::written_bytes(metas.finish())
}

/// The payload of `presence_diff`: who came, who went.
#[must_use]
pub fn diff(joins: Metas<'_>, leaves: Metas<'_>) -> RawJson {
    let (joins, leaves) = (joins.finish(), leaves.finish());
    let mut out = Vec::with_capacity(joins.len() + leaves.len() + 24);
    out.extend_from_slice(b"{\"joins\":");
    out.extend_from_slice(&joins);
    out.extend_from_slice(b",\"leaves\":");
    out.extend_from_slice(&leaves);
    out.push(b'}');
    RawJson::written_bytes(out)
}

/// Base64 in the alphabet for addresses; three bytes make four characters, so nothing is padded.
fn push_reference(out: &mut Vec<u8>, reference: PresenceRef) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for bytes in reference.0.chunks(3) {
        let bits = bytes.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        for shift in [18, 12, 6, 0] {
            let position = usize::try_from(bits >> shift & 63).unwrap_or_default();
            out.extend(ALPHABET.get(position));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked(json: &str) -> Tracked {
        Tracked::read(serde_json::from_str(json).unwrap()).unwrap()
    }

    fn reference(last: u8) -> PresenceRef {
        let mut bytes = [0; 12];
        bytes[11] = last;
        PresenceRef(bytes)
    }

    fn text(json: &RawJson) -> &str {
        let text = std::str::from_utf8(json.as_bytes()).unwrap();
        serde_json::from_str::<Value>(text).unwrap();
        text
    }

    #[test]
    fn the_state_lists_appearances_under_their_keys() {
        assert_eq!(text(&state(Metas::default())), "{}");
        let (a, nothing) = (tracked(r#"{"user":"a", "n":[1, 2]}"#), Tracked::default());
        let mut metas = Metas::default();
        let meta = |last, tracked| Meta { reference: reference(last), previous: None, tracked };
        metas.push("k\"", meta(0, &a));
        metas.push("u", meta(1, &nothing));
        metas.push("u", meta(63, &a));
        assert_eq!(
            text(&state(metas)),
            concat!(
                r#"{"k\"":{"metas":[{"phx_ref":"AAAAAAAAAAAAAAAA","user":"a","n":[1, 2]}]},"#,
                r#""u":{"metas":[{"phx_ref":"AAAAAAAAAAAAAAAB"},"#,
                r#"{"phx_ref":"AAAAAAAAAAAAAAA_","user":"a","n":[1, 2]}]}}"#
            )
        );
    }

    #[test]
    fn a_diff_always_has_both_sides() {
        assert_eq!(text(&diff(Metas::default(), Metas::default())), r#"{"joins":{},"leaves":{}}"#);
        let (before, after) = (tracked(r#"{"n":1}"#), tracked(r#"{"n":2}"#));
        let (mut joins, mut leaves) = (Metas::default(), Metas::default());
        let previous = Some(reference(1));
        joins.push("u", Meta { reference: reference(2), previous, tracked: &after });
        leaves.push("u", Meta { reference: reference(1), previous: None, tracked: &before });
        assert_eq!(
            text(&diff(joins, leaves)),
            concat!(
                r#"{"joins":{"u":{"metas":[{"phx_ref":"AAAAAAAAAAAAAAAC","#,
                r#""phx_ref_prev":"AAAAAAAAAAAAAAAB","n":2}]}},"#,
                r#""leaves":{"u":{"metas":[{"phx_ref":"AAAAAAAAAAAAAAAB","n":1}]}}}"#
            )
        );
    }

    #[test]
    fn no_client_chooses_its_own_reference() {
        let forged = tracked(r#"{"phx_ref":"x","a":1,"\u0070hx_ref_prev":"y"}"#);
        assert_eq!(forged, tracked(r#"{"a":1}"#));
    }

    #[test]
    fn the_same_is_recognised_however_it_is_written() {
        let check = |left: &str, right: &str, expected: bool| {
            assert_eq!(tracked(left).says_the_same_as(&tracked(right)), expected, "{left} {right}");
        };
        check("{}", "{}", true);
        check(r#"{"a":1,"b":[ 2 ]}"#, r#"{"b":[2],"a":1}"#, true);
        check(r#"{"a":"\u0041"}"#, r#"{"a":"A"}"#, true);
        check(r#"{"a":1}"#, r#"{"a":2}"#, false);
        check(r#"{"a":1}"#, "{}", false);
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
        check(&deep, &deep, true);
        check(&deep, "{}", false);
    }

    #[test]
    fn only_objects_can_be_tracked() {
        for json in ["[]", "null", "1", "\"{}\""] {
            assert_eq!(Tracked::read(serde_json::from_str(json).unwrap()), None, "{json}");
        }
    }
}
