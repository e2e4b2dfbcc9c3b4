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

/// Map from wallets to indexes.
#[derive(Debug)]
pub(crate) enum Visited {
    /// An element per wallet of the graph: its index plus one, or 0. The operating system provides
    /// zeroed memory on first touch, so a small search of a large graph costs little.
    Dense(Vec<u32>),
    /// For graphs too large for that.
    Sparse(HashMap<WalletId, u32, FxBuildHasher>),
}

impl Visited {
    /// Creates an empty map for a graph of `wallets`.
    pub(crate) fn new(wallets: u32, memory: &mut MemoryBudget) -> Self {
        let bytes = wallets as usize * size_of::<u32>();
        if bytes <= memory.left() / DENSE_SHARE && memory.take(bytes) {
            Self::Dense(vec![0; wallets as usize])
        } else {
            Self::Sparse(HashMap::default())
        }
    }

    #[inline]
    pub(crate) fn get(&self, wallet: WalletId) -> Option<u32> {
        match self {
            Self::Dense(indexes) => indexes.get(wallet.index()).copied().unwrap_or(0).checked_sub(1),
            Self::Sparse(indexes) => indexes.get(&wallet).copied(),
        }
    }

    /// Sets the index of a wallet that has none yet.
    #[inline]
    pub(crate) fn insert(&mut self, wallet: WalletId, index: u32) {
        match self {
            Self::Dense(indexes) => {
                if let Some(slot) = indexes.get_mut(wallet.index()) {
                    *slot = index + 1;
                }
            }
            Self::Sparse(indexes) => {
                indexes.insert(wallet, index);
            }
        }
    }

    /// Returns the bytes that one more wallet costs.
    pub(crate) const fn cost(&self) -> usize {
        match self {
            Self::Dense(_) => 0,
            Self::Sparse(_) => ENTRY_BYTES,
        }
    }
}

/// Books the cost of one more result entry, twice because a growing vector keeps spare capacity.
pub(crate) fn book(memory: &mut MemoryBudget, bytes: usize, depth: u32, wallets: usize) -> Result<(), SearchError> {
    if memory.take(2 * bytes) { Ok(()) } else { Err(SearchError::Memory { budget: memory.limit(), depth, wallets }) }
}
