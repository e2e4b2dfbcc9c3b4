//! The transaction graph: its file, its overlay, and queries.
//!
//! Owns the format and the algorithms; neither the source of transfers nor the storage of bytes. A
//! caller passes transfers to a [`Builder`], or adds them to a [`Base`] as an [`Overlay`]; every
//! query reads a [`Graph`] of the two.
//!
//! | floor | owns | may import |
//! |---|---|---|
//! | [`query`] | [`connections`], [`reach`], [`in_time`], [`match_paths`], [`shortest_paths`], [`chokepoints`], [`neighbourhood`](neighbourhood()), [`dot`], [`trace`], [`exposure`], [`clusters`], [`communities`], [`centrality`], [`patterns`] | all below |
//! | [`view`] | base and overlay as one graph, filters, digests, petgraph's traits (feature `petgraph-traits`) | `file` and below |
//! | [`mod@file`] | the format, building, merging, the overlay | `budget` and below |
//! | `register` | the ring of transactions that may have written | `file` |
//! | `budget`, `error`, `types` | cancellation, limits, memory; errors; ids, amounts, transfers | each other |
//!
//! `tests/floors.rs` of this package holds the directions.

mod budget;
mod error;
pub mod file;
pub mod query;
mod register;
mod types;
pub mod view;

pub(crate) use budget::Pace;
pub use budget::{Halt, Interrupt, MemoryBudget, SearchLimits, Uninterrupted};
pub use error::{BuildError, Damaged, SearchError};
pub use file::base::Base;
pub use file::build::{BuildPlan, Builder};
pub use file::format::{Provenance, Upkeep};
pub use file::merge::MergePlan;
pub use file::overlay::{NotInGraph, Overlay};
pub use file::scratch::{HeapBuffer, HeapScratch, HeapSink, OutOfMemory, Scratch};
pub use file::segment::CHANGE_BYTES;
pub use file::snapshot::Snapshot;
pub(crate) use file::sorting;
pub use file::writer::Sink;
pub use query::connections::{ConnectedWallet, Connections, connections};
pub use query::neighbourhood::{FoldedPeers, Neighbourhood, PairFlow, ShownWallet, neighbourhood};
pub use query::options::OptionsError;
pub use query::paths::{Path, PathStep, Paths, Weight, shortest_paths};
pub use query::reach::{Level, Reach, reach};
pub use query::{
    centrality, chokepoints, clusters, communities, dot, exposure, in_time, match_paths, patterns, screening, trace,
};
pub use register::{Entry, News, Position as RegisterPosition, Register};
pub use types::{
    AssetId, Direction, NetworkId, Position, Side, Source, Status, TransferRow, U256, WalletId, WalletIds,
};
pub use view::basket::{Basket, Factor, Price, Unvalued, Valuation, Wrapper};
pub use view::digest::{Digest, Digests, Group};
pub use view::filter::{AssetSelection, Edge, EdgeFilter};
pub use view::graph::Graph;
#[cfg(any(test, feature = "petgraph-traits"))]
pub use view::pet_graph;
pub use view::transfers::Transfer;

#[cfg(test)]
pub(crate) mod test_graph;
