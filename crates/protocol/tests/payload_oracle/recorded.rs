//! What the recordings hold.

use std::sync::Arc;

use serde::Deserialize;
use walcast_change::{
    Cell, Collation, Column, Commit, Field, Lsn, OldImage, PgType, Relation, RelationColumn,
    ReplicaIdentity, RoleId, Row, RowChange, RowEvent, Table, TableId, TableKind, TypeId, TypeKind,
    TypeRegistry,
};

#[derive(Deserialize)]
pub(crate) struct RecordedType {
    id: u32,
    schema: String,
    name: String,
    delimiter: Option<char>,
    kind: Option<String>,
    element: Option<u32>,
    base: Option<u32>,
    fields: Option<Vec<RecordedField>>,
}

#[derive(Deserialize)]
struct RecordedField {
    name: String,
    r#type: u32,
}

pub(crate) fn registry(types: &[RecordedType]) -> Arc<TypeRegistry> {
    let field = |field: &RecordedField| Field {
        name: field.name.as_str().into(),
        type_id: TypeId(field.r#type),
    };
    let pg_type = |recorded: &RecordedType| PgType {
        id: TypeId(recorded.id),
        schema: recorded.schema.as_str().into(),
        name: recorded.name.as_str().into(),
        delimiter: recorded.delimiter.unwrap_or(','),
        kind: match recorded {
            RecordedType { element: Some(element), .. } => {
                TypeKind::Array { element: TypeId(*element) }
            }
            RecordedType { base: Some(base), .. } => TypeKind::Domain { base: TypeId(*base) },
            RecordedType { fields: Some(fields), .. } => {
                TypeKind::Composite { fields: fields.iter().map(field).collect() }
            }
            RecordedType { kind, .. } => match kind.as_deref() {
                Some("base") => TypeKind::Base,
                Some("enum") => TypeKind::Enum { labels: Box::default() },
                Some("range") => TypeKind::Range,
                Some("multirange") => TypeKind::Multirange,
                other => panic!("unknown kind {other:?}"),
            },
        },
    };
    Arc::new(types.iter().map(pg_type).collect())
}

#[derive(Deserialize)]
pub(crate) struct RecordedRelation {
    oid: u32,
    schema: String,
    name: String,
    identity: char,
    key: Vec<String>,
    columns: Vec<RecordedColumn>,
}

#[derive(Deserialize)]
struct RecordedColumn {
    name: String,
    is_identity: bool,
    r#type: u32,
    modifier: i32,
}

impl RecordedRelation {
    pub(crate) fn relation(&self) -> Relation {
        let columns = self.columns.iter().map(|column| RelationColumn {
            name: column.name.as_str().into(),
            type_id: TypeId(column.r#type),
            type_modifier: column.modifier,
            is_identity: column.is_identity,
        });
        Relation {
            id: TableId(self.oid),
            schema: self.schema.as_str().into(),
            name: self.name.as_str().into(),
            replica_identity: match self.identity {
                'd' => ReplicaIdentity::Default,
                'n' => ReplicaIdentity::Nothing,
                'f' => ReplicaIdentity::Full,
                'i' => ReplicaIdentity::Index,
                other => panic!("unknown identity {other}"),
            },
            columns: columns.collect(),
        }
    }

    pub(crate) fn table(&self, types: &Arc<TypeRegistry>) -> Table {
        let columns = self.columns.iter().zip(1..).map(|(column, number)| Column {
            name: column.name.as_str().into(),
            number,
            data_type: Arc::clone(types.find(TypeId(column.r#type)).unwrap()),
            base_type: Arc::clone(types.find(types.base_of(TypeId(column.r#type))).unwrap()),
            type_modifier: column.modifier,
            collation: Collation::None,
            is_primary_key: self.key.contains(&column.name),
            is_identity: column.is_identity,
            is_generated: false,
        });
        let relation = self.relation();
        Table {
            id: relation.id,
            schema: relation.schema,
            name: relation.name,
            kind: TableKind::Ordinary,
            owner: RoleId(10),
            replica_identity: relation.replica_identity,
            columns: columns.collect(),
            types: Arc::clone(types),
            has_primary_key: !self.key.is_empty(),
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct RecordedEvent {
    pub(crate) relation: usize,
    kind: char,
    timestamp_us: i64,
    old_kind: Option<char>,
    old: Option<Vec<RecordedCell>>,
    new: Option<Vec<RecordedCell>>,
    /// The size of the change by the reference's measure.
    pub(crate) size: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RecordedCell {
    Null(()),
    /// `false`
    Unchanged(#[expect(dead_code, reason = "that it is a boolean tells")] bool),
    Text(String),
    Repeat {
        #[serde(rename = "$repeat")]
        repeat: (String, usize),
    },
}

impl RecordedEvent {
    pub(crate) fn event(&self, relation: &Arc<Relation>) -> RowEvent {
        let old = self.old.as_deref().map(row).map(|row| match self.old_kind {
            Some('O') => OldImage::Full(row),
            _ => OldImage::Key(row),
        });
        let new = self.new.as_deref().map(row);
        let change = match (self.kind, old, new) {
            ('I', None, Some(new)) => RowChange::Insert { new },
            ('U', old, Some(new)) => RowChange::Update { old, new },
            ('D', Some(old), None) => RowChange::Delete { old },
            (kind, _, _) => panic!("a {kind} with other images than it can have"),
        };
        RowEvent {
            relation: Arc::clone(relation),
            commit: Commit { lsn: Lsn::ZERO, timestamp_us: self.timestamp_us, transaction_id: 1 },
            index: 0,
            change,
        }
    }
}

fn row(cells: &[RecordedCell]) -> Row {
    let texts: Vec<Option<String>> = cells
        .iter()
        .map(|cell| match cell {
            RecordedCell::Text(text) => Some(text.clone()),
            RecordedCell::Repeat { repeat: (part, n) } => Some(part.repeat(*n)),
            RecordedCell::Null(()) | RecordedCell::Unchanged(_) => None,
        })
        .collect();
    cells
        .iter()
        .zip(&texts)
        .map(|(cell, text)| match (cell, text) {
            (_, Some(text)) => Cell::Text(text),
            (RecordedCell::Null(()), None) => Cell::Null,
            _ => Cell::Unchanged,
        })
        .collect()
}
