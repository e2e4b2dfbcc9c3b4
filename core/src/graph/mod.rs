//! The transaction graph: its file, what is laid over it, and what is asked of it.
//!
//! Owns the format and the algorithms; never where transfers come from or where bytes are kept. A caller hands transfers to a
//! [`Builder`], or lays them over a [`Base`] as an [`Overlay`]; searches read a [`TransferGraph`], which a [`Graph`] of the two is.
//!
//! - [`connections`]: who is reached from a wallet, at how many hops, over how many transfers.
//! - [`reach`]: how many, without who.
//! - [`shortest_paths`]: how one wallet leads to another.
//! - [`neighbourhood`](neighbourhood()): the wallets around one, as [`dot`] draws them.
//! - [`clusters`](clusters::clusters): which wallets belong together, and why.
//! - [`centrality`](centrality::centrality): who matters.
//! - [`patterns`]: what launderers do, found in time.
//! - [`visit`]: petgraph's algorithms on the graph.

mod base;
mod build;
pub mod centrality;
pub mod clusters;
mod connections;
pub mod decimal;
mod digest;
pub mod dot;
mod error;
pub mod exposure;
mod fan_out;
mod format;
mod limits;
mod links;
mod memory;
mod merge;
mod names;
mod neighbourhood;
mod options;
mod overlay;
mod packed;
mod paths;
pub mod patterns;
mod reach;
mod rows;
mod scratch;
mod search;
mod sections;
mod snapshot;
pub(crate) mod sorting;
pub mod trace;
mod transfer;
mod view;
pub mod visit;
mod visited;
mod writer;

pub use base::{Base, NOBODY};
pub use build::{Builder, Plan};
pub use connections::{Connection, Connections, connections};
pub use digest::{Digest, Digests, Group};
pub use error::{BuildError, Damaged, SearchError};
pub use format::Provenance;
pub use limits::SearchLimits;
pub use memory::MemoryBudget;
pub use merge::Merge;
pub use neighbourhood::{Flow, Folded, Neighbourhood, Shown, neighbourhood};
pub use options::OptionsError;
pub use overlay::{NotInGraph, Overlay};
pub use paths::{Path, Paths, Step, Weight, shortest_paths};
pub use reach::{Level, Reach, reach};
pub use scratch::{HeapBuffer, HeapScratch, HeapSink, OutOfMemory, Scratch};
pub use search::{
    AssetSelection, Direction, Edge, EdgeFilter, Halt, PlainEdges, PlainTotals, Side, TransferGraph, Unwatched, Wallet,
    Watch,
};
pub use snapshot::Snapshot;
pub use transfer::{NATIVE, Position, Status, TransferRow, U256};
pub use view::{Graph, Transfer};
pub use writer::Sink;

#[cfg(test)]
mod breadth_tests;
#[cfg(test)]
mod file_tests;
#[cfg(test)]
pub(crate) mod test_graph;
