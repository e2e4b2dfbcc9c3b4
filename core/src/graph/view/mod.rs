//! A base and its overlay read as one graph.
//!
//! Owns filters, edges and digests. Imports `file` and what lies below it; never a query.

pub(in crate::graph) mod digest;
pub(in crate::graph) mod filter;
pub(in crate::graph) mod graph;
#[cfg(any(test, feature = "petgraph"))]
pub mod pet_graph;
