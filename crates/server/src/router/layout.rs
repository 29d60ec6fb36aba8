//! What is derived once from a table's description in the stream and the catalogue.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use walcast_change::{ColumnSet, EventKind, Relation, Table, TableId};
use walcast_filters::{claims::Role, policy::RowRule};
use walcast_protocol::changes::{Problem, TableEncoder, problem};

use crate::catalogue::{Catalogue, KnownTable};

/// The number of a layout; never given twice.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct LayoutId(u64);

/// The layouts in use. A layout that was replaced stays while rows that were planned with it wait.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    all: HashMap<LayoutId, Layout>,
    newest: HashMap<TableId, LayoutId>,
    last: u64,
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
            .and_then(|id| self.all.get(id))
            .is_some_and(|layout| *layout.relation == *relation)
    }

    /// The layout for events decoded with `relation`; `None` when the catalogue has no such table.
    pub(super) fn find_or_make(
        &mut self,
        relation: &Arc<Relation>,
        catalogue: &Catalogue,
    ) -> Option<LayoutId> {
        if let Some(&id) = self.newest.get(&relation.id) {
            let fits = self.all.get(&id).is_some_and(|layout| {
                layout.generation == catalogue.generation
                    && (Arc::ptr_eq(&layout.relation, relation) || layout.relation == *relation)
            });
            if fits {
                return Some(id);
            }
        }
        let known = catalogue.tables.get(&relation.id)?;
        let table = known.table.align(relation);
        self.last += 1;
        let id = LayoutId(self.last);
        self.newest.insert(relation.id, id);
        let layout = Layout {
            relation: Arc::clone(relation),
            generation: catalogue.generation,
            encoder: TableEncoder::new(&table),
            has_problems: has_problems(known, &table, catalogue),
            table,
            views: Vec::new(),
        };
        self.all.insert(id, layout);
        Some(id)
    }

    /// The layout with this id.
    pub(super) fn get(&self, id: LayoutId) -> Option<&Layout> {
        self.all.get(&id)
    }

    /// The layout with this id, to add views.
    pub(super) fn get_mut(&mut self, id: LayoutId) -> Option<&mut Layout> {
        self.all.get_mut(&id)
    }

    /// Drops the layouts that were replaced, but for those in use.
    pub(super) fn forget_replaced(&mut self, in_use: impl Fn(LayoutId) -> bool) {
        if self.all.len() > self.newest.len() {
            let newest: HashSet<LayoutId> = self.newest.values().copied().collect();
            self.all.retain(|id, _| newest.contains(id) || in_use(*id));
        }
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
