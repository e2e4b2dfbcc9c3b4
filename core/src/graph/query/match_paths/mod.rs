//! Paths of money whose wallets have kinds of labels in a given sequence.
//!
//! Owns the language of patterns, and the search; not the labels, which a [`PathKinds`] reads.
//!
//! A path is a sequence of transfers of one asset, each from the receiver of the one before, at or
//! after it and at most `max_gap` later, of at least `min_kept` of its amount. No wallet is on a
//! path twice. Transfers without value and failed transfers are on no path. Where the order of two
//! transfers is unknown, one may follow the other, and the hop says so (`order_inferred`).

mod pattern;
mod search;

pub use pattern::{MAX_HOPS, PathElement, PathPattern, PathPatternError};

use crate::graph::budget::{Halt, Interrupt, MemoryBudget};
use crate::graph::error::SearchError;
use crate::graph::types::{U256, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;
use crate::graph::view::transfers::Transfer;

/// Kinds of labels that wallets have.
pub trait PathKinds {
    /// Failure of reading labels, or of the search.
    type Error: From<SearchError>;

    /// Reads the labels of wallets that the search is about to ask about.
    ///
    /// # Errors
    /// When labels cannot be read.
    fn prepare(&mut self, graph: &Graph<'_>, wallets: &[WalletId]) -> Result<(), Self::Error>;

    /// Returns whether a wallet has one of the names of a pattern.
    fn has_any(&self, wallet: WalletId, names: &[usize]) -> bool;
}

/// A question for paths.
#[derive(Debug, Clone, Copy)]
pub struct PathQuestion<'a> {
    /// Kinds of the wallets along the path.
    pub pattern: &'a PathPattern,
    /// Wallets that a path may begin with.
    pub starts: &'a [WalletId],
    /// Transfers that count, of a single asset.
    pub filter: EdgeFilter,
    /// Maximum time between two transfers, in microseconds.
    pub max_gap: Option<i64>,
    /// Minimum share of the amount of a transfer that the next one has, in millionths.
    pub min_kept: u32,
    /// Maximum number of paths.
    pub max_paths: usize,
    /// Maximum number of wallets of the sequence, in all.
    pub max_wallets: Option<u64>,
    /// Memory for the search and its result.
    pub memory: MemoryBudget,
}

/// A transfer of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatchedHop {
    /// Sender.
    pub from: WalletId,
    /// Receiver.
    pub to: WalletId,
    /// The transfer as seen from its sender.
    pub transfer: Transfer,
    /// Number of the receiver's element in the pattern.
    pub element: usize,
    /// It is not known whether the transfer came after the one before.
    pub order_inferred: bool,
}

/// Result of [`match_paths`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedPaths {
    /// Paths by the order of their first transfers, then of the second ones, and so on.
    pub paths: Vec<Vec<MatchedHop>>,
    /// There are more paths than the maximum.
    pub more: bool,
    /// Limit at which the search stopped, if it did. There may then be more paths.
    pub halted: Option<Halt>,
}

/// Returns the smallest amount that is at least a share, in millionths, of another.
fn share_of(value: U256, share: u32) -> U256 {
    let (whole, share) = (U256::new(1_000_000), U256::from(share));
    let (quotient, rest) = (value / whole, value % whole);
    quotient * share + (rest * share + whole - U256::ONE) / whole
}

/// Searches for the paths of a pattern. The transfers on the way from the starts are found level by
/// level, then those that no path ends with are left out, so that the paths themselves are read
/// without dead ends, except for wallets that would be on a path twice. O(e log e) in the transfers
/// that the wallets of the sequence sent, for each of at most 33 places in the sequence, and in the
/// paths returned.
///
/// # Errors
/// [`SearchError::SeveralAssets`], [`SearchError::Memory`], [`SearchError::Damaged`], and those of
/// `kinds`.
pub fn match_paths<K: PathKinds, W: Interrupt>(
    graph: &Graph<'_>,
    question: &PathQuestion<'_>,
    kinds: &mut K,
    interrupt: &mut W,
) -> Result<MatchedPaths, K::Error> {
    if !question.filter.assets.is_single() {
        return Err(SearchError::SeveralAssets.into());
    }
    search::PathMatcher::new(graph, question, kinds, interrupt).run()
}

#[cfg(test)]
mod tests;
