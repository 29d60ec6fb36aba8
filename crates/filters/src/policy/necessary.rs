//! What must hold of a row for an audience to see it, where that is simple enough for an index.

use walcast_change::Collation;

use super::{
    apply::uuid,
    evaluate::{Scope, Stop},
    expression::{ComparedKind, Comparison, Expression, Relation},
    shape::{Datum, Shape},
};
use crate::{
    Operator, RawCondition,
    claims::Audience,
    value::{Kind, Value},
};

/// What must hold of a row for an audience to see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Necessary {
    /// Nothing simple.
    Unknown,
    /// `column = value`, the value in the text form of the column's type.
    Equal(RawCondition),
    /// No row can be visible: what a column is compared with is NULL, say.
    Never,
}

/// What every one of several demands: never, or the first simple one.
pub(super) fn both(all: impl Iterator<Item = Necessary>) -> Necessary {
    let mut found = Necessary::Unknown;
    for necessary in all {
        match (necessary, &found) {
            (Necessary::Never, _) => return Necessary::Never,
            (Necessary::Equal(condition), Necessary::Unknown) => {
                found = Necessary::Equal(condition);
            }
            (Necessary::Equal(_) | Necessary::Unknown, _) => {}
        }
    }
    found
}

/// What several alternatives have in common; those that never hold are none.
pub(super) fn either(all: impl Iterator<Item = Necessary>) -> Necessary {
    let mut found = Necessary::Never;
    for necessary in all {
        match (necessary, &found) {
            (Necessary::Never, _) => {}
            (Necessary::Equal(condition), Necessary::Never) => {
                found = Necessary::Equal(condition);
            }
            (Necessary::Equal(condition), Necessary::Equal(known)) if condition == *known => {}
            (Necessary::Equal(_) | Necessary::Unknown, _) => return Necessary::Unknown,
        }
    }
    found
}

/// What an expression demands of a row to be true.
pub(super) fn of_expression(expression: &Expression, audience: &Audience) -> Necessary {
    if let Expression::And(operands) = expression {
        return both(operands.iter().map(|operand| of_expression(operand, audience)));
    }
    if let Expression::Or(operands) = expression {
        return either(operands.iter().map(|operand| of_expression(operand, audience)));
    }
    let Expression::Compare(comparison, operands) = expression else {
        return of_steady(expression, audience);
    };
    match &**operands {
        [Expression::Column(column), other] | [other, Expression::Column(column)]
            if !column.is_domain =>
        {
            of_comparison(comparison, &column.name, &column.shape, other, audience)
        }
        _ => of_steady(expression, audience),
    }
}

/// What reads no column is true for every row, or for none.
fn of_steady(expression: &Expression, audience: &Audience) -> Necessary {
    if expression.has_column() {
        return Necessary::Unknown;
    }
    match expression.evaluate(&Scope {
        image: None,
        audience: Some(audience),
        topic: None,
        case_operand: None,
    }) {
        Ok(Some(Datum::Value(Value::Bool(true)))) | Err(Stop::Undecided) => Necessary::Unknown,
        Ok(_) | Err(Stop::Raises) => Necessary::Never,
    }
}

fn of_comparison(
    comparison: &Comparison,
    column: &str,
    shape: &Shape,
    other: &Expression,
    audience: &Audience,
) -> Necessary {
    let is_equality = comparison.relation == Relation::Equal
        && matches!(comparison.kind, ComparedKind::Scalar(_))
        && comparison.collation != Collation::NonDeterministic;
    let Shape::Scalar(kind) = shape else { return Necessary::Unknown };
    if !is_equality || other.has_column() {
        return Necessary::Unknown;
    }
    let scope = Scope { image: None, audience: Some(audience), topic: None, case_operand: None };
    let value = match other.evaluate(&scope) {
        Ok(None) | Err(Stop::Raises) => return Necessary::Never,
        Err(Stop::Undecided) => return Necessary::Unknown,
        Ok(Some(Datum::Value(value))) => value,
        Ok(Some(Datum::Json(_) | Datum::Array(_) | Datum::Opaque)) => return Necessary::Unknown,
    };
    let text = match (kind, value) {
        (Kind::Uuid, Value::Uuid(bytes)) => uuid(bytes),
        (Kind::Text, Value::Text(text)) => text.into_owned(),
        (Kind::Bool, Value::Bool(truth)) => if truth { "t" } else { "f" }.to_owned(),
        (Kind::Int8, Value::Integer(value)) => value.to_string(),
        (Kind::Int4, Value::Integer(value)) if i32::try_from(value).is_ok() => value.to_string(),
        (Kind::Int2, Value::Integer(value)) if i16::try_from(value).is_ok() => value.to_string(),
        // No value of the column is as large.
        (Kind::Int4 | Kind::Int2, Value::Integer(_)) => return Necessary::Never,
        _ => return Necessary::Unknown,
    };
    Necessary::Equal(RawCondition {
        column: column.to_owned(),
        operator: Operator::Eq,
        value: text,
        is_negated: false,
    })
}
