//! What can stop a traversal.

use thiserror::Error;

/// What stopped a traversal. `E` is the error of the source of transfers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TraversalError<E> {
    /// Depth outside the range that makes sense.
    #[error("max_depth must be between 1 and {limit}, not {depth}")]
    Depth {
        /// What was asked for.
        depth: i32,
        /// The largest depth allowed.
        limit: i32,
    },
    /// The answer does not fit into the memory allowed.
    #[error("traversal needs more than {budget} bytes of memory at depth {depth}, with {wallets} wallets found")]
    Memory {
        /// Bytes allowed.
        budget: usize,
        /// Depth that was being searched.
        depth: u32,
        /// Wallets found until then.
        wallets: usize,
    },
    /// More transactions between two depths than a count can hold.
    #[error("number of transactions to wallet {wallet} is out of range")]
    CountOverflow {
        /// The receiver.
        wallet: String,
    },
    /// The source of transfers failed.
    #[error("read transfers")]
    Source(E),
}
