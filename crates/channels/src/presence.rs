//! Who is present on one topic, and what its listeners are told about it.
//!
//! ```text
//! track, leave ──┐                      ┌─► flush ──► presence_diff, for all listeners
//!                ├─► Roster ─► pending ─┤
//! another node ──┘   (merges)           └─► announced ──► presence_state, for a newcomer
//! ```
//!
//! What changes between two flushes is told as one diff; what came and went between them is not
//! told at all. A newcomer gets the state that the others were told last, and after it the same
//! diffs as they: so a thousand newcomers share one encoding, and nobody is told anything about a
//! newcomer who only listens.

mod roster;

use std::{
    collections::{BTreeMap, btree_map},
    sync::Arc,
};

use walcast_protocol::{
    RawJson,
    presence::{self, Meta, Metas, Tracked},
};

use crate::ChannelId;

pub use roster::{Change, Dot, Entry, MemberId, ReplicaId, Roster};

/// The presence of one topic.
#[derive(Debug)]
pub struct Presence {
    replica: ReplicaId,
    roster: Roster,
    /// The members on this node.
    members: BTreeMap<MemberId, Dot>,
    /// What listeners were told, by key.
    announced: BTreeMap<Arc<str>, BTreeMap<Dot, Arc<Entry>>>,
    /// What they are to be told.
    pending: BTreeMap<Dot, Pending>,
    /// The encoding of `announced`.
    state: Option<RawJson>,
}

#[derive(Debug)]
enum Pending {
    Join(Arc<Entry>),
    Leave(Arc<Entry>),
}

impl Presence {
    /// A topic on which nobody is present; the replica must never have been used before.
    #[must_use]
    pub fn new(replica: ReplicaId) -> Self {
        Self {
            replica,
            roster: Roster::default(),
            members: BTreeMap::new(),
            announced: BTreeMap::new(),
            pending: BTreeMap::new(),
            state: None,
        }
    }

    /// Shows a member, or what it says from here on; `false` when that is what it said before.
    ///
    /// Without a key the member gets one of its own.
    pub fn track(&mut self, member: MemberId, key: Option<&str>, tracked: Tracked) -> bool {
        let before = self.members.get(&member).copied();
        if let Some(entry) = before.and_then(|dot| self.roster.entry(dot))
            && entry.tracked.says_the_same_as(&tracked)
        {
            return false;
        }
        let key = key.map_or_else(|| self.own_key(member), Arc::from);
        if let Some(dot) = before {
            self.dismiss(dot);
        }
        let entry = Arc::new(Entry { member, key, tracked });
        let dot = self.roster.admit(self.replica, Arc::clone(&entry));
        self.members.insert(member, dot);
        self.note(Change::Joined(dot, entry));
        true
    }

    /// Shows a member no longer; `false` when it was not shown.
    pub fn untrack(&mut self, member: MemberId) -> bool {
        self.members.remove(&member).map(|dot| self.dismiss(dot)).is_some()
    }

    /// Takes over what another node knows.
    pub fn merge(&mut self, other: &Roster) {
        for change in self.roster.merge(other) {
            self.note(change);
        }
    }

    /// Forgets those who appeared on a replica that is gone.
    pub fn forget(&mut self, replica: ReplicaId) {
        for (dot, entry) in self.roster.forget(replica) {
            self.note(Change::Left(dot, entry));
        }
    }

    /// What other nodes are to know.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// What listeners are to be told: the payload of a `presence_diff`, if anything has changed.
    pub fn flush(&mut self) -> Option<RawJson> {
        if self.pending.is_empty() {
            return None;
        }
        let pending = std::mem::take(&mut self.pending);
        let (mut joins, mut leaves) = (BTreeMap::new(), BTreeMap::new());
        let mut replaced = BTreeMap::new();
        for (dot, pending) in &pending {
            match pending {
                Pending::Join(entry) => _ = joins.insert((&*entry.key, *dot), entry),
                Pending::Leave(entry) => {
                    leaves.insert((&*entry.key, *dot), entry);
                    replaced.insert((dot.replica, entry.member), dot.reference());
                }
            }
        }
        let mut joining = Metas::default();
        for (&(key, dot), entry) in &joins {
            let previous = replaced.get(&(dot.replica, entry.member)).copied();
            let meta = Meta { reference: dot.reference(), previous, tracked: &entry.tracked };
            joining.push(key, meta);
        }
        let mut leaving = Metas::default();
        for (&(key, dot), entry) in &leaves {
            leaving.push(key, meta(dot, entry));
        }
        let diff = presence::diff(joining, leaving);
        self.state = None;
        for (dot, pending) in pending {
            match pending {
                Pending::Join(entry) => {
                    let key = Arc::clone(&entry.key);
                    self.announced.entry(key).or_default().insert(dot, entry);
                }
                Pending::Leave(entry) => {
                    let key = Arc::clone(&entry.key);
                    if let btree_map::Entry::Occupied(mut told) = self.announced.entry(key) {
                        told.get_mut().remove(&dot);
                        if told.get().is_empty() {
                            told.remove();
                        }
                    }
                }
            }
        }
        Some(diff)
    }

    /// The payload of a newcomer's `presence_state`: what the others were told so far. Encoded once
    /// between two flushes, and shared.
    pub fn state(&mut self) -> RawJson {
        let announced = &self.announced;
        let encode = || {
            let mut metas = Metas::default();
            for (key, entries) in announced {
                for (&dot, entry) in entries {
                    metas.push(key, meta(dot, entry));
                }
            }
            presence::state(metas)
        };
        self.state.get_or_insert_with(encode).clone()
    }

    /// Whether nobody is present and everybody was told: nothing is lost by forgetting the topic.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.roster.is_empty() && self.pending.is_empty()
    }

    /// How many members of this node are shown.
    #[must_use]
    pub fn n_members(&self) -> usize {
        self.members.len()
    }

    fn dismiss(&mut self, dot: Dot) {
        if let Some(entry) = self.roster.dismiss(dot) {
            self.note(Change::Left(dot, entry));
        }
    }

    /// Notes what is to be told; what was not told yet is taken back silently.
    fn note(&mut self, change: Change) {
        let (dot, pending) = match change {
            Change::Joined(dot, entry) => (dot, Pending::Join(entry)),
            Change::Left(dot, entry) => (dot, Pending::Leave(entry)),
        };
        match (self.pending.remove(&dot), &pending) {
            (Some(Pending::Join(_)), Pending::Leave(_))
            | (Some(Pending::Leave(_)), Pending::Join(_)) => {}
            (Some(_) | None, _) => _ = self.pending.insert(dot, pending),
        }
    }

    /// A key that no other member has, in the form of a UUID (version 8 leaves its bits to us).
    fn own_key(&self, member: MemberId) -> Arc<str> {
        let MemberId { connection, channel: ChannelId(channel) } = member;
        // The node is another number after each start, and counts its connections.
        let text = format!(
            "{:08x}-{:04x}-8{:03x}-8{:03x}-{:02x}00{channel:08x}",
            self.replica.node,
            connection >> 32 & 0xffff,
            connection >> 20 & 0xfff,
            connection >> 8 & 0xfff,
            connection & 0xff,
        );
        text.into()
    }
}

fn meta(dot: Dot, entry: &Entry) -> Meta<'_> {
    Meta { reference: dot.reference(), previous: None, tracked: &entry.tracked }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
