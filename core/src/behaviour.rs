//! What kind of user a wallet is by how it behaves over a period: whale, trader, distributor or regular.
//!
//! Owns the classes, their order and their thresholds. It knows no risk: a whale may be an exchange or a thief.

use serde::{Deserialize, Serialize};

use crate::amount::SCALE;

/// How a wallet behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WalletType {
    /// Sends much at a time.
    Whale,
    /// Sends often, and pays to be fast.
    Trader,
    /// Sends to many.
    Distributor,
    /// None of these.
    Regular,
}

impl WalletType {
    /// Every class, in the order in which they are tried.
    pub const ALL: [Self; 4] = [Self::Whale, Self::Trader, Self::Distributor, Self::Regular];

    /// The class as stored and shown.
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

/// What a wallet sent over a period.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Activity {
    /// Transactions.
    pub transactions: u64,
    /// Their sum, in units of 10⁻¹⁸ coin, if it is known.
    pub volume: Option<i128>,
    /// Sum of those whose value in USD is known, in cents, and how many these are.
    pub priced: Option<(i128, u64)>,
    /// Mean price of gas, in the smallest unit of the coin (wei), if it is known.
    pub mean_gas_price: Option<f64>,
    /// Distinct receivers.
    pub recipients: u64,
}

/// Where the classes begin: above these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// A whale sends on average more than so many whole coins, where no value in USD is known,
    pub whale_mean_coins: u64,
    /// and where one is, more than so many whole dollars.
    pub whale_mean_usd: u64,
    /// A trader sends more transactions than this,
    pub trader_transactions: u64,
    /// at a mean price of gas above this, in wei.
    pub trader_mean_gas_price: f64,
    /// A distributor sends to more receivers than this.
    pub distributor_recipients: u64,
}

impl Default for Thresholds {
    /// 10,000 coins or a million dollars; 100 transactions at 50 gwei; 50 receivers.
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
    /// The first class that fits. What is not known makes no class; neither do no transactions.
    #[must_use]
    pub fn classify(&self, of: &Activity) -> WalletType {
        if of.transactions == 0 {
            WalletType::Regular
        } else if self.is_whale(of) {
            WalletType::Whale
        } else if of.transactions > self.trader_transactions
            && of.mean_gas_price.is_some_and(|price| price > self.trader_mean_gas_price)
        {
            WalletType::Trader
        } else if of.recipients > self.distributor_recipients {
            WalletType::Distributor
        } else {
            WalletType::Regular
        }
    }

    /// Dollars compare what coins of different networks and years cannot: they decide where they are known.
    fn is_whale(&self, of: &Activity) -> bool {
        match of.priced {
            Some((cents, priced)) if priced > 0 => exceeds_mean(cents, priced, 100, self.whale_mean_usd),
            Some(_) | None => {
                of.volume.is_some_and(|volume| exceeds_mean(volume, of.transactions, SCALE, self.whale_mean_coins))
            }
        }
    }
}

/// The mean against a bound in whole numbers, without a division: exact. A bound beyond `i128` is beyond any sum.
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
        let of = |volume: i128, priced| {
            Thresholds::default().classify(&Activity {
                transactions: 4,
                volume: Some(volume),
                priced,
                ..Activity::default()
            })
        };
        assert_eq!(
            of(SCALE, Some((200_000_001, 2))),
            WalletType::Whale,
            "a cent above two millions in two transactions"
        );
        assert_eq!(of(SCALE, Some((200_000_000, 2))), WalletType::Regular);
        assert_eq!(of(SCALE * 40_001, Some((100, 1))), WalletType::Regular, "many coins that are worth a dollar");
        assert_eq!(of(SCALE * 40_001, Some((0, 0))), WalletType::Whale, "nothing is priced");
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
    fn what_is_not_known_makes_no_class() {
        assert_eq!(classify(1_000, None, None, 0), WalletType::Regular);
        assert_eq!(classify(1_000, None, Some(f64::NAN), 51), WalletType::Distributor);
        assert_eq!(classify(0, Some(i128::MAX), Some(1e12), 99), WalletType::Regular);
        assert_eq!(classify(u64::MAX, Some(i128::MAX), None, 0), WalletType::Regular);
    }

    #[test]
    fn thresholds_are_data() {
        let of: Thresholds = serde_json::from_str(r#"{"whale_mean_coins": 5}"#).unwrap();
        assert_eq!(of, Thresholds { whale_mean_coins: 5, ..Thresholds::default() });
        assert!(serde_json::from_str::<Thresholds>(r#"{"whales": 5}"#).is_err());
    }
}
