//! Which wallets a search has found, and as which of its findings.

use std::collections::HashMap;

use crate::graph::budget::MemoryBudget;
use crate::graph::error::SearchError;
use crate::graph::types::WalletId;

/// Of the budget, a table with a place for every wallet may take one in this many parts.
const SHARE: usize = 4;

/// Bytes of an entry of a hash table that is two thirds full, control bytes included.
const ENTRY: usize = 14;

/// Wallet -> place among the findings.
#[derive(Debug)]
pub enum Visited {
    /// A place for every wallet of the graph, one more than the place found. The system hands out zeroed memory as it is
    /// touched, so a small search of a large graph costs little.
    Dense(Vec<u32>),
    /// For graphs too large for that.
    Sparse(HashMap<WalletId, u32>),
}

impl Visited {
    /// None found yet, of a graph with `wallets`.
    pub fn new(wallets: u32, memory: &mut MemoryBudget) -> Self {
        let bytes = wallets as usize * size_of::<u32>();
        if bytes <= memory.left() / SHARE && memory.take(bytes) {
            Self::Dense(vec![0; wallets as usize])
        } else {
            Self::Sparse(HashMap::new())
        }
    }

    /// The place of a wallet, if it was found.
    #[inline]
    pub fn get(&self, wallet: WalletId) -> Option<u32> {
        match self {
            Self::Dense(places) => places.get(wallet.index()).copied().unwrap_or(0).checked_sub(1),
            Self::Sparse(places) => places.get(&wallet).copied(),
        }
    }

    /// Notes where a wallet was put, which it was not before.
    #[inline]
    pub fn insert(&mut self, wallet: WalletId, place: u32) {
        match self {
            Self::Dense(places) => {
                if let Some(room) = places.get_mut(wallet.index()) {
                    *room = place + 1;
                }
            }
            Self::Sparse(places) => {
                places.insert(wallet, place);
            }
        }
    }

    /// Bytes that one more wallet costs.
    pub const fn cost(&self) -> usize {
        match self {
            Self::Dense(_) => 0,
            Self::Sparse(_) => ENTRY,
        }
    }
}

/// Books what one more finding costs, with the room that a growing vector keeps ahead.
pub fn book(memory: &mut MemoryBudget, bytes: usize, depth: u32, wallets: usize) -> Result<(), SearchError> {
    if memory.take(2 * bytes) { Ok(()) } else { Err(SearchError::Memory { budget: memory.limit(), depth, wallets }) }
}
