//! The policies that concern one role, combined as PostgreSQL combines them, and decided.

use std::{collections::BTreeSet, sync::Arc};

use walcast_change::{Cell, Row, Table};

use super::{
    ClaimsRead, FunctionId, Membership, Policy, Predicate, Reads, Verdict,
    evaluate::{Outcome, Scope, all, any},
    necessary::{self, Necessary},
};
use crate::claims::Audience;

static NO_CLAIM: ClaimsRead = ClaimsRead::NOTHING;

/// The policies of one table as they concern one role.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RowRule {
    /// Every row is visible: no row security, a role it does not bind, or a constant policy.
    Everything,
    /// No row is visible: no permissive policy, or a constant one.
    Nothing,
    /// It depends on the row or the claims.
    Expression(RowExpression),
}

/// The combined USING expression of the policies that concern a role.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RowExpression {
    /// A boolean SQL expression over the table's columns; NULL hides the row like false.
    pub sql: Arc<str>,
    /// What it reads of the row.
    pub reads: Reads,
    /// What it reads of the claims.
    pub claims_read: ClaimsRead,
    /// The permissive policies, in the order of the expression; none when one is always true.
    permissive: Box<[Part]>,
    /// The restrictive policies.
    restrictive: Box<[Part]>,
    /// The question for members that the only policy amounts to, if it is one.
    membership: Option<Arc<Membership>>,
}

/// One policy of an expression.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Part {
    /// What is known of the policy.
    predicate: Option<Arc<Predicate>>,
    /// Whether that is all of it; else it can only say no.
    is_decided: bool,
}

impl RowRule {
    /// The rule of the policies that concern a role which may run these functions.
    pub(super) fn of(
        permissive: &[&Policy],
        restrictive: &[&Policy],
        may_run: &BTreeSet<FunctionId>,
    ) -> Self {
        let permissive = Side::any(permissive, may_run);
        let restrictive = Side::all(restrictive, may_run);
        let expression = match (permissive, restrictive) {
            (Side::Constant(false), _) | (_, Side::Constant(false)) => return Self::Nothing,
            (Side::Constant(true), Side::Constant(true)) => return Self::Everything,
            (Side::Policies(permissive), Side::Constant(true)) => RowExpression {
                sql: permissive.sql.into(),
                reads: permissive.reads,
                claims_read: permissive.claims_read,
                membership: permissive.membership.filter(|_| permissive.parts.len() == 1),
                permissive: permissive.parts.into(),
                restrictive: Box::default(),
            },
            (Side::Constant(true), Side::Policies(restrictive)) => RowExpression {
                sql: restrictive.sql.into(),
                reads: restrictive.reads,
                claims_read: restrictive.claims_read,
                permissive: Box::default(),
                restrictive: restrictive.parts.into(),
                membership: None,
            },
            (Side::Policies(permissive), Side::Policies(restrictive)) => RowExpression {
                sql: format!("{} AND {}", restrictive.sql, permissive.sql).into(),
                reads: permissive.reads.union(restrictive.reads),
                claims_read: permissive.claims_read.union(restrictive.claims_read),
                permissive: permissive.parts.into(),
                restrictive: restrictive.parts.into(),
                membership: None,
            },
        };
        Self::Expression(expression)
    }

    /// The outcome, unless it is open or an error.
    pub(super) fn is_certain(&self, scope: &Scope<'_>) -> Option<bool> {
        match self {
            Self::Everything => Some(true),
            Self::Nothing => Some(false),
            Self::Expression(expression) => expression.is_certain(scope),
        }
    }

    /// Decides one row for one audience. `table` is aligned with the row; it may be a leaf of the
    /// table that has the policies: columns correspond by name.
    #[must_use]
    pub fn decide(&self, table: &Table, row: &Row, audience: &Audience) -> Verdict {
        match self {
            Self::Everything => Verdict::Allow,
            Self::Nothing => Verdict::Deny,
            Self::Expression(expression) => expression.decide(table, row, audience),
        }
    }

