//! Arrays, and values of one type as those of another.

use walcast_change::TypeId;

use super::{Compilation, Compiled, ELEMENTS_MAX, Obstacle, Typed, UNFAMILIAR};
use crate::{
    policy::{
        NotDecided,
        expression::{Expression, Function},
        fold,
        shape::{Datum, JsonForm, Shape},
        tree::Node,
    },
    value::{Kind, Value},
};

impl Compilation<'_> {
    pub(super) fn array(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        if node.truth("multidims") != Some(false) {
            return Err(NotDecided::Construct("an array of arrays".into()).into());
        }
        let id: u32 = node.number("array_typeid").ok_or(UNFAMILIAR)?;
        let shape = Shape::of(TypeId(id), &self.table.types);
        let elements = node.nodes("elements").ok_or(UNFAMILIAR)?;
        let Shape::Array(kind, _) = shape else { return Err(NotDecided::Conversion.into()) };
        if elements.len() > ELEMENTS_MAX {
            return Err(Obstacle::Anything(NotDecided::TooLarge));
        }
        let mut compiled = Vec::with_capacity(elements.len());
        for element in elements {
            let element = self.expression(element, level);
            let fits = match &element.shape {
                Shape::Scalar(found) => *found == kind,
                Shape::Enum(_) => kind == Kind::Enum,
                Shape::Json(_) | Shape::Array(..) | Shape::Other => false,
            };
            if !fits && !element.expression.has_unknown() {
                return Err(NotDecided::Conversion.into());
            }
            compiled.push(element.expression);
        }
        Ok(Typed { expression: Expression::Array(compiled.into()), shape })
    }

    /// A value as one of another type that is stored alike.
    pub(super) fn relabel(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let argument = self.argument(node, "arg", level)?;
        let shape = self.result(node)?;
        let expression = match (&argument.shape, &shape) {
            (Shape::Scalar(Kind::Text), Shape::Scalar(Kind::Bpchar)) => {
                Expression::Apply(Function::TrimEnd, [argument.expression].into())
            }
            (Shape::Scalar(Kind::Int4), Shape::Scalar(Kind::Oid)) => {
                Expression::Apply(Function::IntegerToOid, [argument.expression].into())
            }
            (Shape::Other, _) => return Err(NotDecided::Conversion.into()),
            (from, to) if from == to => argument.expression,
            _ => return Err(NotDecided::Conversion.into()),
        };
        Ok(Typed { expression, shape })
    }

    /// `varchar[]` as `text[]`.
    pub(super) fn relabel_array(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let argument = self.argument(node, "arg", level)?;
        let shape = self.result(node)?;
        let element = node.node("elemexpr").filter(|element| element.name == "RELABELTYPE");
        let is_relabelled = element.and_then(|element| element.node("arg")).map(|node| node.name)
            == Some("CASETESTEXPR");
        let are_texts = |shape: &Shape| matches!(shape, Shape::Array(Kind::Text, _));
        if !is_relabelled || !are_texts(&argument.shape) || !are_texts(&shape) {
            return Err(NotDecided::Conversion.into());
        }
        Ok(Typed { expression: argument.expression, shape })
    }

    /// A cast through the text form.
    pub(super) fn conversion(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let argument = self.argument(node, "arg", level)?;
        let shape = self.result(node)?;
        let id = node.number("resulttype").map(TypeId);
        // The conditions of a domain are PostgreSQL's to check.
        if id.is_none_or(|id| self.table.types.base_of(id) != id) {
            return Err(NotDecided::Conversion.into());
        }
        let function = match (&argument.shape, &shape) {
            (
                Shape::Scalar(Kind::Text),
                Shape::Scalar(Kind::Text | Kind::Name | Kind::Bpchar)
                | Shape::Other
                | Shape::Array(..),
            ) => return Err(NotDecided::Conversion.into()),
            (Shape::Scalar(Kind::Text), Shape::Json(form)) => {
                if let Some(expression) = claims(&argument.expression, *form) {
                    return Ok(Typed { expression, shape });
                }
                Function::Read(shape.clone())
            }
            (Shape::Scalar(Kind::Text), _) => Function::Read(shape.clone()),
            (
                Shape::Scalar(Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Oid | Kind::Uuid)
                | Shape::Enum(_)
                | Shape::Json(JsonForm::Jsonb),
                Shape::Scalar(Kind::Text),
            ) => Function::Print,
            _ => return Err(NotDecided::Conversion.into()),
        };
        let expression = fold::strict([argument.expression], |arguments| {
            Expression::Apply(function, arguments.into())
        });
        Ok(Typed { expression, shape })
    }
}

/// Claims cast to JSON, as the whole document.
fn claims(text: &Expression, form: JsonForm) -> Option<Expression> {
    if matches!(text, Expression::ClaimsText) {
        return Some(Expression::Claims { form, empty_is_null: false });
    }
    let Expression::NullIf(_, operands) = text else { return None };
    match &**operands {
        [Expression::ClaimsText, Expression::Constant(Some(Datum::Value(Value::Text(empty))))]
            if empty.is_empty() =>
        {
            Some(Expression::Claims { form, empty_is_null: true })
        }
        _ => None,
    }
}
