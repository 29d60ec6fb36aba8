//! Evaluates an expression for a row and an audience, in the order in which PostgreSQL does.

use std::cmp::Ordering;

use walcast_change::{Cell, Row, Table, TypeKind};

use super::{
    apply::apply,
    expression::{Column, ComparedKind, Comparison, Expression, Relation},
    json,
    shape::{Datum, Elements, Json, JsonForm, Shape},
};
use crate::{
    array,
    claims::Audience,
    value::{Kind, Value},
};

/// Longest JSON value that is looked into; PostgreSQL is asked about longer ones.
pub(super) const JSON_BYTES_MAX: usize = 64 * 1024;

/// Why there is no value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// PostgreSQL raises an error at this place, for certain.
    Raises,
    /// Only PostgreSQL can tell.
    Undecided,
}

/// A value, NULL, or neither.
pub(super) type Evaluation<'a> = Result<Option<Datum<'a>>, Stop>;

/// What an expression is evaluated for.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The row and the table that is aligned with it; without a row columns are undecided.
    pub(super) image: Option<(&'a Table, &'a Row)>,
    /// Without an audience nothing but constants is decided.
    pub(super) audience: Option<&'a Audience>,
    /// The topic of the channel that is asked about, without its prefix.
    pub(super) topic: Option<&'a str>,
    /// What the CASE around compares.
    pub(super) case_operand: Option<&'a Option<Datum<'a>>>,
}

/// What a boolean expression comes to. PostgreSQL stops at the operand that settles AND and OR, and
/// at an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    True,
    False,
    Null,
    Raises,
    /// Not true, but it is open whether an error is raised.
    Hidden,
    Undecided,
}

impl From<Result<Option<bool>, Stop>> for Outcome {
    fn from(truth: Result<Option<bool>, Stop>) -> Self {
        match truth {
            Ok(Some(true)) => Self::True,
            Ok(Some(false)) => Self::False,
            Ok(None) => Self::Null,
            Err(Stop::Raises) => Self::Raises,
            Err(Stop::Undecided) => Self::Undecided,
        }
    }
}

impl From<Outcome> for Result<Option<bool>, Stop> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::True => Ok(Some(true)),
            Outcome::False => Ok(Some(false)),
            Outcome::Null => Ok(None),
            Outcome::Raises => Err(Stop::Raises),
            Outcome::Hidden | Outcome::Undecided => Err(Stop::Undecided),
        }
    }
}

/// AND of outcomes that are made one after another.
pub(super) fn all(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    let mut found = Outcome::True;
    for outcome in outcomes {
        match (outcome, found) {
            (Outcome::True, _) => {}
            (Outcome::Hidden, _) => return Outcome::Hidden,
            // What came before may have been false, or raised: it is not true in any case.
            (Outcome::False | Outcome::Null | Outcome::Raises, Outcome::Undecided) => {
                return Outcome::Hidden;
            }
            (Outcome::False | Outcome::Raises, _) => return outcome,
            (Outcome::Null, _) => found = Outcome::Null,
            // NULL before: false, NULL or an error follows.
            (Outcome::Undecided, Outcome::Null) => return Outcome::Hidden,
            (Outcome::Undecided, _) => found = Outcome::Undecided,
        }
    }
    found
}

/// OR of outcomes that are made one after another.
pub(super) fn any(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    let mut found = Outcome::False;
    for outcome in outcomes {
        match (outcome, found) {
            (Outcome::False, _) | (Outcome::Null, Outcome::Hidden | Outcome::Undecided) => {}
            (Outcome::Null, _) => found = Outcome::Null,
            (Outcome::True | Outcome::Raises, Outcome::False | Outcome::Null) => return outcome,
            (Outcome::Raises, Outcome::Hidden) => return Outcome::Hidden,
            // An error before may have kept PostgreSQL from coming here.
            (Outcome::True | Outcome::Raises, _) => return Outcome::Undecided,
            (Outcome::Hidden, Outcome::Undecided) => {}
            (Outcome::Hidden, _) => found = Outcome::Hidden,
            (Outcome::Undecided, _) => found = Outcome::Undecided,
        }
    }
    found
}

impl Expression {
    /// What a boolean expression comes to.
    pub(super) fn outcome(&self, scope: &Scope<'_>) -> Outcome {
        let outcome = if let Self::And(operands) = self {
            all(operands.iter().map(|operand| operand.outcome(scope)))
        } else if let Self::Or(operands) = self {
            any(operands.iter().map(|operand| operand.outcome(scope)))
        } else {
            self.truth(scope).into()
        };
        // What is unknown here may be a constant to the planner, which then does without the rest.
        if outcome == Outcome::Raises && self.has_unknown() { Outcome::Undecided } else { outcome }
    }

