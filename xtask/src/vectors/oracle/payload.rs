//! The `data` object of a change, its values turned into JSON by PostgreSQL.

use std::collections::BTreeMap;

use anyhow::Result;
use tokio_postgres::Client;
use walcast_tests::{Json, WalChange};

use super::super::compare::ANY_COMMIT_TIMESTAMP;
use super::table::{ColumnFacts, Image, TableFacts};
use super::{literal, rows};

/// The payload of error 400 and 401.
pub fn refused(change: &WalChange, error: &str) -> Json {
    let mut data = head(change);
    data.insert("columns".to_owned(), Json::Array(Vec::new()));
    data.insert("record".to_owned(), Json::Object(BTreeMap::new()));
    if change.kind == "UPDATE" {
        data.insert("old_record".to_owned(), Json::Object(BTreeMap::new()));
    }
    data.insert("errors".to_owned(), Json::Array(vec![Json::String(error.to_owned())]));
    Json::Object(data)
}

/// The payload of a change.
pub async fn data(
    session: &Client,
    table: &TableFacts,
    change: &WalChange,
    new: &Image,
    old: &Image,
    whole_old: bool,
    selected: Option<&[String]>,
) -> Result<Json> {
    let columns: Vec<&ColumnFacts> = table
        .columns
        .iter()
        .filter(|column| column.is_selectable)
        .filter(|column| change.relation.columns.iter().any(|(name, _)| *name == column.name))
        .filter(|column| {
            column.is_primary_key || selected.is_none_or(|names| names.contains(&column.name))
        })
        .collect();
    let described = columns
        .iter()
        .map(|column| {
            Json::Object(BTreeMap::from([
                ("name".to_owned(), Json::String(column.name.clone())),
                ("type".to_owned(), Json::String(column.type_name.clone())),
            ]))
        })
        .collect();
    let mut data = head(change);
    data.insert("columns".to_owned(), Json::Array(described));
    if change.kind != "DELETE" {
        data.insert("record".to_owned(), record(session, &columns, new).await?);
    }
    if change.kind != "INSERT" {
        let shown: Vec<&ColumnFacts> =
            columns.iter().copied().filter(|column| whole_old || column.is_primary_key).collect();
        data.insert("old_record".to_owned(), record(session, &shown, old).await?);
    }
    data.insert("errors".to_owned(), Json::Null);
    Ok(Json::Object(data))
}

fn head(change: &WalChange) -> BTreeMap<String, Json> {
    BTreeMap::from([
        ("schema".to_owned(), Json::String(change.relation.schema.clone())),
        ("table".to_owned(), Json::String(change.relation.name.clone())),
        ("type".to_owned(), Json::String(change.kind.to_owned())),
        ("commit_timestamp".to_owned(), Json::String(ANY_COMMIT_TIMESTAMP.to_owned())),
    ])
}

async fn record(session: &Client, columns: &[&ColumnFacts], image: &Image) -> Result<Json> {
    let known: Vec<(&ColumnFacts, &Option<String>)> = columns
        .iter()
        .filter_map(|column| Some((*column, image.values.get(&column.name)?)))
        .collect();
    if known.is_empty() {
        return Ok(Json::Object(BTreeMap::new()));
    }
    let values: Vec<String> =
        known.iter().map(|(column, value)| json_sql(column, value.as_deref())).collect();
    let found = rows(session, &format!("select {}", values.join(", "))).await?;
    let texts = found.into_iter().next().unwrap_or_default();
    let members = known
        .iter()
        .zip(texts)
        .map(|((column, _), text)| {
            let value = text.map_or(Ok(Json::Null), |text| Json::parse(&text))?;
            Ok((column.name.clone(), value))
        })
        .collect::<Result<_>>()?;
    Ok(Json::Object(members))
}

/// An SQL expression for the JSON text of a value.
fn json_sql(column: &ColumnFacts, value: Option<&str>) -> String {
    let is_number = matches!(column.type_name.as_str(), "numeric" | "float4" | "float8");
    match value {
        None => "null".to_owned(),
        Some("NaN" | "Infinity" | "-Infinity") if is_number => "null".to_owned(),
        Some(text) if column.type_name == "bytea" => {
            format!("to_jsonb(encode({}::bytea, 'hex'))::text", literal(text))
        }
        // PostgreSQL 14 does not read "\303" as the byte it stands for.
        Some(text) if column.type_name == "char" => format!("to_jsonb({}::text)", literal(text)),
        Some(text) => format!("to_jsonb({}::{})::text", literal(text), column.sql_type),
    }
}
