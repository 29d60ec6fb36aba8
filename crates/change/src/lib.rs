//! The words of walcast: what a committed change of a row is.
//!
//! ```text
//! Relation   a table as the replication stream describes it (names and type oids)
//! Table      a table as the catalogue knows it (types resolved, primary key, owner, row security)
//! Row        one image of a row, every value in PostgreSQL's text form
//! RowEvent   one committed change of one row: the currency of the whole path
//! ```
//!
//! A `RowEvent` carries the `Relation` it was decoded with. Whoever needs types aligns the
//! catalogue's `Table` with that relation once ([`Table::align`]); after that, column positions of
//! table and row agree.
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

mod column_set;
mod event;
mod lsn;
mod pg_type;
mod relation;
mod row;
mod table;

pub use column_set::ColumnSet;
pub use event::{Commit, EventKind, OldImage, RowChange, RowEvent};
pub use lsn::{Lsn, LsnParseError};
pub use pg_type::{Field, PgType, TypeId, TypeKind, TypeRegistry, oid};
pub use relation::{Relation, RelationColumn, ReplicaIdentity};
pub use row::{Cell, Row, RowBuilder};
pub use table::{Collation, Column, RoleId, Table, TableId, TableKind};
