//! Methods of clustering and their parameters.

use serde_json::Value;

use crate::graph::query::options::{Options, OptionsError};
use crate::graph::view::filter::EdgeFilter;

const HOUR: u64 = 3_600_000_000;

/// The whole, in millionths.
pub(super) const ONE: u64 = 1_000_000;

/// Method that groups wallets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClusterMethod {
    /// Weakly connected components of the transfer graph: facts.
    Weak,
    /// Strongly connected components of the transfer graph: facts.
    Strong,
    /// Senders to the same deposit address.
    Deposit(DepositOptions),
    /// Wallets first funded by the same wallet at about the same time.
    Funding(FundingOptions),
}

/// Criteria of deposit addresses and their senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepositOptions {
    /// `forward_share`, in millionths: minimum share of received funds that is forwarded to the
    /// service. Default 0.9: the rest is fees.
    pub forward_share: u64,
    /// `max_delay_hours`, in microseconds: maximum time until funds are forwarded. Default 72
    /// hours: services sweep in batches.
    pub max_delay: i64,
    /// `max_senders`: an address with more senders belongs to a shop, not to a customer. Default
    /// 20.
    pub max_senders: usize,
    /// `max_deposits`: a sender to more deposit addresses pays many customers, like a mining pool.
    /// Default 5.
    pub max_deposits: usize,
    /// `max_peers`: a sender with more peers is a hub and no evidence. Default 200.
    pub max_peers: usize,
}

/// Criteria of rows of first funds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FundingOptions {
    /// `window_hours`, in microseconds: maximum time from the first funds of one wallet to those of
    /// the next. Default 24 hours.
    pub window: i64,
    /// `min_wallets`: minimum number of wallets in a row. Default 3: two may be a coincidence.
    pub min_wallets: usize,
    /// `max_wallets`: a wallet that was the first funder of more wallets, at any time, is an
    /// unlabelled service. Default 200.
    pub max_wallets: usize,
    /// `max_peers`: a wallet with more peers is a hub, which is no evidence and joins nothing.
    /// Default 1,000.
    pub max_peers: usize,
}

impl ClusterMethod {
    /// Parses a method by name, with its options.
    ///
    /// # Errors
    /// An unknown name or key, or a value out of range.
    pub fn parse(name: &str, options: &Value) -> Result<Self, OptionsError> {
        match name.to_ascii_lowercase().as_str() {
            "weak" => Options::new("weak", options, &[]).map(|_| Self::Weak),
            "strong" => Options::new("strong", options, &[]).map(|_| Self::Strong),
            "deposit" => DepositOptions::parse(options).map(Self::Deposit),
            "funding" => FundingOptions::parse(options).map(Self::Funding),
            _ => Err(OptionsError::Choice {
                what: "method",
                name: name.to_owned(),
                valid: "weak, strong, deposit or funding",
            }),
        }
    }

    /// Returns its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Weak => "weak",
            Self::Strong => "strong",
            Self::Deposit(_) => "deposit",
            Self::Funding(_) => "funding",
        }
    }

    /// Reports whether wallets are merged by evidence, which can be explained and refused.
    #[must_use]
    pub const fn has_merges(&self) -> bool {
        matches!(self, Self::Deposit(_) | Self::Funding(_))
    }

    /// Checks that the method applies to the transfers of a filter.
    ///
    /// # Errors
    /// [`OptionsError::SeveralAssets`].
    pub const fn check(&self, filter: &EdgeFilter) -> Result<(), OptionsError> {
        match self {
            Self::Deposit(_) if !filter.assets.is_single() => Err(OptionsError::SeveralAssets { method: self.name() }),
            _ => Ok(()),
        }
    }

    /// Checks that the method has merges to explain.
    ///
    /// # Errors
    /// [`OptionsError::NoMerges`].
    pub const fn check_merges(&self) -> Result<(), OptionsError> {
        if self.has_merges() { Ok(()) } else { Err(OptionsError::NoMerges { method: self.name() }) }
    }
}

impl DepositOptions {
    fn parse(options: &Value) -> Result<Self, OptionsError> {
        let keys = &["forward_share", "max_delay_hours", "max_senders", "max_deposits", "max_peers"];
        let options = Options::new("deposit", options, keys)?;
        let share = options.number("forward_share", 0.9, 0.5, 1.0)?;
        Ok(Self {
            forward_share: (share * ONE as f64).round() as u64,
            max_delay: hours(options.whole("max_delay_hours", 72, 1, 24 * 365)?),
            max_senders: options.whole("max_senders", 20, 1, 1_000)? as usize,
            max_deposits: options.whole("max_deposits", 5, 1, 1_000_000)? as usize,
            max_peers: options.whole("max_peers", 200, 1, 1_000_000)? as usize,
        })
    }
}

impl FundingOptions {
    fn parse(options: &Value) -> Result<Self, OptionsError> {
        let keys = &["window_hours", "min_wallets", "max_wallets", "max_peers"];
        let options = Options::new("funding", options, keys)?;
        Ok(Self {
            window: hours(options.whole("window_hours", 24, 1, 24 * 365)?),
            min_wallets: options.whole("min_wallets", 3, 2, 1_000_000)? as usize,
            max_wallets: options.whole("max_wallets", 200, 2, 1_000_000)? as usize,
            max_peers: options.whole("max_peers", 1_000, 1, 1_000_000)? as usize,
        })
    }
}

/// Converts hours to microseconds; the limits of options rule out an overflow.
const fn hours(hours: u64) -> i64 {
    (hours * HOUR).cast_signed()
}
