//! Traversal of the transaction graph.
//!
//! Owns the algorithms; never where transfers come from. A caller hands in a [`Transfers`]: the extension reads them through
//! the server in the caller's own snapshot, tests read them from memory.
//!
//! - [`connections`]: who is reached from a wallet, at how many hops, over how many transactions.

mod connections;
mod error;
mod memory;

pub use connections::{Connection, Limits, connections};
pub use error::TraversalError;
pub use memory::MemoryBudget;

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
