//! Who may get an event, as far as that can be told without PostgreSQL.

use std::{collections::HashMap, sync::Arc};

use walcast_change::{
    Cell, EventKind, OldImage, ReplicaIdentity, Row, RowChange, RowEvent, Table, TableKind,
    TypeKind,
};
use walcast_filters::{
    Matches, Scope, SubscriptionId,
    claims::AudienceId,
    policy::{Member, RowRule, Verdict},
};

use super::{
    answers::{Answers, Slot},
    layout::{Layout, LayoutId, Layouts, RoleView},
    questions::{ImageId, Pictured, Questions, Side},
    subscriptions::{ConnectionId, Subscriber, Subscriptions},
};
use crate::{catalogue::Catalogue, config::DeletesUnverifiable};

/// An event and everyone it may go to, in subscription order.
#[derive(Debug)]
pub(super) struct Plan {
    /// The event.
    pub(super) event: RowEvent,
    /// Its table.
    pub(super) layout: LayoutId,
    /// The candidates.
    pub(super) recipients: Vec<Recipient>,
}

/// A candidate.
#[derive(Clone, Debug)]
pub(super) struct Recipient {
    /// The subscription, as it was when the event came.
    pub(super) subscriber: Arc<Subscriber>,
    /// How its role sees the table: a position in [`Layout::views`].
    pub(super) view: usize,
    /// Whether the filter passes.
    pub(super) filter: Gate,
    /// Whether the row may be seen.
    pub(super) row: Gate,
    /// Whether the whole old image may be seen; only its primary key otherwise.
    pub(super) old: Gate,
    /// Whether it gets an error event (400, 401) in place of the row.
    pub(super) is_problem: bool,
}

/// Something that is open, or opens with PostgreSQL's answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gate {
    /// Yes.
    Open,
    /// No.
    Closed,
    /// As PostgreSQL says.
    Ask(Slot),
}

/// Plans the events of one batch.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    subscriptions: &'a Subscriptions,
    layouts: &'a mut Layouts,
    catalogue: &'a Catalogue,
    deletes_unverifiable: DeletesUnverifiable,
    matches: Matches,
    verdicts: Verdicts,
    plans: Vec<Plan>,
    questions: Questions,
}

impl Recipient {
    /// Whether PostgreSQL must answer before it is known what becomes of it.
    pub(super) fn waits(&self, answers: &Answers) -> bool {
        [self.filter, self.row, self.old]
            .iter()
            .any(|gate| matches!(gate, Gate::Ask(slot) if answers.find(*slot).is_none()))
    }

    /// Its connection.
    pub(super) fn connection(&self) -> ConnectionId {
        self.subscriber.channel.connection
    }
}

impl<'a> Planner<'a> {
    /// A planner for one batch.
    pub(super) fn new(
        subscriptions: &'a Subscriptions,
        layouts: &'a mut Layouts,
        catalogue: &'a Catalogue,
        deletes_unverifiable: DeletesUnverifiable,
    ) -> Self {
        Self {
            subscriptions,
            layouts,
            catalogue,
            deletes_unverifiable,
            matches: Matches::default(),
            verdicts: Verdicts::new(),
            plans: Vec::new(),
            questions: Questions::default(),
        }
    }

    /// The plans in commit order, and what must be asked for them.
    pub(super) fn finish(self) -> (Vec<Plan>, Questions) {
        (self.plans, self.questions)
    }

    /// Plans one event.
    pub(super) fn plan(&mut self, mut event: RowEvent) {
        if event.kind() == EventKind::Truncate || self.subscriptions.is_empty() {
            return;
        }
        let Some(id) = self.layouts.find_or_make(&event.relation, self.catalogue) else { return };
        let Some(layout) = self.layouts.get_mut(id) else { return };
        if layout.table.kind == TableKind::Partitioned {
            event.change = as_its_leaf_sent(&layout.table, event.change);
        }
        let scope = scope(&event);
        self.subscriptions.index.matches(&layout.table, &event, scope, &mut self.matches);
        self.verdicts.clear();
        let mut recipients = Vec::with_capacity(self.matches.certain.len());
        let mut planning = Planning {
            event: &event,
            position: self.plans.len(),
            subscriptions: self.subscriptions,
            catalogue: self.catalogue,
            deletes_unverifiable: self.deletes_unverifiable,
            verdicts: &mut self.verdicts,
            judgeable: Judgeable::new(),
            questions: &mut self.questions,
        };
        for subscription in &self.matches.certain {
            recipients.extend(planning.recipient(layout, *subscription, FilterState::Passed));
        }
        for subscription in &self.matches.undecided {
            recipients.extend(planning.recipient(layout, *subscription, FilterState::Unknown));
        }
        planning.add_problems(layout, &mut recipients);
        if !recipients.is_empty() {
            self.plans.push(Plan { event, layout: id, recipients });
        }
    }
}

/// A subscriber for whom an event is judged.
struct Judging<'a> {
    layout: &'a Layout,
    /// The view's position in the layout.
    position: usize,
    view: &'a RoleView,
    subscriber: &'a Subscriber,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum FilterState {
    Passed,
    Unknown,
}

