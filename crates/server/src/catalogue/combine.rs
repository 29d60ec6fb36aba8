//! What of one snapshot goes with what of another.

use std::{collections::BTreeMap, sync::Arc};

use walcast_change::{ColumnSet, TableId};
use walcast_filters::{claims::Role, policy::RoleFacts};

use super::{Catalogue, KnownRole};

impl Catalogue {
    /// The same snapshot with everything that equals `earlier` taken from there, so that equal
    /// tables are one value and are compared by their address.
    #[must_use]
    pub fn sharing(mut self, earlier: &Self) -> Self {
        for (id, table) in &mut self.tables {
            if let Some(known) = earlier.tables.get(id).filter(|known| *known == table) {
                *table = Arc::clone(known);
            }
        }
        self
    }

    /// Whether both say the same.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.tables == other.tables && self.roles == other.roles
    }

    /// Whether tables, policies and privileges are those of `newer`; roles that only `newer` knows
    /// do not count. What a role inherits is not a definition but decides privileges: where it
    /// differs nobody can tell.
    #[must_use]
    pub fn has_definitions_of(&self, newer: &Self) -> bool {
        self.tables == newer.tables
            && self.roles.iter().all(|(name, role)| match (role, newer.roles.get(name)) {
                (Some(role), Some(Some(newer))) => role == newer,
                (None, _) | (_, Some(None) | None) => true,
            })
    }

    /// These tables with the roles of `newer`: what a role is, and which roles it has the
    /// privileges of, is not told by the stream. `None` when nothing differs.
    ///
    /// Where that changed, a column may be selected when both snapshots say so.
    #[must_use]
    pub fn with_roles_of(&self, newer: &Self, generation: impl FnOnce() -> u64) -> Option<Self> {
        let mut roles: BTreeMap<Role, Option<KnownRole>> = self.roles.clone();
        for (name, newer) in &newer.roles {
            let combined = match (self.roles.get(name), newer) {
                (_, None) => None,
                (None | Some(None), Some(newer)) => Some(newer.clone()),
                (Some(Some(role)), Some(newer)) if role.facts == newer.facts => Some(role.clone()),
                (Some(Some(role)), Some(newer)) => Some(role.restricted_to(newer)),
            };
            roles.insert(name.clone(), combined);
        }
        (roles != self.roles).then(|| Self {
            compiler: Arc::clone(&self.compiler),
            generation: generation(),
            tables: self.tables.clone(),
            roles,
        })
    }
}

impl KnownRole {
    /// The role as `newer` has it, with the privileges that both have.
    fn restricted_to(&self, newer: &Self) -> Self {
        let both = |(id, columns): (&TableId, &ColumnSet)| {
            let newer = newer.selectable.get(id)?;
            Some((*id, columns.iter().filter(|column| newer.contains(*column)).collect()))
        };
        let may_run = self.facts.may_run.intersection(&newer.facts.may_run).copied().collect();
        Self {
            facts: RoleFacts { may_run, ..newer.facts.clone() },
            selectable: self.selectable.iter().filter_map(both).collect(),
        }
    }
}
