//! Which expressions are slow, so that they wait among themselves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use walcast_change::TableId;

/// A question that takes longer is slow: two thousand times what an indexed look-up takes.
const SLOW: Duration = Duration::from_millis(20);

/// How long an expression counts as slow after it was.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Expressions that are remembered; past it everything is learnt anew.
const EXPRESSIONS_MAX: usize = 10_000;

/// How quickly PostgreSQL answers an expression.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pace {
    /// Not asked yet.
    Unknown,
    /// As an expression should.
    Quick,
    /// Others must not wait behind it.
    Slow,
}

/// An expression over a table.
pub(super) type Expression = (TableId, Arc<str>);

/// The pace of each expression.
#[derive(Debug, Default)]
pub(super) struct Paces(Mutex<HashMap<Expression, Option<Instant>>>);

impl Paces {
    /// The pace as far as it is known.
    pub(super) fn of(&self, expression: &Expression) -> Pace {
        let Ok(known) = self.0.lock() else { return Pace::Unknown };
        match known.get(expression) {
            None => Pace::Unknown,
            Some(Some(slow_at)) if slow_at.elapsed() < REMEMBERED => Pace::Slow,
            Some(_) => Pace::Quick,
        }
    }

    /// Notes how long so many questions took.
    pub(super) fn note(&self, expression: &Expression, n_questions: usize, took: Duration) {
        let Ok(mut known) = self.0.lock() else { return };
        if known.len() >= EXPRESSIONS_MAX {
            known.clear();
        }
        let each = took / u32::try_from(n_questions.max(1)).unwrap_or(u32::MAX);
        let slow_at = (each > SLOW).then(Instant::now);
        let entry = known.entry((expression.0, Arc::clone(&expression.1))).or_default();
        if slow_at.is_some() {
            *entry = slow_at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_that_was_slow_once_stays_so_for_a_while() {
        let (paces, expression) = (Paces::default(), (TableId(1), Arc::from("f()")));
        assert_eq!(paces.of(&expression), Pace::Unknown);
        paces.note(&expression, 64, Duration::from_millis(64));
        assert_eq!(paces.of(&expression), Pace::Quick);
        paces.note(&expression, 2, Duration::from_millis(50));
        paces.note(&expression, 1, Duration::from_millis(1));
        assert_eq!(paces.of(&expression), Pace::Slow);
        assert_eq!(paces.of(&(TableId(2), Arc::from("f()"))), Pace::Unknown);
    }
}
