//! Reads what decides about private channels: `realtime.messages`, its policies, and who may do what.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use tokio_postgres::{Client, Transaction};
use walcast_change::{RoleId, TableId};
use walcast_filters::{
    claims::Role,
    policy::{Compiler, RowSecurity},
};

use super::{
    ATTEMPTS_MAX, Blocked, assemble, begin, columns, guards, known_roles, place,
    policies::{Command, Policies},
    types,
};
use crate::catalogue::channel_rules::{ChannelRole, ChannelRules};

const MESSAGES: &str = include_str!("messages.sql");

/// What messages.sql reads.
#[derive(PartialEq)]
struct Messages {
    id: u32,
    owner: RoleId,
    days: BTreeSet<String>,
    is_plain: bool,
    settable: BTreeSet<String>,
    may_insert: BTreeSet<String>,
}

/// Reads the rules for these roles, with what a compiler had compiled before; and the compilers for the
/// next time. `None` where there is no such table, or it is made in a way that is not known here.
///
/// As the catalogue, it is read twice, since some of PostgreSQL's functions answer by its newest state.
///
/// # Errors
/// When a statement fails, or the rules change faster than they can be read.
pub async fn channel_rules(
    client: &mut Client,
    roles: &BTreeSet<Role>,
    compilers: &mut [Compiler; 2],
) -> anyhow::Result<Option<ChannelRules>> {
    for _ in 0..ATTEMPTS_MAX {
        match attempt(client, roles, compilers).await? {
            Attempt::Read(rules) => return Ok(Some(*rules)),
            Attempt::Unknown => return Ok(None),
            Attempt::Changed => {}
        }
    }
    anyhow::bail!("read the rules of private channels: they changed each time they were read")
}

enum Attempt {
    Read(Box<ChannelRules>),
    Unknown,
    Changed,
}

async fn attempt(
    client: &mut Client,
    roles: &BTreeSet<Role>,
    compilers: &mut [Compiler; 2],
) -> anyhow::Result<Attempt> {
    let transaction = begin(client).await?;
    let Some(messages) = messages(&transaction, roles).await? else { return Ok(Attempt::Unknown) };
    let ids = [messages.id];
    let nothing = Blocked::default();
    let read = guards(&transaction, &[], &ids, &nothing).await?;
    let insert = Policies::read(&transaction, &ids, Command::Insert);
    let insert = insert.await.context("read the policies for INSERT")?;
    let (_, digest) = place(&transaction, &ids).await.context("read the place")?;
    let types = std::sync::Arc::new(types(&transaction, &ids).await.context("read the types")?);
    let columns = columns(&transaction, &ids, &types).await.context("read the columns")?;
    let known = known_roles(&transaction, &ids, roles).await.context("read the roles")?;
    transaction.commit().await?;

    let transaction = begin(client).await?;
    let messages_after = self::messages(&transaction, roles).await?;
    let read_after = guards(&transaction, &[], &ids, &nothing).await?;
    let insert_after = Policies::read(&transaction, &ids, Command::Insert);
    let insert_after = insert_after.await.context("read the policies for INSERT")?;
    let (_, digest_after) = place(&transaction, &ids).await.context("read the place")?;
    let known_after = known_roles(&transaction, &ids, roles).await.context("read the roles")?;
    transaction.commit().await?;
    let is_same = messages_after.as_ref() == Some(&messages)
        && read_after == read
        && insert_after == insert
        && digest_after == digest
        && known_after == known;
    if !is_same {
        return Ok(Attempt::Changed);
    }

    let mut read = read;
    read.policies.environment.has_channel_settings = true;
    let [select_compiler, insert_compiler] = compilers;
    let (mut tables, compiler) = assemble(read, columns, &types, select_compiler);
    *select_compiler = compiler;
    let Some(table) = tables.remove(&TableId(messages.id)) else { return Ok(Attempt::Unknown) };
    let Ok(known_table) = std::sync::Arc::try_unwrap(table) else { return Ok(Attempt::Unknown) };
    if !messages.is_plain || known_table.has_own_collation {
        return Ok(Attempt::Unknown);
    }
    let (select, table) = (known_table.row_security, known_table.table);
    let mut insert = insert;
    insert.environment.has_channel_settings = true;
    let mut compiler = Compiler::new(std::mem::take(&mut insert.environment), insert_compiler);
    let policies = insert.compile(&table, &mut compiler);
    *insert_compiler = compiler.finish();
    let insert = RowSecurity { policies, ..select };
    let roles: BTreeMap<Role, ChannelRole> = known
        .into_iter()
        .filter_map(|(role, known)| {
            let known = known.filter(|_| messages.settable.contains(role.as_str()))?;
            let may_insert = messages.may_insert.contains(role.as_str());
            let selectable = known.selectable.get(&table.id).cloned().unwrap_or_default();
            let rule =
                |security: &RowSecurity| security.channel_rule_for(&known.facts, messages.owner);
            let (select, insert) = (rule(&select), rule(&insert));
            Some((role, ChannelRole { selectable, may_insert, select, insert }))
        })
        .collect();
    let rules = ChannelRules { table, roles, days: messages.days };
    Ok(Attempt::Read(Box::new(rules)))
}

async fn messages(
    transaction: &Transaction<'_>,
    roles: &BTreeSet<Role>,
) -> anyhow::Result<Option<Messages>> {
    let names: Vec<&str> = roles.iter().map(Role::as_str).collect();
    let row =
        transaction.query_opt(MESSAGES, &[&names]).await.context("read about realtime.messages")?;
    let Some(row) = row else { return Ok(None) };
    let set = |column: &str| -> anyhow::Result<BTreeSet<String>> {
        Ok(row.try_get::<_, Vec<String>>(column)?.into_iter().collect())
    };
    let is_plain: Option<bool> = row.try_get("is_plain")?;
    let owner_is_settable: bool = row.try_get("owner_is_settable")?;
    Ok(Some(Messages {
        id: row.try_get("id")?,
        owner: RoleId(row.try_get("owner")?),
        days: set("days")?,
        is_plain: is_plain.unwrap_or_default() && owner_is_settable,
        settable: set("settable")?,
        may_insert: set("may_insert")?,
    }))
}
