//! A set of column positions.

/// A set of positions in a table's list of columns.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct ColumnSet(Vec<u64>);

impl ColumnSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The positions `0..n_columns`.
    #[must_use]
    pub fn all(n_columns: usize) -> Self {
        (0..n_columns).collect()
    }

    /// Adds a position.
    pub fn insert(&mut self, position: usize) {
        let word = position / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (position % 64);
        }
    }

    /// Whether the position is in the set.
    #[must_use]
    pub fn contains(&self, position: usize) -> bool {
        self.0.get(position / 64).is_some_and(|bits| bits & (1 << (position % 64)) != 0)
    }

    /// Whether every position of `other` is in this set.
    #[must_use]
    pub fn is_superset(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .enumerate()
            .all(|(word, bits)| bits & !self.0.get(word).copied().unwrap_or_default() == 0)
    }

    /// Whether the set has no position.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|bits| *bits == 0)
    }

    /// The positions in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * 64).filter(|position| self.contains(*position))
    }
}

impl FromIterator<usize> for ColumnSet {
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut set = Self::new();
        for position in positions {
            set.insert(position);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_inserted() {
        let set: ColumnSet = [0, 3, 64, 1599].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 64, 1599]);
        assert!(!set.contains(1) && !set.contains(4000));
        assert!(ColumnSet::all(1600).is_superset(&set));
        assert!(!set.is_superset(&ColumnSet::all(2)));
        assert!(set.is_superset(&ColumnSet::new()) && ColumnSet::new().is_empty());
    }
}
