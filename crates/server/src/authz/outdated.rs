//! Questions that a change of definitions has overtaken.
//!
//! A question is put in the words of the catalogue that was in force at its rows' place, and
//! PostgreSQL answers in those of this moment. Between the two a column, table or function may have
//! got another name or type; the question then raises, although the rule behind it still stands.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio_postgres::error::SqlState;
use walcast_change::{Table, TableId};
use walcast_filters::policy::RowRule;

use super::Question;
use crate::catalogue::{KnownTable, keeper::CatalogueKeeper, reading::Reading};

/// How long the catalogue is not read because of an error on a table after that was in vain. A policy
/// may well raise such an error whenever it is asked; it must not cost a reading each time. A change
/// of definitions that is not announced may take as long to count.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Whether an error is one that a change of definitions causes. Others cause most of them, too.
pub(super) fn is_sign(code: &SqlState) -> bool {
    [
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_OBJECT,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::DATATYPE_MISMATCH,
        SqlState::CANNOT_COERCE,
        // The table is being changed.
        SqlState::LOCK_NOT_AVAILABLE,
        // A row image that does not have the table's columns; also a claim that is no uuid.
        SqlState::INVALID_TEXT_REPRESENTATION,
    ]
    .contains(code)
}

/// A question in the words of the newest catalogue.
pub(super) enum Renewed {
    /// The rule does not depend on the row.
    Constant(bool),
    /// The rule, and the table whose columns it names.
    Expression(Arc<str>, Arc<KnownTable>),
}

/// Finds the newest words for questions.
#[derive(Debug)]
pub(super) struct Renewal {
    catalogue: Arc<CatalogueKeeper>,
    /// When reading the catalogue did not help.
    in_vain: Mutex<HashMap<(TableId, String), Instant>>,
}

impl Renewal {
    pub(super) fn new(catalogue: Arc<CatalogueKeeper>) -> Self {
        Self { catalogue, in_vain: Mutex::default() }
    }

    /// The question in the words of the newest catalogue that was read; `None` when they are the
    /// same, or when the rule is another one and its change has a place in the stream which is not
    /// reached.
    pub(super) fn known(&self, question: &Question) -> Option<Renewed> {
        renewed(question, &self.catalogue.newest())
    }

    /// The same with a catalogue that is read after the question failed, unless that was in vain a
    /// moment ago.
    pub(super) async fn looked_up(
        &self,
        question: &Question,
        code: &SqlState,
        failed_at: Instant,
    ) -> Option<Renewed> {
        let key = (question.guard.table.id, code.code().to_owned());
        if self.is_in_vain(&key) {
            return None;
        }
        let reading = self.catalogue.read_since(failed_at).await.ok()?;
        let renewed = renewed(question, &reading);
        if renewed.is_none()
            && let Ok(mut in_vain) = self.in_vain.lock()
        {
            in_vain.insert(key, Instant::now());
        }
        renewed
    }

    fn is_in_vain(&self, key: &(TableId, String)) -> bool {
        let Ok(mut in_vain) = self.in_vain.lock() else { return true };
        in_vain.retain(|_, at| at.elapsed() < LOOK_PAUSE);
        in_vain.contains_key(key)
    }
}

fn renewed(question: &Question, newest: &Reading) -> Option<Renewed> {
    // Filters are walcast's own words.
    let audience = question.audience.as_ref()?;
    let is_announced = newest.place.trigger.is_some();
    let newest = &newest.catalogue;
    let guard = newest.tables.get(&question.guard.table.id)?;
    if Arc::ptr_eq(guard, &question.guard) || (is_announced && !has_same_rules(guard, question)) {
        return None;
    }
    match newest.rule(&audience.role, guard) {
        RowRule::Everything => Some(Renewed::Constant(true)),
        RowRule::Nothing => Some(Renewed::Constant(false)),
        RowRule::Expression(expression) => {
            Some(Renewed::Expression(expression.sql, Arc::clone(guard)))
        }
    }
}

/// Whether the policies are the same, whatever names they go by.
fn has_same_rules(guard: &KnownTable, question: &Question) -> bool {
    let (new, old) = (&guard.row_security, &question.guard.row_security);
    guard.policy_versions == question.guard.policy_versions
        && (new.is_enabled, new.is_forced) == (old.is_enabled, old.is_forced)
        && guard.table.owner == question.guard.table.owner
}

/// What the columns of `old` are called in `new`, by their numbers; `None` for those it lacks.
pub(super) fn names<'a>(old: &'a Table, new: &'a Table) -> Vec<Option<&'a str>> {
    let name = |number: i16| {
        let column = new.columns.iter().find(|column| column.number == number)?;
        Some(&*column.name)
    };
    old.columns.iter().map(|column| name(column.number)).collect()
}
