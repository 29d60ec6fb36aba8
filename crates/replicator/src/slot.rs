//! The slot: its prerequisites, finding, creating and dropping it.

use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use walcast_change::Lsn;

use crate::{
    ConnectOptions, Continuity, Definite, ReplicationError, ReplicationOptions, Resume, SlotStart,
    SystemIdentity, Transient,
    connection::{Answer, Connection},
    continuity::{Branch, ExistingSlot, Plan, branch_point, plan},
    wire::WireError,
};

/// What the server is and how it is set.
pub(crate) struct Server {
    pub(crate) version: u32,
    /// `wal_sender_timeout`, zero for none.
    pub(crate) sender_timeout: Duration,
}

/// The slot a stream may read.
pub(crate) struct Prepared {
    pub(crate) slot: SlotStart,
    pub(crate) continuity: Continuity,
    /// Where the earlier stream's history and the server's part, when they do.
    pub(crate) branch: Option<Branch>,
}

/// Drops a slot; that it does not exist is no failure.
///
/// # Errors
/// When the server cannot be reached, or another process reads the slot.
pub async fn drop_slot(connect: &ConnectOptions, slot: &str) -> Result<(), ReplicationError> {
    check_name(slot)?;
    let mut connection = Connection::open(connect).await?;
    let sql = format!(
        "select pg_catalog.pg_drop_replication_slot(slot_name) \
         from pg_catalog.pg_replication_slots where slot_name = {}",
        escape_literal(slot)
    );
    connection.query("drop the replication slot", &sql).await?;
    connection.close().await;
    Ok(())
}

/// PostgreSQL's own rule for names of slots.
pub(crate) fn check_name(slot: &str) -> Result<(), Definite> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    if !slot.is_empty() && slot.len() < 64 && slot.bytes().all(allowed) {
        return Ok(());
    }
    let problem = "use 1 to 63 lower-case letters, digits and underscores";
    Err(Definite::Option { option: "slot", problem })
}

/// Checks what cannot be mended here, and settles how values are written.
///
/// TimeZone and IntervalStyle stay what the database or the role sets: clients read the values as
/// the database writes them.
pub(crate) async fn set_up(connection: &mut Connection) -> Result<Server, ReplicationError> {
    const ACTION: &str = "set up the replication connection";
    let answer = connection
        .query(
            ACTION,
            "select pg_catalog.set_config('search_path', '', false), \
                    pg_catalog.set_config('datestyle', 'ISO', false), \
                    pg_catalog.set_config('bytea_output', 'hex', false), \
                    pg_catalog.set_config('statement_timeout', '0', false), \
                    case when pg_catalog.current_setting('extra_float_digits')::pg_catalog.int4 \
                              operator(pg_catalog.<) 1 \
                         then pg_catalog.set_config('extra_float_digits', '1', false) end",
        )
        .await?;
    first_row::<5>(ACTION, answer)?;
    let answer = connection
        .query(
            ACTION,
            "select current_setting('server_version_num'), current_setting('server_version'), \
                    current_setting('wal_level'), current_setting('server_encoding'), \
                    current_database(), \
                    (select setting from pg_settings where name = 'wal_sender_timeout')",
        )
        .await?;
    let [number, version, wal_level, encoding, database, timeout_ms] = first_row(ACTION, answer)?;
    let number = parse(ACTION, &number)?;
    if number < 140_000 {
        return Err(Definite::Version { version }.into());
    }
    if wal_level != "logical" {
        return Err(Definite::WalLevel { wal_level }.into());
    }
    if encoding == "SQL_ASCII" {
        return Err(Definite::Encoding { database }.into());
    }
    let sender_timeout = Duration::from_millis(parse(ACTION, &timeout_ms)?);
    Ok(Server { version: number, sender_timeout })
}

/// Ends the empty search path that guards the statements of the set-up: names of tables and
/// functions inside values (`regclass` and its kin) are written as the database would write them.
pub(crate) async fn restore_search_path(
    connection: &mut Connection,
) -> Result<(), ReplicationError> {
    connection.query("set up the replication connection", "reset search_path").await.map(|_| ())
}

