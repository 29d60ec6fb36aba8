//! JSON as PostgreSQL reads it: texts and the values in them, where their meaning is certain.
//!
//! A value is a piece of the text it stands in. What PostgreSQL would refuse, or what this reader
//! does not know for certain, is `None`: lone surrogates, `\u0000`, huge exponents, deep nesting.

use std::borrow::Cow;

use crate::numeric::Numeric;

/// Deepest nesting that is read; PostgreSQL's own limit is its stack.
const DEPTH_MAX: usize = 64;
/// Largest number of digits in an exponent that is read: `numeric` ends at 131,072 digits.
const EXPONENT_DIGITS_MAX: usize = 3;

/// What sort of value a text holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum JsonKind {
    Null,
    Bool(bool),
    Number,
    String,
    Array,
    Object,
}

/// A value as a tree, for comparing.
#[derive(Debug)]
pub(super) enum JsonTree<'a> {
    Null,
    Bool(bool),
    Number(Numeric),
    String(Cow<'a, str>),
    Array(Vec<Self>),
    /// In order of their names, each name once.
    Object(Vec<(Cow<'a, str>, Self)>),
}

/// The whole text without surrounding blanks, if it is one value that PostgreSQL surely accepts.
pub(crate) fn check(text: &str) -> Option<&str> {
    let mut reader = Reader::new(text);
    let value = reader.value(0)?;
    reader.skip_blanks();
    reader.rest.is_empty().then_some(value)
}

/// The sort of a checked value.
pub(crate) fn kind(value: &str) -> Option<JsonKind> {
    Some(match value.bytes().next()? {
        b'n' => JsonKind::Null,
        b't' => JsonKind::Bool(true),
        b'f' => JsonKind::Bool(false),
        b'"' => JsonKind::String,
        b'[' => JsonKind::Array,
        b'{' => JsonKind::Object,
        b'-' | b'0'..=b'9' => JsonKind::Number,
        _ => return None,
    })
}

/// The text of a checked string.
pub(crate) fn string(value: &str) -> Option<Cow<'_, str>> {
    let mut reader = Reader::new(value);
    let text = reader.string()?;
    reader.rest.is_empty().then_some(text)
}

/// Calls `visit` with the name and value of each member of an object, in order.
pub(crate) fn members<'a>(
    object: &'a str,
    mut visit: impl FnMut(Cow<'a, str>, &'a str),
) -> Option<()> {
    let mut reader = Reader::new(object);
    reader.members(0, &mut visit)
}

/// The value of a member of an object; of several with one name PostgreSQL takes the last.
pub(super) fn member<'a>(object: &'a str, name: &str) -> Option<Option<&'a str>> {
    let mut found = None;
    members(object, |known, value| {
        if known == name {
            found = Some(value);
        }
    })?;
    Some(found)
}

/// The elements of an array.
pub(super) fn elements(array: &str) -> Option<Vec<&str>> {
    let mut elements = Vec::new();
    Reader::new(array).elements(0, &mut |element| elements.push(element))?;
    Some(elements)
}

/// The element at a position, counted from the end when negative.
pub(super) fn element(array: &str, index: i64) -> Option<Option<&str>> {
    let elements = elements(array)?;
    let position = if index < 0 {
        i64::try_from(elements.len()).ok()?.checked_add(index)
    } else {
        Some(index)
    };
    let position = position.and_then(|position| usize::try_from(position).ok());
    Some(position.and_then(|position| elements.get(position).copied()))
}

/// How jsonb prints a number of the text; `None` when it prints it in another form.
pub(super) fn plain_number(value: &str) -> Option<&str> {
    let unsigned = value.strip_prefix('-').unwrap_or(value);
    let is_plain = unsigned.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_zero = unsigned.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let is_negative_zero = is_zero && unsigned.len() < value.len();
    (is_plain && !is_negative_zero).then_some(value)
}

/// Writes a string as `jsonb` prints it (`escape_json`).
pub(super) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// The tree of a checked value.
pub(super) fn tree(value: &str) -> Option<JsonTree<'_>> {
    Some(match kind(value)? {
        JsonKind::Null => JsonTree::Null,
        JsonKind::Bool(value) => JsonTree::Bool(value),
        JsonKind::Number => JsonTree::Number(Numeric::read(value)?),
        JsonKind::String => JsonTree::String(string(value)?),
        JsonKind::Array => {
            JsonTree::Array(elements(value)?.into_iter().map(tree).collect::<Option<_>>()?)
        }
        JsonKind::Object => {
            let mut found: Vec<(Cow<'_, str>, &str)> = Vec::new();
            members(value, |name, value| found.push((name, value)))?;
            // Stable, so that of equal names the last stays last, and is the one kept.
            found.sort_by(|(left, _), (right, _)| left.cmp(right));
            found.reverse();
            found.dedup_by(|(later, _), (kept, _)| later == kept);
            let members = found.into_iter().map(|(name, value)| Some((name, tree(value)?)));
            JsonTree::Object(members.collect::<Option<_>>()?)
        }
    })
}

