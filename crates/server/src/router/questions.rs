//! The questions of a batch, each asked once.

use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Instant};

use walcast_change::{Cell, Row, Table, TableId};
use walcast_filters::{
    claims::{Audience, Role},
    policy::{ClaimsRead, Projection, Reads, RowExpression},
};

use crate::{
    authz::{Authorizer, Question, composite_literal},
    catalogue::KnownTable,
    telemetry::Metrics,
};

/// Where the answer to a question about one row image will be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Slot {
    question: usize,
    image: usize,
}

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

/// Everyone who gets the same answer from a policy: a role, and what the policy reads of the claims.
#[derive(Clone, Debug)]
pub(super) struct Asker<'a> {
    audience: &'a Audience,
    projection: Projection,
}

impl<'a> Asker<'a> {
    /// An audience before an expression that reads so much of its claims.
    pub(super) fn new(audience: &'a Audience, reads: &ClaimsRead) -> Self {
        Self { audience, projection: reads.project(&audience.claims) }
    }
}

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
    questions: Vec<Question>,
    subjects: HashMap<Subject, SubjectId>,
    /// The question of a subject that was made last; it may have room for another image.
    newest: Vec<usize>,
    /// The images of the batch, shared by all who ask about them.
    images: HashMap<(TableId, Arc<str>, ImageId), Image>,
    slots: HashMap<(SubjectId, Arc<str>), Slot>,
}

/// A position in [`Questions::newest`].
type SubjectId = usize;

/// What is asked, whatever the row.
#[derive(Debug, Eq, Hash, PartialEq)]
struct Subject {
    asker: Option<(Role, Projection)>,
    guard: TableId,
    expression: Arc<str>,
}

/// An image for one expression.
#[derive(Clone, Debug)]
struct Image {
    /// Equal for rows that are equal in what the expression reads.
    read: Arc<str>,
    literal: Arc<str>,
}

/// The answers of a batch, by question and image; `None` until PostgreSQL answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<Vec<Option<Vec<bool>>>>);

/// Answers to some questions, by their numbers.
pub(super) type Answered = Vec<(usize, Vec<bool>)>;

impl Questions {
    /// The slot for the verdict about a row.
    pub(super) fn about_row(
        &mut self,
        asker: Asker<'_>,
        expression: &RowExpression,
        image: ImageId,
        pictured: &Pictured<'_>,
    ) -> Slot {
        let subject = Subject {
            asker: Some((asker.audience.role.clone(), asker.projection)),
            guard: pictured.guard.table.id,
            expression: Arc::clone(&expression.sql),
        };
        let reads = Some(&expression.reads).filter(|reads| !reads.whole_row);
        self.slot(subject, Some(asker.audience), reads, image, pictured)
    }

    /// The slot for a filter that only PostgreSQL can compare.
    pub(super) fn about_filter(
        &mut self,
        expression: &Arc<str>,
        image: ImageId,
        pictured: &Pictured<'_>,
    ) -> Slot {
        let guard = pictured.guard.table.id;
        let subject = Subject { asker: None, guard, expression: Arc::clone(expression) };
        self.slot(subject, None, None, image, pictured)
    }

    fn slot(
        &mut self,
        subject: Subject,
        audience: Option<&Audience>,
        reads: Option<&Reads>,
        image: ImageId,
        pictured: &Pictured<'_>,
    ) -> Slot {
        let key = (subject.guard, Arc::clone(&subject.expression), image);
        let image = self.images.entry(key).or_insert_with(|| Image::new(pictured, reads)).clone();
        let expression = Arc::clone(&subject.expression);
        let n_subjects = self.newest.len();
        let id = *self.subjects.entry(subject).or_insert(n_subjects);
        if let Some(slot) = self.slots.get(&(id, Arc::clone(&image.read))) {
            return *slot;
        }
        let known = self.newest.get(id).copied();
        let question = known.filter(|question| self.has_room(*question)).unwrap_or_else(|| {
            self.questions.push(Question {
                audience: audience.cloned().map(Arc::new),
                guard: Arc::clone(pictured.guard),
                expression,
                images: Vec::new(),
            });
            self.questions.len() - 1
        });
        match self.newest.get_mut(id) {
            Some(newest) => *newest = question,
            None => self.newest.push(question),
        }
        let images = self.questions.get_mut(question).map(|question| &mut question.images);
        let position = images.map_or(0, |images| {
            images.push(image.literal);
            images.len() - 1
        });
        let slot = Slot { question, image: position };
        self.slots.insert((id, image.read), slot);
        slot
    }

    fn has_room(&self, question: usize) -> bool {
        self.questions.get(question).is_some_and(|question| {
            let n_bytes: usize = question.images.iter().map(|image| image.len()).sum();
            question.images.len() < IMAGES_MAX && n_bytes < IMAGE_BYTES_MAX
        })
    }

    /// Whether there is nothing to ask.
    pub(super) fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// The questions in groups that are asked and answered apart, and room for the answers.
    pub(super) fn groups(self) -> (Vec<Group>, Answers) {
        let answers = Answers(Arc::new(vec![None; self.questions.len()]));
        let mut groups: HashMap<(TableId, Arc<str>), Group> = HashMap::new();
        for (number, question) in self.questions.into_iter().enumerate() {
            let expression = (question.guard.table.id, Arc::clone(&question.expression));
            let group = groups.entry(expression).or_default();
            group.numbers.push(number);
            group.questions.push(question);
        }
        (groups.into_values().collect(), answers)
    }
}

/// Questions with one expression.
#[derive(Debug, Default)]
pub(super) struct Group {
    numbers: Vec<usize>,
    questions: Vec<Question>,
}

impl Group {
    /// Which questions these are.
    pub(super) fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    /// Asks PostgreSQL.
    pub(super) async fn ask(self, authorizer: &Authorizer, metrics: &Metrics) -> Answered {
        let started = Instant::now();
        let answers = authorizer.ask(&self.questions).await;
        metrics.authorization_seconds.record(started.elapsed());
        let n_answers = answers.iter().flatten().count() as u64;
        let n_allowed = answers.iter().flatten().filter(|answer| **answer).count() as u64;
        metrics.verdicts_postgres_allow.increment(n_allowed);
        metrics.verdicts_postgres_deny.increment(n_answers - n_allowed);
        self.numbers.into_iter().zip(answers).collect()
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

impl Answers {
    /// Takes in what PostgreSQL answered.
    pub(super) fn take(&mut self, answered: Answered) {
        let answers = Arc::make_mut(&mut self.0);
        for (question, answer) in answered {
            if let Some(slot) = answers.get_mut(question) {
                *slot = Some(answer);
            }
        }
    }

    /// The answer, once there is one; what was not answered for good is no.
    pub(super) fn find(&self, slot: Slot) -> Option<bool> {
        let images = self.0.get(slot.question)?.as_ref()?;
        Some(images.get(slot.image).copied().unwrap_or_default())
    }
}

#[cfg(test)]
impl Slot {
    /// The first image of a question.
    pub(super) fn first_of(question: usize) -> Self {
        Self { question, image: 0 }
    }
}

#[cfg(test)]
impl Answers {
    /// Room for the answers to so many questions.
    pub(super) fn room_for(n_questions: usize) -> Self {
        Self(Arc::new(vec![None; n_questions]))
    }
}
