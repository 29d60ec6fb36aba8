//! Row-level security over a row image, evaluated by PostgreSQL on the real table in a transaction
//! that is rolled back.

use anyhow::{Context, Result};
use serde_json::Value;
use tokio_postgres::Client;

use super::super::case::CaseSubscription;
use super::table::{Image, TableFacts};
use super::{identifier, literal, rollback, rows, value};

/// What the policies say about an old image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OldVerdict {
    /// It may be seen.
    Allow,
    /// It may not.
    Deny,
    /// It lacks columns that the policies read.
    Unverifiable,
}

/// Asks the policies about an old image.
pub async fn old_verdict(
    session: &Client,
    subscription: &CaseSubscription,
    table: &TableFacts,
    old: &Image,
) -> Result<OldVerdict> {
    if table.is_bypassed {
        return Ok(OldVerdict::Allow);
    }
    let needed = columns_of_policies(session, subscription, table).await?;
    if needed.iter().any(|column| !old.values.contains_key(column)) {
        return Ok(OldVerdict::Unverifiable);
    }
    let visible = is_visible(session, subscription, table, old).await?;
    Ok(if visible { OldVerdict::Allow } else { OldVerdict::Deny })
}

/// Whether the subscriber sees the row.
pub async fn is_visible(
    session: &Client,
    subscription: &CaseSubscription,
    table: &TableFacts,
    image: &Image,
) -> Result<bool> {
    session.batch_execute("begin; set local session_replication_role = replica").await?;
    let answer = ask(session, subscription, table, image).await;
    rollback(session).await?;
    answer
}

async fn ask(
    session: &Client,
    subscription: &CaseSubscription,
    table: &TableFacts,
    image: &Image,
) -> Result<bool> {
    let name = &table.subscribed_name;
    session.batch_execute(&format!("delete from {name}; savepoint image")).await?;
    if session.batch_execute(&insert(table, image, Missing::Null)).await.is_err() {
        // Columns that no policy reads must still be filled when they are not null.
        session.batch_execute("rollback to savepoint image").await?;
        session
            .batch_execute(&insert(table, image, Missing::Filled))
            .await
            .context("the row image cannot be put into the table")?;
    }
    let claims = Value::Object(subscription.claims.clone()).to_string();
    session
        .batch_execute(&format!(
            "set local role {}; select set_config('request.jwt.claims', {}, true)",
            identifier(&subscription.role),
            literal(&claims)
        ))
        .await?;
    // A policy that raises denies.
    let seen = value(session, &format!("select exists (select 1 from {name})")).await;
    Ok(seen.is_ok_and(|text| text.is_some_and(|text| text == "t")))
}

#[derive(Clone, Copy)]
enum Missing {
    Null,
    Filled,
}

fn insert(table: &TableFacts, image: &Image, missing: Missing) -> String {
    let mut names = Vec::new();
    let mut values = Vec::new();
    for column in table.columns.iter().filter(|column| !column.is_generated) {
        let value = match (image.values.get(&column.name), missing) {
            (Some(Some(text)), _) => format!("{}::{}", literal(text), column.sql_type),
            (Some(None), _) | (None, Missing::Null) => "null".to_owned(),
            (None, Missing::Filled) => {
                let filler = match column.base_type_name.as_str() {
                    "bool" => "f",
                    "uuid" => "00000000-0000-0000-0000-000000000000",
                    "date" | "timestamp" | "timestamptz" => "2000-01-01",
                    "json" | "jsonb" => "{}",
                    "int2" | "int4" | "int8" | "numeric" | "float4" | "float8" | "oid" => "0",
                    _ => "",
                };
                format!("'{filler}'::{}", column.sql_type)
            }
        };
        names.push(identifier(&column.name));
        values.push(value);
    }
    format!(
        "insert into {} ({}) overriding system value values ({})",
        table.subscribed_name,
        names.join(", "),
        values.join(", ")
    )
}

/// The columns that the policies for the role read.
async fn columns_of_policies(
    session: &Client,
    subscription: &CaseSubscription,
    table: &TableFacts,
) -> Result<Vec<String>> {
    let role = literal(&subscription.role);
    let found = rows(
        session,
        &format!(
            "select distinct a.attname from pg_policy p \
             join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid \
             and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid \
             and d.refobjsubid > 0 \
             join pg_attribute a on a.attrelid = p.polrelid and a.attnum = d.refobjsubid \
             where p.polrelid = {} and p.polcmd in ('r', '*') and (p.polroles = '{{0}}' or exists \
             (select 1 from unnest(p.polroles) r \
              where r <> 0 and pg_has_role({role}, r, 'usage')))",
            table.subscribed
        ),
    )
    .await?;
    Ok(found.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}
