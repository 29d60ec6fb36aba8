//! The part of PostgreSQL's catalogue that walcast needs, read as one snapshot.

pub mod channel_rules;
mod combine;
pub mod keeper;
pub mod read;
pub mod reading;
pub mod snapshot;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use walcast_change::{ColumnSet, Table, TableId};
use walcast_filters::{
    claims::Role,
    policy::{Compiler, RoleFacts, RowRule, RowSecurity},
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
    /// The policies as they were compiled, for the next snapshot to take over.
    pub compiler: Arc<Compiler>,
}

/// A table with what decides who may see it.
#[derive(Debug, Eq, PartialEq)]
pub struct KnownTable {
    /// The table.
    pub table: Table,
    /// Its row security.
    pub row_security: RowSecurity,
    /// Which rows of `pg_policy` its policies are, with their versions: equal as long as no policy
    /// changes, whatever becomes of the names in it.
    pub policy_versions: Box<str>,
    /// Whether a column has another collation than its type.
    pub has_own_collation: bool,
    /// Whether the publication publishes it.
    pub is_published: bool,
    /// The partitioned tables above it, nearest first.
    pub ancestors: Box<[TableId]>,
}

/// A role with its column privileges.
#[derive(Clone, Debug, Eq, PartialEq)]
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use walcast_change::{
        Collation, Column, PgType, ReplicaIdentity, RoleId, TableKind, TypeKind, TypeRegistry, oid,
    };

    use super::*;

    fn table(id: u32, schema: &str, name: &str, columns: &[(&str, i16)]) -> Table {
        let int4 = Arc::new(PgType {
            id: oid::INT4,
            schema: "pg_catalog".into(),
            name: "int4".into(),
            delimiter: ',',
            kind: TypeKind::Base,
        });
        let column = |(name, number): &(&str, i16)| Column {
            name: (*name).into(),
            number: *number,
            data_type: Arc::clone(&int4),
            base_type: Arc::clone(&int4),
            type_modifier: -1,
            collation: Collation::None,
            is_primary_key: *number == 1,
            is_identity: *number == 1,
            is_generated: false,
        };
        Table {
            id: TableId(id),
            schema: schema.into(),
            name: name.into(),
            kind: TableKind::Ordinary,
            owner: RoleId(10),
            replica_identity: ReplicaIdentity::Default,
            columns: columns.iter().map(column).collect(),
            types: Arc::new(TypeRegistry::default()),
            has_primary_key: true,
        }
    }

    fn catalogue() -> Catalogue {
        let known = |id, schema, name, is_published, ancestors: &[u32]| KnownTable {
            table: table(id, schema, name, &[("id", 1), ("body", 3)]),
            row_security: RowSecurity::default(),
            policy_versions: "".into(),
            has_own_collation: false,
            is_published,
            ancestors: ancestors.iter().copied().map(TableId).collect(),
        };
        let tables = [
            known(1, "public", "notes", true, &[]),
            known(2, "public", "root", false, &[]),
            known(3, "public", "leaf_a", true, &[2]),
            known(4, "public", "leaf_b", true, &[5, 2]),
            known(5, "public", "branch", false, &[2]),
            known(6, "app", "notes", true, &[]),
            known(7, "public", "left", false, &[]),
        ];
        let facts = RoleFacts {
            id: RoleId(20),
            bypasses_row_security: false,
            has_privileges_of: BTreeSet::from([RoleId(20)]),
            may_run: BTreeSet::new(),
        };
        let selectable = [(TableId(1), ColumnSet::from_iter([3]))].into();
        Catalogue {
            generation: 1,
            tables: tables.into_iter().map(|known| (known.table.id, Arc::new(known))).collect(),
            roles: [
                (Role::new("anon"), Some(KnownRole { facts, selectable })),
                (Role::new("nobody"), None),
            ]
            .into(),
            compiler: Arc::default(),
        }
    }

    #[test]
    fn names_cover_published_tables_and_the_leaves_of_a_root() {
        for (schema, name, expected) in [
            (Some("public"), Some("notes"), vec![(1, 1)]),
            (Some("public"), Some("root"), vec![(3, 2), (4, 2)]),
            (Some("public"), Some("branch"), vec![(4, 5)]),
            (Some("public"), Some("leaf_a"), vec![(3, 3)]),
            (Some("public"), Some("left"), vec![]),
            (Some("public"), Some("not%"), vec![]),
            (Some("public"), None, vec![(1, 1), (3, 3), (4, 4)]),
            (None, Some("notes"), vec![(1, 1), (6, 6)]),
            (None, None, vec![(1, 1), (3, 3), (4, 4), (6, 6)]),
        ] {
            let covered = catalogue().covered_by(schema, name);
            let found: Vec<_> = covered
                .iter()
                .map(|coverage| (coverage.target.0, coverage.guard.table.id.0))
                .collect();
            assert_eq!(found, expected, "{schema:?} {name:?}");
        }
    }

    #[test]
    fn privileges_follow_columns_by_name_and_default_to_none() {
        let catalogue = catalogue();
        let notes = &catalogue.tables[&TableId(1)].table;
        let aligned = table(1, "public", "notes", &[("body", 3), ("gone", 0), ("id", 1)]);
        let selectable = |role: &str, guard: &Table| -> Vec<usize> {
            catalogue.selectable(&Role::new(role), guard, &aligned).iter().collect()
        };
        assert_eq!(selectable("anon", notes), [0]);
        assert_eq!(selectable("nobody", notes), Vec::<usize>::new());
        assert_eq!(selectable("unheard-of", notes), Vec::<usize>::new());
        assert_eq!(selectable("anon", &catalogue.tables[&TableId(6)].table), Vec::<usize>::new());
    }

    #[test]
    fn a_role_that_does_not_exist_sees_no_row() {
        let catalogue = catalogue();
        let notes = &catalogue.tables[&TableId(1)];
        assert_eq!(catalogue.rule(&Role::new("anon"), notes), RowRule::Everything);
        assert_eq!(catalogue.rule(&Role::new("nobody"), notes), RowRule::Nothing);
    }
}
