//! What PostgreSQL's planner simplifies before anything is evaluated
//! (`eval_const_expressions`): with constants, an operand that would raise may disappear.

use super::{evaluate::Scope, expression::Expression, shape::Datum};
use crate::value::Value;

/// Evaluates an expression whose operands are constants.
///
/// # Errors
/// It raises, or only PostgreSQL can evaluate it.
pub(super) fn constant(expression: Expression) -> Result<Expression, ()> {
    let mut n_children = 0;
    let are_constant = expression.each_child(&mut |child| {
        n_children += 1;
        matches!(child, Expression::Constant(_))
    });
    if n_children == 0 || !are_constant || matches!(expression, Expression::Unknown(_)) {
        return Ok(expression);
    }
    let scope = Scope { image: None, audience: None, topic: None, case_operand: None };
    match expression.evaluate(&scope) {
        Ok(value) => Ok(Expression::Constant(value.map(Datum::into_owned))),
        Err(_) => Err(()),
    }
}

/// A strict function: NULL when an operand is the constant NULL, whatever the others are.
pub(super) fn strict<O: AsRef<[Expression]>>(
    operands: O,
    make: impl FnOnce(O) -> Expression,
) -> Expression {
    let all = operands.as_ref();
    let has_null = all.iter().any(|operand| matches!(operand, Expression::Constant(None)));
    if has_null && !all.iter().any(Expression::has_unknown) {
        return Expression::Constant(None);
    }
    make(operands)
}

/// AND: true operands play no part, and nothing plays one after a false operand.
pub(super) fn and(operands: Vec<Expression>) -> Expression {
    joined(operands, false).unwrap_or_else(|kept| one_or(kept, true, Expression::And))
}

/// OR: false operands play no part, and nothing plays one after a true operand.
pub(super) fn or(operands: Vec<Expression>) -> Expression {
    joined(operands, true).unwrap_or_else(|kept| one_or(kept, false, Expression::Or))
}

fn joined(operands: Vec<Expression>, decisive: bool) -> Result<Expression, Vec<Expression>> {
    let mut kept = Vec::with_capacity(operands.len());
    for operand in operands {
        match truth(&operand) {
            Some(truth) if truth == decisive => {
                // An unknown operand before it may raise while PostgreSQL plans.
                if !kept.iter().any(Expression::has_unknown) {
                    return Ok(operand);
                }
                kept.push(operand);
                break;
            }
            Some(_) => {}
            None => kept.push(operand),
        }
    }
    Err(kept)
}

fn one_or(
    mut kept: Vec<Expression>,
    empty: bool,
    join: impl FnOnce(Box<[Expression]>) -> Expression,
) -> Expression {
    match kept.len() {
        0 => Expression::Constant(Some(Datum::Value(Value::Bool(empty)))),
        1 => kept.remove(0),
        _ => join(kept.into()),
    }
}

/// COALESCE: NULLs play no part, and nothing plays one after a constant.
pub(super) fn coalesce(operands: Vec<Expression>) -> Expression {
    let mut kept = Vec::with_capacity(operands.len());
    for operand in operands {
        let is_last = matches!(operand, Expression::Constant(Some(_)));
        if !matches!(operand, Expression::Constant(None)) {
            kept.push(operand);
        }
        if is_last {
            break;
        }
    }
    match kept.len() {
        0 => Expression::Constant(None),
        1 => kept.remove(0),
        _ => Expression::Coalesce(kept.into()),
    }
}

/// CASE without an operand: branches that are never taken play no part.
pub(super) fn case(branches: Vec<(Expression, Expression)>, otherwise: Expression) -> Expression {
    let mut kept = Vec::with_capacity(branches.len());
    let mut otherwise = otherwise;
    for (when, then) in branches {
        match (truth(&when), &when) {
            (Some(true), _) => {
                otherwise = then;
                break;
            }
            (Some(false), _) | (None, Expression::Constant(None)) => {}
            (None, _) => kept.push((when, then)),
        }
    }
    if kept.is_empty() {
        return otherwise;
    }
    Expression::Case { operand: None, branches: kept.into(), otherwise: Box::new(otherwise) }
}

fn truth(expression: &Expression) -> Option<bool> {
    let Expression::Constant(Some(Datum::Value(Value::Bool(truth)))) = expression else {
        return None;
    };
    Some(*truth)
}
