//! The questions of a batch, each asked once.

use std::{collections::HashMap, sync::Arc, time::Instant};

use walcast_change::TableId;
use walcast_filters::claims::{Audience, AudienceId};

use crate::{
    authz::{Authorizer, Question},
    catalogue::KnownTable,
    telemetry::Metrics,
};

/// Where the answer to a question about one row image will be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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

/// Collects questions; the same one is asked once.
#[derive(Debug, Default)]
pub(super) struct Questions {
    questions: Vec<Question>,
    /// The literals of the images, shared by all audiences.
    literals: HashMap<(TableId, ImageId), Arc<str>>,
    by_content: HashMap<(Option<AudienceId>, TableId, Arc<str>), usize>,
    slots: HashMap<(usize, ImageId), Slot>,
}

/// The answers of a batch.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<Vec<bool>>);

impl Questions {
    /// The slot for a question; `literal` makes the row's composite literal when it is new.
    pub(super) fn slot(
        &mut self,
        audience: Option<(AudienceId, &Arc<Audience>)>,
        guard: &Arc<KnownTable>,
        expression: &Arc<str>,
        image: ImageId,
        literal: impl FnOnce() -> String,
    ) -> Slot {
        let key = (audience.map(|(id, _)| id), guard.table.id, Arc::clone(expression));
        let known = self.by_content.get(&key).copied();
        if let Some(slot) = known.and_then(|question| self.slots.get(&(question, image))) {
            return *slot;
        }
        let literal = Arc::clone(
            self.literals.entry((guard.table.id, image)).or_insert_with(|| literal().into()),
        );
        let has_room = |question: &usize| {
            self.questions.get(*question).is_some_and(|question| {
                let n_bytes: usize = question.images.iter().map(|image| image.len()).sum();
                question.images.len() < IMAGES_MAX && n_bytes < IMAGE_BYTES_MAX
            })
        };
        let question = known.filter(has_room).unwrap_or_else(|| {
            self.questions.push(Question {
                audience: audience.map(|(_, audience)| Arc::clone(audience)),
                guard: Arc::clone(guard),
                expression: Arc::clone(expression),
                images: Vec::new(),
            });
            self.by_content.insert(key, self.questions.len() - 1);
            self.questions.len() - 1
        });
        let images = self.questions.get_mut(question).map(|question| &mut question.images);
        let position = images.map_or(0, |images| {
            images.push(literal);
            images.len() - 1
        });
        let slot = Slot { question, image: position };
        self.slots.insert((question, image), slot);
        slot
    }

    /// Whether there is nothing to ask.
    pub(super) fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Asks PostgreSQL everything at once.
    pub(super) async fn ask(self, authorizer: &Authorizer, metrics: &Metrics) -> Answers {
        if self.questions.is_empty() {
            return Answers::default();
        }
        let started = Instant::now();
        let answers = authorizer.ask(&self.questions).await;
        metrics.authorization_seconds.record(started.elapsed());
        let n_answers = answers.iter().flatten().count() as u64;
        let n_allowed = answers.iter().flatten().filter(|answer| **answer).count() as u64;
        metrics.verdicts_postgres_allow.increment(n_allowed);
        metrics.verdicts_postgres_deny.increment(n_answers - n_allowed);
        Answers(answers)
    }
}

impl Answers {
    /// Whether the answer was yes; what was not answered is no.
    pub(super) fn is_yes(&self, slot: Slot) -> bool {
        self.0
            .get(slot.question)
            .and_then(|images| images.get(slot.image))
            .copied()
            .unwrap_or_default()
    }
}