    /// The value of a boolean expression.
    fn truth(&self, scope: &Scope<'_>) -> Result<Option<bool>, Stop> {
        match self {
            Self::And(_) | Self::Or(_) => self.outcome(scope).into(),
            Self::Not(operand) => Ok(operand.truth(scope)?.map(|truth| !truth)),
            Self::IsNull { operand, is_negated } => {
                Ok(Some(operand.is_null(scope)? != *is_negated))
            }
            Self::IsTruth { operand, expected, is_negated } => {
                Ok(Some((operand.truth(scope)? == *expected) != *is_negated))
            }
            Self::Compare(comparison, operands) => {
                let [left, right] = &**operands;
                match (left.evaluate(scope)?, right.evaluate(scope)?) {
                    (Some(left), Some(right)) => comparison.holds(&left, &right).map(Some),
                    (None, _) | (_, None) => Ok(None),
                }
            }
            Self::IsDistinct(comparison, operands) => {
                let [left, right] = &**operands;
                Ok(Some(match (left.evaluate(scope)?, right.evaluate(scope)?) {
                    (Some(left), Some(right)) => !comparison.holds(&left, &right)?,
                    (None, None) => false,
                    (None, Some(_)) | (Some(_), None) => true,
                }))
            }
            Self::Any { comparison, operands, is_all } => {
                let [scalar, array] = &**operands;
                let (scalar, array) = (scalar.evaluate(scope)?, array.evaluate(scope)?);
                match array {
                    None => Ok(None),
                    Some(Datum::Array(elements)) => {
                        comparison.holds_for(scalar.as_ref(), elements.as_slice(), *is_all)
                    }
                    Some(Datum::Value(_) | Datum::Json(_) | Datum::Opaque) => Err(Stop::Undecided),
                }
            }
            Self::Constant(_)
            | Self::Column(_)
            | Self::ClaimsText
            | Self::Claims { .. }
            | Self::AbsentSetting
            | Self::Topic
            | Self::CurrentUser
            | Self::CaseOperand
            | Self::NullIf(..)
            | Self::Array(_)
            | Self::Coalesce(_)
            | Self::Case { .. }
            | Self::Apply(..)
            | Self::Unknown(_) => match self.evaluate(scope)? {
                None => Ok(None),
                Some(Datum::Value(Value::Bool(truth))) => Ok(Some(truth)),
                Some(_) => Err(Stop::Undecided),
            },
        }
    }

