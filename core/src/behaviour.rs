//! Classes of wallets by their behaviour over a period: whale, trader, distributor or regular.
//!
//! Owns the classes, their order and their thresholds. Classes do not depend on risk: a whale may
//! be an exchange or a thief.

use serde::{Deserialize, Serialize};

use crate::amount::SCALE;

/// Class of a wallet by its behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WalletType {
    /// Sends large amounts on average.
    Whale,
    /// Sends often, at a high gas price.
    Trader,
    /// Sends to many receivers.
    Distributor,
    /// Meets no other threshold.
    Regular,
}

impl WalletType {
    /// Every class, in the order in which they are tried.
    pub const ALL: [Self; 4] = [Self::Whale, Self::Trader, Self::Distributor, Self::Regular];

    /// Returns the class as it is stored and displayed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whale => "whale",
            Self::Trader => "trader",
            Self::Distributor => "distributor",
            Self::Regular => "regular",
        }
    }
}

/// Transactions that a wallet sent over a period.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Activity {
    /// Number of transactions.
    pub transactions: u64,
    /// Sum of their values, in units of 10⁻¹⁸ coin, if it is known.
    pub volume: Option<i128>,
    /// Sum of the known values in USD, in cents, and the number of transactions that have one.
    pub priced: Option<(i128, u64)>,
    /// Mean gas price, in the smallest unit of the coin (wei), if it is known.
    pub mean_gas_price: Option<f64>,
    /// Number of distinct receivers.
    pub recipients: u64,
}

/// Lower bounds of the classes, exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Mean value of a whale's transactions, in whole coins; applies if no value in USD is known.
    pub whale_mean_coins: u64,
    /// Mean value of a whale's transactions, in whole dollars; applies if any value in USD is
    /// known.
    pub whale_mean_usd: u64,
    /// Number of transactions of a trader.
    pub trader_transactions: u64,
    /// Mean gas price of a trader, in wei.
    pub trader_mean_gas_price: f64,
    /// Number of receivers of a distributor.
    pub distributor_recipients: u64,
}

impl Default for Thresholds {
    /// Returns 10,000 coins or a million dollars; 100 transactions at 50 gwei; 50 receivers.
    fn default() -> Self {
        Self {
            whale_mean_coins: 10_000,
            whale_mean_usd: 1_000_000,
            trader_transactions: 100,
            trader_mean_gas_price: 50e9,
            distributor_recipients: 50,
        }
    }
}

impl Thresholds {
    /// Returns the first class whose thresholds are exceeded. Unknown values exceed none; a wallet
    /// without transactions is regular.
    #[must_use]
    pub fn classify(&self, activity: &Activity) -> WalletType {
        if activity.transactions == 0 {
            WalletType::Regular
        } else if self.is_whale(activity) {
            WalletType::Whale
        } else if activity.transactions > self.trader_transactions
            && activity.mean_gas_price.is_some_and(|price| price > self.trader_mean_gas_price)
        {
            WalletType::Trader
        } else if activity.recipients > self.distributor_recipients {
            WalletType::Distributor
        } else {
            WalletType::Regular
        }
    }

    /// Dollars decide where they are known, because they are comparable across networks and years.
    fn is_whale(&self, activity: &Activity) -> bool {
        match activity.priced {
            Some((cents, priced)) if priced > 0 => exceeds_mean(cents, priced, 100, self.whale_mean_usd),
            Some(_) | None => activity
                .volume
                .is_some_and(|volume| exceeds_mean(volume, activity.transactions, SCALE, self.whale_mean_coins)),
        }
    }
}

/// Compares a mean with a bound exactly, without a division. A bound beyond `i128` exceeds any sum.
fn exceeds_mean(sum: i128, count: u64, scale: i128, bound: u64) -> bool {
    let bound = scale.checked_mul(i128::from(bound)).and_then(|units| units.checked_mul(i128::from(count)));
    bound.is_some_and(|bound| sum > bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(transactions: u64, volume: Option<i128>, mean_gas_price: Option<f64>, recipients: u64) -> WalletType {
        Thresholds::default().classify(&Activity { transactions, volume, priced: None, mean_gas_price, recipients })
    }

    #[test]
    fn dollars_decide_where_they_are_known() {
        let classify = |volume: i128, priced| {
            Thresholds::default().classify(&Activity {
                transactions: 4,
                volume: Some(volume),
                priced,
                ..Activity::default()
            })
        };
        assert_eq!(
            classify(SCALE, Some((200_000_001, 2))),
            WalletType::Whale,
            "a cent above two millions in two transactions"
        );
        assert_eq!(classify(SCALE, Some((200_000_000, 2))), WalletType::Regular);
        assert_eq!(classify(SCALE * 40_001, Some((100, 1))), WalletType::Regular, "many coins that are worth a dollar");
        assert_eq!(classify(SCALE * 40_001, Some((0, 0))), WalletType::Whale, "nothing is priced");
    }

    #[test]
    fn classes_begin_above_their_thresholds_and_the_first_that_fits_wins() {
        use WalletType::{Distributor, Regular, Trader, Whale};
        let coins = |coins: i128| Some(coins * SCALE);
        assert_eq!(classify(3, coins(30_000), None, 0), Regular, "a mean of exactly 10,000");
        assert_eq!(classify(3, coins(30_000).map(|units| units + 1), None, 0), Whale, "one unit more");
        assert_eq!(classify(101, coins(2_000_000), Some(60e9), 90), Whale);
        assert_eq!(classify(101, coins(1), Some(60e9), 90), Trader);
        assert_eq!(classify(100, coins(1), Some(60e9), 90), Distributor);
        assert_eq!(classify(101, coins(1), Some(50e9), 50), Regular);
    }

    #[test]
    fn unknown_values_exceed_no_threshold() {
        assert_eq!(classify(1_000, None, None, 0), WalletType::Regular);
        assert_eq!(classify(1_000, None, Some(f64::NAN), 51), WalletType::Distributor);
        assert_eq!(classify(0, Some(i128::MAX), Some(1e12), 99), WalletType::Regular);
        assert_eq!(classify(u64::MAX, Some(i128::MAX), None, 0), WalletType::Regular);
    }

    #[test]
    fn thresholds_are_read_from_json_with_defaults() {
        let thresholds: Thresholds = serde_json::from_str(r#"{"whale_mean_coins": 5}"#).unwrap();
        assert_eq!(thresholds, Thresholds { whale_mean_coins: 5, ..Thresholds::default() });
        assert!(serde_json::from_str::<Thresholds>(r#"{"whales": 5}"#).is_err());
    }
}
