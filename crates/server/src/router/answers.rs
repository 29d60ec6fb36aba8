//! Questions on their way to PostgreSQL and the answers on their way back.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use walcast_change::TableId;
use walcast_filters::{claims::Audience, policy::MEMBERS_MAX};

use crate::{
    authz::{Authorizer, Question},
    telemetry::Metrics,
};

/// Where the answer to a question about one row image will be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Slot {
    pub(super) question: usize,
    pub(super) image: usize,
    /// Who of several asks.
    pub(super) asker: usize,
}

/// A question, with everybody who asks it when the answer is a list of members.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) askers: Vec<Asker>,
    /// What is asked for each of them if there is no such list.
    pub(super) apart: Option<Arc<str>>,
}

/// Somebody who is, or is not, in a list of members.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) member: Arc<str>,
    pub(super) audience: Audience,
}

/// The answers of a batch, by question and image; `None` until PostgreSQL answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    given: Arc<Vec<Option<Vec<Answer>>>>,
    /// By question and place.
    members: Arc<Vec<Vec<Arc<str>>>>,
}

/// What PostgreSQL said of an image.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The same to everyone.
    All(bool),
    /// Yes to these.
    Members(HashSet<String>),
    /// Something to each asker, by place.
    Each(Vec<bool>),
}

/// Answers to some questions, by their numbers.
pub(super) type Answered = Vec<(usize, Vec<Answer>)>;

/// Groups of questions that are asked and answered apart, and room for the answers.
pub(super) fn groups(questions: Vec<Asked>) -> (Vec<Group>, Answers) {
    let members = questions
        .iter()
        .map(|asked| asked.askers.iter().map(|asker| Arc::clone(&asker.member)).collect());
    let answers = Answers {
        given: Arc::new(vec![None; questions.len()]),
        members: Arc::new(members.collect()),
    };
    let mut groups: HashMap<(TableId, Arc<str>), Group> = HashMap::new();
    for (number, asked) in questions.into_iter().enumerate() {
        let question = &asked.question;
        let expression = (question.guard.table.id, Arc::clone(&question.expression));
        let group = groups.entry(expression).or_default();
        group.numbers.push(number);
        group.asked.push(asked);
    }
    (groups.into_values().collect(), answers)
}

/// Questions with one expression.
#[derive(Debug, Default)]
pub(super) struct Group {
    numbers: Vec<usize>,
    asked: Vec<Asked>,
}

impl Group {
    /// Which questions these are.
    pub(super) fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    /// Asks PostgreSQL.
    pub(super) async fn ask(self, authorizer: &Authorizer, metrics: &Metrics) -> Answered {
        let started = Instant::now();
        let (listed, plain): (Vec<_>, Vec<_>) =
            self.numbers.into_iter().zip(self.asked).partition(|(_, asked)| asked.apart.is_some());
        let (numbers, questions): (Vec<usize>, Vec<Question>) =
            plain.into_iter().map(|(number, asked)| (number, asked.question)).unzip();
        let answers = authorizer.ask(&questions).await;
        let given = answers.into_iter().map(|images| images.into_iter().map(Answer::All).collect());
        let mut answered: Answered = numbers.into_iter().zip(given).collect();
        let count = |answer: bool| if answer { (1, 0) } else { (0, 1) };
        let (mut n_allowed, mut n_denied) = (0, 0);
        for answer in answered.iter().flat_map(|(_, images)| images) {
            let (allowed, denied) = match answer {
                Answer::All(answer) => count(*answer),
                Answer::Members(_) | Answer::Each(_) => (0, 0),
            };
            (n_allowed, n_denied) = (n_allowed + allowed, n_denied + denied);
        }
        for (number, asked) in listed {
            let answers = asked.ask(authorizer).await;
            for answer in &answers {
                for place in 0..asked.askers.len() {
                    let (allowed, denied) = count(answer.holds(place, || asked.member(place)));
                    (n_allowed, n_denied) = (n_allowed + allowed, n_denied + denied);
                }
            }
            answered.push((number, answers));
        }
        metrics.authorization_seconds.record(started.elapsed());
        metrics.verdicts_postgres_allow.increment(n_allowed);
        metrics.verdicts_postgres_deny.increment(n_denied);
        answered
    }
}

impl Asked {
    fn member(&self, place: usize) -> Option<&str> {
        self.askers.get(place).map(|asker| &*asker.member)
    }

    /// Asks for the members, and about each asker apart where there is no list, or only a part of it.
    async fn ask(&self, authorizer: &Authorizer) -> Vec<Answer> {
        let n_images = self.question.images.len();
        let members = authorizer.members(&self.question).await;
        let mut members = members.unwrap_or_default();
        members.resize(n_images, None);
        let mut answers: Vec<Option<Answer>> = members
            .into_iter()
            .map(|members| members.filter(|members| members.len() <= MEMBERS_MAX))
            .map(|members| Some(Answer::Members(members?.into_iter().collect())))
            .collect();
        let open: Vec<usize> = (0..n_images)
            .filter(|image| answers.get(*image).is_some_and(Option::is_none))
            .collect();
        if open.is_empty() {
            return answers.into_iter().flatten().collect();
        }
        let image = |number: &usize| self.question.images.get(*number).map(Arc::clone);
        let images: Vec<Arc<str>> = open.iter().filter_map(image).collect();
        let expression = self.apart.as_ref().unwrap_or(&self.question.expression);
        let questions = self.askers.iter().map(|asker| Question {
            audience: Some(Arc::new(asker.audience.clone())),
            guard: Arc::clone(&self.question.guard),
            expression: Arc::clone(expression),
            images: images.clone(),
        });
        let questions: Vec<Question> = questions.collect();
        let apart = authorizer.ask(&questions).await;
        for (place, number) in open.into_iter().enumerate() {
            let each = apart.iter().map(|images| images.get(place).copied().unwrap_or_default());
            if let Some(answer) = answers.get_mut(number) {
                *answer = Some(Answer::Each(each.collect()));
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Answer::All(false))).collect()
    }
}

impl Answer {
    fn holds<'a>(&self, place: usize, member: impl FnOnce() -> Option<&'a str>) -> bool {
        match self {
            Self::All(answer) => *answer,
            Self::Members(members) => member().is_some_and(|member| members.contains(member)),
            Self::Each(answers) => answers.get(place).copied().unwrap_or_default(),
        }
    }
}

impl Answers {
    /// Takes in what PostgreSQL answered.
    pub(super) fn take(&mut self, answered: Answered) {
        let given = Arc::make_mut(&mut self.given);
        for (question, answer) in answered {
            if let Some(slot) = given.get_mut(question) {
                *slot = Some(answer);
            }
        }
    }

    /// The answer, once there is one; what was not answered for good is no.
    pub(super) fn find(&self, slot: Slot) -> Option<bool> {
        let images = self.given.get(slot.question)?.as_ref()?;
        let member = || Some(&**self.members.get(slot.question)?.get(slot.asker)?);
        Some(images.get(slot.image).is_some_and(|answer| answer.holds(slot.asker, member)))
    }
}

#[cfg(test)]
impl Slot {
    /// The first image of a question.
    pub(super) fn first_of(question: usize) -> Self {
        Self { question, image: 0, asker: 0 }
    }
}

#[cfg(test)]
impl Answers {
    /// Room for the answers to so many questions.
    pub(super) fn room_for(n_questions: usize) -> Self {
        Self { given: Arc::new(vec![None; n_questions]), members: Arc::default() }
    }
}