    /// The value of an expression of any type.
    pub(super) fn evaluate<'a>(&'a self, scope: &Scope<'a>) -> Evaluation<'a> {
        match self {
            Self::Constant(value) => Ok(value.as_ref().map(Datum::borrowed)),
            Self::Column(column) => match column.cell(scope)? {
                Cell::Null => Ok(None),
                Cell::Unchanged => Err(Stop::Undecided),
                Cell::Text(text) => column.shape.read(text).map(Some).ok_or(Stop::Undecided),
            },
            Self::ClaimsText => {
                let audience = scope.audience.ok_or(Stop::Undecided)?;
                Ok(Some(Datum::text(audience.claims.as_str())))
            }
            Self::Claims { form, empty_is_null } => {
                let claims = &scope.audience.ok_or(Stop::Undecided)?.claims;
                if *empty_is_null && claims.as_str().is_empty() {
                    return Ok(None);
                }
                if !claims.is_certain() {
                    return Err(Stop::Undecided);
                }
                let text = json::check(claims.as_str()).ok_or(Stop::Undecided)?;
                Ok(Some(Datum::Json(Json { text: text.into(), form: *form, is_printed: false })))
            }
            Self::AbsentSetting | Self::Unknown(_) => Err(Stop::Undecided),
            Self::Topic => match scope.topic.ok_or(Stop::Undecided)? {
                "" => Ok(None),
                topic => Ok(Some(Datum::text(topic))),
            },
            Self::CurrentUser => match scope.audience.map(|audience| audience.role.as_str()) {
                // `set role none` is back to the login.
                None | Some("none") => Err(Stop::Undecided),
                Some(role) => Ok(Some(Datum::text(role))),
            },
            Self::CaseOperand => {
                let operand = scope.case_operand.ok_or(Stop::Undecided)?;
                Ok(operand.as_ref().map(Datum::borrowed))
            }
            Self::And(_)
            | Self::Or(_)
            | Self::Not(_)
            | Self::IsNull { .. }
            | Self::IsTruth { .. }
            | Self::Compare(..)
            | Self::IsDistinct(..)
            | Self::Any { .. } => {
                Ok(self.truth(scope)?.map(|truth| Datum::Value(Value::Bool(truth))))
            }
            Self::NullIf(comparison, operands) => {
                let [left, right] = &**operands;
                let (left, right) = (left.evaluate(scope)?, right.evaluate(scope)?);
                if let (Some(left), Some(right)) = (&left, &right)
                    && comparison.holds(left, right)?
                {
                    return Ok(None);
                }
                Ok(left)
            }
            Self::Array(elements) => {
                let mut values = Vec::with_capacity(elements.len());
                for element in elements {
                    values.push(match element.evaluate(scope)? {
                        None => None,
                        Some(Datum::Value(value)) => Some(value),
                        Some(_) => return Err(Stop::Undecided),
                    });
                }
                Ok(Some(Datum::Array(Elements::Owned(values))))
            }
            Self::Coalesce(operands) => {
                for operand in operands {
                    if let Some(value) = operand.evaluate(scope)? {
                        return Ok(Some(value));
                    }
                }
                Ok(None)
            }
            Self::Case { operand, branches, otherwise } => {
                let operand =
                    operand.as_deref().map(|operand| operand.evaluate(scope)).transpose()?;
                for (when, then) in branches {
                    let inner = Scope { case_operand: operand.as_ref(), ..*scope };
                    let is_met = when.truth(&inner)? == Some(true);
                    if is_met {
                        return then.evaluate(scope);
                    }
                }
                otherwise.evaluate(scope)
            }
            Self::Apply(function, arguments) => apply(function, arguments, scope),
        }
    }

    /// Whether the value is NULL, which a cell tells without being read.
    fn is_null(&self, scope: &Scope<'_>) -> Result<bool, Stop> {
        let Self::Column(column) = self else { return Ok(self.evaluate(scope)?.is_none()) };
        match column.cell(scope)? {
            Cell::Null => Ok(true),
            Cell::Text(_) => Ok(false),
            Cell::Unchanged => Err(Stop::Undecided),
        }
    }
}

impl Column {
    /// The cell of the column, which must have the type the expression was compiled for.
    fn cell<'a>(&self, scope: &Scope<'a>) -> Result<Cell<'a>, Stop> {
        let (table, row) = scope.image.ok_or(Stop::Undecided)?;
        let at_hint = table.columns.get(self.position).filter(|column| column.name == self.name);
        let found = match at_hint {
            Some(column) => Some((self.position, column)),
            None => table.columns.iter().enumerate().find(|(_, column)| column.name == self.name),
        };
        let found = found.filter(|(_, column)| column.data_type.id == self.type_id);
        found.map(|(position, _)| row.cell(position)).ok_or(Stop::Undecided)
    }
}

impl Shape {
    /// Reads a value in the type's output form.
    fn read<'a>(&self, text: &'a str) -> Option<Datum<'a>> {
        Some(match self {
            Self::Scalar(kind) => Datum::Value(kind.read(text)?),
            Self::Enum(_) => Datum::text(text),
            Self::Json(_) if text.len() > JSON_BYTES_MAX => return None,
            Self::Json(JsonForm::Jsonb) => {
                Datum::Json(Json { text: text.into(), form: JsonForm::Jsonb, is_printed: true })
            }
            Self::Json(JsonForm::Json) => {
                let text = json::check(text)?;
                Datum::Json(Json { text: text.into(), form: JsonForm::Json, is_printed: false })
            }
            Self::Array(kind, delimiter) => {
                let literal = array::read(text, *delimiter)?;
                let elements = literal.elements.into_iter().map(|element| match element {
                    None => Some(None),
                    Some(element) => kind.read(&element).map(|value| Some(value.into_owned())),
                });
                Datum::Array(Elements::Owned(elements.collect::<Option<_>>()?))
            }
            Self::Other => Datum::Opaque,
        })
    }
}