    /// What the policies that apply read of the claims.
    #[must_use]
    pub fn claims_read(&self) -> &ClaimsRead {
        match self {
            Self::Everything | Self::Nothing => &NO_CLAIM,
            Self::Expression(expression) => &expression.claims_read,
        }
    }

    /// What must hold of a row for the audience to see it: for an index.
    #[must_use]
    pub fn necessary(&self, audience: &Audience) -> Necessary {
        match self {
            Self::Everything => Necessary::Unknown,
            Self::Nothing => Necessary::Never,
            Self::Expression(expression) => expression.necessary(audience),
        }
    }

    /// Whether a row image holds everything the rule reads. `guard` is the table that has the
    /// policies, `table` the one that is aligned with the row; columns correspond by name.
    #[must_use]
    pub fn can_judge(&self, guard: &Table, table: &Table, row: &Row) -> bool {
        let Self::Expression(expression) = self else { return true };
        let reads = &expression.reads;
        let read = |number| reads.whole_row || reads.columns.contains(&number);
        guard.columns.iter().filter(|column| read(column.number)).all(|column| {
            table.position(&column.name).is_some_and(|position| {
                row.cell(position) != Cell::Unchanged && !row.is_escaped(position)
            })
        })
    }
}

impl RowExpression {
    /// Whether every policy is decided in process, but for what a value may leave open.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.parts().all(|part| part.is_decided)
    }

    /// The question for members that stands for asking about each subscriber.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.membership.as_deref()
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.permissive.iter().chain(&self.restrictive)
    }

    fn decide(&self, table: &Table, row: &Row, audience: &Audience) -> Verdict {
        let scope = Scope {
            image: Some((table, row)),
            audience: Some(audience),
            topic: None,
            case_operand: None,
        };
        // What is not known of another policy may be a constant to the planner, which then does
        // without what raises.
        let is_decided = self.is_decided();
        let outcome = |part: &Part| {
            let outcome = part.outcome(&scope);
            let may_vanish = outcome == Outcome::Raises && !is_decided;
            if may_vanish { Outcome::Undecided } else { outcome }
        };
        let permissive = || match &*self.permissive {
            [] => Outcome::True,
            parts => any(parts.iter().map(outcome)),
        };
        let restrictive = self.restrictive.iter().map(outcome);
        match all(restrictive.chain(std::iter::once_with(permissive))) {
            // Privileges are checked, and constants evaluated, before any row is looked at: a policy
            // that is not known may raise although it would not be reached.
            Outcome::True if is_decided && self.is_safe(&scope) => Verdict::Allow,
            Outcome::True | Outcome::Undecided => Verdict::Undecided,
            // An error hides the row, too.
            Outcome::False | Outcome::Null | Outcome::Raises | Outcome::Hidden => Verdict::Deny,
        }
    }

    /// The outcome, unless it is open or an error.
    fn is_certain(&self, scope: &Scope<'_>) -> Option<bool> {
        let permissive = || match &*self.permissive {
            [] => Outcome::True,
            parts => any(parts.iter().map(|part| part.outcome(scope))),
        };
        let restrictive = self.restrictive.iter().map(|part| part.outcome(scope));
        match all(restrictive.chain(std::iter::once_with(permissive))) {
            Outcome::True => Some(true),
            Outcome::False | Outcome::Null => Some(false),
            Outcome::Raises | Outcome::Hidden | Outcome::Undecided => None,
        }
    }

    /// Whether no part that was passed over raises for these claims.
    fn is_safe(&self, scope: &Scope<'_>) -> bool {
        let predicates = || self.parts().filter_map(|part| part.predicate.as_deref());
        let is_straight =
            self.permissive.len() <= 1 && predicates().all(|predicate| predicate.is_straight);
        is_straight || predicates().all(|predicate| predicate.is_safe(scope))
    }

    fn necessary(&self, audience: &Audience) -> Necessary {
        if !self.is_decided() {
            return Necessary::Unknown;
        }
        let of_part = |part: &Part| {
            part.predicate.as_ref().map_or(Necessary::Unknown, |predicate| {
                necessary::of_expression(&predicate.expression, audience)
            })
        };
        let permissive = match &*self.permissive {
            [] => Necessary::Unknown,
            parts => necessary::either(parts.iter().map(of_part)),
        };
        necessary::both(std::iter::once(permissive).chain(self.restrictive.iter().map(of_part)))
    }
}

