//! Conditions as SQL, for the rows and operands that only PostgreSQL can judge.

use walcast_change::{PgType, Table, TypeKind};

use crate::{
    Operator, Verification,
    condition::{Condition, has_values_shown_as_null},
    type_name::{literal, quoted, sql as type_sql},
    value::{Kind, Reading, Value},
};

const TEXT: &str = "\"pg_catalog\".\"text\"";

/// The condition over the column's value; types are those the table has now.
pub(crate) fn condition(condition: &Condition, table: &Table) -> String {
    let (data_type, base_type) = condition
        .column_in(table)
        .map_or((&*condition.data_type, &*condition.base_type), |(_, column)| {
            (&*column.data_type, &*column.base_type)
        });
    let kind = Kind::of(base_type);
    let column = shown(&quoted(&condition.column), data_type);
    let not = if condition.is_negated { "NOT " } else { "" };
    if condition.operator == Operator::Is {
        // The operand is a keyword, checked to be one of four.
        return format!("({column} IS {not}{})", condition.value.to_uppercase());
    }
    if condition.operator == Operator::IsDistinct {
        let (left, right) = operands(&column, &condition.value, data_type, kind);
        return format!("({left} IS {not}DISTINCT FROM {right})");
    }
    format!("{not}({})", comparison(&column, condition, data_type, kind))
}

fn comparison(column: &str, condition: &Condition, data_type: &PgType, kind: Kind) -> String {
    let Condition { operator, value, .. } = condition;
    if *operator == Operator::In {
        if kind == Kind::Bytea {
            return bytes_in(column, value, data_type);
        }
        return format!("{column} = ANY ({}::{}[])", literal(value), type_sql(data_type));
    }
    let is_pattern = operator.is_pattern();
    let (left, right) = if is_pattern && kind != Kind::Bytea && kind != Kind::Citext {
        // A cast would take the trailing blanks off a char(n).
        let left = if matches!(kind, Kind::Bpchar | Kind::Name) {
            column.to_owned()
        } else if kind == Kind::Enum {
            // A user may have defined a cast from the enum to text; the label is meant.
            format!("pg_catalog.textin(pg_catalog.enum_out({column}))")
        } else {
            format!("{column}::{TEXT}")
        };
        (left, format!("{}::{TEXT}", literal(value)))
    } else {
        operands(column, value, data_type, kind)
    };
    format!("{left} {} {right}", operator.sql())
}

/// The column as payloads show it.
fn shown(column: &str, data_type: &PgType) -> String {
    if has_values_shown_as_null(data_type) {
        format!("nullif(nullif(nullif({column}, 'NaN'), 'Infinity'), '-Infinity')")
    } else {
        column.to_owned()
    }
}

/// Both sides of a comparison.
fn operands(column: &str, value: &str, data_type: &PgType, kind: Kind) -> (String, String) {
    // Bytes compare by the hexadecimal that payloads show; see `bytes_operand`.
    if kind == Kind::Bytea
        && let Reading::Value(Value::Text(digits)) = kind.read_operand(value, "bytea")
    {
        return (bytes_column(column), format!("{}::{TEXT}", literal(&digits)));
    }
    (column.to_owned(), format!("{}::{}", literal(value), type_sql(data_type)))
}

fn bytes_column(column: &str) -> String {
    format!("encode({column}, 'hex') COLLATE \"C\"")
}

fn bytes_in(column: &str, value: &str, data_type: &PgType) -> String {
    let whole = || format!("{column} = ANY ({}::{}[])", literal(value), type_sql(data_type));
    let Some(array) = crate::array::read(value, ',') else { return whole() };
    let mut elements = Vec::with_capacity(array.elements.len());
    for element in &array.elements {
        match element {
            None => elements.push(format!("NULL::{TEXT}")),
            Some(text) => match Kind::Bytea.read_operand(text, "bytea") {
                Reading::Value(Value::Text(digits)) => {
                    elements.push(format!("{}::{TEXT}", literal(&digits)));
                }
                Reading::Value(_) | Reading::Invalid(_) | Reading::Unknown => return whole(),
            },
        }
    }
    format!("{} = ANY (ARRAY[{}]::{TEXT}[])", bytes_column(column), elements.join(", "))
}

/// What makes PostgreSQL say whether it accepts the operand, and the operator for its type.
pub(crate) fn verification(condition: &Condition) -> Verification {
    let operand = literal(&condition.value);
    let data_type = type_sql(&condition.data_type);
    let is_domain = matches!(condition.data_type.kind, TypeKind::Domain { .. });
    let sql = match condition.operator {
        Operator::Match | Operator::Imatch => {
            format!("(''::{TEXT} {} {operand}::{TEXT}) IS NULL", condition.operator.sql())
        }
        Operator::Like | Operator::Ilike => format!("({operand}::{data_type}) IS NULL"),
        Operator::Is => "true".to_owned(),
        Operator::In => {
            format!("(({operand}::{data_type}[])[1] = ANY ({operand}::{data_type}[])) IS NULL")
        }
        Operator::Eq
        | Operator::Neq
        | Operator::Lt
        | Operator::Lte
        | Operator::Gt
        | Operator::Gte
        | Operator::IsDistinct => {
            // The operator exists; only the domain's constraints are in question.
            if is_domain && condition.kind != Kind::Other {
                format!("({operand}::{data_type}) IS NULL")
            } else {
                let operator = condition.operator.sql();
                format!("({operand}::{data_type} {operator} {operand}::{data_type}) IS NULL")
            }
        }
    };
    let is_expression = matches!(condition.operator, Operator::Match | Operator::Imatch);
    let message_prefix =
        if is_expression { "invalid regular expression for match filter: " } else { "" };
    Verification { sql, column: condition.column.clone(), message_prefix }
}
