//! Rows that wait for PostgreSQL's verdict, and the rows behind them.
//!
//! Only the connections that a verdict is for wait for it: they get everything in commit order, so
//! what comes later for them waits, too; for everybody else it goes out at once.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
};

use tokio::task::{Id, JoinSet};
use walcast_change::{Lsn, RowChange};

use super::{
    layout::LayoutId,
    plan::{Plan, Recipient},
    questions::Answers,
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
    asked: JoinSet<Answers>,
    numbers: HashMap<Id, u64>,
    last: u64,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    /// What is not delivered yet.
    plans: Vec<Plan>,
    connections: HashSet<ConnectionId>,
    /// `None` until PostgreSQL answered.
    answers: Option<Answers>,
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

    /// Adds a batch that ends a commit at `end`, and gives back what need not wait. `ask` gets the
    /// answers to the batch's questions; `None` when it has none.
    pub(super) fn add(
        &mut self,
        plans: Vec<Plan>,
        ask: Option<impl Future<Output = Answers> + Send + 'static>,
        end: Option<Lsn>,
    ) -> Vec<Plan> {
        let mut blocked: HashSet<ConnectionId> =
            self.batches.iter().flat_map(|batch| &batch.connections).copied().collect();
        let mut connections = HashSet::new();
        let (mut due, mut later) = (Vec::new(), Vec::new());
        for plan in plans {
            // A channel gets one message for all its bindings, so a connection waits for all of a row.
            let waiting = plan.recipients.iter().filter(|recipient| recipient.waits());
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
        if later.is_empty() {
            // Nothing of it waits; it ends with what waits before it.
            if let (Some(batch), Some(_)) = (self.batches.back_mut(), end) {
                batch.end = end;
            }
            return due;
        }
        self.last += 1;
        let number = self.last;
        let answers = match ask {
            Some(ask) => {
                self.numbers.insert(self.asked.spawn(ask).id(), number);
                None
            }
            None => Some(Answers::default()),
        };
        let n_bytes = later.iter().map(bytes).sum();
        self.batches.push_back(Batch { number, plans: later, connections, answers, n_bytes, end });
        due
    }

    /// Waits for the next answers, with the number of their batch; for ever when nothing was asked.
    pub(super) async fn answered(&mut self) -> (u64, Answers) {
        loop {
            let (id, answers) = match self.asked.join_next_with_id().await {
                Some(Ok((id, answers))) => (id, answers),
                Some(Err(error)) => {
                    tracing::error!(%error, "questions failed; their rows are withheld");
                    (error.id(), Answers::default())
                }
                None => std::future::pending().await,
            };
            if let Some(number) = self.numbers.remove(&id) {
                return (number, answers);
            }
        }
    }

    /// Takes answers in, and gives back what may go out now, and up to where everything went out
    /// then.
    pub(super) fn take(&mut self, number: u64, answers: Answers) -> (Vec<Due>, Option<Lsn>) {
        let answered = self.batches.iter_mut().find(|batch| batch.number == number);
        if let Some(batch) = answered {
            batch.answers = Some(answers);
        }
        let mut due = Vec::new();
        let mut blocked: HashSet<ConnectionId> = HashSet::new();
        for batch in &mut self.batches {
            if let Some(answers) = &batch.answers {
                let (mut plans, mut later) = (Vec::new(), Vec::new());
                for plan in mem::take(&mut batch.plans) {
                    let (waits, goes) =
                        split(plan, |recipient| blocked.contains(&recipient.connection()));
                    plans.extend(goes);
                    later.extend(waits);
                }
                batch.plans = later;
                batch.connections.retain(|connection| blocked.contains(connection));
                batch.n_bytes = batch.plans.iter().map(bytes).sum();
                if !plans.is_empty() {
                    due.push(Due { plans, answers: answers.clone() });
                }
            }
            blocked.extend(&batch.connections);
        }
        let mut end = None;
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.answers.is_some() && batch.plans.is_empty())
        {
            end = self.batches.pop_front().and_then(|batch| batch.end).or(end);
        }
        (due, end)
    }
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
        plan::Gate,
        questions::Slot,
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
        let recipients = recipients.iter().map(|(connection, waits)| Recipient {
            subscriber: Arc::clone(&who[connection]),
            view: 0,
            filter: Gate::Open,
            row: if *waits { Gate::Ask(Slot::default()) } else { Gate::Open },
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
                let ask = is_asked.then(std::future::pending);
                let plans = vec![plan(lsn, recipients, &who)];
                let due = waiting.add(plans, ask, Some(Lsn::new(lsn)));
                out.take(&due);
                if is_asked {
                    open.push(waiting.last);
                }
                prop_assert!(!was_empty || waiting.is_empty() != is_asked);
                // Answers come in any order.
                for _ in 0..turns.next().unwrap_or_default().min(open.len()) {
                    let number = open.swap_remove(turns.next().unwrap_or_default() % open.len());
                    let (due, end) = waiting.take(number, Answers::default());
                    due.iter().for_each(|due| out.take(&due.plans));
                    out.end = end.map_or(out.end, Lsn::as_u64);
                }
            }
            while let Some(number) = open.pop() {
                let (due, end) = waiting.take(number, Answers::default());
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
        let who: BTreeMap<_, _> = (0..2).map(|id| (id, Arc::new(subscriber(id)))).collect();
        let (mut waiting, mut out) = (Waiting::default(), Out::default());
        for (lsn, recipients) in
            [(1, vec![(0, true), (0, false), (1, false)]), (2, vec![(0, false), (1, false)])]
        {
            let ask = (lsn == 1).then(std::future::pending);
            out.take(&waiting.add(vec![plan(lsn, &recipients, &who)], ask, Some(Lsn::new(lsn))));
        }
        assert_eq!(out.rows, BTreeMap::from([(1, vec![1, 2])]));
        let (due, end) = waiting.take(1, Answers::default());
        due.iter().for_each(|due| out.take(&due.plans));
        assert_eq!(out.rows[&0], [1, 1, 2]);
        assert_eq!(end, Some(Lsn::new(2)));
    }
}