/// One event being planned.
struct Planning<'a> {
    event: &'a RowEvent,
    position: usize,
    subscriptions: &'a Subscriptions,
    catalogue: &'a Catalogue,
    deletes_unverifiable: DeletesUnverifiable,
    verdicts: &'a mut Verdicts,
    judgeable: Judgeable,
    questions: &'a mut Questions,
}

/// The verdicts about one event: one per audience, however many subscriptions it has. `None` where
/// the row cannot be judged.
type Verdicts = HashMap<(usize, Side, AudienceId), Option<Gate>>;

/// Whether an image of the event holds everything that a view's rule reads.
type Judgeable = HashMap<(usize, Side), bool>;

impl Planning<'_> {
    fn recipient(
        &mut self,
        layout: &mut Layout,
        subscription: SubscriptionId,
        filter: FilterState,
    ) -> Option<Recipient> {
        let subscriber = self.subscriptions.find(subscription)?;
        let role = &subscriber.channel.audience.role;
        let position = layout.view(subscriber.guard, role, self.catalogue)?;
        let layout = &*layout;
        let view = layout.views.get(position)?;
        if view.problem.is_some() && self.event.kind() != EventKind::Delete {
            return None;
        }
        let judging = Judging { layout, position, view, subscriber };
        let row = self.row_gate(&judging);
        if row == Gate::Closed || !self.may_filter(&judging) {
            return None;
        }
        let filter = match filter {
            FilterState::Passed => Gate::Open,
            FilterState::Unknown => self.filter_gate(&judging),
        };
        let old = self.old_gate(&judging, row);
        let subscriber = Arc::clone(subscriber);
        Some(Recipient { subscriber, view: position, filter, row, old, is_problem: false })
    }

    /// Error events ignore filters and row security, as in the reference: they carry no data.
    fn add_problems(&mut self, layout: &mut Layout, recipients: &mut Vec<Recipient>) {
        if self.event.kind() == EventKind::Delete {
            return;
        }
        if !layout.has_problems {
            return;
        }
        let mut all = Vec::new();
        self.subscriptions.index.all_of(layout.table.id, self.event.kind(), &mut all);
        for subscription in all {
            let Some(subscriber) = self.subscriptions.find(subscription) else { continue };
            let role = &subscriber.channel.audience.role;
            let Some(position) = layout.view(subscriber.guard, role, self.catalogue) else {
                continue;
            };
            if layout.views.get(position).is_some_and(|view| view.problem.is_some()) {
                recipients.push(Recipient {
                    subscriber: Arc::clone(subscriber),
                    view: position,
                    filter: Gate::Open,
                    row: Gate::Open,
                    old: Gate::Closed,
                    is_problem: true,
                });
            }
        }
    }

    /// Whether the filter reads only what the subscriber may know: columns it may SELECT, and of a
    /// delete whose row nobody could judge, the key. Otherwise its answer would tell hidden values.
    fn may_filter(&mut self, judging: &Judging<'_>) -> bool {
        if judging.subscriber.filter.is_empty() {
            return true;
        }
        let event = self.event;
        let is_judged = match &event.change {
            RowChange::Delete { old } => self.judge(judging, Side::Old, old.row()).is_some(),
            RowChange::Insert { .. } | RowChange::Update { .. } | RowChange::Truncate => true,
        };
        let Judging { layout, view, subscriber, .. } = judging;
        subscriber.filter.columns().all(|name| {
            layout.table.position(name).is_some_and(|position| {
                let column = layout.table.columns.get(position);
                view.selectable.contains(position)
                    && (is_judged || column.is_some_and(|column| column.is_primary_key))
            })
        })
    }

    /// INSERT and UPDATE are judged by the new image, DELETE by the old one.
    fn row_gate(&mut self, judging: &Judging<'_>) -> Gate {
        let event = self.event;
        match &event.change {
            RowChange::Insert { new } | RowChange::Update { new, .. } => {
                self.judge(judging, Side::New, new).unwrap_or(Gate::Closed)
            }
            RowChange::Delete { old } => {
                let unverifiable = match self.deletes_unverifiable {
                    DeletesUnverifiable::SendKey => Gate::Open,
                    DeletesUnverifiable::Withhold => Gate::Closed,
                };
                self.judge(judging, Side::Old, old.row()).unwrap_or(unverifiable)
            }
            RowChange::Truncate => Gate::Closed,
        }
    }

    /// Whether the whole old image may be seen.
    fn old_gate(&mut self, judging: &Judging<'_>, row: Gate) -> Gate {
        let event = self.event;
        match &event.change {
            RowChange::Insert { .. } | RowChange::Truncate => Gate::Closed,
            RowChange::Delete { old } => {
                if self.judge(judging, Side::Old, old.row()).is_some() {
                    row
                } else {
                    Gate::Closed
                }
            }
            // Without an old image the old values of the identity are the new ones; a primary key is
            // sent in any case.
            RowChange::Update { old: None, .. } => Gate::Open,
            RowChange::Update { old: Some(old), .. } => {
                if judging.layout.table.replica_identity == ReplicaIdentity::Default {
                    return Gate::Open;
                }
                self.judge(judging, Side::Old, old.row()).unwrap_or(Gate::Closed)
            }
        }
    }

    /// Judges a row once per audience; `None` when it does not hold everything the rule reads.
    fn judge(&mut self, judging: &Judging<'_>, side: Side, row: &Row) -> Option<Gate> {
        let Judging { layout, position, view, subscriber } = judging;
        let table = &layout.table;
        match &view.rule {
            RowRule::Everything => return Some(Gate::Open),
            RowRule::Nothing => return Some(Gate::Closed),
            RowRule::Expression(_) => {}
        }
        let key = (*position, side, subscriber.audience);
        if let Some(known) = self.verdicts.get(&key) {
            return *known;
        }
        let can_judge = *self
            .judgeable
            .entry((*position, side))
            .or_insert_with(|| view.rule.can_judge(&view.guard.table, table, row));
        let gate = if can_judge {
            match view.rule.decide(table, row, &subscriber.channel.audience) {
                Verdict::Allow => Some(Gate::Open),
                Verdict::Deny => Some(Gate::Closed),
                Verdict::Undecided => self.ask_about_row(judging, side, row),
            }
        } else {
            None
        };
        self.verdicts.insert(key, gate);
        gate
    }

    /// PostgreSQL's verdict; `None` when the row lacks a value that the row type does not let be NULL.
    fn ask_about_row(&mut self, judging: &Judging<'_>, side: Side, row: &Row) -> Option<Gate> {
        let Judging { layout, view, subscriber, .. } = judging;
        let RowRule::Expression(expression) = &view.rule else { return Some(Gate::Closed) };
        if side == Side::Old && lacks_domain(&view.guard.table, &layout.table, row) {
            return None;
        }
        let audience = &subscriber.channel.audience;
        let image = ImageId { event: self.position, side };
        let pictured = Pictured { guard: &view.guard, table: &layout.table, row };
        if let Some(membership) = expression.membership() {
            match membership.member(audience) {
                Member::Known(member) => {
                    let about = (membership, expression);
                    let slot =
                        self.questions.about_member(&member, audience, about, image, &pictured);
                    return Some(Gate::Ask(slot));
                }
                Member::Nobody => return Some(Gate::Closed),
                Member::Undecided => {}
            }
        }
        Some(Gate::Ask(self.questions.about_row(audience, expression, image, &pictured)))
    }

    fn filter_gate(&mut self, judging: &Judging<'_>) -> Gate {
        let event = self.event;
        let Judging { layout, view, subscriber, .. } = judging;
        let (side, row) = match &event.change {
            RowChange::Insert { new } | RowChange::Update { new, .. } => (Side::New, new),
            RowChange::Delete { old } => (Side::Old, old.row()),
            RowChange::Truncate => return Gate::Closed,
        };
        // PostgreSQL would compare another value than the row has.
        let is_escaped =
            |name| layout.table.position(name).is_some_and(|position| row.is_escaped(position));
        if subscriber.filter.columns().any(is_escaped) {
            return Gate::Closed;
        }
        let expression = subscriber.filter_sql(&view.guard.table);
        let image = ImageId { event: self.position, side };
        let pictured = Pictured { guard: &view.guard, table: &layout.table, row };
        Gate::Ask(self.questions.about_filter(expression, image, &pictured))
    }
}

