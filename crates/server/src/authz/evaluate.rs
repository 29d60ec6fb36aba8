//! One question as one transaction.

use std::{ops::Range, sync::Arc};

use futures_util::future::join4;
use tokio_postgres::{
    Client, Error, Row as SqlRow,
    error::SqlState,
    types::{ToSql, Type},
};
use walcast_change::Table;
use walcast_filters::claims::Audience;

use super::{Question, image::cells, outdated::names};
use crate::{catalogue::KnownTable, database::quote_identifier};

/// The helpers' names in a question. No column has them, so that an expression over a column that
/// was renamed meanwhile raises and is not taken to mean a helper.
const ROWS: &str = "\"walcast: rows\"";
const IMAGE: &str = "\"walcast: image\"";
const POSITION: &str = "\"walcast: position\"";

/// Why there is no answer.
pub(super) enum Failure {
    /// The connection broke; the answer is unknown.
    Connection,
    /// PostgreSQL refused or raised.
    Statement(SqlState),
}

/// How a question is put.
pub(super) enum Words {
    /// Over the table's row type as it is.
    RowType,
    /// Over the columns, with the names of `table`.
    Columns {
        /// The expression in these names.
        expression: Arc<str>,
        /// The table as the expression knows it.
        table: Arc<KnownTable>,
    },
}

/// The two halves of a range; nothing for one of a single row, which is judged by then.
pub(super) fn halves(range: Range<usize>) -> Vec<Range<usize>> {
    if range.len() < 2 {
        return Vec::new();
    }
    let middle = range.start + range.len() / 2;
    // The first half is taken first.
    vec![middle..range.end, range.start..middle]
}

/// Whether the question's expression is true, for each image.
pub(super) async fn evaluate(
    client: &Client,
    question: &Question,
    images: &[Arc<str>],
    words: &Words,
    statement_timeout_ms: &str,
) -> Result<Vec<bool>, Failure> {
    let rows = rows(client, question, images, words, statement_timeout_ms).await?;
    let is_true = |row: &SqlRow| row.try_get::<_, Option<bool>>(0).ok().flatten() == Some(true);
    Ok(rows.iter().map(is_true).collect())
}

/// The texts in the array that the question's expression is, for each image; `None` when it is none.
pub(super) async fn evaluate_members(
    client: &Client,
    question: &Question,
    statement_timeout_ms: &str,
) -> Result<Vec<Option<Vec<String>>>, Failure> {
    let images = &question.images;
    let rows = rows(client, question, images, &Words::RowType, statement_timeout_ms).await?;
    Ok(rows.iter().map(|row| row.try_get(0).ok()).collect())
}

/// Sends one question as one transaction. The four statements leave together on the first poll, in
/// order: `join4` polls in argument order, and tokio-postgres sends on first poll.
async fn rows(
    client: &Client,
    question: &Question,
    images: &[Arc<str>],
    words: &Words,
    statement_timeout_ms: &str,
) -> Result<Vec<SqlRow>, Failure> {
    let (sql, arrays) = match words {
        Words::RowType => by_row_type(question, images),
        Words::Columns { expression, table } => {
            by_columns(&question.guard.table, images, expression, &table.table)
        }
    };
    let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
        arrays.iter().map(|array| (array as &(dyn ToSql + Sync), Type::TEXT_ARRAY)).collect();
    let (begin, settings, answer, end) = join4(
        client.batch_execute("begin read only"),
        settings(client, question.audience.as_deref(), statement_timeout_ms),
        client.query_typed(&sql, &parameters),
        client.batch_execute("rollback"),
    )
    .await;
    begin.map_err(failure)?;
    settings.map_err(failure)?;
    let rows = answer.map_err(failure)?;
    end.map_err(failure)?;
    Ok(rows)
}

