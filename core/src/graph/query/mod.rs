//! Queries. Each reads a [`Graph`](super::Graph) and nothing below it.

pub(in crate::graph) mod adjacency;
pub mod centrality;
pub mod chokepoints;
pub mod clusters;
pub mod communities;
pub(in crate::graph) mod connections;
pub mod dot;
pub mod exposure;
pub(in crate::graph) mod fan_out;
pub mod in_time;
pub mod match_paths;
pub(in crate::graph) mod neighbourhood;
pub(in crate::graph) mod options;
pub(in crate::graph) mod paths;
pub mod patterns;
pub(in crate::graph) mod reach;
pub mod screening;
pub(in crate::graph) mod ties;
pub mod trace;
pub(in crate::graph) mod visited;

#[cfg(test)]
mod breadth_tests;