impl Part {
    fn of(policy: &Policy, may_run: &BTreeSet<FunctionId>) -> Self {
        let (predicate, is_decided) = match &policy.decision {
            Ok(predicate) => (Some(predicate), true),
            Err(_) => (policy.partial.as_ref(), false),
        };
        let predicate = predicate.filter(|predicate| predicate.calls.is_subset(may_run));
        Self { is_decided: is_decided && predicate.is_some(), predicate: predicate.cloned() }
    }

    fn outcome(&self, scope: &Scope<'_>) -> Outcome {
        self.predicate.as_ref().map_or(Outcome::Undecided, |predicate| predicate.outcome(scope))
    }
}

/// One side of the combination: all permissive or all restrictive policies.
enum Side {
    Constant(bool),
    Policies(Policies),
}

struct Policies {
    sql: String,
    reads: Reads,
    claims_read: ClaimsRead,
    parts: Vec<Part>,
    /// Of the first of them.
    membership: Option<Arc<Membership>>,
}

impl Side {
    /// Permissive policies: one must pass; without any, nothing does.
    fn any(policies: &[&Policy], may_run: &BTreeSet<FunctionId>) -> Self {
        Self::combine(policies, may_run, " OR ", true)
    }

    /// Restrictive policies: all must pass.
    fn all(policies: &[&Policy], may_run: &BTreeSet<FunctionId>) -> Self {
        Self::combine(policies, may_run, " AND ", false)
    }

    /// Joins expressions; a policy whose constant is `decisive` settles the whole side, as
    /// PostgreSQL's planner does, unless one before it may raise in the planner. Policies without
    /// USING add nothing.
    fn combine(
        policies: &[&Policy],
        may_run: &BTreeSet<FunctionId>,
        operator: &str,
        decisive: bool,
    ) -> Self {
        let mut texts = Vec::new();
        let mut parts = Vec::new();
        let mut membership = None;
        let mut reads = Reads::default();
        let mut claims_read = ClaimsRead::NOTHING;
        for policy in policies {
            let Some(using) = &policy.using else { continue };
            let is_reached = parts.iter().all(|part: &Part| part.is_decided);
            match constant(policy, using) {
                Some(value) if value == decisive && is_reached => return Self::Constant(decisive),
                Some(value) if value != decisive => {}
                Some(_) | None => {
                    texts.push(format!("({using})"));
                    if parts.is_empty() {
                        let known = policy.membership.as_ref();
                        membership = known.filter(|of| of.calls.is_subset(may_run)).cloned();
                    }
                    parts.push(Part::of(policy, may_run));
                    reads = reads.union(policy.reads.clone());
                    claims_read = claims_read.union(policy.claims_read.clone());
                }
            }
        }
        if parts.is_empty() {
            return Self::Constant(!decisive);
        }
        let sql = format!("({})", texts.join(operator));
        Self::Policies(Policies { sql, reads, claims_read, parts, membership })
    }
}

/// What a policy is for every row and everybody; NULL hides a row like false.
fn constant(policy: &Policy, using: &str) -> Option<bool> {
    match using.trim_matches(['(', ')']) {
        "true" => Some(true),
        "false" => Some(false),
        _ => policy.decision.as_ref().ok()?.constant(),
    }
}
