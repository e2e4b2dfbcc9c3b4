//! Side-by-side runs against peers, one report.
//!
//! Owns what is measured and how: every case runs ours and the peer's on the same rows, in the same server, in turn, and
//! reports the medians. Must not know how either side works inside. `scripts/bench` builds what this runs.

pub mod data;
pub mod feed;
pub mod graph;
pub mod growth;
pub mod import;
pub mod machine;
pub mod money;
pub mod plot;
pub mod report;
pub mod risk;
pub mod sets;
pub mod shapes;
pub mod timing;
pub mod wallet_history;
