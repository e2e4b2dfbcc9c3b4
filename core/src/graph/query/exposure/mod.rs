//! How much of what wallets received came from labelled wallets, and how much of what they sent went there.
//!
//! Funds are followed by haircut (see [`trace`](super::trace)), in the order of time: what leaves a wallet is made up as its balance is.
//! They are followed for many wallets in one pass, so shares are ratios in double precision; what was dealt with directly is exact. What a
//! wallet received is made up of what its senders held when they sent; what it sent is made up of what became of the receivers' balances
//! afterwards. Tracing stops at every labelled wallet.
//!
//! A wallet's exposure to a label at `h` hops is what came or went over paths of `h` transfers through wallets without a label. Funds that
//! cannot be told from where or to where are left over: the sum of all shares is one.

mod flow;
mod region;
mod shares;
mod statement;

use ethnum::AsU256;

use crate::graph::query::trace::Flow;
use crate::graph::types::U256;
use crate::graph::types::WalletId;
use crate::graph::view::filter::AssetSelection;
use crate::graph::view::graph::Graph;
use crate::graph::{Halt, MemoryBudget, SearchError};

pub use flow::exposures;
pub use statement::{Heading, Line, PartyLabel, Statement};

/// Which transfers count, and how far they are followed.
#[derive(Debug, Clone, Copy)]
pub struct ExposureTerms {
    /// Backward: what was received. Forward: what was sent.
    pub flow: Flow,
    /// One asset.
    pub assets: AssetSelection,
    /// Of the wallet's own transfers, those not before this time.
    pub since: Option<i64>,
    /// All transfers before this time.
    pub until: Option<i64>,
    /// Transfers between a wallet and a label, up to 16; 0 for totals and direct parts alone.
    pub max_hops: u32,
    /// Wallets with more counterparties on the side that is followed are not passed through.
    pub max_fan_out: Option<u64>,
    /// Whether labelled wallets and paths are told one by one; else labels alone.
    pub explained: bool,
    /// For everything that is kept.
    pub memory: MemoryBudget,
}

/// Which wallets are labelled.
pub trait Marks {
    /// What a look-up may report.
    type Error: From<SearchError>;

    /// These will be asked about.
    ///
    /// # Errors
    /// When it cannot be found out.
    fn prepare(&mut self, graph: &Graph<'_>, wallets: &[WalletId]) -> Result<(), Self::Error>;

    /// A number for the label of a wallet, below 2^24; `None` where funds are followed on.
    fn mark(&self, wallet: WalletId) -> Option<u32>;
}

/// What funds are made up of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A labelled wallet, where parts are explained.
    Wallet(WalletId),
    /// Any wallet with this label, where they are not.
    Mark(u32),
    /// What a labelled wallet sent or received itself before, by way of others.
    Own,
    /// Sent: it made contracts, whose addresses the transfers do not tell.
    Contract,
    /// A wallet with too many counterparties, which nobody looks through.
    FanOut,
    /// More hops away than asked for.
    Hops,
    /// Received: of unknown source. Sent: not moved on.
    Rest,
}

/// A part of what a wallet received or sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposure {
    /// From whom, or to whom.
    pub part: Part,
    /// Transfers between; zero where that says nothing.
    pub hops: u32,
    /// How much, in units of the asset.
    pub value: f64,
    /// The path that carried most at each of its steps, in the order of time, by the numbers of its transfers; empty where not explained.
    pub path: Vec<u64>,
}

/// Digits that a ratio in double precision tells.
const DIGITS: i32 = 15;

/// An amount in whole units, as far as its digits tell something; what is there at all is at least one.
#[must_use]
pub fn whole_units(amount: f64) -> U256 {
    if amount < 1.0 {
        return if amount > 0.0 { U256::ONE } else { U256::ZERO };
    }
    let beyond = amount.log10().floor() as i32 + 1 - DIGITS;
    match u32::try_from(beyond) {
        Ok(beyond) => {
            let (digits, scale) = (amount / 10_f64.powi(beyond.cast_signed()), U256::new(10).pow(beyond));
            digits.round().as_u256().saturating_mul(scale)
        }
        Err(_) => amount.round().as_u256(),
    }
}

/// What one wallet dealt with directly, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Direct {
    /// Their sum.
    pub value: U256,
    /// Transfers.
    pub transfers: u64,
}

/// The exposure of one wallet.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposed {
    /// Which one.
    pub wallet: WalletId,
    /// All that it received or sent within the window, but to itself.
    pub total: Direct,
    /// With labelled wallets alone, one hop away, by [`Part`].
    pub direct: Vec<(Part, Direct)>,
    /// By part and hops.
    pub parts: Vec<Exposure>,
}

impl Exposed {
    /// A wallet that nobody came to look at.
    const fn unseen(wallet: WalletId) -> Self {
        Self { wallet, total: Direct { value: U256::ZERO, transfers: 0 }, direct: Vec::new(), parts: Vec::new() }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposures {
    /// One for each wallet asked about, in their order. Of a search that was cut short totals and direct parts alone.
    pub found: Vec<Exposed>,
    /// Why it was.
    pub halted: Option<Halt>,
}

/// The most hops: shares are beyond notice long before.
pub const MOST_HOPS: u32 = 16;

/// Checked so that a hop fits beside a part.
const _: () = assert!(MOST_HOPS < 1 << shares::HOP_BITS);

#[cfg(test)]
mod tests;
