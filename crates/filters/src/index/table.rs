//! The subscriptions of one table, in groups.

use std::collections::HashMap;

use walcast_change::{Cell, Collation, EventKind, Row, Table, TypeId};

use super::{
    EventSelection, Interest, Matches, Scope, SubscriptionId, Visible,
    list::List,
    postings::{GroupNumber, Posting, Postings},
};
use crate::{
    Match,
    condition::{Condition, is_shown_as_null},
    value::{Key, Kind},
};

/// Where a subscription is: its group and its position among the members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    group: GroupNumber,
    member: u32,
}

/// A row to find subscriptions for.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    /// Aligned with the row.
    pub(super) table: &'a Table,
    pub(super) row: &'a Row,
    pub(super) kind: EventKind,
    pub(super) scope: Scope,
}

#[derive(Debug, Default)]
pub(super) struct TableIndex {
    groups: Vec<Option<Group>>,
    free: Vec<GroupNumber>,
    by_interest: HashMap<Interest, GroupNumber>,
    /// Groups that are found by a value of their filter; one entry per column that is asked for, few,
    /// so they are searched one by one.
    by_filter: Vec<ColumnIndex>,
    /// Groups that are found by the value that row security asks for.
    by_visible: Vec<ColumnIndex>,
    /// Groups without a filter: one per event selection at most.
    open: List<Posting>,
    /// Groups that are decided one by one.
    scanned: List<Posting>,
    /// Groups that row security shows no row.
    blind: List<Posting>,
}

/// The subscriptions with one interest.
#[derive(Debug)]
struct Group {
    interest: Interest,
    members: List<SubscriptionId>,
    found: Found,
    /// Its position in each list it is in: one per key, or one.
    positions: Box<[u32]>,
}

/// How a group is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Found {
    Always,
    ByScan,
    Never,
    /// By the keys of one condition. A key that is found makes that condition true; if it is the only
    /// one, the group needs no more deciding.
    ByCondition {
        source: Source,
        number: u8,
        is_only: bool,
    },
}

/// Whose condition a group is found by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    Filter,
    Visible,
}

/// The groups that are found by one column of one type.
#[derive(Debug)]
struct ColumnIndex {
    column: Box<str>,
    type_id: TypeId,
    kind: Kind,
    postings: Postings,
}

/// Keys are taken as for any deterministic collation; others are looked out for when matching.
const KEY_COLLATION: Collation = Collation::Locale;

impl TableIndex {
    pub(super) fn is_empty(&self) -> bool {
        self.by_interest.is_empty()
    }

    pub(super) fn insert(&mut self, id: SubscriptionId, interest: Interest) -> Place {
        let number = match self.by_interest.get(&interest) {
            Some(number) => *number,
            None => self.insert_group(interest, id),
        };
        let mut member = 0;
        if let Some(group) = self.group_mut(number) {
            member = group.members.push(id);
        }
        if member == 1 {
            self.forget_sole(number);
        }
        Place { group: number, member }
    }

    /// Removes the member at a place and says which member moved there.
    pub(super) fn remove(&mut self, place: Place) -> Option<SubscriptionId> {
        let group = self.group_mut(place.group)?;
        let moved = group.members.swap_remove(place.member);
        if group.members.is_empty() {
            self.remove_group(place.group);
        }
        moved
    }

    /// Notes that a group has had more than one member.
    fn forget_sole(&mut self, number: GroupNumber) {
        let Some(group) = self.group(number) else { return };
        let Found::ByCondition { source, number, .. } = group.found else { return };
        let (interest, positions) = (group.interest.clone(), group.positions.clone());
        let Some(condition) = interest.condition(source, number) else { return };
        let keys = condition.keys(KEY_COLLATION).unwrap_or_default();
        for (key, position) in keys.iter().zip(&positions) {
            self.column_index(source, condition).postings.forget_sole(key, *position);
        }
    }

