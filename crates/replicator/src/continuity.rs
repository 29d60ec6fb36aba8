//! Whether a stream goes on where the last one ended.

use walcast_change::Lsn;

use crate::{Definite, ReplicationError, ReplicationOptions, Taken};

/// Which server and database a stream reads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SystemIdentity {
    /// The number `initdb` gave the cluster.
    pub system_id: String,
    /// The timeline: it goes up with each failover or recovery.
    pub timeline: u32,
    /// The database.
    pub database: String,
}

/// Where a stream stood, to go on from there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resume {
    /// The server it read.
    pub identity: SystemIdentity,
    /// Everything up to here was handed over.
    pub handed_over: Lsn,
    /// What left [`next_batch`](crate::ReplicationStream::next_batch), which will not be given out
    /// again.
    pub taken: Taken,
}

/// What a started stream found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Started {
    /// The server and database.
    pub identity: SystemIdentity,
    /// The server's version as a number, 150018 for 15.18.
    pub server_version: u32,
    /// Whether the slot existed.
    pub slot: SlotStart,
    /// Whether anything may have been missed.
    pub continuity: Continuity,
    /// How many tables the publications publish; with none there will be no events.
    pub publication_tables: usize,
}

/// Where the slot starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SlotStart {
    /// The slot existed and goes on.
    Resumed {
        /// The position it had confirmed.
        confirmed: Lsn,
    },
    /// The slot is new.
    Created {
        /// Transactions that commit after this position are in the stream.
        consistent_point: Lsn,
    },
}

/// Whether anything may have been missed since the last stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Continuity {
    /// There was no stream before.
    FirstStart,
    /// Nothing was missed.
    Unbroken,
    /// Changes may have been missed.
    Broken(Break),
}

/// Why changes may have been missed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Break {
    /// The slot was gone: dropped, temporary, or not taken along by a failover.
    #[error("the replication slot was gone")]
    SlotMissing,
    /// PostgreSQL had given the slot up.
    #[error("PostgreSQL had invalidated the replication slot ({reason})")]
    SlotInvalidated {
        /// PostgreSQL's word for the reason.
        reason: String,
    },
    /// The slot retained more write-ahead log than it may, and was given up.
    #[error("the replication slot retained {retained_bytes} bytes of WAL (budget: {budget_bytes})")]
    WalBudgetExceeded {
        /// What it retained.
        retained_bytes: u64,
        /// What it may retain.
        budget_bytes: u64,
    },
    /// Another cluster answers at the address.
    #[error("another PostgreSQL cluster or database answers (before: {before}, now: {now})")]
    OtherServer {
        /// System identifier and database before.
        before: String,
        /// System identifier and database that answer.
        now: String,
    },
    /// The server's history left the one that was read: a failover or recovery lost changes that
    /// had been read already.
    #[error("the server's history branched off at {branched_at}, before {read_up_to}")]
    TimelineBranched {
        /// Where the timeline that was read ended.
        branched_at: Lsn,
        /// How far it had been read.
        read_up_to: Lsn,
    },
    /// Somebody else read the slot in the meantime, or advanced it.
    #[error("another reader moved the replication slot from {read_up_to} to {confirmed}")]
    SlotAdvanced {
        /// Where this reader had stopped.
        read_up_to: Lsn,
        /// Where the slot goes on.
        confirmed: Lsn,
    },
    /// The publication was dropped while the slot existed, so the slot could not be read on.
    #[error("the publication was dropped and created again")]
    PublicationRecreated,
}

/// A slot that is there.
#[derive(Clone, Debug)]
pub(crate) struct ExistingSlot {
    pub(crate) plugin: String,
    pub(crate) database: String,
    pub(crate) is_logical: bool,
    pub(crate) is_temporary: bool,
    pub(crate) active_pid: Option<i32>,
    pub(crate) confirmed: Lsn,
    /// Why PostgreSQL has given it up, if it has.
    pub(crate) invalidated: Option<String>,
    /// The write-ahead log it keeps the server from removing.
    pub(crate) retained_bytes: u64,
}

/// The server left the timeline that was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Branch {
    /// Where that timeline ended.
    pub(crate) at: Lsn,
}

/// What to do about the slot.
#[derive(Debug, PartialEq)]
pub(crate) enum Plan {
    /// Go on with it.
    Keep { confirmed: Lsn, continuity: Continuity },
    /// Make a new one, after dropping the one that is there.
    Create { continuity: Continuity },
}

/// Decides what becomes of the slot.
pub(crate) fn plan(
    options: &ReplicationOptions,
    identity: &SystemIdentity,
    slot: Option<&ExistingSlot>,
    resume: Option<&Resume>,
    branch: Option<Branch>,
) -> Result<Plan, ReplicationError> {
    if let Some(slot) = slot {
        check_ours(options, identity, slot)?;
    }
    let broken = find_break(options, identity, slot, resume, branch);
    match (slot, broken) {
        (_, Some(Break::SlotAdvanced { read_up_to, confirmed })) => {
            let continuity = Continuity::Broken(Break::SlotAdvanced { read_up_to, confirmed });
            Ok(Plan::Keep { confirmed, continuity })
        }
        (_, Some(broken)) => Ok(Plan::Create { continuity: Continuity::Broken(broken) }),
        (None, None) => Ok(Plan::Create { continuity: Continuity::FirstStart }),
        (Some(slot), None) => {
            let continuity =
                if resume.is_some() { Continuity::Unbroken } else { Continuity::FirstStart };
            Ok(Plan::Keep { confirmed: slot.confirmed, continuity })
        }
    }
}