/// The change with what its leaf sent of the old row.
///
/// Under the name of a partitioned table the old image has the form that the root's replica identity
/// asks for, although the leaf may have sent less of it: then NULL stands for what is not known.
fn as_its_leaf_sent(root: &Table, change: RowChange) -> RowChange {
    let narrowed = |old: OldImage| match old {
        OldImage::Full(row) if root.replica_identity == ReplicaIdentity::Full => {
            OldImage::Full(row)
        }
        OldImage::Full(row) | OldImage::Key(row) => {
            let identity = root.identity();
            OldImage::Key(row.keeping(|position| identity.contains(position)))
        }
    };
    match change {
        RowChange::Update { old, new } => RowChange::Update { old: old.map(narrowed), new },
        RowChange::Delete { old } => RowChange::Delete { old: narrowed(old) },
        RowChange::Insert { .. } | RowChange::Truncate => change,
    }
}

/// Who is looked for: of a delete whose old image is not whole, everyone, since those who may not be
/// judged get the key.
fn scope(event: &RowEvent) -> Scope {
    match &event.change {
        RowChange::Delete { old: OldImage::Key(_) } => Scope::Everyone,
        RowChange::Delete { old: OldImage::Full(_) }
        | RowChange::Insert { .. }
        | RowChange::Update { .. }
        | RowChange::Truncate => Scope::Visible,
    }
}

/// Whether the row lacks a column of a domain, which may refuse the NULL that would stand for it.
fn lacks_domain(guard: &Table, table: &Table, row: &Row) -> bool {
    guard.columns.iter().any(|column| {
        matches!(column.data_type.kind, TypeKind::Domain { .. })
            && table
                .position(&column.name)
                .is_none_or(|position| row.cell(position) == Cell::Unchanged)
    })
}
