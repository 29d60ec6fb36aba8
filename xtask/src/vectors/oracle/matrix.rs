//! The filter matrix by walcast's own rules.

use anyhow::{Context, Result};
use tokio_postgres::Client;

use super::super::differences::Difference;
use super::coverage::holds_text;
use super::filter::{PATTERN_OPERATORS, condition, has_operator, is_hexadecimal, passes};
use super::table::{ColumnFacts, TableFacts};
use super::{literal, value};

/// One filter on the column `v` of a table, and the values that will be stored there.
#[derive(Debug)]
pub struct Question {
    /// The table.
    pub table: String,
    /// Column, operator, value, negated.
    pub condition: (String, String, String, bool),
    /// The values as SQL.
    pub stored: Vec<String>,
    /// How the reference refused the subscription.
    pub refusal: Option<String>,
}

/// The rule that may make a difference, and what it says: the values that are delivered, or `None`
/// for a refusal. Nothing when the reference's answer holds.
pub async fn answer(
    session: &Client,
    question: &Question,
) -> Result<Option<(Difference, Option<Vec<bool>>)>> {
    let oid = value(session, &format!("select {}::regclass::oid", literal(&question.table)))
        .await?
        .and_then(|text| text.parse().ok())
        .context("a table has an oid")?;
    let table = TableFacts::read(session, oid, oid, "authenticated").await?;
    let column = table.column("v").context("the column v")?;
    let (_, operator, operand, negated) = &question.condition;
    let Some(found) = difference(session, column, operator, question.refusal.as_deref()).await?
    else {
        return Ok(None);
    };
    let difference = match found {
        Difference::ErrorsAreIsolated if is_hexadecimal(column, operand) => {
            Difference::HexadecimalBytes
        }
        other => other,
    };
    if difference == Difference::NoSuchOperator {
        return Ok(Some((difference, None)));
    }
    let mut delivered = Vec::new();
    for stored in &question.stored {
        let text = stored_text(session, &question.table, stored).await?;
        let condition = condition(column, text.as_deref(), operator, operand, *negated);
        match passes(session, &[Some(condition)]).await {
            Ok(passes) => delivered.push(passes),
            // What PostgreSQL cannot evaluate is refused when it is subscribed to.
            Err(_) => return Ok(Some((difference, None))),
        }
    }
    Ok(Some((difference, Some(delivered))))
}

async fn difference(
    session: &Client,
    column: &ColumnFacts,
    operator: &str,
    refusal: Option<&str>,
) -> Result<Option<Difference>> {
    let is_pattern = PATTERN_OPERATORS.contains(&operator);
    Ok(match refusal {
        Some(text) if text.contains("requires a text-compatible column type") => {
            (is_pattern && holds_text(column)).then_some(Difference::PatternOperators)
        }
        // The reference's error is about the list, PostgreSQL's about the operator.
        Some(_) if column.type_name.starts_with('_') && operator == "in" => {
            Some(Difference::NoSuchOperator)
        }
        Some(_) => None,
        None if !has_operator(session, column, operator).await? => Some(Difference::NoSuchOperator),
        // bytea has like, but not ilike.
        None if operator == "ilike" && column.type_name == "bytea" => {
            Some(Difference::NoSuchOperator)
        }
        None if column.has_length() => Some(Difference::WholeCharacters),
        None => Some(Difference::ErrorsAreIsolated),
    })
}

async fn stored_text(session: &Client, table: &str, stored: &str) -> Result<Option<String>> {
    value(
        session,
        &format!(
            "begin; insert into {table} values (0, {stored}); select v from {table}; rollback"
        ),
    )
    .await
}
