//! The questions of a batch, each asked once.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use walcast_change::{Cell, Row, Table, TableId};
use walcast_filters::{
    claims::{Audience, Claims, Role},
    policy::{Membership, Projection, Reads, RowExpression},
};

use super::answers::{Answers, Asked, Asker, Group, Slot, groups};
use crate::{
    authz::{Question, composite_literal},
    catalogue::KnownTable,
};

/// Which image of which event of the batch.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct ImageId {
    /// The event's position in the batch.
    pub(super) event: usize,
    /// Which image of it.
    pub(super) side: Side,
}

/// The new or the old image.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Side {
    /// The row as committed.
    New,
    /// The row as it was.
    Old,
}

/// Row images in one question. The statement's time limit is for all of them, and an error is about
/// one of them: few enough that neither harms many.
const IMAGES_MAX: usize = 64;

/// Bytes of row images in one question, but for the last image; many questions are sent at a time.
const IMAGE_BYTES_MAX: usize = 256 * 1024;

/// A row to be shown to PostgreSQL as a row of `guard`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pictured<'a> {
    /// The table whose row type it takes.
    pub(super) guard: &'a Arc<KnownTable>,
    /// The table aligned with the row.
    pub(super) table: &'a Table,
    /// The row.
    pub(super) row: &'a Row,
}

/// Collects questions; the same one is asked once: the same expression for the same asker over rows
/// that are equal in the columns it reads.
#[derive(Debug, Default)]
pub(super) struct Questions {
    questions: Vec<Asked>,
    /// The places of askers in their questions.
    askers: HashMap<(usize, Arc<str>), usize>,
    subjects: HashMap<Subject, SubjectId>,
    /// The question of a subject that was made last; it may have room for another image.
    newest: Vec<usize>,
    /// The images of the batch, shared by all who ask about them.
    images: HashMap<(TableId, ExpressionId, ImageId), Image>,
    slots: HashMap<(SubjectId, Arc<str>), Slot>,
    expressions: Expressions,
    /// The list of members that was asked for last: the next subscriber mostly asks for the same.
    last_list: Option<(List, Slot)>,
}

/// A list of members: who may see it, the expression that makes it, the row.
type List = (Role, ExpressionId, ImageId);

/// Expressions by number, so that a long text is hashed once and not for each who asks.
#[derive(Debug, Default)]
struct Expressions {
    by_text: HashMap<Arc<str>, ExpressionId>,
    /// By the address of the text, which stays where it is as long as it is kept here.
    by_address: HashMap<usize, (ExpressionId, Arc<str>)>,
}

/// The number of an expression.
type ExpressionId = usize;

impl Expressions {
    fn number(&mut self, expression: &Arc<str>) -> ExpressionId {
        let address = Arc::as_ptr(expression).cast::<u8>().addr();
        if let Some((number, _)) = self.by_address.get(&address) {
            return *number;
        }
        let next = self.by_text.len();
        let number = *self.by_text.entry(Arc::clone(expression)).or_insert(next);
        self.by_address.insert(address, (number, Arc::clone(expression)));
        number
    }
}

/// A position in [`Questions::newest`].
type SubjectId = usize;

/// What is asked, whatever the row.
#[derive(Debug, Eq, Hash, PartialEq)]
struct Subject {
    asker: Option<(Role, Projection)>,
    guard: TableId,
    expression: ExpressionId,
}

/// An image for one expression.
#[derive(Clone, Debug)]
struct Image {
    /// Equal for rows that are equal in what the expression reads.
    read: Arc<str>,
    literal: Arc<str>,
}

impl Questions {
    /// The slot for the verdict about a row: one for everyone with the audience's role and what the
    /// expression reads of the claims.
    pub(super) fn about_row(
        &mut self,
        audience: &Audience,
        expression: &RowExpression,
        image: ImageId,
        pictured: &Pictured<'_>,
    ) -> Slot {
        let projection = expression.claims_read.project(&audience.claims);
        let subject = Subject {
            asker: Some((audience.role.clone(), projection)),
            guard: pictured.guard.table.id,
            expression: self.expressions.number(&expression.sql),
        };
        let reads = Some(&expression.reads).filter(|reads| !reads.whole_row);
        self.slot(subject, &expression.sql, || Some(audience.clone()), reads, image, pictured)
    }

