//! `json` and `jsonb` values: checked, and normalised as jsonb does it.

use std::{collections::HashMap, ops::Range};

use super::{number::write_expanded, string::write_string};

/// Numbers with more digits than this keep their exponent, which JSON allows: a document of one
/// megabyte can hold 200,000 numbers like `1e300`.
const DIGITS_MAX: usize = 64;

/// Below this, comparing every key with every other is faster than hashing them.
const FEW_MEMBERS: usize = 12;

/// Where a document comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// As somebody wrote it: keys may repeat, and the last one counts.
    Json,
    /// Normalised by PostgreSQL already.
    Jsonb,
}

/// Appends the document without white space; false, with part of it appended, when the text is no
/// JSON. Nesting costs a byte or two per level, no stack.
pub(super) fn write(text: &str, source: Source, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut writer = Writer {
        text,
        position: 0,
        source,
        open: Vec::new(),
        members: Vec::new(),
        repeated: Vec::new(),
        out,
    };
    if writer.document().is_none() {
        return false;
    }
    let repeated = std::mem::take(&mut writer.repeated);
    cut(repeated, start, out);
    true
}

/// A container that is not closed yet.
enum Container {
    Array,
    /// An object, with the position of its first member in `Writer::members`.
    Object(usize),
}

/// A member of an open object: positions in `Writer::out`.
struct Member {
    key: Range<usize>,
    end: usize,
}

struct Writer<'a> {
    text: &'a str,
    position: usize,
    source: Source,
    open: Vec<Container>,
    members: Vec<Member>,
    /// Ranges of the output to cut: members whose key comes again.
    repeated: Vec<Range<usize>>,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn document(&mut self) -> Option<()> {
        loop {
            if self.value()? {
                continue;
            }
            if self.after_value()? {
                return Some(());
            }
        }
    }

    /// Writes a value; whether that opened a container that is not empty, so that a value follows.
    fn value(&mut self) -> Option<bool> {
        match self.next_token()? {
            b'{' => {
                self.open(b'{');
                if self.next_token()? == b'}' {
                    self.copy_byte();
                    return Some(false);
                }
                self.open.push(Container::Object(self.members.len()));
                self.key()?;
                Some(true)
            }
            b'[' => {
                self.open(b'[');
                if self.next_token()? == b']' {
                    self.copy_byte();
                    return Some(false);
                }
                self.open.push(Container::Array);
                Some(true)
            }
            b'"' => self.string().map(|()| false),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number().map(|()| false),
        }
    }

    /// Goes on after a value: past a comma, or out of the containers that end; whether the document
    /// is complete.
    fn after_value(&mut self) -> Option<bool> {
        loop {
            let Some(container) = self.open.last() else {
                return self.next_token().is_none().then_some(true);
            };
            let first_member = match container {
                Container::Array => None,
                Container::Object(first_member) => Some(*first_member),
            };
            if first_member.is_some() && self.source == Source::Json {
                let end = self.out.len();
                self.members.last_mut()?.end = end;
            }
            match (self.next_token()?, first_member) {
                (b',', None) => {
                    self.copy_byte();
                    return Some(false);
                }
                (b',', Some(_)) => {
                    self.copy_byte();
                    self.key()?;
                    return Some(false);
                }
                (b']', None) => self.copy_byte(),
                (b'}', Some(first_member)) => {
                    self.copy_byte();
                    self.find_repeated(first_member);
                    self.members.truncate(first_member);
                }
                _ => return None,
            }
            self.open.pop();
        }
    }

    fn open(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.position += 1;
    }

    fn copy_byte(&mut self) {
        if let Some(byte) = self.text.as_bytes().get(self.position) {
            self.out.push(*byte);
            self.position += 1;
        }
    }

    /// The first byte after white space, not consumed.
    fn next_token(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.position..)?;
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let n_blanks = rest.iter().take_while(blank).count();
        self.position += n_blanks;
        rest.get(n_blanks).copied()
    }

    fn word(&mut self, word: &str) -> Option<bool> {
        self.text.get(self.position..)?.starts_with(word).then(|| {
            self.out.extend_from_slice(word.as_bytes());
            self.position += word.len();
            false
        })
    }

    fn number(&mut self) -> Option<()> {
        let rest = self.text.get(self.position..)?;
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let end = rest.bytes().position(|byte| !is_part(&byte)).unwrap_or(rest.len());
        self.position += end;
        write_expanded(rest.get(..end)?, DIGITS_MAX, self.out).then_some(())
    }

    fn key(&mut self) -> Option<()> {
        let start = self.out.len();
        if self.next_token()? != b'"' {
            return None;
        }
        self.string()?;
        let end = self.out.len();
        if self.source == Source::Json {
            self.members.push(Member { key: start..end, end });
        }
        (self.next_token()? == b':').then(|| self.copy_byte())
    }

    fn string(&mut self) -> Option<()> {
        let text = self.text;
        let start = self.position + 1;
        let rest = text.get(start..)?;
        let stops = |byte: u8| byte == b'"' || byte == b'\\' || byte < 0x20;
        let end = rest.bytes().position(stops)?;
        match rest.as_bytes().get(end) {
            Some(b'"') => {
                self.out.push(b'"');
                self.out.extend_from_slice(rest.as_bytes().get(..=end)?);
                self.position = start + end + 1;
            }
            Some(b'\\') => {
                let (value, length) = unescape(rest)?;
                write_string(&value, self.out);
                self.position = start + length;
            }
            _ => return None,
        }
        Some(())
    }

    /// Notes every member of the object whose key comes again later.
    fn find_repeated(&mut self, first_member: usize) {
        let members = self.members.get(first_member..).unwrap_or_default();
        let key = |member: &Member| self.out.get(member.key.clone()).unwrap_or_default();
        // A comma follows a member that is not the last.
        let whole = |member: &Member| member.key.start..member.end + 1;
        if members.len() <= FEW_MEMBERS {
            for (position, member) in members.iter().enumerate() {
                let mut later = members.iter().skip(position + 1);
                if later.any(|other| key(other) == key(member)) {
                    self.repeated.push(whole(member));
                }
            }
            return;
        }
        let mut latest: HashMap<&[u8], &Member> = HashMap::with_capacity(members.len());
        for member in members {
            if let Some(earlier) = latest.insert(key(member), member) {
                self.repeated.push(whole(earlier));
            }
        }
    }
}

