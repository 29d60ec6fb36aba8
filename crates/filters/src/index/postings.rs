//! The groups that ask one column for certain values, by value.

use std::collections::HashMap;

use super::{SubscriptionId, list::List};
use crate::value::Key;

/// The number of a group in its table.
pub(super) type GroupNumber = u32;

/// A group in a list, with which of its own places this is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posting {
    pub(super) group: GroupNumber,
    pub(super) place: u32,
    /// The group's member, if it has had but one, asks for all events and for nothing else: then
    /// the group need not be looked at, which at 1 M subscriptions is a cache miss saved.
    pub(super) sole: Option<SubscriptionId>,
}

/// Lists of groups by the value they ask for.
#[derive(Debug, Default)]
pub(super) struct Postings {
    numbers: HashMap<u128, List<Posting>>,
    texts: HashMap<Box<str>, List<Posting>>,
}

impl Postings {
    pub(super) fn find(&self, key: &Key<'_>) -> &[Posting] {
        let list = match key {
            Key::Number(number) => self.numbers.get(number),
            Key::Text(text) => self.texts.get(&**text),
        };
        list.map_or(&[], List::as_slice)
    }

    /// Adds a group under a key and says where in the key's list it is.
    pub(super) fn insert(&mut self, key: &Key<'_>, posting: Posting) -> u32 {
        let list = match key {
            Key::Number(number) => self.numbers.entry(*number).or_default(),
            Key::Text(text) => self.texts.entry((&**text).into()).or_default(),
        };
        list.push(posting)
    }

    /// Notes that the group at a position of a key's list has had more than one member.
    pub(super) fn forget_sole(&mut self, key: &Key<'_>, position: u32) {
        let list = match key {
            Key::Number(number) => self.numbers.get_mut(number),
            Key::Text(text) => self.texts.get_mut(&**text),
        };
        if let Some(posting) = list.and_then(|list| list.get_mut(position)) {
            posting.sole = None;
        }
    }

    /// Takes what is at a position of a key's list, and says what moved there instead.
    pub(super) fn remove(&mut self, key: &Key<'_>, position: u32) -> Option<Posting> {
        let list = match key {
            Key::Number(number) => self.numbers.get_mut(number),
            Key::Text(text) => self.texts.get_mut(&**text),
        }?;
        let moved = list.swap_remove(position);
        if list.is_empty() {
            match key {
                Key::Number(number) => self.numbers.remove(number),
                Key::Text(text) => self.texts.remove(&**text),
            };
        }
        moved
    }

    /// Every group, once for each value it asks for.
    pub(super) fn groups(&self) -> impl Iterator<Item = Posting> + '_ {
        let lists = self.numbers.values().chain(self.texts.values());
        lists.flat_map(List::as_slice).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.texts.is_empty()
    }
}