/// Asks who answers.
pub(crate) async fn identify(
    connection: &mut Connection,
) -> Result<SystemIdentity, ReplicationError> {
    const ACTION: &str = "identify the server";
    let answer = connection.query(ACTION, "IDENTIFY_SYSTEM").await?;
    let [system_id, timeline, _flushed, database] = first_row(ACTION, answer)?;
    Ok(SystemIdentity { system_id, timeline: parse(ACTION, &timeline)?, database })
}

/// Counts the published tables.
///
/// A slot that is older than its publication cannot be read, so a missing publication is found
/// before a slot is created.
pub(crate) async fn count_published_tables(
    connection: &mut Connection,
    publications: &[String],
) -> Result<usize, ReplicationError> {
    const ACTION: &str = "look up the publications";
    if publications.is_empty() {
        return Err(Definite::Option { option: "publications", problem: "name one" }.into());
    }
    let names: Vec<_> = publications.iter().map(|name| escape_literal(name)).collect();
    let names = names.join(", ");
    let sql = format!("select pubname from pg_publication where pubname in ({names})");
    let found = connection.query(ACTION, &sql).await?;
    let exists = |name: &&String| {
        found.iter().flatten().any(|value| value.as_deref() == Some(name.as_str()))
    };
    if let Some(missing) = publications.iter().find(|name| !exists(name)) {
        return Err(ReplicationError::PublicationMissing { name: missing.clone() });
    }
    let sql = format!(
        "select count(distinct (schemaname, tablename)) from pg_publication_tables \
         where pubname in ({names})"
    );
    let [count] = first_row(ACTION, connection.query(ACTION, &sql).await?)?;
    parse(ACTION, &count)
}

/// Finds the slot, or makes a new one where it is missing or of no use.
pub(crate) async fn prepare(
    connection: &mut Connection,
    options: &ReplicationOptions,
    server: &Server,
    identity: &SystemIdentity,
    resume: Option<&Resume>,
) -> Result<Prepared, ReplicationError> {
    let existing = inspect(connection, &options.slot, server.version).await?;
    let branch = find_branch(connection, identity, resume).await?;
    match plan(options, identity, existing.as_ref(), resume, branch)? {
        Plan::Keep { confirmed, continuity } => {
            Ok(Prepared { slot: SlotStart::Resumed { confirmed }, continuity, branch })
        }
        Plan::Create { continuity } => {
            if existing.is_some() {
                let sql =
                    format!("select pg_drop_replication_slot({})", escape_literal(&options.slot));
                connection.query("drop the unusable replication slot", &sql).await?;
            }
            let consistent_point = create(connection, options).await?;
            Ok(Prepared { slot: SlotStart::Created { consistent_point }, continuity, branch })
        }
    }
}

async fn inspect(
    connection: &mut Connection,
    slot: &str,
    version: u32,
) -> Result<Option<ExistingSlot>, ReplicationError> {
    const ACTION: &str = "look up the replication slot";
    let reason = match version {
        170_000.. => "coalesce(invalidation_reason, 'wal_removed')",
        160_000.. => "case when conflicting then 'conflict with recovery' else 'wal_removed' end",
        _ => "'wal_removed'",
    };
    let sql = format!(
        "select coalesce(plugin, ''), coalesce(database, ''), slot_type, temporary::text, \
                coalesce(active_pid, 0), coalesce(confirmed_flush_lsn, '0/0'), \
                coalesce(wal_status, ''), {reason}, \
                coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() \
                    then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, \
                    restart_lsn), 0)::bigint \
         from pg_replication_slots where slot_name = {}",
        escape_literal(slot)
    );
    let answer = connection.query(ACTION, &sql).await?;
    if answer.is_empty() {
        return Ok(None);
    }
    let [
        plugin,
        database,
        slot_type,
        temporary,
        active_pid,
        confirmed,
        wal_status,
        reason,
        retained,
    ] = first_row(ACTION, answer)?;
    let retained_bytes: i64 = parse(ACTION, &retained)?;
    let active_pid: i32 = parse(ACTION, &active_pid)?;
    Ok(Some(ExistingSlot {
        plugin,
        database,
        is_logical: slot_type == "logical",
        is_temporary: temporary == "true",
        active_pid: Some(active_pid).filter(|pid| *pid != 0),
        confirmed: parse(ACTION, &confirmed)?,
        invalidated: Some(reason).filter(|_| wal_status == "lost"),
        retained_bytes: u64::try_from(retained_bytes).unwrap_or_default(),
    }))
}

