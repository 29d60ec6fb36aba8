//! Where the stream announces changes of definitions, and what must wait to know.
//!
//! A transaction announces a change with a message of the event triggers. Its own rows, those before
//! the message included, are judged by the catalogue after it: nobody ever saw them under the one
//! before. So the rows of a transaction wait for its end, up to a bound; a larger one is taken as if
//! it had announced a change, which costs a reading of the catalogue and nothing else.
//!
//! Anybody who may write to the database can write such a message. Only its arrival counts, and one
//! that a reading has already costs nothing: a flood of them is read as fast as the catalogue is,
//! each time as many as were committed by then.

use walcast_change::{OldImage, Row, RowChange, RowEvent};
use walcast_replicator::StreamItem;

/// The prefix of the messages.
const PREFIX: &str = "walcast";

/// Items that wait for the end of their transaction: more than the rows of most transactions. One
/// that is larger costs a reading of the catalogue, which takes as long as some thousand rows.
const HELD_ITEMS_MAX: usize = 16_384;

/// Bytes of rows that wait for the end of their transaction.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A transaction at which the catalogue must be looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Announced {
    /// Where it starts among the items.
    pub(super) start: usize,
    /// Its id.
    pub(super) transaction_id: u32,
}

/// What is known about some items.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Announcements {
    /// The transactions that announce changes, in order.
    pub(super) announced: Vec<Announced>,
    /// Where the items start whose transaction may still announce one.
    pub(super) held: Option<usize>,
}

/// Looks through items in the stream's order, the first of which starts a transaction or follows
/// items that were dealt with. `is_known` says whether the changes of a transaction count already.
pub(super) fn announcements(items: &[StreamItem], is_known: impl Fn(u32) -> bool) -> Announcements {
    let mut found = Announcements::default();
    let mut open = Open::default();
    for (index, item) in items.iter().enumerate() {
        match item {
            StreamItem::Row(event) => {
                open.transaction_id = Some(event.commit.transaction_id);
                open.n_bytes = open.n_bytes.saturating_add(n_bytes(event));
            }
            StreamItem::Message(message) => {
                open.is_announced |= message.is_transactional && *message.prefix == *PREFIX;
            }
            StreamItem::Commit { commit, .. } => {
                if open.is_announced {
                    let transaction_id = commit.transaction_id;
                    found.announced.push(Announced { start: open.start, transaction_id });
                }
                open = Open { start: index + 1, ..Open::default() };
            }
            StreamItem::Relation(_) | StreamItem::Keepalive { .. } => {}
        }
    }
    let is_large = items.len() - open.start > HELD_ITEMS_MAX || open.n_bytes > HELD_BYTES_MAX;
    match open.transaction_id {
        Some(transaction_id) if is_known(transaction_id) => {}
        Some(transaction_id) if is_large || open.is_announced => {
            found.announced.push(Announced { start: open.start, transaction_id });
        }
        Some(_) => found.held = Some(open.start),
        None => found.held = open.is_announced.then_some(open.start),
    }
    found
}

/// The transaction whose end has not come.
#[derive(Default)]
struct Open {
    start: usize,
    /// Rows tell it, and only the end tells it when there are none.
    transaction_id: Option<u32>,
    is_announced: bool,
    n_bytes: usize,
}

fn n_bytes(event: &RowEvent) -> usize {
    let old = |old: Option<&OldImage>| old.map_or(0, |old| old.row().text_bytes());
    match &event.change {
        RowChange::Insert { new } => new.text_bytes(),
        RowChange::Update { old: image, new } => old(image.as_ref()) + new.text_bytes(),
        RowChange::Delete { old } => Row::text_bytes(old.row()),
        RowChange::Truncate => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use walcast_change::{Commit, Lsn, Relation, ReplicaIdentity, RowBuilder, TableId};
    use walcast_replicator::LogicalMessage;

    use super::*;

    fn commit(transaction_id: u32) -> Commit {
        let lsn = Lsn::new(u64::from(transaction_id) * 100);
        Commit { lsn, timestamp_us: 0, transaction_id }
    }

    fn row(transaction_id: u32, text: &str) -> StreamItem {
        let relation = Relation {
            id: TableId(1),
            schema: "public".into(),
            name: "notes".into(),
            replica_identity: ReplicaIdentity::Default,
            columns: Box::default(),
        };
        let mut new = RowBuilder::with_capacity(1, text.len());
        new.push(walcast_change::Cell::Text(text));
        StreamItem::Row(RowEvent {
            relation: Arc::new(relation),
            commit: commit(transaction_id),
            index: 0,
            change: RowChange::Insert { new: new.finish() },
        })
    }

    fn message(prefix: &str, is_transactional: bool) -> StreamItem {
        let (content, lsn) = (vec![0xFF; 3], Lsn::ZERO);
        let prefix = prefix.into();
        StreamItem::Message(LogicalMessage { prefix, content, lsn, is_transactional })
    }

    fn end(transaction_id: u32) -> StreamItem {
        StreamItem::Commit { commit: commit(transaction_id), end: Lsn::ZERO }
    }

    fn check(items: &[StreamItem], announced: &[(usize, u32)], held: Option<usize>) {
        let found = announcements(items, |transaction_id| transaction_id == 99);
        let starts: Vec<(usize, u32)> =
            found.announced.iter().map(|change| (change.start, change.transaction_id)).collect();
        assert_eq!((starts.as_slice(), found.held), (announced, held), "{} items", items.len());
    }

    #[test]
    fn a_change_counts_from_the_start_of_its_transaction() {
        check(&[], &[], None);
        check(&[row(1, ""), end(1)], &[], None);
        check(
            &[row(1, ""), end(1), row(2, ""), message("walcast", true), row(2, ""), end(2)],
            &[(2, 2)],
            None,
        );
        check(
            &[message("walcast", true), end(1), message("walcast", true), end(2)],
            &[(0, 1), (2, 2)],
            None,
        );
    }

    #[test]
    fn other_messages_say_nothing() {
        check(&[row(1, ""), message("walcast", false), end(1)], &[], None);
        check(&[message("walcast2", true), row(1, ""), end(1)], &[], None);
    }

    #[test]
    fn the_rows_of_a_transaction_wait_for_its_end() {
        check(&[row(1, ""), end(1), row(2, "")], &[], Some(2));
        check(&[row(2, ""), StreamItem::Keepalive { wal_end: Lsn::ZERO }], &[], Some(0));
        check(&[message("walcast", true)], &[], Some(0));
        check(&[row(2, ""), message("walcast", true)], &[(0, 2)], None);
        check(&[row(99, "")], &[], None);
    }

    #[test]
    fn a_large_transaction_does_not_wait() {
        let rows = vec![row(2, ""); HELD_ITEMS_MAX + 1];
        check(&rows, &[(0, 2)], None);
        let text = "x".repeat(HELD_BYTES_MAX / 2);
        check(&[row(2, &text), row(2, &text)], &[], Some(0));
        check(&[row(2, &text), row(2, &text), row(2, "x")], &[(0, 2)], None);
    }
}
