//! The encoder of one table's changes.

use walcast_change::{Cell, ColumnSet, EventKind, OldImage, ReplicaIdentity, Row, RowChange};
use walcast_change::{RowEvent, Table};

use super::{OldView, Problem, View, change_size::ChangeSize, commit_timestamp};
use crate::json::{JsonForm, jsonb_text_len, write_string};

/// In a change that is too large, values stay whose JSON has at most this many bytes.
const SMALL_VALUE_BYTES_MAX: usize = 64;

const TOO_LARGE: &str = "Error 413: Payload Too Large";

/// Encodes the changes of one version of a table.
#[derive(Clone, Debug)]
pub struct TableEncoder {
    /// `{"schema":"…","table":"…","type":"`
    head: Box<[u8]>,
    columns: Box<[ColumnEncoder]>,
    replica_identity: ReplicaIdentity,
    size: ChangeSize,
}

#[derive(Clone, Debug)]
struct ColumnEncoder {
    /// `"name":`
    key: Box<[u8]>,
    /// `{"name":"…","type":"…"}`
    description: Box<[u8]>,
    form: JsonForm,
    is_primary_key: bool,
    is_identity: bool,
}

/// Which values of a record are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Values {
    All,
    Small,
}

impl TableEncoder {
    /// The encoder for events whose relation the table is aligned with.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        let mut head = Vec::new();
        head.extend_from_slice(b"{\"schema\":");
        write_string(&table.schema, &mut head);
        head.extend_from_slice(b",\"table\":");
        write_string(&table.name, &mut head);
        head.extend_from_slice(b",\"type\":\"");
        let columns = table.columns.iter().map(|column| {
            let mut key = Vec::new();
            write_string(&column.name, &mut key);
            let mut description = b"{\"name\":".to_vec();
            description.extend_from_slice(&key);
            description.extend_from_slice(b",\"type\":");
            write_string(&column.data_type.name, &mut description);
            description.push(b'}');
            key.push(b':');
            ColumnEncoder {
                key: key.into(),
                description: description.into(),
                form: JsonForm::of_column(column, &table.types),
                is_primary_key: column.is_primary_key,
                is_identity: column.is_identity,
            }
        });
        Self {
            head: head.into(),
            columns: columns.collect(),
            replica_identity: table.replica_identity,
            size: ChangeSize::new(table),
        }
    }

    /// Appends the JSON of the `data` object.
    pub fn encode(&self, event: &RowEvent, view: &View<'_>, out: &mut Vec<u8>) {
        let (values, error) = if self.size.exceeds(event, view.max_record_bytes) {
            (Values::Small, Some(TOO_LARGE))
        } else {
            (Values::All, None)
        };
        let is_visible = |position: usize, column: &ColumnEncoder| {
            view.selectable.contains(position)
                && (column.is_primary_key || is_selected(view.selected, position))
        };
        let is_old_visible = |position: usize, column: &ColumnEncoder| {
            (column.is_primary_key || view.old == OldView::Whole) && is_visible(position, column)
        };
        self.write_head(event, out);
        out.extend_from_slice(b",\"columns\":[");
        self.write_columns(is_visible, out);
        out.push(b']');
        if let Some(new) = event.new_row() {
            out.extend_from_slice(b",\"record\":{");
            self.write_record(new, values, is_visible, out);
            out.push(b'}');
        }
        match &event.change {
            RowChange::Insert { .. } | RowChange::Truncate => {}
            RowChange::Update { old: None, new } => {
                out.extend_from_slice(b",\"old_record\":{");
                if self.is_key_in_new_row() {
                    let is_key = |position: usize, column: &ColumnEncoder| {
                        column.is_identity && is_old_visible(position, column)
                    };
                    self.write_record(new, values, is_key, out);
                }
                out.push(b'}');
            }
            RowChange::Update { old: Some(old), .. } | RowChange::Delete { old } => {
                let (OldImage::Key(row) | OldImage::Full(row)) = old;
                out.extend_from_slice(b",\"old_record\":{");
                self.write_record(row, values, is_old_visible, out);
                out.push(b'}');
            }
        }
        write_errors(error, out);
    }

    /// Appends the JSON of the `data` object of an error event, which shows no values.
    pub fn encode_problem(&self, event: &RowEvent, problem: Problem, out: &mut Vec<u8>) {
        self.write_head(event, out);
        out.extend_from_slice(match event.kind() {
            EventKind::Insert => b",\"columns\":[],\"record\":{}".as_slice(),
            EventKind::Update => b",\"columns\":[],\"record\":{},\"old_record\":{}",
            EventKind::Delete => b",\"columns\":[],\"old_record\":{}",
            EventKind::Truncate => b",\"columns\":[]",
        });
        write_errors(Some(problem.as_str()), out);
    }

    /// Whether the new row holds the old key when the stream sent no old image.
    fn is_key_in_new_row(&self) -> bool {
        match self.replica_identity {
            ReplicaIdentity::Default | ReplicaIdentity::Index => true,
            ReplicaIdentity::Full | ReplicaIdentity::Nothing => false,
        }
    }

    fn write_head(&self, event: &RowEvent, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(event.kind().as_str().as_bytes());
        out.extend_from_slice(b"\",\"commit_timestamp\":\"");
        commit_timestamp::write(event.commit.timestamp_us, out);
        out.push(b'"');
    }

    fn write_columns(&self, is_visible: impl Fn(usize, &ColumnEncoder) -> bool, out: &mut Vec<u8>) {
        let mut is_first = true;
        for (position, column) in self.columns.iter().enumerate() {
            if is_visible(position, column) {
                write_comma(&mut is_first, out);
                out.extend_from_slice(&column.description);
            }
        }
    }

    /// Appends the members of a record. Unchanged cells have none.
    fn write_record(
        &self,
        row: &Row,
        values: Values,
        is_visible: impl Fn(usize, &ColumnEncoder) -> bool,
        out: &mut Vec<u8>,
    ) {
        let mut is_first = true;
        for ((position, column), cell) in self.columns.iter().enumerate().zip(row.cells()) {
            if !is_visible(position, column) {
                continue;
            }
            let text = match (cell, values) {
                (Cell::Unchanged, _) | (Cell::Null, Values::Small) => continue,
                (Cell::Null, Values::All) => None,
                (Cell::Text(text), _) => Some(text),
            };
            let member_start = out.len();
            let was_first = is_first;
            write_comma(&mut is_first, out);
            out.extend_from_slice(&column.key);
            let value_start = out.len();
            match text {
                Some(text) => column.form.write(text, out),
                None => out.extend_from_slice(b"null"),
            }
            if values == Values::Small && !is_small(out.get(value_start..), text) {
                out.truncate(member_start);
                is_first = was_first;
            }
        }
    }
}

fn is_selected(selected: Option<&ColumnSet>, position: usize) -> bool {
    selected.is_none_or(|selected| selected.contains(position))
}

/// Whether a change that is too large keeps the value. NaN and the infinities are NULL by then,
/// while a JSON null is a value.
fn is_small(json: Option<&[u8]>, text: Option<&str>) -> bool {
    json.is_some_and(|json| {
        jsonb_text_len(json) <= SMALL_VALUE_BYTES_MAX && (json != b"null" || text == Some("null"))
    })
}

fn write_comma(is_first: &mut bool, out: &mut Vec<u8>) {
    if !*is_first {
        out.push(b',');
    }
    *is_first = false;
}

fn write_errors(error: Option<&str>, out: &mut Vec<u8>) {
    match error {
        Some(error) => {
            out.extend_from_slice(b",\"errors\":[");
            write_string(error, out);
            out.extend_from_slice(b"]}");
        }
        None => out.extend_from_slice(b",\"errors\":null}"),
    }
}
