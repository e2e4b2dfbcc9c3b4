//! By which rules wallets are whales, traders and distributors: the table `arx.behaviour_thresholds`. Owns reading it; what a class means
//! is [`arx_core::behaviour`]'s.

use std::collections::BTreeMap;

use arx_core::behaviour::Thresholds;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Row};

use crate::error::SidecarError;

/// The name under which the rules of all networks stand that have none of their own.
const ANY: &str = "*";

/// Rules of a network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Days up to the network's latest one; all time without.
    pub period_days: Option<i32>,
    /// Where the classes begin.
    pub thresholds: Thresholds,
}

/// The rules of every network.
#[derive(Debug, Clone)]
pub struct RuleBook {
    any: Rules,
    own: BTreeMap<String, Rules>,
}

impl RuleBook {
    /// Reads them. A user's own go before those that ARX ships.
    ///
    /// # Errors
    /// [`SidecarError::Postgres`]; [`SidecarError::Configuration`] without rules for the networks that have none of their own.
    pub async fn read(client: &Client) -> Result<Self, SidecarError> {
        let rows = client
            .query(
                "SELECT DISTINCT ON (network) network, period_days, whale_mean_coins, whale_mean_usd, trader_transactions, \
                        trader_mean_gas_price, distributor_recipients \
                   FROM arx.behaviour_thresholds ORDER BY network, builtin",
                &[],
            )
            .await
            .map_err(|source| SidecarError::Postgres { doing: "read arx.behaviour_thresholds", source })?;
        let mut own: BTreeMap<String, Rules> = rows.iter().map(|row| (row.get(0), rules(row))).collect();
        let any = own.remove(ANY).ok_or_else(|| SidecarError::Configuration {
            detail: format!("arx.behaviour_thresholds has no row for the network \"{ANY}\""),
        })?;
        Ok(Self { any, own })
    }

    /// Those of a network.
    #[must_use]
    pub fn of(&self, network: &str) -> Rules {
        self.own.get(network).copied().unwrap_or(self.any)
    }

    /// Those of the networks that have none of their own.
    #[must_use]
    pub const fn any(&self) -> Rules {
        self.any
    }
}

fn rules(row: &Row) -> Rules {
    // the table's checks refuse what is below zero
    let unsigned = |place| u64::try_from(row.get::<_, i64>(place)).unwrap_or_default();
    Rules {
        period_days: row.get(1),
        thresholds: Thresholds {
            whale_mean_coins: unsigned(2),
            whale_mean_usd: unsigned(3),
            trader_transactions: unsigned(4),
            trader_mean_gas_price: row.get(5),
            distributor_recipients: unsigned(6),
        },
    }
}
