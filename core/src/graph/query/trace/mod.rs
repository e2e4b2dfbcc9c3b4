//! Traces of money forward and backward: tainted amounts along transfers, in the order of time.
//!
//! A trace begins with transfers whose whole amount is tainted: given ones, or all that a wallet
//! sent (forward) or received (backward) within the window. It proceeds through time transfer by
//! transfer; ties are ordered by block, index in the block and log, then by address. Within a
//! wallet, a [`TaintMethod`] decides which of its funds leave with a transfer. Forward, an amount
//! is tainted if it came from the origin; backward, if it ended there.
//!
//! # Methods
//! - [`TaintMethod::Poison`]: everything that leaves a tainted wallet is wholly tainted (Möser,
//!   Böhme, Breuker: "Towards Risk Scoring of Bitcoin Transactions", 2014). Amounts grow without
//!   bound.
//! - [`TaintMethod::Haircut`]: a leaving transfer is tainted by the same share as the wallet's
//!   balance (the same paper).
//! - [`TaintMethod::Fifo`]: funds leave in the order of arrival (Clayton's case, 1816; Anderson,
//!   Shumailov, Ahmed, Rietmann: "Bitcoin Redux", 2018).
//! - [`TaintMethod::Lifo`]: the latest arrivals leave first (Tironsakkul, Maarek, Eross, Just:
//!   "Probing the Mystery of Cryptocurrency Theft", 2019).
//! - [`TaintMethod::Tiho`], taint in, highest out: tainted funds leave with the largest of the
//!   later transfers (the same authors: "Context matters: Methods for Bitcoin tracking", 2022,
//!   where outputs of one transaction compete; here the later transfers of a wallet do). Backward,
//!   they leave with the largest of the earlier ones.
//!
//! # Hops
//! By haircut, each part of an amount counts its own transfers: it ends after `max_hops` of them,
//! wherever it then is, and parts that took different paths to a wallet stay apart. Transfers of a
//! wallet to itself do not count. The other methods count the smallest number of transfers to a
//! wallet.
//!
//! # Conservation
//! Every method except poison conserves amounts to the last unit: the amount that the origin sent
//! is the sum of the [`Trace::ends`]. Rounding leaves the odd unit in the wallet.
//!
//! # Missing data
//! A wallet may send more than its known balance: mining rewards, internal transfers, an incomplete
//! history. The difference is assumed to arrive, untainted, at the moment when it is needed, and it
//! is reported as a [`Shortfall`]. Fees are not transfers and are ignored. Failed transactions move
//! no value. Where positions do not tell the order of transfers, they follow the money (see
//! `ties`), and what depends on that says so.
//!
//! # Several assets
//! Each asset is traced on its own, unless the graph has a [basket](crate::graph::Basket): then the
//! balance of a wallet is the sum of its assets, in the unit of the basket, and funds go on in
//! whichever of them leaves next. Transfers without a value are not followed and are counted.

mod account;
mod backward;
mod division;
mod forward;
mod hops;
mod moment;
mod pool;
mod ratio;
mod shortfall;
mod sweep;

use std::collections::BTreeMap;

use crate::graph::types::{AssetId, Side, WalletId};
use crate::graph::types::{Position, Status, U256};
use crate::graph::view::basket::Unvalued;
use crate::graph::view::filter::AssetSelection;
use crate::graph::view::graph::Graph;
use crate::graph::{MemoryBudget, SearchError};

pub(in crate::graph::query) use moment::Moment;
pub(in crate::graph::query) use shortfall::single_asset;
pub use shortfall::{ShortfallScope, own_shortfall};
pub use sweep::trace;

/// Rule that decides which of a wallet's funds leave with a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaintMethod {
    /// The whole transfer is tainted.
    Poison,
    /// The transfer has the tainted share of the balance.
    Haircut,
    /// The oldest funds leave first.
    Fifo,
    /// The newest funds leave first.
    Lifo,
    /// Tainted funds leave with the largest transfers.
    Tiho,
}

impl TaintMethod {
    /// Every method.
    pub const ALL: [Self; 5] = [Self::Poison, Self::Haircut, Self::Fifo, Self::Lifo, Self::Tiho];

    /// Returns its name in SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Haircut => "haircut",
            Self::Fifo => "fifo",
            Self::Lifo => "lifo",
            Self::Tiho => "tiho",
        }
    }
}

/// Direction of a trace in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// Follows funds to where they went.
    Forward,
    /// Follows funds to where they came from.
    Backward,
}

impl Flow {
    /// Returns the side of a wallet on which its funds leave in this direction.
    pub(super) const fn side(self) -> Side {
        match self {
            Self::Forward => Side::Out,
            Self::Backward => Side::In,
        }
    }
}

