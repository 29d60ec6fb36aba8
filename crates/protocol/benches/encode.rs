//! Nanoseconds per event of the payload encoder: `cargo bench -p walcast-protocol`.
#![expect(clippy::print_stdout, reason = "a benchmark prints what a human compares")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::{hint::black_box, sync::Arc, time::Instant};

use walcast_change::{
    Cell, Collation, Column, ColumnSet, Commit, Lsn, PgType, Relation, ReplicaIdentity, RoleId,
    Row, RowChange, RowEvent, Table, TableId, TableKind, TypeId, TypeKind, TypeRegistry, oid,
};
use walcast_protocol::changes::{MAX_RECORD_BYTES, OldView, TableEncoder, View};

const N_EVENTS: u32 = 2_000_000;
const N_ROUNDS: usize = 5;

/// `_text`
const TEXT_ARRAY: TypeId = TypeId(1009);

const NARROW: &[(&str, TypeId, &str)] =
    &[("id", oid::INT8, "123456789"), ("body", oid::TEXT, "a message of usual length, no more")];

const WIDE: &[(&str, TypeId, &str)] = &[
    ("id", oid::INT8, "123456789"),
    ("user_id", oid::UUID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("title", oid::TEXT, "a title with \"quotes\""),
    ("body", oid::TEXT, "a message of usual length, no more"),
    ("is_public", oid::BOOL, "t"),
    ("price", oid::NUMERIC, "1234.50"),
    ("score", oid::FLOAT8, "0.8315"),
    ("created_at", oid::TIMESTAMPTZ, "2024-01-02 01:04:05.678901+00"),
    ("tags", TEXT_ARRAY, "{red,green,\"dark blue\"}"),
    ("details", oid::JSONB, r#"{"a": [1, 2, {"c": null}], "b": "text"}"#),
];

fn main() {
    for (name, columns) in [("2 columns", NARROW), ("10 columns", WIDE)] {
        let table = table(columns);
        let all = ColumnSet::all(columns.len());
        let view = View {
            selectable: &all,
            selected: None,
            old: OldView::Whole,
            max_record_bytes: MAX_RECORD_BYTES,
        };
        let encoder = TableEncoder::new(&table);
        let new: Row = columns.iter().map(|(_, _, text)| Cell::Text(text)).collect();
        for change in [RowChange::Insert { new: new.clone() }, RowChange::Update { old: None, new }]
        {
            let event = event(&table, change);
            let mut out = Vec::with_capacity(4096);
            let round = |_| {
                let start = Instant::now();
                for _ in 0..N_EVENTS {
                    out.clear();
                    black_box(&encoder).encode(black_box(&event), black_box(&view), &mut out);
                    black_box(&out);
                }
                start.elapsed().as_secs_f64() * 1e9 / f64::from(N_EVENTS)
            };
            // The best round is the one that was disturbed least.
            let best = (0..N_ROUNDS).map(round).fold(f64::INFINITY, f64::min);
            let kind = event.kind().as_str();
            println!("{name}, {kind}: {best:.0} ns per event, {} bytes", out.len());
        }
    }
}

fn table(columns: &[(&str, TypeId, &str)]) -> Table {
    let pg_type = |id: TypeId| PgType {
        id,
        schema: "pg_catalog".into(),
        name: format!("type{}", id.0).into(),
        delimiter: ',',
        kind: if id == TEXT_ARRAY {
            TypeKind::Array { element: oid::TEXT }
        } else {
            TypeKind::Base
        },
    };
    let types: Arc<TypeRegistry> =
        Arc::new(columns.iter().map(|(_, id, _)| pg_type(*id)).collect());
    let columns = columns.iter().zip(1..).map(|((name, id, _), number)| Column {
        name: (*name).into(),
        number,
        data_type: Arc::clone(types.find(*id).unwrap()),
        base_type: Arc::clone(types.find(*id).unwrap()),
        type_modifier: -1,
        collation: Collation::None,
        is_primary_key: number == 1,
        is_identity: number == 1,
        is_generated: false,
    });
    Table {
        id: TableId(1),
        schema: "public".into(),
        name: "messages".into(),
        kind: TableKind::Ordinary,
        owner: RoleId(10),
        replica_identity: ReplicaIdentity::Default,
        columns: columns.collect(),
        types: Arc::clone(&types),
        has_primary_key: true,
    }
}

fn event(table: &Table, change: RowChange) -> RowEvent {
    let relation = Relation {
        id: table.id,
        schema: table.schema.clone(),
        name: table.name.clone(),
        replica_identity: table.replica_identity,
        columns: Box::default(),
    };
    RowEvent {
        relation: Arc::new(relation),
        commit: Commit { lsn: Lsn::new(1), timestamp_us: 1_787_307_630_123_999, transaction_id: 1 },
        index: 0,
        change,
    }
}
