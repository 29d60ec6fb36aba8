//! Whether a stream goes on where the last one ended.

use walcast_change::Lsn;

use crate::assemble::Taken;

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
    /// The publication was dropped while the slot existed, so the slot could not be read on.
    #[error("the publication was dropped and created again")]
    PublicationRecreated,
}