fn check_ours(
    options: &ReplicationOptions,
    identity: &SystemIdentity,
    slot: &ExistingSlot,
) -> Result<(), ReplicationError> {
    let foreign = |problem: String| -> Result<(), ReplicationError> {
        Err(Definite::ForeignSlot { slot: options.slot.clone(), problem }.into())
    };
    if !slot.is_logical {
        return foreign("it is for physical replication".to_owned());
    }
    if slot.plugin != "pgoutput" {
        return foreign(format!("its output plugin is {}, not pgoutput", slot.plugin));
    }
    if slot.database != identity.database {
        return foreign(format!("it belongs to the database \"{}\"", slot.database));
    }
    if let Some(pid) = slot.active_pid {
        return Err(ReplicationError::SlotActive { pid: Some(pid) });
    }
    if slot.is_temporary {
        // It lives as long as its connection, so somebody has it.
        return Err(ReplicationError::SlotActive { pid: None });
    }
    if options.temporary {
        return foreign("it is durable, but a temporary one is wanted".to_owned());
    }
    Ok(())
}

fn find_break(
    options: &ReplicationOptions,
    identity: &SystemIdentity,
    slot: Option<&ExistingSlot>,
    resume: Option<&Resume>,
    branch: Option<Branch>,
) -> Option<Break> {
    if options.recreate_slot {
        return Some(Break::PublicationRecreated);
    }
    let before = resume.map(|resume| &resume.identity).filter(|before| {
        (&before.system_id, &before.database) != (&identity.system_id, &identity.database)
    });
    if let Some(before) = before {
        return Some(Break::OtherServer { before: describe(before), now: describe(identity) });
    }
    if let (Some(resume), Some(Branch { at })) = (resume, branch) {
        let read_up_to = resume.taken.read_up_to();
        if read_up_to > at {
            return Some(Break::TimelineBranched { branched_at: at, read_up_to });
        }
    }
    let Some(slot) = slot else {
        return resume.map(|_| Break::SlotMissing);
    };
    if let Some(reason) = &slot.invalidated {
        return Some(Break::SlotInvalidated { reason: reason.clone() });
    }
    let retained_bytes = slot.retained_bytes;
    if let Some(budget_bytes) = options.wal_budget_bytes.filter(|budget| retained_bytes > *budget) {
        return Some(Break::WalBudgetExceeded { retained_bytes, budget_bytes });
    }
    let read_up_to = resume.map(|resume| resume.handed_over.max(resume.taken.end))?;
    let confirmed = slot.confirmed;
    (confirmed > read_up_to).then_some(Break::SlotAdvanced { read_up_to, confirmed })
}

fn describe(identity: &SystemIdentity) -> String {
    format!("{} \"{}\"", identity.system_id, identity.database)
}

