//! The graph's file and the overlay: the format, building, merging, and reading.
//!
//! Owns the storage of transfers. Imports `types`, `budget` and `error`; never a view or a query.

pub(in crate::graph) mod base;
pub(in crate::graph) mod build;
pub(in crate::graph) mod format;
pub(in crate::graph) mod merge;
pub(in crate::graph) mod names;
pub(in crate::graph) mod overlay;
pub(in crate::graph) mod packed;
pub(in crate::graph) mod rows;
pub(in crate::graph) mod scratch;
pub(in crate::graph) mod sections;
pub(in crate::graph) mod segment;
pub(in crate::graph) mod snapshot;
pub(crate) mod sorting;
mod wide;
pub(in crate::graph) mod writer;

#[cfg(test)]
pub(in crate::graph) mod tests;
