//! Rows that wait for PostgreSQL's verdict, and the rows behind them.
//!
//! Only the connections that a verdict is for wait for it: they get everything in commit order, so
//! what comes later for them waits, too; for everybody else it goes out at once.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
};

use tokio::task::{Id, JoinError, JoinSet};
use walcast_change::{Lsn, RowChange};

use super::{
    answers::{Answered, Answers},
    layout::LayoutId,
    plan::{Plan, Recipient},
    subscriptions::ConnectionId,
};

/// Batches that may wait; then the stream waits for the first.
const BATCHES_MAX: usize = 1_024;

/// Bytes of rows that may wait.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Batches of which something waits, in commit order.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    batches: VecDeque<Batch>,
    asked: JoinSet<Answered>,
    /// Which questions of which batch a task asks.
    tasks: HashMap<Id, (u64, Vec<usize>)>,
    last: u64,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    /// What is not delivered yet.
    plans: Vec<Plan>,
    connections: HashSet<ConnectionId>,
    answers: Answers,
    n_bytes: usize,
    /// Up to where everything is delivered with this batch.
    end: Option<Lsn>,
}

/// Plans to deliver now, with their answers.
#[derive(Debug)]
pub(super) struct Due {
    /// In commit order, with the recipients whose turn it is.
    pub(super) plans: Vec<Plan>,
    /// What PostgreSQL said.
    pub(super) answers: Answers,
}

/// Questions that are being asked, and which they are.
pub(super) type Asked<F> = (Vec<usize>, F);

impl Waiting {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether the stream must wait before more is added.
    pub(super) fn is_full(&self) -> bool {
        let n_bytes: usize = self.batches.iter().map(|batch| batch.n_bytes).sum();
        self.batches.len() >= BATCHES_MAX || n_bytes >= BYTES_MAX
    }

    /// Whether a row that waits was planned with the layout.
    pub(super) fn uses(&self, layout: LayoutId) -> bool {
        self.batches.iter().flat_map(|batch| &batch.plans).any(|plan| plan.layout == layout)
    }

    /// Adds a batch that ends a commit at `end`, with room for the answers to what is asked, and
    /// gives back what need not wait.
    pub(super) fn add<F>(
        &mut self,
        mut plans: Vec<Plan>,
        asked: Vec<Asked<F>>,
        answers: Answers,
        end: Option<Lsn>,
    ) -> Vec<Plan>
    where
        F: Future<Output = Answered> + Send + 'static,
    {
        let mut blocked =
            self.batches.iter().flat_map(|batch| &batch.connections).copied().collect();
        let (due, connections) = take_due(&mut plans, &answers, &mut blocked);
        if plans.is_empty() {
            // Nothing of it waits; it ends with what waits before it.
            if let (Some(batch), Some(_)) = (self.batches.back_mut(), end) {
                batch.end = end;
            }
            return due;
        }
        self.last += 1;
        for (numbers, ask) in asked {
            self.tasks.insert(self.asked.spawn(ask).id(), (self.last, numbers));
        }
        let n_bytes = plans.iter().map(bytes).sum();
        let number = self.last;
        self.batches.push_back(Batch { number, plans, connections, answers, n_bytes, end });
        due
    }

    /// Waits for the next answers and takes in all that are there; for ever when nothing was asked.
    pub(super) async fn answered(&mut self) {
        match self.asked.join_next_with_id().await {
            Some(answered) => self.note(answered),
            None => std::future::pending().await,
        }
        while let Some(answered) = self.asked.try_join_next_with_id() {
            self.note(answered);
        }
    }

    fn note(&mut self, answered: Result<(Id, Answered), JoinError>) {
        let (id, answered) = match answered {
            Ok((id, answered)) => (id, Some(answered)),
            Err(error) => {
                tracing::error!(%error, "questions failed; their rows are withheld");
                (error.id(), None)
            }
        };
        let Some((batch, numbers)) = self.tasks.remove(&id) else { return };
        let no = || numbers.into_iter().map(|number| (number, Vec::new())).collect();
        let answered = answered.unwrap_or_else(no);
        if let Some(batch) = self.batches.iter_mut().find(|known| known.number == batch) {
            batch.answers.take(answered);
        }
    }

