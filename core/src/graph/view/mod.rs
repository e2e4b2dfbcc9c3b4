//! A base and its overlay read as one graph.
//!
//! Owns filters, baskets of assets, edges and digests. Imports `file` and below; never a query.

pub(in crate::graph) mod basket;
pub(in crate::graph) mod digest;
mod edge_sum;
mod edges;
pub(in crate::graph) mod filter;
pub(in crate::graph) mod graph;
#[cfg(any(test, feature = "petgraph-traits"))]
pub mod pet_graph;
pub(in crate::graph) mod transfers;
