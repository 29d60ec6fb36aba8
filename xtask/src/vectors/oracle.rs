//! What walcast has to send in a case by its own rules, worked out without any of its code.
//!
//! ```text
//! WAL (second slot, second decoder) ─► per subscription: covered? privileges? filter? visible?
//!                                                          └────── PostgreSQL answers ──────┘
//! ```
//!
//! Values, filters and policies are all evaluated by PostgreSQL: a policy by inserting the row image
//! into the real table inside a transaction that is rolled back. Whatever cannot be worked out is
//! left open, and the case is compared with the reference alone.

mod coverage;
mod filter;
pub mod matrix;
mod payload;
mod policy;
mod table;

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use tokio_postgres::{Client, SimpleQueryMessage};
use walcast_tests::{Json, WalChange, WalReader};

use super::case::{Case, CaseSubscription};
use super::differences::Difference;
use super::replay::SENTINEL_SCHEMA;
use coverage::Coverage;
use policy::OldVerdict;
use table::{Image, TableFacts};

/// What one subscription has to get.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// What the subscriber is told.
    pub answer: Answer,
    /// The `data` objects in order.
    pub payloads: Vec<Json>,
    /// The rules that were needed.
    pub differences: BTreeSet<Difference>,
    /// Why nothing can be said.
    pub open: Option<String>,
}

/// What a subscriber is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Answer {
    /// What the reference said.
    #[default]
    AsReference,
    /// That it is subscribed, although the reference refused.
    Accepted,
    /// Some error, although the reference accepted.
    Refused,
}

/// The oracle of one case.
#[derive(Debug)]
pub struct Oracle<'a> {
    case: &'a Case,
    session: Client,
    reader: WalReader,
    coverages: Vec<Coverage>,
    own: Vec<Own>,
}

impl<'a> Oracle<'a> {
    /// Looks at what was set up. From here on every commit is seen.
    pub async fn start(case: &'a Case, session: Client, slot: &str) -> Result<Self> {
        let styles = value(
            &session,
            "select current_setting('extra_float_digits')::int < 1 \
             or current_setting('datestyle') not like 'ISO%'",
        )
        .await?;
        let has_other_styles = styles.is_some_and(|text| text == "t");
        session.batch_execute("set extra_float_digits = 1; set datestyle = iso").await?;
        let reader = WalReader::create(&session, slot, "supabase_realtime").await?;
        let mut coverages = Vec::new();
        let mut own = Vec::new();
        for subscription in &case.subscriptions {
            let mut expectation = Own::default();
            if has_other_styles {
                expectation.differences.insert(Difference::OutputStyles);
            }
            let coverage = match coverage::of(&session, subscription, &mut expectation).await {
                Ok(coverage) => coverage,
                Err(error) => {
                    expectation.open = Some(format!("{error:#}"));
                    Coverage::default()
                }
            };
            coverages.push(coverage);
            own.push(expectation);
        }
        let mut oracle = Self { case, session, reader, coverages, own };
        oracle.note_what_holds_for_all();
        Ok(oracle)
    }

    /// Takes in what the last statement committed.
    pub async fn observe(&mut self) -> Result<()> {
        for change in self.reader.take(&self.session).await? {
            if change.relation.schema == SENTINEL_SCHEMA {
                continue;
            }
            for index in 0..self.own.len() {
                if let Err(error) = self.deliver(index, &change).await
                    && let Some(own) = self.own.get_mut(index)
                {
                    own.open.get_or_insert_with(|| format!("{error:#}"));
                    rollback(&self.session).await?;
                }
            }
        }
        Ok(())
    }

    /// What every subscription has to get.
    pub fn finish(self) -> Vec<Own> {
        self.own
    }

    fn note_what_holds_for_all(&mut self) {
        let ddl = ["alter ", "drop ", "revoke ", "grant ", "create "];
        let changes_state = self.case.changes.iter().any(|statement| {
            let statement = statement.to_ascii_lowercase();
            ddl.iter().any(|word| statement.contains(word))
        });
        let writes_subscriptions =
            self.case.changes.iter().any(|statement| statement.contains("realtime.subscription"));
        for own in &mut self.own {
            if self.case.poll_aborted {
                own.differences.insert(Difference::ErrorsAreIsolated);
            }
            if writes_subscriptions {
                own.differences.insert(Difference::SubscriptionsInMemory);
            } else if changes_state {
                own.differences.insert(Difference::StateAtCommit);
            }
        }
        for (own, subscription) in self.own.iter_mut().zip(&self.case.subscriptions) {
            let reference = self.case.expected.get(&subscription.name);
            if reference.is_some_and(|payloads| payloads.iter().any(is_too_large)) {
                own.open = Some("sizes are measured by the reference".to_owned());
            }
        }
    }

