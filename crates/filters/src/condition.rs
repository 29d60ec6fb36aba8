//! One condition, checked against a table: what it asks of a cell, in three-valued logic.

use std::{
    borrow::Cow,
    cmp::Ordering,
    hash::{Hash, Hasher},
    sync::Arc,
};

use walcast_change::{Cell, Collation, Column, ColumnSet, PgType, Row, Table, TypeKind, oid};

use crate::{
    FilterError, Operator, RawCondition, array,
    like::{Case, LikePattern},
    regular_expression::Expression,
    type_name,
    value::{Key, Kind, Reading, Value, insensitive_case},
};

/// Most values of `in`, as in the reference.
pub const MAX_IN_VALUES: usize = 100;

/// A condition whose operand has been read as the column's type.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) column: Box<str>,
    pub(crate) operator: Operator,
    pub(crate) is_negated: bool,
    pub(crate) value: Box<str>,
    pub(crate) data_type: Arc<PgType>,
    pub(crate) base_type: Arc<PgType>,
    pub(crate) kind: Kind,
    /// Its place among the conditions as they were written.
    pub(crate) written: usize,
    /// Where the column was when the condition was checked: looked at first.
    position: usize,
    test: Test,
}

/// What a cell that is not NULL must pass.
#[derive(Debug)]
enum Test {
    /// Only PostgreSQL can tell.
    Ask,
    Compare(Value<'static>),
    In(InValues),
    Null,
    Truth(Option<bool>),
    Like(LikePattern),
    Expression(Box<Expression>),
}

#[derive(Debug)]
struct InValues {
    values: Box<[Value<'static>]>,
    has_null: bool,
    /// Some values are PostgreSQL's to read.
    has_unknown: bool,
    is_empty: bool,
}

/// The result of a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Truth {
    True,
    False,
    Null,
    Undecided,
}

impl Truth {
    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Null | Self::Undecided => self,
        }
    }

    fn of(decision: Option<bool>) -> Self {
        match decision {
            Some(true) => Self::True,
            Some(false) => Self::False,
            None => Self::Undecided,
        }
    }
}

impl Condition {
    pub(crate) fn check(
        raw: &RawCondition,
        written: usize,
        table: &Table,
        selectable: &ColumnSet,
    ) -> Result<Self, FilterError> {
        let found =
            table.columns.iter().enumerate().find(|(_, column)| *column.name == *raw.column);
        let Some((position, column)) = found.filter(|(position, _)| selectable.contains(*position))
        else {
            return Err(FilterError::raised(format!("invalid column for filter {}", raw.column)));
        };
        if raw.value.contains('\0') {
            let message = "invalid byte sequence for encoding \"UTF8\": 0x00";
            return Err(FilterError::new("22021", message));
        }
        let kind = Kind::of(&column.base_type);
        let test = test(raw, column, kind, table)?;
        Ok(Self {
            column: column.name.clone(),
            operator: raw.operator,
            is_negated: raw.is_negated,
            value: raw.value.as_str().into(),
            data_type: Arc::clone(&column.data_type),
            base_type: Arc::clone(&column.base_type),
            kind,
            written,
            position,
            test,
        })
    }