/// The images as values of the table's row type.
fn by_row_type(question: &Question, images: &[Arc<str>]) -> (String, Vec<Vec<Option<String>>>) {
    let table = &question.guard.table;
    let (schema, name) = (quote_identifier(&table.schema), quote_identifier(&table.name));
    let sql = format!(
        "select (select ({}) \
                 from pg_catalog.unnest(array[{IMAGE}::{schema}.{name}]) as {name}) \
         from pg_catalog.unnest($1) with ordinality as {ROWS}({IMAGE}, {POSITION}) \
         order by {POSITION}",
        question.expression
    );
    (sql, vec![images.iter().map(|image| Some(image.to_string())).collect()])
}

/// The images column by column, with the types that they were written with: whatever became of the
/// table since plays no part. Columns have the names of `named`.
fn by_columns(
    table: &Table,
    images: &[Arc<str>],
    expression: &str,
    named: &Table,
) -> (String, Vec<Vec<Option<String>>>) {
    let images: Vec<_> = images.iter().map(|image| cells(image)).collect();
    let (mut arrays, mut sources, mut columns) = (Vec::new(), Vec::new(), Vec::new());
    let names = names(table, named);
    for (position, (column, name)) in table.columns.iter().zip(names).enumerate() {
        let Some(name) = name else { continue };
        arrays.push(images.iter().map(|image| image.get(position).cloned().flatten()).collect());
        let source = format!("\"walcast: {position}\"");
        let data_type = &column.data_type;
        columns.push(format!(
            "{source}::{}.{} as {}",
            quote_identifier(&data_type.schema),
            quote_identifier(&data_type.name),
            quote_identifier(name)
        ));
        sources.push(source);
    }
    let unnested: Vec<String> =
        (1..=arrays.len()).map(|number| format!("pg_catalog.unnest(${number})")).collect();
    let sql = format!(
        "select (select ({expression}) from (select {}) as {}) \
         from rows from ({}) with ordinality as {ROWS}({}, {POSITION}) order by {POSITION}",
        columns.join(", "),
        quote_identifier(&named.name),
        unnested.join(", "),
        sources.join(", "),
    );
    (sql, arrays)
}

pub(super) async fn settings(
    client: &Client,
    audience: Option<&Audience>,
    statement_timeout_ms: &str,
) -> Result<Vec<SqlRow>, Error> {
    // Compilation takes longer than any question should. Half of the time may be spent on waiting for
    // a table that is being changed; what is left is for asking without it.
    let set = "select pg_catalog.set_config('statement_timeout', $1, true), \
               pg_catalog.set_config('lock_timeout', \
                 (($1)::pg_catalog.int8 operator(pg_catalog./) 2::pg_catalog.int8)\
                 ::pg_catalog.text, true), \
               pg_catalog.set_config('jit', 'off', true)";
    let Some(audience) = audience else {
        return client.query_typed(set, &[(&statement_timeout_ms, Type::TEXT)]).await;
    };
    let sql = format!(
        "{set}, pg_catalog.set_config('request.jwt.claims', $2, true), \
         pg_catalog.set_config('role', $3, true)"
    );
    let claims = audience.claims.as_str();
    let role = audience.role.as_str();
    client
        .query_typed(
            &sql,
            &[(&statement_timeout_ms, Type::TEXT), (&claims, Type::TEXT), (&role, Type::TEXT)],
        )
        .await
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn failure(error: Error) -> Failure {
    match error.code() {
        None => Failure::Connection,
        Some(code) if is_connection_loss(code) => Failure::Connection,
        Some(code) => Failure::Statement(code.clone()),
    }
}

/// Class 08, and the server shutting down, crashing or starting.
pub(super) fn is_connection_loss(code: &SqlState) -> bool {
    code.code().starts_with("08")
        || [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW]
            .contains(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_cover_a_range_once() {
        let (mut parts, mut singles) = (halves(0..7), Vec::new());
        while let Some(part) = parts.pop() {
            if part.len() == 1 {
                singles.push(part.start);
            }
            parts.extend(halves(part));
        }
        assert_eq!(singles, [0, 1, 2, 3, 4, 5, 6]);
        assert!(halves(3..4).is_empty() && halves(3..3).is_empty());
    }
}