impl Comparison {
    /// Whether the relation holds between two values.
    fn holds(&self, left: &Datum<'_>, right: &Datum<'_>) -> Result<bool, Stop> {
        match (left, right) {
            (Datum::Value(left), Datum::Value(right)) => self.holds_between(left, right),
            (Datum::Json(left), Datum::Json(right)) if self.kind == ComparedKind::Jsonb => {
                let trees = (json::tree(&left.text), json::tree(&right.text));
                let (Some(left), Some(right)) = trees else { return Err(Stop::Undecided) };
                match self.relation {
                    Relation::Equal => Ok(left.equals(&right)),
                    Relation::NotEqual => Ok(!left.equals(&right)),
                    Relation::Less
                    | Relation::LessOrEqual
                    | Relation::Greater
                    | Relation::GreaterOrEqual => Err(Stop::Undecided),
                }
            }
            _ => Err(Stop::Undecided),
        }
    }

    fn holds_between(&self, left: &Value<'_>, right: &Value<'_>) -> Result<bool, Stop> {
        let equal = || match &self.kind {
            ComparedKind::Scalar(kind) => kind.equal(left, right, self.collation),
            ComparedKind::Enum(_) => Kind::Enum.equal(left, right, self.collation),
            ComparedKind::Jsonb => None,
        };
        let order = || match (&self.kind, left, right) {
            (ComparedKind::Scalar(kind), _, _) => kind.order(left, right, self.collation),
            (ComparedKind::Enum(pg_type), Value::Text(left), Value::Text(right)) => {
                let TypeKind::Enum { labels } = &pg_type.kind else { return None };
                let place = |wanted: &str| labels.iter().position(|label| **label == *wanted);
                Some(place(left)?.cmp(&place(right)?))
            }
            _ => None,
        };
        let holds = match self.relation {
            Relation::Equal => equal(),
            Relation::NotEqual => equal().map(|is_equal| !is_equal),
            Relation::Less => order().map(Ordering::is_lt),
            Relation::LessOrEqual => order().map(Ordering::is_le),
            Relation::Greater => order().map(Ordering::is_gt),
            Relation::GreaterOrEqual => order().map(Ordering::is_ge),
        };
        holds.ok_or(Stop::Undecided)
    }

    /// Whether the relation holds for any element, or for all of them.
    fn holds_for(
        &self,
        scalar: Option<&Datum<'_>>,
        elements: &[Option<Value<'_>>],
        is_all: bool,
    ) -> Result<Option<bool>, Stop> {
        if elements.is_empty() {
            return Ok(Some(is_all));
        }
        let scalar = match scalar {
            None => return Ok(None),
            Some(Datum::Value(scalar)) => scalar,
            Some(Datum::Json(_) | Datum::Array(_) | Datum::Opaque) => return Err(Stop::Undecided),
        };
        let (mut has_null, mut is_undecided) = (false, false);
        for element in elements {
            match element.as_ref().map(|element| self.holds_between(scalar, element)) {
                None => has_null = true,
                Some(Err(_)) => is_undecided = true,
                // Comparing raises nothing, so the first that settles it does.
                Some(Ok(holds)) if holds != is_all => return Ok(Some(holds)),
                Some(Ok(_)) => {}
            }
        }
        match (is_undecided, has_null) {
            (true, _) => Err(Stop::Undecided),
            (false, true) => Ok(None),
            (false, false) => Ok(Some(is_all)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::expression::Function;

    /// `'a'::uuid is null`
    fn raising() -> Expression {
        let text = Expression::Constant(Some(Datum::text("a")));
        let read = Expression::Apply(Function::Read(Shape::Scalar(Kind::Uuid)), [text].into());
        Expression::IsNull { operand: Box::new(read), is_negated: false }
    }

    fn check(expression: &Expression, expected: Outcome) {
        let scope = Scope { image: None, audience: None, topic: None, case_operand: None };
        assert_eq!(expression.outcome(&scope), expected, "{expression:?}");
    }

    /// Found by the oracle: `sub = owner or interval '1 day' is not null` with a `sub` that is no uuid.
    #[test]
    fn what_is_unknown_may_make_the_planner_do_without_what_raises() {
        let unknown = || Expression::Unknown(Box::default());
        let or = |operands: Vec<Expression>| Expression::Or(operands.into());
        check(&raising(), Outcome::Raises);
        check(&or(vec![raising(), Expression::AbsentSetting]), Outcome::Raises);
        check(&or(vec![raising(), unknown()]), Outcome::Undecided);
        check(&Expression::Not(Box::new(or(vec![raising(), unknown()]))), Outcome::Undecided);
        let both = Expression::And([unknown(), or(vec![raising(), unknown()])].into());
        check(&both, Outcome::Undecided);
        check(&Expression::And([unknown(), raising()].into()), Outcome::Hidden);
    }
}