impl JsonTree<'_> {
    /// `left @> right` on jsonb.
    pub(super) fn contains(&self, right: &JsonTree<'_>) -> bool {
        match (self, right) {
            // At the top, an array contains what is its element.
            (Self::Array(elements), scalar) if scalar.is_scalar() => {
                elements.iter().any(|element| element.equals(scalar))
            }
            _ => self.contains_within(right),
        }
    }

    fn contains_within(&self, right: &JsonTree<'_>) -> bool {
        match (self, right) {
            (Self::Object(left), JsonTree::Object(right)) => right.iter().all(|(name, wanted)| {
                left.iter().any(|(known, value)| known == name && value.contains_within(wanted))
            }),
            (Self::Array(left), JsonTree::Array(right)) => right
                .iter()
                .all(|wanted| left.iter().any(|element| element.contains_within(wanted))),
            _ => self.is_scalar() && self.equals(right),
        }
    }

    /// `left = right` on jsonb.
    pub(super) fn equals(&self, right: &JsonTree<'_>) -> bool {
        match (self, right) {
            (Self::Null, JsonTree::Null) => true,
            (Self::Bool(left), JsonTree::Bool(right)) => left == right,
            (Self::Number(left), JsonTree::Number(right)) => left == right,
            (Self::String(left), JsonTree::String(right)) => left == right,
            (Self::Array(left), JsonTree::Array(right)) => {
                left.len() == right.len()
                    && left.iter().zip(right).all(|(left, right)| left.equals(right))
            }
            (Self::Object(left), JsonTree::Object(right)) => {
                left.len() == right.len()
                    && left
                        .iter()
                        .zip(right)
                        .all(|(left, right)| left.0 == right.0 && left.1.equals(&right.1))
            }
            _ => false,
        }
    }

    fn is_scalar(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let mut reader = Self { rest: text };
        reader.skip_blanks();
        reader
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, expected: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    /// Passes over one value and gives its text.
    fn value(&mut self, depth: usize) -> Option<&'a str> {
        self.skip_blanks();
        let start = self.rest;
        match kind(start)? {
            JsonKind::Null => self.take("null")?,
            JsonKind::Bool(true) => self.take("true")?,
            JsonKind::Bool(false) => self.take("false")?,
            JsonKind::Number => self.number()?,
            JsonKind::String => {
                self.string()?;
            }
            JsonKind::Array => self.elements(depth, &mut |_| {})?,
            JsonKind::Object => self.members(depth, &mut |_, _| {})?,
        }
        start.get(..start.len() - self.rest.len())
    }

    fn elements(&mut self, depth: usize, visit: &mut dyn FnMut(&'a str)) -> Option<()> {
        if depth >= DEPTH_MAX {
            return None;
        }
        self.take("[")?;
        self.skip_blanks();
        if self.take("]").is_some() {
            return Some(());
        }
        loop {
            visit(self.value(depth + 1)?);
            self.skip_blanks();
            if self.take("]").is_some() {
                return Some(());
            }
            self.take(",")?;
        }
    }

    fn members(
        &mut self,
        depth: usize,
        visit: &mut dyn FnMut(Cow<'a, str>, &'a str),
    ) -> Option<()> {
        if depth >= DEPTH_MAX {
            return None;
        }
        self.take("{")?;
        self.skip_blanks();
        if self.take("}").is_some() {
            return Some(());
        }
        loop {
            self.skip_blanks();
            let name = self.string()?;
            self.skip_blanks();
            self.take(":")?;
            visit(name, self.value(depth + 1)?);
            self.skip_blanks();
            if self.take("}").is_some() {
                return Some(());
            }
            self.take(",")?;
        }
    }

    /// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`
    fn number(&mut self) -> Option<()> {
        let _ = self.take("-");
        let whole = self.digits();
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        if self.take(".").is_some() && self.digits().is_empty() {
            return None;
        }
        if self.rest.starts_with(['e', 'E']) {
            self.rest = self.rest.get(1..)?;
            self.rest = self.rest.strip_prefix(['+', '-']).unwrap_or(self.rest);
            let exponent = self.digits();
            if exponent.is_empty() || exponent.len() > EXPONENT_DIGITS_MAX {
                return None;
            }
        }
        // What follows a number in JSON; `1x` is no JSON.
        (!self.rest.starts_with(|next: char| next.is_alphanumeric() || next == '_')).then_some(())
    }

    fn digits(&mut self) -> &'a str {
        let length = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at_checked(length).unwrap_or(("", self.rest));
        self.rest = rest;
        digits
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.take("\"")?;
        let start = self.rest;
        let end = start.bytes().position(|byte| matches!(byte, b'"' | b'\\') || byte < 0x20)?;
        let plain = start.get(..end)?;
        self.rest = start.get(end..)?;
        if self.take("\"").is_some() {
            return Some(Cow::Borrowed(plain));
        }
        let mut text = plain.to_owned();
        loop {
            let mut characters = self.rest.chars();
            let character = characters.next()?;
            self.rest = characters.as_str();
            match character {
                '"' => return Some(Cow::Owned(text)),
                '\\' => text.push(self.escape()?),
                control if u32::from(control) < 0x20 => return None,
                _ => text.push(character),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next()?;
        self.rest = characters.as_str();
        Some(match character {
            '"' | '\\' | '/' => character,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let first = self.hexadecimal()?;
                if (0xd800..0xdc00).contains(&first) {
                    self.take("\\u")?;
                    let second = self.hexadecimal()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return None;
                    }
                    return char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
                }
                // PostgreSQL's texts cannot hold it.
                char::from_u32(first).filter(|character| *character != '\0')?
            }
            _ => return None,
        })
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.rest = self.rest.get(4..)?;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn values_are_found() {
        let text = r#" {"a" : {"b":[1, -2.50,"x\u00e9\n", null]}, "c":true,"a":"last"} "#;
        let object = check(text).unwrap();
        assert_eq!(member(object, "a"), Some(Some("\"last\"")));
        assert_eq!(member(object, "c"), Some(Some("true")));
        assert_eq!(member(object, "d"), Some(None));
        let array = r#"[1, -2.50,"x\u00e9\n", null]"#;
        assert_eq!(element(array, 1), Some(Some("-2.50")));
        assert_eq!(element(array, -1), Some(Some("null")));
        assert_eq!((element(array, 4), element(array, -5)), (Some(None), Some(None)));
        assert_eq!(string(r#""x\u00e9\n\ud83d\ude00\/""#).as_deref(), Some("xé\n😀/"));
    }

    #[test]
    fn what_postgresql_refuses_or_may_refuse_is_not_read() {
        for text in [
            "",
            "x",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e9999",
            "1x",
            "nul",
            "nullx",
            "'a'",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{a:1}",
            "{\"a\":1,}",
            "\"\\u0000\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83d\\u0041\"",
            "\"\\x\"",
            "\"a\nb\"",
            "\"a",
            "1 2",
            "{\"a\":1}}",
        ] {
            assert_eq!(check(text), None, "{text}");
        }
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(&nested(60)).is_some());
        assert!(check(&nested(1_000_000)).is_none());
    }

    #[test]
    fn numbers_keep_their_form_unless_jsonb_changes_it() {
        for text in ["0", "-1", "1.50", "123456789012345678901234567890"] {
            assert_eq!(plain_number(text), Some(text));
        }
        for text in ["1e2", "-0", "-0.00"] {
            assert_eq!(plain_number(text), None, "{text}");
        }
    }

    #[test]
    fn containment_is_that_of_jsonb() {
        let check = |left: &str, right: &str, expected: bool| {
            let (left, right) = (tree(left).unwrap(), tree(right).unwrap());
            assert_eq!(left.contains(&right), expected, "{left:?} {right:?}");
        };
        check(r#"{"a":1,"b":2}"#, r#"{"a":1.0}"#, true);
        check(r#"{"a":[1,2,{"b":3,"c":4}]}"#, r#"{"a":[{"b":3},2,2]}"#, true);
        check(r#"{"a":{"b":1}}"#, r#"{"b":1}"#, false);
        check("[1,2]", "1", true);
        check("[[1]]", "1", false);
        check("1", "[1]", false);
        check("[1]", "[]", true);
        check(r#"{"a":[1]}"#, r#"{"a":1}"#, false);
        check(r#"{"a":1,"a":2}"#, r#"{"a":1}"#, false);
        check("[]", "{}", false);
        check("null", "null", true);
    }

    proptest! {
        #[test]
        fn strings_survive_writing_and_reading(text in any::<String>()) {
            let text = text.replace('\0', "");
            let mut written = String::new();
            write_string(&mut written, &text);
            prop_assert_eq!(check(&written), Some(&*written));
            prop_assert_eq!(string(&written), Some(Cow::Borrowed(&*text)));
        }

        #[test]
        fn any_text_is_survived(text in r#"[\[\]{}",:\\u0-9eE.tnrl -]{0,40}"#) {
            if let Some(value) = check(&text) {
                prop_assert_eq!(value, text.trim_matches([' ', '\t', '\n', '\r']));
                let _ = tree(value);
            }
        }
    }
}