/// A transfer, with the wallet that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentTransfer {
    /// Sender; `None` for a reward.
    pub from: Option<WalletId>,
    /// The transfer from the sender's side.
    pub transfer: crate::graph::Transfer,
}

/// Start of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceOrigin {
    /// All transfers that a wallet sent, or received, within the window.
    Wallet(WalletId),
    /// Given transfers.
    Transfers(Vec<SentTransfer>),
}

/// Scope and limits of a trace.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Direction in time.
    pub flow: Flow,
    /// Division of amounts.
    pub method: TaintMethod,
    /// Assets to trace; each is traced separately.
    pub assets: AssetSelection,
    /// Start of the window, inclusive. Balances include earlier transfers.
    pub since: Option<i64>,
    /// End of the window, exclusive.
    pub until: Option<i64>,
    /// Maximum number of transfers from the origin, at least 1.
    pub max_hops: u32,
    /// Tainted amounts below this are not followed further.
    pub min_value: Option<U256>,
    /// Wallets with more counterparties on the followed side are not followed.
    pub max_fan_out: Option<u64>,
    /// Maximum number of followed wallets.
    pub max_wallets: Option<u64>,
    /// Share of the origin, in millionths, that is worth any effort: once less is still moving, the
    /// trace ends after `late_steps` more transfers. Poison, whose amounts grow, ignores it.
    pub min_share: u32,
    /// Transfers that are followed once less than the minimum share is moving.
    pub late_steps: usize,
    /// Backward: follows funds to receipts before the window, which then bounds the origin's
    /// transfers alone.
    pub follows_before_since: bool,
    /// Records the paths to wallets at which tracing stops. Haircut only.
    pub paths: bool,
    /// Memory for the search and its result.
    pub memory: MemoryBudget,
}

/// Reason why an amount was not followed further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The amount reached a wallet at which tracing stops.
    Stop,
    /// The amount returned to the origin.
    TraceOrigin,
    /// The transfer created a contract, whose address it does not contain.
    Contract,
    /// The amount was burned or paid as a fee.
    Burned,
    /// Backward: the amount was the reward of a block.
    Reward,
    /// Backward: the token was minted.
    Minted,
    /// Forward: the amount has not left the wallet. Backward: no earlier receipt of the wallet
    /// explains it.
    Held,
    /// Backward: the amount arrived before the window.
    Window,
    /// The maximum number of hops was reached.
    Hops,
    /// The amount is below the minimum.
    Value,
    /// The wallet has too many counterparties.
    FanOut,
    /// Less than the minimum share of the origin was still moving.
    Share,
    /// The maximum number of wallets was reached.
    Wallets,
    /// The time limit was reached.
    Time,
    /// The wallet's history does not fit into the memory limit.
    Memory,
}

impl End {
    /// Returns its name in results.
    #[must_use]
    pub const fn name(self, flow: Flow) -> &'static str {
        match (self, flow) {
            (Self::Stop, _) => "service",
            (Self::TraceOrigin, _) => "origin",
            (Self::Contract, _) => "contract creation",
            (Self::Burned, _) => "burn or fee",
            (Self::Reward, _) => "block reward",
            (Self::Minted, _) => "minted",
            (Self::Held, Flow::Forward) => "unspent",
            (Self::Held, Flow::Backward) => "source unknown",
            (Self::Window, _) => "before since",
            (Self::Hops, _) => "max_hops reached",
            (Self::Value, _) => "below min_value",
            (Self::FanOut, _) => "max_fan_out exceeded",
            (Self::Share, _) => "min_share reached",
            (Self::Wallets, _) => "max_nodes reached",
            (Self::Time, _) => "max_time reached",
            (Self::Memory, _) => "graph_work_mem used up",
        }
    }

    /// Reports whether a limit ended the amount, and a wider one would have found more.
    #[must_use]
    pub const fn is_cut(self) -> bool {
        match self {
            Self::Window
            | Self::Hops
            | Self::Value
            | Self::FanOut
            | Self::Share
            | Self::Wallets
            | Self::Time
            | Self::Memory => true,
            Self::Stop
            | Self::TraceOrigin
            | Self::Contract
            | Self::Burned
            | Self::Reward
            | Self::Minted
            | Self::Held => false,
        }
    }
}

/// A transfer that carried tainted funds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceStep {
    /// Minimum number of transfers from the origin up to and including this one.
    pub hop: u32,
    /// Sender; `None` for a reward.
    pub from: Option<WalletId>,
    /// Receiver; `None` for the creation of a contract or a burn.
    pub to: Option<WalletId>,
    /// The asset.
    pub asset: AssetId,
    /// Time of the transfer.
    pub time: i64,
    /// Order among transfers of the same time.
    pub position: Position,
    /// Status of its transaction.
    pub status: Status,
    /// Whole amount, in units of the asset.
    pub amount: U256,
    /// Tainted part of the amount.
    pub tainted: U256,
    /// Reason why it was not followed further; [`End::Held`] if none of it moved on.
    pub end: Option<End>,
    /// Number of the transfer.
    pub number: u64,
    /// The tainted amount depends on an order of transfers that was inferred.
    pub inferred: bool,
}

