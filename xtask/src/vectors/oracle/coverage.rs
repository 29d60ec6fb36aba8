//! Which tables a subscription covers, and whether walcast accepts it at all.

use anyhow::Result;
use serde_json::Value;
use tokio_postgres::Client;

use super::super::case::CaseSubscription;
use super::super::differences::Difference;
use super::filter::{PATTERN_OPERATORS, has_operator};
use super::table::{ColumnFacts, TableFacts};
use super::{Answer, Own, literal, rows, value};

/// What is covered.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// The table of the stream, and the one that was subscribed to.
    tables: Vec<(u32, u32)>,
    event: String,
}

impl Coverage {
    /// The table that was subscribed to and whose changes come as those of `oid`.
    pub fn subscribed_table(&self, oid: u32) -> Option<u32> {
        self.tables.iter().find(|(table, _)| *table == oid).map(|(_, subscribed)| *subscribed)
    }

    /// Whether the subscription asks for this kind of change.
    pub fn wants(&self, kind: &str) -> bool {
        let known = ["INSERT", "UPDATE", "DELETE"];
        let event = self.event.to_ascii_uppercase();
        !known.contains(&event.as_str()) || event == kind
    }
}

/// Finds the tables that a subscription covers at this moment.
pub async fn of(
    session: &Client,
    subscription: &CaseSubscription,
    own: &mut Own,
) -> Result<Coverage> {
    let params = &subscription.params;
    let text = |key: &str| params.get(key).and_then(Value::as_str);
    let schema = text("schema").unwrap_or("public");
    let table = text("table").unwrap_or("*");
    let mut coverage =
        Coverage { tables: Vec::new(), event: text("event").unwrap_or("*").to_owned() };
    if let Some(error) = &subscription.error {
        if error.contains("Please check Realtime is enabled") {
            coverage.tables = leaves_of(session, schema, table).await?;
            accept(own, !coverage.tables.is_empty(), Difference::PartitionRoot);
        } else if error.contains("requires a text-compatible column type") {
            let tables = exact(session, schema, table).await?;
            let accepted = patterns_work(session, subscription, &tables).await?;
            accept(own, accepted, Difference::PatternOperators);
            coverage.tables = if accepted { tables } else { Vec::new() };
        } else if error.contains("(undefined_object) role") {
            let role = literal(&subscription.role);
            let known = format!("select 1 from pg_roles where rolname = {role}");
            let accepted = value(session, &known).await?.is_some();
            accept(own, accepted, Difference::RoleVerbatim);
            if accepted {
                coverage.tables = exact(session, schema, table).await?;
            }
        }
        return Ok(coverage);
    }
    coverage.tables = exact(session, schema, table).await?;
    if matched_as_pattern(session, schema, table).await? > coverage.tables.len() {
        own.differences.insert(Difference::ExactNames);
    }
    if coverage.tables.is_empty() {
        own.answer = Answer::Refused;
        if subscription.is_written_directly {
            own.differences.insert(Difference::NotInPublication);
        }
        return Ok(coverage);
    }
    for (oid, subscribed) in &coverage.tables {
        let facts = TableFacts::read(session, *oid, *subscribed, &subscription.role).await?;
        for (column, operator, ..) in &subscription.conditions {
            let Some(column) = facts.column(column) else { continue };
            if !has_operator(session, column, operator).await? {
                own.answer = Answer::Refused;
                own.differences.insert(Difference::NoSuchOperator);
            }
        }
        let restricted = format!(
            "select count(*) from pg_publication_rel r where prrelid = {oid} \
             and (to_jsonb(r) ->> 'prqual' is not null or to_jsonb(r) ->> 'prattrs' is not null)"
        );
        if value(session, &restricted).await?.is_some_and(|count| count != "0") {
            own.differences.insert(Difference::PublicationApplied);
        }
        let via_root = format!("select 1 from pg_class where oid = {oid} and relkind = 'p'");
        if value(session, &via_root).await?.is_some() {
            own.differences.insert(Difference::PartitionRoot);
        }
    }
    if own.answer == Answer::Refused {
        coverage.tables.clear();
    }
    Ok(coverage)
}

