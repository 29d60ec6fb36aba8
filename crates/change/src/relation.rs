//! A table as the replication stream describes it.

use crate::{pg_type::TypeId, table::TableId};

/// What the stream says about a table: pgoutput's Relation message.
///
/// It lacks primary keys, type names and everything about authorisation; those come from the
/// catalogue's [`Table`](crate::Table).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Relation {
    /// The table's oid; with `publish_via_partition_root` the root's.
    pub id: TableId,
    /// Schema name, verbatim.
    pub schema: Box<str>,
    /// Table name, verbatim.
    pub name: Box<str>,
    /// Which columns of the old row the stream carries.
    pub replica_identity: ReplicaIdentity,
    /// The published columns in attribute order.
    pub columns: Box<[RelationColumn]>,
}

/// One column of a [`Relation`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelationColumn {
    /// Column name, verbatim.
    pub name: Box<str>,
    /// The column's type.
    pub type_id: TypeId,
    /// The type modifier (`atttypmod`), -1 when there is none.
    pub type_modifier: i32,
    /// Whether the column belongs to the replica identity.
    pub is_identity: bool,
}

/// `relreplident`: which columns identify the old row of an UPDATE or DELETE.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// Nothing: PostgreSQL refuses UPDATE and DELETE once they are published.
    Nothing,
    /// Every column.
    Full,
    /// The columns of a chosen unique index.
    Index,
}
