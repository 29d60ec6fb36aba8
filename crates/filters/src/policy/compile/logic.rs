//! What is put together of truth values: tests, comparisons with several, choices.

use walcast_change::TypeId;

use super::{Compilation, Compiled, Typed, UNFAMILIAR, boolean, pair};
use crate::{
    policy::{
        NotDecided,
        expression::{Expression, Relation},
        fold,
        operators::Operation,
        shape::{Datum, Shape},
        tree::{Item, Node},
    },
    value::Value,
};

impl Compilation<'_> {
    pub(super) fn boolean(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let mut operands = Vec::new();
        for argument in self.arguments(node, level)? {
            operands.push(self.truth(argument)?);
        }
        Ok(boolean(match node.word("boolop") {
            Some("and") => fold::and(operands),
            Some("or") => fold::or(operands),
            Some("not") => {
                let [operand] = <[Expression; 1]>::try_from(operands).map_err(|_| UNFAMILIAR)?;
                Expression::Not(Box::new(operand))
            }
            _ => return Err(UNFAMILIAR),
        }))
    }

    pub(super) fn null_test(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        // Of a row, all columns count.
        if node.truth("argisrow") != Some(false) {
            return Err(NotDecided::Construct("IS NULL of a row".into()).into());
        }
        let is_negated = match node.number("nulltesttype") {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(UNFAMILIAR),
        };
        let operand = Box::new(self.argument(node, "arg", level)?.expression);
        Ok(boolean(Expression::IsNull { operand, is_negated }))
    }

    pub(super) fn boolean_test(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        // IS TRUE, IS NOT TRUE, IS FALSE, IS NOT FALSE, IS UNKNOWN, IS NOT UNKNOWN
        let (expected, is_negated) = match node.number("booltesttype") {
            Some(0) => (Some(true), false),
            Some(1) => (Some(true), true),
            Some(2) => (Some(false), false),
            Some(3) => (Some(false), true),
            Some(4) => (None, false),
            Some(5) => (None, true),
            _ => return Err(UNFAMILIAR),
        };
        let operand = self.argument(node, "arg", level)?;
        let operand = Box::new(self.truth(operand)?);
        Ok(boolean(Expression::IsTruth { operand, expected, is_negated }))
    }

    /// `IS DISTINCT FROM` and `NULLIF`, which stand on the type's `=`.
    pub(super) fn distinct(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let (operation, operands) = self.operation(node)?;
        let arguments = self.arguments(node, level)?;
        let fits = arguments.len() == 2
            && arguments
                .iter()
                .zip(&operands)
                .all(|(argument, operand)| operand.accepts(&argument.shape));
        if !fits {
            return Err(self.unfit(node));
        }
        let Operation::Compare(Relation::Equal) = operation else { return Err(UNFAMILIAR) };
        let comparison = self.comparison(node, Relation::Equal, &operands, &arguments)?;
        let pair = pair(arguments)?;
        if node.name == "DISTINCTEXPR" {
            return Ok(boolean(Expression::IsDistinct(comparison, Box::new(pair))));
        }
        let result: u32 = node.number("opresulttype").ok_or(UNFAMILIAR)?;
        let shape = Shape::of(TypeId(result), &self.table.types);
        let is_empty_text = |expression: &Expression| {
            matches!(expression, Expression::Constant(Some(Datum::Value(Value::Text(text))))
                if text.is_empty())
        };
        let expression = match &pair {
            // NULL or an empty text: NULL in either case.
            [Expression::AbsentSetting, right] if is_empty_text(right) => {
                Expression::Constant(None)
            }
            _ => Expression::NullIf(comparison, Box::new(pair)),
        };
        Ok(Typed { expression, shape })
    }

    pub(super) fn any(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let (operation, operands) = self.operation(node)?;
        let is_all = !node.truth("useOr").ok_or(UNFAMILIAR)?;
        let arguments = self.arguments(node, level)?;
        let (Operation::Compare(relation), [scalar, array], [left, right]) =
            (operation, &*arguments, &*operands)
        else {
            return Err(self.unfit(node));
        };
        if !left.accepts(&scalar.shape) || !right.accepts_elements(&array.shape) {
            return Err(self.unfit(node));
        }
        let comparison = self.comparison(node, relation, &operands, &arguments)?;
        let operands = Box::new(pair(arguments)?);
        Ok(boolean(Expression::Any { comparison, operands, is_all }))
    }

    pub(super) fn coalesce(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let id: u32 = node.number("coalescetype").ok_or(UNFAMILIAR)?;
        let shape = Shape::of(TypeId(id), &self.table.types);
        let mut operands = Vec::new();
        for argument in self.arguments(node, level)? {
            self.refuse_other(&argument, &shape)?;
            operands.push(argument.expression);
        }
        Ok(Typed { expression: fold::coalesce(operands), shape })
    }

    pub(super) fn case(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let id: u32 = node.number("casetype").ok_or(UNFAMILIAR)?;
        let shape = Shape::of(TypeId(id), &self.table.types);
        let operand = if node.field("arg") == Some(&Item::Nothing) {
            None
        } else {
            Some(Box::new(self.argument(node, "arg", level)?.expression))
        };
        let mut branches = Vec::new();
        for branch in node.nodes("args").ok_or(UNFAMILIAR)? {
            if !matches!(branch.name, "WHEN" | "CASEWHEN") {
                return Err(UNFAMILIAR);
            }
            let when = self.argument(branch, "expr", level)?;
            let when = self.truth(when)?;
            let then = self.argument(branch, "result", level)?;
            self.refuse_other(&then, &shape)?;
            branches.push((when, then.expression));
        }
        let otherwise = if node.field("defresult") == Some(&Item::Nothing) {
            Expression::Constant(None)
        } else {
            let otherwise = self.argument(node, "defresult", level)?;
            self.refuse_other(&otherwise, &shape)?;
            otherwise.expression
        };
        let expression = if operand.is_none() {
            fold::case(branches, otherwise)
        } else {
            Expression::Case { operand, branches: branches.into(), otherwise: Box::new(otherwise) }
        };
        Ok(Typed { expression, shape })
    }
}
