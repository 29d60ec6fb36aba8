//! Quoted parts of PostgreSQL's texts.

use std::borrow::Cow;

/// Reads up to the closing quote, with `start` after the opening one. A backslash takes the next
/// character as it is. Gives the text and the position after the closing quote.
pub(super) fn read_quoted(text: &str, start: usize) -> Option<(Cow<'_, str>, usize)> {
    let rest = text.get(start..)?;
    let end = rest.find(['"', '\\'])?;
    let clean = rest.get(..end)?;
    if rest.as_bytes().get(end) == Some(&b'"') {
        return Some((Cow::Borrowed(clean), start + end + 1));
    }
    let mut value = clean.to_owned();
    let mut characters = rest.get(end..)?.char_indices();
    while let Some((offset, character)) = characters.next() {
        match character {
            '"' => return Some((Cow::Owned(value), start + end + offset + 1)),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_taken_away() {
        let check = |text: &str, expected: Option<(&str, usize)>| {
            let read = read_quoted(text, 1);
            assert_eq!(read.as_ref().map(|(value, next)| (&**value, *next)), expected, "{text}");
        };
        check(r#""abc","#, Some(("abc", 5)));
        check(r#""""#, Some(("", 2)));
        check(r#""a\"b\\é" "#, Some((r#"a"b\é"#, 10)));
        check(r#""abc"#, None);
        check(r#""abc\"#, None);
        check("\"", None);
        check("", None);
    }
}
