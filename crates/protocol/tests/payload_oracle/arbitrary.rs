//! Whatever a text holds, what is written is valid JSON.

use std::sync::{Arc, LazyLock};

use proptest::{collection::vec, prelude::*, sample::select};
use serde::{Deserialize, de::IgnoredAny};
use walcast_change::{
    Cell, Collation, Column, ColumnSet, Commit, Lsn, OldImage, Relation, ReplicaIdentity, RoleId,
    Row, RowChange, RowEvent, Table, TableId, TableKind, TypeId, oid,
};
use walcast_protocol::{
    changes::{OldView, TableEncoder, View},
    json::{JsonForm, jsonb_text_len},
};

use crate::recorded::{RecordedType, registry};

#[derive(Deserialize)]
struct Recording {
    types: Vec<RecordedType>,
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    r#type: u32,
    text: String,
}

static EVERY_TYPE: LazyLock<EveryType> = LazyLock::new(EveryType::new);

/// One table with a column of every recorded type, the first of them the key.
struct EveryType {
    table: Table,
    relation: Arc<Relation>,
    encoder: TableEncoder,
    /// Texts that PostgreSQL printed, to be taken apart.
    texts: Vec<String>,
}

impl EveryType {
    fn new() -> Self {
        let recording: Recording =
            serde_json::from_str(include_str!("../data/payload/types.json")).unwrap();
        let types = registry(&recording.types);
        let mut ids: Vec<u32> = recording.pairs.iter().map(|pair| pair.r#type).collect();
        ids.dedup();
        let columns = ids.iter().zip(1..).map(|(id, number)| Column {
            name: format!("column \"{number}\"").into(),
            number,
            data_type: Arc::clone(types.find(TypeId(*id)).unwrap()),
            base_type: Arc::clone(types.find(types.base_of(TypeId(*id))).unwrap()),
            type_modifier: -1,
            collation: Collation::None,
            is_primary_key: number == 1,
            is_identity: number == 1,
            is_generated: false,
        });
        let table = Table {
            id: TableId(1),
            schema: "pub\"lic".into(),
            name: "\\every\ntype".into(),
            kind: TableKind::Ordinary,
            owner: RoleId(10),
            replica_identity: ReplicaIdentity::Default,
            columns: columns.collect(),
            types: Arc::clone(&types),
            has_primary_key: true,
        };
        let relation = Relation {
            id: table.id,
            schema: table.schema.clone(),
            name: table.name.clone(),
            replica_identity: table.replica_identity,
            columns: Box::default(),
        };
        let encoder = TableEncoder::new(&table);
        let relation = Arc::new(relation);
        Self {
            table,
            relation,
            encoder,
            texts: recording.pairs.into_iter().map(|pair| pair.text).collect(),
        }
    }

    fn row(&self, text: &str) -> Row {
        self.table.columns.iter().map(|_| Cell::Text(text)).collect()
    }

    /// Writes the text as every type, and fails unless the event is JSON.
    fn check(&self, text: &str) {
        let insert = RowChange::Insert { new: self.row(text) };
        self.check_change(text, insert, usize::MAX);
        let delete = RowChange::Delete { old: OldImage::Full(self.row(text)) };
        self.check_change(text, delete, 0);
    }

    fn check_change(&self, text: &str, change: RowChange, max_record_bytes: usize) {
        let event = RowEvent {
            relation: Arc::clone(&self.relation),
            commit: Commit { lsn: Lsn::ZERO, timestamp_us: i64::MIN, transaction_id: 0 },
            index: 0,
            change,
        };
        let all = ColumnSet::all(self.table.columns.len());
        let view = View { selectable: &all, selected: None, old: OldView::Whole, max_record_bytes };
        let mut out = Vec::new();
        self.encoder.encode(&event, &view, &mut out);
        let json = str::from_utf8(&out).unwrap();
        serde_json::from_str::<IgnoredAny>(json)
            .unwrap_or_else(|error| panic!("{error}: {text:?} gave {json}"));
    }
}

proptest! {
    #[test]
    fn any_text_of_any_type_is_json(
        texts in vec(any::<String>(), 1..4),
        parts in vec(
            select(vec![
                "{", "}", "[", "]", "(", ")", "\"", "\\", ",", ":", "=>", "=", "NULL", "null", "true",
                "1", "-", "0", ".", "e", "5", " ", "\\u", "\\ud800", "\\udc00", "00e9", "a", "é", "\n",
                "NaN", "Infinity", ";", "\"a\"", "\"b\":", "t", "+", "BC", "2024-01-02", "\u{0}",
            ]),
            0..24,
        ),
    ) {
        for text in texts.iter().map(String::as_str).chain([parts.concat().as_str()]) {
            EVERY_TYPE.check(text);
        }
    }
}

#[test]
fn every_part_of_a_valid_text_is_json_as_every_type() {
    for text in &EVERY_TYPE.texts {
        EVERY_TYPE.check(text);
        for (cut, _) in text.char_indices().take(100) {
            let (start, end) = text.split_at(cut);
            EVERY_TYPE.check(start);
            EVERY_TYPE.check(end);
        }
    }
}

#[test]
fn a_truncate_is_json_too() {
    EVERY_TYPE.check_change("", RowChange::Truncate, usize::MAX);
}

#[test]
fn the_length_as_jsonb_counts_its_blanks() {
    let check = |text: &str, expected: &str| {
        let mut out = Vec::new();
        JsonForm::of_type(oid::JSONB, &EVERY_TYPE.table.types).write(text, &mut out);
        assert_eq!(jsonb_text_len(&out), expected.len(), "{text}");
    };
    check("[1,2]", "[1, 2]");
    check(r#"{"a,b:\"c,":{"d":[1,null,"é"]}}"#, r#"{"a,b:\"c,": {"d": [1, null, "é"]}}"#);
    check(r#""\u00e9\u0001""#, r#""é\u0001""#);
}
