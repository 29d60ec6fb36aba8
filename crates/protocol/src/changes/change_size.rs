//! How large a change is by the reference's measure.
//!
//! The reference measures the change as its decoding plugin writes it, as jsonb text:
//! `{"pk": [{"name": …, "type": …, "typeoid": …}], "action": "U", "columns": [{…, "value": …}],
//! "identity": […], …}`. That text is never built here, only its length.

use walcast_change::{Cell, Column, OldImage, Row, RowChange, RowEvent, Table, oid};

use super::type_name::format_type;
use crate::json::{expanded_len, is_finite, string_len};

/// No character takes more bytes in a JSON string than a control character: `\u0001`.
const ESCAPED_BYTES_MAX: usize = 6;

/// No float takes more bytes without its exponent.
const NUMBER_BYTES_MAX: usize = 400;

/// Out-of-line values are longer than this (PostgreSQL's TOAST_TUPLE_THRESHOLD, rounded up).
const OUT_OF_LINE_BYTES_MIN: usize = 2048;

/// The parts of the size that are the same for every change of a table.
#[derive(Clone, Debug)]
pub(super) struct ChangeSize {
    /// Everything outside the lists, with the lists' brackets and the primary key.
    frame: usize,
    /// `"columns": []` or `"identity": []` with the comma before it.
    columns_list: usize,
    identity_list: usize,
    columns: Box<[ColumnSize]>,
    /// At least the size of any change but for the text of its values.
    upper_bound: usize,
}

#[derive(Clone, Debug)]
struct ColumnSize {
    /// The entry but for its value, with the comma that separates it from the next.
    entry: usize,
    kind: ValueKind,
    is_identity: bool,
}

/// How a value is written in the measured text.
#[derive(Clone, Copy, Debug)]
enum ValueKind {
    Boolean,
    Number,
    Bytea,
    String,
}

impl ChangeSize {
    pub(super) fn new(table: &Table) -> Self {
        let columns: Box<[ColumnSize]> =
            table.columns.iter().map(|column| ColumnSize::new(column, table)).collect();
        let value_and_comma = r#""value": , "#.len();
        let keys = table.columns.iter().zip(&columns).filter(|(column, _)| column.is_primary_key);
        let key: usize = keys.map(|(_, size)| size.entry - value_and_comma).sum();
        let list_separator = ", ".len();
        let frame = r#"{"pk": [], "table": , "action": "I", "schema": , "timestamp": ""}"#.len()
            + string_len(&table.schema)
            + string_len(&table.name)
            + key.saturating_sub(list_separator);
        let columns_list = r#", "columns": []"#.len();
        let identity_list = r#", "identity": []"#.len();
        let entries: usize = columns.iter().map(|column| column.entry + NUMBER_BYTES_MAX).sum();
        let timestamp = 40;
        let upper_bound = frame + timestamp + columns_list + identity_list + 2 * entries;
        Self { frame, columns_list, identity_list, columns, upper_bound }
    }

    /// Whether the change is larger than `max_record_bytes`.
    pub(super) fn exceeds(&self, event: &RowEvent, max_record_bytes: usize) -> bool {
        let text_bytes = |row: &Row| row.text_bytes().saturating_mul(ESCAPED_BYTES_MAX);
        let new = event.new_row().map_or(0, text_bytes);
        // An old image that was not sent is taken from the new row.
        let old = event.old_image().map_or(new, |old| text_bytes(old.row()));
        if self.upper_bound.saturating_add(new).saturating_add(old) <= max_record_bytes {
            return false;
        }
        self.of(event) > max_record_bytes
    }

