//! What is derived once from a table's description in the stream and the catalogue.

use std::{collections::HashMap, sync::Arc};

use walcast_change::{ColumnSet, EventKind, Relation, Table, TableId};
use walcast_filters::{claims::Role, policy::RowRule};
use walcast_protocol::changes::{Problem, TableEncoder, problem};

use crate::catalogue::{Catalogue, KnownTable};

/// A position in [`Layouts`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LayoutId(usize);

/// The layouts in use. A layout that was replaced stays until the batch that used it is delivered.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    all: Vec<Layout>,
    newest: HashMap<TableId, LayoutId>,
}

/// One version of a table: its columns in the stream's order, ready for use.
#[derive(Debug)]
pub(super) struct Layout {
    relation: Arc<Relation>,
    generation: u64,
    /// The catalogue's table, aligned with the relation.
    pub(super) table: Table,
    /// Writes its changes as JSON.
    pub(super) encoder: TableEncoder,
    /// Whether some role would get error events (400, 401) in place of new rows.
    pub(super) has_problems: bool,
    /// How roles see it, by guard and role.
    pub(super) views: Vec<RoleView>,
}

/// How one role sees a table.
#[derive(Debug)]
pub(super) struct RoleView {
    role: Role,
    /// The table whose policies and privileges decide.
    pub(super) guard: Arc<KnownTable>,
    /// The columns it may SELECT.
    pub(super) selectable: ColumnSet,
    /// The rows it may see.
    pub(super) rule: RowRule,
    /// What keeps it from receiving rows of INSERT and UPDATE.
    pub(super) problem: Option<Problem>,
}

impl Layouts {
    /// Whether the newest layout of a table was made from this very description.
    pub(super) fn knows(&self, relation: &Relation) -> bool {
        self.newest
            .get(&relation.id)
            .and_then(|id| self.all.get(id.0))
            .is_some_and(|layout| *layout.relation == *relation)
    }

    /// The layout for events decoded with `relation`; `None` when the catalogue has no such table.
    pub(super) fn find_or_make(
        &mut self,
        relation: &Arc<Relation>,
        catalogue: &Catalogue,
    ) -> Option<LayoutId> {
        if let Some(&id) = self.newest.get(&relation.id) {
            let fits = self.all.get(id.0).is_some_and(|layout| {
                layout.generation == catalogue.generation
                    && (Arc::ptr_eq(&layout.relation, relation) || layout.relation == *relation)
            });
            if fits {
                return Some(id);
            }
        }
        let known = catalogue.tables.get(&relation.id)?;
        let table = known.table.align(relation);
        let id = LayoutId(self.all.len());
        self.newest.insert(relation.id, id);
        self.all.push(Layout {
            relation: Arc::clone(relation),
            generation: catalogue.generation,
            encoder: TableEncoder::new(&table),
            has_problems: has_problems(known, &table, catalogue),
            table,
            views: Vec::new(),
        });
        Some(id)
    }

    /// The layout with this id.
    pub(super) fn get(&self, id: LayoutId) -> Option<&Layout> {
        self.all.get(id.0)
    }

    /// The layout with this id, to add views.
    pub(super) fn get_mut(&mut self, id: LayoutId) -> Option<&mut Layout> {
        self.all.get_mut(id.0)
    }

    /// Drops replaced layouts once there are more of them than of the others.
    pub(super) fn forget_replaced(&mut self) {
        if self.all.len() <= 2 * self.newest.len() + 16 {
            return;
        }
        let mut all = Vec::with_capacity(self.newest.len());
        let mut old: Vec<Option<Layout>> =
            std::mem::take(&mut self.all).into_iter().map(Some).collect();
        self.newest.retain(|_, id| {
            let kept = old.get_mut(id.0).and_then(Option::take);
            *id = LayoutId(all.len());
            let exists = kept.is_some();
            all.extend(kept);
            exists
        });
        self.all = all;
    }
}

impl Layout {
    /// The position in `views` of how `role` sees this table under `guard`'s rules; `None` when the
    /// catalogue no longer has the guard.
    pub(super) fn view(
        &mut self,
        guard: TableId,
        role: &Role,
        catalogue: &Catalogue,
    ) -> Option<usize> {
        let known =
            self.views.iter().position(|view| view.guard.table.id == guard && view.role == *role);
        if known.is_some() {
            return known;
        }
        let guard = Arc::clone(catalogue.tables.get(&guard)?);
        let selectable = catalogue.selectable(role, &guard.table, &self.table);
        let rule = catalogue.rule(role, &guard);
        let problem = problem(&self.table, &selectable, EventKind::Insert);
        self.views.push(RoleView { role: role.clone(), guard, selectable, rule, problem });
        Some(self.views.len() - 1)
    }
}

/// Whether any known role has a problem with the table, by its own privileges or those on a table
/// above it.
fn has_problems(known: &KnownTable, aligned: &Table, catalogue: &Catalogue) -> bool {
    let above = known.ancestors.iter().filter_map(|id| catalogue.tables.get(id)).map(Arc::as_ref);
    let guards: Vec<&Table> = above.chain([known]).map(|guard| &guard.table).collect();
    let roles = catalogue.roles.keys().filter(|role| catalogue.role(role).is_some());
    let mut pairs = roles.flat_map(|role| guards.iter().map(move |guard| (role, *guard)));
    pairs.any(|(role, guard)| {
        let selectable = catalogue.selectable(role, guard, aligned);
        problem(aligned, &selectable, EventKind::Insert).is_some()
    })
}
