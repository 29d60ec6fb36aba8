//! What a private channel may do, decided in process where the policies of `realtime.messages` are plain.
//!
//! What is asked about are rows that PostgreSQL would be given and that nobody keeps, see
//! [`super::channels`]: so everything that takes part in such an INSERT and SELECT must be known. Where
//! anything is not, or might raise an error, PostgreSQL is asked.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;
use tokio_postgres::Client;
use walcast_change::{Cell, Row, RowBuilder, Table};
use walcast_channels::{Extensions, Rights, RightsRequest};
use walcast_filters::{
    claims::{Audience, Role},
    policy::{ChannelRule, Compiler},
};
use walcast_replicator::ConnectOptions;

use super::channels::{BROADCAST, PRESENCE};
use crate::{
    catalogue::{channel_rules::ChannelRules, read},
    database,
    http::now_unix,
};

/// How far the clocks of this machine and PostgreSQL's may be apart: so near to midnight it is open
/// which partition takes a row.
const CLOCKS_APART_MAX: u64 = 60;

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// Roles that are kept; tokens name them.
const ROLES_MAX: usize = 100;

/// What is allowed of what is asked at this time in s since 1970; `None` when only PostgreSQL can tell.
#[must_use]
pub fn decide(rules: &ChannelRules, request: &RightsRequest, now_unix: u64) -> Option<Rights> {
    let days = [now_unix.checked_sub(CLOCKS_APART_MAX)?, now_unix.checked_add(CLOCKS_APART_MAX)?];
    if !days.iter().all(|moment| rules.days.contains(&date(*moment))) {
        return None;
    }
    let role = rules.roles.get(&request.role)?;
    let topic = request.topic.sub_topic()?;
    let audience = Audience { role: request.role.clone(), claims: request.claims.clone() };
    let (read, write) = (request.asked.read, request.asked.write);
    let may_select = || {
        ["id", "extension"].iter().all(|name| {
            let column = rules.table.columns.iter().find(|column| &*column.name == *name);
            column
                .and_then(|column| usize::try_from(column.number).ok())
                .is_some_and(|number| role.selectable.contains(number))
        })
    };
    // A role that lacks a privilege is told so by PostgreSQL.
    if (read.any() && !may_select()) || (write.any() && !role.may_insert) {
        return None;
    }
    let passing = |asked: Extensions, rule: Option<&ChannelRule>| -> Option<Extensions> {
        let one = |is_asked: bool, extension: &str| {
            if !is_asked {
                return Some(false);
            }
            let row = probe(&rules.table, topic, extension);
            rule?.passes((&rules.table, &row), &audience, topic)
        };
        Some(Extensions {
            broadcast: one(asked.broadcast, BROADCAST)?,
            presence: one(asked.presence, PRESENCE)?,
        })
    };
    Some(Rights {
        read: passing(read, role.select.as_ref())?,
        write: passing(write, role.insert.as_ref())?,
    })
}

/// The row that PostgreSQL would be given. Its id and times are not known here.
fn probe(table: &Table, topic: &str, extension: &str) -> Row {
    let mut row = RowBuilder::with_capacity(table.columns.len(), topic.len() + 16);
    for column in &table.columns {
        row.push(match &*column.name {
            "topic" => Cell::Text(topic),
            "extension" => Cell::Text(extension),
            "payload" | "event" | "private" | "binary_payload" => Cell::Null,
            _ => Cell::Unchanged,
        });
    }
    row.finish()
}

/// The date (UTC) of a moment, as `YYYY-MM-DD`.
fn date(unix: u64) -> String {
    // The civil calendar, by eras of 400 years that begin with a March.
    let days = unix / SECONDS_PER_DAY + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Keeps the newest rules. They are read while channels are asked about often, and used for as long as
/// the catalogue may be old.
#[derive(Debug)]
pub struct RulesKeeper {
    connect: ConnectOptions,
    max_age: Duration,
    started: Instant,
    newest: ArcSwapOption<Reading>,
    /// When PostgreSQL was asked last, in ms since `started`, and one more.
    asked: AtomicU64,
    reader: Arc<Mutex<Reader>>,
}

#[derive(Debug)]
struct Reading {
    began: Instant,
    rules: Option<ChannelRules>,
    roles: BTreeSet<Role>,
}

#[derive(Debug, Default)]
struct Reader {
    client: Option<Client>,
    roles: BTreeSet<Role>,
    compilers: [Compiler; 2],
}

impl RulesKeeper {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(connect: ConnectOptions, max_age: Duration) -> Arc<Self> {
        Arc::new(Self {
            connect,
            max_age,
            started: Instant::now(),
            newest: ArcSwapOption::empty(),
            asked: AtomicU64::new(0),
            reader: Arc::default(),
        })
    }

    /// What is allowed of what is asked; `None` when PostgreSQL is to be asked.
    pub fn decide(self: &Arc<Self>, request: &RightsRequest) -> Option<Rights> {
        let newest = self.newest.load();
        let young = newest.as_ref().filter(|reading| {
            reading.began.elapsed() < self.max_age && reading.roles.contains(&request.role)
        });
        let Some(reading) = young else {
            self.note_question(&request.role);
            return None;
        };
        if reading.began.elapsed() > self.max_age / 2 {
            self.read_in_background(&request.role);
        }
        decide(reading.rules.as_ref()?, request, now_unix())
    }

    /// One question alone is cheaper than to read the rules; the second within a short time is not the
    /// last.
    fn note_question(self: &Arc<Self>, role: &Role) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let before = self.asked.swap(now, Ordering::Relaxed);
        let is_often = before > 0 && Duration::from_millis(now - before.min(now)) < self.max_age;
        if is_often {
            self.read_in_background(role);
        }
    }

    /// Starts to read unless somebody reads already.
    fn read_in_background(self: &Arc<Self>, role: &Role) {
        let Ok(mut reader) = Arc::clone(&self.reader).try_lock_owned() else { return };
        if reader.roles.len() >= ROLES_MAX {
            reader.roles.clear();
        }
        reader.roles.insert(role.clone());
        let keeper = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = keeper.read(&mut reader).await {
                reader.client = None;
                tracing::debug!("failed to read the rules of private channels: {error:#}");
            }
        });
    }

    async fn read(&self, reader: &mut Reader) -> anyhow::Result<()> {
        let began = Instant::now();
        let client = match reader.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => database::connect(&self.connect).await?,
        };
        let client = reader.client.insert(client);
        let rules = read::channel_rules(client, &reader.roles, &mut reader.compilers).await?;
        let roles = reader.roles.clone();
        // Names that tokens make up are not kept.
        if let Some(rules) = &rules {
            reader.roles.retain(|role| rules.roles.contains_key(role));
        }
        self.newest.store(Some(Arc::new(Reading { began, rules, roles })));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_dates() {
        for (unix, expected) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_795_737_599, "2026-11-26"),
            (1_795_737_600, "2026-11-27"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(unix), expected);
        }
    }
}
