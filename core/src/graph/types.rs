//! The vocabulary of the graph: wallets, directions, amounts, and a transfer as it comes from a table.

pub use ethnum::U256;

/// A wallet of a graph by number. Numbers are dense from 0, and mean nothing outside the graph they come from.
pub type WalletId = u32;

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

/// The asset number of a network's native coin.
pub const NATIVE: u32 = 0;

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
