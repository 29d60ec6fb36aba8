//! Compiles a stored expression: what is known becomes an expression of ours, what is not becomes
//! [`Expression::Unknown`] over its operands, so that the rest keeps its meaning.

use std::collections::BTreeSet;

use walcast_change::{Collation, Table, TypeId, TypeKind};

use super::{
    FunctionId, NotDecided, constant,
    environment::Environment,
    expression::{Column, ComparedKind, Comparison, Expression, Function, Relation},
    fold, known,
    operators::{self, FUNCTIONS_OF_DEFINITIONS, Operand, Operation},
    shape::{Datum, Elements, JsonForm, Shape},
    tree::{Item, Node},
};
use crate::{
    like::LikePattern,
    value::{Kind, Value},
};

/// Most nodes of an expression. Evaluating takes tens of ns for each.
const NODES_MAX: usize = 10_000;
/// Most elements of a list.
const ELEMENTS_MAX: usize = constant::ELEMENTS_MAX;

/// The fields in which nodes keep the type of their result.
const RESULT_TYPES: [&str; 8] = [
    "opresulttype",
    "funcresulttype",
    "resulttype",
    "casetype",
    "coalescetype",
    "array_typeid",
    "vartype",
    "consttype",
];

/// An expression with the type that the tree gives it.
pub(super) struct Typed {
    pub(super) expression: Expression,
    pub(super) shape: Shape,
}

/// Compiles the nodes of one policy.
pub(super) struct Compilation<'c> {
    table: &'c Table,
    environment: &'c Environment,
    n_nodes: usize,
    /// Why the first unknown part is unknown.
    pub(super) reason: Option<NotDecided>,
    /// Whether an unknown part may read any claim.
    pub(super) reads_any_claim: bool,
    /// The functions that the role must be allowed to run.
    pub(super) calls: BTreeSet<FunctionId>,
}

/// Why a node is not compiled.
enum Obstacle {
    Reason(NotDecided),
    /// The same, and the node may read any claim.
    Anything(NotDecided),
}

impl From<NotDecided> for Obstacle {
    fn from(reason: NotDecided) -> Self {
        Self::Reason(reason)
    }
}

type Compiled = Result<Typed, Obstacle>;

const UNFAMILIAR: Obstacle = Obstacle::Anything(NotDecided::Unfamiliar);

impl<'c> Compilation<'c> {
    pub(super) fn new(table: &'c Table, environment: &'c Environment) -> Self {
        Self {
            table,
            environment,
            n_nodes: 0,
            reason: None,
            reads_any_claim: false,
            calls: BTreeSet::new(),
        }
    }

    /// Compiles an expression at a level of subqueries.
    pub(super) fn expression(&mut self, node: &Node<'_>, level: u32) -> Typed {
        self.n_nodes += 1;
        let compiled = if self.n_nodes > NODES_MAX {
            Err(Obstacle::Anything(NotDecided::TooLarge))
        } else {
            self.known(node, level)
        };
        let compiled = compiled.and_then(|typed| match fold::constant(typed.expression) {
            Ok(expression) => Ok(Typed { expression, ..typed }),
            // PostgreSQL evaluates it while planning, whether or not it is needed.
            Err(()) => Err(NotDecided::MayRaise.into()),
        });
        match compiled {
            Ok(typed) => typed,
            Err(obstacle) => self.unknown(node, level, obstacle),
        }
    }

    fn unknown(&mut self, node: &Node<'_>, level: u32, obstacle: Obstacle) -> Typed {
        let (reason, parts) = match obstacle {
            Obstacle::Anything(reason) => {
                self.reads_any_claim = true;
                (reason, Vec::new())
            }
            Obstacle::Reason(reason) => (reason, node.children()),
        };
        let outer = self.reason.take();
        let parts: Box<[Expression]> =
            parts.into_iter().map(|part| self.expression(part, level).expression).collect();
        // What was met first names the reason; of one within another, the inner one.
        self.reason = outer.or(self.reason.take()).or(Some(reason));
        let result_type = RESULT_TYPES.into_iter().find_map(|field| node.number(field));
        let shape = match result_type {
            Some(id) => Shape::of(TypeId(id), &self.table.types),
            // What has no such field is a test, but for a subquery, of which nothing is known.
            None => Shape::Scalar(Kind::Bool),
        };
        Typed { expression: Expression::Unknown(parts), shape }
    }