    /// The column in an aligned table.
    pub(crate) fn column_in<'t>(&self, table: &'t Table) -> Option<(usize, &'t Column)> {
        let at_hint = table.columns.get(self.position).filter(|column| column.name == self.column);
        if let Some(column) = at_hint {
            return Some((self.position, column));
        }
        table.columns.iter().enumerate().find(|(_, column)| column.name == self.column)
    }

    /// Decides the condition for a row; `False` when the row lacks the cell.
    pub(crate) fn decide(&self, table: &Table, row: &Row) -> Truth {
        let Some((position, column)) = self.column_in(table) else { return Truth::False };
        let truth = match row.cell(position) {
            // Not even `not.` makes up for a value that is not there.
            Cell::Unchanged => return Truth::False,
            Cell::Null => self.decide_null(),
            Cell::Text(text) if is_shown_as_null(&self.data_type, text) => self.decide_null(),
            // The type was changed since the condition was checked.
            Cell::Text(_) if column.data_type.id != self.data_type.id => Truth::Undecided,
            Cell::Text(text) => self.decide_text(text, column.collation),
        };
        if self.is_negated { truth.not() } else { truth }
    }

    fn decide_null(&self) -> Truth {
        match &self.test {
            Test::Null | Test::Truth(None) => Truth::True,
            Test::Truth(Some(_)) => Truth::False,
            // NULL is not in an empty array, rather than perhaps in it.
            Test::In(values) if values.is_empty => Truth::False,
            Test::Ask if self.operator == Operator::In => Truth::Undecided,
            Test::Ask if self.operator == Operator::Is => Truth::True,
            Test::Compare(_) | Test::Ask if self.operator == Operator::IsDistinct => Truth::True,
            Test::Ask | Test::Compare(_) | Test::In(_) | Test::Like(_) | Test::Expression(_) => {
                Truth::Null
            }
        }
    }

    fn decide_text(&self, text: &str, collation: Collation) -> Truth {
        match &self.test {
            Test::Ask => Truth::Undecided,
            Test::Null => Truth::False,
            Test::Truth(None) => Truth::False,
            Test::Truth(Some(expected)) => match self.kind.read(text) {
                Some(Value::Bool(value)) => Truth::of(Some(value == *expected)),
                _ => Truth::Undecided,
            },
            Test::Compare(operand) => {
                let Some(value) = self.kind.read(text) else { return Truth::Undecided };
                Truth::of(self.compare(&value, operand, collation))
            }
            Test::In(values) => self.decide_in(text, values, collation),
            Test::Like(pattern) => {
                let is_sensitive = self.operator == Operator::Like && self.kind != Kind::Citext;
                let case = if is_sensitive { Case::Sensitive } else { insensitive_case(collation) };
                if self.kind.is_text() && collation == Collation::NonDeterministic {
                    return Truth::Undecided;
                }
                if self.kind != Kind::Bytea {
                    return Truth::of(pattern.matches(text, case));
                }
                match self.kind.read(text) {
                    Some(Value::Text(digits)) => Truth::of(pattern.matches(&digits, case)),
                    _ => Truth::Undecided,
                }
            }
            Test::Expression(expression) => Truth::of(expression.matches(text, collation)),
        }
    }

    fn compare(
        &self,
        value: &Value<'_>,
        operand: &Value<'_>,
        collation: Collation,
    ) -> Option<bool> {
        let equal = || self.kind.equal(value, operand, collation);
        let order = || match (&self.base_type.kind, value, operand) {
            (TypeKind::Enum { labels }, Value::Text(value), Value::Text(operand)) => {
                let place = |label: &str| labels.iter().position(|known| **known == *label);
                Some(place(value)?.cmp(&place(operand)?))
            }
            _ => self.kind.order(value, operand, collation),
        };
        match self.operator {
            Operator::Eq => equal(),
            Operator::Neq | Operator::IsDistinct => equal().map(|is_equal| !is_equal),
            Operator::Lt => order().map(Ordering::is_lt),
            Operator::Lte => order().map(Ordering::is_le),
            Operator::Gt => order().map(Ordering::is_gt),
            Operator::Gte => order().map(Ordering::is_ge),
            Operator::In
            | Operator::Like
            | Operator::Ilike
            | Operator::Is
            | Operator::Match
            | Operator::Imatch => None,
        }
    }

    fn decide_in(&self, text: &str, values: &InValues, collation: Collation) -> Truth {
        if values.is_empty {
            return Truth::False;
        }
        let mut is_undecided = values.has_unknown;
        if !values.values.is_empty() {
            let Some(value) = self.kind.read(text) else { return Truth::Undecided };
            for candidate in &values.values {
                match self.kind.equal(&value, candidate, collation) {
                    Some(true) => return Truth::True,
                    Some(false) => {}
                    None => is_undecided = true,
                }
            }
        }
        match (is_undecided, values.has_null) {
            (true, _) => Truth::Undecided,
            (false, true) => Truth::Null,
            (false, false) => Truth::False,
        }
    }

    /// The keys of which a cell must have one for the condition to be true, if it asks for that.
    pub(crate) fn keys(&self, collation: Collation) -> Option<Vec<Key<'_>>> {
        match (&self.test, self.operator, self.is_negated) {
            (Test::Compare(value), Operator::Eq, false)
            | (Test::Compare(value), Operator::Neq | Operator::IsDistinct, true) => {
                Some(vec![self.kind.key(value.borrowed(), collation)?])
            }
            (Test::In(values), _, false) if !values.has_unknown => {
                let keys = values.values.iter();
                let mut keys: Vec<_> = keys
                    .map(|value| self.kind.key(value.borrowed(), collation))
                    .collect::<Option<_>>()?;
                keys.sort_unstable();
                keys.dedup();
                Some(keys)
            }
            _ => None,
        }
    }

    /// Whether PostgreSQL must say if it accepts the operand.
    pub(crate) fn needs_verification(&self) -> bool {
        let is_domain = matches!(self.data_type.kind, TypeKind::Domain { .. });
        match &self.test {
            Test::Ask => self.operator != Operator::Is,
            Test::Compare(Value::Text(label)) => is_domain || self.lacks_label(label),
            Test::In(values) => {
                is_domain
                    || values.has_unknown
                    || values
                        .values
                        .iter()
                        .any(|value| matches!(value, Value::Text(label) if self.lacks_label(label)))
            }
            Test::Compare(_) => is_domain,
            Test::Expression(_) => true,
            Test::Null | Test::Truth(_) | Test::Like(_) => false,
        }
    }

    /// An enum's label may have been added since the catalogue was read.
    fn lacks_label(&self, label: &str) -> bool {
        matches!(&self.base_type.kind, TypeKind::Enum { labels }
            if !labels.iter().any(|known| **known == *label))
    }

    fn identity(&self) -> (&str, Operator, &str, bool, u32) {
        (&self.column, self.operator, &self.value, self.is_negated, self.data_type.id.0)
    }
}