    /// The slot for whether somebody is among the members for a row: one question for everyone of the
    /// role, who finds the answer under their own name.
    pub(super) fn about_member(
        &mut self,
        member: &Arc<str>,
        audience: &Audience,
        (membership, expression): (&Membership, &RowExpression),
        image: ImageId,
        pictured: &Pictured<'_>,
    ) -> Slot {
        let list = (audience.role.clone(), self.expressions.number(membership.expression()), image);
        let known = self.last_list.as_ref().filter(|(last, _)| *last == list);
        let slot = match known {
            Some((_, slot)) => *slot,
            None => self.list(list.clone(), membership, image, pictured),
        };
        self.last_list = Some((list, slot));
        let Some(asked) = self.questions.get_mut(slot.question) else { return slot };
        asked.apart.get_or_insert_with(|| Arc::clone(&expression.sql));
        let place = self.askers.entry((slot.question, Arc::clone(member))).or_insert_with(|| {
            let asker = Asker { member: Arc::clone(member), audience: audience.clone() };
            asked.askers.push(asker);
            asked.askers.len() - 1
        });
        Slot { asker: *place, ..slot }
    }

    fn list(
        &mut self,
        (role, number, _): List,
        membership: &Membership,
        image: ImageId,
        pictured: &Pictured<'_>,
    ) -> Slot {
        let subject = Subject {
            asker: Some((role.clone(), Projection::Values(Box::default()))),
            guard: pictured.guard.table.id,
            expression: number,
        };
        // Nobody's claims are read.
        let nobody = || Some(Audience { role, claims: Claims::new("{}") });
        let reads = Some(membership.reads());
        self.slot(subject, membership.expression(), nobody, reads, image, pictured)
    }

    /// The slot for a filter that only PostgreSQL can compare.
    pub(super) fn about_filter(
        &mut self,
        expression: &Arc<str>,
        image: ImageId,
        pictured: &Pictured<'_>,
    ) -> Slot {
        let guard = pictured.guard.table.id;
        let number = self.expressions.number(expression);
        let subject = Subject { asker: None, guard, expression: number };
        self.slot(subject, expression, || None, None, image, pictured)
    }

    fn slot(
        &mut self,
        subject: Subject,
        expression: &Arc<str>,
        audience: impl FnOnce() -> Option<Audience>,
        reads: Option<&Reads>,
        image: ImageId,
        pictured: &Pictured<'_>,
    ) -> Slot {
        let key = (subject.guard, subject.expression, image);
        let image = self.images.entry(key).or_insert_with(|| Image::new(pictured, reads)).clone();
        let n_subjects = self.newest.len();
        let id = *self.subjects.entry(subject).or_insert(n_subjects);
        if let Some(slot) = self.slots.get(&(id, Arc::clone(&image.read))) {
            return *slot;
        }
        let known = self.newest.get(id).copied();
        let question = known.filter(|question| self.has_room(*question)).unwrap_or_else(|| {
            let question = Question {
                audience: audience().map(Arc::new),
                guard: Arc::clone(pictured.guard),
                expression: Arc::clone(expression),
                images: Vec::new(),
            };
            self.questions.push(Asked { question, askers: Vec::new(), apart: None });
            self.questions.len() - 1
        });
        match self.newest.get_mut(id) {
            Some(newest) => *newest = question,
            None => self.newest.push(question),
        }
        let images = self.questions.get_mut(question).map(|asked| &mut asked.question.images);
        let position = images.map_or(0, |images| {
            images.push(image.literal);
            images.len() - 1
        });
        let slot = Slot { question, image: position, asker: 0 };
        self.slots.insert((id, image.read), slot);
        slot
    }

    fn has_room(&self, question: usize) -> bool {
        self.questions.get(question).is_some_and(|Asked { question, .. }| {
            let n_bytes: usize = question.images.iter().map(|image| image.len()).sum();
            question.images.len() < IMAGES_MAX && n_bytes < IMAGE_BYTES_MAX
        })
    }

    /// The questions in groups that are asked and answered apart, and room for the answers.
    pub(super) fn groups(self) -> (Vec<Group>, Answers) {
        groups(self.questions)
    }

    /// Whether there is nothing to ask.
    pub(super) fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }
}

impl Image {
    fn new(pictured: &Pictured<'_>, reads: Option<&Reads>) -> Self {
        let Pictured { guard, table, row } = pictured;
        let literal: Arc<str> = composite_literal(&guard.table, table, row).into();
        let Some(reads) = reads else { return Self { read: Arc::clone(&literal), literal } };
        let mut read = String::new();
        for column in guard.table.columns.iter().filter(|of| reads.columns.contains(&of.number)) {
            let cell = table.position(&column.name).map_or(Cell::Null, |at| row.cell(at));
            match cell {
                Cell::Text(text) => {
                    // The length keeps neighbours apart.
                    let _ = write!(read, "{}:{text}", text.len());
                }
                Cell::Null | Cell::Unchanged => read.push('~'),
            }
        }
        Self { read: read.into(), literal }
    }
}