/// Where the history that was read ended, when the server is on another timeline of it.
async fn find_branch(
    connection: &mut Connection,
    identity: &SystemIdentity,
    resume: Option<&Resume>,
) -> Result<Option<Branch>, ReplicationError> {
    const ACTION: &str = "read the history of the server's timeline";
    let Some(before) = resume.map(|resume| &resume.identity) else {
        return Ok(None);
    };
    if before.system_id != identity.system_id || before.timeline == identity.timeline {
        return Ok(None);
    }
    if before.timeline > identity.timeline {
        return Ok(Some(Branch { at: Lsn::ZERO }));
    }
    let command = format!("TIMELINE_HISTORY {}", identity.timeline);
    let [_file, history] = first_row(ACTION, connection.query(ACTION, &command).await?)?;
    Ok(Some(branch_point(&history, before.timeline)))
}

/// Waits for the transactions that are open on the server, as PostgreSQL must.
async fn create(
    connection: &mut Connection,
    options: &ReplicationOptions,
) -> Result<Lsn, ReplicationError> {
    const ACTION: &str = "create the replication slot";
    const DUPLICATE_OBJECT: &str = "42710";
    let temporary = if options.temporary { " TEMPORARY" } else { "" };
    let command = format!(
        "CREATE_REPLICATION_SLOT {}{temporary} LOGICAL pgoutput NOEXPORT_SNAPSHOT",
        escape_identifier(&options.slot)
    );
    let answer = match connection.query(ACTION, &command).await {
        // Another process was faster.
        Err(ReplicationError::Definite(Definite::Server { source, .. }))
            if source.code == DUPLICATE_OBJECT =>
        {
            return Err(Transient::Server { action: ACTION, source }.into());
        }
        result => result?,
    };
    let row = answer.into_iter().next().unwrap_or_default();
    let point = row.into_iter().nth(1).flatten().ok_or(WireError::Answer(ACTION))?;
    parse(ACTION, &point)
}

/// The command that starts the stream at a position; zero stands for the slot's own.
pub(crate) fn start_command(options: &ReplicationOptions, start: Lsn) -> String {
    let publications: Vec<_> =
        options.publications.iter().map(|name| escape_identifier(name)).collect();
    format!(
        "START_REPLICATION SLOT {} LOGICAL {start} \
         (proto_version '1', publication_names {}, messages 'true')",
        escape_identifier(&options.slot),
        replication_literal(&publications.join(",")),
    )
}

/// The replication grammar knows only plain literals, where a backslash is a backslash.
fn replication_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn first_row<const N: usize>(
    action: &'static str,
    answer: Answer,
) -> Result<[String; N], WireError> {
    let row = answer.into_iter().next().ok_or(WireError::Answer(action))?;
    let values: Vec<_> = row.into_iter().map(Option::unwrap_or_default).collect();
    values.try_into().map_err(|_| WireError::Answer(action))
}

fn parse<T: std::str::FromStr>(action: &'static str, text: &str) -> Result<T, ReplicationError> {
    text.parse().map_err(|_| WireError::Answer(action).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_in_the_command() {
        let options = ReplicationOptions {
            slot: "walcast".to_owned(),
            temporary: false,
            publications: vec!["supabase_realtime".to_owned(), "it's \"new\", \\o/".to_owned()],
            wal_budget_bytes: None,
            recreate_slot: false,
        };
        assert_eq!(
            start_command(&options, Lsn::new(0x1_0000_0002)),
            "START_REPLICATION SLOT \"walcast\" LOGICAL 1/2 (proto_version '1', \
             publication_names '\"supabase_realtime\",\"it''s \"\"new\"\", \\o/\"', \
             messages 'true')"
        );
    }

    #[test]
    fn slots_are_named_as_postgresql_allows() {
        for name in ["a", "walcast_1", &"x".repeat(63)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "Walcast", "wal-cast", "é", "a b", &"x".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
