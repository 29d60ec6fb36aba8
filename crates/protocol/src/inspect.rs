//! JSON values the way the reference server prints them in its error texts (Elixir's `inspect`).

use std::fmt::Write as _;

use serde_json::value::RawValue;

use crate::raw_json;

/// How many items of a list or map are shown; the rest is `...`.
const ITEMS_MAX: usize = 50;
/// How deep values are shown; what lies deeper is `...`.
const DEPTH_MAX: usize = 16;

/// A string as a literal: quoted, with escapes.
#[must_use]
pub fn inspect_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_text(&mut out, text);
    out
}

/// A JSON value as a term: maps with sorted keys, `null` as `nil`.
pub(crate) fn inspect_value(value: &RawValue) -> String {
    let mut out = String::new();
    push_value(&mut out, value, 0);
    out
}

fn push_value(out: &mut String, value: &RawValue, depth: usize) {
    let text = value.get();
    if depth > DEPTH_MAX {
        out.push_str("...");
        return;
    }
    match text.as_bytes().first() {
        Some(b'{') => push_map(out, value, depth),
        Some(b'[') => push_list(out, value, depth),
        Some(b'"') => match raw_json::string(value) {
            Some(text) => push_text(out, &text),
            None => out.push_str(text),
        },
        Some(b'n') => out.push_str("nil"),
        Some(b'-' | b'0'..=b'9') => push_number(out, text),
        _ => out.push_str(text),
    }
}

fn push_map(out: &mut String, value: &RawValue, depth: usize) {
    let Some(mut members) = raw_json::members(value) else {
        out.push_str("...");
        return;
    };
    // Of equal keys the last one counts: reversed, it comes first, and the sort keeps it first.
    members.reverse();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    members.dedup_by(|later, earlier| later.0 == earlier.0);
    out.push_str("%{");
    for (position, (key, value)) in members.into_iter().enumerate() {
        if position > 0 {
            out.push_str(", ");
        }
        if position == ITEMS_MAX {
            out.push_str("...");
            break;
        }
        push_text(out, &key);
        out.push_str(" => ");
        push_value(out, value, depth + 1);
    }
    out.push('}');
}

fn push_list(out: &mut String, value: &RawValue, depth: usize) {
    let items: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
    out.push('[');
    for (position, item) in items.into_iter().enumerate() {
        if position > 0 {
            out.push_str(", ");
        }
        if position == ITEMS_MAX {
            out.push_str("...");
            break;
        }
        push_value(out, item, depth + 1);
    }
    out.push(']');
}

fn push_text(out: &mut String, text: &str) {
    out.push('"');
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '#' if characters.peek() == Some(&'{') => out.push_str("\\#"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{07}' => out.push_str("\\a"),
            '\u{08}' => out.push_str("\\b"),
            '\u{0b}' => out.push_str("\\v"),
            '\u{0c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{7f}' => out.push_str("\\d"),
            '\0' => out.push_str("\\0"),
            '\u{feff}' => out.push_str("\\uFEFF"),
            other if other.is_control() => push_escape(out, other),
            other => out.push(other),
        }
    }
    out.push('"');
}

fn push_escape(out: &mut String, character: char) {
    // Writing to a String cannot fail.
    let _ = if u32::from(character) <= 0xff {
        write!(out, "\\x{:02X}", u32::from(character))
    } else {
        write!(out, "\\x{{{:X}}}", u32::from(character))
    };
}

fn push_number(out: &mut String, text: &str) {
    let is_float = text.contains(['.', 'e', 'E']);
    match text.parse::<f64>() {
        Ok(number) if is_float && number.is_finite() => push_float(out, number),
        _ => out.push_str(if text == "-0" { "0" } else { text }),
    }
}

/// The shortest digits that read back as `number`, as a decimal fraction when that is not longer
/// than with an exponent.
fn push_float(out: &mut String, number: f64) {
    if number == 0.0 {
        out.push_str(if number.is_sign_negative() { "-0.0" } else { "0.0" });
        return;
    }
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    // The number is 0.DIGITS times ten to the power of `place`.
    let place = exponent.parse::<i32>().unwrap_or_default() + 1;
    let n_digits = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let exponent_cost = {
        let dot = if n_digits == 1 { 2 } else { 1 };
        i32::try_from(exponent.len()).unwrap_or(i32::MAX) + 1 + dot
    };
    if number < 0.0 {
        out.push('-');
    }
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or_default());
    if (0..n_digits).contains(&place) {
        let (whole, fraction) = digits.split_at(usize::try_from(place).unwrap_or_default());
        let whole = if whole.is_empty() { "0" } else { whole };
        let _ = write!(out, "{whole}.{fraction}");
    } else if place < 0 && 2 - place <= exponent_cost {
        let _ = write!(out, "0.{}{digits}", zeros(-place));
    } else if place >= n_digits && place - n_digits + 2 <= exponent_cost {
        let _ = write!(out, "{digits}{}.0", zeros(place - n_digits));
    } else {
        let (first, rest) = digits.split_at(1);
        let rest = if rest.is_empty() { "0" } else { rest };
        let _ = write!(out, "{first}.{rest}e{exponent}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &str) {
        let value: &RawValue = serde_json::from_str(json).unwrap();
        assert_eq!(inspect_value(value), expected, "{json}");
    }

    #[test]
    fn values_look_like_elixir_terms() {
        check("{}", "%{}");
        check("null", "nil");
        check("true", "true");
        check("[]", "[]");
        check(r#"[1,"a",[null]]"#, r#"[1, "a", [nil]]"#);
        check(
            r#"{"b":1,"a":{"d":[],"c":false}}"#,
            r#"%{"a" => %{"c" => false, "d" => []}, "b" => 1}"#,
        );
        check(r#"{"a":1,"a":2}"#, r#"%{"a" => 2}"#);
    }

    #[test]
    fn strings_are_escaped_and_unicode_stays_readable() {
        check(r#""a\"b\\c\nd\te""#, r#""a\"b\\c\nd\te""#);
        check("\"Größe 日本 🙂\"", "\"Größe 日本 🙂\"");
        check(r##""#{x} #x""##, r##""\#{x} #x""##);
        check(r#""\u0000\u0001\u007f\u001b\u0085""#, r#""\0\x01\d\e\x85""#);
    }

    #[test]
    fn numbers_keep_their_value() {
        check("5", "5");
        check("-0", "0");
        check("12345678901234567890123", "12345678901234567890123");
        check("1.0", "1.0");
        check("1.50", "1.5");
        check("0.1", "0.1");
        check("0.001", "0.001");
        check("-2.5e-7", "-2.5e-7");
        check("100.0", "100.0");
        check("1000.0", "1.0e3");
        check("1e3", "1.0e3");
        check("123456.75", "123456.75");
        check("1.5e300", "1.5e300");
        check("0.0", "0.0");
    }

    #[test]
    fn long_and_deep_values_are_cut() {
        let long = format!("[{}1]", "1,".repeat(60));
        let value: &RawValue = serde_json::from_str(&long).unwrap();
        assert!(inspect_value(value).ends_with("1, 1, ...]"));
        let deep = format!("{}{}", "[".repeat(4_000), "]".repeat(4_000));
        let value: &RawValue = serde_json::from_str(&deep).unwrap();
        assert_eq!(inspect_value(value), format!("{}...{}", "[".repeat(17), "]".repeat(17)));
    }
}
