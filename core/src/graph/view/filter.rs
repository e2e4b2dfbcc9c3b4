//! Filters of transfers, and the edges that a search then follows.

use std::ops::Range;

use crate::graph::file::packed::{RAW, TAG_SHIFT, WideSlices};
use crate::graph::types::{AssetId, U256, WalletId};

/// Assets that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssetSelection {
    /// The native coin alone.
    Native,
    /// One token.
    Token(AssetId),
    /// Every token, without the native coin.
    Tokens,
    /// Every asset.
    All,
}

impl AssetSelection {
    /// Returns whether an asset is selected.
    #[must_use]
    pub const fn contains(self, asset: AssetId) -> bool {
        match self {
            Self::Native => asset.get() == AssetId::NATIVE.get(),
            Self::Token(token) => asset.get() == token.get(),
            Self::Tokens => asset.get() != AssetId::NATIVE.get(),
            Self::All => true,
        }
    }

    /// Returns whether at most one asset is selected, so that values may be added up.
    #[must_use]
    pub const fn is_single(self) -> bool {
        matches!(self, Self::Native | Self::Token(_))
    }
}

/// Selects the transfers that count, and the pairs of wallets that they connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeFilter {
    /// Assets that count.
    pub assets: AssetSelection,
    /// Earliest time, inclusive.
    pub since: Option<i64>,
    /// Latest time, exclusive.
    pub until: Option<i64>,
    /// Minimum value of a transfer, in units of its asset.
    pub min_value: Option<U256>,
    /// Minimum number of counted transfers of one asset between a pair of wallets.
    pub min_transfers: u64,
    /// Counts failed transfers, too: the attempt is a contact, and moves no value.
    pub include_failed: bool,
}

impl Default for EdgeFilter {
    /// Selects every transfer of the native coin that did not fail.
    fn default() -> Self {
        Self {
            assets: AssetSelection::Native,
            since: None,
            until: None,
            min_value: None,
            min_transfers: 1,
            include_failed: false,
        }
    }
}

impl EdgeFilter {
    /// Selects the transfers that balances consist of: everything that took effect before a time.
    #[must_use]
    pub const fn history(assets: AssetSelection, until: Option<i64>) -> Self {
        Self { assets, since: None, until, min_value: None, min_transfers: 1, include_failed: false }
    }

    /// Returns whether either all transfers of a pair count or none do.
    pub(crate) const fn is_by_pair(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.min_value.is_none() && !self.include_failed
    }
}

/// Sum of the counted transfers between two wallets in one asset and one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The wallet at the other end.
    pub peer: WalletId,
    /// Asset of the transfers.
    pub asset: AssetId,
    /// Number of transfers.
    pub transfers: u64,
    /// Sum of values, in units of the asset.
    pub value: U256,
    /// Time of the first transfer.
    pub first: i64,
    /// Time of the last transfer.
    pub last: i64,
}

/// All edges of a wallet on one side in one asset, one per peer, as slices of the graph's memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainEdges<'g> {
    /// The wallets at the other ends.
    pub peers: &'g [WalletId],
    /// Totals of each edge, if requested.
    pub totals: Option<PlainTotals<'g>>,
}

/// Totals of [`PlainEdges`], in the same order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainTotals<'g> {
    /// Number of transfers of each edge.
    pub transfers: &'g [u32],
    pub(crate) values: &'g [u64],
    pub(crate) wide: WideSlices<'g>,
}

impl PlainTotals<'_> {
    /// Returns the totals of a range of edges.
    pub(crate) fn within(&self, edges: Range<usize>) -> Self {
        let transfers = self.transfers.get(edges.clone()).unwrap_or_default();
        Self { transfers, values: self.values.get(edges).unwrap_or_default(), wide: self.wide }
    }

    /// Returns whether a packed value is the value itself.
    #[inline]
    pub(crate) const fn is_plain(value: u64) -> bool {
        value >> TAG_SHIFT == RAW
    }

    /// Returns the value of an edge if it is less than 2^128 units.
    #[inline]
    pub(crate) fn value(&self, edge: usize) -> Option<u128> {
        self.values.get(edge).and_then(|code| self.wide.small(*code))
    }
}