    /// What may go out by the answers that are there, and up to where everything went out then.
    pub(super) fn take_due(&mut self) -> (Vec<Due>, Option<Lsn>) {
        let mut all = Vec::new();
        let mut blocked = HashSet::new();
        for batch in &mut self.batches {
            let (plans, connections) = take_due(&mut batch.plans, &batch.answers, &mut blocked);
            batch.connections = connections;
            if !plans.is_empty() {
                batch.n_bytes = batch.plans.iter().map(bytes).sum();
                all.push(Due { plans, answers: batch.answers.clone() });
            }
        }
        let mut end = None;
        while self.batches.front().is_some_and(|batch| batch.plans.is_empty()) {
            end = self.batches.pop_front().and_then(|batch| batch.end).or(end);
        }
        (all, end)
    }
}

/// Takes out of `plans` what need not wait, and tells the connections of the rest, which are blocked
/// from here on.
fn take_due(
    plans: &mut Vec<Plan>,
    answers: &Answers,
    blocked: &mut HashSet<ConnectionId>,
) -> (Vec<Plan>, HashSet<ConnectionId>) {
    let mut connections = HashSet::new();
    let (mut due, mut later) = (Vec::new(), Vec::new());
    for plan in mem::take(plans) {
        // A channel gets one message for all its bindings, so a connection waits for all of a row.
        let waiting = plan.recipients.iter().filter(|recipient| recipient.waits(answers));
        blocked.extend(waiting.map(Recipient::connection));
        let (waits, goes) = split(plan, |recipient| {
            let connection = recipient.connection();
            blocked.contains(&connection) && {
                connections.insert(connection);
                true
            }
        });
        due.extend(goes);
        later.extend(waits);
    }
    *plans = later;
    (due, connections)
}

/// A plan for the recipients that wait, and one for the others.
fn split(
    mut plan: Plan,
    mut waits: impl FnMut(&Recipient) -> bool,
) -> (Option<Plan>, Option<Plan>) {
    let (later, now): (Vec<_>, Vec<_>) = plan.recipients.drain(..).partition(|of| waits(of));
    match (later.is_empty(), now.is_empty()) {
        (true, true) => (None, None),
        (true, false) => (None, Some(Plan { recipients: now, ..plan })),
        (false, true) => (Some(Plan { recipients: later, ..plan }), None),
        (false, false) => {
            let event = plan.event.clone();
            let goes = Plan { event, layout: plan.layout, recipients: now };
            (Some(Plan { recipients: later, ..plan }), Some(goes))
        }
    }
}