/// Conditions are equal when they decide alike: the same words about a column of the same type.
impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Condition {}

impl Hash for Condition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// The test of a condition, or why there is none.
fn test(
    raw: &RawCondition,
    column: &Column,
    kind: Kind,
    table: &Table,
) -> Result<Test, FilterError> {
    let type_name = || type_name::display(&column.data_type, table);
    match raw.operator {
        Operator::Is => is_test(&raw.value, kind, column, type_name),
        Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch => {
            pattern_test(raw, kind, type_name)
        }
        Operator::In => {
            refuse_missing_operator(raw.operator, column, table)?;
            in_test(&raw.value, kind, column, table)
        }
        Operator::Eq
        | Operator::Neq
        | Operator::Lt
        | Operator::Lte
        | Operator::Gt
        | Operator::Gte
        | Operator::IsDistinct => {
            refuse_missing_operator(raw.operator, column, table)?;
            let base_name = type_name::display(&column.base_type, table);
            match kind.read_operand(&raw.value, &base_name) {
                Reading::Value(value) => Ok(Test::Compare(value.into_owned())),
                Reading::Invalid(error) => Err(error),
                Reading::Unknown => Ok(Test::Ask),
            }
        }
    }
}

fn is_test(
    value: &str,
    kind: Kind,
    column: &Column,
    type_name: impl Fn() -> String,
) -> Result<Test, FilterError> {
    let expected = match value {
        // A composite value IS NULL when all its fields are.
        "null" if kind == Kind::Composite => return Ok(Test::Ask),
        "null" => return Ok(Test::Null),
        "true" => Some(true),
        "false" => Some(false),
        "unknown" => None,
        _ => {
            let message = "invalid value for is filter: must be null, true, false, or unknown";
            return Err(FilterError::raised(message));
        }
    };
    if Kind::of(&column.base_type) != Kind::Bool {
        let message = format!("is {value} filter requires a boolean column, got {}", type_name());
        return Err(FilterError::raised(message));
    }
    Ok(Test::Truth(expected))
}

