//! Exposure of wallets to labels: the share of received funds that came from labelled wallets, and
//! of sent funds that went to them.
//!
//! Funds are followed by haircut (see [`trace`](super::trace)), in the order of time: a leaving
//! transfer has the same composition as the wallet's balance. Received funds have the composition
//! of the senders' balances when they sent; sent funds have the composition of the receivers'
//! balances afterwards. Tracing stops at every labelled wallet, and where funds return to the
//! wallet itself.
//!
//! A wallet's exposure to a label at `h` hops is the amount that moved over paths of `h` transfers
//! through wallets without a label. Funds of unknown source or destination are the rest.
//!
//! [`explain`] computes the exposure of one wallet as the trace of its transfers: exactly, with
//! paths and with everything that was not followed. [`exposures`] follows the funds of many wallets
//! in one pass, by the same rules; its shares are ratios in double precision, direct transfers are
//! exact. A test compares the two.

mod explained;
mod flow;
mod region;
mod shares;
mod statement;

use ethnum::AsU256;

use crate::graph::query::trace::{Flow, Shortfall};
use crate::graph::types::U256;
use crate::graph::types::WalletId;
use crate::graph::view::filter::AssetSelection;
use crate::graph::view::graph::Graph;
use crate::graph::{Halt, MemoryBudget, SearchError};

pub use explained::{ExplainedExposure, ExplainedPart, explain};
pub use flow::exposures;
pub use statement::{Heading, PartyLabel, Statement, StatementLine};

/// Scope and limits of an exposure search.
#[derive(Debug, Clone, Copy)]
pub struct ExposureTerms {
    /// Backward: received funds. Forward: sent funds.
    pub flow: Flow,
    /// A single asset.
    pub assets: AssetSelection,
    /// Start of the window of the wallet's own transfers, inclusive.
    pub since: Option<i64>,
    /// End of the window of all transfers, exclusive.
    pub until: Option<i64>,
    /// Maximum number of transfers between a wallet and a label, up to [`MAX_HOPS`]; 0 for totals
    /// and direct parts alone.
    pub max_hops: u32,
    /// Wallets with more counterparties on the followed side are not passed through.
    pub max_fan_out: Option<u64>,
    /// Memory for the search and its result.
    pub memory: MemoryBudget,
}

/// Look-up of labelled wallets. Wallets are announced in batches before they are looked up.
pub trait Marks {
    /// Error of a look-up.
    type Error: From<SearchError>;

    /// Announces wallets that will be looked up.
    ///
    /// # Errors
    /// When the look-up fails.
    fn prepare(&mut self, graph: &Graph<'_>, wallets: &[WalletId]) -> Result<(), Self::Error>;

    /// Returns a number for the label of a wallet, below 2^24; `None` if the wallet has none and
    /// funds are followed through it.
    fn mark(&self, wallet: WalletId) -> Option<u32>;
}

/// Component of funds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// All wallets with a label.
    Mark(u32),
    /// Funds that the wallet had itself sent or received before, through others.
    Own,
    /// A wallet with too many counterparties, which is not passed through.
    FanOut,
    /// Funds that may come from beyond the maximum number of hops: everything else, if a path of
    /// that many transfers goes on at all.
    Hops,
}

/// A part of the funds that a wallet received or sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposure {
    /// Source or destination.
    pub part: Part,
    /// Number of transfers between; zero where it has no meaning.
    pub hops: u32,
    /// Amount, in units of the asset.
    pub value: f64,
}

/// Significant digits of a ratio in double precision.
const DIGITS: i32 = 15;

/// Rounds an amount to whole units and to significant digits; an amount above zero is at least one.
#[must_use]
pub fn whole_units(amount: f64) -> U256 {
    if amount < 1.0 {
        return if amount > 0.0 { U256::ONE } else { U256::ZERO };
    }
    let insignificant = amount.log10().floor() as i32 + 1 - DIGITS;
    match u32::try_from(insignificant) {
        Ok(insignificant) => {
            let (digits, scale) = (amount / 10_f64.powi(insignificant.cast_signed()), U256::new(10).pow(insignificant));
            digits.round().as_u256().saturating_mul(scale)
        }
        Err(_) => amount.round().as_u256(),
    }
}

/// Exact sum of direct transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Direct {
    /// Sum of their values.
    pub value: U256,
    /// Number of transfers.
    pub transfers: u64,
}

/// The exposure of one wallet.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposed {
    /// The wallet.
    pub wallet: WalletId,
    /// All transfers that it received or sent within the window, except to itself.
    pub total: Direct,
    /// Transfers with labelled wallets, by [`Part`].
    pub direct: Vec<(Part, Direct)>,
    /// Parts by source or destination and hops.
    pub parts: Vec<Exposure>,
    /// A wallet that funds of a label may have passed through sent more than it is known to have
    /// received.
    pub passes_shortfall: bool,
    /// The shortfall of the wallet itself within the window; `None` if the search did not come to
    /// it, because no label leads to the wallet or it was cut short.
    pub own_shortfall: Option<Option<Shortfall>>,
}

impl Exposed {
    const fn unexamined(wallet: WalletId) -> Self {
        let total = Direct { value: U256::ZERO, transfers: 0 };
        Self { wallet, total, direct: Vec::new(), parts: Vec::new(), passes_shortfall: false, own_shortfall: None }
    }
}

/// Result of an exposure search.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposures {
    /// Exposure of each requested wallet, in their order. A search that was cut short has totals
    /// and direct parts alone.
    pub found: Vec<Exposed>,
    /// Limit that cut the search short, if any.
    pub halted: Option<Halt>,
}

/// Maximum number of hops; shares become insignificant long before.
pub const MAX_HOPS: u32 = 16;

/// A hop must fit into the bits of a key.
const _: () = assert!(MAX_HOPS < 1 << shares::HOP_BITS);

#[cfg(test)]
mod tests;
