//! The groups that ask one column for certain values, by value.

use std::collections::HashMap;

use crate::value::Key;

/// The number of a group in its table.
pub(super) type GroupNumber = u32;

/// A group in a list, with which of its own places this is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posting {
    pub(super) group: GroupNumber,
    pub(super) place: u32,
}

/// Lists of groups by the value they ask for.
#[derive(Debug, Default)]
pub(super) struct Postings {
    numbers: HashMap<u128, Vec<Posting>>,
    texts: HashMap<Box<str>, Vec<Posting>>,
}

impl Postings {
    pub(super) fn find(&self, key: &Key<'_>) -> &[Posting] {
        let list = match key {
            Key::Number(number) => self.numbers.get(number),
            Key::Text(text) => self.texts.get(&**text),
        };
        list.map_or(&[], Vec::as_slice)
    }

    /// Adds a group under a key and says where in the key's list it is.
    pub(super) fn insert(&mut self, key: &Key<'_>, posting: Posting) -> u32 {
        let list = match key {
            Key::Number(number) => self.numbers.entry(*number).or_default(),
            Key::Text(text) => {
                if !self.texts.contains_key(&**text) {
                    self.texts.insert((&**text).into(), Vec::with_capacity(1));
                }
                self.texts.entry((&**text).into()).or_default()
            }
        };
        // Most values are asked for by one group.
        list.reserve_exact(usize::from(list.is_empty()));
        list.push(posting);
        u32::try_from(list.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes what is at a position of a key's list, and says what moved there instead.
    pub(super) fn remove(&mut self, key: &Key<'_>, position: u32) -> Option<Posting> {
        let list = match key {
            Key::Number(number) => self.numbers.get_mut(number),
            Key::Text(text) => self.texts.get_mut(&**text),
        }?;
        let position = usize::try_from(position).ok()?;
        if position >= list.len() {
            return None;
        }
        list.swap_remove(position);
        let moved = list.get(position).copied();
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
        self.numbers.values().chain(self.texts.values()).flatten().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.texts.is_empty()
    }
}
