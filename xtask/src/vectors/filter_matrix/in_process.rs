//! The matrix through the filters' own functions. What they leave undecided, PostgreSQL decides
//! over the row, as it does for the server.

use anyhow::{Context, Result};
use walcast_change::{Cell, ColumnSet, Row, Table};
use walcast_filters::{Filter, Match, Operator, RawCondition};
use walcast_tests::Database;

use super::super::judge::Verdict;
use super::{Item, Matrix, Outcome, table_name};

/// Judges every filter.
pub async fn run(database: &Database, matrix: &Matrix) -> Result<Vec<(String, Verdict)>> {
    let mut session = database.session().await?;
    let (catalogue, _) = walcast_server::catalogue::read::catalogue(
        &mut session,
        &["supabase_realtime".to_owned()],
        &walcast_server::catalogue::Catalogue::default(),
        &std::collections::BTreeSet::new(),
    )
    .await?;
    let mut verdicts = Vec::new();
    for (name, (items, stored)) in matrix {
        let wanted = table_name(name);
        let table = catalogue
            .tables
            .values()
            .find(|known| *known.table.name == *wanted)
            .with_context(|| format!("the catalogue lacks {wanted}"))?;
        let rows = rows(database, name, stored).await?;
        for item in items {
            let came = came(database, &table.table, item, &rows).await?;
            verdicts.push((item.name.clone(), item.wanted.judge(&came, item.difference)));
        }
    }
    Ok(verdicts)
}

/// The stored values in PostgreSQL's text form.
async fn rows(database: &Database, name: &str, stored: &[String]) -> Result<Vec<Option<String>>> {
    let mut rows = Vec::new();
    for value in stored {
        let table = table_name(name);
        let sql = format!(
            "begin; insert into {table} values (0, {value}); select v::text from {table}; rollback"
        );
        rows.push(output(database, &sql).await?);
    }
    Ok(rows)
}

/// The output form of the single value a script returns. A cast of `char(n)` to text would cut its
/// blanks, so the value itself is asked for.
async fn output(database: &Database, sql: &str) -> Result<Option<String>> {
    database.text(&sql.replace("v::text", "v")).await
}

async fn came(
    database: &Database,
    table: &Table,
    item: &Item,
    rows: &[Option<String>],
) -> Result<Outcome> {
    let (column, operator, value, negated) = &item.condition;
    let condition = RawCondition {
        column: column.clone(),
        operator: Operator::from_name(operator).context("an unknown operator")?,
        value: operand(operator, value),
        is_negated: *negated,
    };
    let selectable = ColumnSet::all(table.columns.len());
    let filter = match Filter::check(&[condition], table, &selectable) {
        Ok(filter) => filter,
        Err(error) => return Ok(Outcome::RefusedWith(error.to_string())),
    };
    for verification in filter.verifications() {
        let asked = database.client().simple_query(&format!("select {}", verification.sql)).await;
        if let Err(error) = asked {
            let error = error.as_db_error().context("PostgreSQL refuses with an error")?;
            let refusal = verification.refusal(error.code().code(), error.message());
            return Ok(Outcome::RefusedWith(refusal.to_string()));
        }
    }
    let mut delivered = Vec::new();
    for text in rows {
        let cell = text.as_deref().map_or(Cell::Null, Cell::Text);
        let row: Row = [Cell::Text("0"), cell].into_iter().collect();
        delivered.push(match filter.matches(table, &row) {
            Match::Yes => true,
            Match::No => false,
            Match::Undecided => ask(database, table, &filter, text.as_deref()).await?,
        });
    }
    Ok(Outcome::Delivered(delivered))
}

async fn ask(
    database: &Database,
    table: &Table,
    filter: &Filter,
    value: Option<&str>,
) -> Result<bool> {
    let value = value.map_or("null".to_owned(), |text| format!("'{}'", text.replace('\'', "''")));
    let table_name = &table.name;
    let sql = format!(
        "begin; insert into {table_name} values (0, {value}); \
         select {} from {table_name}; rollback",
        filter.to_sql(table)
    );
    let answer = database.text(&sql).await;
    if answer.is_err() {
        database.run("rollback").await?;
    }
    Ok(answer?.is_some_and(|text| text == "t"))
}

/// The recording shows lists as the client wrote them or as array literals.
fn operand(operator: &str, value: &str) -> String {
    match value.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) if operator == "in" => format!("{{{inner}}}"),
        _ => value.to_owned(),
    }
}
