//! Array texts (`array_out`) as nested JSON arrays.

use super::{form::Shape, quoted::read_quoted};

/// PostgreSQL's MAXDIM.
const DIMENSIONS_MAX: usize = 6;

/// Appends an array; false, with part of it appended, when the text is malformed.
pub(super) fn write(text: &str, element: &Shape, delimiter: u8, out: &mut Vec<u8>) -> bool {
    let Some(start) = skip_bounds(text) else { return false };
    let byte = |position: usize| text.as_bytes().get(position).copied();
    if byte(start) != Some(b'{') {
        return false;
    }
    let mut position = start;
    let mut depth = 0;
    loop {
        match byte(position) {
            Some(b'{') => {
                depth += 1;
                position += 1;
                if depth > DIMENSIONS_MAX {
                    return false;
                }
                out.push(b'[');
                if byte(position) != Some(b'}') {
                    continue;
                }
            }
            Some(b'"') => {
                let Some((value, next)) = read_quoted(text, position + 1) else { return false };
                element.write(&value, out);
                position = next;
            }
            _ => {
                let Some((value, next)) = read_bare(text, position, delimiter) else {
                    return false;
                };
                if value.eq_ignore_ascii_case("null") {
                    out.extend_from_slice(b"null");
                } else {
                    element.write(value, out);
                }
                position = next;
            }
        }
        // Close every array that ends here, then go past the delimiter to the next element.
        loop {
            match byte(position) {
                Some(b'}') => {
                    out.push(b']');
                    depth -= 1;
                    position += 1;
                    if depth == 0 {
                        return position == text.len();
                    }
                }
                Some(found) if found == delimiter => {
                    out.push(b',');
                    position += 1;
                    break;
                }
                _ => return false,
            }
        }
    }
}

/// Where the braces start: after the bounds of `[0:1]={1,2}`.
fn skip_bounds(text: &str) -> Option<usize> {
    if !text.starts_with('[') {
        return Some(0);
    }
    text.find('=').map(|equals| equals + 1)
}

/// An element without quotes, up to the delimiter or brace that ends it.
fn read_bare(text: &str, start: usize, delimiter: u8) -> Option<(&str, usize)> {
    let rest = text.as_bytes().get(start..)?;
    let ends = |byte: &u8| *byte == delimiter || matches!(byte, b'{' | b'}' | b'"' | b'\\');
    let end = start + rest.iter().position(ends)?;
    let value = text.get(start..end)?;
    (!value.is_empty()).then_some((value, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_become_brackets() {
        let check = |text: &str, expected: Option<&str>| {
            let mut out = Vec::new();
            let written = write(text, &Shape::Text, b',', &mut out);
            let json = written.then(|| String::from_utf8(out).unwrap());
            assert_eq!(json.as_deref(), expected, "{text}");
        };
        check("{}", Some("[]"));
        check("[0:1][2:3]={{a,b},{c,NULL}}", Some(r#"[["a","b"],["c",null]]"#));
        check(r#"{"a\"b\\c","NULL",null,"{x,y}"}"#, Some(r#"["a\"b\\c","NULL",null,"{x,y}"]"#));
        check("{{},{}}", Some("[[],[]]"));
        for malformed in [
            "",
            "{",
            "}",
            "{a",
            "{a,",
            "{a,}",
            "{,a}",
            "{a}}",
            "{a}b",
            "a",
            "{{a}",
            "{\"a}",
            "{\"a\"b}",
            "[0:1]{a}",
            "[0:1]",
            "{a\\b}",
            "{{{{{{{a}}}}}}}",
        ] {
            check(malformed, None);
        }
    }

    #[test]
    fn elements_have_the_delimiter_of_their_type() {
        let mut out = Vec::new();
        assert!(write("{(1,1),(0,0);(2,2),(1,1)}", &Shape::Text, b';', &mut out));
        assert_eq!(out, br#"["(1,1),(0,0)","(2,2),(1,1)"]"#);
    }
}
