//! The transaction graph: questions about wallets, and the upkeep of its files.

mod centrality;
mod chokepoints;
mod clusters;
mod communities;
mod connections;
mod exposure;
mod labels;
mod match_paths;
mod paths;
mod patterns;
mod picture;
mod request;
mod screening;
mod trace;
mod upkeep;
