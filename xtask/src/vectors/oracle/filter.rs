//! Filters, evaluated by PostgreSQL over the values of one row image.

use anyhow::Result;
use tokio_postgres::Client;

use super::super::case::CaseSubscription;
use super::super::differences::Difference;
use super::table::{ColumnFacts, Image, TableFacts};
use super::{Own, literal, value};

/// The operators that need a text.
pub const PATTERN_OPERATORS: [&str; 4] = ["like", "ilike", "match", "imatch"];

/// The conditions of a subscription as SQL over this row; `None` stands for one that cannot be
/// true, since its column is not in the row.
pub fn resolve(
    subscription: &CaseSubscription,
    table: &TableFacts,
    image: &Image,
    old: &Image,
    own: &mut Own,
) -> Result<Vec<Option<String>>> {
    let mut conditions = Vec::new();
    for (name, operator, operand, negated) in &subscription.conditions {
        let Some(column) = table.column(name) else {
            conditions.push(None);
            continue;
        };
        if column.has_length() {
            own.differences.insert(Difference::WholeCharacters);
        }
        if is_hexadecimal(column, operand) {
            own.differences.insert(Difference::HexadecimalBytes);
        }
        if column.is_generated {
            own.differences.insert(Difference::GeneratedColumnMissing);
        }
        if image.from_old.contains(name) && old.values.contains_key(name) {
            own.differences.insert(Difference::UnchangedValueFiltered);
        }
        let cell = image.values.get(name);
        conditions
            .push(cell.map(|cell| condition(column, cell.as_deref(), operator, operand, *negated)));
    }
    Ok(conditions)
}

/// Whether all conditions are true.
pub async fn passes(session: &Client, conditions: &[Option<String>]) -> Result<bool> {
    let mut sql = String::from("select true");
    for condition in conditions {
        match condition {
            Some(condition) => sql.push_str(&format!(" and ({condition})")),
            None => return Ok(false),
        }
    }
    Ok(value(session, &sql).await?.is_some_and(|text| text == "t"))
}

/// Whether PostgreSQL has the operator for this type. Patterns are judged elsewhere.
pub async fn has_operator(session: &Client, column: &ColumnFacts, operator: &str) -> Result<bool> {
    let Some(symbol) = comparison(operator) else { return Ok(true) };
    let (_, kind) = sides(column, None, operator);
    let sql = format!("select null::{kind} {symbol} null::{kind}");
    match session.simple_query(&sql).await {
        Ok(_) => Ok(true),
        Err(error) if error.code().is_some_and(|code| code.code() == "42883") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A condition over one value as SQL.
pub fn condition(
    column: &ColumnFacts,
    cell: Option<&str>,
    operator: &str,
    operand: &str,
    negated: bool,
) -> String {
    let (left, kind) = sides(column, cell, operator);
    let plain_hexadecimal = operand.replace("\\\\x", "").replace("\\x", "");
    let operand = if is_hexadecimal(column, operand) { &plain_hexadecimal } else { operand };
    let right = format!("{}::{kind}", literal(operand));
    let plain = match operator {
        "is" => return format!("{left} is {}{operand}", if negated { "not " } else { "" }),
        "isdistinct" => {
            let word = if negated { "is not distinct from" } else { "is distinct from" };
            return format!("{left} {word} {right}");
        }
        "in" => format!("{left} = any ({}::{kind}[])", literal(operand)),
        "like" => format!("{left} like {right}"),
        "ilike" => format!("{left} ilike {right}"),
        "match" => format!("{left} ~ {right}"),
        "imatch" => format!("{left} ~* {right}"),
        other => format!("{left} {} {right}", comparison(other).unwrap_or("=")),
    };
    if negated { format!("not ({plain})") } else { plain }
}

/// Whether an operand writes bytes the way PostgreSQL does.
pub fn is_hexadecimal(column: &ColumnFacts, operand: &str) -> bool {
    column.type_name == "bytea" && operand.contains("\\x")
}

fn comparison(operator: &str) -> Option<&'static str> {
    Some(match operator {
        "eq" | "in" | "isdistinct" => "=",
        "neq" => "<>",
        "lt" => "<",
        "lte" => "<=",
        "gt" => ">",
        "gte" => ">=",
        _ => return None,
    })
}

/// The column's value as an SQL expression, and the type it is compared as.
fn sides(column: &ColumnFacts, cell: Option<&str>, operator: &str) -> (String, String) {
    let is_pattern = PATTERN_OPERATORS.contains(&operator);
    let kind = match column.type_name.as_str() {
        // The reference compares the hex text.
        "bytea" => "text",
        "bit" => "varbit",
        "varchar" if is_pattern => "text",
        _ if is_pattern && matches!(column.type_kind.as_str(), "e" | "d") => "text",
        _ => column.open_type.as_str(),
    };
    let is_number = matches!(column.type_name.as_str(), "numeric" | "float4" | "float8");
    let left = match cell {
        None => format!("null::{kind}"),
        Some("NaN" | "Infinity" | "-Infinity") if is_number => format!("null::{kind}"),
        Some(text) if column.type_name == "bytea" => {
            format!("encode({}::bytea, 'hex')", literal(text))
        }
        Some(text) => format!("{}::{kind}", literal(text)),
    };
    (left, kind.to_owned())
}
