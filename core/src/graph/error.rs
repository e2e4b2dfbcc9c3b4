//! What can go wrong with a graph: in a search, in a build, in the file itself.

use thiserror::Error;

/// The graph's bytes, or what was said about them, do not hold together. The graph must be built anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("graph file is damaged: {what}")]
pub struct Damaged {
    /// What was found to be wrong.
    pub what: &'static str,
}

/// What stopped a search. Limits on wallets and time do not: they end it early, and the result says so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SearchError {
    /// Depth outside the range that makes sense.
    #[error("max_depth must be between 1 and {limit}, not {depth}")]
    Depth {
        /// What was asked for.
        depth: i32,
        /// The largest depth allowed.
        limit: i32,
    },
    /// More paths than make sense, or none.
    #[error("k must be between 1 and {limit}, not {k}")]
    Paths {
        /// What was asked for.
        k: i32,
        /// The most allowed.
        limit: i32,
    },
    /// Values of several assets cannot be compared.
    #[error("a path weighted by value needs a single asset")]
    SeveralAssets,
    /// The answer does not fit into the memory allowed.
    #[error("search needs more than {budget} bytes of memory at depth {depth}, with {wallets} wallets found")]
    Memory {
        /// Bytes allowed.
        budget: usize,
        /// Depth that was being searched.
        depth: u32,
        /// Wallets found until then.
        wallets: usize,
    },
    /// What is asked about the whole graph does not fit into the memory allowed.
    #[error("an answer about the whole graph needs more than {budget} bytes of memory, with {wallets} wallets")]
    WholeGraph {
        /// Bytes allowed.
        budget: usize,
        /// Wallets that are looked at.
        wallets: usize,
    },
    /// Patterns do not fit into the memory allowed.
    #[error("patterns need more than {budget} bytes of memory, with {findings} findings kept")]
    PatternMemory {
        /// Bytes allowed.
        budget: usize,
        /// Findings kept until then.
        findings: usize,
    },
    /// A sum of values beyond 256 bits.
    #[error("sum of values is out of range: more than 2^256 - 1 units")]
    ValueOverflow,
    /// The graph does not hold together.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// What can go wrong while a graph is built or merged. `E` is the error of the memory it works in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError<E: std::error::Error> {
    /// No memory to work in.
    #[error("allocate memory for the graph")]
    Scratch(#[source] E),
    /// No place for the file.
    #[error("write the graph's file")]
    Sink(#[source] E),
    /// More of something than its numbers can count.
    #[error("the graph can hold at most {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many fit.
        limit: u64,
    },
    /// What was handed in does not hold together.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}
