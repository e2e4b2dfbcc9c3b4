//! Traversal of the transaction graph.
//!
//! Owns the algorithms; never where transfers come from. A caller hands in a [`Transfers`]: the extension reads them through
//! the server in the caller's own snapshot, tests read them from memory.
//!
//! - [`connections`]: who is reached from a wallet, at how many hops, over how many transactions.

mod base;
mod build;
mod connections;
mod error;
mod format;
mod memory;
mod merge;
mod names;
mod overlay;
mod packed;
mod scratch;
mod search;
mod sorting;
mod transfer;
mod view;

pub use base::{Base, NOBODY};
pub use build::{Builder, Plan};
pub use connections::{Connection, Limits, connections};
pub use error::TraversalError;
pub use format::Provenance;
pub use memory::MemoryBudget;
pub use merge::Merge;
pub use overlay::{NotInGraph, Overlay};
pub use scratch::{BuildError, HeapBuffer, HeapScratch, OutOfMemory, Scratch};
pub use search::{
    AssetSelection, Damaged, Direction, Edge, EdgeFilter, Halt, Side, TransferGraph, Unwatched, Wallet, Watch,
};
pub use transfer::{NATIVE, Position, Status, TransferRow, U256};
pub use view::{Graph, Transfer};

/// Where a traversal reads transactions from.
pub trait Transfers {
    /// What can go wrong while reading.
    type Error;

    /// Calls `each(receiver, transactions)` for what the wallets of `senders` sent: per sender any number of times, with the
    /// counts of one pair adding up. Sending nothing, a receiver that is a sender, and contract creation (no receiver, so no
    /// call) are all fine.
    ///
    /// # Errors
    /// The source's own errors, and those of `each`, which ends the reading.
    fn outgoing<F>(&mut self, senders: &[&str], each: F) -> Result<(), TraversalError<Self::Error>>
    where
        F: FnMut(&str, i64) -> Result<(), TraversalError<Self::Error>>;
}

#[cfg(test)]
mod file_tests;
