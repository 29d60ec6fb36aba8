//! Which catalogue judges the next row.
//!
//! Without the event triggers of `sql/objects/40_announce_ddl.sql` it is the newest that was read.
//! With them, a reading must not be used ahead of its place: it may have changes of definitions that
//! the stream has not come to. So it waits as the candidate until the stream has reached the position
//! at which it was read, or comes to a transaction that announces a change and that it has.
//! What a role is, and what it inherits, is never announced; that part counts at once.

use std::sync::Arc;

use walcast_change::Lsn;

use crate::catalogue::{
    Catalogue,
    reading::{Place, Reading},
};

/// The catalogue in force, and the one that will be.
#[derive(Debug)]
pub(super) struct InForce {
    catalogue: Arc<Catalogue>,
    /// The place of its tables.
    place: Place,
    /// The newest reading that was looked at; its roles are in force.
    newest: Arc<Reading>,
    /// Whether the newest reading is in force.
    is_newest: bool,
    /// The oldest reading that says something else and whose place was not reached.
    candidate: Option<Arc<Reading>>,
}

impl InForce {
    /// A reading that counts from here on.
    pub(super) fn new(reading: &Arc<Reading>) -> Self {
        Self {
            catalogue: Arc::clone(&reading.catalogue),
            place: reading.place.clone(),
            newest: Arc::clone(reading),
            is_newest: true,
            candidate: None,
        }
    }

    /// The catalogue that judges.
    pub(super) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// Whether the stream announces changes of definitions.
    pub(super) fn is_announced(&self) -> bool {
        self.place.trigger.is_some()
    }

    /// Whether the changes of definitions of a committed transaction are in force.
    pub(super) fn has(&self, transaction_id: u32) -> bool {
        self.place.snapshot.sees(transaction_id)
    }

    /// Looks at the newest reading when the next transaction's commit is at `next`. `generation`
    /// numbers a catalogue that is combined of two.
    pub(super) fn look_at(
        &mut self,
        newest: &Arc<Reading>,
        next: Lsn,
        generation: impl Fn() -> u64,
    ) {
        // Other triggers, or none: changes between the two may not have been announced.
        if !self.is_announced() || newest.place.trigger != self.place.trigger {
            *self = Self::new(newest);
            return;
        }
        self.note_newest(newest, &generation);
        if self.is_newest {
            return;
        }
        if self.candidate.as_ref().is_some_and(|candidate| candidate.place.position <= next)
            && let Some(candidate) = self.candidate.take()
        {
            self.take(&candidate, &generation);
        }
        if self.candidate.is_some() {
            return;
        }
        let says_the_same = self.catalogue.has_definitions_of(&newest.catalogue);
        if says_the_same || newest.place.position <= next {
            self.take(newest, &generation);
        } else {
            self.candidate = Some(Arc::clone(newest));
        }
    }

    /// At the place of a transaction that announces changes: puts the oldest reading in force that
    /// has them. False when none has.
    pub(super) fn take_with(
        &mut self,
        newest: &Arc<Reading>,
        transaction_id: u32,
        generation: impl Fn() -> u64,
    ) -> bool {
        if self.has(transaction_id) {
            return true;
        }
        self.note_newest(newest, &generation);
        let candidate = self.candidate.iter().chain([newest]);
        let found =
            candidate.into_iter().find(|reading| reading.place.snapshot.sees(transaction_id));
        let Some(reading) = found.map(Arc::clone) else { return false };
        self.candidate = None;
        self.take(&reading, &generation);
        true
    }

    fn note_newest(&mut self, newest: &Arc<Reading>, generation: &impl Fn() -> u64) {
        if !Arc::ptr_eq(&self.newest, newest) {
            self.newest = Arc::clone(newest);
            self.is_newest = false;
            self.take_roles(generation);
        }
    }

    fn take(&mut self, reading: &Arc<Reading>, generation: &impl Fn() -> u64) {
        self.catalogue = Arc::clone(&reading.catalogue);
        self.place = reading.place.clone();
        self.is_newest = Arc::ptr_eq(reading, &self.newest);
        self.take_roles(generation);
    }

