//! Errors of a graph: of a search, of a build, and of the file itself.

use thiserror::Error;

/// The graph's bytes contradict themselves or their description. The graph must be built again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("graph file is damaged: {what}")]
pub struct Damaged {
    /// The contradiction.
    pub what: &'static str,
}

/// A search failed. Limits on wallets and time are not errors: they end it early, and its result
/// reports them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SearchError {
    /// The depth is out of range.
    #[error("max_depth must be between 1 and {limit}, not {depth}")]
    Depth {
        /// Depth that was requested.
        depth: i32,
        /// Largest depth allowed.
        limit: i32,
    },
    /// The number of paths is out of range.
    #[error("k must be between 1 and {limit}, not {k}")]
    Paths {
        /// Number that was requested.
        k: i32,
        /// Largest number allowed.
        limit: i32,
    },
    /// Values of several assets cannot be compared.
    #[error("a path weighted by value needs a single asset")]
    SeveralAssets,
    /// The result does not fit into the allowed memory.
    #[error("search needs more than {budget} bytes of memory at depth {depth}, with {wallets} wallets found")]
    Memory {
        /// Bytes allowed.
        budget: usize,
        /// Depth that was being searched.
        depth: u32,
        /// Wallets found so far.
        wallets: usize,
    },
    /// A computation over the whole graph does not fit into the allowed memory.
    #[error("an answer about the whole graph needs more than {budget} bytes of memory, with {wallets} wallets")]
    WholeGraph {
        /// Bytes allowed.
        budget: usize,
        /// Wallets of the computation.
        wallets: usize,
    },
    /// Patterns do not fit into the allowed memory.
    #[error("patterns need more than {budget} bytes of memory, with {findings} findings kept")]
    PatternMemory {
        /// Bytes allowed.
        budget: usize,
        /// Findings kept so far.
        findings: usize,
    },
    /// A sum of values does not fit into 256 bits.
    #[error("sum of values is out of range: more than 2^256 - 1 units")]
    ValueOverflow,
    /// The graph is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// A build or merge of a graph failed. `E` is the error of the memory that it works in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError<E: std::error::Error> {
    /// Working memory could not be allocated.
    #[error("allocate memory for the graph")]
    Scratch(#[source] E),
    /// The file could not be written.
    #[error("write the graph's file")]
    Sink(#[source] E),
    /// There are more things than their ids can count.
    #[error("the graph can hold at most {limit} {what}")]
    TooMany {
        /// Plural noun for the things.
        what: &'static str,
        /// Largest number of them.
        limit: u64,
    },
    /// The input is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}
