//! What can stop a search.

use thiserror::Error;

use super::search::Damaged;

/// What stopped a search. Limits on wallets and time do not: they end it early, and the result says so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SearchError {
    /// Depth outside the range that makes sense.
    #[error("max_depth must be between 1 and {limit}, not {depth}")]
    Depth {
        /// What was asked for.
        depth: i32,
        /// The largest depth allowed.
        limit: i32,
    },
    /// More paths than make sense, or none.
    #[error("k must be between 1 and {limit}, not {k}")]
    Paths {
        /// What was asked for.
        k: i32,
        /// The most allowed.
        limit: i32,
    },
    /// Values of several assets cannot be compared.
    #[error("a path weighted by value needs a single asset")]
    SeveralAssets,
    /// The answer does not fit into the memory allowed.
    #[error("search needs more than {budget} bytes of memory at depth {depth}, with {wallets} wallets found")]
    Memory {
        /// Bytes allowed.
        budget: usize,
        /// Depth that was being searched.
        depth: u32,
        /// Wallets found until then.
        wallets: usize,
    },
    /// A sum of values beyond 256 bits.
    #[error("sum of values is out of range: more than 2^256 - 1 units")]
    ValueOverflow,
    /// The graph does not hold together.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}
