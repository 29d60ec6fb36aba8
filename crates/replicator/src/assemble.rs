//! Messages to row events: remembers tables, stamps the commit, never gives anything out twice.

use std::{collections::HashMap, sync::Arc};

use walcast_change::{Commit, Lsn, OldImage, Relation, Row, RowChange, RowEvent};

use crate::pgoutput::{self, DecodeError, ImageKind, LogicalMessage, Message, Problem};

/// What a stream gives out, in commit order.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamItem {
    /// A table was described: before its first change, and after its definition changed.
    Relation(Arc<Relation>),
    /// A row changed.
    Row(RowEvent),
    /// A transaction is complete.
    Commit {
        /// The transaction.
        commit: Commit,
        /// The position after it, for [`handed_over`](crate::ReplicationStream::handed_over).
        end: Lsn,
    },
    /// Somebody called `pg_logical_emit_message`.
    Message(LogicalMessage),
    /// Everything up to this position was sent.
    Keepalive {
        /// The position.
        wal_end: Lsn,
    },
}

/// How far items were given out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Taken {
    /// The end of the last transaction that was given out whole.
    pub end: Lsn,
    /// The transaction after it, when a part of it was given out.
    pub partial: Option<Partial>,
}

impl Taken {
    /// The furthest commit of which anything was given out.
    pub(crate) fn read_up_to(&self) -> Lsn {
        self.partial.map_or(self.end, |partial| partial.commit_lsn.max(self.end))
    }
}

/// A transaction of which a part was given out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Partial {
    /// Position of its commit record.
    pub commit_lsn: Lsn,
    /// How many of its row events and messages were given out.
    pub n_items: u64,
}

/// Turns messages of one stream into items.
#[derive(Debug)]
pub struct Assembler {
    relations: HashMap<u32, Arc<Relation>>,
    transaction: Option<Transaction>,
    taken: Taken,
    /// The last position a message came with; relation messages come without.
    last_lsn: Lsn,
}

#[derive(Debug)]
struct Transaction {
    commit: Commit,
    /// Index of the next row event.
    next_index: u32,
    /// Row events and messages seen.
    n_items: u64,
    /// How many of them were given out by an earlier stream.
    n_items_taken: u64,
}

impl Transaction {
    /// Counts one item and says whether it is a new one.
    fn count_item(&mut self) -> bool {
        self.n_items += 1;
        self.n_items > self.n_items_taken
    }
}

impl Assembler {
    /// Starts after what an earlier stream has given out.
    #[must_use]
    pub fn new(taken: Taken) -> Self {
        Self { relations: HashMap::new(), transaction: None, taken, last_lsn: Lsn::ZERO }
    }

    /// How far items were given out, everything in `out` included.
    #[must_use]
    pub fn taken(&self) -> Taken {
        let partial = match &self.transaction {
            // Of a transaction that comes again the larger part counts.
            Some(Transaction { commit, n_items, n_items_taken, .. })
                if commit.lsn >= self.taken.end =>
            {
                Some(Partial { commit_lsn: commit.lsn, n_items: *n_items.max(n_items_taken) })
            }
            _ => self.taken.partial,
        };
        Taken { end: self.taken.end, partial }
    }

    /// Whether a transaction has begun and not ended.
    #[must_use]
    pub fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// The last position a message came with.
    pub(crate) fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// Takes one message of `pgoutput` and appends what it means: no item, one, or for TRUNCATE
    /// one per table.
    ///
    /// # Errors
    /// When the message is not valid, or not at this place. The stream must not be read further.
    pub fn push(
        &mut self,
        lsn: Lsn,
        bytes: &[u8],
        out: &mut Vec<StreamItem>,
    ) -> Result<(), DecodeError> {
        if lsn != Lsn::ZERO {
            self.last_lsn = lsn;
        }
        let message = pgoutput::decode(self.last_lsn, bytes)?;
        // Problems of this level concern the message as a whole, hence its first byte.
        self.take(message, out).map_err(|problem| DecodeError {
            lsn: self.last_lsn,
            offset: 0,
            problem,
        })
    }

