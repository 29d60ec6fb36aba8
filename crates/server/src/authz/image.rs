//! A row image as a composite literal, so that PostgreSQL can read it as a value of the table's row
//! type.

use walcast_change::{Cell, Row, Table};

/// The literal of `row` (aligned with `aligned`) as a row of `guard`.
///
/// Columns correspond by name: the leaf of a partitioned table may have them in another order than
/// its root. What the row does not carry becomes NULL; whether the expression reads such a column
/// is checked before ([`RowRule::can_judge`](walcast_filters::policy::RowRule::can_judge)).
#[must_use]
pub fn composite_literal(guard: &Table, aligned: &Table, row: &Row) -> String {
    let mut literal = String::with_capacity(row.text_bytes() + 3 * guard.columns.len() + 2);
    literal.push('(');
    for (index, column) in guard.columns.iter().enumerate() {
        if index > 0 {
            literal.push(',');
        }
        let cell = aligned.position(&column.name).map_or(Cell::Null, |at| row.cell(at));
        if let Cell::Text(text) = cell {
            push_quoted(&mut literal, text);
        }
    }
    literal.push(')');
    literal
}

fn push_quoted(literal: &mut String, text: &str) {
    literal.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            literal.push(character);
        }
        literal.push(character);
    }
    literal.push('"');
}

/// The values of a literal that [`composite_literal`] made.
pub(super) fn cells(literal: &str) -> Vec<Option<String>> {
    let inner = literal.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or("");
    let (mut cells, mut cell, mut is_quoted) = (Vec::new(), None::<String>, false);
    let mut characters = inner.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            // Within quotes both are doubled.
            '"' | '\\' if is_quoted => match characters.next_if_eq(&character) {
                Some(_) => cell.get_or_insert_default().push(character),
                None => is_quoted = false,
            },
            '"' => {
                is_quoted = true;
                cell = Some(String::new());
            }
            ',' if !is_quoted => cells.push(cell.take()),
            _ => cell.get_or_insert_default().push(character),
        }
    }
    cells.push(cell);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_a_literal_are_found_again() {
        for values in [
            vec![None],
            vec![Some("")],
            vec![Some("a"), None, Some("b,c)"), Some(r#"a"b\c"#), Some(r"\\"), None],
            vec![None, None],
            vec![Some("\"\","), Some("(")],
        ] {
            let mut literal = "(".to_owned();
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    literal.push(',');
                }
                if let Some(value) = value {
                    push_quoted(&mut literal, value);
                }
            }
            literal.push(')');
            let expected: Vec<Option<String>> =
                values.iter().map(|value| value.map(str::to_owned)).collect();
            assert_eq!(cells(&literal), expected, "{literal}");
        }
    }

    #[test]
    fn quotes_and_backslashes_are_doubled() {
        for (text, expected) in [("", r#""""#), ("a,b)", r#""a,b)""#), (r#"a"b\c"#, r#""a""b\\c""#)]
        {
            let mut literal = String::new();
            push_quoted(&mut literal, text);
            assert_eq!(literal, expected);
        }
    }
}
