//! Which transactions a catalogue was read after.

use std::collections::BTreeSet;

/// PostgreSQL's `pg_snapshot`: the transactions that were over when it was taken.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    /// The first transaction that had not begun.
    end: u64,
    /// Those before it that were in progress.
    in_progress: BTreeSet<u64>,
}

impl Snapshot {
    /// Reads PostgreSQL's text form, `xmin:xmax:xip,xip,…`; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (_, end, in_progress) = (parts.next()?, parts.next()?, parts.next()?);
        let in_progress = in_progress.split(',').filter(|id| !id.is_empty());
        Some(Self {
            end: end.parse().ok()?,
            in_progress: in_progress.map(|id| id.parse().ok()).collect::<Option<_>>()?,
        })
    }

    /// Whether it sees what a committed transaction wrote. The stream gives 32 of the 64 bits of an
    /// id; the nearest id to the snapshot's end is meant.
    #[must_use]
    pub fn sees(&self, transaction_id: u32) -> bool {
        let low = u64::from(transaction_id);
        let epoch = self.end & !u64::from(u32::MAX);
        let id = [epoch.checked_sub(1 << 32), Some(epoch), epoch.checked_add(1 << 32)]
            .into_iter()
            .flatten()
            .filter_map(|epoch| epoch.checked_add(low))
            .min_by_key(|id| id.abs_diff(self.end));
        id.is_some_and(|id| id < self.end && !self.in_progress.contains(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_was_over() {
        let snapshot = Snapshot::parse("10:20:10,15").unwrap();
        let seen: Vec<u32> = (8..23).filter(|id| snapshot.sees(*id)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]);
        assert!(!Snapshot::default().sees(3));
    }

    #[test]
    fn ids_are_those_next_to_the_snapshot_when_they_wrap() {
        let snapshot = Snapshot::parse("4294967290:4294967306:4294967295,4294967301").unwrap();
        for (id, expected) in [
            (4_294_967_289, true),
            (4_294_967_295, false),
            (4, true),
            (5, false),
            (9, true),
            (10, false),
            (11, false),
        ] {
            assert_eq!(snapshot.sees(id), expected, "{id}");
        }
    }

    #[test]
    fn only_snapshots_are_read() {
        assert!(Snapshot::parse("7:7:").is_some());
        for text in ["", "7", "7:7", "7:x:", "7:9:8,", "7:9:8,x"] {
            assert_eq!(Snapshot::parse(text).is_some(), text == "7:9:8,", "{text}");
        }
    }
}