    fn take(&mut self, message: Message, out: &mut Vec<StreamItem>) -> Result<(), Problem> {
        match message {
            Message::Begin(commit) => self.begin(commit),
            Message::Commit { lsn, end } => self.commit(lsn, end, out),
            Message::Origin | Message::Type => Ok(()),
            Message::Relation(relation) => {
                out.push(StreamItem::Relation(self.remember(relation)));
                Ok(())
            }
            Message::Insert { relation, new } => {
                let relation = self.relation_of(relation, &new)?;
                self.row(relation, RowChange::Insert { new }, out)
            }
            Message::Update { relation, old, new } => {
                let relation = self.relation_of(relation, &new)?;
                let old = old.map(|(kind, old)| old_image(&relation, kind, old)).transpose()?;
                let new = match &old {
                    Some(old) if new.has_unchanged() => new.filled_from(old.row()),
                    _ => new,
                };
                self.row(relation, RowChange::Update { old, new }, out)
            }
            Message::Delete { relation, old: (kind, old) } => {
                let relation = self.relation_of(relation, &old)?;
                let old = old_image(&relation, kind, old)?;
                self.row(relation, RowChange::Delete { old }, out)
            }
            Message::Truncate { relations } => relations.into_iter().try_for_each(|relation| {
                let relation = self.relation(relation)?;
                self.row(relation, RowChange::Truncate, out)
            }),
            Message::Logical(message) => self.logical_message(message, out),
        }
    }

    fn begin(&mut self, commit: Commit) -> Result<(), Problem> {
        if self.transaction.is_some() {
            return Err(Problem::InsideTransaction);
        }
        let n_items_taken = if commit.lsn < self.taken.end {
            u64::MAX
        } else {
            let partial = self.taken.partial.filter(|partial| partial.commit_lsn == commit.lsn);
            partial.map_or(0, |partial| partial.n_items)
        };
        self.transaction = Some(Transaction { commit, next_index: 0, n_items: 0, n_items_taken });
        Ok(())
    }

    fn commit(&mut self, lsn: Lsn, end: Lsn, out: &mut Vec<StreamItem>) -> Result<(), Problem> {
        let Transaction { commit, n_items_taken, .. } =
            self.transaction.take().ok_or(Problem::OutsideTransaction)?;
        if commit.lsn != lsn {
            return Err(Problem::OtherCommit { expected: commit.lsn, found: lsn });
        }
        if n_items_taken != u64::MAX {
            self.taken = Taken { end, partial: None };
            out.push(StreamItem::Commit { commit, end });
        }
        Ok(())
    }

    /// Keeps the value that is known already when nothing changed, so that pointers stay equal.
    fn remember(&mut self, relation: Relation) -> Arc<Relation> {
        let id = relation.id.0;
        if let Some(known) = self.relations.get(&id).filter(|known| ***known == relation) {
            return Arc::clone(known);
        }
        let relation = Arc::new(relation);
        self.relations.insert(id, Arc::clone(&relation));
        relation
    }

    fn relation(&self, id: u32) -> Result<Arc<Relation>, Problem> {
        self.relations.get(&id).map(Arc::clone).ok_or(Problem::UnknownRelation(id))
    }

    fn relation_of(&self, id: u32, row: &Row) -> Result<Arc<Relation>, Problem> {
        let relation = self.relation(id)?;
        check_width(&relation, row)?;
        Ok(relation)
    }

    fn row(
        &mut self,
        relation: Arc<Relation>,
        change: RowChange,
        out: &mut Vec<StreamItem>,
    ) -> Result<(), Problem> {
        let transaction = self.transaction.as_mut().ok_or(Problem::OutsideTransaction)?;
        let index = transaction.next_index;
        // PostgreSQL numbers the commands of a transaction with 32 bits, but a command may change
        // more rows than that; the index then stays at its end.
        transaction.next_index = index.saturating_add(1);
        if transaction.count_item() {
            let commit = transaction.commit;
            out.push(StreamItem::Row(RowEvent { relation, commit, index, change }));
        }
        Ok(())
    }

    fn logical_message(
        &mut self,
        message: LogicalMessage,
        out: &mut Vec<StreamItem>,
    ) -> Result<(), Problem> {
        let is_new = match (message.is_transactional, self.transaction.as_mut()) {
            (true, None) => return Err(Problem::OutsideTransaction),
            (true, Some(transaction)) => transaction.count_item(),
            (false, _) => message.lsn >= self.taken.end,
        };
        if is_new {
            out.push(StreamItem::Message(message));
        }
        Ok(())
    }
}

fn check_width(relation: &Relation, row: &Row) -> Result<(), Problem> {
    let (expected, found) = (relation.columns.len(), row.len());
    if expected == found { Ok(()) } else { Err(Problem::ColumnCount { expected, found }) }
}

