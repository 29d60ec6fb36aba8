//! Policies that ask whether somebody is a member:
//!
//! ```sql
//! exists (select from members where members.team = notes.team and members.user_id = auth.uid())
//! team in (select members.team from members where members.user_id = auth.uid())
//! ```
//!
//! Asked as they stand, they cost a question for each subscriber. The other way round it is one
//! question for all: who are the members for this row? That is the same only where nothing in the
//! subquery can raise, and nothing else in it depends on who asks; so it is one plain table without
//! row security, and equalities between its columns, the row's columns, constants and one claim.

use std::{collections::BTreeSet, sync::Arc};

use walcast_change::{Table, TypeId, oid};

use super::{
    FunctionId, Reads,
    apply::uuid,
    compile::Compilation,
    environment::{Environment, RelationFacts},
    evaluate::{Scope, Stop},
    expression::{Expression, Relation},
    operators::{self, Operand, Operation},
    shape::Datum,
    tree::{Item, Node},
};
use crate::{
    claims::Audience,
    type_name::{literal, quoted},
    value::{Kind, Value},
};

/// Members that are asked for of one row; of more, each asker is asked about apart.
pub const MEMBERS_MAX: usize = 1_000;

/// The subquery's table. No table of the user's has that name as an alias.
const MEMBERS: &str = "\"walcast: members\"";

/// A policy that passes for the members whom a subquery lists.
#[derive(Debug, PartialEq)]
pub struct Membership {
    expression: Arc<str>,
    reads: Reads,
    asker: Expression,
    /// The functions that a role must be allowed to run.
    pub(super) calls: BTreeSet<FunctionId>,
}

// The constants in it are read from what PostgreSQL stored: NaN is not equal to itself, and is no
// reason not to share.
impl Eq for Membership {}

/// What somebody is compared with the members by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Member {
    /// This text, in the output form of the members' type.
    Known(Arc<str>),
    /// Nobody: the claim is NULL, or reading it raises.
    Nobody,
    /// Only PostgreSQL can tell.
    Undecided,
}

impl Membership {
    /// An SQL expression over the row: the members as an array of texts, one more than
    /// [`MEMBERS_MAX`] at most; NULL when row security hides some of them.
    #[must_use]
    pub fn expression(&self) -> &Arc<str> {
        &self.expression
    }

    /// What it reads of the row.
    #[must_use]
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// What an audience is compared with the members by.
    #[must_use]
    pub fn member(&self, audience: &Audience) -> Member {
        let scope =
            Scope { image: None, audience: Some(audience), topic: None, case_operand: None };
        match self.asker.evaluate(&scope) {
            Ok(None) | Err(Stop::Raises) => Member::Nobody,
            Ok(Some(Datum::Value(Value::Uuid(bytes)))) => Member::Known(uuid(bytes).into()),
            Ok(Some(Datum::Value(Value::Text(text)))) => Member::Known((*text).into()),
            Ok(Some(Datum::Value(Value::Integer(value)))) => {
                Member::Known(value.to_string().into())
            }
            Ok(Some(_)) | Err(Stop::Undecided) => Member::Undecided,
        }
    }
}

/// Reads a policy's tree as a question for members; `None` when it is anything else.
pub(super) fn of_tree(
    root: &Node<'_>,
    table: &Table,
    environment: &Environment,
) -> Option<Membership> {
    /// `EXISTS_SUBLINK`, `ANY_SUBLINK`
    const EXISTS: u32 = 0;
    const ANY: u32 = 2;
    let query = Query::of(root.node("subselect")?, environment)?;
    let mut reading = Reading::new(table, environment, query.members);
    for equality in &query.equalities {
        reading.add(equality, pair(equality)?.map(|side| (side, 1)))?;
    }
    match (root.name == "SUBLINK").then(|| root.number("subLinkType"))?? {
        EXISTS => {}
        ANY => {
            // The left side stands outside of the subquery, where the row is at level 0.
            let test = root.node("testexpr")?;
            let [left, right] = pair(test)?;
            let is_result = right.name == "PARAM"
                && right.number("paramkind") == Some(2)
                && right.number("paramid") == Some(1);
            if !is_result {
                return None;
            }
            reading.add(test, [(left, 0), (query.target?, 1)])?;
        }
        _ => return None,
    }
    reading.finish(query.includes_children)
}

