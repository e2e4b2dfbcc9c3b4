//! What makes wallets one cluster: methods and their parameters.

use serde_json::Value;

use crate::graph::query::options::{Options, OptionsError};
use crate::graph::view::filter::EdgeFilter;

const HOUR: u64 = 3_600_000_000;

/// Millionths.
pub(super) const ONE: u64 = 1_000_000;

/// How wallets are put together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Components of the transfer graph, whatever the direction: facts.
    Weak,
    /// Wallets that reach each other along transfers: facts.
    Strong,
    /// Senders to one deposit address.
    Deposit(DepositOptions),
    /// Wallets funded first by one wallet at about one time.
    Funding(FundingOptions),
}

/// When a wallet is a deposit address, and what that proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepositOptions {
    /// `forward_share`, in millionths: of what it received, at least this goes on to the service. Default 0.9: what is missing is
    /// fees.
    pub forward_share: u64,
    /// `max_delay_hours`, in microseconds: within this time. Default 72 hours: services sweep in batches.
    pub max_delay: i64,
    /// `max_senders`: with more it is a shop's, not a customer's. Default 20.
    pub max_senders: usize,
    /// `max_deposits`: a sender to more deposit addresses pays others' customers, as mining pools do. Default 5.
    pub max_deposits: usize,
    /// `max_peers`: a sender with more is a hub, and proves nothing. Default 200.
    pub max_peers: usize,
}

/// When first funds prove something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FundingOptions {
    /// `window_hours`, in microseconds: between the first funds of one wallet and the next. Default 24 hours.
    pub window: i64,
    /// `min_wallets`: funded in such a row. Default 3: two may be chance.
    pub min_wallets: usize,
    /// `max_wallets`: a wallet that funded more first, at any time, is a service without a label. Default 200.
    pub max_wallets: usize,
    /// `max_peers`: a wallet with more is a hub. It proves nothing and joins nothing. Default 1,000.
    pub max_peers: usize,
}

impl Method {
    /// By name, with its options.
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

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Weak => "weak",
            Self::Strong => "strong",
            Self::Deposit(_) => "deposit",
            Self::Funding(_) => "funding",
        }
    }

    /// Whether wallets are put together by evidence, which can be explained, refused and undone.
    #[must_use]
    pub const fn has_merges(&self) -> bool {
        matches!(self, Self::Deposit(_) | Self::Funding(_))
    }

    /// Whether it makes sense with these transfers.
    ///
    /// # Errors
    /// [`OptionsError::SeveralAssets`].
    pub const fn check(&self, filter: &EdgeFilter) -> Result<(), OptionsError> {
        match self {
            Self::Deposit(_) if !filter.assets.is_single() => Err(OptionsError::SeveralAssets { method: self.name() }),
            _ => Ok(()),
        }
    }

    /// Whether its merges can be explained.
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

/// In microseconds; far from the end of the range.
const fn hours(hours: u64) -> i64 {
    (hours * HOUR).cast_signed()
}
