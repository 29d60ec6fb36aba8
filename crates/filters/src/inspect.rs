//! Strings as Elixir's `inspect` prints them, for messages that clients know from the reference.

use std::fmt::Write as _;

/// Elixir's default `printable_limit`: characters of a string that are printed.
const PRINTABLE_LIMIT: usize = 4096;
/// Elixir's default `limit`: bytes of a binary that are printed.
const BINARY_LIMIT: usize = 50;

/// A list of strings: `["foo", "hey"]`.
pub(crate) fn list<'a>(strings: impl IntoIterator<Item = &'a str>) -> String {
    let strings: Vec<String> = strings.into_iter().map(string).collect();
    format!("[{}]", strings.join(", "))
}

/// One string: quoted when it is printable, as bytes (`<<0, 1>>`) when it is not.
fn string(text: &str) -> String {
    let mut out = String::new();
    if !text.chars().take(PRINTABLE_LIMIT).all(is_printable) {
        let bytes: Vec<String> = text.bytes().take(BINARY_LIMIT).map(|b| b.to_string()).collect();
        let more = if text.len() > BINARY_LIMIT { ", ..." } else { "" };
        let _ = write!(out, "<<{}{more}>>", bytes.join(", "));
        return out;
    }
    out.push('"');
    let mut characters = text.chars().peekable();
    for _ in 0..PRINTABLE_LIMIT {
        let Some(character) = characters.next() else { break };
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{7f}' => out.push_str("\\d"),
            '\u{7}' => out.push_str("\\a"),
            '#' if characters.peek() == Some(&'{') => out.push_str("\\#"),
            _ => out.push(character),
        }
    }
    out.push('"');
    if characters.peek().is_some() {
        out.push_str(" <> ...");
    }
    out
}

/// `String.printable?` for one character.
fn is_printable(character: char) -> bool {
    matches!(character,
        ' '..='~' | '\n' | '\r' | '\t' | '\u{b}' | '\u{8}' | '\u{c}' | '\u{1b}' | '\u{7f}' | '\u{7}'
        | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_elixir_does() {
        let check = |text: &str, expected: &str| assert_eq!(string(text), expected);
        check("hey", r#""hey""#);
        check("z\"", r#""z\"""#);
        check("a\\b\t#{x}#", r##""a\\b\t\#{x}#""##);
        check("é😀", "\"é😀\"");
        check("\0\u{1}", "<<0, 1>>");
        assert_eq!(list(["foo", "hey"]), r#"["foo", "hey"]"#);
        assert!(string(&"x".repeat(5000)).ends_with("x\" <> ..."));
        assert!(string(&"\0".repeat(51)).ends_with("0, ...>>"));
    }
}
