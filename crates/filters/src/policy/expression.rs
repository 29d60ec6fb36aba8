//! The compiled form of an expression.

use std::sync::Arc;

use walcast_change::{Collation, PgType, TypeId};

use super::shape::{Datum, JsonForm, Shape};
use crate::{
    like::{Case, LikePattern},
    value::Kind,
};

/// An expression over a row and an audience, in three-valued logic.
#[derive(Debug, PartialEq)]
pub(super) enum Expression {
    /// A value, or NULL.
    Constant(Option<Datum<'static>>),
    Column(Column),
    /// `current_setting('request.jwt.claims', true)`
    ClaimsText,
    /// The claims as JSON; `nullif(…, '')` may stand around their text.
    Claims {
        form: JsonForm,
        empty_is_null: bool,
    },
    /// `current_setting('request.jwt.claim.…', true)`: NULL or an empty text.
    AbsentSetting,
    /// `realtime.topic()`: the topic of the channel that is asked about; NULL where it is empty.
    Topic,
    CurrentUser,
    /// What a CASE with an operand compares.
    CaseOperand,
    And(Box<[Self]>),
    Or(Box<[Self]>),
    Not(Box<Self>),
    IsNull {
        operand: Box<Self>,
        is_negated: bool,
    },
    /// IS TRUE, IS FALSE, IS UNKNOWN.
    IsTruth {
        operand: Box<Self>,
        expected: Option<bool>,
        is_negated: bool,
    },
    Compare(Comparison, Box<[Self; 2]>),
    IsDistinct(Comparison, Box<[Self; 2]>),
    NullIf(Comparison, Box<[Self; 2]>),
    /// `scalar op ANY (array)`, or ALL.
    Any {
        comparison: Comparison,
        /// The scalar and the array.
        operands: Box<[Self; 2]>,
        is_all: bool,
    },
    Array(Box<[Self]>),
    Coalesce(Box<[Self]>),
    Case {
        operand: Option<Box<Self>>,
        branches: Box<[(Self, Self)]>,
        otherwise: Box<Self>,
    },
    /// A function that is NULL when an argument is.
    Apply(Function, Box<[Self]>),
    /// Only PostgreSQL can evaluate it, over these.
    Unknown(Box<[Self]>),
}

/// A column of the table that has the policies.
#[derive(Debug, PartialEq)]
pub(super) struct Column {
    pub(super) name: Box<str>,
    /// Where it is in that table: looked at first.
    pub(super) position: usize,
    /// The declared type.
    pub(super) type_id: TypeId,
    pub(super) shape: Shape,
    /// Whether the declared type is a domain.
    pub(super) is_domain: bool,
}

/// How two values are compared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparison {
    pub(super) relation: Relation,
    pub(super) kind: ComparedKind,
    pub(super) collation: Collation,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ComparedKind {
    Scalar(Kind),
    Enum(Arc<PgType>),
    Jsonb,
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A function, operator or cast that is strict.
#[derive(Debug, PartialEq)]
pub(super) enum Function {
    /// The value as it is; the type differs.
    Same,
    /// Blanks at the end are no part of the value.
    TrimEnd,
    /// A text read as a value of a type.
    Read(Shape),
    /// A value printed as text.
    Print,
    /// An integer as one of this kind.
    Integer(Kind),
    /// An integer of 32 bits as an oid.
    IntegerToOid,
    IntegerToNumeric,
    IntegerToFloat,
    NumericToFloat,
    IntegerToBool,
    BoolToInteger,
    BoolToText,
    JsonbToBool,
    JsonbToInteger(Kind),
    Lower(Collation),
    Upper(Collation),
    Length,
    Concatenate,
    StartsWith,
    Like {
        /// The pattern, when it is constant.
        pattern: Option<LikePattern>,
        case: Case,
        is_negated: bool,
    },
    Arithmetic(Arithmetic, Kind),
    Negate(Kind),
    /// `->`, `->>` with a name.
    JsonMember(JsonResult),
    /// `->`, `->>` with a position.
    JsonElement(JsonResult),
    /// `#>`, `#>>`
    JsonPath(JsonResult),
    /// `@>`
    JsonContains,
    /// `<@`
    JsonContained,
    /// `?`
    JsonHasKey,
    /// `?|`
    JsonHasAnyKey,
    /// `?&`
    JsonHasAllKeys,
}

/// What an operator takes out of JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum JsonResult {
    Json,
    Text,
}

/// An operator on integers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Expression {
    /// Calls `visit` with the expressions directly below, in order, until it is false.
    pub(super) fn each_child<'e>(&'e self, visit: &mut dyn FnMut(&'e Self) -> bool) -> bool {
        match self {
            Self::Constant(_)
            | Self::Column(_)
            | Self::ClaimsText
            | Self::Claims { .. }
            | Self::AbsentSetting
            | Self::Topic
            | Self::CurrentUser
            | Self::CaseOperand => true,
            Self::Not(operand) | Self::IsNull { operand, .. } | Self::IsTruth { operand, .. } => {
                visit(operand)
            }
            Self::Compare(_, operands)
            | Self::IsDistinct(_, operands)
            | Self::NullIf(_, operands)
            | Self::Any { operands, .. } => operands.iter().all(visit),
            Self::And(operands)
            | Self::Or(operands)
            | Self::Array(operands)
            | Self::Coalesce(operands)
            | Self::Apply(_, operands)
            | Self::Unknown(operands) => operands.iter().all(visit),
            Self::Case { operand, branches, otherwise } => {
                operand.iter().all(|operand| visit(operand))
                    && branches.iter().all(|(when, then)| visit(when) && visit(then))
                    && visit(otherwise)
            }
        }
    }

    /// Whether this or anything below is such an expression.
    pub(super) fn has(&self, is_wanted: &impl Fn(&Self) -> bool) -> bool {
        is_wanted(self) || !self.each_child(&mut |child| !child.has(is_wanted))
    }

    /// Whether PostgreSQL must be asked about a part of it.
    pub(super) fn has_unknown(&self) -> bool {
        self.has(&|part| matches!(part, Self::Unknown(_)))
    }

    /// Whether it reads a column.
    pub(super) fn has_column(&self) -> bool {
        self.has(&|part| matches!(part, Self::Column(_)))
    }
}

impl Comparison {
    /// `=` on texts whose collation does not matter.
    pub(super) fn text() -> Self {
        let kind = ComparedKind::Scalar(Kind::Text);
        Self { relation: Relation::Equal, kind, collation: Collation::Locale }
    }
}