fn bytes(plan: &Plan) -> usize {
    let images = match &plan.event.change {
        RowChange::Insert { new } | RowChange::Update { old: None, new } => new.text_bytes(),
        RowChange::Update { old: Some(old), new } => new.text_bytes() + old.row().text_bytes(),
        RowChange::Delete { old } => old.row().text_bytes(),
        RowChange::Truncate => 0,
    };
    images + size_of::<Plan>() + plan.recipients.len() * size_of::<Recipient>()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};
    use walcast_change::{Commit, Relation, ReplicaIdentity, Row, RowEvent, TableId};

    use super::*;
    use crate::router::{
        answers::{Answer, Slot},
        plan::Gate,
        subscriptions::{Subscriber, tests::subscriber},
    };

    fn event(lsn: u64) -> RowEvent {
        let relation = Relation {
            id: TableId(1),
            schema: "public".into(),
            name: "t".into(),
            replica_identity: ReplicaIdentity::Default,
            columns: [].into(),
        };
        RowEvent {
            relation: Arc::new(relation),
            commit: Commit { lsn: Lsn::new(lsn), timestamp_us: 0, transaction_id: 1 },
            index: 0,
            change: RowChange::Insert { new: [].into_iter().collect::<Row>() },
        }
    }

    fn plan(lsn: u64, recipients: &[(u64, bool)], who: &BTreeMap<u64, Arc<Subscriber>>) -> Plan {
        let recipients =
            recipients.iter().enumerate().map(|(place, (connection, waits))| Recipient {
                subscriber: Arc::clone(&who[connection]),
                view: 0,
                filter: Gate::Open,
                row: if *waits { Gate::Ask(Slot::first_of(place)) } else { Gate::Open },
                old: Gate::Open,
                is_problem: false,
            });
        Plan { event: event(lsn), layout: LayoutId::default(), recipients: recipients.collect() }
    }

    /// Batches of one row each: who gets it, and whether PostgreSQL must be asked for them.
    fn batches() -> impl Strategy<Value = Vec<Vec<(u64, bool)>>> {
        let recipient = (0_u64..4, prop::bool::weighted(0.3));
        prop::collection::vec(prop::collection::vec(recipient, 1..4), 1..12)
    }

    /// So many questions, each asked apart.
    fn questions(n_questions: usize) -> (Vec<Asked<std::future::Pending<Answered>>>, Answers) {
        let asked = (0..n_questions).map(|number| (vec![number], std::future::pending()));
        (asked.collect(), Answers::room_for(n_questions))
    }

    /// PostgreSQL answers a question of a batch.
    fn answer(waiting: &mut Waiting, (batch, question): (u64, usize)) -> (Vec<Due>, Option<Lsn>) {
        if let Some(batch) = waiting.batches.iter_mut().find(|known| known.number == batch) {
            batch.answers.take(vec![(question, vec![Answer::All(true)])]);
        }
        waiting.take_due()
    }

    /// What went out: the rows of each connection, and up to where everything was delivered.
    #[derive(Default)]
    struct Out {
        rows: BTreeMap<u64, Vec<u64>>,
        end: u64,
    }

    impl Out {
        fn take(&mut self, plans: &[Plan]) {
            for plan in plans {
                for recipient in &plan.recipients {
                    let rows = self.rows.entry(recipient.connection().0).or_default();
                    rows.push(plan.event.commit.lsn.as_u64());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn each_connection_gets_its_rows_in_order_and_once(
            batches in batches(),
            answers in prop::collection::vec(prop::sample::select(vec![0_usize, 1, 2]), 40),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let _entered = runtime.enter();
            let who: BTreeMap<_, _> = (0..4).map(|id| (id, Arc::new(subscriber(id)))).collect();
            let (mut waiting, mut out, mut open) = (Waiting::default(), Out::default(), Vec::new());
            let mut turns = answers.into_iter().cycle();
            let mut expected: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            for (lsn, recipients) in (1..).zip(&batches) {
                for (connection, _) in recipients {
                    expected.entry(*connection).or_default().push(lsn);
                }
                let is_asked = recipients.iter().any(|(_, waits)| *waits);
                let was_empty = waiting.is_empty();
                let (asked, answers) = questions(recipients.len());
                let plans = vec![plan(lsn, recipients, &who)];
                let due = waiting.add(plans, asked, answers, Some(Lsn::new(lsn)));
                out.take(&due);
                if is_asked {
                    open.extend((0..recipients.len()).map(|question| (waiting.last, question)));
                }
                prop_assert!(!was_empty || waiting.is_empty() != is_asked);
                // Answers come in any order.
                for _ in 0..turns.next().unwrap_or_default().min(open.len()) {
                    let next = open.swap_remove(turns.next().unwrap_or_default() % open.len());
                    let (due, end) = answer(&mut waiting, next);
                    due.iter().for_each(|due| out.take(&due.plans));
                    out.end = end.map_or(out.end, Lsn::as_u64);
                }
            }
            while let Some(next) = open.pop() {
                let (due, end) = answer(&mut waiting, next);
                due.iter().for_each(|due| out.take(&due.plans));
                out.end = end.map_or(out.end, Lsn::as_u64);
            }
            prop_assert!(waiting.is_empty());
            prop_assert_eq!(out.rows, expected);
        }
    }

    #[test]
    fn a_row_that_waits_holds_up_its_connection_only() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _entered = runtime.enter();
        let who: BTreeMap<_, _> = (0..3).map(|id| (id, Arc::new(subscriber(id)))).collect();
        let (mut waiting, mut out) = (Waiting::default(), Out::default());
        let rows = [
            (1, vec![(0, true), (2, true), (0, false), (1, false)]),
            (2, vec![(0, false), (1, false), (2, false)]),
        ];
        for (lsn, recipients) in rows {
            let (asked, answers) = questions(2);
            let plans = vec![plan(lsn, &recipients, &who)];
            out.take(&waiting.add(plans, asked, answers, Some(Lsn::new(lsn))));
        }
        assert_eq!(out.rows, BTreeMap::from([(1, vec![1, 2])]));
        // The other question of the same batch is answered first.
        let (due, end) = answer(&mut waiting, (1, 1));
        due.iter().for_each(|due| out.take(&due.plans));
        assert_eq!((&out.rows[&2], end), (&vec![1, 2], None));
        let (due, end) = answer(&mut waiting, (1, 0));
        due.iter().for_each(|due| out.take(&due.plans));
        assert_eq!(out.rows[&0], [1, 1, 2]);
        assert_eq!(end, Some(Lsn::new(2)));
    }
}
