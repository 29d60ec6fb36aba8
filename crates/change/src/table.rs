//! A table as the catalogue knows it.

use std::sync::Arc;

use crate::{ColumnSet, PgType, Relation, ReplicaIdentity, TypeId, TypeKind, TypeRegistry};

/// The oid of a table (`pg_class.oid`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TableId(pub u32);

/// The oid of a role (`pg_authid.oid`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RoleId(pub u32);

/// A table with its columns' types resolved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// The table's oid.
    pub id: TableId,
    /// Schema name, verbatim.
    pub schema: Box<str>,
    /// Table name, verbatim.
    pub name: Box<str>,
    /// Ordinary or partitioned.
    pub kind: TableKind,
    /// The role that owns it.
    pub owner: RoleId,
    /// `relreplident`; of a partitioned table what all its leaves have, `Index` where they differ.
    pub replica_identity: ReplicaIdentity,
    /// The columns that are not dropped, in attribute order; after [`Table::align`] exactly the
    /// relation's columns.
    pub columns: Box<[Column]>,
    /// The types of the database, for elements of arrays, fields of composites, bases of domains.
    pub types: Arc<TypeRegistry>,
    /// Whether there is a primary key, also when (as in a column list) not all of it is in
    /// `columns`.
    pub has_primary_key: bool,
}

/// One column of a [`Table`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Column {
    /// Column name, verbatim.
    pub name: Box<str>,
    /// `attnum`; 0 when the catalogue no longer has the column.
    pub number: i16,
    /// The declared type.
    pub data_type: Arc<PgType>,
    /// The type below all domains.
    pub base_type: Arc<PgType>,
    /// `atttypmod`
    pub type_modifier: i32,
    /// How texts of this column are ordered.
    pub collation: Collation,
    /// Whether it is part of the primary key.
    pub is_primary_key: bool,
    /// Whether it belongs to the replica identity; in a partitioned table to that of every leaf.
    pub is_identity: bool,
    /// Whether it is a stored generated column, which PostgreSQL publishes only from 18 on, when
    /// asked to.
    pub is_generated: bool,
}

/// How texts of a column are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Collation {
    /// The type has no collation.
    None,
    /// Byte order: `C`, `POSIX`, `C.UTF-8`-like built-in ones.
    Bytes,
    /// Another deterministic collation: equality is byte equality, only PostgreSQL knows the order.
    Locale,
    /// Non-deterministic: only PostgreSQL knows even equality.
    NonDeterministic,
}

/// What sort of table it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TableKind {
    /// `relkind = 'r'`, also a leaf partition.
    Ordinary,
    /// `relkind = 'p'`
    Partitioned,
}

