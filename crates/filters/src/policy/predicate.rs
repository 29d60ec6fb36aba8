//! A policy's expression, compiled; and the compiler, which does not compile twice.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use walcast_change::Table;

use super::{
    ClaimsRead, FunctionId, Membership, NotDecided,
    claims_read::claims_read,
    compile::Compilation,
    environment::Environment,
    evaluate::{Outcome, Scope, Stop},
    expression::{Expression, Function},
    membership,
    shape::{Datum, Shape},
    tree,
};
use crate::value::{Kind, Value};

/// An expression that is evaluated in process.
///
/// Two are equal when they were compiled from the same, and so decide alike.
pub struct Predicate {
    source: Arc<Source>,
    environment: Arc<Environment>,
    pub(super) expression: Expression,
    /// The functions that a role must be allowed to run.
    pub(super) calls: BTreeSet<FunctionId>,
    /// Whether PostgreSQL may pass over a part of it that raises for some claims.
    pub(super) has_risk: bool,
    /// Whether a row that passes has had every part evaluated.
    pub(super) is_straight: bool,
}

/// What became of a policy's expression.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compiled {
    /// The expression, or why PostgreSQL must be asked.
    pub decision: Result<Arc<Predicate>, NotDecided>,
    /// Of an expression that is not decided what is known of it, which can still say no.
    pub partial: Option<Arc<Predicate>>,
    /// What it reads of the claims.
    pub claims_read: ClaimsRead,
    /// The question for members that it amounts to, if it is one.
    pub membership: Option<Arc<Membership>>,
}

/// Compiles the policies of a catalogue, and keeps what the catalogue before had compiled.
#[derive(Debug, Default)]
pub struct Compiler {
    environment: Arc<Environment>,
    compiled: HashMap<Arc<Source>, Compiled>,
    previous: HashMap<Arc<Source>, Compiled>,
}

/// All that the meaning of an expression depends on within one environment.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Source {
    tree: Box<str>,
    columns: Box<[SourceColumn]>,
}

/// Number, name, declared type, type below all domains.
type SourceColumn = (i16, Box<str>, u32, u32);

impl Compiler {
    /// A compiler for a database; what `previous` had compiled is taken over if nothing changed.
    #[must_use]
    pub fn new(environment: Environment, previous: &Self) -> Self {
        if environment == *previous.environment {
            let environment = Arc::clone(&previous.environment);
            let known = previous.compiled.clone();
            return Self { environment, compiled: HashMap::new(), previous: known };
        }
        Self { environment: Arc::new(environment), ..Self::default() }
    }

    /// Compiles the stored form (`pg_policy.polqual::text`) of a policy on `table`.
    pub fn compile(&mut self, tree: &str, table: &Table) -> Compiled {
        let columns = table.columns.iter().map(|column| {
            let types = (column.data_type.id.0, column.base_type.id.0);
            (column.number, column.name.clone(), types.0, types.1)
        });
        let source = Source { tree: tree.into(), columns: columns.collect() };
        if let Some(compiled) = self.compiled.get(&source) {
            return compiled.clone();
        }
        let (source, compiled) = self.previous.remove_entry(&source).unwrap_or_else(|| {
            let source = Arc::new(source);
            let compiled = compile(&source, table, &self.environment);
            (source, compiled)
        });
        self.compiled.insert(source, compiled.clone());
        compiled
    }

    /// Forgets what was compiled before and is not used any more.
    #[must_use]
    pub fn finish(self) -> Self {
        Self { previous: HashMap::new(), ..self }
    }
}

