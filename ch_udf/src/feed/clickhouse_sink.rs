//! Transactions as versioned events in ClickHouse, and the volumes computed from them.

use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};

use super::model::{Change, HOUR_MICROS, Hour, HourlyVolume, Mark, Touched};
use super::pipeline::Sink;
use crate::error::SidecarError;

/// Hours asked for by one query: some 30 bytes each, well below `max_query_size` (256 KiB).
const BATCH: usize = 4_000;

/// Marks kept a source; see `sql/clickhouse/02_feed_marks.sql`.
const SLOTS: u64 = 64;

/// What counts in an hour: every transaction counts, but a failed one moved nothing.
const VOLUMES: &str = "SELECT network, intDiv(toUnixTimestamp64Micro(event_time), 3600000000) AS hours, \
            count() AS transaction_count, \
            toString(sumIf(toDecimal256(value, 18), status != 'failed')) AS total_volume, \
            uniqExact(from_address) AS unique_senders, uniqExact(to_address) AS unique_receivers \
       FROM transaction_events FINAL";

/// Writes into the tables of `sql/clickhouse`.
#[derive(Clone)]
pub struct ClickHouseSink {
    client: Client,
}

impl ClickHouseSink {
    /// Uses a client of the database that holds ARX's tables.
    #[must_use]
    pub fn new(client: Client) -> Self {
        // a key never moves between months, so partitions are merged one by one
        let client = client.with_setting("do_not_merge_across_partitions_select_final", "1");
        Self { client }
    }
}

#[derive(Row, Serialize)]
struct EventRow<'a> {
    event_time: i64,
    network: &'a str,
    tx_hash: &'a str,
    block_number: u64,
    transaction_index: Option<u32>,
    from_address: &'a str,
    to_address: Option<&'a str>,
    value: i128,
    value_usd: Option<i128>,
    gas_used: Option<u64>,
    gas_price: Option<u64>,
    status: &'a str,
    version: u64,
    is_deleted: u8,
}

impl<'a> EventRow<'a> {
    fn new(change: &'a Change, version: u64) -> Self {
        Self {
            event_time: change.event_time,
            network: &change.network,
            tx_hash: &change.tx_hash,
            block_number: change.block_number,
            transaction_index: change.transaction_index,
            from_address: &change.from_address,
            to_address: change.to_address.as_deref(),
            value: change.value,
            value_usd: change.value_usd,
            gas_used: change.gas_used,
            gas_price: change.gas_price,
            status: &change.status,
            version,
            is_deleted: u8::from(change.deleted),
        }
    }
}

#[derive(Row, Serialize)]
struct MarkRow<'a> {
    source: &'a str,
    slot: u8,
    attempt: u64,
    position: &'a str,
}

#[derive(Row, Deserialize)]
struct VolumeRow {
    network: String,
    hours: i64,
    transaction_count: u64,
    total_volume: String,
    unique_senders: u64,
    unique_receivers: u64,
}

impl From<VolumeRow> for HourlyVolume {
    fn from(row: VolumeRow) -> Self {
        Self {
            hour: Hour { network: row.network, hours: row.hours },
            transaction_count: row.transaction_count,
            total_volume: row.total_volume,
            unique_senders: row.unique_senders,
            unique_receivers: row.unique_receivers,
        }
    }
}

fn failed(doing: &'static str) -> impl FnOnce(clickhouse::error::Error) -> SidecarError {
    move |source| SidecarError::ClickHouse { doing, source }
}

impl Sink for ClickHouseSink {
    async fn holds(&mut self, source: &str, position: &str) -> Result<bool, SidecarError> {
        let found: u64 = self
            .client
            .query("SELECT count() FROM feed_marks FINAL WHERE source = ? AND position = ?")
            .bind(source)
            .bind(position)
            .fetch_one()
            .await
            .map_err(failed("look for the feed's mark"))?;
        Ok(found > 0)
    }

    async fn highest_version(&mut self) -> Result<u64, SidecarError> {
        let query = self.client.query("SELECT max(version) FROM transaction_events");
        query.fetch_one().await.map_err(failed("look for the highest version"))
    }