/// The select list of a subscription; an empty one selects everything.
pub fn selected_columns(subscription: &CaseSubscription) -> Option<Vec<String>> {
    let names: Vec<String> = subscription
        .params
        .get("select")?
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect();
    (!names.is_empty()).then_some(names)
}

fn accept(own: &mut Own, accepted: bool, difference: Difference) {
    if accepted {
        own.answer = Answer::Accepted;
        own.differences.insert(difference);
    }
}

/// Published tables of exactly these names; `*` is any.
async fn exact(session: &Client, schema: &str, table: &str) -> Result<Vec<(u32, u32)>> {
    let (schema, table) = (literal(schema), literal(table));
    let found = rows(
        session,
        &format!(
            "select c.oid from pg_publication_tables p \
             join pg_namespace n on n.nspname = p.schemaname \
             join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename \
             where p.pubname = 'supabase_realtime' \
             and {schema} in ('*', p.schemaname) and {table} in ('*', p.tablename)"
        ),
    )
    .await?;
    Ok(oids(&found).map(|oid| (oid, oid)).collect())
}

/// How many published tables the reference finds, to which names are patterns.
async fn matched_as_pattern(session: &Client, schema: &str, table: &str) -> Result<usize> {
    let pattern = |name: &str| literal(if name == "*" { "%" } else { name });
    let (schema, table) = (pattern(schema), pattern(table));
    let count = value(
        session,
        &format!(
            "select count(*) from pg_publication_tables where pubname = 'supabase_realtime' \
             and schemaname like {schema} escape '' and tablename like {table} escape ''"
        ),
    )
    .await?;
    Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
}

/// The published leaves of a partitioned table.
async fn leaves_of(session: &Client, schema: &str, table: &str) -> Result<Vec<(u32, u32)>> {
    let (schema, table) = (literal(schema), literal(table));
    let found = rows(
        session,
        &format!(
            "select leaf.oid, root.oid from pg_class root \
             join pg_namespace n on n.oid = root.relnamespace \
             cross join lateral pg_partition_tree(root.oid) tree \
             join pg_class leaf on leaf.oid = tree.relid and tree.isleaf \
             join pg_namespace m on m.oid = leaf.relnamespace \
             join pg_publication_tables p on p.schemaname = m.nspname \
             and p.tablename = leaf.relname and p.pubname = 'supabase_realtime' \
             where root.relkind = 'p' and n.nspname = {schema} and root.relname = {table}"
        ),
    )
    .await?;
    Ok(found
        .iter()
        .filter_map(|row| {
            let number = |index: usize| row.get(index)?.as_ref()?.parse().ok();
            Some((number(0)?, number(1)?))
        })
        .collect())
}

/// Whether all pattern operators of a refused filter stand on columns that hold text.
async fn patterns_work(
    session: &Client,
    subscription: &CaseSubscription,
    tables: &[(u32, u32)],
) -> Result<bool> {
    for (oid, subscribed) in tables {
        let facts = TableFacts::read(session, *oid, *subscribed, &subscription.role).await?;
        for (column, operator, ..) in &subscription.conditions {
            let Some(column) = facts.column(column) else { return Ok(false) };
            if PATTERN_OPERATORS.contains(&operator.as_str()) && !holds_text(column) {
                return Ok(false);
            }
        }
    }
    Ok(!tables.is_empty())
}

/// Whether patterns work on a column to which the reference refuses them.
pub fn holds_text(column: &ColumnFacts) -> bool {
    let text =
        ["text", "varchar", "bpchar", "name", "citext"].contains(&column.base_type_name.as_str());
    text || column.type_kind == "e"
}

fn oids(found: &[Vec<Option<String>>]) -> impl Iterator<Item = u32> {
    found.iter().filter_map(|row| row.first()?.as_ref()?.parse().ok())
}
