//! Compiles a stored expression: what is known becomes an expression of ours, what is not becomes
//! [`Expression::Unknown`] over its operands, so that the rest keeps its meaning.

mod calls;
mod conversions;
mod logic;

use std::collections::BTreeSet;

use walcast_change::{Collation, Table, TypeId, TypeKind};

use super::{
    FunctionId, NotDecided, constant,
    environment::Environment,
    expression::{Column, Expression},
    fold,
    shape::{Datum, Elements, Shape},
    tree::{Item, Node},
};
use crate::value::{Kind, Value};

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
