//! Messages to row events: remembers tables, stamps the commit, never gives anything out twice.

use std::{collections::HashMap, sync::Arc};

use walcast_change::{Cell, Commit, Lsn, OldImage, Relation, Row, RowChange, RowEvent};

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
            let columns = relation.columns.iter().zip(old.cells());
            let cell = |(column, cell): (&walcast_change::RelationColumn, _)| {
                if column.is_identity { cell } else { Cell::Unchanged }
            };
            OldImage::Key(columns.map(cell).collect())
        }
    })
}
