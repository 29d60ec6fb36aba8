//! `hstore` texts as JSON objects of strings.

use super::{quoted::read_quoted, string::write_string};

/// Appends an object; false, with part of it appended, when the text is malformed.
pub(super) fn write(text: &str, out: &mut Vec<u8>) -> bool {
    out.push(b'{');
    let mut position = 0;
    while position < text.len() {
        if position > 0 {
            out.push(b',');
        }
        match write_pair(text, position, out) {
            Some(next) => position = next,
            None => return false,
        }
    }
    out.push(b'}');
    true
}

/// Appends `"key":"value"` and gives the position of the next pair.
fn write_pair(text: &str, start: usize, out: &mut Vec<u8>) -> Option<usize> {
    let after = |position: usize, expected: &str| {
        text.get(position..)?.starts_with(expected).then_some(position + expected.len())
    };
    let (key, position) = read_quoted(text, after(start, "\"")?)?;
    write_string(&key, out);
    out.push(b':');
    let position = after(position, "=>")?;
    let position = match after(position, "NULL") {
        Some(next) => {
            out.extend_from_slice(b"null");
            next
        }
        None => {
            let (value, next) = read_quoted(text, after(position, "\"")?)?;
            write_string(&value, out);
            next
        }
    };
    if position == text.len() {
        return Some(position);
    }
    after(position, ", ").filter(|next| *next < text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_members() {
        let check = |text: &str, expected: Option<&str>| {
            let mut out = Vec::new();
            let written = write(text, &mut out);
            let json = written.then(|| String::from_utf8(out).unwrap());
            assert_eq!(json.as_deref(), expected, "{text}");
        };
        check("", Some("{}"));
        check(r#""a"=>"1", "b"=>NULL"#, Some(r#"{"a":"1","b":null}"#));
        check(r#""a\"b"=>"c\\d", "NULL"=>"""#, Some(r#"{"a\"b":"c\\d","NULL":""}"#));
        for malformed in [
            "a",
            "\"a\"",
            "\"a\"=>",
            "\"a\"=>1",
            "\"a\"=>\"1\",",
            "\"a\"=>\"1\", ",
            "\"a\"=>\"1\"\"b\"=>NULL",
        ] {
            check(malformed, None);
        }
    }
}