    fn of(&self, event: &RowEvent) -> usize {
        let frame = self.frame + timestamp_len(event.commit.timestamp_us);
        let columns = |new: &Row, old: Option<&Row>| {
            self.columns_list
                + self.list(new, |position, _, cell| !is_out_of_line(cell, old, position))
        };
        match &event.change {
            RowChange::Insert { new } => frame + columns(new, None),
            RowChange::Update { old: Some(old), new } => {
                let full = match old {
                    OldImage::Full(row) => Some(row),
                    OldImage::Key(_) => None,
                };
                let identity = self.list(old.row(), |_, _, _| true);
                frame + columns(new, full) + self.identity_list + identity
            }
            RowChange::Update { old: None, new } => {
                let identity = self.list(new, |_, column, _| column.is_identity);
                frame + columns(new, None) + self.identity_list + identity
            }
            RowChange::Delete { old } => {
                frame + self.identity_list + self.list(old.row(), |_, _, _| true)
            }
            RowChange::Truncate => frame,
        }
    }

    /// The length of a list's entries, where unchanged cells have none.
    fn list(&self, row: &Row, is_listed: impl Fn(usize, &ColumnSize, Cell<'_>) -> bool) -> usize {
        let cells = self.columns.iter().zip(row.cells()).enumerate();
        let listed = cells.filter(|(position, (column, cell))| {
            *cell != Cell::Unchanged && is_listed(*position, column, *cell)
        });
        let entries: usize = listed.map(|(_, (column, cell))| column.len(cell)).sum();
        entries.saturating_sub(", ".len())
    }
}

impl ColumnSize {
    fn new(column: &Column, table: &Table) -> Self {
        let data_type = &column.data_type;
        let type_name = format_type(data_type, column.type_modifier, &table.types);
        // The plugin puts a name that is quoted already between no further quotes.
        let type_name_len = match type_name.strip_prefix('"') {
            Some(_) => type_name.len(),
            None => string_len(&type_name),
        };
        let entry = r#"{"name": , "type": , "value": , "typeoid": }, "#.len()
            + string_len(&column.name)
            + type_name_len
            + data_type.id.0.to_string().len();
        let kind = match data_type.id {
            oid::BOOL => ValueKind::Boolean,
            oid::INT2
            | oid::INT4
            | oid::INT8
            | oid::NUMERIC
            | oid::FLOAT4
            | oid::FLOAT8
            | oid::OID => ValueKind::Number,
            oid::BYTEA => ValueKind::Bytea,
            _ => ValueKind::String,
        };
        Self { entry, kind, is_identity: column.is_identity }
    }

    fn len(&self, cell: Cell<'_>) -> usize {
        let null = "null".len();
        let value = match (cell, self.kind) {
            (Cell::Null, _) => null,
            (Cell::Unchanged, _) => 0,
            (Cell::Text("t"), ValueKind::Boolean) => "true".len(),
            (Cell::Text(_), ValueKind::Boolean) => "false".len(),
            (Cell::Text(text), ValueKind::Number) if !is_finite(text) => null,
            (Cell::Text(text), ValueKind::Number) => expanded_len(text),
            (Cell::Text(text), ValueKind::Bytea) => text.len(),
            (Cell::Text(text), ValueKind::String) => string_len(text),
        };
        self.entry + value
    }
}

/// Whether the UPDATE left the cell's out-of-line value alone: the plugin lists it among the old
/// values only. With a full old image the new row has it filled in, so that only being long and
/// equal tells.
fn is_out_of_line(cell: Cell<'_>, old: Option<&Row>, position: usize) -> bool {
    matches!(cell, Cell::Text(text) if text.len() > OUT_OF_LINE_BYTES_MIN)
        && old.is_some_and(|old| old.cell(position) == cell)
}

/// The length of `2024-01-02 03:04:05.678901+00`, whose fraction has no zeros at its end.
fn timestamp_len(timestamp_us: i64) -> usize {
    let mut fraction = timestamp_us.rem_euclid(1_000_000);
    let whole = "2024-01-02 03:04:05+00".len();
    if fraction == 0 {
        return whole;
    }
    let mut n_digits = 6;
    while fraction % 10 == 0 {
        fraction /= 10;
        n_digits -= 1;
    }
    whole + ".".len() + n_digits
}
