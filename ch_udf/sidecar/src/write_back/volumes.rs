//! Volumes of hours and days.

use clickhouse::Row;
use serde::Deserialize;
use tokio_postgres::Transaction;

use super::{BATCH, Since, WriteBack, sql, store_version};
use crate::error::{Doing, SidecarError};
use crate::feed::signed;
use crate::warehouse::Topology;

/// A kind of volume, on both sides.
pub(super) struct Volume {
    /// Name of the aggregate, and of the consumer whose position is stored.
    consumer: &'static str,
    /// The bucket as a number, in ClickHouse.
    number: &'static str,
    delete_all: &'static str,
    delete: &'static str,
    insert: &'static str,
}

pub(super) const HOURS: Volume = Volume {
    consumer: "hourly_volume",
    number: "toInt64(intDiv(toUnixTimestamp(hour), 3600))",
    delete_all: sql::DELETE_ALL_HOURS,
    delete: sql::DELETE_HOURS,
    insert: sql::INSERT_HOURS,
};

pub(super) const DAYS: Volume = Volume {
    consumer: "daily_volume",
    number: "toInt64(toRelativeDayNum(day))",
    delete_all: sql::DELETE_ALL_DAYS,
    delete: sql::DELETE_DAYS,
    insert: sql::INSERT_DAYS,
};

#[derive(Row, Deserialize)]
struct VolumeRow {
    network: String,
    number: i64,
    transactions: u64,
    volume: String,
    senders: u64,
    receivers: u64,
    gas_prices: u64,
    gas_sum: String,
    gas_min: Option<u64>,
    gas_max: Option<u64>,
}

impl WriteBack {
    /// Writes the buckets that were settled since the last time. Returns their number.
    pub(super) async fn write_volumes(&mut self, from: &Topology, volume: &Volume) -> Result<usize, SidecarError> {
        let Since { written, until, all } = self.since(from, volume.consumer).await?;
        if written >= until {
            return Ok(0);
        }
        let query = sql::settled_volumes(volume.consumer, volume.number, if all { 0 } else { written });
        let rows: Vec<VolumeRow> = from.entry.query(&query).fetch_all().await.doing("read volumes")?;
        let doing = "write volumes back";
        let transaction = self.client.transaction().await.doing(doing)?;
        if all {
            transaction.execute(volume.delete_all, &[]).await.doing(doing)?;
        }
        // An hour may hold internal transfers alone.
        let is_filled =
            |row: &VolumeRow| row.transactions > 0 || row.volume.contains(|digit| ('1'..='9').contains(&digit));
        let (filled, empty): (Vec<VolumeRow>, Vec<VolumeRow>) = rows.into_iter().partition(is_filled);
        for batch in empty.chunks(BATCH) {
            let networks: Vec<&str> = batch.iter().map(|row| row.network.as_str()).collect();
            let numbers: Vec<i64> = batch.iter().map(|row| row.number).collect();
            transaction.execute(volume.delete, &[&networks, &numbers]).await.doing(doing)?;
        }
        for batch in filled.chunks(BATCH) {
            insert(&transaction, volume.insert, batch).await.doing(doing)?;
        }
        store_version(&transaction, volume.consumer, until).await?;
        transaction.commit().await.doing(doing)?;
        Ok(filled.len() + empty.len())
    }
}

async fn insert(
    transaction: &Transaction<'_>,
    statement: &str,
    batch: &[VolumeRow],
) -> Result<(), tokio_postgres::Error> {
    let networks: Vec<&str> = batch.iter().map(|row| row.network.as_str()).collect();
    let numbers: Vec<i64> = batch.iter().map(|row| row.number).collect();
    let counts: Vec<i64> = batch.iter().map(|row| signed(row.transactions)).collect();
    let volumes: Vec<&str> = batch.iter().map(|row| row.volume.as_str()).collect();
    let senders: Vec<i64> = batch.iter().map(|row| signed(row.senders)).collect();
    let receivers: Vec<i64> = batch.iter().map(|row| signed(row.receivers)).collect();
    let gas_prices: Vec<i64> = batch.iter().map(|row| signed(row.gas_prices)).collect();
    let gas_sums: Vec<&str> = batch.iter().map(|row| row.gas_sum.as_str()).collect();
    let gas_mins: Vec<Option<i64>> = batch.iter().map(|row| row.gas_min.map(signed)).collect();
    let gas_maxs: Vec<Option<i64>> = batch.iter().map(|row| row.gas_max.map(signed)).collect();
    transaction
        .execute(
            statement,
            &[
                &networks,
                &numbers,
                &counts,
                &volumes,
                &senders,
                &receivers,
                &gas_prices,
                &gas_sums,
                &gas_mins,
                &gas_maxs,
            ],
        )
        .await
        .map(drop)
}