/// Takes the ranges out of the output from `start` on, in one pass.
fn cut(mut ranges: Vec<Range<usize>>, start: usize, out: &mut Vec<u8>) {
    if ranges.is_empty() {
        return;
    }
    ranges.sort_unstable_by_key(|range| range.start);
    let whole = out.split_off(start);
    let mut kept_to = start;
    for range in ranges {
        // A range inside an earlier one is gone with it.
        if range.start >= kept_to {
            out.extend_from_slice(
                whole.get(kept_to - start..range.start - start).unwrap_or_default(),
            );
        }
        kept_to = kept_to.max(range.end);
    }
    out.extend_from_slice(whole.get(kept_to - start..).unwrap_or_default());
}

/// The text of a JSON string up to its closing quote, and how many bytes that took, quote included.
/// A surrogate without its partner becomes U+FFFD, since it is no text.
fn unescape(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut position = 0;
    loop {
        let rest = text.get(position..)?;
        let clean =
            rest.find(|character| character == '"' || character == '\\' || character < ' ')?;
        value.push_str(rest.get(..clean)?);
        let mut bytes = rest.as_bytes().get(clean..)?.iter();
        position += clean + 1;
        match bytes.next()? {
            b'"' => return Some((value, position)),
            b'\\' => {}
            _ => return None,
        }
        position += 1;
        value.push(match bytes.next()? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = hexadecimal(text, position)?;
                position += 4;
                match pair(unit, text, position) {
                    Some(character) => {
                        position += 6;
                        character
                    }
                    None => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            _ => return None,
        });
    }
}

/// The character of a surrogate pair whose second half is escaped at `position`.
fn pair(high: u32, text: &str, position: usize) -> Option<char> {
    if !(0xD800..0xDC00).contains(&high) || !text.get(position..)?.starts_with("\\u") {
        return None;
    }
    let low = hexadecimal(text, position + 2)?;
    if !(0xDC00..0xE000).contains(&low) {
        return None;
    }
    char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))
}

fn hexadecimal(text: &str, position: usize) -> Option<u32> {
    let digits = text.get(position..position + 4)?;
    let is_valid = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_valid.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(text: &str, source: Source) -> Option<String> {
        let mut out = b"before".to_vec();
        write(text, source, &mut out)
            .then(|| String::from_utf8(out.strip_prefix(b"before").unwrap().to_vec()).unwrap())
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let check = |text: &str, expected: &str| {
            assert_eq!(normalised(text, Source::Json).as_deref(), Some(expected), "{text}");
        };
        check(r#" { "b" : 1 , "a" : [ ] , "b" : 2 } "#, r#"{"a":[],"b":2}"#);
        check(r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#);
        check(
            r#"{"a":{"x":1,"x":2},"b":[{"y":1,"y":2}],"a":{"z":1,"z":2}}"#,
            r#"{"b":[{"y":2}],"a":{"z":2}}"#,
        );
        let many: String = (0..40).map(|n| format!("\"{}\":{n},", n % 20)).collect();
        let kept: String = (20..40).map(|n| format!("\"{}\":{n},", n % 20)).collect();
        check(&format!("{{{many}\"z\":0}}"), &format!("{{{kept}\"z\":0}}"));
    }

    #[test]
    fn numbers_and_strings_are_written_as_jsonb_writes_them() {
        let check = |text: &str, expected: &str| {
            assert_eq!(normalised(text, Source::Json).as_deref(), Some(expected), "{text}");
        };
        check("1e5", "100000");
        check("-0", "0");
        check("1e64", "1e64");
        check(r#""\u00e9\/\ud83d\ude00\u0000""#, r#""é/😀\u0000""#);
        check(r#""\ud800 \udc00 \ud800\u0041""#, "\"\u{fffd} \u{fffd} \u{fffd}A\"");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "[1,]",
            "[1 2]",
            "{1:2}",
            "tru",
            "nulll",
            "01",
            "1.",
            "--1",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\n\"",
            "[}",
            "{]",
            "1 2",
            "]",
            "{\"a\":1]",
            "[1}",
            "\u{a0}1",
            "é",
        ] {
            for source in [Source::Json, Source::Jsonb] {
                assert_eq!(normalised(text, source), None, "{text}");
            }
        }
    }

    #[test]
    fn deep_nesting_needs_no_stack() {
        let depth = 200_000;
        let text = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(normalised(&text, Source::Json).as_deref(), Some(&*text));
        let text = format!("{}1{}", "{\"a\":0,\"a\":".repeat(depth), "}".repeat(depth));
        let expected = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert_eq!(normalised(&text, Source::Json), Some(expected));
    }
}
