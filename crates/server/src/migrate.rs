//! Applying `sql/` to a database.
//!
//! Every object is idempotent and creates only what is missing, so the same list is applied each
//! time, in one transaction, by one walcast at a time.

use std::time::Duration;

use anyhow::Context;
use walcast_replicator::ConnectOptions;

use crate::{database, http, messages::partitions};

/// The key of the advisory lock: "walcast" in ASCII.
const LOCK: i64 = 0x0077_616c_6361_7374;

/// One file of `sql/objects`.
struct Object {
    name: &'static str,
    sql: &'static str,
    applied: Applied,
}

/// When an object is applied.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Applied {
    /// By every migration.
    Always,
    /// Only when a plain PostgreSQL is to get what Supabase's has: it may belong to others.
    OnBootstrap,
    /// Unless it is declined: it takes part in the statements of others.
    UnlessDeclined,
    /// By every migration, and by the server itself when it starts.
    Realtime,
}

macro_rules! object {
    ($name:literal, $applied:ident) => {
        Object {
            name: $name,
            sql: include_str!(concat!("../../../sql/objects/", $name, ".sql")),
            applied: Applied::$applied,
        }
    };
}

const OBJECTS: [Object; 16] = [
    object!("00_report", Realtime),
    object!("10_roles", OnBootstrap),
    object!("11_membership", OnBootstrap),
    object!("20_auth", OnBootstrap),
    object!("21_auth_jwt", OnBootstrap),
    object!("22_auth_uid", OnBootstrap),
    object!("23_auth_role", OnBootstrap),
    object!("24_auth_email", OnBootstrap),
    object!("30_publication", Always),
    object!("40_announce_ddl", UnlessDeclined),
    object!("50_realtime", Realtime),
    object!("51_realtime_topic", Realtime),
    object!("52_realtime_messages", Realtime),
    object!("53_realtime_send", Realtime),
    object!("54_realtime_broadcast_changes", Realtime),
    object!("55_realtime_publication", Realtime),
];

/// Whether roles and schema `auth` are created on a PostgreSQL that has none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bootstrap {
    /// They are, where they are missing.
    Yes,
    /// They are left to others.
    No,
}

/// Whether event triggers announce changes of definitions in the write-ahead log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DdlTriggers {
    /// They are created where they are missing and the login may.
    Yes,
    /// They are not.
    No,
}

/// What a migration creates.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// All that is missing.
    Everything {
        /// Whether roles and schema `auth` are among it.
        bootstrap: Bootstrap,
        /// Whether event triggers are among it.
        ddl_triggers: DdlTriggers,
        /// The name of the publication of the tables.
        publication: &'a str,
    },
    /// Schema `realtime` only: what the server sees to itself.
    Realtime,
}

/// Applies the objects, and returns what was done, one line each; nothing when all was there. The
/// partitions of `realtime.messages` are among it unless the server sees to them itself.
///
/// # Errors
///
/// Fails without having changed anything when an object cannot be applied, and names it.
pub async fn run(connect: &ConnectOptions, scope: Scope<'_>) -> anyhow::Result<Vec<String>> {
    let mut client = database::connect(connect).await?;
    let transaction = client.transaction().await.context("cannot begin the migration")?;
    transaction
        .batch_execute(&format!("set local lock_timeout = '{}s'", scope.lock_timeout().as_secs()))
        .await
        .context("cannot limit the wait for locks")?;
    transaction.execute("select pg_catalog.pg_advisory_xact_lock($1)", &[&LOCK]).await.context(
        "another session holds the lock of migrations; see pg_locks, locktype 'advisory', for who",
    )?;
    let publication = match scope {
        Scope::Everything { publication, .. } => publication,
        Scope::Realtime => "",
    };
    // Nothing that others may create can get between an object and PostgreSQL's own functions.
    transaction
        .execute(
            "select set_config('search_path', 'pg_catalog, pg_temp', true),
                    set_config('walcast.publication', $1, true)",
            &[&publication],
        )
        .await
        .context("cannot prepare the migration")?;
    for object in OBJECTS.iter().filter(|object| scope.has(object.applied)) {
        transaction
            .batch_execute(object.sql)
            .await
            .with_context(|| format!("cannot apply sql/objects/{}.sql", object.name))?;
    }
    let report: Option<String> = transaction
        .query_one("select current_setting('walcast.report', true)", &[])
        .await
        .context("cannot read what the migration did")?
        .get(0);
    transaction.commit().await.context("cannot commit the migration")?;
    let mut done: Vec<String> = report.unwrap_or_default().lines().map(str::to_owned).collect();
    if let Scope::Everything { .. } = scope {
        match partitions::create(&mut client, http::now_unix()).await {
            Ok(created) => {
                done.extend(created.iter().map(|name| format!("created partition realtime.{name}")));
            }
            // The rest is done. Whoever owns the table makes them, or grants the right.
            Err(error) => done.push(format!(
                "the partitions of realtime.messages were not looked after, since {} may not: {error:#}",
                connect.user
            )),
        }
    }
    Ok(done)
}

impl Scope<'_> {
    /// How long a migration waits for each lock. Any session may hold them, so the server, which
    /// tries again, does not let its stream wait for long.
    fn lock_timeout(self) -> Duration {
        match self {
            Self::Everything { .. } => Duration::from_secs(30),
            Self::Realtime => Duration::from_secs(2),
        }
    }

    fn has(self, applied: Applied) -> bool {
        match (self, applied) {
            (_, Applied::Realtime) => true,
            (Self::Realtime, Applied::Always | Applied::OnBootstrap | Applied::UnlessDeclined) => {
                false
            }
            (Self::Everything { .. }, Applied::Always) => true,
            (Self::Everything { bootstrap, .. }, Applied::OnBootstrap) => {
                bootstrap == Bootstrap::Yes
            }
            (Self::Everything { ddl_triggers, .. }, Applied::UnlessDeclined) => {
                ddl_triggers == DdlTriggers::Yes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_applied_in_the_order_of_the_names() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql/objects");
        let mut files: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let applied: Vec<String> =
            OBJECTS.iter().map(|object| format!("{}.sql", object.name)).collect();
        assert_eq!(applied, files);
    }
}
