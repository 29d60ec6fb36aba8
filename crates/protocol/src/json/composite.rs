//! Composite texts (`record_out`) as JSON objects.

use std::borrow::Cow;

use super::form::FieldForm;

/// Appends an object with a member per field; false, with part of it appended, when the text is
/// malformed or has another number of fields.
pub(super) fn write(text: &str, fields: &[FieldForm], out: &mut Vec<u8>) -> bool {
    let inside = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    let Some(mut rest) = inside else { return false };
    out.push(b'{');
    for (position, field) in fields.iter().enumerate() {
        if position > 0 {
            let Some(after) = rest.strip_prefix(',') else { return false };
            rest = after;
            out.push(b',');
        }
        let Some((value, after)) = read_field(rest) else { return false };
        out.extend_from_slice(&field.key);
        match value {
            Some(value) => field.shape.write(&value, out),
            None => out.extend_from_slice(b"null"),
        }
        rest = after;
    }
    out.push(b'}');
    rest.is_empty()
}

/// A field's value, where nothing at all is NULL, and the text from the comma on.
fn read_field(text: &str) -> Option<(Option<Cow<'_, str>>, &str)> {
    let end = text.find([',', '"', '\\', '(', ')']).unwrap_or(text.len());
    let (bare, rest) = text.split_at_checked(end)?;
    if rest.is_empty() || rest.starts_with(',') {
        return Some(((!bare.is_empty()).then_some(Cow::Borrowed(bare)), rest));
    }
    // Quotes may open anywhere; inside them a doubled quote or a backslash stands for one character.
    let mut value = bare.to_owned();
    let mut is_quoted = false;
    let mut characters = rest.char_indices().peekable();
    while let Some((offset, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            '"' if is_quoted && characters.next_if(|(_, next)| *next == '"').is_some() => {
                value.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => return Some((Some(Cow::Owned(value)), rest.get(offset..)?)),
            '(' | ')' if !is_quoted => return None,
            _ => value.push(character),
        }
    }
    (!is_quoted).then_some((Some(Cow::Owned(value)), ""))
}

#[cfg(test)]
mod tests {
    use super::{super::form::Shape, *};

    #[test]
    fn fields_become_members() {
        let fields = [("a", Shape::Text), ("b", Shape::Number)].map(|(name, shape)| FieldForm {
            key: format!("\"{name}\":").into_bytes().into(),
            shape,
        });
        let check = |text: &str, expected: Option<&str>| {
            let mut out = Vec::new();
            let written = write(text, &fields, &mut out);
            let json = written.then(|| String::from_utf8(out).unwrap());
            assert_eq!(json.as_deref(), expected, "{text}");
        };
        check("(x,1)", Some(r#"{"a":"x","b":1}"#));
        check("(,)", Some(r#"{"a":null,"b":null}"#));
        check(r#"("",2)"#, Some(r#"{"a":"","b":2}"#));
        check(r#"("a ""b"", (c)\\",-1.50)"#, Some(r#"{"a":"a \"b\", (c)\\","b":-1.50}"#));
        check(r#"(a" "b\,c,1)"#, Some(r#"{"a":"a b,c","b":1}"#));
        for malformed in
            ["", "(", ")", "()", "(x)", "(x,1,2)", "(x,1", "x,1", "(\"x,1)", "((x),1)", "(x,1\\)"]
        {
            check(malformed, None);
        }
    }
}
