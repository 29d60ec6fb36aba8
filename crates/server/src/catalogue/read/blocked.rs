//! Reading while somebody holds a table: PostgreSQL locks a table to write its policies as text, and
//! to list what is published. A change of a large table holds it for as long as it takes, and the
//! rows of all others must not wait for that.

use std::collections::HashSet;

use tokio_postgres::{Client, error::SqlState};
use walcast_change::TableId;
use walcast_filters::policy::RowSecurity;

use crate::catalogue::Catalogue;

const BLOCKED: &str = include_str!("blocked.sql");

/// What is not read, but taken from the previous snapshot.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    /// Whether the list of published tables is.
    pub(super) is_publication: bool,
    /// Those that were published, when it is.
    pub(super) published: Vec<u32>,
    /// The tables whose policies are.
    pub(super) tables: HashSet<TableId>,
}

impl Blocked {
    /// Finds out what a lock is in the way of.
    pub(super) async fn find(client: &Client, previous: &Catalogue) -> anyhow::Result<Self> {
        let rows = client.query(BLOCKED, &[]).await?;
        let tables = rows.iter().map(|row| Ok(TableId(row.try_get("table")?)));
        let published = previous.tables.values().filter(|known| known.is_published);
        Ok(Self {
            is_publication: true,
            published: published.map(|known| known.table.id.0).collect(),
            tables: tables.collect::<Result<_, tokio_postgres::Error>>()?,
        })
    }

    /// The row security of a table whose policies cannot be read: the previous one if its policies
    /// are still the same; nothing may be seen otherwise.
    pub(super) fn row_security(
        previous: &Catalogue,
        table: TableId,
        policy_versions: &str,
        read: &RowSecurity,
    ) -> RowSecurity {
        let known = previous.tables.get(&table);
        match known.filter(|known| *known.policy_versions == *policy_versions) {
            Some(known) => RowSecurity {
                is_enabled: read.is_enabled,
                is_forced: read.is_forced,
                policies: known.row_security.policies.clone(),
            },
            None => RowSecurity { is_enabled: true, is_forced: true, policies: Box::default() },
        }
    }
}

/// Whether a statement gave up waiting for a lock.
pub(super) fn is_blocked(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<tokio_postgres::Error>())
        .any(|error| error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
}
