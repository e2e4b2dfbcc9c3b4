//! The rules that make a wallet a whale, a trader or a distributor: the table
//! `arx.behaviour_thresholds`. Owns reading it; the meaning of a class belongs to
//! [`arx_core::behaviour`].

use std::collections::BTreeMap;

use arx_core::behaviour::Thresholds;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Row};

use crate::error::{Doing, SidecarError};

/// Name of the row for networks without a row.
const DEFAULT_NETWORK: &str = "*";

/// The rules of a network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rules {
    /// Length of the period in days, up to the network's latest day; `None` for all time.
    pub(crate) period_days: Option<i32>,
    pub(crate) thresholds: Thresholds,
}

/// The rules of every network.
#[derive(Debug, Clone)]
pub(crate) struct RuleBook {
    default_rules: Rules,
    by_network: BTreeMap<String, Rules>,
}

impl RuleBook {
    /// Reads the rules. A user's row overrides one that ARX ships.
    ///
    /// # Errors
    /// [`SidecarError::Postgres`]; [`SidecarError::Configuration`] without a row for all other
    /// networks.
    pub(crate) async fn read(client: &Client) -> Result<Self, SidecarError> {
        let rows = client
            .query(
                "SELECT DISTINCT ON (network) network, period_days, whale_mean_coins, whale_mean_usd, \
                        trader_transactions, trader_mean_gas_price, distributor_recipients \
                   FROM arx.behaviour_thresholds ORDER BY network, builtin",
                &[],
            )
            .await
            .doing("read arx.behaviour_thresholds")?;
        let mut by_network: BTreeMap<String, Rules> = rows.iter().map(|row| (row.get(0), rules(row))).collect();
        let default_rules = by_network.remove(DEFAULT_NETWORK).ok_or_else(|| SidecarError::Configuration {
            detail: format!("arx.behaviour_thresholds has no row for the network \"{DEFAULT_NETWORK}\""),
        })?;
        Ok(Self { default_rules, by_network })
    }

    pub(crate) fn for_network(&self, network: &str) -> Rules {
        self.by_network.get(network).copied().unwrap_or(self.default_rules)
    }

    /// Returns the rules of networks without a row.
    pub(crate) const fn default_rules(&self) -> Rules {
        self.default_rules
    }
}

fn rules(row: &Row) -> Rules {
    // The table's checks reject negative values.
    let unsigned = |index| u64::try_from(row.get::<_, i64>(index)).unwrap_or_default();
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
