//! Wallets that a search has visited, with the index of the result entry of each.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::graph::budget::MemoryBudget;
use crate::graph::error::SearchError;
use crate::graph::types::WalletId;

/// The dense table may take at most the budget divided by this.
const DENSE_SHARE: usize = 4;

/// Bytes of an entry of a hash table that is two thirds full, including control bytes.
const ENTRY_BYTES: usize = 14;

/// A dense table for at most this many wallets is cleared in less than a microsecond.
const FEW_WALLETS: u32 = 1 << 13;

/// Wallets that are visited before a table becomes dense: this many, or this share of the graph's.
/// To clear the dense table of 200,000 wallets takes as long as 2,000 insertions.
const FEWEST_FOR_DENSE: usize = 1 << 10;
const SHARE_FOR_DENSE: usize = 256;

/// Entries for which a hash table has room at first.
const FIRST_ENTRIES: usize = 112;

type Indexes = HashMap<WalletId, u32, FxBuildHasher>;

/// Map from wallets to indexes.
#[derive(Debug)]
pub(crate) enum Visited {
    /// An element per wallet of the graph: its index plus one, or 0.
    Dense(Vec<u32>),
    /// For few wallets of many. Its memory is booked with the dense table that may follow it.
    Few {
        indexes: Indexes,
        /// Wallets of the graph.
        wallets: u32,
    },
    /// For graphs whose dense table is too large.
    Sparse(Indexes),
}

impl Visited {
    /// Creates an empty map for a graph of `wallets`.
    pub(crate) fn new(wallets: u32, memory: &mut MemoryBudget) -> Self {
        let bytes = wallets as usize * size_of::<u32>();
        if bytes > memory.left() / DENSE_SHARE || !memory.take(bytes) {
            Self::Sparse(HashMap::default())
        } else if wallets <= FEW_WALLETS {
            Self::Dense(vec![0; wallets as usize])
        } else {
            Self::Few { indexes: HashMap::with_capacity_and_hasher(FIRST_ENTRIES, FxBuildHasher), wallets }
        }
    }

    #[inline]
    pub(crate) fn get(&self, wallet: WalletId) -> Option<u32> {
        match self {
            Self::Dense(indexes) => indexes.get(wallet.index()).copied().unwrap_or(0).checked_sub(1),
            Self::Few { indexes, .. } | Self::Sparse(indexes) => indexes.get(&wallet).copied(),
        }
    }

    /// Sets the index of a wallet.
    #[inline]
    pub(crate) fn insert(&mut self, wallet: WalletId, index: u32) {
        match self {
            Self::Dense(indexes) => {
                if let Some(slot) = indexes.get_mut(wallet.index()) {
                    *slot = index + 1;
                }
            }
            Self::Few { indexes, wallets } => {
                indexes.insert(wallet, index);
                if indexes.len() >= FEWEST_FOR_DENSE.max(*wallets as usize / SHARE_FOR_DENSE) {
                    *self = Self::dense(indexes, *wallets);
                }
            }
            Self::Sparse(indexes) => {
                indexes.insert(wallet, index);
            }
        }
    }

    fn dense(indexes: &Indexes, wallets: u32) -> Self {
        let mut dense = Self::Dense(vec![0; wallets as usize]);
        for (wallet, index) in indexes {
            dense.insert(*wallet, *index);
        }
        dense
    }

    /// Begins another search. A dense table keeps the entries of earlier ones, which the caller
    /// must tell apart.
    pub(crate) fn begin_search(&mut self) {
        match self {
            Self::Dense(_) => {}
            Self::Few { indexes, .. } | Self::Sparse(indexes) => indexes.clear(),
        }
    }

    /// Returns the bytes that one more wallet costs.
    pub(crate) const fn cost(&self) -> usize {
        match self {
            Self::Dense(_) | Self::Few { .. } => 0,
            Self::Sparse(_) => ENTRY_BYTES,
        }
    }
}

/// Books the cost of one more result entry, twice because a growing vector keeps spare capacity.
pub(crate) fn book(memory: &mut MemoryBudget, bytes: usize, depth: u32, wallets: usize) -> Result<(), SearchError> {
    if memory.take(2 * bytes) { Ok(()) } else { Err(SearchError::Memory { budget: memory.limit(), depth, wallets }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALLETS: u32 = 1 << 17;

    /// Inserts wallets in a scattered order, twice each, and compares every wallet after each power
    /// of two.
    fn check(mut visited: Visited) -> Visited {
        let mut expected = HashMap::new();
        for number in 0..WALLETS / 64 {
            let wallet = number.wrapping_mul(40_503) % WALLETS;
            for index in [number + 7, number] {
                visited.insert(WalletId::new(wallet), index);
                expected.insert(wallet, index);
            }
            if number.is_power_of_two() {
                for wallet in 0..WALLETS {
                    assert_eq!(visited.get(WalletId::new(wallet)), expected.get(&wallet).copied(), "{number}");
                }
            }
        }
        visited
    }

    #[test]
    fn every_table_holds_what_was_inserted_last() {
        let dense = Visited::Dense(vec![0; WALLETS as usize]);
        assert!(matches!(check(dense), Visited::Dense(_)));
        assert!(matches!(check(Visited::Sparse(HashMap::default())), Visited::Sparse(_)));
        let mut memory = MemoryBudget::new(1 << 30);
        let growing = Visited::new(WALLETS, &mut memory);
        assert!(matches!(growing, Visited::Few { .. }));
        assert!(matches!(check(growing), Visited::Dense(_)));
    }

    #[test]
    fn a_table_books_its_dense_form_at_once() {
        let mut memory = MemoryBudget::new(1 << 30);
        let before = memory.left();
        assert_eq!(Visited::new(WALLETS, &mut memory).cost(), 0);
        assert_eq!(before - memory.left(), WALLETS as usize * size_of::<u32>());
        let mut little = MemoryBudget::new(1 << 20);
        assert_eq!(Visited::new(WALLETS, &mut little).cost(), ENTRY_BYTES);
        assert_eq!(little.left(), 1 << 20);
    }

    #[test]
    fn the_next_search_finds_none_of_few_entries() {
        let mut visited = Visited::new(WALLETS, &mut MemoryBudget::new(1 << 30));
        visited.insert(WalletId::new(3), 1);
        visited.begin_search();
        assert_eq!(visited.get(WalletId::new(3)), None);
    }
}
