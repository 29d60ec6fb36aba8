//! The daily partitions of `realtime.messages`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio_postgres::{Client, Transaction, error::SqlState};

/// The owner of the table, if it is there and partitioned. By the catalogue: a name would need USAGE
/// on the schema.
const OWNER: &str = "select pg_get_userbyid(c.relowner) from pg_class as c \
       join pg_namespace as n on n.oid = c.relnamespace \
     where n.nspname = 'realtime' and c.relname = 'messages' and c.relkind = 'p'";

/// The days (UTC) from yesterday to the third from now that have no partition, each with its first
/// and last moment, and whether its name is taken by something else. Sessions of every time zone write
/// their own wall clock, so yesterday counts.
const MISSING: &str = "select name, first, last, class.oid is not null \
     from (select pg_catalog.timezone('UTC', pg_catalog.to_timestamp($1))::date as today) as clock, \
       generate_series(today - 1, today + 3, interval '1 day') as days(day), \
       lateral (select 'messages_' || to_char(day, 'YYYY_MM_DD') as name, \
         to_char(day, 'YYYY-MM-DD') as first, \
         to_char(day + interval '1 day', 'YYYY-MM-DD') as last) as texts \
     left join (pg_class as class join pg_namespace as space \
       on space.oid = class.relnamespace and space.nspname = 'realtime') on class.relname = name \
     where class.oid is null or not exists (select from pg_inherits as i \
       join pg_class as parent on parent.oid = i.inhparent and parent.relname = 'messages' \
         and parent.relnamespace = class.relnamespace \
       where i.inhrelid = class.oid)";

/// The partitions whose day ended longer ago than the retention. Only what is named like ours.
const OUTDATED: &str = "select c.relname::text from pg_inherits as i \
       join pg_class as c on c.oid = i.inhrelid \
       join pg_class as parent on parent.oid = i.inhparent and parent.relname = 'messages' \
       join pg_namespace as n on n.oid = c.relnamespace and n.oid = parent.relnamespace \
     where n.nspname = 'realtime' \
       and case when c.relname ~ '^messages_[0-9]{4}_[0-9]{2}_[0-9]{2}$' \
         then right(c.relname, 10) < \
           to_char(timezone('UTC', to_timestamp($1))::date, 'YYYY_MM_DD') \
         else false end \
     order by 1";

/// How long a change of partitions waits for the table; it is tried again.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '2s'";

/// Makes the partitions that are missing around `now_unix` (s since 1970) and returns their names.
///
/// A day is made as a table of its own and then attached, which does not hold up those who insert.
/// Several servers may do this at once. Nothing is done where there is no `realtime.messages`.
///
/// # Errors
/// When a partition cannot be made; those before it are there. When a day's name is taken by something
/// that is no partition; the others are there.
pub async fn create(client: &mut Client, now_unix: u64) -> anyhow::Result<Vec<String>> {
    let mut created = Vec::new();
    let transaction = begin(client).await?;
    let Some(owner) = act_as_owner(&transaction).await? else { return Ok(created) };
    let missing = transaction
        .query(MISSING, &[&seconds(now_unix)])
        .await
        .context("look for the partitions of realtime.messages")?;
    drop(transaction);
    let mut taken = Vec::new();
    for row in missing {
        let (name, from, to): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        if row.get(3) {
            taken.push(format!("realtime.{name}"));
            continue;
        }
        let transaction = begin(client).await?;
        act_as_owner(&transaction).await?;
        // Another server may be at it.
        transaction
            .batch_execute("lock table only realtime.messages in share update exclusive mode")
            .await
            .context("wait for realtime.messages")?;
        let found = transaction
            .query_one("select to_regclass('realtime.' || $1) is not null", &[&name])
            .await
            .context("look for a partition of realtime.messages")?;
        if found.get(0) {
            continue;
        }
        let made = transaction
            .batch_execute(&format!(
                "create table realtime.{name} (like realtime.messages including all); \
                 alter table realtime.messages attach partition realtime.{name} \
                   for values from ('{from}') to ('{to}')"
            ))
            .await;
        match made {
            Err(error) if is_day_of_others(&error) => {
                tracing::debug!("realtime.{name} is not made: {error}");
                continue;
            }
            made => made.with_context(|| format!("create partition realtime.{name} as {owner}"))?,
        }
        transaction.commit().await.with_context(|| format!("create partition realtime.{name}"))?;
        created.push(name);
    }
    ensure!(
        taken.is_empty(),
        "{} is no partition of realtime.messages, so that its day may have none: attach or rename it",
        taken.join(", ")
    );
    Ok(created)
}

/// Drops the partitions of days that ended more than `retention` before `now_unix` (s since 1970),
/// and returns their names.
///
/// # Errors
/// When a partition cannot be dropped; those before it are gone.
pub async fn drop_outdated(
    client: &mut Client,
    now_unix: u64,
    retention: Duration,
) -> anyhow::Result<Vec<String>> {
    let before = now_unix.saturating_sub(retention.as_secs());
    let outdated = {
        let transaction = begin(client).await?;
        transaction
            .query(OUTDATED, &[&seconds(before)])
            .await
            .context("look for outdated partitions of realtime.messages")?
    };
    let mut dropped = Vec::new();
    for row in outdated {
        let name: String = row.get(0);
        let transaction = begin(client).await?;
        act_as_owner(&transaction).await?;
        transaction
            .batch_execute(&format!("drop table if exists realtime.{name}"))
            .await
            .with_context(|| format!("drop partition realtime.{name}"))?;
        transaction.commit().await.with_context(|| format!("drop partition realtime.{name}"))?;
        dropped.push(name);
    }
    Ok(dropped)
}

/// Whether the day, or a part of it, is held by a partition of others, a default one included: its
/// rows have their place without us.
fn is_day_of_others(error: &tokio_postgres::Error) -> bool {
    [SqlState::INVALID_OBJECT_DEFINITION, SqlState::CHECK_VIOLATION]
        .iter()
        .any(|code| error.code() == Some(code))
}

async fn begin(client: &mut Client) -> anyhow::Result<Transaction<'_>> {
    let transaction = client.transaction().await.context("begin a transaction")?;
    transaction.batch_execute(LOCK_TIMEOUT).await.context("limit the wait for locks")?;
    transaction
        .batch_execute("set local search_path = pg_catalog, pg_temp")
        .await
        .context("set the search path")?;
    Ok(transaction)
}

/// What belongs to the table belongs to its owner. `None` without the table.
async fn act_as_owner(transaction: &Transaction<'_>) -> anyhow::Result<Option<String>> {
    let found = transaction.query_opt(OWNER, &[]).await.context("look for realtime.messages")?;
    let Some(owner) = found.map(|row| row.get::<_, String>(0)) else { return Ok(None) };
    transaction
        .execute("select set_config('role', $1, true)", &[&owner])
        .await
        .with_context(|| format!("act as {owner}, the owner of realtime.messages"))?;
    Ok(Some(owner))
}

/// PostgreSQL counts seconds in floating point, exact far beyond any date.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 seconds")]
fn seconds(unix: u64) -> f64 {
    unix as f64
}
