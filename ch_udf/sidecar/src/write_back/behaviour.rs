//! Behaviour of wallets, in `analytics_profile` of `arx.wallet_profiles`.

use std::collections::BTreeMap;

use arx_core::behaviour::Activity;
use clickhouse::Row;
use serde::Deserialize;
use serde_json::json;

use super::{BATCH, RuleBook, Rules, WriteBack, sql, store_version};
use crate::error::{Doing, SidecarError};
use crate::warehouse::Topology;

/// Consumer whose position is stored.
const CONSUMER: &str = "wallet_behaviour";

/// Bytes after which ClickHouse groups wallets on disk.
const GROUP_BY_MEMORY: &str = "536870912";

#[derive(Row, Deserialize)]
struct WalletRow {
    wallet: String,
    sent: u64,
    received: u64,
    sent_volume: String,
    received_volume: String,
    recipients: u64,
    senders: u64,
    first_seen: Option<i64>,
    last_seen: Option<i64>,
    period_sent: u64,
    period_volume: String,
    period_units: Option<i128>,
    period_cents: i128,
    period_priced: u64,
    period_recipients: u64,
    period_gas_price: Option<f64>,
}

/// Formats days since 1970 as a date.
fn date(days: i64) -> String {
    let epoch = chrono::NaiveDate::default();
    let day = chrono::TimeDelta::try_days(days).and_then(|days| epoch.checked_add_signed(days));
    day.unwrap_or(epoch).to_string()
}

fn timestamp(micros: Option<i64>) -> Option<String> {
    let time = chrono::DateTime::from_timestamp_micros(micros?)?;
    Some(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

impl WalletRow {
    /// Returns whether the wallet no longer has transactions.
    fn is_gone(&self) -> bool {
        self.sent == 0 && self.received == 0
    }

    fn profile(&self, rules: &Rules, until: i64) -> serde_json::Value {
        let class = rules.thresholds.classify(&Activity {
            transactions: self.period_sent,
            volume: self.period_units,
            priced: (self.period_priced > 0).then_some((self.period_cents, self.period_priced)),
            mean_gas_price: self.period_gas_price,
            recipients: self.period_recipients,
        });
        json!({
            "behaviour": {
                "class": class,
                "period_days": rules.period_days,
                "until": date(until),
                "transactions": self.period_sent,
                "volume": self.period_volume,
                "recipients": self.period_recipients,
            },
            "activity": {
                "sent": self.sent,
                "received": self.received,
                "total_sent": self.sent_volume,
                "total_received": self.received_volume,
                "recipients": self.recipients,
                "senders": self.senders,
                "first": timestamp(self.first_seen),
                "last": timestamp(self.last_seen),
            },
        })
    }
}

/// The period up to which a network was written back (days since 1970), and the rules that applied.
type WrittenPeriods = BTreeMap<String, (i64, serde_json::Value)>;

/// A network whose wallets are written back.
struct WrittenNetwork<'a> {
    name: &'a str,
    rules: &'a Rules,
    /// Last day of the period.
    until: i64,
    /// Last day of the period that was written back before; `None` writes all wallets.
    before: Option<i64>,
    /// Version up to which rows were written back.
    written: u64,
}

impl WrittenNetwork<'_> {
    fn query(&self) -> String {
        let start = |until: i64| self.rules.period_days.map(|days| until - i64::from(days) + 1);
        let period_start = start(self.until).unwrap_or(0);
        let restriction = self.before.map_or_else(String::new, |before| {
            // Days that belong to one of the two periods and not to the other.
            let days = start(before).map(|earlier| (earlier.min(period_start), earlier.max(period_start)));
            sql::only_changed_wallets(self.written, days)
        });
        sql::wallet_behaviour(period_start, &restriction)
    }
}

impl WriteBack {
    /// Writes wallets with new or changed transactions, wallets whose transactions have left the
    /// period, and all wallets of a network whose rules have changed. Returns their number.
    pub(super) async fn write_behaviour(&mut self, from: &Topology) -> Result<usize, SidecarError> {
        let since = self.since(from, CONSUMER).await?;
        let rules = RuleBook::read(&self.client).await?;
        let windows = self.windows().await?;
        let latest: Vec<(String, i64)> =
            from.entry.query(sql::LATEST_DAYS).fetch_all().await.doing("read the latest day of each network")?;
        // The wallets of a network that has lost all its transactions still have to be written.
        let lost = windows.iter().filter(|(network, _)| !latest.iter().any(|(name, _)| name == *network));
        let lost: Vec<(String, i64)> = lost.map(|(network, (until, _))| (network.clone(), *until)).collect();
        let mut wallets = 0;
        for (name, until) in latest.into_iter().chain(lost) {
            let rules = rules.for_network(&name);
            let before = windows.get(&name).filter(|(_, stored)| *stored == json!(rules)).map(|(until, _)| *until);
            if since.written >= since.until && before == Some(until) {
                continue;
            }
            let before = if since.all { None } else { before };
            let network = WrittenNetwork { name: &name, rules: &rules, until, before, written: since.written };
            wallets += self.write_network(from, &network).await?;
        }
        let doing = "store the position of the write-back";
        let transaction = self.client.transaction().await.doing(doing)?;
        store_version(&transaction, CONSUMER, since.until).await?;
        transaction.commit().await.doing(doing)?;
        Ok(wallets)
    }

    async fn windows(&self) -> Result<WrittenPeriods, SidecarError> {
        let rows = self.client.query(sql::WINDOWS, &[]).await.doing("read arx.behaviour_windows")?;
        Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
    }

    async fn write_network(&self, from: &Topology, network: &WrittenNetwork<'_>) -> Result<usize, SidecarError> {
        let mut cursor = from
            .entry
            .query(&network.query())
            .param("network", network.name)
            .with_setting("max_bytes_before_external_group_by", GROUP_BY_MEMORY)
            .fetch::<WalletRow>()
            .doing("read wallets")?;
        let mut total = 0;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let row = cursor.next().await.doing("read wallets")?;
            let is_last = row.is_none();
            batch.extend(row);
            if batch.len() == BATCH || (is_last && !batch.is_empty()) {
                total += batch.len();
                self.write_wallets(network, &batch).await.doing("write wallets back")?;
                batch.clear();
            }
            if is_last {
                break;
            }
        }
        let rules = json!(network.rules);
        self.client
            .execute(sql::STORE_WINDOW, &[&network.name, &network.until, &rules])
            .await
            .doing("store the period of the write-back")?;
        Ok(total)
    }

    async fn write_wallets(
        &self,
        network: &WrittenNetwork<'_>,
        batch: &[WalletRow],
    ) -> Result<(), tokio_postgres::Error> {
        let (gone, active): (Vec<&WalletRow>, Vec<&WalletRow>) = batch.iter().partition(|row| row.is_gone());
        if !active.is_empty() {
            let wallets: Vec<&str> = active.iter().map(|row| row.wallet.as_str()).collect();
            let profiles: Vec<serde_json::Value> =
                active.iter().map(|row| row.profile(network.rules, network.until)).collect();
            self.client.execute(sql::MERGE_PROFILES, &[&network.name, &wallets, &profiles]).await?;
        }
        if !gone.is_empty() {
            let wallets: Vec<&str> = gone.iter().map(|row| row.wallet.as_str()).collect();
            self.client.execute(sql::CLEAR_PROFILES, &[&network.name, &wallets]).await?;
        }
        Ok(())
    }
}