    async fn insert(&mut self, version: u64, rows: Vec<Change>) -> Result<(), SidecarError> {
        let doing = "insert transactions";
        let insert = self.client.insert::<EventRow<'_>>("transaction_events").await.map_err(failed(doing))?;
        // a chunk of a long history touches more months than the default allows
        let mut insert = insert.with_setting("max_partitions_per_insert_block", "0");
        for row in &rows {
            insert.write(&EventRow::new(row, version)).await.map_err(failed(doing))?;
        }
        insert.end().await.map_err(failed(doing))
    }

    async fn remove_older(&mut self, version: u64) -> Result<(), SidecarError> {
        let doing = "remove what a full load replaced";
        let older: u64 = self
            .client
            .query("SELECT count() FROM transaction_events WHERE version < ?")
            .bind(version)
            .fetch_one()
            .await
            .map_err(failed(doing))?;
        if older == 0 {
            return Ok(());
        }
        // Tombstones make the answer right at once; the rows themselves go in the background, part by part, which takes the
        // embedded engine 20 s for 60 months.
        self.client
            .query(
                "INSERT INTO transaction_events (event_time, network, tx_hash, block_number, transaction_index, from_address, \
                     to_address, value, value_usd, gas_used, gas_price, status, version, is_deleted) \
                 SELECT event_time, network, tx_hash, block_number, transaction_index, from_address, to_address, value, \
                        value_usd, gas_used, gas_price, status, ?, 1 \
                   FROM transaction_events FINAL WHERE version < ?",
            )
            .bind(version)
            .bind(version)
            .with_setting("max_partitions_per_insert_block", "0")
            .execute()
            .await
            .map_err(failed(doing))?;
        self.client
            .query("ALTER TABLE transaction_events DELETE WHERE version < ?")
            .bind(version)
            .with_setting("mutations_sync", "0")
            .execute()
            .await
            .map_err(failed(doing))
    }

    async fn mark(&mut self, mark: &Mark, attempt: u64) -> Result<(), SidecarError> {
        let doing = "mark the feed's position";
        let source = mark.source();
        let slot = u8::try_from(attempt % SLOTS).unwrap_or_default();
        let mut insert = self.client.insert::<MarkRow<'_>>("feed_marks").await.map_err(failed(doing))?;
        let row = MarkRow { source: &source, slot, attempt, position: &mark.position };
        insert.write(&row).await.map_err(failed(doing))?;
        insert.end().await.map_err(failed(doing))
    }

    async fn hourly_volumes(&mut self, touched: &Touched) -> Result<Vec<HourlyVolume>, SidecarError> {
        let doing = "compute hourly volumes";
        let hours = match touched {
            Touched::All => {
                let query = self.client.query(&format!("{VOLUMES} GROUP BY network, hours"));
                let rows: Vec<VolumeRow> = query.fetch_all().await.map_err(failed(doing))?;
                return Ok(rows.into_iter().map(HourlyVolume::from).collect());
            }
            Touched::Hours(hours) => hours,
        };
        let mut sorted: Vec<&Hour> = hours.iter().collect();
        // neighbours in time together: a batch then needs few months
        sorted.sort_by_key(|hour| hour.hours);
        let mut volumes = Vec::with_capacity(hours.len());
        for batch in sorted.chunks(BATCH) {
            let (Some(first), Some(last)) = (batch.first(), batch.last()) else { continue };
            let pairs: Vec<(&str, i64)> = batch.iter().map(|hour| (hour.network.as_str(), hour.hours)).collect();
            let text = format!(
                "{VOLUMES} WHERE event_time >= fromUnixTimestamp64Micro(?, 'UTC') \
                 AND event_time < fromUnixTimestamp64Micro(?, 'UTC') \
                 AND (network, intDiv(toUnixTimestamp64Micro(event_time), 3600000000)) IN ? GROUP BY network, hours"
            );
            let rows: Vec<VolumeRow> = self
                .client
                .query(&text)
                .bind(first.hours.saturating_mul(HOUR_MICROS))
                .bind((last.hours + 1).saturating_mul(HOUR_MICROS))
                .bind(pairs)
                .fetch_all()
                .await
                .map_err(failed(doing))?;
            volumes.extend(rows.into_iter().map(HourlyVolume::from));
        }
        Ok(volumes)
    }
}
