//! The vocabulary of the graph: ids, directions, amounts, and a transfer as it comes from a table.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
pub use ethnum::U256;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($number:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
        #[repr(transparent)]
        pub struct $name($number);

        impl $name {
            /// Makes an id of a number.
            #[inline]
            #[must_use]
            pub const fn new(number: $number) -> Self {
                Self(number)
            }

            /// Returns the number.
            #[inline]
            #[must_use]
            pub const fn get(self) -> $number {
                self.0
            }

            /// Returns the number as an index.
            #[inline]
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A wallet of one graph. Ids are dense from 0 and mean nothing outside the graph they come from.
    WalletId(u32)
);
id!(
    /// An asset of one graph: the native coin of every network, or a token.
    AssetId(u32)
);
id!(
    /// A network of one graph.
    NetworkId(u16)
);

impl WalletId {
    /// Stands for the missing receiver of a contract creation.
    pub const NONE: Self = Self(u32::MAX);

    /// Returns the id, unless it is [`Self::NONE`].
    #[inline]
    #[must_use]
    pub fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

impl AssetId {
    /// The native coin of a network.
    pub const NATIVE: Self = Self(0);
}

/// Consecutive wallet ids.
#[derive(Debug, Clone)]
pub struct WalletIds(Range<u32>);

impl WalletIds {
    /// The ids from `start` to before `end`.
    #[must_use]
    pub const fn new(start: u32, end: u32) -> Self {
        Self(start..end)
    }
}

impl Iterator for WalletIds {
    type Item = WalletId;

    #[inline]
    fn next(&mut self) -> Option<WalletId> {
        self.0.next().map(WalletId)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for WalletIds {
    #[inline]
    fn next_back(&mut self) -> Option<WalletId> {
        self.0.next_back().map(WalletId)
    }
}

impl ExactSizeIterator for WalletIds {}

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

/// Whether a transfer took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Seen, not yet in a block that counts.
    Pending = 0,
    /// In a block.
    Confirmed = 1,
    /// In a block, but reverted: the contact was made, no value moved.
    Failed = 2,
}

/// Where a transfer stands among others of the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Number of its block.
    pub block: u64,
    /// Its transaction's place in the block, where known.
    pub transaction_index: Option<u32>,
    /// Its place in the transaction's log, for token transfers.
    pub log_index: Option<u32>,
}

/// One row of transactions or token transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferRow<'a> {
    /// Canonical name of the network.
    pub network: &'a str,
    /// Sender.
    pub from: &'a str,
    /// Receiver; `None` for the creation of a contract.
    pub to: Option<&'a str>,
    /// Address of the token; `None` for the native coin.
    pub token: Option<&'a str>,
    /// Microseconds since an epoch that the caller uses throughout; `i64::MIN` and `i64::MAX` stand for the infinities.
    pub time: i64,
    /// Native coin: units of 10^-18 coins. Token: raw units.
    pub value: U256,
    /// Order among transfers of the same time.
    pub position: Position,
    /// Whether it took effect.
    pub status: Status,
}
