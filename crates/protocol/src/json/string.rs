//! JSON strings.

const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

/// Appends the text as a JSON string, quotes included.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    write_escaped(text, out);
    out.push(b'"');
}

/// Appends the inside of a JSON string.
pub(super) fn write_escaped(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    // Without an early exit the compiler tests many bytes at once, and most texts are clean.
    if !bytes.iter().fold(false, |found, byte| found | needs_escape(*byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    let mut rest = bytes;
    while let Some(clean) = rest.iter().position(|byte| needs_escape(*byte)) {
        let (before, after) = rest.split_at(clean);
        out.extend_from_slice(before);
        let Some((byte, after)) = after.split_first() else { break };
        write_escape(*byte, out);
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// How many bytes [`write_string`] appends.
pub(crate) fn string_len(text: &str) -> usize {
    let escapes = text.bytes().filter(|byte| needs_escape(*byte));
    let longer: usize = escapes.map(|byte| if short_escape(byte).is_some() { 1 } else { 5 }).sum();
    2 + text.len() + longer
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn short_escape(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        0x08 => Some(b'b'),
        0x0C => Some(b'f'),
        _ => None,
    }
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    if let Some(letter) = short_escape(byte) {
        out.extend_from_slice(&[b'\\', letter]);
        return;
    }
    let digit = |half: u8| HEXADECIMAL.get(usize::from(half)).copied().unwrap_or(b'0');
    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_jsonb_escapes_them() {
        let check = |text: &str, expected: &str| {
            let mut out = Vec::new();
            write_string(text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            assert_eq!(string_len(text), expected.len(), "{text}");
        };
        check("", r#""""#);
        check("plain é 日本 😀 / '\u{7f}\u{2028}", "\"plain é 日本 😀 / '\u{7f}\u{2028}\"");
        check("a\"b\\c", r#""a\"b\\c""#);
        check("\u{8}\u{c}\n\r\t", r#""\b\f\n\r\t""#);
        check("\0\u{1}\u{1f} end", r#""\u0000\u0001\u001f end""#);
    }
}