/// A subquery over one plain table.
struct Query<'n, 't> {
    members: (u32, &'n RelationFacts),
    includes_children: bool,
    equalities: Vec<&'n Node<'t>>,
    target: Option<&'n Node<'t>>,
}

impl<'n, 't> Query<'n, 't> {
    fn of(query: &'n Node<'t>, environment: &'n Environment) -> Option<Self> {
        if query.name != "QUERY" || query.number("commandType") != Some(1) {
            return None;
        }
        let is_plain = query.fields.iter().all(|(name, item)| match *name {
            "commandType" | "canSetTag" | "hasSubLinks" | "targetList" | "stmt_location"
            | "stmt_len" | "queryId" | "rtable" | "rteperminfos" | "jointree"
            | "distinctClause" => true,
            _ => matches!(item, Item::Nothing | Item::Word("false" | "0")),
        });
        let [entry] = query.nodes("rtable")?.try_into().ok()?;
        let is_relation = entry.number("rtekind") == Some(0)
            && matches!(entry.word("relkind"), Some("r" | "p"))
            && entry.field("tablesample") == Some(&Item::Nothing)
            && entry.field("securityQuals") == Some(&Item::Nothing);
        if !is_plain || !is_relation {
            return None;
        }
        let relation = entry.number("relid")?;
        let members = (relation, environment.relations.get(&relation)?);
        let from = query.node("jointree")?;
        let [reference] = from.nodes("fromlist")?.try_into().ok()?;
        if reference.name != "RANGETBLREF" || reference.number("rtindex") != Some(1) {
            return None;
        }
        let mut equalities = Vec::new();
        match from.field("quals")? {
            Item::Nothing => {}
            Item::Node(quals) => conjuncts(quals, &mut equalities)?,
            Item::Word(_) | Item::List(_) | Item::Bytes(_) => return None,
        }
        let target = match query.nodes("targetList")?.as_slice() {
            [target] if target.truth("resjunk") == Some(false) => target.node("expr"),
            _ => None,
        };
        let includes_children = entry.truth("inh")?;
        Some(Self { members, includes_children, equalities, target })
    }
}

/// The operands of AND, at any depth.
fn conjuncts<'n, 't>(node: &'n Node<'t>, all: &mut Vec<&'n Node<'t>>) -> Option<()> {
    if node.name != "BOOLEXPR" {
        all.push(node);
        return Some(());
    }
    if node.word("boolop") != Some("and") {
        return None;
    }
    node.nodes("args")?.into_iter().try_for_each(|operand| conjuncts(operand, all))
}

fn pair<'n, 't>(node: &'n Node<'t>) -> Option<[&'n Node<'t>; 2]> {
    (node.name == "OPEXPR").then(|| node.nodes("args"))??.try_into().ok()
}

/// One side of an equality.
enum Side {
    /// A column of the members' table, as SQL.
    Inner(String, TypeId),
    /// SQL without claims: a column of the row, or a constant.
    Steady(String),
    Claim(Expression),
}

/// Collects the equalities of a subquery.
struct Reading<'c> {
    table: &'c Table,
    environment: &'c Environment,
    members: &'c RelationFacts,
    /// The oid of the members' table.
    relation: u32,
    conditions: Vec<String>,
    reads: Reads,
    calls: BTreeSet<FunctionId>,
    /// The members' column, and what the asker is.
    compared: Option<(String, Expression)>,
}

