//! The transaction graph: questions about wallets, and the upkeep of its files.

mod centrality;
mod clusters;
mod connections;
mod exposure;
mod labels;
mod paths;
mod patterns;
mod picture;
mod request;
mod screening;
mod trace;
mod upkeep;
