//! Side-by-side measurements of ARX and its peers, and their report.
//! Every case runs ours and the peer in turn on the same rows in the same server, and reports the
//! medians. The cases use both sides as a user does, and must not depend on their internals.
//! `scripts/bench` builds the programs that they run.

pub mod alerts;
pub mod backup;
pub mod cache;
pub mod data;
pub mod export;
pub mod feed;
pub mod graph;
pub mod growth;
pub mod import;
pub mod labels;
pub mod machine;
pub mod money;
pub mod page;
pub mod parquet;
pub mod partition;
pub mod plot;
pub mod questions;
pub mod report;
pub mod restore;
pub mod risk;
pub mod router;
pub mod scale;
pub mod sets;
pub mod shapes;
pub mod timing;
pub mod wallet_history;
