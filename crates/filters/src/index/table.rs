//! The subscriptions of one table, in groups.

use std::{collections::HashMap, sync::Arc};

use walcast_change::{Cell, Collation, EventKind, Row, Table, TypeId};

use super::{
    EventSelection, Matches, SubscriptionId,
    list::List,
    postings::{GroupNumber, Posting, Postings},
};
use crate::{
    Filter, Match,
    condition::{Condition, is_shown_as_null},
    value::{Key, Kind},
};

/// Where a subscription is: its group and its position among the members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    group: GroupNumber,
    member: u32,
}

#[derive(Debug, Default)]
pub(super) struct TableIndex {
    groups: Vec<Option<Group>>,
    free: Vec<GroupNumber>,
    by_filter: HashMap<(EventSelection, Arc<Filter>), GroupNumber>,
    /// One per column that groups are found by; few, so they are searched one by one.
    columns: Vec<ColumnIndex>,
    /// Groups without a filter: one per event selection at most.
    open: List<Posting>,
    /// Groups that are decided one by one.
    scanned: List<Posting>,
}

/// The subscriptions with one filter and one event selection.
#[derive(Debug)]
struct Group {
    events: EventSelection,
    filter: Arc<Filter>,
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
    /// By the keys of the filter's condition of that number. A key that is found makes that condition
    /// true; if it is the only one, the group needs no more deciding.
    ByCondition {
        number: u8,
        is_only: bool,
    },
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
        self.by_filter.is_empty()
    }

    pub(super) fn insert(
        &mut self,
        id: SubscriptionId,
        events: EventSelection,
        filter: Arc<Filter>,
    ) -> Place {
        let number = match self.by_filter.get(&(events, Arc::clone(&filter))) {
            Some(number) => *number,
            None => self.insert_group(events, filter, id),
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
        let Found::ByCondition { number, .. } = group.found else { return };
        let (filter, positions) = (Arc::clone(&group.filter), group.positions.clone());
        let Some(condition) = filter.checked().get(usize::from(number)) else { return };
        let keys = condition.keys(KEY_COLLATION).unwrap_or_default();
        for (key, position) in keys.iter().zip(&positions) {
            self.column_index(condition).postings.forget_sole(key, *position);
        }
    }

    fn insert_group(
        &mut self,
        events: EventSelection,
        filter: Arc<Filter>,
        first: SubscriptionId,
    ) -> GroupNumber {
        let number = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            u32::try_from(self.groups.len() - 1).unwrap_or(u32::MAX)
        });
        let (found, positions) =
            self.list(number, &filter, Some(first).filter(|_| events == EventSelection::All));
        self.by_filter.insert((events, Arc::clone(&filter)), number);
        let members = List::default();
        if let Some(slot) = slot_mut(&mut self.groups, number) {
            *slot = Some(Group { events, filter, members, found, positions });
        }
        number
    }

    /// Puts a group into the lists it is found by.
    fn list(
        &mut self,
        number: GroupNumber,
        filter: &Filter,
        sole: Option<SubscriptionId>,
    ) -> (Found, Box<[u32]>) {
        let unseen = Posting { group: number, place: 0, sole: None };
        if filter.is_empty() {
            return (Found::Always, [self.open.push(unseen)].into());
        }
        let Some((condition_number, keys)) = self.shortest_lists(filter) else {
            return (Found::ByScan, [self.scanned.push(unseen)].into());
        };
        let is_only = filter.checked().len() == 1;
        let sole = sole.filter(|_| is_only);
        let mut positions = Vec::with_capacity(keys.len());
        if let Some(condition) = filter.checked().get(usize::from(condition_number)) {
            let index = self.column_index(condition);
            for (place, key) in (0..).zip(&keys) {
                positions.push(index.postings.insert(key, Posting { group: number, place, sole }));
            }
        }
        (Found::ByCondition { number: condition_number, is_only }, positions.into())
    }

    /// The condition whose values are asked for by the fewest groups so far: a column that nearly
    /// everybody filters by the same value is no help.
    fn shortest_lists<'f>(&self, filter: &'f Filter) -> Option<(u8, Vec<Key<'f>>)> {
        let candidates = (0_u8..).zip(filter.checked());
        let with_keys = candidates.filter_map(|(number, condition)| {
            let keys = condition.keys(KEY_COLLATION)?;
            let index = self.columns.iter().find(|index| index.serves(condition));
            let length = |key| index.map_or(0, |index| index.postings.find(key).len());
            let cost: usize = keys.iter().map(|key| length(key) + 1).sum();
            Some((cost, number, keys))
        });
        with_keys.min_by_key(|(cost, ..)| *cost).map(|(_, number, keys)| (number, keys))
    }

    fn column_index(&mut self, condition: &Condition) -> &mut ColumnIndex {
        let known = self.columns.iter().position(|index| index.serves(condition));
        let position = known.unwrap_or(self.columns.len());
        if known.is_none() {
            self.columns.push(ColumnIndex {
                column: condition.column.clone(),
                type_id: condition.data_type.id,
                kind: condition.kind,
                postings: Postings::default(),
            });
        }
        // Just found or just pushed.
        #[expect(clippy::indexing_slicing, reason = "the position is in range by the lines above")]
        &mut self.columns[position]
    }

    fn remove_group(&mut self, number: GroupNumber) {
        let Some(group) = slot_mut(&mut self.groups, number).and_then(Option::take) else { return };
        self.free.push(number);
        let filter = Arc::clone(&group.filter);
        self.by_filter.remove(&(group.events, Arc::clone(&filter)));
        let first = group.positions.first().copied().unwrap_or_default();
        match group.found {
            Found::Always => {
                let moved = self.open.swap_remove(first);
                self.note_move(moved, first);
            }
            Found::ByScan => {
                let moved = self.scanned.swap_remove(first);
                self.note_move(moved, first);
            }
            Found::ByCondition { number, .. } => {
                let Some(condition) = filter.checked().get(usize::from(number)) else {
                    return;
                };
                let keys = condition.keys(KEY_COLLATION).unwrap_or_default();
                for (key, position) in keys.iter().zip(&group.positions) {
                    let moved = self.column_index(condition).postings.remove(key, *position);
                    self.note_move(moved, *position);
                }
                self.columns.retain(|index| !index.postings.is_empty());
            }
        }
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

    pub(super) fn matches(&self, table: &Table, row: &Row, kind: EventKind, out: &mut Matches) {
        for posting in self.open.as_slice().iter().chain(self.scanned.as_slice()) {
            self.decide(posting.group, table, row, kind, out);
        }
        for index in &self.columns {
            self.matches_by_column(index, table, row, kind, out);
        }
    }

    fn matches_by_column(
        &self,
        index: &ColumnIndex,
        table: &Table,
        row: &Row,
        kind: EventKind,
        out: &mut Matches,
    ) {
        let Some(position) = table.position(&index.column) else { return };
        let Some(column) = table.columns.get(position) else { return };
        // NULL is equal to nothing, and a cell that is not there matches nothing.
        let Cell::Text(text) = row.cell(position) else { return };
        if is_shown_as_null(&column.data_type, text) {
            return;
        }
        let is_same_type = column.data_type.id == index.type_id;
        let value = index.kind.read(text).filter(|_| is_same_type);
        if let Some(key) = value.and_then(|value| index.kind.key(value, column.collation)) {
            for posting in index.postings.find(&key) {
                match posting.sole {
                    Some(id) => out.certain.push(id),
                    None => self.decide_found(posting.group, table, row, kind, out),
                }
            }
            return;
        }
        // A value without a key: every group decides for itself, once.
        for posting in index.postings.groups().filter(|posting| posting.place == 0) {
            self.decide(posting.group, table, row, kind, out);
        }
    }

    /// Decides a group that was found by its key.
    fn decide_found(
        &self,
        number: GroupNumber,
        table: &Table,
        row: &Row,
        kind: EventKind,
        out: &mut Matches,
    ) {
        let Some(group) = self.group(number) else { return };
        if !matches!(group.found, Found::ByCondition { is_only: true, .. }) {
            return self.decide(number, table, row, kind, out);
        }
        if group.events.includes(kind) {
            out.certain.extend_from_slice(group.members.as_slice());
        }
    }

    fn decide(
        &self,
        number: GroupNumber,
        table: &Table,
        row: &Row,
        kind: EventKind,
        out: &mut Matches,
    ) {
        let Some(group) = self.group(number).filter(|group| group.events.includes(kind)) else {
            return;
        };
        match group.filter.matches(table, row) {
            Match::Yes => out.certain.extend_from_slice(group.members.as_slice()),
            Match::Undecided => out.undecided.extend_from_slice(group.members.as_slice()),
            Match::No => {}
        }
    }

    pub(super) fn all_of(&self, kind: EventKind, out: &mut Vec<SubscriptionId>) {
        for group in self.groups.iter().flatten().filter(|group| group.events.includes(kind)) {
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

impl ColumnIndex {
    fn serves(&self, condition: &Condition) -> bool {
        self.type_id == condition.data_type.id && self.column == condition.column
    }
}

fn slot_mut(groups: &mut [Option<Group>], number: GroupNumber) -> Option<&mut Option<Group>> {
    groups.get_mut(usize::try_from(number).ok()?)
}
