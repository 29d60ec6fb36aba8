//! What the doctor looks at, read in one question.

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::{Client, IsolationLevel};

/// The whole picture of a database.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Facts {
    pub(super) version_num: u32,
    pub(super) version: String,
    pub(super) database: String,
    pub(super) encoding: String,
    pub(super) wal_level: String,
    pub(super) synchronous_commit: String,
    pub(super) max_slot_wal_keep_size_mb: i64,
    pub(super) max_replication_slots: u64,
    pub(super) n_replication_slots: u64,
    pub(super) max_wal_senders: u64,
    pub(super) n_wal_senders: u64,
    pub(super) login: Login,
    pub(super) roles: Vec<ApiRole>,
    pub(super) publications: Vec<Publication>,
    pub(super) publishes_updates: bool,
    pub(super) publishes_generated_columns: bool,
    pub(super) ddl_triggers: Vec<DdlTrigger>,
    pub(super) slot: Option<Slot>,
    pub(super) messages: Option<Messages>,
    pub(super) tables: Vec<Table>,
}

/// The role walcast connects as.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Login {
    pub(super) name: String,
    pub(super) is_superuser: bool,
    pub(super) may_replicate: bool,
}

/// One of the roles that tokens usually name.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ApiRole {
    pub(super) name: String,
    pub(super) exists: bool,
    pub(super) may_be_set: bool,
}

/// One of the publications that walcast is to read.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Publication {
    pub(super) name: String,
    pub(super) exists: bool,
    pub(super) n_tables: u64,
    pub(super) publishes: Vec<String>,
    pub(super) via_root: bool,
}

/// One of the event triggers that announce changes of definitions.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct DdlTrigger {
    pub(super) name: String,
    pub(super) exists: bool,
    pub(super) is_enabled: bool,
}

/// The replication slot, when it exists.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Slot {
    pub(super) plugin: Option<String>,
    pub(super) database: Option<String>,
    pub(super) is_active: bool,
    pub(super) wal_status: Option<String>,
    pub(super) lag_bytes: Option<i64>,
}

/// `realtime.messages`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Messages {
    pub(super) owner: String,
    pub(super) owner_may_be_set: bool,
    pub(super) is_partitioned: bool,
    pub(super) is_published: bool,
}

/// A published table.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    /// The qualified name as SQL writes it.
    pub(super) quoted: String,
    pub(super) replica_identity: String,
    pub(super) has_row_security: bool,
    pub(super) n_select_policies: u64,
    pub(super) key_columns: Vec<String>,
    pub(super) generated_columns: Vec<String>,
    pub(super) grants: Vec<Grant>,
}

/// What one of the roles may do with one table.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Grant {
    pub(super) role: String,
    pub(super) has_schema_usage: bool,
    pub(super) may_select: bool,
    pub(super) key_columns_hidden: Vec<String>,
}

impl Facts {
    pub(super) async fn read(
        client: &mut Client,
        publications: &[String],
        slot: &str,
    ) -> anyhow::Result<Self> {
        let transaction = client
            .build_transaction()
            .read_only(true)
            .isolation_level(IsolationLevel::RepeatableRead)
            .start()
            .await
            .context("cannot look at the database")?;
        transaction
            .batch_execute("set local search_path = pg_catalog")
            .await
            .context("cannot look at the database")?;
        let facts: Value = transaction
            .query_one(include_str!("facts.sql"), &[&publications, &slot])
            .await
            .context("cannot read the catalogue")?
            .try_get(0)
            .context("cannot read the catalogue")?;
        serde_json::from_value(facts).context("cannot understand the catalogue")
    }
}
