//! Histories that are known to be complete, by statement or by estimate.
//!
//! The loaded rows may be those of a network, of some wallets, or of one wallet and its
//! counterparties. A wallet that was met only through the one that is judged has a history that was
//! not loaded, so its contacts say nothing. This module determines which wallets these are. It
//! knows no feature.

use std::collections::HashMap;

use crate::graph::WalletId;

/// A period in microseconds: from a time on, up to but without another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    /// First time; [`i64::MIN`] for the beginning.
    pub from: i64,
    /// First time after the period; [`i64::MAX`] for no end.
    pub to: i64,
}

impl Period {
    /// The whole of a history.
    pub const ALWAYS: Self = Self { from: i64::MIN, to: i64::MAX };
}

/// Wallets and periods whose history was loaded completely. Without statements, everything is
/// estimated.
#[derive(Debug, Clone, Default)]
pub struct HistoryCoverage {
    is_complete: bool,
    network: Vec<Period>,
    wallets: HashMap<WalletId, Vec<Period>>,
}

impl HistoryCoverage {
    /// Everything is complete, whatever it looks like: for samples that scorecards are fitted to.
    #[must_use]
    pub fn complete() -> Self {
        Self { is_complete: true, ..Self::default() }
    }

    /// Adds a statement about a wallet, or about every wallet. An empty period says nothing.
    pub fn state(&mut self, wallet: Option<WalletId>, period: Period) {
        if period.from < period.to {
            let periods = wallet.map_or(&mut self.network, |wallet| self.wallets.entry(wallet).or_default());
            periods.push(period);
        }
    }

    /// Returns `true` when everything is complete.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Returns `true` when statements cover a wallet from one time to another, both included.
    /// O(n log n) for the n statements about it and its network.
    #[must_use]
    pub fn states(&self, wallet: WalletId, first: i64, last: i64) -> bool {
        if self.is_complete {
            return true;
        }
        let own = self.wallets.get(&wallet).map_or(&[][..], Vec::as_slice);
        if own.is_empty() && self.network.is_empty() {
            return false;
        }
        let mut periods: Vec<Period> = own.iter().chain(&self.network).copied().collect();
        periods.sort_unstable();
        let mut covered_to = first;
        for period in periods {
            if period.from > covered_to {
                break;
            }
            covered_to = covered_to.max(period.to);
        }
        covered_to > last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALLET: WalletId = WalletId::new(3);
    const OTHER: WalletId = WalletId::new(4);

    fn period(from: i64, to: i64) -> Period {
        Period { from, to }
    }

    #[test]
    fn statements_about_a_wallet_and_its_network_add_up() {
        let mut coverage = HistoryCoverage::default();
        assert!(!coverage.states(WALLET, 0, 0) && !coverage.is_complete());
        coverage.state(Some(WALLET), period(10, 20));
        coverage.state(None, period(20, 30));
        coverage.state(Some(WALLET), period(40, i64::MAX));
        for (first, last, wallet, other) in [
            (10, 19, true, false),
            (10, 29, true, false),
            (20, 29, true, true),
            (10, 30, false, false),
            (9, 15, false, false),
            (40, 1 << 50, true, false),
        ] {
            assert_eq!(coverage.states(WALLET, first, last), wallet, "{first} to {last}");
            assert_eq!(coverage.states(OTHER, first, last), other, "{first} to {last}");
        }
        coverage.state(None, Period::ALWAYS);
        assert!(coverage.states(OTHER, i64::MIN, i64::MAX - 1));
    }

    #[test]
    fn an_empty_period_says_nothing() {
        let mut coverage = HistoryCoverage::default();
        coverage.state(None, period(5, 5));
        coverage.state(Some(WALLET), period(9, 5));
        assert!(!coverage.states(WALLET, 5, 5) && !coverage.states(WALLET, 6, 6));
    }
}
