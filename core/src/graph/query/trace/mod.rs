//! Where money went, and where it came from: tainted amounts along transfers, in the order in which they happened.
//!
//! A trace begins with transfers whose whole amount is tainted: those that were named, or all that a wallet sent (forward) or received
//! (backward) within the window. It goes through time transfer by transfer; ties at one time follow block, place in the block and log,
//! then the addresses. Within a wallet, a [`Method`] decides which of its funds leave with a transfer. Forward, an amount is tainted if
//! it came from the origin; backward, if it ended there.
//!
//! # Methods
//! - [`Method::Poison`]: whatever leaves a tainted wallet is tainted as a whole (Möser, Böhme, Breuker: "Towards Risk Scoring of Bitcoin
//!   Transactions", 2014). Amounts grow without bound.
//! - [`Method::Haircut`]: what leaves is tainted by the share that the wallet's balance is (the same paper).
//! - [`Method::Fifo`]: funds leave in the order in which they came (Clayton's case, 1816; Anderson, Shumailov, Ahmed, Rietmann: "Bitcoin
//!   Redux", 2018).
//! - [`Method::Lifo`]: the latest to come leave first (Tironsakkul, Maarek, Eross, Just: "Probing the Mystery of Cryptocurrency Theft",
//!   2019).
//! - [`Method::Tiho`], taint in, highest out: tainted funds leave with the largest of the later transfers (the same authors: "Context
//!   matters: Methods for Bitcoin tracking", 2022, where outputs of one transaction compete; here the later transfers of a wallet do).
//!   Backward, with the largest of the earlier ones.
//!
//! # Conservation
//! Every method but poison conserves amounts to the last unit: what the origin sent is the sum of what the [`Trace::ends`] hold. Rounding
//! leaves the odd unit in the wallet.
//!
//! # What is not in the data
//! A wallet may send more than it is known to have: mining rewards, internal transfers, a history that was cut. The difference is taken to
//! arrive, untainted, at the moment when it is needed. Fees are not transfers, and are not looked at. Failed transactions moved nothing.

mod account;
mod backward;
mod division;
mod forward;
mod moment;
mod pool;
mod ratio;
mod sweep;

use crate::graph::types::{Position, Status, U256};
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::AssetSelection;
use crate::graph::view::graph::Graph;
use crate::graph::{MemoryBudget, SearchError};

pub use sweep::trace;

/// Which of a wallet's funds leave with a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// All of it is tainted.
    Poison,
    /// The tainted share of the balance.
    Haircut,
    /// The oldest.
    Fifo,
    /// The newest.
    Lifo,
    /// The tainted, if the transfer is among the largest.
    Tiho,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 5] = [Self::Poison, Self::Haircut, Self::Fifo, Self::Lifo, Self::Tiho];

    /// Its name in SQL.
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

/// Which way through time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// Where funds went.
    Forward,
    /// Where funds came from.
    Backward,
}

impl Flow {
    /// The side of a wallet with which its funds go on.
    pub(super) const fn side(self) -> Side {
        match self {
            Self::Forward => Side::Out,
            Self::Backward => Side::In,
        }
    }
}

/// A transfer, with the wallet that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Sender.
    pub from: WalletId,
    /// The transfer as its sender sees it.
    pub transfer: crate::graph::Transfer,
}

/// Where a trace begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// All that a wallet sent, or received, within the window.
    Wallet(WalletId),
    /// These transfers.
    Transfers(Vec<Sent>),
}

/// What is traced, and how far.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Which way.
    pub flow: Flow,
    /// How amounts are divided.
    pub method: Method,
    /// Of these assets; each is traced apart.
    pub assets: AssetSelection,
    /// Not before this time. Balances know what was before.
    pub since: Option<i64>,
    /// Before this time.
    pub until: Option<i64>,
    /// Transfers from the origin, from 1 up.
    pub max_hops: u32,
    /// Tainted amounts below this are not followed on.
    pub min_value: Option<U256>,
    /// Wallets with more counterparties on the side that is followed are not followed.
    pub max_fan_out: Option<u64>,
    /// Wallets that are followed.
    pub max_wallets: Option<u64>,
    /// For everything that is kept.
    pub memory: MemoryBudget,
}