fn pattern_test(
    raw: &RawCondition,
    kind: Kind,
    type_name: impl Fn() -> String,
) -> Result<Test, FilterError> {
    let operator = raw.operator;
    let is_like = matches!(operator, Operator::Like | Operator::Ilike);
    let has_operator = kind.is_text() || (kind == Kind::Bytea && is_like);
    if !has_operator {
        let message = format!(
            "operator {operator} requires a text-compatible column type, got {}",
            type_name()
        );
        return Err(FilterError::raised(message));
    }
    if kind == Kind::Bytea && operator == Operator::Ilike {
        return Err(FilterError::no_operator("bytea", "~~*", "bytea"));
    }
    if is_like {
        let mut operand = Cow::Borrowed(raw.value.as_str());
        if kind == Kind::Bytea {
            match kind.read_operand(&raw.value, "bytea") {
                Reading::Value(Value::Text(digits)) => operand = digits,
                Reading::Value(_) | Reading::Invalid(_) | Reading::Unknown => return Ok(Test::Ask),
            }
        }
        let refused =
            || FilterError::new("22025", "LIKE pattern must not end with escape character");
        return LikePattern::new(&operand).map(Test::Like).ok_or_else(refused);
    }
    let is_insensitive = operator == Operator::Imatch || kind == Kind::Citext;
    let expression = Expression::new(&raw.value, is_insensitive);
    Ok(expression.map_or(Test::Ask, |expression| Test::Expression(Box::new(expression))))
}

fn in_test(value: &str, kind: Kind, column: &Column, table: &Table) -> Result<Test, FilterError> {
    let Some(literal) = array::read(value, column.data_type.delimiter) else {
        return Ok(Test::Ask);
    };
    let base_name = type_name::display(&column.base_type, table);
    let is_domain = matches!(column.data_type.kind, TypeKind::Domain { .. });
    let mut values = Vec::with_capacity(literal.elements.len());
    let mut has_unknown = false;
    for element in literal.elements.iter().flatten() {
        match kind.read_operand(element, &base_name) {
            Reading::Value(value) => values.push(value.into_owned()),
            // PostgreSQL gives the error of the first bad value; an earlier one may be bad, too.
            Reading::Invalid(error) if !has_unknown && (values.is_empty() || !is_domain) => {
                return Err(error);
            }
            Reading::Invalid(_) | Reading::Unknown => has_unknown = true,
        }
    }
    if literal.length > MAX_IN_VALUES {
        let message = format!("too many values for `in` filter. Maximum {MAX_IN_VALUES}");
        return Err(FilterError::raised(message));
    }
    Ok(Test::In(InValues {
        values: values.into(),
        has_null: literal.elements.iter().any(Option::is_none),
        has_unknown,
        is_empty: literal.elements.is_empty(),
    }))
}

/// Refuses what has no operator in any version: everything on json and xml, all but `!=` on point,
/// and `in` on arrays, where `ANY` compares elements.
fn refuse_missing_operator(
    operator: Operator,
    column: &Column,
    table: &Table,
) -> Result<(), FilterError> {
    let sql = if matches!(operator, Operator::In | Operator::IsDistinct) {
        "="
    } else if operator == Operator::Neq {
        "<>"
    } else {
        operator.sql()
    };
    if let (TypeKind::Array { element }, Operator::In) = (&column.base_type.kind, operator) {
        let array = type_name::display(&column.data_type, table);
        let element = table.types.find(*element);
        let element = element.map_or_else(
            || array.trim_end_matches("[]").to_owned(),
            |element| type_name::display(element, table),
        );
        return Err(FilterError::no_operator(&array, sql, &element));
    }
    let is_missing = match column.base_type.id {
        oid::JSON | oid::XML => true,
        oid::POINT => operator != Operator::Neq,
        _ => false,
    };
    if is_missing {
        let name = type_name::display(&column.data_type, table);
        return Err(FilterError::no_operator(&name, sql, &name));
    }
    Ok(())
}
/// Whether payloads show a value as null, as JSON has no NaN and no Infinity. Filters see what
/// clients see. A domain's value is shown as a string, and compared.
pub(crate) fn is_shown_as_null(data_type: &PgType, text: &str) -> bool {
    has_values_shown_as_null(data_type) && matches!(text, "NaN" | "Infinity" | "-Infinity")
}

/// Whether the type has such values.
pub(crate) fn has_values_shown_as_null(data_type: &PgType) -> bool {
    [oid::NUMERIC, oid::FLOAT4, oid::FLOAT8].contains(&data_type.id)
}
