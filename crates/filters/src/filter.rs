//! A filter: conditions checked against a table, all of which a row must meet.

use std::collections::HashSet;

use walcast_change::{ColumnSet, Row, Table};

use crate::{
    FilterError, RawCondition,
    condition::{Condition, Truth},
    sql,
};

/// Conditions joined by AND; without conditions everything matches.
#[derive(Debug, Default, Eq, Hash, PartialEq)]
pub struct Filter {
    conditions: Box<[Condition]>,
}

/// Whether a row matches a filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Match {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// Only PostgreSQL can tell; ask it [`Filter::to_sql`].
    Undecided,
}

/// A question that PostgreSQL answers with an error when it refuses an operand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verification {
    /// A boolean expression without columns; its value does not matter.
    pub sql: String,
    /// The column of the condition.
    pub column: Box<str>,
    /// What stands before PostgreSQL's message; not empty for regular expressions.
    pub message_prefix: &'static str,
}

impl Verification {
    /// The error a client gets when PostgreSQL answered with this SQLSTATE and message. Hint, detail
    /// and constraint may be added when the prefix is empty.
    #[must_use]
    pub fn refusal(&self, sqlstate: &str, message: &str) -> FilterError {
        if self.message_prefix.is_empty() {
            return FilterError::new(sqlstate, message);
        }
        FilterError::raised(format!("{}{message}", self.message_prefix))
    }
}

impl Filter {
    /// Checks conditions against a table, in the order they were written.
    ///
    /// `selectable` are the positions of the columns that the subscriber's role may SELECT.
    ///
    /// # Errors
    ///
    /// A column is unknown or hidden, an operator does not exist for its type, or an operand is no
    /// value of its type.
    pub fn check(
        conditions: &[RawCondition],
        table: &Table,
        selectable: &ColumnSet,
    ) -> Result<Self, FilterError> {
        let mut conditions: Vec<_> = conditions
            .iter()
            .enumerate()
            .map(|(written, condition)| Condition::check(condition, written, table, selectable))
            .collect::<Result<_, _>>()?;
        conditions.sort_by(|left, right| {
            (&left.column, left.operator, &left.value, left.is_negated).cmp(&(
                &right.column,
                right.operator,
                &right.value,
                right.is_negated,
            ))
        });
        Ok(Self { conditions: conditions.into() })
    }

    /// What PostgreSQL must accept before the filter may be used, in the order it was written.
    #[must_use]
    pub fn verifications(&self) -> Vec<Verification> {
        let mut doubtful: Vec<_> =
            self.conditions.iter().filter(|condition| condition.needs_verification()).collect();
        doubtful.sort_by_key(|condition| condition.written);
        doubtful.into_iter().map(sql::verification).collect()
    }

    /// Whether a row matches. The table is aligned with the row: same columns, same positions.
    #[must_use]
    pub fn matches(&self, table: &Table, row: &Row) -> Match {
        let mut verdict = Match::Yes;
        for condition in &self.conditions {
            match condition.decide(table, row) {
                Truth::True => {}
                Truth::False | Truth::Null => return Match::No,
                Truth::Undecided => verdict = Match::Undecided,
            }
        }
        verdict
    }

    /// The filter as a boolean SQL expression over the table's columns, unqualified and quoted.
    #[must_use]
    pub fn to_sql(&self, table: &Table) -> String {
        if self.conditions.is_empty() {
            return "true".to_owned();
        }
        let conditions = self.conditions.iter();
        let conditions: Vec<_> =
            conditions.map(|condition| sql::condition(condition, table)).collect();
        conditions.join(" AND ")
    }

    /// The columns it looks at, each once.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let mut seen = HashSet::new();
        self.conditions
            .iter()
            .map(|condition| &*condition.column)
            .filter(move |name| seen.insert(*name))
    }

    /// The checked conditions in the order in which the reference stores them.
    pub fn conditions(&self) -> impl ExactSizeIterator<Item = RawCondition> {
        self.conditions.iter().map(|condition| RawCondition {
            column: condition.column.to_string(),
            operator: condition.operator,
            value: condition.value.to_string(),
            is_negated: condition.is_negated,
        })
    }

    /// Whether it has no conditions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    pub(crate) fn checked(&self) -> &[Condition] {
        &self.conditions
    }
}