    fn insert_group(&mut self, interest: Interest, first: SubscriptionId) -> GroupNumber {
        let number = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            u32::try_from(self.groups.len() - 1).unwrap_or(u32::MAX)
        });
        let (found, positions) = self.list(number, &interest, first);
        self.by_interest.insert(interest.clone(), number);
        let members = List::default();
        if let Some(slot) = slot_mut(&mut self.groups, number) {
            *slot = Some(Group { interest, members, found, positions });
        }
        number
    }

    /// Puts a group into the lists it is found by.
    fn list(
        &mut self,
        number: GroupNumber,
        interest: &Interest,
        first: SubscriptionId,
    ) -> (Found, Box<[u32]>) {
        let unseen = Posting { group: number, place: 0, sole: None };
        if interest.visible == Visible::Never {
            return (Found::Never, [self.blind.push(unseen)].into());
        }
        if interest.n_conditions() == 0 {
            return (Found::Always, [self.open.push(unseen)].into());
        }
        let Some((source, condition_number, keys)) = self.shortest_lists(interest) else {
            return (Found::ByScan, [self.scanned.push(unseen)].into());
        };
        let is_only = interest.n_conditions() == 1;
        let sole = (is_only && interest.events == EventSelection::All).then_some(first);
        let mut positions = Vec::with_capacity(keys.len());
        if let Some(condition) = interest.condition(source, condition_number) {
            let index = self.column_index(source, condition);
            for (place, key) in (0..).zip(&keys) {
                positions.push(index.postings.insert(key, Posting { group: number, place, sole }));
            }
        }
        let found = Found::ByCondition { source, number: condition_number, is_only };
        (found, positions.into())
    }

    /// The condition whose values are asked for by the fewest groups so far: a column that nearly
    /// everybody filters by the same value is no help.
    fn shortest_lists<'f>(&self, interest: &'f Interest) -> Option<(Source, u8, Vec<Key<'f>>)> {
        let with_keys = interest.conditions().filter_map(|(source, number, condition)| {
            let keys = condition.keys(KEY_COLLATION)?;
            let index = self.columns(source).iter().find(|index| index.serves(condition));
            let length = |key| index.map_or(0, |index| index.postings.find(key).len());
            let cost: usize = keys.iter().map(|key| length(key) + 1).sum();
            Some((cost, source, number, keys))
        });
        let shortest = with_keys.min_by_key(|(cost, ..)| *cost);
        shortest.map(|(_, source, number, keys)| (source, number, keys))
    }

    fn columns(&self, source: Source) -> &[ColumnIndex] {
        match source {
            Source::Filter => &self.by_filter,
            Source::Visible => &self.by_visible,
        }
    }

    fn columns_mut(&mut self, source: Source) -> &mut Vec<ColumnIndex> {
        match source {
            Source::Filter => &mut self.by_filter,
            Source::Visible => &mut self.by_visible,
        }
    }

    fn column_index(&mut self, source: Source, condition: &Condition) -> &mut ColumnIndex {
        let columns = self.columns_mut(source);
        let known = columns.iter().position(|index| index.serves(condition));
        let position = known.unwrap_or(columns.len());
        if known.is_none() {
            columns.push(ColumnIndex {
                column: condition.column.clone(),
                type_id: condition.data_type.id,
                kind: condition.kind,
                postings: Postings::default(),
            });
        }
        // Just found or just pushed.
        #[expect(clippy::indexing_slicing, reason = "the position is in range by the lines above")]
        &mut columns[position]
    }

    fn remove_group(&mut self, number: GroupNumber) {
        let Some(group) = slot_mut(&mut self.groups, number).and_then(Option::take) else { return };
        self.free.push(number);
        self.by_interest.remove(&group.interest);
        let first = group.positions.first().copied().unwrap_or_default();
        let list = match group.found {
            Found::Always => &mut self.open,
            Found::ByScan => &mut self.scanned,
            Found::Never => &mut self.blind,
            Found::ByCondition { source, number, .. } => {
                return self.remove_keys(&group, source, number);
            }
        };
        let moved = list.swap_remove(first);
        self.note_move(moved, first);
    }

    fn remove_keys(&mut self, group: &Group, source: Source, number: u8) {
        let Some(condition) = group.interest.condition(source, number) else { return };
        let keys = condition.keys(KEY_COLLATION).unwrap_or_default();
        for (key, position) in keys.iter().zip(&group.positions) {
            let moved = self.column_index(source, condition).postings.remove(key, *position);
            self.note_move(moved, *position);
        }
        self.columns_mut(source).retain(|index| !index.postings.is_empty());
    }

    fn note_move(&mut self, moved: Option<Posting>, position: u32) {
        let Some(Posting { group, place, .. }) = moved else { return };
        let Some(group) = self.group_mut(group) else { return };
        if let Some(known) =
            usize::try_from(place).ok().and_then(|place| group.positions.get_mut(place))
        {
            *known = position;
        }
    }

    pub(super) fn matches(&self, candidate: &Candidate<'_>, out: &mut Matches) {
        for posting in self.open.as_slice().iter().chain(self.scanned.as_slice()) {
            self.decide(posting.group, candidate, out);
        }
        for index in &self.by_filter {
            self.matches_by_column(index, candidate, out);
        }
        match candidate.scope {
            Scope::Visible => {
                for index in &self.by_visible {
                    self.matches_by_column(index, candidate, out);
                }
            }
            Scope::Everyone => {
                let groups = self.by_visible.iter().flat_map(|index| index.postings.groups());
                let groups = groups.filter(|posting| posting.place == 0);
                for posting in groups.chain(self.blind.as_slice().iter().copied()) {
                    self.decide(posting.group, candidate, out);
                }
            }
        }
    }

    fn matches_by_column(&self, index: &ColumnIndex, candidate: &Candidate<'_>, out: &mut Matches) {
        let Some(position) = candidate.table.position(&index.column) else { return };
        let Some(column) = candidate.table.columns.get(position) else { return };
        // NULL is equal to nothing, and a cell that is not there matches nothing.
        let Cell::Text(text) = candidate.row.cell(position) else { return };
        if is_shown_as_null(&column.data_type, text) {
            return;
        }
        let is_same_type = column.data_type.id == index.type_id;
        let value = index.kind.read(text).filter(|_| is_same_type);
        if let Some(key) = value.and_then(|value| index.kind.key(value, column.collation)) {
            for posting in index.postings.find(&key) {
                match posting.sole {
                    Some(id) => out.certain.push(id),
                    None => self.decide_found(posting.group, candidate, out),
                }
            }
            return;
        }
        // A value without a key: every group decides for itself, once.
        for posting in index.postings.groups().filter(|posting| posting.place == 0) {
            self.decide(posting.group, candidate, out);
        }
    }

    /// Decides a group that was found by its key.
    fn decide_found(&self, number: GroupNumber, candidate: &Candidate<'_>, out: &mut Matches) {
        let Some(group) = self.group(number) else { return };
        if !matches!(group.found, Found::ByCondition { is_only: true, .. }) {
            return self.decide(number, candidate, out);
        }
        if group.interest.events.includes(candidate.kind) {
            out.certain.extend_from_slice(group.members.as_slice());
        }
    }

    fn decide(&self, number: GroupNumber, candidate: &Candidate<'_>, out: &mut Matches) {
        let Some(Group { interest, members, .. }) = self.group(number) else { return };
        if !interest.events.includes(candidate.kind) {
            return;
        }
        let (table, row) = (candidate.table, candidate.row);
        if let Visible::Where(visible) = &interest.visible
            && candidate.scope == Scope::Visible
            && visible.matches(table, row) == Match::No
        {
            return;
        }
        match interest.filter.matches(table, row) {
            Match::Yes => out.certain.extend_from_slice(members.as_slice()),
            Match::Undecided => out.undecided.extend_from_slice(members.as_slice()),
            Match::No => {}
        }
    }

    pub(super) fn all_of(&self, kind: EventKind, out: &mut Vec<SubscriptionId>) {
        let groups = self.groups.iter().flatten();
        for group in groups.filter(|group| group.interest.events.includes(kind)) {
            out.extend_from_slice(group.members.as_slice());
        }
    }

    fn group(&self, number: GroupNumber) -> Option<&Group> {
        self.groups.get(usize::try_from(number).ok()?)?.as_ref()
    }

    fn group_mut(&mut self, number: GroupNumber) -> Option<&mut Group> {
        slot_mut(&mut self.groups, number)?.as_mut()
    }
}

impl Interest {
    fn visible(&self) -> &[Condition] {
        match &self.visible {
            Visible::Where(filter) => filter.checked(),
            Visible::Perhaps | Visible::Never => &[],
        }
    }

    fn n_conditions(&self) -> usize {
        self.filter.checked().len() + self.visible().len()
    }

    /// The conditions a group can be found by, the filter's first.
    fn conditions(&self) -> impl Iterator<Item = (Source, u8, &Condition)> {
        let filter = (0..).zip(self.filter.checked()).map(|(n, of)| (Source::Filter, n, of));
        filter.chain((0..).zip(self.visible()).map(|(n, of)| (Source::Visible, n, of)))
    }

    fn condition(&self, source: Source, number: u8) -> Option<&Condition> {
        let conditions = match source {
            Source::Filter => self.filter.checked(),
            Source::Visible => self.visible(),
        };
        conditions.get(usize::from(number))
    }
}

impl ColumnIndex {
    fn serves(&self, condition: &Condition) -> bool {
        self.type_id == condition.data_type.id && self.column == condition.column
    }
}

fn slot_mut(groups: &mut [Option<Group>], number: GroupNumber) -> Option<&mut Option<Group>> {
    groups.get_mut(usize::try_from(number).ok()?)
}
