//! Tables and rows to filter.

use std::sync::Arc;

use walcast_change::{
    Cell, Collation, Column, ColumnSet, Commit, Lsn, PgType, Relation, ReplicaIdentity, RoleId,
    Row, RowChange, RowEvent, Table, TableId, TableKind, TypeId, TypeKind, TypeRegistry, oid,
};
use walcast_filters::{Filter, FilterError, parse};

/// Oids of types that a database numbers itself.
pub(crate) const MOOD: TypeId = TypeId(20_001);
pub(crate) const POSINT: TypeId = TypeId(20_002);
pub(crate) const EMAIL: TypeId = TypeId(20_003);
pub(crate) const ADDR: TypeId = TypeId(20_004);
pub(crate) const CITEXT: TypeId = TypeId(20_005);
pub(crate) const HSTORE: TypeId = TypeId(20_006);
pub(crate) const LTREE: TypeId = TypeId(20_007);
pub(crate) const INT4_ARRAY: TypeId = TypeId(1007);
pub(crate) const TEXT_ARRAY: TypeId = TypeId(1009);
pub(crate) const INT4_RANGE: TypeId = TypeId(3904);
pub(crate) const TSVECTOR: TypeId = TypeId(3614);

/// The types of the tests' database.
pub(crate) fn types() -> Arc<TypeRegistry> {
    let labels = ["sad", "ok", "happy"].into_iter().map(Into::into).collect();
    let kinds = [
        (MOOD, "mood", TypeKind::Enum { labels }),
        (POSINT, "posint", TypeKind::Domain { base: oid::INT4 }),
        (EMAIL, "email", TypeKind::Domain { base: oid::TEXT }),
        (ADDR, "addr", TypeKind::Composite { fields: [].into() }),
        (CITEXT, "citext", TypeKind::Base),
        (HSTORE, "hstore", TypeKind::Base),
        (LTREE, "ltree", TypeKind::Base),
        (INT4_ARRAY, "_int4", TypeKind::Array { element: oid::INT4 }),
        (TEXT_ARRAY, "_text", TypeKind::Array { element: oid::TEXT }),
        (INT4_RANGE, "int4range", TypeKind::Range),
        (TSVECTOR, "tsvector", TypeKind::Base),
        (oid::BOOL, "bool", TypeKind::Base),
        (oid::BYTEA, "bytea", TypeKind::Base),
        (oid::CHAR, "char", TypeKind::Base),
        (oid::NAME, "name", TypeKind::Base),
        (oid::INT8, "int8", TypeKind::Base),
        (oid::INT2, "int2", TypeKind::Base),
        (oid::INT4, "int4", TypeKind::Base),
        (oid::TEXT, "text", TypeKind::Base),
        (oid::OID, "oid", TypeKind::Base),
        (oid::JSON, "json", TypeKind::Base),
        (oid::JSONB, "jsonb", TypeKind::Base),
        (oid::XML, "xml", TypeKind::Base),
        (oid::POINT, "point", TypeKind::Base),
        (oid::CIDR, "cidr", TypeKind::Base),
        (oid::INET, "inet", TypeKind::Base),
        (oid::MACADDR, "macaddr", TypeKind::Base),
        (oid::MONEY, "money", TypeKind::Base),
        (oid::FLOAT4, "float4", TypeKind::Base),
        (oid::FLOAT8, "float8", TypeKind::Base),
        (oid::BPCHAR, "bpchar", TypeKind::Base),
        (oid::VARCHAR, "varchar", TypeKind::Base),
        (oid::DATE, "date", TypeKind::Base),
        (oid::TIME, "time", TypeKind::Base),
        (oid::TIMETZ, "timetz", TypeKind::Base),
        (oid::TIMESTAMP, "timestamp", TypeKind::Base),
        (oid::TIMESTAMPTZ, "timestamptz", TypeKind::Base),
        (oid::INTERVAL, "interval", TypeKind::Base),
        (oid::BIT, "bit", TypeKind::Base),
        (oid::VARBIT, "varbit", TypeKind::Base),
        (oid::NUMERIC, "numeric", TypeKind::Base),
        (oid::UUID, "uuid", TypeKind::Base),
    ];
    let types = kinds.into_iter().map(|(id, name, kind)| {
        let schema = if (20_000..30_000).contains(&id.0) { "public" } else { "pg_catalog" };
        PgType { id, schema: schema.into(), name: name.into(), delimiter: ',', kind }
    });
    Arc::new(types.collect())
}

/// A table with these columns; texts are ordered by some locale unless the name starts with `c_`
/// (by bytes) or `nd_` (not deterministic).
pub(crate) fn table(columns: &[(&str, TypeId)]) -> Table {
    let types = types();
    let find = |id| Arc::clone(types.find(id).expect("a known type"));
    let columns = (1..).zip(columns).map(|(number, (name, id))| {
        let base_type = find(types.base_of(*id));
        let is_collated = [oid::TEXT, oid::VARCHAR, oid::BPCHAR, CITEXT].contains(&base_type.id);
        let collation = match () {
            () if base_type.id == oid::NAME => Collation::Bytes,
            () if !is_collated => Collation::None,
            () if name.starts_with("c_") => Collation::Bytes,
            () if name.starts_with("nd_") => Collation::NonDeterministic,
            () => Collation::Locale,
        };
        Column {
            name: (*name).into(),
            number,
            data_type: find(*id),
            base_type,
            type_modifier: -1,
            collation,
            is_primary_key: number == 1,
            is_identity: number == 1,
            is_generated: false,
        }
    });
    Table {
        id: TableId(1),
        schema: "public".into(),
        name: "t".into(),
        kind: TableKind::Ordinary,
        owner: RoleId(10),
        replica_identity: ReplicaIdentity::Default,
        columns: columns.collect(),
        types: Arc::clone(&types),
        has_primary_key: true,
    }
}

/// The filter, checked for a role that may SELECT every column.
pub(crate) fn filter(text: &str, table: &Table) -> Result<Filter, FilterError> {
    let conditions = parse(text).expect("a filter");
    Filter::check(&conditions, table, &ColumnSet::all(table.columns.len()))
}

/// A row of texts; `None` is NULL.
pub(crate) fn row(cells: &[Option<&str>]) -> Row {
    cells.iter().map(|cell| cell.map_or(Cell::Null, Cell::Text)).collect()
}

/// An event of the table.
pub(crate) fn event(table: &Table, change: RowChange) -> RowEvent {
    let relation = Relation {
        id: table.id,
        schema: table.schema.clone(),
        name: table.name.clone(),
        replica_identity: table.replica_identity,
        columns: [].into(),
    };
    let commit = Commit { lsn: Lsn::new(1), timestamp_us: 0, transaction_id: 1 };
    RowEvent { relation: Arc::new(relation), commit, index: 0, change }
}
