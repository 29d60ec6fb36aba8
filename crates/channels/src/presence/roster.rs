//! Who appears on a topic, as a structure that nodes merge.
//!
//! Every appearance has a dot: the replica that admitted it and the how-manieth it was there. A
//! roster holds appearances and knows which dots it has seen; one that was seen and is not held has
//! left. So a departure needs no tombstone, and a roster of a few dots is what tells others about
//! them. Merging is commutative, associative and idempotent, as tests of its properties show; only
//! the replica of a dot ever admits or dismisses it.
//! (Optimised observed-remove set: Bieniusa et al., 2012; deltas: Almeida et al., 2018.)

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use walcast_protocol::presence::{PresenceRef, Tracked};

use crate::ChannelId;

/// One life of a topic on one node.
///
/// A topic that nobody was present on is forgotten with its clock, and comes back as another
/// replica; as does everything on a node that was started again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ReplicaId {
    /// The node, by a number that is another one after each start.
    pub node: u32,
    /// Which of the topics' lives on that node.
    pub life: u32,
}

/// The name of an appearance: where it was admitted, and the how-manieth it was.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Dot {
    /// Where.
    pub replica: ReplicaId,
    /// The how-manieth, from 1.
    pub clock: u64,
}

impl Dot {
    /// The name that clients see. The same on every node; on a topic it is not given again before
    /// four thousand million changes have passed.
    #[must_use]
    pub fn reference(self) -> PresenceRef {
        let Self { replica: ReplicaId { node, life }, clock } = self;
        let mut bytes = [0; 12];
        let [.., c0, c1, c2, c3] = clock.to_be_bytes();
        let words = [node.to_be_bytes(), life.to_be_bytes(), [c0, c1, c2, c3]];
        for (byte, source) in bytes.iter_mut().zip(words.as_flattened()) {
            *byte = *source;
        }
        PresenceRef(bytes)
    }
}

/// A channel of a connection, within its node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MemberId {
    /// The connection.
    pub connection: u64,
    /// The channel.
    pub channel: ChannelId,
}

/// An appearance of a member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Whose.
    pub member: MemberId,
    /// Under which key.
    pub key: Arc<str>,
    /// What it says about itself.
    pub tracked: Tracked,
}

/// Who appears, and which dots are known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Roster {
    replicas: BTreeMap<ReplicaId, Replica>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Replica {
    seen: Seen,
    entries: BTreeMap<u64, Arc<Entry>>,
}

/// Something that merging changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// The appearance is there.
    Joined(Dot, Arc<Entry>),
    /// The appearance is gone.
    Left(Dot, Arc<Entry>),
}

impl Roster {
    /// Admits an appearance. Only for a replica of one's own.
    pub fn admit(&mut self, replica: ReplicaId, entry: Arc<Entry>) -> Dot {
        let own = self.replicas.entry(replica).or_default();
        let clock = own.seen.next();
        own.entries.insert(clock, entry);
        Dot { replica, clock }
    }

    /// Dismisses an appearance. Only for a replica of one's own.
    pub fn dismiss(&mut self, dot: Dot) -> Option<Arc<Entry>> {
        self.replicas.get_mut(&dot.replica)?.entries.remove(&dot.clock)
    }

    /// Forgets a replica that is gone for good, and returns those that appeared there.
    pub fn forget(&mut self, replica: ReplicaId) -> Vec<(Dot, Arc<Entry>)> {
        let gone = self.replicas.remove(&replica).unwrap_or_default();
        let named = |(clock, entry)| (Dot { replica, clock }, entry);
        gone.entries.into_iter().map(named).collect()
    }

    /// What tells another node about these dots and no others.
    #[must_use]
    pub fn delta(&self, dots: impl IntoIterator<Item = Dot>) -> Self {
        let mut delta = Self::default();
        for Dot { replica, clock } in dots {
            let Some(ours) = self.replicas.get(&replica) else { continue };
            if ours.seen.contains(clock) {
                let told = delta.replicas.entry(replica).or_default();
                told.seen.insert(clock);
                if let Some(entry) = ours.entries.get(&clock) {
                    told.entries.insert(clock, Arc::clone(entry));
                }
            }
        }
        delta
    }

    /// Takes over what the other one knows, and returns what that changed.
    pub fn merge(&mut self, other: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (&replica, theirs) in &other.replicas {
            let ours = self.replicas.entry(replica).or_default();
            let dot = |clock| Dot { replica, clock };
            ours.entries.retain(|&clock, entry| {
                let stays = theirs.entries.contains_key(&clock) || !theirs.seen.contains(clock);
                if !stays {
                    changes.push(Change::Left(dot(clock), Arc::clone(entry)));
                }
                stays
            });
            for (&clock, entry) in &theirs.entries {
                if !ours.seen.contains(clock) {
                    ours.entries.insert(clock, Arc::clone(entry));
                    changes.push(Change::Joined(dot(clock), Arc::clone(entry)));
                }
            }
            ours.seen.merge(&theirs.seen);
        }
        changes
    }

    /// The appearance of this name.
    #[must_use]
    pub fn entry(&self, dot: Dot) -> Option<&Entry> {
        self.replicas.get(&dot.replica)?.entries.get(&dot.clock).map(|entry| &**entry)
    }

    /// Everybody who appears.
    pub fn entries(&self) -> impl Iterator<Item = (Dot, &Arc<Entry>)> {
        self.replicas.iter().flat_map(|(&replica, held)| {
            held.entries.iter().map(move |(&clock, entry)| (Dot { replica, clock }, entry))
        })
    }

    /// Whether nobody appears.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replicas.values().all(|replica| replica.entries.is_empty())
    }
}

/// A set of clocks: all from 1 to a number, and some beyond. On one's own replica there are none
/// beyond, so that it stays one number however many came and went.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Seen {
    until: u64,
    beyond: BTreeSet<u64>,
}

impl Seen {
    fn contains(&self, clock: u64) -> bool {
        clock <= self.until || self.beyond.contains(&clock)
    }

    /// Adds the next one.
    fn next(&mut self) -> u64 {
        let next = self.until.max(self.beyond.last().copied().unwrap_or_default()) + 1;
        self.insert(next);
        next
    }

    fn insert(&mut self, clock: u64) {
        if clock > self.until {
            self.beyond.insert(clock);
            self.close_up();
        }
    }

    fn merge(&mut self, other: &Self) {
        self.until = self.until.max(other.until);
        self.beyond.extend(&other.beyond);
        self.close_up();
    }

    /// Keeps one form per set: what follows without a gap is not kept beyond.
    fn close_up(&mut self) {
        while let Some(&first) = self.beyond.first()
            && first <= self.until + 1
        {
            self.until = self.until.max(first);
            self.beyond.remove(&first);
        }
    }
}
