//! The part of PostgreSQL's catalogue that walcast needs, read as one snapshot.

pub mod keeper;
pub mod read;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use walcast_change::{ColumnSet, Table, TableId};
use walcast_filters::{
    claims::Role,
    policy::{RoleFacts, RowRule, RowSecurity},
};

/// A snapshot: tables, roles, privileges.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// Grows with every snapshot that was read.
    pub generation: u64,
    /// The tables of the publication, the partitioned tables above them, and tables that were
    /// published earlier and still exist.
    pub tables: HashMap<TableId, Arc<KnownTable>>,
    /// The roles that were asked for; `None` when PostgreSQL has no such role.
    pub roles: BTreeMap<Role, Option<KnownRole>>,
}

/// A table with what decides who may see it.
#[derive(Debug)]
pub struct KnownTable {
    /// The table.
    pub table: Table,
    /// Its row security.
    pub row_security: RowSecurity,
    /// Whether the publication publishes it.
    pub is_published: bool,
    /// The partitioned tables above it, nearest first.
    pub ancestors: Box<[TableId]>,
}

/// A role with its column privileges.
#[derive(Debug)]
pub struct KnownRole {
    /// What decides which policies concern it.
    pub facts: RoleFacts,
    /// Attribute numbers the role may SELECT, per table; nothing where it lacks USAGE on the schema.
    pub selectable: HashMap<TableId, ColumnSet>,
}

/// A table that a subscription covers.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// Whose changes are delivered.
    pub target: TableId,
    /// The table that was subscribed to: its policies and privileges decide. It differs from
    /// `target` when a partitioned table is subscribed to and its leaves are published.
    pub guard: Arc<KnownTable>,
}

impl Catalogue {
    /// The published tables a subscription to `schema` and `table` covers; `None` is the wildcard.
    ///
    /// A partitioned table whose leaves are published covers its leaves, unless the wildcard is
    /// used, which covers each leaf as itself.
    #[must_use]
    pub fn covered_by(&self, schema: Option<&str>, table: Option<&str>) -> Vec<Coverage> {
        let is_named = |known: &KnownTable| {
            schema.is_none_or(|name| *known.table.schema == *name)
                && table.is_none_or(|name| *known.table.name == *name)
        };
        let mut covered: Vec<Coverage> = self
            .tables
            .values()
            .filter(|known| known.is_published && is_named(known))
            .map(|known| Coverage { target: known.table.id, guard: Arc::clone(known) })
            .collect();
        if schema.is_some() && table.is_some() && covered.is_empty() {
            let root = self.tables.values().find(|known| !known.is_published && is_named(known));
            if let Some(root) = root {
                let leaves = self
                    .tables
                    .values()
                    .filter(|known| known.is_published && known.ancestors.contains(&root.table.id));
                covered.extend(
                    leaves.map(|leaf| Coverage { target: leaf.table.id, guard: Arc::clone(root) }),
                );
            }
        }
        covered.sort_by_key(|coverage| coverage.target);
        covered
    }

    /// The role, if it was asked for and exists.
    #[must_use]
    pub fn role(&self, role: &Role) -> Option<&KnownRole> {
        self.roles.get(role)?.as_ref()
    }

    /// The positions in `aligned` that the role may SELECT by its privileges on `guard`.
    #[must_use]
    pub fn selectable(&self, role: &Role, guard: &Table, aligned: &Table) -> ColumnSet {
        let Some(numbers) = self.role(role).and_then(|known| known.selectable.get(&guard.id))
        else {
            return ColumnSet::new();
        };
        let may_select = |name: &str| {
            guard.columns.iter().any(|column| {
                *column.name == *name
                    && usize::try_from(column.number)
                        .is_ok_and(|number| number > 0 && numbers.contains(number))
            })
        };
        let columns = aligned.columns.iter().enumerate();
        columns
            .filter(|(_, column)| may_select(&column.name))
            .map(|(position, _)| position)
            .collect()
    }

    /// The row rule of `guard` for a role; a role that does not exist sees nothing.
    #[must_use]
    pub fn rule(&self, role: &Role, guard: &KnownTable) -> RowRule {
        self.role(role).map_or(RowRule::Nothing, |known| {
            guard.row_security.rule_for(&known.facts, guard.table.owner)
        })
    }
}
