//! Merges a base and its overlay into the file of a new base, without reading any table.
//!
//! Wallets keep their ids; new ones follow. Entries of unchanged wallets are copied in runs.
//! Receipts refer to transfers by number, so their numbers are shifted. O(file), at the speed of
//! copying.

mod plan;
mod write;

pub use plan::MergePlan;

use crate::graph::error::Damaged;

const OUT_OF_RANGE: Damaged = Damaged { what: "number out of range" };