/// Why an amount was not followed further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// It reached a wallet at which tracing stops.
    Stop,
    /// It is where it began.
    Origin,
    /// It made a contract, whose address the transfer does not tell.
    Contract,
    /// Forward: it has not left the wallet. Backward: nothing that the wallet received before explains it.
    Held,
    /// Backward: it came before the window.
    Window,
    /// As many hops as allowed.
    Hops,
    /// Less than is followed.
    Value,
    /// The wallet has more counterparties than are followed.
    FanOut,
    /// As many wallets as allowed.
    Wallets,
    /// The time allowed was used up.
    Time,
    /// The wallet's history does not fit into the memory allowed.
    Memory,
}

impl End {
    /// Its name in results.
    #[must_use]
    pub const fn name(self, flow: Flow) -> &'static str {
        match (self, flow) {
            (Self::Stop, _) => "service",
            (Self::Origin, _) => "origin",
            (Self::Contract, _) => "contract creation",
            (Self::Held, Flow::Forward) => "unspent",
            (Self::Held, Flow::Backward) => "source unknown",
            (Self::Window, _) => "before since",
            (Self::Hops, _) => "max_hops reached",
            (Self::Value, _) => "below min_value",
            (Self::FanOut, _) => "max_fan_out exceeded",
            (Self::Wallets, _) => "max_nodes reached",
            (Self::Time, _) => "max_time reached",
            (Self::Memory, _) => "graph_work_mem used up",
        }
    }

    /// Whether more would have been found with more time, wallets or memory.
    #[must_use]
    pub const fn is_cut(self) -> bool {
        matches!(self, Self::Wallets | Self::Time | Self::Memory)
    }
}

/// A transfer that carried tainted funds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Transfers from the origin to this one, itself included: the fewest by which taint had come this far.
    pub hop: u32,
    /// Sender.
    pub from: WalletId,
    /// Receiver; `None` for the creation of a contract.
    pub to: Option<WalletId>,
    /// The asset.
    pub asset: u32,
    /// When.
    pub time: i64,
    /// Order among transfers of the same time.
    pub position: Position,
    /// Whether it took effect yet.
    pub status: Status,
    /// All of it, in units of the asset.
    pub amount: U256,
    /// As much as is tainted.
    pub tainted: U256,
    /// Why it was not followed on; [`End::Held`] if none of it moved on.
    pub end: Option<End>,
    /// The transfer's number.
    pub number: u64,
}

/// Where an amount ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The wallet; `None` for new contracts.
    pub wallet: Option<WalletId>,
    /// The asset.
    pub asset: u32,
    /// Why.
    pub end: End,
    /// How much.
    pub amount: U256,
    /// The fewest transfers from the origin.
    pub hop: u32,
    /// Transfers that brought it there.
    pub transfers: u64,
    /// Time of the first of them.
    pub first: i64,
    /// Time of the last.
    pub last: i64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// In the order of time; backward, the latest first.
    pub steps: Vec<Step>,
    /// By asset, then amount, the largest first, then address and reason.
    pub ends: Vec<Ended>,
    /// What the origin sent or received, by asset.
    pub origin: Vec<(u32, U256)>,
    /// What cut the trace short, if anything did.
    pub cut: Option<End>,
}

/// Where tracing stops: asked about wallets, the first time with all that will be asked about soon.
pub trait Stops {
    /// What a look-up may report.
    type Error: From<SearchError>;

    /// These will be asked about.
    ///
    /// # Errors
    /// When it cannot be found out.
    fn prepare(&mut self, graph: &Graph<'_>, wallets: &[WalletId]) -> Result<(), Self::Error>;

    /// Whether tracing stops at a wallet.
    fn stops_at(&self, wallet: WalletId) -> bool;
}

/// Tracing goes on everywhere.
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
