//! The publications and the slot.

use crate::database::quote_identifier;
use crate::doctor::facts::{DdlTrigger, Facts, Publication, Slot};
use crate::doctor::finding::Finding;

/// What the configuration says about the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) slot: &'a str,
    pub(super) is_temporary: bool,
    pub(super) wal_budget_bytes: u64,
}

pub(super) fn check(facts: &Facts, wanted: Wanted<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts.publications.iter().map(publication).collect();
    findings.extend(facts.publications.iter().flat_map(publish_options));
    match &facts.slot {
        Some(slot) => findings.extend(check_slot(slot, &facts.database, wanted)),
        None if wanted.is_temporary => {
            findings.push(Finding::good("the slot is a temporary one, made at each start"));
        }
        None => findings.push(Finding::good(format!(
            "slot {} does not exist yet; walcast creates it at its first start",
            wanted.slot
        ))),
    }
    if !wanted.is_temporary {
        findings.push(retained_wal(facts));
    }
    findings.push(ddl_triggers(facts));
    findings
}

/// Whether the stream says where definitions change.
fn ddl_triggers(facts: &Facts) -> Finding {
    const LOST: &str = "changes of tables, policies and privileges take effect within two seconds, \
                        and rows that are committed meanwhile are judged by the old ones";
    let names = |wanted: fn(&DdlTrigger) -> bool| -> Vec<&str> {
        let found = facts.ddl_triggers.iter().filter(|trigger| wanted(trigger));
        found.map(|trigger| trigger.name.as_str()).collect()
    };
    let missing = names(|trigger| !trigger.exists);
    if !missing.is_empty() {
        let which = missing.join(" and ");
        let is_missing = if missing.len() == 1 {
            "event trigger is missing"
        } else {
            "event triggers are missing"
        };
        return Finding::note(format!("{is_missing}, {which}: {LOST}"))
            .mend("walcast migrate, once, as a superuser");
    }
    let disabled = names(|trigger| !trigger.is_enabled);
    if !disabled.is_empty() {
        let enable: Vec<String> = disabled
            .iter()
            .map(|name| format!("alter event trigger {name} enable always;"))
            .collect();
        return Finding::warning(format!(
            "the event trigger {} is not enabled: {LOST}",
            disabled.join(" and ")
        ))
        .mend(enable.join(" "));
    }
    Finding::good("event triggers announce changes of definitions: each takes effect at its place")
}

fn publication(publication: &Publication) -> Finding {
    let name = &publication.name;
    let quoted = quote_identifier(name);
    if !publication.exists {
        return Finding::failure(format!("publication {name} does not exist: nothing is sent"))
            .mend(format!("create publication {quoted}; -- walcast migrate"));
    }
    match publication.n_tables {
        0 => Finding::warning(format!("publication {name} has no tables: nothing is sent"))
            .mend(format!("alter publication {quoted} add table …;")),
        1 => Finding::good(format!("publication {name} has 1 table")),
        n_tables => Finding::good(format!("publication {name} has {n_tables} tables")),
    }
}

fn publish_options(publication: &Publication) -> Vec<Finding> {
    let name = &publication.name;
    let mut findings = Vec::new();
    if publication.exists && publication.publishes.len() < 3 {
        let published = match publication.publishes.as_slice() {
            [] => "no row changes".to_owned(),
            some => format!("only {}", some.join(", ")),
        };
        findings.push(Finding::note(format!("publication {name} publishes {published}")).mend(
            format!(
                "alter publication {} set (publish = 'insert, update, delete, truncate');",
                quote_identifier(name)
            ),
        ));
    }
    if publication.via_root {
        findings.push(Finding::note(format!(
            "publication {name} publishes partitions via their root: events carry the root's name"
        )));
    }
    findings
}

fn check_slot(slot: &Slot, database: &str, wanted: Wanted<'_>) -> Vec<Finding> {
    let name = wanted.slot;
    let drop_it = format!("select pg_drop_replication_slot('{name}');");
    if slot.plugin.as_deref() != Some("pgoutput") || slot.database.as_deref() != Some(database) {
        let text = format!(
            "slot {name} belongs to somebody else: it decodes {} with {}",
            slot.database.as_deref().unwrap_or("no database"),
            slot.plugin.as_deref().unwrap_or("no plugin"),
        );
        return vec![Finding::failure(text).mend("choose another name with --slot")];
    }
    let status = match slot.wal_status.as_deref() {
        // walcast replaces such a slot by itself, but clients learn that changes were missed.
        Some("lost") => Finding::warning(format!(
            "slot {name} has lost WAL that it needed: the next start makes a new one, and what \
             happened meanwhile is not sent"
        ))
        .mend(drop_it),
        Some("unreserved") => Finding::warning(format!(
            "slot {name} is about to lose WAL that it needs, by max_slot_wal_keep_size"
        ))
        .mend("start walcast, or raise max_slot_wal_keep_size"),
        Some(_) | None if slot.is_active => Finding::good(format!("slot {name} is being read")),
        Some(_) | None => {
            Finding::note(format!("slot {name} is not being read, and retains WAL meanwhile"))
                .mend(format!("start walcast, or give the slot up: {drop_it}"))
        }
    };
    let mut findings = vec![status];
    if let Some(lag) = slot.lag_bytes.and_then(|lag| u64::try_from(lag).ok()) {
        let text = format!("slot {name} is {} behind", size(lag));
        findings.push(if lag < wanted.wal_budget_bytes {
            Finding::good(text)
        } else {
            Finding::warning(format!(
                "{text}, more than the budget of {}: walcast will give it up",
                size(wanted.wal_budget_bytes)
            ))
        });
    }
    findings
}