    fn known(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        match node.name {
            "VAR" => self.column(node, level),
            "CONST" => self.constant(node),
            "OPEXPR" => self.operator(node, level),
            "FUNCEXPR" => self.call(node, level),
            "BOOLEXPR" => self.boolean(node, level),
            "NULLTEST" => self.null_test(node, level),
            "BOOLEANTEST" => self.boolean_test(node, level),
            "DISTINCTEXPR" | "NULLIFEXPR" => self.distinct(node, level),
            "SCALARARRAYOPEXPR" => self.any(node, level),
            "ARRAY" | "ARRAYEXPR" => self.array(node, level),
            "RELABELTYPE" => self.relabel(node, level),
            "ARRAYCOERCEEXPR" => self.relabel_array(node, level),
            "COERCEVIAIO" => self.conversion(node, level),
            "COALESCE" | "COALESCEEXPR" => self.coalesce(node, level),
            "CASE" | "CASEEXPR" => self.case(node, level),
            "CASETESTEXPR" => {
                let id: u32 = node.number("typeId").ok_or(UNFAMILIAR)?;
                let shape = Shape::of(TypeId(id), &self.table.types);
                Ok(Typed { expression: Expression::CaseOperand, shape })
            }
            "SQLVALUEFUNCTION" => match node.number("op") {
                // CURRENT_ROLE, CURRENT_USER, USER
                Some(9..=11) => Ok(current_user()),
                _ => {
                    Err(NotDecided::Construct("a value of the session or the clock".into()).into())
                }
            },
            "SUBLINK" => self.subquery(node, level),
            _ => {
                let name = node.name.to_ascii_lowercase();
                Err(Obstacle::Anything(NotDecided::Construct(name.into())))
            }
        }
    }

    fn column(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let number: i16 = node.number("varattno").ok_or(UNFAMILIAR)?;
        let type_id: u32 = node.number("vartype").ok_or(UNFAMILIAR)?;
        if node.number("varno") != Some(1)
            || node.number("varlevelsup") != Some(level)
            || node.number("varreturningtype").unwrap_or(0) != 0
        {
            return Err(UNFAMILIAR);
        }
        if number == 0 {
            return Err(NotDecided::WholeRow.into());
        }
        let found = self.table.columns.iter().enumerate().find(|(_, known)| known.number == number);
        let Some((position, column)) = found.filter(|(_, known)| known.data_type.id.0 == type_id)
        else {
            return Err(NotDecided::Column.into());
        };
        let shape = Shape::of(column.data_type.id, &self.table.types);
        let expression = Expression::Column(Column {
            name: column.name.clone(),
            position,
            type_id: column.data_type.id,
            shape: shape.clone(),
            is_domain: matches!(column.data_type.kind, TypeKind::Domain { .. }),
        });
        Ok(Typed { expression, shape })
    }

    fn constant(&mut self, node: &Node<'_>) -> Compiled {
        let id: u32 = node.number("consttype").ok_or(UNFAMILIAR)?;
        let shape = Shape::of(TypeId(id), &self.table.types);
        if node.truth("constisnull").ok_or(UNFAMILIAR)? {
            return Ok(Typed { expression: Expression::Constant(None), shape });
        }
        let Some(Item::Bytes(bytes)) = node.field("constvalue") else { return Err(UNFAMILIAR) };
        let label =
            |oid: u32| self.environment.enum_labels.get(&oid).map(|label| label.to_string());
        let value = match &shape {
            Shape::Enum(_) => constant::unsigned(bytes).and_then(label).map(Datum::text),
            Shape::Array(Kind::Enum, delimiter) => {
                match constant::read(&Shape::Array(Kind::Oid, *delimiter), bytes) {
                    Some(Datum::Array(elements)) => {
                        let labels = elements.as_slice().iter().map(|element| match element {
                            Some(Value::Integer(oid)) => {
                                let label = u32::try_from(*oid).ok().and_then(label)?;
                                Some(Some(Value::Text(label.into())))
                            }
                            Some(_) => None,
                            None => Some(None),
                        });
                        labels
                            .collect::<Option<Vec<_>>>()
                            .map(|labels| Datum::Array(Elements::Owned(labels)))
                    }
                    _ => None,
                }
            }
            Shape::Scalar(_) | Shape::Json(_) | Shape::Array(..) | Shape::Other => {
                constant::read(&shape, bytes)
            }
        };
        let value = value.ok_or(NotDecided::Constant)?;
        Ok(Typed { expression: Expression::Constant(Some(value)), shape })
    }