impl Table {
    /// The position of a column by name.
    #[must_use]
    pub fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|candidate| &*candidate.name == column)
    }

    /// The positions of the primary key's columns.
    #[must_use]
    pub fn primary_key(&self) -> ColumnSet {
        self.positions(|column| column.is_primary_key)
    }

    /// The positions of the replica identity's columns.
    #[must_use]
    pub fn identity(&self) -> ColumnSet {
        self.positions(|column| column.is_identity)
    }

    /// The table with exactly the relation's columns, in the relation's order, so that positions in
    /// rows decoded with `relation` are positions in `columns`.
    ///
    /// A column that the catalogue no longer has (dropped or renamed since) keeps the name and type
    /// of the stream, is no primary key, has `number` 0, and its order is PostgreSQL's to know.
    ///
    /// The replica identity is the stream's, except under a partitioned table's name: there the
    /// stream tells the root's, while the leaves' decides what it sends.
    #[must_use]
    pub fn align(&self, relation: &Relation) -> Self {
        let is_partitioned = self.kind == TableKind::Partitioned;
        let columns = relation.columns.iter().map(|streamed| {
            let known = self
                .columns
                .iter()
                .find(|column| column.name == streamed.name)
                .filter(|column| column.data_type.id == streamed.type_id);
            if let Some(column) = known {
                let is_identity =
                    if is_partitioned { column.is_identity } else { streamed.is_identity };
                return Column { is_identity, ..column.clone() };
            }
            Column {
                name: streamed.name.clone(),
                number: 0,
                data_type: self.type_or_unknown(streamed.type_id),
                base_type: self.type_or_unknown(self.types.base_of(streamed.type_id)),
                type_modifier: streamed.type_modifier,
                collation: Collation::NonDeterministic,
                is_primary_key: false,
                is_identity: streamed.is_identity && !is_partitioned,
                is_generated: false,
            }
        });
        Self {
            schema: relation.schema.clone(),
            name: relation.name.clone(),
            replica_identity: if is_partitioned {
                self.replica_identity
            } else {
                relation.replica_identity
            },
            columns: columns.collect(),
            ..self.clone()
        }
    }

    fn positions(&self, wanted: impl Fn(&Column) -> bool) -> ColumnSet {
        let columns = self.columns.iter().enumerate();
        columns.filter(|(_, column)| wanted(column)).map(|(position, _)| position).collect()
    }

    fn type_or_unknown(&self, id: TypeId) -> Arc<PgType> {
        self.types.find(id).map_or_else(
            || {
                Arc::new(PgType {
                    id,
                    schema: "pg_catalog".into(),
                    name: "unknown".into(),
                    delimiter: ',',
                    kind: TypeKind::Base,
                })
            },
            Arc::clone,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RelationColumn, oid};

    fn pg_type(id: TypeId, name: &str) -> PgType {
        let schema = "pg_catalog".into();
        PgType { id, schema, name: name.into(), delimiter: ',', kind: TypeKind::Base }
    }

    fn table() -> Table {
        let types: Arc<TypeRegistry> = Arc::new(
            [pg_type(oid::INT4, "int4"), pg_type(oid::TEXT, "text")].into_iter().collect(),
        );
        let column = |name: &str, number, id, is_primary_key| Column {
            name: name.into(),
            number,
            data_type: Arc::clone(types.find(id).unwrap()),
            base_type: Arc::clone(types.find(id).unwrap()),
            type_modifier: -1,
            collation: Collation::None,
            is_primary_key,
            is_identity: is_primary_key,
            is_generated: false,
        };
        Table {
            id: TableId(1),
            schema: "public".into(),
            name: "notes".into(),
            kind: TableKind::Ordinary,
            owner: RoleId(10),
            replica_identity: ReplicaIdentity::Default,
            columns: [column("id", 1, oid::INT4, true), column("body", 3, oid::TEXT, false)].into(),
            types: Arc::clone(&types),
            has_primary_key: true,
        }
    }

    fn relation(columns: &[(&str, TypeId)]) -> Relation {
        let columns = columns.iter().map(|(name, type_id)| RelationColumn {
            name: (*name).into(),
            type_id: *type_id,
            type_modifier: -1,
            is_identity: *name == "id",
        });
        Relation {
            id: TableId(1),
            schema: "public".into(),
            name: "old_name".into(),
            replica_identity: ReplicaIdentity::Default,
            columns: columns.collect(),
        }
    }

    #[test]
    fn aligning_follows_the_stream() {
        let relation = relation(&[("body", oid::TEXT), ("dropped", oid::INT4), ("id", oid::INT4)]);
        let aligned = table().align(&relation);
        let names: Vec<_> = aligned.columns.iter().map(|column| &*column.name).collect();
        assert_eq!(names, ["body", "dropped", "id"]);
        assert_eq!(&*aligned.name, "old_name");
        assert_eq!(aligned.primary_key().iter().collect::<Vec<_>>(), [2]);
        let numbers: Vec<_> = aligned.columns.iter().map(|column| column.number).collect();
        assert_eq!(numbers, [3, 0, 1]);
    }

    #[test]
    fn a_retyped_column_keeps_the_type_of_the_stream() {
        let aligned = table().align(&relation(&[("id", oid::TEXT)]));
        assert_eq!(aligned.columns.first().map(|column| column.data_type.id), Some(oid::TEXT));
        assert!(aligned.primary_key().is_empty());
    }

    #[test]
    fn a_partitioned_table_keeps_the_identity_of_its_leaves() {
        let mut root = table();
        root.kind = TableKind::Partitioned;
        let mut streamed = relation(&[("id", oid::INT4), ("body", oid::TEXT)]);
        streamed.replica_identity = ReplicaIdentity::Full;
        streamed.columns.iter_mut().for_each(|column| column.is_identity = true);
        let identity = |table: &Table| {
            let aligned = table.align(&streamed);
            (aligned.replica_identity, aligned.identity().iter().collect::<Vec<_>>())
        };
        assert_eq!(identity(&root), (ReplicaIdentity::Default, vec![0]));
        root.kind = TableKind::Ordinary;
        assert_eq!(identity(&root), (ReplicaIdentity::Full, vec![0, 1]));
    }
}
