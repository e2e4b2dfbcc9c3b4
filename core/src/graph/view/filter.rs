//! Which transfers a search follows, and the edges that it then sees.

use crate::graph::file::packed::{RAW, TAG_SHIFT, WideSlices};
use crate::graph::types::{AssetId, U256, WalletId};

/// Which assets count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssetSelection {
    /// The native coin alone.
    Native,
    /// One token, by its number in the graph.
    Token(AssetId),
    /// Any token, not the native coin.
    Tokens,
    /// Everything.
    All,
}

impl AssetSelection {
    /// Whether an asset is among them.
    #[must_use]
    pub const fn contains(self, asset: AssetId) -> bool {
        match self {
            Self::Native => asset.get() == AssetId::NATIVE.get(),
            Self::Token(token) => asset.get() == token.get(),
            Self::Tokens => asset.get() != AssetId::NATIVE.get(),
            Self::All => true,
        }
    }

    /// Whether values of all that counts may be added up: they are of one asset.
    #[must_use]
    pub const fn is_single(self) -> bool {
        matches!(self, Self::Native | Self::Token(_))
    }
}

/// Which transfers count, and which pairs of wallets they connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeFilter {
    /// Of these assets.
    pub assets: AssetSelection,
    /// Not before this time.
    pub since: Option<i64>,
    /// Before this time.
    pub until: Option<i64>,
    /// Each of at least this value, in units of its asset.
    pub min_value: Option<U256>,
    /// Pairs of wallets with at least this many transfers of one asset that count.
    pub min_transfers: u64,
    /// Whether failed transactions count: the attempt is a contact, too.
    pub include_failed: bool,
}

impl Default for EdgeFilter {
    /// The native coin, all of it.
    fn default() -> Self {
        Self {
            assets: AssetSelection::Native,
            since: None,
            until: None,
            min_value: None,
            min_transfers: 1,
            include_failed: true,
        }
    }
}

impl EdgeFilter {
    /// What balances are made of: all that took effect before a time, from the beginning.
    #[must_use]
    pub const fn history(assets: AssetSelection, until: Option<i64>) -> Self {
        Self { assets, since: None, until, min_value: None, min_transfers: 1, include_failed: false }
    }

    /// Whether all transfers of a pair count or none.
    pub(in crate::graph) const fn is_by_pair(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.min_value.is_none() && self.include_failed
    }
}

/// What one wallet sent another in one asset, as far as it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The other wallet.
    pub peer: WalletId,
    /// The asset.
    pub asset: AssetId,
    /// Transfers.
    pub transfers: u64,
    /// Their sum, in units of the asset.
    pub value: U256,
    /// Time of the first.
    pub first: i64,
    /// Time of the last.
    pub last: i64,
}

/// Edges of one wallet as they stand in memory: all that it has on a side, in one asset, one a peer.
#[derive(Debug, Clone, Copy)]
pub struct PlainEdges<'g> {
    /// The other wallets.
    pub peers: &'g [WalletId],
    /// Transfers and values of each, if they were wanted.
    pub totals: Option<PlainTotals<'g>>,
}

/// See [`PlainEdges`].
#[derive(Debug, Clone, Copy)]
pub struct PlainTotals<'g> {
    /// Transfers.
    pub transfers: &'g [u32],
    pub(in crate::graph) values: &'g [u64],
    pub(in crate::graph) wide: WideSlices<'g>,
}

impl PlainTotals<'_> {
    /// Whether a value is written as itself.
    #[inline]
    pub(in crate::graph) const fn is_plain(value: u64) -> bool {
        value >> TAG_SHIFT == RAW
    }

    /// The value of an edge, if it is less than 2^128 units.
    #[inline]
    #[must_use]
    pub fn value(&self, edge: usize) -> Option<u128> {
        self.values.get(edge).and_then(|code| self.wide.small(*code))
    }
}