    fn take_roles(&mut self, generation: &impl Fn() -> u64) {
        let newer = &self.newest.catalogue;
        if self.catalogue.generation == newer.generation {
            return;
        }
        if let Some(combined) = self.catalogue.with_roles_of(newer, generation) {
            self.catalogue = Arc::new(combined);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeSet};

    use walcast_change::{RoleId, TableId};
    use walcast_filters::{claims::Role, policy::RoleFacts};

    use super::*;
    use crate::catalogue::{KnownRole, snapshot::Snapshot};

    const TABLE: TableId = TableId(1);

    /// Says which of a table's columns anon may select and whether it bypasses row security.
    fn reading(generation: u64, columns: &[usize], bypasses: bool, place: Place) -> Arc<Reading> {
        let facts = RoleFacts {
            id: RoleId(20),
            bypasses_row_security: bypasses,
            has_privileges_of: BTreeSet::new(),
            may_run: BTreeSet::new(),
        };
        let selectable = [(TABLE, columns.iter().copied().collect())].into();
        let roles = [(Role::new("anon"), Some(KnownRole { facts, selectable }))].into();
        let catalogue = Catalogue { generation, roles, ..Catalogue::default() };
        Arc::new(Reading { catalogue: Arc::new(catalogue), place, began: None })
    }

    /// A place after the transactions before `end`, with triggers.
    fn place(end: u64, position: u64) -> Place {
        Place {
            snapshot: Snapshot::parse(&format!("{end}:{end}:")).unwrap(),
            position: Lsn::new(position),
            trigger: Some("1:1,2:1".into()),
        }
    }

    struct Steps {
        in_force: InForce,
        generation: Cell<u64>,
    }

    impl Steps {
        fn new(first: &Arc<Reading>) -> Self {
            Self { in_force: InForce::new(first), generation: Cell::new(100) }
        }

        fn next(&self) -> u64 {
            self.generation.set(self.generation.get() + 1);
            self.generation.get()
        }

        fn columns(&self) -> Vec<usize> {
            let role = self.in_force.catalogue().role(&Role::new("anon")).unwrap();
            role.selectable[&TABLE].iter().collect()
        }

        fn bypasses(&self) -> bool {
            let role = self.in_force.catalogue().role(&Role::new("anon")).unwrap();
            role.facts.bypasses_row_security
        }

        /// The columns in force for a row whose commit is at `next`.
        fn at(&mut self, newest: &Arc<Reading>, next: u64) -> Vec<usize> {
            let mut in_force = std::mem::replace(&mut self.in_force, InForce::new(newest));
            in_force.look_at(newest, Lsn::new(next), || self.next());
            self.in_force = in_force;
            self.columns()
        }

        fn announced(&mut self, newest: &Arc<Reading>, transaction_id: u32) -> bool {
            let mut in_force = std::mem::replace(&mut self.in_force, InForce::new(newest));
            let is_taken = in_force.take_with(newest, transaction_id, || self.next());
            self.in_force = in_force;
            is_taken
        }
    }

    #[test]
    fn without_triggers_the_newest_counts_at_once() {
        let untold = |end, position| Place { trigger: None, ..place(end, position) };
        let mut steps = Steps::new(&reading(1, &[1], false, untold(10, 1000)));
        assert_eq!(steps.at(&reading(2, &[2], false, untold(20, 2000)), 500), [2]);
        assert_eq!(steps.at(&reading(3, &[3], false, place(30, 3000)), 500), [3]);
        assert_eq!(steps.at(&reading(4, &[4], false, untold(40, 4000)), 500), [4]);
    }

    #[test]
    fn with_triggers_a_reading_waits_for_the_stream_to_reach_it() {
        let mut steps = Steps::new(&reading(1, &[1], false, place(10, 1000)));
        let (second, third) =
            (reading(2, &[2], false, place(20, 2000)), reading(3, &[3], false, place(30, 3000)));
        assert_eq!(steps.at(&second, 1500), [1]);
        assert_eq!(steps.at(&third, 1999), [1]);
        // The older one is not lost behind the newer.
        assert_eq!(steps.at(&third, 2000), [2]);
        assert_eq!(steps.at(&third, 2999), [2]);
        assert_eq!(steps.at(&third, 3000), [3]);
    }

    #[test]
    fn an_announced_change_counts_at_its_place() {
        let first = reading(1, &[1], false, place(10, 1000));
        let mut steps = Steps::new(&first);
        let (second, third) =
            (reading(2, &[2], false, place(20, 2000)), reading(3, &[3], false, place(30, 3000)));
        assert!(steps.announced(&first, 9) && !steps.announced(&first, 15));
        assert_eq!(steps.at(&second, 1200), [1]);
        assert_eq!(steps.at(&third, 1300), [1]);
        assert!(steps.announced(&third, 15));
        assert_eq!(steps.columns(), [2]);
        assert!(steps.announced(&third, 16) && steps.announced(&third, 25));
        assert_eq!(steps.columns(), [3]);
        assert!(!steps.announced(&third, 35));
    }

    #[test]
    fn a_reading_that_says_the_same_needs_no_place() {
        let first = reading(1, &[1], false, place(10, 1000));
        let mut steps = Steps::new(&first);
        let second = reading(1, &[1], false, place(20, 2000));
        assert_eq!(steps.at(&second, 1100), [1]);
        assert!(steps.announced(&second, 15));
        assert_eq!(steps.in_force.catalogue().generation, 1);
    }

    #[test]
    fn triggers_that_were_made_anew_promise_nothing() {
        let mut steps = Steps::new(&reading(1, &[1], false, place(10, 1000)));
        let other = Place { trigger: Some("3:9,4:9".into()), ..place(20, 2000) };
        assert_eq!(steps.at(&reading(2, &[2], false, other), 1100), [2]);
    }

    #[test]
    fn what_a_role_is_counts_at_once_and_privileges_only_where_both_have_them() {
        let mut steps = Steps::new(&reading(1, &[1, 2], false, place(10, 1000)));
        assert_eq!(steps.at(&reading(2, &[2, 3], true, place(20, 2000)), 1100), [2]);
        assert!(steps.bypasses());
        let third = reading(3, &[2, 3], false, place(30, 3000));
        assert_eq!(steps.at(&third, 2000), [2, 3]);
        assert!(!steps.bypasses());
    }
}
