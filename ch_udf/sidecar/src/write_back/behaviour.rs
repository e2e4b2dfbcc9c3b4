//! Behaviour of wallets, in `arx.wallet_behaviour`.

use std::collections::BTreeMap;
use std::pin::pin;

use arx_core::behaviour::{Activity, WalletType};
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use clickhouse::Row;
use clickhouse::query::RowCursor;
use futures_util::SinkExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{BATCH, RuleBook, Rules, WriteBack, sql, store_version};
use crate::error::{Doing, SidecarError};
use crate::feed::signed;
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
    first_seen: i64,
    last_seen: i64,
    period_sent: u64,
    period_volume: String,
    period_units: Option<i128>,
    period_cents: i128,
    period_priced: u64,
    period_recipients: u64,
    period_gas_price: Option<f64>,
}

/// A row of `arx.wallet_behaviour`, in the order of [`sql::COPY_BEHAVIOUR`].
#[derive(Serialize)]
struct StoredRow<'a> {
    wallet: &'a str,
    network: &'a str,
    class: &'static str,
    period_days: Option<i32>,
    period_until: NaiveDate,
    period_sent: u64,
    period_volume: &'a str,
    period_recipients: u64,
    sent: u64,
    received: u64,
    total_sent: &'a str,
    total_received: &'a str,
    recipients: u64,
    senders: u64,
    first: DateTime<Utc>,
    last: DateTime<Utc>,
}

impl StoredRow<'_> {
    /// Appends the row as a line of CSV.
    fn write_line(&self, lines: &mut Vec<u8>) -> Result<(), SidecarError> {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(lines);
        let written = writer.serialize(self).and_then(|()| Ok(writer.flush()?));
        written
            .map_err(|error| SidecarError::Protocol { detail: format!("a wallet cannot be written as CSV: {error}") })
    }
}

/// Returns the date of a day since 1970.
fn date(days: i64) -> NaiveDate {
    let epoch = NaiveDate::default();
    TimeDelta::try_days(days).and_then(|days| epoch.checked_add_signed(days)).unwrap_or(epoch)
}

impl WalletRow {
    /// Returns true for a wallet that no longer has transfers.
    const fn is_gone(&self) -> bool {
        self.sent == 0 && self.received == 0
    }

    fn class(&self, rules: &Rules) -> WalletType {
        rules.thresholds.classify(&Activity {
            transactions: self.period_sent,
            volume: self.period_units,
            priced: (self.period_priced > 0).then_some((self.period_cents, self.period_priced)),
            mean_gas_price: self.period_gas_price,
            recipients: self.period_recipients,
        })
    }