    async fn deliver(&mut self, index: usize, change: &WalChange) -> Result<()> {
        let (Some(subscription), Some(coverage), Some(own)) = (
            self.case.subscriptions.get(index),
            self.coverages.get(index),
            self.own.get_mut(index),
        ) else {
            return Ok(());
        };
        let Some(subscribed) = coverage.subscribed_table(change.relation.oid) else {
            return Ok(());
        };
        if !coverage.wants(change.kind) {
            return Ok(());
        }
        let subscription = current_claims(self.case, subscription);
        let table =
            TableFacts::read(&self.session, change.relation.oid, subscribed, &subscription.role)
                .await?;
        own.differences.extend(table.differences(&change.relation));
        if let Some(payload) = decide(&self.session, subscription, &table, change, own).await? {
            own.payloads.push(payload);
        }
        Ok(())
    }
}

/// Two entries with one id are one subscription: the claims of the last hold for both.
fn current_claims<'a>(case: &'a Case, subscription: &'a CaseSubscription) -> &'a CaseSubscription {
    case.subscriptions
        .iter()
        .rev()
        .find(|other| other.id == subscription.id && other.params == subscription.params)
        .unwrap_or(subscription)
}

async fn decide(
    session: &Client,
    subscription: &CaseSubscription,
    table: &TableFacts,
    change: &WalChange,
    own: &mut Own,
) -> Result<Option<Json>> {
    if change.kind != "DELETE" {
        let refusal = if table.columns.iter().all(|column| !column.is_primary_key) {
            Some("Error 400: Bad Request, no primary key")
        } else if table.columns.iter().any(|column| column.is_primary_key && !column.is_selectable)
        {
            Some("Error 401: Unauthorized")
        } else {
            None
        };
        if let Some(refusal) = refusal {
            own.differences.insert(Difference::CommitTimestamp);
            return Ok(Some(payload::refused(change, refusal)));
        }
    }
    let new = Image::new(change);
    let old = Image::old(change);
    let filtered = if change.kind == "DELETE" { &old } else { &new };
    let conditions = filter::resolve(subscription, table, filtered, &old, own)?;
    if !filter::passes(session, &conditions).await? {
        return Ok(None);
    }
    let mut whole_old = true;
    if table.has_row_security {
        if change.kind == "DELETE" {
            own.differences.insert(Difference::DeleteAuthorised);
            match policy::old_verdict(session, subscription, table, &old).await? {
                OldVerdict::Allow => {}
                OldVerdict::Deny => return Ok(None),
                OldVerdict::Unverifiable => whole_old = false,
            }
        } else {
            own.differences.insert(Difference::RowImageDecides);
            if new.has_unknown_values() {
                bail!("the new row is not in the WAL as a whole");
            }
            if !policy::is_visible(session, subscription, table, &new).await? {
                return Ok(None);
            }
            if change.kind == "UPDATE" {
                own.differences.insert(Difference::OldRecordAuthorised);
                let verdict = policy::old_verdict(session, subscription, table, &old).await?;
                whole_old = verdict == OldVerdict::Allow;
            }
        }
    }
    let selected = coverage::selected_columns(subscription);
    let data =
        payload::data(session, table, change, &new, &old, whole_old, selected.as_deref()).await?;
    Ok(Some(data))
}

fn is_too_large(payload: &Json) -> bool {
    payload
        .member("errors")
        .map_or(&[][..], Json::items)
        .iter()
        .any(|error| error.as_str().is_some_and(|text| text.contains("413")))
}

/// The rows of a simple query as texts.
async fn rows(session: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let messages = session.simple_query(sql).await?;
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .map(|row| {
            let texts = (0..row.len()).map(|index| Ok(row.try_get(index)?.map(ToOwned::to_owned)));
            texts.collect()
        })
        .collect()
}

/// The single value of a simple query.
async fn value(session: &Client, sql: &str) -> Result<Option<String>> {
    Ok(rows(session, sql)
        .await?
        .into_iter()
        .next()
        .and_then(|row| row.into_iter().next().flatten()))
}

async fn rollback(session: &Client) -> Result<()> {
    Ok(session.batch_execute("rollback").await?)
}

/// A text as an SQL literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an SQL identifier.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
