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
    /// Bytes of an event but for its values, with every column in both records.
    bytes_without_values: usize,
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
        let columns: Box<[ColumnEncoder]> = columns.collect();
        let column_bytes = columns.iter().map(|column| {
            // With its commas, and a null in each record.
            column.description.len() + 2 * column.key.len() + 3 + 2 * "null".len()
        });
        let fixed = r#"TRUNCATE","commit_timestamp":"2024-01-02T03:04:05.678Z","columns":[],"record":{},"old_record":{},"errors":null}"#;
        Self {
            bytes_without_values: head.len() + fixed.len() + column_bytes.sum::<usize>(),
            head: head.into(),
            columns,
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
        let row_bytes = |row: &Row| row.text_bytes();
        let value_bytes = match values {
            Values::All => {
                event.new_row().map_or(0, row_bytes)
                    + event.old_image().map_or(0, |old| row_bytes(old.row()))
            }
            Values::Small => 0,
        };
        out.reserve(self.bytes_without_values + value_bytes);
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
        jsonb_text_len(json) <= SMALL_VALUE_BYTES_MAX
            && (json != b"null" || text.is_some_and(|text| text.trim() == "null"))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use walcast_change::{
        Collation, Column, Commit, Lsn, PgType, Relation, RoleId, TableId, TableKind, TypeId,
        TypeKind, TypeRegistry, oid,
    };

    use super::{
        super::{MAX_RECORD_BYTES, problem},
        *,
    };

    const COLUMNS: [(&str, TypeId, &str); 3] =
        [("id", oid::INT4, "int4"), ("a\"b", oid::TEXT, "text"), ("n", oid::FLOAT8, "float8")];

    fn table() -> Table {
        let pg_type = |(_, id, name): (&str, TypeId, &str)| PgType {
            id,
            schema: "pg_catalog".into(),
            name: name.into(),
            delimiter: ',',
            kind: TypeKind::Base,
        };
        let types: Arc<TypeRegistry> = Arc::new(COLUMNS.into_iter().map(pg_type).collect());
        let columns = COLUMNS.iter().zip(1..).map(|((name, id, _), number)| Column {
            name: (*name).into(),
            number,
            data_type: Arc::clone(types.find(*id).unwrap()),
            base_type: Arc::clone(types.find(*id).unwrap()),
            type_modifier: -1,
            collation: Collation::None,
            is_primary_key: number == 1,
            is_identity: true,
            is_generated: false,
        });
        Table {
            id: TableId(1),
            schema: "public".into(),
            name: "t".into(),
            kind: TableKind::Ordinary,
            owner: RoleId(10),
            replica_identity: ReplicaIdentity::Full,
            columns: columns.collect(),
            types: Arc::clone(&types),
            has_primary_key: true,
        }
    }

    fn row(text: &str) -> Row {
        [Cell::Text("1"), Cell::Text(text), Cell::Null].into_iter().collect()
    }

    fn encode(change: RowChange, view: &View<'_>) -> String {
        let table = table();
        let relation = Relation {
            id: table.id,
            schema: table.schema.clone(),
            name: table.name.clone(),
            replica_identity: table.replica_identity,
            columns: Box::default(),
        };
        let event = RowEvent {
            relation: Arc::new(relation),
            commit: Commit { lsn: Lsn::ZERO, timestamp_us: 1999, transaction_id: 1 },
            index: 0,
            change,
        };
        let mut out = Vec::new();
        TableEncoder::new(&table).encode(&event, view, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn view(selectable: &ColumnSet) -> View<'_> {
        View { selectable, selected: None, old: OldView::Whole, max_record_bytes: MAX_RECORD_BYTES }
    }

    #[test]
    fn a_selection_always_has_the_key() {
        let (all, selected) = (ColumnSet::all(3), [2].into_iter().collect());
        let change = RowChange::Insert { new: row("x") };
        assert_eq!(
            encode(change, &View { selected: Some(&selected), ..view(&all) }),
            r#"{"schema":"public","table":"t","type":"INSERT","commit_timestamp":"1970-01-01T00:00:00.001Z","#
                .to_owned()
                + r#""columns":[{"name":"id","type":"int4"},{"name":"n","type":"float8"}],"#
                + r#""record":{"id":1,"n":null},"errors":null}"#
        );
    }

    #[test]
    fn an_old_image_that_was_not_allowed_shows_its_key_only() {
        let selectable = [0, 1].into_iter().collect();
        let change = RowChange::Update { old: Some(OldImage::Full(row("secret"))), new: row("x") };
        let json = encode(change, &View { old: OldView::KeyOnly, ..view(&selectable) });
        assert!(
            json.ends_with(r#""record":{"id":1,"a\"b":"x"},"old_record":{"id":1},"errors":null}"#),
            "{json}"
        );
    }

    #[test]
    fn a_change_that_is_too_large_keeps_values_of_up_to_64_bytes() {
        let all = ColumnSet::all(3);
        let is_kept = |text: &str| {
            let change = RowChange::Delete { old: OldImage::Full(row(text)) };
            let json = encode(change, &View { max_record_bytes: 100, ..view(&all) });
            assert!(json.ends_with(r#"},"errors":["Error 413: Payload Too Large"]}"#), "{json}");
            assert!(json.contains(r#""old_record":{"id":1"#) && !json.contains("\"n\":"), "{json}");
            json.contains(r#""a\"b":"#)
        };
        assert!(is_kept(&"x".repeat(62)));
        assert!(!is_kept(&"x".repeat(63)));
        assert!(is_kept(&"é".repeat(31)));
        assert!(!is_kept(&"é".repeat(32)));
        assert!(is_kept(&"\"".repeat(31)));
        assert!(!is_kept(&"\"".repeat(32)));
    }

    #[test]
    fn a_missing_key_is_reported_before_a_hidden_one() {
        let hidden: ColumnSet = [1].into_iter().collect();
        let with_key = table();
        let without_key = Table { has_primary_key: false, ..table() };
        for kind in [EventKind::Insert, EventKind::Update] {
            assert_eq!(problem(&without_key, &hidden, kind), Some(Problem::NoPrimaryKey));
            assert_eq!(problem(&with_key, &hidden, kind), Some(Problem::Unauthorized));
            assert_eq!(problem(&with_key, &ColumnSet::all(1), kind), None);
        }
        assert_eq!(problem(&without_key, &hidden, EventKind::Delete), None);
    }
}