/// Compiles one expression.
fn compile(source: &Arc<Source>, table: &Table, environment: &Arc<Environment>) -> Compiled {
    let tree = &*source.tree;
    let refused = |reason| Compiled {
        decision: Err(reason),
        partial: None,
        claims_read: ClaimsRead::Everything,
        membership: None,
    };
    if !environment.has_known_layout {
        return refused(NotDecided::Server);
    }
    if tree.len() > tree::BYTES_MAX {
        return refused(NotDecided::TooLarge);
    }
    let Some(root) = tree::read(tree) else { return refused(NotDecided::Unfamiliar) };
    let mut compilation = Compilation::new(table, environment);
    let typed = compilation.expression(&root, 0);
    let Compilation { reason, reads_any_claim, calls, .. } = compilation;
    let claims_read =
        if reads_any_claim { ClaimsRead::Everything } else { claims_read(&typed.expression) };
    let is_unknown = typed.expression.has_unknown();
    if !is_unknown && typed.shape != Shape::Scalar(Kind::Bool) {
        return refused(NotDecided::Unfamiliar);
    }
    let predicate = Arc::new(Predicate {
        source: Arc::clone(source),
        environment: Arc::clone(environment),
        has_risk: typed.expression.has(&|part| part.is_risk()),
        is_straight: !typed.expression.has(&|part| {
            matches!(part, Expression::Or(_) | Expression::Coalesce(_) | Expression::Case { .. })
        }),
        expression: typed.expression,
        calls,
    });
    if is_unknown {
        let reason = reason.unwrap_or(NotDecided::Unfamiliar);
        let membership = membership::of_tree(&root, table, environment).map(Arc::new);
        return Compiled {
            decision: Err(reason),
            partial: Some(predicate),
            claims_read,
            membership,
        };
    }
    Compiled { decision: Ok(predicate), partial: None, claims_read, membership: None }
}

impl Predicate {
    pub(super) fn outcome(&self, scope: &Scope<'_>) -> Outcome {
        self.expression.outcome(scope)
    }

    /// What it always is, where PostgreSQL's planner finds out, too; NULL counts as false.
    pub(super) fn constant(&self) -> Option<bool> {
        let Expression::Constant(value) = &self.expression else { return None };
        Some(matches!(value, Some(Datum::Value(Value::Bool(true)))))
    }

    /// Whether no part raises, in whatever order PostgreSQL evaluates them.
    pub(super) fn is_calm(&self, scope: &Scope<'_>) -> bool {
        self.expression.is_calm(scope)
    }

    /// Whether none of the parts that read no column raises.
    ///
    /// PostgreSQL may evaluate such a part while it plans a query, needed or not.
    pub(super) fn is_safe(&self, scope: &Scope<'_>) -> bool {
        !self.has_risk || self.expression.is_safe(scope).is_ok()
    }
}

impl Expression {
    /// Whether it is a function that may raise for some claims.
    fn is_risk(&self) -> bool {
        self.may_raise() && !self.has_column()
    }

    /// Whether it is a function that raises for some values.
    fn may_raise(&self) -> bool {
        let Self::Apply(function, _) = self else { return matches!(self, Self::Claims { .. }) };
        match function {
            Function::Read(_)
            | Function::Integer(_)
            | Function::JsonbToBool
            | Function::JsonbToInteger(_)
            | Function::Like { .. }
            | Function::Arithmetic(..)
            | Function::Negate(_) => true,
            Function::Same
            | Function::TrimEnd
            | Function::Print
            | Function::IntegerToOid
            | Function::IntegerToNumeric
            | Function::IntegerToFloat
            | Function::NumericToFloat
            | Function::IntegerToBool
            | Function::BoolToInteger
            | Function::BoolToText
            | Function::Lower(_)
            | Function::Upper(_)
            | Function::Length
            | Function::Concatenate
            | Function::StartsWith
            | Function::JsonMember(_)
            | Function::JsonElement(_)
            | Function::JsonPath(_)
            | Function::JsonContains
            | Function::JsonContained
            | Function::JsonHasKey
            | Function::JsonHasAnyKey
            | Function::JsonHasAllKeys => false,
        }
    }

    /// Whether no part raises, in whatever order they are evaluated.
    fn is_calm(&self, scope: &Scope<'_>) -> bool {
        (!self.may_raise() || self.evaluate(scope).is_ok())
            && self.each_child(&mut |child| child.is_calm(scope))
    }

    fn is_safe(&self, scope: &Scope<'_>) -> Result<(), Stop> {
        if let (Self::Claims { empty_is_null, .. }, Some(audience)) = (self, scope.audience) {
            let is_null = *empty_is_null && audience.claims.as_str().is_empty();
            let is_safe = is_null || audience.claims.is_certain();
            return if is_safe { Ok(()) } else { Err(Stop::Undecided) };
        }
        if self.is_risk() {
            return self.evaluate(scope).map(|_| ());
        }
        let mut outcome = Ok(());
        self.each_child(&mut |child| {
            outcome = child.is_safe(scope);
            outcome.is_ok()
        });
        outcome
    }
}

impl PartialEq for Predicate {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.environment == other.environment
    }
}

impl Eq for Predicate {}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.expression)
    }
}
