//! `walcast doctor`: what is wrong with a database, and the SQL that mends it.
//!
//! ```text
//! facts      one question over the catalogue           database → Facts
//! server     settings, login, roles                    Facts → Findings
//! stream     publications, slot                        Facts → Findings
//! messages   realtime.messages                         Facts → Findings
//! tables     keys, identity, policies, grants          Facts → Findings
//! policies   who decides them                          Listed → Findings
//! finding    one line
//! ```

mod facts;
mod finding;
mod messages;
mod policies;
mod server;
mod stream;
mod tables;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;

use crate::config::Config;
use crate::database;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Level};
use crate::doctor::stream::Wanted;
use crate::policies::list;

/// Looks at the database that walcast would serve and prints one line for each check.
///
/// The exit code is 1 when something would keep walcast from working.
///
/// # Errors
///
/// Fails when the catalogue cannot be read; a database that cannot be reached is a finding.
pub async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let findings = match database::connect(&config.database).await {
        Ok(mut client) => {
            let replication = &config.replication.options;
            let facts =
                Facts::read(&mut client, &replication.publications, &replication.slot).await?;
            let wanted = Wanted {
                slot: &replication.slot,
                is_temporary: replication.temporary,
                wal_budget_bytes: config.replication.options.wal_budget_bytes.unwrap_or(u64::MAX),
            };
            let mut findings = check(&facts, wanted);
            match list(&mut client, &replication.publications).await {
                Ok(policies) => findings.extend(policies::check(&policies)),
                Err(error) => findings.push(Finding::failure(format!("cannot {error:#}"))),
            }
            findings
        }
        Err(error) => vec![Finding::failure(format!("cannot {error:#}"))],
    };
    let mut output = io::stdout().lock();
    for finding in &findings {
        writeln!(output, "{finding}").context("cannot write the report")?;
    }
    output.flush().context("cannot write the report")?;
    let is_broken = findings.iter().any(|finding| finding.level == Level::Failure);
    Ok(if is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn check(facts: &Facts, wanted: Wanted<'_>) -> Vec<Finding> {
    let mut findings = server::check(facts);
    findings.extend(stream::check(facts, wanted));
    findings.extend(messages::check(facts));
    findings.extend(tables::check(facts));
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A database with which nothing is wrong.
    pub(super) fn healthy() -> Facts {
        let role = |name: &str| json!({ "name": name, "exists": true, "may_be_set": true });
        let grant = |role: &str| {
            json!({
                "role": role,
                "has_schema_usage": true,
                "may_select": true,
                "key_columns_hidden": [],
            })
        };
        serde_json::from_value(json!({
            "version_num": 150_018,
            "version": "15.18",
            "database": "app",
            "encoding": "UTF8",
            "wal_level": "logical",
            "synchronous_commit": "on",
            "max_slot_wal_keep_size_mb": 10_240,
            "max_replication_slots": 10,
            "n_replication_slots": 0,
            "max_wal_senders": 10,
            "n_wal_senders": 0,
            "login": { "name": "walcast", "is_superuser": false, "may_replicate": true },
            "roles": [role("anon"), role("authenticated"), role("service_role")],
            "publications": [{
                "name": "supabase_realtime",
                "exists": true,
                "n_tables": 1,
                "publishes": ["insert", "update", "delete"],
                "via_root": false,
            }],
            "publishes_updates": true,
            "publishes_generated_columns": false,
            "ddl_triggers": [
                { "name": "walcast_ddl", "exists": true, "is_enabled": true },
                { "name": "walcast_drop", "exists": true, "is_enabled": true },
            ],
            "slot": null,
            "messages": {
                "owner": "supabase_realtime_admin",
                "owner_may_be_set": true,
                "is_partitioned": true,
                "is_published": true,
            },
            "tables": [{
                "schema": "public",
                "name": "messages",
                "quoted": "public.messages",
                "replica_identity": "f",
                "has_row_security": true,
                "n_select_policies": 2,
                "key_columns": ["id"],
                "generated_columns": [],
                "grants": [grant("anon"), grant("authenticated"), grant("service_role")],
            }],
        }))
        .unwrap()
    }

    #[test]
    fn a_healthy_database_has_only_good_findings() {
        let wanted =
            Wanted { slot: "walcast", is_temporary: false, wal_budget_bytes: 1024 * 1024 * 1024 };
        for finding in check(&healthy(), wanted) {
            assert_eq!(finding.level, Level::Good, "{finding}");
        }
    }
}
