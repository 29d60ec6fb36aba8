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

#[cfg(test)]
mod tests {
    use super::*;

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