/// Finds where a timeline ended in a history file, whose lines read `1<tab>0/3000060<tab>reason`.
///
/// A timeline that is no ancestor ended before everything.
pub(crate) fn branch_point(history: &str, timeline: u32) -> Branch {
    let at = history.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()?.parse() == Ok(timeline)).then(|| words.next()?.parse().ok())?
    });
    Branch { at: at.unwrap_or(Lsn::ZERO) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Partial;

    fn options() -> ReplicationOptions {
        ReplicationOptions {
            slot: "w".to_owned(),
            temporary: false,
            publications: vec!["p".to_owned()],
            wal_budget_bytes: None,
            recreate_slot: false,
        }
    }

    fn identity() -> SystemIdentity {
        SystemIdentity { system_id: "7".to_owned(), timeline: 1, database: "app".to_owned() }
    }

    fn slot() -> ExistingSlot {
        ExistingSlot {
            plugin: "pgoutput".to_owned(),
            database: "app".to_owned(),
            is_logical: true,
            is_temporary: false,
            active_pid: None,
            confirmed: Lsn::new(90),
            invalidated: None,
            retained_bytes: 1_000,
        }
    }

    fn resume() -> Resume {
        let taken = Taken { end: Lsn::new(120), partial: None };
        Resume { identity: identity(), handed_over: Lsn::new(100), taken }
    }

    fn keep(continuity: Continuity) -> Plan {
        Plan::Keep { confirmed: Lsn::new(90), continuity }
    }

    fn broken(reason: Break) -> Plan {
        Plan::Create { continuity: Continuity::Broken(reason) }
    }

    #[test]
    fn a_slot_goes_on_or_is_made_anew() {
        let check = |slot: Option<ExistingSlot>, resume: Option<Resume>, expected: Plan| {
            let plan = plan(&options(), &identity(), slot.as_ref(), resume.as_ref(), None);
            assert_eq!(plan.unwrap(), expected);
        };
        check(None, None, Plan::Create { continuity: Continuity::FirstStart });
        check(Some(slot()), None, keep(Continuity::FirstStart));
        check(Some(slot()), Some(resume()), keep(Continuity::Unbroken));
        check(None, Some(resume()), broken(Break::SlotMissing));
        let reason = "wal_removed".to_owned();
        let lost = ExistingSlot { invalidated: Some(reason.clone()), ..slot() };
        check(Some(lost.clone()), None, broken(Break::SlotInvalidated { reason: reason.clone() }));
        check(Some(lost), Some(resume()), broken(Break::SlotInvalidated { reason }));
        let moved = SystemIdentity { system_id: "8".to_owned(), ..identity() };
        check(Some(slot()), Some(Resume { identity: moved, ..resume() }), {
            broken(Break::OtherServer { before: "8 \"app\"".into(), now: "7 \"app\"".into() })
        });
        // Moved by somebody else, but not beyond what was given out.
        let confirmed = Lsn::new(120);
        check(Some(ExistingSlot { confirmed, ..slot() }), Some(resume()), {
            Plan::Keep { confirmed, continuity: Continuity::Unbroken }
        });
        let (read_up_to, confirmed) = (confirmed, Lsn::new(121));
        check(
            Some(ExistingSlot { confirmed, ..slot() }),
            Some(resume()),
            Plan::Keep {
                confirmed,
                continuity: Continuity::Broken(Break::SlotAdvanced { read_up_to, confirmed }),
            },
        );
    }

    #[test]
    fn a_slot_of_the_time_without_the_publication_is_made_anew() {
        let options = ReplicationOptions { recreate_slot: true, ..options() };
        for resume in [None, Some(resume())] {
            let plan = plan(&options, &identity(), Some(&slot()), resume.as_ref(), None);
            assert_eq!(plan.unwrap(), broken(Break::PublicationRecreated));
        }
    }

    #[test]
    fn somebody_elses_slot_is_left_alone() {
        let check = |slot: ExistingSlot, words: &str| {
            let error = plan(&options(), &identity(), Some(&slot), None, None).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        };
        check(ExistingSlot { plugin: "wal2json".into(), ..slot() }, "wal2json");
        check(ExistingSlot { database: "other".into(), ..slot() }, "\"other\"");
        check(ExistingSlot { is_logical: false, ..slot() }, "physical");
        check(ExistingSlot { active_pid: Some(12), ..slot() }, "backend 12");
        check(ExistingSlot { is_temporary: true, ..slot() }, "another process");
        let temporary = ReplicationOptions { temporary: true, ..options() };
        let error = plan(&temporary, &identity(), Some(&slot()), None, None).unwrap_err();
        assert!(error.to_string().contains("durable"), "{error}");
    }

    #[test]
    fn a_failover_breaks_only_what_was_read_beyond_it() {
        let check = |at: u64, taken: Taken, expected: Plan| {
            let (resume, branch) =
                (Resume { taken, ..resume() }, Some(Branch { at: Lsn::new(at) }));
            let plan = plan(&options(), &identity(), Some(&slot()), Some(&resume), branch);
            assert_eq!(plan.unwrap(), expected);
        };
        let whole = Taken { end: Lsn::new(120), partial: None };
        check(120, whole, keep(Continuity::Unbroken));
        let (branched_at, read_up_to) = (Lsn::new(119), Lsn::new(120));
        check(119, whole, broken(Break::TimelineBranched { branched_at, read_up_to }));
        let partial = Some(Partial { commit_lsn: Lsn::new(130), n_items: 1 });
        let (branched_at, read_up_to) = (Lsn::new(125), Lsn::new(130));
        check(125, Taken { partial, ..whole }, {
            broken(Break::TimelineBranched { branched_at, read_up_to })
        });
    }

    #[test]
    fn a_slot_over_its_budget_is_given_up_also_by_a_fresh_process() {
        for (budget, resume) in [(999, None), (999, Some(resume())), (1_000, None)] {
            let options = ReplicationOptions { wal_budget_bytes: Some(budget), ..options() };
            let planned = plan(&options, &identity(), Some(&slot()), resume.as_ref(), None);
            let expected = if budget < 1_000 {
                broken(Break::WalBudgetExceeded { retained_bytes: 1_000, budget_bytes: budget })
            } else {
                keep(Continuity::FirstStart)
            };
            assert_eq!(planned.ok(), Some(expected));
        }
    }

    #[test]
    fn the_history_file_says_where_a_timeline_ended() {
        let history = "1\t0/3000060\tno recovery target specified\n\n2\t1/A0\tbefore x\n";
        for (timeline, at) in [(1, 0x300_0060), (2, 0x1_0000_00A0), (3, 0), (12, 0)] {
            assert_eq!(branch_point(history, timeline), Branch { at: Lsn::new(at) }, "{timeline}");
        }
        assert_eq!(branch_point("1\tnonsense", 1), Branch { at: Lsn::ZERO });
    }
}