    fn operator(&mut self, node: &Node<'_>, level: u32) -> Compiled {
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
    fn operation(&self, node: &Node<'_>) -> Result<(Operation, Vec<Operand>), Obstacle> {
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

    fn unfit(&self, node: &Node<'_>) -> Obstacle {
        match self.reason {
            // An operand is unknown, and why is known already.
            Some(ref reason) => Obstacle::Reason(reason.clone()),
            None => {
                let id = node.number("opno").unwrap_or(0);
                Obstacle::Reason(NotDecided::Operator(self.environment.operator_name(id)))
            }
        }
    }

    fn comparison(
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
            (Operand::AnyEnum, Some(pg_type)) => ComparedKind::Enum(std::sync::Arc::clone(pg_type)),
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

    fn call(&mut self, node: &Node<'_>, level: u32) -> Compiled {
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

    fn boolean(&mut self, node: &Node<'_>, level: u32) -> Compiled {
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

    fn null_test(&mut self, node: &Node<'_>, level: u32) -> Compiled {
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

    fn boolean_test(&mut self, node: &Node<'_>, level: u32) -> Compiled {
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
    fn distinct(&mut self, node: &Node<'_>, level: u32) -> Compiled {
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

    fn any(&mut self, node: &Node<'_>, level: u32) -> Compiled {
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

    fn array(&mut self, node: &Node<'_>, level: u32) -> Compiled {
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
    fn relabel(&mut self, node: &Node<'_>, level: u32) -> Compiled {
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
    fn relabel_array(&mut self, node: &Node<'_>, level: u32) -> Compiled {
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
    fn conversion(&mut self, node: &Node<'_>, level: u32) -> Compiled {
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

    fn coalesce(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        let id: u32 = node.number("coalescetype").ok_or(UNFAMILIAR)?;
        let shape = Shape::of(TypeId(id), &self.table.types);
        let mut operands = Vec::new();
        for argument in self.arguments(node, level)? {
            self.refuse_other(&argument, &shape)?;
            operands.push(argument.expression);
        }
        Ok(Typed { expression: fold::coalesce(operands), shape })
    }

    fn case(&mut self, node: &Node<'_>, level: u32) -> Compiled {
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

    /// `(select expression)`, which is the expression.
    fn subquery(&mut self, node: &Node<'_>, level: u32) -> Compiled {
        /// `EXPR_SUBLINK`
        const EXPRESSION: u32 = 4;
        let inner = node.node("subselect").filter(|_| {
            node.number("subLinkType") == Some(EXPRESSION)
                && node.field("testexpr") == Some(&Item::Nothing)
        });
        let inner = inner.and_then(bare_target).ok_or(Obstacle::Anything(NotDecided::Subquery))?;
        Ok(self.expression(inner, level + 1))
    }

    fn arguments(&mut self, node: &Node<'_>, level: u32) -> Result<Vec<Typed>, Obstacle> {
        let arguments = node.nodes("args").ok_or(UNFAMILIAR)?;
        Ok(arguments.into_iter().map(|argument| self.expression(argument, level)).collect())
    }

    fn argument(&mut self, node: &Node<'_>, field: &str, level: u32) -> Compiled {
        let argument = node.node(field).ok_or(UNFAMILIAR)?;
        Ok(self.expression(argument, level))
    }

    fn truth(&self, typed: Typed) -> Result<Expression, Obstacle> {
        self.refuse_other(&typed, &Shape::Scalar(Kind::Bool))?;
        Ok(typed.expression)
    }

    /// Refuses an expression of another shape than a known one must have.
    fn refuse_other(&self, typed: &Typed, shape: &Shape) -> Result<(), Obstacle> {
        if typed.shape == *shape || typed.expression.has_unknown() {
            return Ok(());
        }
        Err(NotDecided::Conversion.into())
    }

    fn result(&self, node: &Node<'_>) -> Result<Shape, Obstacle> {
        let id: u32 = node.number("resulttype").ok_or(UNFAMILIAR)?;
        Ok(Shape::of(TypeId(id), &self.table.types))
    }

    fn collation(&self, node: &Node<'_>, field: &str) -> Result<Collation, Obstacle> {
        let id: u32 = node.number(field).ok_or(UNFAMILIAR)?;
        Ok(self.environment.collation(id))
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

/// The one target of a query that has nothing else.
fn bare_target<'n, 't>(query: &'n Node<'t>) -> Option<&'n Node<'t>> {
    if query.name != "QUERY" || query.number("commandType") != Some(1) {
        return None;
    }
    for (name, item) in &query.fields {
        let is_bare = match *name {
            "commandType" | "canSetTag" | "hasSubLinks" | "targetList" | "stmt_location"
            | "stmt_len" | "queryId" => true,
            "jointree" => match item {
                Item::Node(from) => from.fields.iter().all(|(_, item)| *item == Item::Nothing),
                Item::Nothing | Item::Word(_) | Item::List(_) | Item::Bytes(_) => false,
            },
            _ => matches!(item, Item::Nothing | Item::Word("false" | "0")),
        };
        if !is_bare {
            return None;
        }
    }
    let targets = query.nodes("targetList")?;
    let [target] = &*targets else { return None };
    if target.name != "TARGETENTRY" || target.truth("resjunk") != Some(false) {
        return None;
    }
    target.node("expr")
}

fn boolean(expression: Expression) -> Typed {
    Typed { expression, shape: Shape::Scalar(Kind::Bool) }
}

fn current_user() -> Typed {
    Typed { expression: Expression::CurrentUser, shape: Shape::Scalar(Kind::Name) }
}

fn pair(arguments: Vec<Typed>) -> Result<[Expression; 2], Obstacle> {
    let arguments: Vec<Expression> =
        arguments.into_iter().map(|argument| argument.expression).collect();
    arguments.try_into().map_err(|_| UNFAMILIAR)
}