    fn stored<'a>(&'a self, network: &WrittenNetwork<'a>) -> StoredRow<'a> {
        StoredRow {
            wallet: &self.wallet,
            network: network.name,
            class: self.class(network.rules).as_str(),
            period_days: network.rules.period_days,
            period_until: date(network.until),
            period_sent: self.period_sent,
            period_volume: &self.period_volume,
            period_recipients: self.period_recipients,
            sent: self.sent,
            received: self.received,
            total_sent: &self.sent_volume,
            total_received: &self.received_volume,
            recipients: self.recipients,
            senders: self.senders,
            first: DateTime::from_timestamp_micros(self.first_seen).unwrap_or_default(),
            last: DateTime::from_timestamp_micros(self.last_seen).unwrap_or_default(),
        }
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
    /// Returns the first day of the period that ends with `until`, as days since 1970.
    fn start(&self, until: i64) -> Option<i64> {
        self.rules.period_days.map(|days| until - i64::from(days) + 1)
    }

    /// Returns the query for the wallets that may differ from what was written back before; `None`
    /// if that is all of them.
    fn changed_wallets(&self) -> Option<String> {
        let before = self.before?;
        // Days that belong to one of the two periods and not to the other.
        let start = self.start(self.until);
        let days = self.start(before).zip(start).map(|(earlier, start)| (earlier.min(start), earlier.max(start)));
        Some(sql::changed_wallets(self.written, days))
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

    async fn write_network(&mut self, from: &Topology, network: &WrittenNetwork<'_>) -> Result<usize, SidecarError> {
        let changed = network.changed_wallets();
        let query = sql::wallet_behaviour(network.start(network.until).unwrap_or(0), changed.as_deref());
        let mut cursor = from
            .entry
            .query(&query)
            .param("network", network.name)
            .with_setting("max_bytes_before_external_group_by", GROUP_BY_MEMORY)
            .fetch::<WalletRow>()
            .doing("read wallets")?;
        let total = match changed {
            None => self.replace_wallets(network, &mut cursor).await?,
            Some(_) => self.update_wallets(network, &mut cursor).await?,
        };
        let rules = json!(network.rules);
        self.client
            .execute(sql::STORE_WINDOW, &[&network.name, &network.until, &rules])
            .await
            .doing("store the period of the write-back")?;
        Ok(total)
    }

    /// Replaces all wallets of a network in one transaction. Returns their number.
    async fn replace_wallets(
        &mut self,
        network: &WrittenNetwork<'_>,
        rows: &mut RowCursor<WalletRow>,
    ) -> Result<usize, SidecarError> {
        let doing = "write wallets back";
        let transaction = self.client.transaction().await.doing(doing)?;
        transaction.execute(sql::DELETE_NETWORK_BEHAVIOUR, &[&network.name]).await.doing(doing)?;
        let mut sink = pin!(transaction.copy_in::<_, Bytes>(sql::COPY_BEHAVIOUR).await.doing(doing)?);
        let mut total = 0;
        let mut lines = Vec::new();
        while let Some(row) = rows.next().await.doing("read wallets")? {
            row.stored(network).write_line(&mut lines)?;
            total += 1;
            if total % BATCH == 0 {
                sink.send(std::mem::take(&mut lines).into()).await.doing(doing)?;
            }
        }
        sink.send(lines.into()).await.doing(doing)?;
        sink.as_mut().finish().await.doing(doing)?;
        transaction.commit().await.doing(doing)?;
        Ok(total)
    }

    /// Writes wallets in batches, and removes those that no longer have transfers. Returns the
    /// number of rows written and removed.
    async fn update_wallets(
        &self,
        network: &WrittenNetwork<'_>,
        rows: &mut RowCursor<WalletRow>,
    ) -> Result<usize, SidecarError> {
        let mut total = 0;
        let mut batch = Vec::with_capacity(BATCH);
        let mut gone = Vec::new();
        loop {
            let row = rows.next().await.doing("read wallets")?;
            let is_last = row.is_none();
            match row {
                Some(row) if row.is_gone() => gone.push(row.wallet),
                row => batch.extend(row),
            }
            if batch.len() == BATCH || (is_last && !batch.is_empty()) {
                total += batch.len();
                self.update_batch(network, &batch).await.doing("write wallets back")?;
                batch.clear();
            }
            if gone.len() == BATCH || (is_last && !gone.is_empty()) {
                let removed = self.client.execute(sql::DELETE_BEHAVIOUR, &[&network.name, &gone]).await;
                total += usize::try_from(removed.doing("remove wallets without transfers")?).unwrap_or(usize::MAX);
                gone.clear();
            }
            if is_last {
                return Ok(total);
            }
        }
    }

    async fn update_batch<'a>(
        &self,
        network: &WrittenNetwork<'a>,
        batch: &'a [WalletRow],
    ) -> Result<(), tokio_postgres::Error> {
        let rows: Vec<StoredRow<'a>> = batch.iter().map(|row| row.stored(network)).collect();
        let texts = |of: fn(&StoredRow<'a>) -> &'a str| rows.iter().map(of).collect::<Vec<&str>>();
        let numbers = |of: fn(&StoredRow<'a>) -> u64| rows.iter().map(|row| signed(of(row))).collect::<Vec<i64>>();
        let times = |of: fn(&StoredRow<'a>) -> DateTime<Utc>| rows.iter().map(of).collect::<Vec<_>>();
        self.client
            .execute(
                sql::UPSERT_BEHAVIOUR,
                &[
                    &network.name,
                    &network.rules.period_days,
                    &date(network.until),
                    &texts(|row| row.wallet),
                    &texts(|row| row.class),
                    &numbers(|row| row.period_sent),
                    &texts(|row| row.period_volume),
                    &numbers(|row| row.period_recipients),
                    &numbers(|row| row.sent),
                    &numbers(|row| row.received),
                    &texts(|row| row.total_sent),
                    &texts(|row| row.total_received),
                    &numbers(|row| row.recipients),
                    &numbers(|row| row.senders),
                    &times(|row| row.first),
                    &times(|row| row.last),
                ],
            )
            .await?;
        Ok(())
    }
}
