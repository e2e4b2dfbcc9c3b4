//! The vocabulary of the graph: ids, directions, amounts, and a transfer as a table stores it.

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
            /// Makes an id from its number.
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

            /// Returns the number as an index into an array with an element per id.
            #[inline]
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A wallet of one graph. Ids are dense from 0 and mean nothing outside the graph they come
    /// from.
    WalletId(u32)
);
id!(
    /// An asset of one graph: a token, or [`AssetId::NATIVE`] for the native coin of any network.
    AssetId(u32)
);
id!(
    /// A network of one graph.
    NetworkId(u16)
);

impl WalletId {
    /// Stands for the missing receiver of a contract creation or a burn.
    pub const NONE: Self = Self(u32::MAX);

    /// Stands for the missing sender of a reward. It has an id of its own, because transfers are
    /// stored by sender; it is on no network, has no edges, and is never a peer.
    pub const NO_SENDER: Self = Self(0);

    /// Returns the id, or `None` for [`Self::NONE`] and [`Self::NO_SENDER`].
    #[inline]
    #[must_use]
    pub fn some(self) -> Option<Self> {
        // One comparison: both values are at an end of the range.
        (self.0.wrapping_sub(1) < u32::MAX - 1).then_some(self)
    }
}

impl AssetId {
    /// The native coin of a network.
    pub const NATIVE: Self = Self(0);
}

/// An iterator over consecutive wallets.
#[derive(Debug, Clone)]
pub struct WalletIds(Range<u32>);

impl WalletIds {
    /// Yields the wallets from number `start` to before number `end`.
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

/// The direction in which transfers are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From sender to receiver: where value went.
    Out,
    /// From receiver to sender: where value came from.
    In,
    /// Both ways.
    Both,
}

/// One of the two adjacencies of a wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Transfers that the wallet sent.
    Out,
    /// Transfers that the wallet received.
    In,
}

impl Direction {
    /// Returns the adjacencies to follow.
    #[must_use]
    pub const fn sides(self) -> &'static [Side] {
        match self {
            Self::Out => &[Side::Out],
            Self::In => &[Side::In],
            Self::Both => &[Side::Out, Side::In],
        }
    }
}

/// Effect of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Seen, but not yet in a canonical block.
    Pending = 0,
    /// In a block.
    Confirmed = 1,
    /// In a block, but reverted: the contact was made, no value moved.
    Failed = 2,
    /// The source does not tell. Its value counts, as that of a confirmed transfer.
    Unknown = 3,
}

/// The table that a transfer is a row of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The value of a transaction.
    Transactions,
    /// A further movement of the native coin.
    InternalTransfers,
    /// A movement of a token.
    TokenTransfers,
}

/// Order of a transfer among those of the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Block number; [`Position::UNKNOWN_BLOCK`] if it is unknown.
    pub block: u64,
    /// Index of the transaction in its block, if known.
    pub transaction_index: Option<u32>,
    /// Index of a token transfer in the log of its transaction, or of an internal transfer among
    /// those of its transaction. `None` for the value of the transaction itself, which moves first,
    /// and for an internal transfer whose order is unknown.
    pub log_index: Option<u32>,
}

impl Position {
    /// Stands for a block that is unknown: the transfer comes after all others of its time, and
    /// answers that depend on that say so.
    pub const UNKNOWN_BLOCK: u64 = i64::MAX.cast_unsigned();
}

/// A row of transactions, internal transfers or token transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferRow<'a> {
    /// Canonical name of the network.
    pub network: &'a str,
    /// Address of the sender; `None` for a reward.
    pub from: Option<&'a str>,
    /// Address of the receiver; `None` for a contract creation or a burn.
    pub to: Option<&'a str>,
    /// Address of the token; `None` for the native coin.
    pub token: Option<&'a str>,
    /// Microseconds since an epoch of the caller's choice; `i64::MIN` and `i64::MAX` stand for the
    /// infinities.
    pub time: i64,
    /// Units of 10^-18 coins for the native coin, raw units for a token.
    pub value: U256,
    /// Order among transfers of the same time.
    pub position: Position,
    /// Effect of the transfer.
    pub status: Status,
}

impl TransferRow<'_> {
    /// Returns the table of a row that is not an internal transfer.
    pub(crate) const fn source(&self) -> Source {
        if self.token.is_some() { Source::TokenTransfers } else { Source::Transactions }
    }
}
