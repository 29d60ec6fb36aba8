//! Who may get an event, as far as that can be told without PostgreSQL.

use walcast_change::{EventKind, OldImage, ReplicaIdentity, Row, RowChange, RowEvent, TableKind};
use walcast_filters::{
    Matches, SubscriptionId,
    policy::{RowRule, Verdict},
};

use super::{
    layout::{Layout, LayoutId, Layouts, RoleView},
    questions::{ImageId, Questions, Side, Slot},
    subscriptions::{Subscriber, Subscriptions},
};
use crate::{authz::composite_literal, catalogue::Catalogue, config::DeletesUnverifiable};

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
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipient {
    /// The subscription.
    pub(super) subscription: SubscriptionId,
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
    plans: Vec<Plan>,
    questions: Questions,
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
            plans: Vec::new(),
            questions: Questions::default(),
        }
    }

    /// The plans in commit order, and what must be asked for them.
    pub(super) fn finish(self) -> (Vec<Plan>, Questions) {
        (self.plans, self.questions)
    }

    /// Plans one event.
    pub(super) fn plan(&mut self, event: RowEvent) {
        if event.kind() == EventKind::Truncate || self.subscriptions.is_empty() {
            return;
        }
        let Some(id) = self.layouts.find_or_make(&event.relation, self.catalogue) else { return };
        let Some(layout) = self.layouts.get_mut(id) else { return };
        self.subscriptions.index.matches(&layout.table, &event, &mut self.matches);
        let mut recipients = Vec::with_capacity(self.matches.certain.len());
        let mut planning = Planning {
            event: &event,
            position: self.plans.len(),
            subscriptions: self.subscriptions,
            catalogue: self.catalogue,
            deletes_unverifiable: self.deletes_unverifiable,
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
    questions: &'a mut Questions,
}

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
        let row = self.row_gate(layout, view, subscriber);
        if row == Gate::Closed || !self.may_filter(layout, view, subscriber) {
            return None;
        }
        let filter = match filter {
            FilterState::Passed => Gate::Open,
            FilterState::Unknown => self.filter_gate(layout, view, subscriber),
        };
        let old = self.old_gate(layout, view, subscriber, row);
        Some(Recipient { subscription, view: position, filter, row, old, is_problem: false })
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
                    subscription,
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
    fn may_filter(&self, layout: &Layout, view: &RoleView, subscriber: &Subscriber) -> bool {
        let is_judged = match &self.event.change {
            RowChange::Delete { old } => can_judge_old(layout, view, old),
            RowChange::Insert { .. } | RowChange::Update { .. } | RowChange::Truncate => true,
        };
        subscriber.filter.columns().all(|name| {
            layout.table.position(name).is_some_and(|position| {
                let column = layout.table.columns.get(position);
                view.selectable.contains(position)
                    && (is_judged || column.is_some_and(|column| column.is_primary_key))
            })
        })
    }

    /// INSERT and UPDATE are judged by the new image, DELETE by the old one.
    fn row_gate(&mut self, layout: &Layout, view: &RoleView, subscriber: &Subscriber) -> Gate {
        let (side, row) = match &self.event.change {
            RowChange::Insert { new } | RowChange::Update { new, .. } => (Side::New, new),
            RowChange::Delete { old } => (Side::Old, old.row()),
            RowChange::Truncate => return Gate::Closed,
        };
        let can_judge = match &self.event.change {
            RowChange::Delete { old } => can_judge_old(layout, view, old),
            RowChange::Insert { .. } | RowChange::Update { .. } | RowChange::Truncate => {
                view.rule.can_judge(&view.guard.table, &layout.table, row)
            }
        };
        if can_judge {
            return self.judge(layout, view, subscriber, side, row);
        }
        match (side, self.deletes_unverifiable) {
            (Side::Old, DeletesUnverifiable::SendKey) => Gate::Open,
            (Side::Old, DeletesUnverifiable::Withhold) | (Side::New, _) => Gate::Closed,
        }
    }

    /// Whether the whole old image may be seen.
    fn old_gate(
        &mut self,
        layout: &Layout,
        view: &RoleView,
        subscriber: &Subscriber,
        row: Gate,
    ) -> Gate {
        match &self.event.change {
            RowChange::Insert { .. } | RowChange::Truncate => Gate::Closed,
            RowChange::Delete { old } => {
                if can_judge_old(layout, view, old) {
                    row
                } else {
                    Gate::Closed
                }
            }
            RowChange::Update { old, .. } => {
                self.old_gate_of_update(layout, view, subscriber, old.as_ref())
            }
        }
    }

    fn old_gate_of_update(
        &mut self,
        layout: &Layout,
        view: &RoleView,
        subscriber: &Subscriber,
        old: Option<&OldImage>,
    ) -> Gate {
        // Without an old image the old values of the identity are the new ones; a primary key is
        // sent in any case.
        let Some(old) = old else { return Gate::Open };
        if layout.table.replica_identity == ReplicaIdentity::Default {
            return Gate::Open;
        }
        if can_judge_old(layout, view, old) {
            self.judge(layout, view, subscriber, Side::Old, old.row())
        } else {
            Gate::Closed
        }
    }

    fn judge(
        &mut self,
        layout: &Layout,
        view: &RoleView,
        subscriber: &Subscriber,
        side: Side,
        row: &Row,
    ) -> Gate {
        match view.rule.decide(&layout.table, row, &subscriber.channel.audience) {
            Verdict::Allow => Gate::Open,
            Verdict::Deny => Gate::Closed,
            Verdict::Undecided => self.ask_about_row(layout, view, subscriber, side, row),
        }
    }

    fn ask_about_row(
        &mut self,
        layout: &Layout,
        view: &RoleView,
        subscriber: &Subscriber,
        side: Side,
        row: &Row,
    ) -> Gate {
        let RowRule::Expression(expression) = &view.rule else { return Gate::Closed };
        let Some(audience) = self.subscriptions.audiences.find(subscriber.audience) else {
            return Gate::Closed;
        };
        let image = ImageId { event: self.position, side };
        let literal = || composite_literal(&view.guard.table, &layout.table, row);
        let who = Some((subscriber.audience, audience));
        Gate::Ask(self.questions.slot(who, &view.guard, &expression.sql, image, literal))
    }

    fn filter_gate(&mut self, layout: &Layout, view: &RoleView, subscriber: &Subscriber) -> Gate {
        let (side, row) = match &self.event.change {
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
        let literal = || composite_literal(&view.guard.table, &layout.table, row);
        Gate::Ask(self.questions.slot(None, &view.guard, expression, image, literal))
    }
}

/// Whether the old image holds everything the view's rule reads.
///
/// A change published under a partitioned table comes as a full image when the root's replica
/// identity is full, although its leaf may have sent a key alone: then NULL stands for what is not
/// known, and nothing can be judged that reads more than the key.
fn can_judge_old(layout: &Layout, view: &RoleView, old: &OldImage) -> bool {
    if layout.table.kind != TableKind::Partitioned || matches!(old, OldImage::Key(_)) {
        return view.rule.can_judge(&view.guard.table, &layout.table, old.row());
    }
    let is_key = |position: usize| {
        layout.table.columns.get(position).is_some_and(|column| column.is_primary_key)
    };
    let key = old.row().keeping(is_key);
    view.rule.can_judge(&view.guard.table, &layout.table, &key)
}
