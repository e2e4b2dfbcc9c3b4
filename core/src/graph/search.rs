//! What every search on the graph shares: what may be followed, how far, and where it reads.

use super::error::Damaged;
use super::packed::{RAW, TAG_SHIFT, WideSlices};
use super::transfer::U256;

/// A wallet of a graph by number. Numbers are dense from 0, and mean nothing outside the graph they come from.
pub type Wallet = u32;

/// Which way transfers are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From sender to receiver: where value went.
    Out,
    /// From receiver to sender: where value came from.
    In,
    /// Either way.
    Both,
}

/// One of the two adjacencies of a wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// What it sent.
    Out,
    /// What it received.
    In,
}

impl Direction {
    /// The adjacencies to follow.
    #[must_use]
    pub const fn sides(self) -> &'static [Side] {
        match self {
            Self::Out => &[Side::Out],
            Self::In => &[Side::In],
            Self::Both => &[Side::Out, Side::In],
        }
    }
}

/// Which assets count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssetSelection {
    /// The native coin alone.
    Native,
    /// One token, by its number in the graph.
    Token(u32),
    /// Any token, not the native coin.
    Tokens,
    /// Everything.
    All,
}

impl AssetSelection {
    /// Whether an asset is among them.
    #[must_use]
    pub const fn contains(self, asset: u32) -> bool {
        match self {
            Self::Native => asset == super::NATIVE,
            Self::Token(token) => asset == token,
            Self::Tokens => asset != super::NATIVE,
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
    pub(super) const fn is_by_pair(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.min_value.is_none() && self.include_failed
    }
}

/// What one wallet sent another in one asset, as far as it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The other wallet.
    pub peer: Wallet,
    /// The asset.
    pub asset: u32,
    /// Transfers.
    pub transfers: u64,
    /// Their sum, in units of the asset.
    pub value: U256,
    /// Time of the first.
    pub first: i64,
    /// Time of the last.
    pub last: i64,
}

/// Why a search stopped before it had looked at everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Halt {
    /// As many wallets were found as were allowed.
    Wallets,
    /// The time allowed was used up.
    Time,
}

impl Halt {
    /// Its name in results: that of the limit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wallets => "max_nodes reached",
            Self::Time => "max_time reached",
        }
    }
}

/// Asked every few thousand steps whether to go on.
pub trait Watch {
    /// Does what must be done now and then (see to cancellation), and says whether the time allowed is used up.
    fn expired(&mut self) -> bool;
}

/// A watch that lets everything run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn expired(&mut self) -> bool {
        false
    }
}

/// Edges of one wallet as they stand in memory: all that it has on a side, in one asset, one a peer.
#[derive(Debug, Clone, Copy)]
pub struct PlainEdges<'g> {
    /// The other wallets.
    pub peers: &'g [Wallet],
    /// Transfers and values of each, if they were wanted.
    pub totals: Option<PlainTotals<'g>>,
}

/// See [`PlainEdges`].
#[derive(Debug, Clone, Copy)]
pub struct PlainTotals<'g> {
    /// Transfers.
    pub transfers: &'g [u32],
    pub(super) values: &'g [u64],
    pub(super) wide: WideSlices<'g>,
}

impl PlainTotals<'_> {
    /// Whether a value is written as itself.
    #[inline]
    pub(super) const fn is_plain(value: u64) -> bool {
        value >> TAG_SHIFT == RAW
    }

    /// The value of an edge, if it is less than 2^128 units.
    #[inline]
    #[must_use]
    pub fn value(&self, edge: usize) -> Option<u128> {
        self.values.get(edge).and_then(|code| self.wide.small(*code))
    }
}

/// What a search reads: wallets and what they sent each other.
pub trait TransferGraph {
    /// How many wallets there are: they are numbered from 0.
    fn wallets(&self) -> u32;

    /// The wallet's address.
    ///
    /// # Errors
    /// When the graph does not hold together.
    fn address(&self, wallet: Wallet) -> Result<&str, Damaged>;

    /// A key that orders wallets of one network as their addresses are ordered by bytes; no two share one.
    fn order(&self, wallet: Wallet) -> u64;

    /// At least as many edges as the wallet has on this side: what looking at them costs.
    fn degree(&self, wallet: Wallet, side: Side) -> usize;

    /// The wallet's edges as they stand in memory, if all of them count and that is how they stand, with their totals if those are
    /// wanted: the fast way.
    fn plain_edges(
        &self,
        _wallet: Wallet,
        _side: Side,
        _filter: &EdgeFilter,
        _with_totals: bool,
    ) -> Option<PlainEdges<'_>> {
        None
    }

    /// Calls `each` for every edge of the wallet that counts, once an asset and peer, in no particular order.
    ///
    /// # Errors
    /// When the graph does not hold together, and what `each` reports, which ends it.
    fn edges<E, F>(&self, wallet: Wallet, side: Side, filter: &EdgeFilter, each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Edge) -> Result<(), E>;
}