/// In a key-only image `pgoutput` sends NULL for every column outside the replica identity.
fn old_image(relation: &Relation, kind: ImageKind, old: Row) -> Result<OldImage, Problem> {
    check_width(relation, &old)?;
    Ok(match kind {
        ImageKind::Full => OldImage::Full(old),
        ImageKind::Key => {
            let columns = &relation.columns;
            let is_identity =
                |position: usize| columns.get(position).is_some_and(|column| column.is_identity);
            OldImage::Key(old.keeping(is_identity))
        }
    })
}

#[cfg(test)]
mod tests {
    use walcast_change::{Cell, EventKind};

    use super::*;
    use crate::pgoutput::samples;

    const COLUMNS: [(&str, bool); 2] = [("id", true), ("body", false)];

    fn text(value: &str) -> Cell<'_> {
        Cell::Text(value)
    }

    fn row(cells: &[Cell<'_>]) -> Row {
        cells.iter().copied().collect()
    }

    fn push(
        assembler: &mut Assembler,
        messages: &[Vec<u8>],
    ) -> Result<Vec<StreamItem>, DecodeError> {
        let mut out = Vec::new();
        for message in messages {
            assembler.push(Lsn::new(50), message, &mut out)?;
        }
        Ok(out)
    }

    fn transaction(lsn: u64, changes: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let relation = samples::relation(1, b'd', &COLUMNS);
        let start = [samples::begin(lsn), relation];
        let end = [samples::commit(lsn, lsn + 10)];
        start.iter().chain(changes).chain(&end).cloned().collect()
    }

    fn changes(items: &[StreamItem]) -> Vec<(u32, RowChange)> {
        let change = |item: &StreamItem| match item {
            StreamItem::Row(event) => Some((event.index, event.change.clone())),
            StreamItem::Relation(_)
            | StreamItem::Commit { .. }
            | StreamItem::Message(_)
            | StreamItem::Keepalive { .. } => None,
        };
        items.iter().filter_map(change).collect()
    }

    fn check(change: &[u8], expected: RowChange) {
        let items =
            push(&mut Assembler::new(Taken::default()), &transaction(100, &[change.into()]));
        assert_eq!(changes(&items.unwrap()), [(0, expected)]);
    }

    #[test]
    fn changes_carry_exactly_the_images_that_exist() {
        let new = row(&[text("1"), text("a")]);
        let keyed = OldImage::Key(row(&[text("0"), Cell::Unchanged]));
        let full = OldImage::Full(row(&[text("0"), Cell::Null]));
        let key_cells: &[_] = &[text("0"), Cell::Null];
        let new_cells: &[_] = &[text("1"), text("a")];
        check(&samples::insert(1, new_cells), RowChange::Insert { new: new.clone() });
        let update = |old| samples::update_of(1, old, new_cells);
        check(&update(None), RowChange::Update { old: None, new: new.clone() });
        check(&update(Some((b'K', key_cells))), {
            RowChange::Update { old: Some(keyed.clone()), new: new.clone() }
        });
        check(&update(Some((b'O', key_cells))), {
            RowChange::Update { old: Some(full.clone()), new }
        });
        check(&samples::delete_of(1, b'K', key_cells), RowChange::Delete { old: keyed });
        check(&samples::delete_of(1, b'O', key_cells), RowChange::Delete { old: full });
        check(&samples::truncate(&[1]), RowChange::Truncate);
    }

    #[test]
    fn unchanged_values_come_from_the_old_row_when_there_is_one() {
        let old: &[_] = &[text("1"), text("long")];
        let new: &[_] = &[text("2"), Cell::Unchanged];
        check(&samples::update_of(1, Some((b'O', old)), new), {
            RowChange::Update {
                old: Some(OldImage::Full(row(old))),
                new: row(&[text("2"), text("long")]),
            }
        });
        check(&samples::update_of(1, None, new), RowChange::Update { old: None, new: row(new) });
    }

    #[test]
    fn events_carry_their_place() {
        let insert = samples::insert(1, &[text("1"), Cell::Null]);
        let truncate = samples::truncate(&[1, 1]);
        let mut assembler = Assembler::new(Taken::default());
        let items = push(&mut assembler, &transaction(100, &[insert, truncate])).unwrap();
        let places: Vec<_> = items
            .iter()
            .filter_map(|item| match item {
                StreamItem::Row(event) => Some((event.commit, event.index, event.kind())),
                StreamItem::Relation(_)
                | StreamItem::Commit { .. }
                | StreamItem::Message(_)
                | StreamItem::Keepalive { .. } => None,
            })
            .collect();
        let commit = samples::commit_of(100);
        assert_eq!(
            places,
            [
                (commit, 0, EventKind::Insert),
                (commit, 1, EventKind::Truncate),
                (commit, 2, EventKind::Truncate)
            ]
        );
        assert_eq!(items.last(), Some(&StreamItem::Commit { commit, end: Lsn::new(110) }));
        assert_eq!(assembler.taken(), Taken { end: Lsn::new(110), partial: None });
    }

    #[test]
    fn a_table_described_again_keeps_its_value() {
        let insert = samples::insert(1, &[text("1"), Cell::Null]);
        let mut assembler = Assembler::new(Taken::default());
        let mut relations = Vec::new();
        for lsn in [100, 200] {
            let items = push(&mut assembler, &transaction(lsn, std::slice::from_ref(&insert)));
            for item in items.unwrap() {
                if let StreamItem::Row(event) = item {
                    relations.push(event.relation);
                }
            }
        }
        assert_eq!(relations.len(), 2);
        assert!(Arc::ptr_eq(&relations[0], &relations[1]));
    }

    #[test]
    fn messages_out_of_place_are_refused() {
        let check = |messages: &[Vec<u8>], problem| {
            let error = push(&mut Assembler::new(Taken::default()), messages).unwrap_err();
            assert_eq!((error.lsn, error.problem), (Lsn::new(50), problem));
        };
        let relation = samples::relation(1, b'd', &COLUMNS);
        let insert = samples::insert(1, &[text("1"), Cell::Null]);
        let begin = samples::begin(100);
        check(&[begin.clone(), insert.clone()], Problem::UnknownRelation(1));
        check(&[begin.clone(), samples::truncate(&[7])], Problem::UnknownRelation(7));
        check(&[relation.clone(), insert], Problem::OutsideTransaction);
        check(&[relation.clone(), samples::truncate(&[1])], Problem::OutsideTransaction);
        check(&[samples::commit(100, 110)], Problem::OutsideTransaction);
        check(&[samples::message(1, "p", b"", true)], Problem::OutsideTransaction);
        check(&[begin.clone(), begin.clone()], Problem::InsideTransaction);
        check(
            &[begin.clone(), samples::commit(90, 110)],
            Problem::OtherCommit { expected: Lsn::new(100), found: Lsn::new(90) },
        );
        let narrow: &[_] = &[text("1")];
        let wide: &[_] = &[text("1"), Cell::Null];
        let (expected, found) = (2, 1);
        for change in [
            samples::insert(1, narrow),
            samples::update_of(1, None, narrow),
            samples::update_of(1, Some((b'K', narrow)), wide),
            samples::delete_of(1, b'O', narrow),
        ] {
            let messages = [begin.clone(), relation.clone(), change];
            check(&messages, Problem::ColumnCount { expected, found });
        }
    }

    /// Three transactions with two rows and a message each; wherever the first stream breaks off,
    /// the second one, which gets everything again, gives out exactly the rest.
    #[test]
    fn a_second_stream_gives_out_what_the_first_did_not() {
        let messages: Vec<_> = [100, 200, 300]
            .into_iter()
            .flat_map(|lsn| {
                transaction(
                    lsn,
                    &[
                        samples::insert(1, &[text("1"), Cell::Null]),
                        samples::message(lsn - 5, "p", b"", true),
                        samples::message(lsn - 4, "p", b"", false),
                        samples::insert(1, &[text("2"), Cell::Null]),
                    ],
                )
            })
            .collect();
        let news = |items: Vec<StreamItem>| {
            let mut items = items;
            // Descriptions may come again, and messages outside of transactions are not counted.
            items.retain(|item| match item {
                StreamItem::Relation(_) => false,
                StreamItem::Message(message) => message.is_transactional,
                StreamItem::Row(_) | StreamItem::Commit { .. } | StreamItem::Keepalive { .. } => {
                    true
                }
            });
            items
        };
        let whole = news(push(&mut Assembler::new(Taken::default()), &messages).unwrap());
        assert_eq!(whole.len(), 12);
        for first_break in 0..=messages.len() {
            for second_break in 0..=messages.len() {
                let mut items = Vec::new();
                let mut taken = Taken::default();
                for n_messages in [first_break, second_break, messages.len()] {
                    let mut assembler = Assembler::new(taken);
                    items.extend(push(&mut assembler, &messages[..n_messages]).unwrap());
                    taken = assembler.taken();
                }
                assert_eq!(news(items), whole, "breaks after {first_break} and {second_break}");
            }
        }
    }
}