impl<'c> Reading<'c> {
    fn new(
        table: &'c Table,
        environment: &'c Environment,
        (relation, members): (u32, &'c RelationFacts),
    ) -> Self {
        Self {
            table,
            environment,
            members,
            relation,
            conditions: Vec::new(),
            reads: Reads::default(),
            calls: BTreeSet::new(),
            compared: None,
        }
    }

    /// Adds an equality of two sides, each with the level of subqueries at which it stands.
    fn add<'n, 't>(
        &mut self,
        equality: &'n Node<'t>,
        sides: [(&'n Node<'t>, u32); 2],
    ) -> Option<()> {
        let collation = self.environment.collation(equality.number("inputcollid")?);
        let function = FunctionId(equality.number("opfuncid")?);
        let (operation, operands) = operators::operator(equality.number("opno")?, collation)?;
        let is_equality = matches!(operation, Operation::Compare(Relation::Equal));
        let is_text = operands.contains(&Operand::Scalar(Kind::Text));
        let is_known = operands.iter().all(|operand| {
            matches!(
                operand,
                Operand::Scalar(
                    Kind::Bool | Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Text | Kind::Uuid
                )
            )
        });
        let is_deterministic = !is_text || collation != walcast_change::Collation::NonDeterministic;
        if !is_equality
            || !is_known
            || !is_deterministic
            || self.environment.revoked.contains(&function)
        {
            return None;
        }
        let [left, right] = sides;
        match (self.side(left.0, left.1)?, self.side(right.0, right.1)?) {
            (Side::Inner(column, type_id), Side::Claim(asker))
            | (Side::Claim(asker), Side::Inner(column, type_id)) => {
                let is_printed_alike =
                    [oid::UUID, oid::TEXT, oid::VARCHAR, oid::INT2, oid::INT4, oid::INT8]
                        .contains(&type_id);
                if self.compared.is_some() || !is_printed_alike {
                    return None;
                }
                self.compared = Some((column, asker));
            }
            (Side::Inner(left, _), Side::Inner(right, _) | Side::Steady(right))
            | (Side::Steady(left), Side::Inner(right, _) | Side::Steady(right)) => {
                self.conditions.push(format!("{left} operator(pg_catalog.=) {right}"));
            }
            (Side::Claim(_), _) | (_, Side::Claim(_)) => return None,
        }
        Some(())
    }

    fn side(&mut self, node: &Node<'_>, level: u32) -> Option<Side> {
        // A varchar is compared as text.
        if node.name == "RELABELTYPE" {
            let inner = node.node("arg")?;
            return (inner.name == "VAR" && node.number("resulttype") == Some(oid::TEXT.0))
                .then(|| self.side(inner, level))?;
        }
        if node.name == "VAR" {
            let number: i16 = node.number("varattno")?;
            let varlevelsup: u32 = node.number("varlevelsup")?;
            if node.number("varno") != Some(1) || number <= 0 {
                return None;
            }
            if varlevelsup == level {
                let column = self.table.columns.iter().find(|column| column.number == number)?;
                if matches!(column.data_type.kind, walcast_change::TypeKind::Domain { .. }) {
                    return None;
                }
                self.reads.columns.insert(number);
                let name = quoted(&self.table.name);
                return Some(Side::Steady(format!("{name}.{}", quoted(&column.name))));
            }
            let name =
                (varlevelsup == 0 && level == 1).then(|| self.members.columns.get(&number))??;
            let type_id = TypeId(node.number("vartype")?);
            return Some(Side::Inner(format!("{MEMBERS}.{}", quoted(name)), type_id));
        }
        let mut compilation = Compilation::new(self.table, self.environment);
        let expression = compilation.expression(node, level).expression;
        if expression.has_column() || expression.has_unknown() {
            return None;
        }
        self.calls.extend(compilation.calls);
        let Expression::Constant(constant) = &expression else {
            return Some(Side::Claim(expression));
        };
        let (text, type_name) = match constant.as_ref()? {
            Datum::Value(Value::Integer(value)) => (value.to_string(), "int8"),
            Datum::Value(Value::Text(text)) => (literal(text), "text"),
            Datum::Value(Value::Bool(truth)) => (truth.to_string(), "bool"),
            Datum::Value(Value::Uuid(bytes)) => (literal(&uuid(*bytes)), "uuid"),
            Datum::Value(_) | Datum::Json(_) | Datum::Array(_) | Datum::Opaque => return None,
        };
        Some(Side::Steady(format!("({text})::pg_catalog.{type_name}")))
    }

    fn finish(self, includes_children: bool) -> Option<Membership> {
        let (column, asker) = self.compared?;
        let (schema, name) = (quoted(&self.members.schema), quoted(&self.members.name));
        let only = if includes_children { "" } else { "only " };
        let conditions = if self.conditions.is_empty() {
            "true".to_owned()
        } else {
            self.conditions.join(" and ")
        };
        // Row security that was switched on a moment ago would hide members from everybody.
        let expression = format!(
            "case when not pg_catalog.row_security_active({}::pg_catalog.oid) \
             then array(select distinct {column}::pg_catalog.text from {only}{schema}.{name} \
             as {MEMBERS} where {column} is not null and {conditions} limit {}) end",
            self.relation,
            MEMBERS_MAX + 1
        );
        let expression = expression.into();
        Some(Membership { expression, reads: self.reads, asker, calls: self.calls })
    }
}
