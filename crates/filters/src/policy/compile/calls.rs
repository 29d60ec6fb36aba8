//! Operators and functions.

use std::sync::Arc;

use walcast_change::{Collation, TypeId};

use super::{Compilation, Compiled, Obstacle, Typed, UNFAMILIAR, boolean, current_user, pair};
use crate::{
    like::LikePattern,
    policy::{
        FunctionId, NotDecided,
        expression::{ComparedKind, Comparison, Expression, Function, Relation},
        fold, known,
        operators::{self, FUNCTIONS_OF_DEFINITIONS, Operand, Operation},
        shape::{Datum, JsonForm, Shape},
        tree::{Item, Node},
    },
    value::{Kind, Value},
};

impl Compilation<'_> {
    pub(super) fn operator(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let (operation, operands) = self.operation(node)?;
        let arguments = self.arguments(node, level)?;
        let fits = arguments.len() == operands.len()
            && arguments
                .iter()
                .zip(&operands)
                .all(|(argument, operand)| operand.accepts(&argument.shape));
        if !fits {
            return Err(self.unfit(node));
        }
        match operation {
            Operation::Compare(relation) => {
                let comparison = self.comparison(node, relation, &operands, &arguments)?;
                let [left, right] = pair(arguments)?;
                Ok(boolean(fold::strict([left, right], |pair| {
                    Expression::Compare(comparison, Box::new(pair))
                })))
            }
            Operation::Apply(function) => self.apply(node, function, arguments, "opresulttype"),
        }
    }

    /// The operator of a node; the function behind it must be one that everybody may run.
    pub(super) fn operation(&self, node: &Node<'_>) -> Result<(Operation, Vec<Operand>), Obstacle> {
        let id: u32 = node.number("opno").ok_or(UNFAMILIAR)?;
        let function = FunctionId(node.number("opfuncid").ok_or(UNFAMILIAR)?);
        let collation = self.collation(node, "inputcollid")?;
        if self.environment.revoked.contains(&function) {
            return Err(NotDecided::Revoked.into());
        }
        operators::operator(id, collation).ok_or_else(|| {
            let reason = NotDecided::Operator(self.environment.operator_name(id));
            self.unknown_function(function, reason)
        })
    }

    /// A function that is not evaluated here: one that is immutable reads no setting.
    fn unknown_function(&self, id: FunctionId, reason: NotDecided) -> Obstacle {
        /// Built-in ones that read the clock, and nothing else.
        const CLOCK: [u32; 4] = [1299, 2647, 2648, 2649];
        let facts = self.environment.functions.get(&id);
        let is_built_in = id.0 < 10_000 && facts.is_none_or(|facts| &*facts.schema == "pg_catalog");
        let reads_nothing = CLOCK.contains(&id.0) || facts.is_some_and(|facts| facts.is_immutable);
        if is_built_in && reads_nothing {
            Obstacle::Reason(reason)
        } else {
            Obstacle::Anything(reason)
        }
    }

    pub(super) fn unfit(&self, node: &Node<'_>) -> Obstacle {
        match self.reason {
            // An operand is unknown, and why is known already.
            Some(ref reason) => Obstacle::Reason(reason.clone()),
            None => {
                let id = node.number("opno").unwrap_or(0);
                Obstacle::Reason(NotDecided::Operator(self.environment.operator_name(id)))
            }
        }
    }

    pub(super) fn comparison(
        &self,
        node: &Node<'_>,
        relation: Relation,
        operands: &[Operand],
        arguments: &[Typed],
    ) -> Result<Comparison, Obstacle> {
        let collation = self.collation(node, "inputcollid")?;
        let (Some(left), Some(right)) = (operands.first(), operands.get(1)) else {
            return Err(UNFAMILIAR);
        };
        let enum_type = arguments.iter().find_map(|argument| match &argument.shape {
            Shape::Enum(pg_type) => Some(pg_type),
            Shape::Scalar(_) | Shape::Json(_) | Shape::Array(..) | Shape::Other => None,
        });
        let kind = match (left, enum_type) {
            (Operand::AnyEnum, Some(pg_type)) => ComparedKind::Enum(Arc::clone(pg_type)),
            (Operand::Json(JsonForm::Jsonb), _) => ComparedKind::Jsonb,
            _ => match left.compared_kind(*right) {
                Some(kind) => ComparedKind::Scalar(kind),
                None => return Err(UNFAMILIAR),
            },
        };
        let is_text = matches!(kind, ComparedKind::Scalar(Kind::Text | Kind::Name | Kind::Bpchar));
        let is_equality = matches!(relation, Relation::Equal | Relation::NotEqual);
        let is_decided = match collation {
            Collation::Bytes => true,
            Collation::Locale => is_equality,
            Collation::None | Collation::NonDeterministic => false,
        };
        if is_text && !is_decided {
            return Err(NotDecided::Collation.into());
        }
        Ok(Comparison { relation, kind, collation })
    }

    pub(super) fn call(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let id: u32 = node.number("funcid").ok_or(UNFAMILIAR)?;
        if node.truth("funcretset") != Some(false) {
            return Err(UNFAMILIAR);
        }
        if self.environment.revoked.contains(&FunctionId(id)) {
            return Err(NotDecided::Revoked.into());
        }
        match id {
            // current_setting(text), current_setting(text, boolean)
            2077 | 3294 => return self.setting(node, level),
            745 => return Ok(current_user()),
            _ => {}
        }
        let collation = self.collation(node, "inputcollid")?;
        if let Some((function, operands)) = operators::function(id, collation) {
            let arguments = self.arguments(node, level)?;
            let fits = arguments.len() == operands.len()
                && arguments
                    .iter()
                    .zip(&operands)
                    .all(|(argument, operand)| operand.accepts(&argument.shape));
            if fits {
                return self.apply(node, function, arguments, "funcresulttype");
            }
        } else if let Some(known) = known::meaning(FunctionId(id), self.environment) {
            let is_revoked = |id: &u32| self.environment.revoked.contains(&FunctionId(*id));
            if node.field("args") != Some(&Item::Nothing) {
                return Err(UNFAMILIAR);
            }
            if FUNCTIONS_OF_DEFINITIONS.iter().any(is_revoked) {
                return Err(Obstacle::Anything(NotDecided::Revoked));
            }
            self.calls.extend(known.calls);
            return Ok(Typed { expression: known.expression, shape: known.shape });
        }
        let reason = NotDecided::Calls(self.environment.function_name(FunctionId(id)));
        Err(self.unknown_function(FunctionId(id), reason))
    }

    /// `current_setting(…)`: the claims are set for every question, the settings that older versions
    /// of PostgREST set are not.
    fn setting(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let arguments = self.arguments(node, level)?;
        let unknown =
            || Obstacle::Anything(NotDecided::Calls("pg_catalog.current_setting()".into()));
        let mut arguments = arguments.into_iter().map(|argument| argument.expression);
        let Some(Expression::Constant(Some(Datum::Value(Value::Text(name))))) = arguments.next()
        else {
            return Err(unknown());
        };
        let may_be_missing = match arguments.next() {
            None => false,
            Some(Expression::Constant(Some(Datum::Value(Value::Bool(truth))))) => truth,
            Some(_) => return Err(unknown()),
        };
        let is_legacy = name == "request.jwt.claim" || name.starts_with("request.jwt.claim.");
        let expression = match &*name {
            "request.jwt.claims" => Expression::ClaimsText,
            // Two of them are set there; of the others PostgreSQL does not know that they are constant,
            // and may raise for a part that would play none.
            _ if is_legacy && self.environment.has_channel_settings => return Err(unknown()),
            _ if is_legacy && may_be_missing => {
                if !self.environment.has_no_claim_defaults {
                    return Err(NotDecided::Settings.into());
                }
                Expression::AbsentSetting
            }
            _ => return Err(unknown()),
        };
        Ok(Typed { expression, shape: Shape::Scalar(Kind::Text) })
    }

    fn apply(
        &self,
        node: &Node<'_>,
        mut function: Function,
        arguments: Vec<Typed>,
        result_field: &str,
    ) -> Compiled {
        let result: u32 = node.number(result_field).ok_or(UNFAMILIAR)?;
        let collation = self.collation(node, "inputcollid")?;
        let depends_on_collation = matches!(
            function,
            Function::Lower(_) | Function::Upper(_) | Function::StartsWith | Function::Like { .. }
        );
        if depends_on_collation
            && matches!(collation, Collation::None | Collation::NonDeterministic)
        {
            return Err(NotDecided::Collation.into());
        }
        let arguments: Vec<Expression> =
            arguments.into_iter().map(|argument| argument.expression).collect();
        if let (
            Function::Like { pattern, .. },
            [_, Expression::Constant(Some(Datum::Value(Value::Text(written))))],
        ) = (&mut function, &*arguments)
        {
            // A pattern that ends within an escape raises for the values that get there.
            *pattern = Some(LikePattern::new(written).ok_or(NotDecided::MayRaise)?);
        }
        let shape = Shape::of(TypeId(result), &self.table.types);
        let expression =
            fold::strict(arguments, |arguments| Expression::Apply(function, arguments.into()));
        Ok(Typed { expression, shape })
    }
}
