//! The transaction graph: who is connected with whom, and the upkeep of the files behind the answers.

mod centrality;
mod clusters;
mod connections;
mod exposure;
mod labels;
mod paths;
mod patterns;
mod picture;
pub(super) mod question;
mod screening;
mod trace;
mod upkeep;