fn retained_wal(facts: &Facts) -> Finding {
    match u64::try_from(facts.max_slot_wal_keep_size_mb) {
        Ok(megabytes) => Finding::good(format!(
            "max_slot_wal_keep_size is {}",
            size(megabytes.saturating_mul(1024 * 1024))
        )),
        Err(_) => Finding::note(
            "max_slot_wal_keep_size is unlimited: while walcast is stopped, its slot can fill the \
             disk with WAL",
        )
        .mend("alter system set max_slot_wal_keep_size = '10GB'; select pg_reload_conf();"),
    }
}

/// A number of bytes for people to read.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "kB", "MB", "GB", "TB"];
    let mut value = bytes;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 10 * 1024 {
            break;
        }
        value /= 1024;
        unit = larger;
    }
    format!("{value} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;
    use crate::doctor::tests::healthy;

    const WANTED: Wanted<'static> =
        Wanted { slot: "walcast", is_temporary: false, wal_budget_bytes: 1 << 30 };

    fn problems(change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut facts = healthy();
        change(&mut facts);
        check(&facts, WANTED)
            .into_iter()
            .filter(|finding| finding.level != Level::Good)
            .map(|finding| finding.to_string())
            .collect()
    }

    fn check_one(change: impl FnOnce(&mut Facts), start: &str, end: &str) {
        let problems = problems(change);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(start) && problems[0].ends_with(end), "{problems:?}");
    }

    fn slot() -> Slot {
        Slot {
            plugin: Some("pgoutput".into()),
            database: Some("app".into()),
            is_active: true,
            wal_status: Some("reserved".into()),
            lag_bytes: Some(4096),
        }
    }

    #[test]
    fn a_stream_that_runs_and_one_that_never_did_have_no_problems() {
        assert_eq!(problems(|_| {}), [""; 0]);
        assert_eq!(problems(|facts| facts.slot = Some(slot())), [""; 0]);
    }

    #[test]
    fn a_publication_must_exist_and_should_have_tables() {
        check_one(
            |facts| facts.publications[0].exists = false,
            "FAIL  publication supabase_realtime does not exist",
            "create publication \"supabase_realtime\"; -- walcast migrate",
        );
        check_one(
            |facts| facts.publications[0].n_tables = 0,
            "warn  publication supabase_realtime has no tables",
            "alter publication \"supabase_realtime\" add table …;",
        );
        check_one(
            |facts| facts.publications[0].publishes = vec!["insert".into()],
            "note  publication supabase_realtime publishes only insert",
            "'insert, update, delete, truncate');",
        );
        check_one(|facts| facts.publications[0].via_root = true, "note  ", "the root's name");
    }

    #[test]
    fn each_trouble_of_the_slot_is_told() {
        let with = |change: fn(&mut Slot)| {
            move |facts: &mut Facts| {
                let mut slot = slot();
                change(&mut slot);
                facts.slot = Some(slot);
            }
        };
        check_one(
            with(|slot| slot.plugin = Some("wal2json".into())),
            "FAIL  slot walcast belongs to somebody else: it decodes app with wal2json",
            "--slot",
        );
        check_one(
            with(|slot| slot.database = Some("other".into())),
            "FAIL  slot walcast belongs to somebody else: it decodes other",
            "--slot",
        );
        check_one(
            with(|slot| slot.wal_status = Some("lost".into())),
            "warn  slot walcast has lost WAL",
            "select pg_drop_replication_slot('walcast');",
        );
        check_one(
            with(|slot| slot.wal_status = Some("unreserved".into())),
            "warn  slot walcast is about to lose WAL",
            "max_slot_wal_keep_size",
        );
        check_one(
            with(|slot| slot.is_active = false),
            "note  slot walcast is not being read",
            "pg_drop_replication_slot('walcast');",
        );
        check_one(
            with(|slot| slot.lag_bytes = Some(3 << 30)),
            "warn  slot walcast is 3072 MB behind, more than the budget of 1024 MB",
            "give it up",
        );
    }

    #[test]
    fn without_event_triggers_it_is_said_what_is_lost() {
        check_one(
            |facts| facts.ddl_triggers.iter_mut().for_each(|trigger| trigger.exists = false),
            "note  event triggers are missing, walcast_ddl and walcast_drop: changes of tables",
            "mend: walcast migrate, once, as a superuser",
        );
        check_one(
            |facts| facts.ddl_triggers[1].is_enabled = false,
            "warn  the event trigger walcast_drop is not enabled: changes of tables",
            "mend: alter event trigger walcast_drop enable always;",
        );
    }

    #[test]
    fn unlimited_retention_is_worth_a_note() {
        check_one(
            |facts| facts.max_slot_wal_keep_size_mb = -1,
            "note  max_slot_wal_keep_size is unlimited",
            "pg_reload_conf();",
        );
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, expected) in
            [(0, "0 bytes"), (10_239, "10239 bytes"), (10_240, "10 kB"), (u64::MAX, "16777215 TB")]
        {
            assert_eq!(size(bytes), expected);
        }
    }
}