/// Amount that ended at a wallet for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedAmount {
    /// The wallet; `None` for new contracts, burns and rewards.
    pub wallet: Option<WalletId>,
    /// The asset.
    pub asset: AssetId,
    /// Reason.
    pub end: End,
    /// Amount.
    pub amount: U256,
    /// Minimum number of transfers from the origin.
    pub hop: u32,
    /// Number of transfers that brought it there.
    pub transfers: u64,
    /// Time of the first of these transfers.
    pub first: i64,
    /// Time of the last of these transfers.
    pub last: i64,
    /// The amount depends on an order of transfers that was inferred.
    pub inferred: bool,
}

/// A wallet that sent more than it is known to have received.
///
/// Forward: a followed wallet, since taint arrived. Backward: a wallet at which the source of funds
/// is unknown, with that part of the origin. In both directions the wallet that the trace began at,
/// within the window, by its whole history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// The wallet.
    pub wallet: WalletId,
    /// The asset.
    pub asset: AssetId,
    /// Amount that is lacking, in units of the asset.
    pub amount: U256,
    /// Minimum number of transfers from the origin; 0 for the origin.
    pub hop: u32,
    /// Number of transfers that lacked funds.
    pub transfers: u64,
    /// Time of the first of these transfers.
    pub first: i64,
    /// Time of the last of these transfers.
    pub last: i64,
}

/// Funds that a path of transfers carried to a wallet at which tracing stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedPart {
    /// The wallet.
    pub wallet: WalletId,
    /// Number of transfers between the origin and the wallet.
    pub hops: u32,
    /// Amount over all paths of this length.
    pub amount: U256,
    /// Numbers of the transfers of the path that carried the most, beginning at the origin.
    pub path: Vec<u64>,
}

/// Result of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Steps in the order of time; backward, the latest first.
    pub steps: Vec<TraceStep>,
    /// Ends by asset, then amount, the largest first, then address and reason.
    pub ends: Vec<EndedAmount>,
    /// Amounts that the origin sent or received, by asset.
    pub origin: Vec<(AssetId, U256)>,
    /// Wallets that sent more than they are known to have received: by asset, then amount, the
    /// largest first, then address.
    pub shortfalls: Vec<Shortfall>,
    /// Parts at wallets where tracing stopped, if [`Terms::paths`] is set; by address and hops.
    pub stopped: Vec<StoppedPart>,
    /// Assets that the followed wallets and the origin moved in the direction of the flow, and that
    /// a basket has no value for: by number of transfers, the largest first, then name.
    pub unvalued: Vec<Unvalued>,
    /// Time, wallets or memory, if one of them cut the trace short.
    pub cut: Option<End>,
}

impl Trace {
    /// Returns the limits that cut funds, each with the amounts that it cut by asset.
    #[must_use]
    pub fn cuts(&self) -> Vec<(End, Vec<(AssetId, U256)>)> {
        let mut cuts: BTreeMap<End, BTreeMap<AssetId, U256>> = BTreeMap::new();
        for end in self.ends.iter().filter(|end| end.end.is_cut()) {
            let sum = cuts.entry(end.end).or_default().entry(end.asset).or_insert(U256::ZERO);
            *sum = sum.saturating_add(end.amount);
        }
        if let Some(cut) = self.cut {
            cuts.entry(cut).or_default();
        }
        cuts.into_iter().map(|(end, sums)| (end, sums.into_iter().collect())).collect()
    }
}

/// Look-up of the wallets at which tracing stops. Wallets are announced in batches before they are
/// looked up.
pub trait Stops {
    /// Error of a look-up.
    type Error: From<SearchError>;

    /// Announces wallets that will be looked up.
    ///
    /// # Errors
    /// When the look-up fails.
    fn prepare(&mut self, graph: &Graph<'_>, wallets: &[WalletId]) -> Result<(), Self::Error>;

    /// Reports whether tracing stops at a wallet.
    fn stops_at(&self, wallet: WalletId) -> bool;
}

/// [`Stops`] without any stop.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStops;

impl Stops for NoStops {
    type Error = SearchError;

    fn prepare(&mut self, _graph: &Graph<'_>, _wallets: &[WalletId]) -> Result<(), SearchError> {
        Ok(())
    }

    fn stops_at(&self, _wallet: WalletId) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
