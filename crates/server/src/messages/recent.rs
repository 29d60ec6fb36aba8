//! The transactions whose messages were passed on last.
//!
//! PostgreSQL sends a transaction a moment before other sessions see it, see decision 0006. A channel
//! that begins to listen in that moment neither hears its messages nor finds them in the table, unless
//! it waits until they are there.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Transactions that are remembered: a few hundred times as many as can commit in that moment.
const REMEMBERED: usize = 256;

/// The newest transactions with messages, oldest first.
#[derive(Debug, Default)]
pub struct RecentTransactions(Mutex<VecDeque<u32>>);

impl RecentTransactions {
    /// Messages of this transaction are about to be passed on.
    pub fn note(&self, transaction_id: u32) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.back() == Some(&transaction_id) {
            return;
        }
        if recent.len() >= REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(transaction_id);
    }

    /// All that are remembered.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_remembered_once_and_only_so_many() {
        let recent = RecentTransactions::default();
        for transaction_id in [1, 1, 2] {
            recent.note(transaction_id);
        }
        assert_eq!(recent.ids(), [1, 2]);
        (3..1_000).for_each(|transaction_id| recent.note(transaction_id));
        assert_eq!((recent.ids().len(), recent.ids().last()), (REMEMBERED, Some(&999)));
    }
}
