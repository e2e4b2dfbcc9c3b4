//! The feed's state and the hourly volumes in PostgreSQL. Owns the lock that keeps two feeds of one database apart.

use tokio_postgres::{Client, Transaction};

use super::model::{Confirmation, HourlyVolume, Stored, Touched};
use super::pipeline::Ledger;
use crate::error::SidecarError;

/// Name of this feed in `arx.feed_positions`.
const CONSUMER: &str = "clickhouse";

/// First key of ARX's advisory locks ("arx" in ASCII); the second says which.
pub(crate) const LOCK_SPACE: i32 = 0x0061_7278;

/// Second key: the feed to ClickHouse.
const FEED_LOCK: i32 = 1;

/// Hours written by one statement.
const BATCH: usize = 10_000;

/// State of the feed, on the connection that holds its lock: whoever loses the connection can confirm nothing.
#[derive(Debug)]
pub struct PostgresLedger {
    client: Client,
}

impl PostgresLedger {
    /// Takes the feed's lock.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar feeds from this database.
    pub async fn acquire(client: Client) -> Result<Self, SidecarError> {
        let row = client
            .query_one("SELECT pg_try_advisory_lock($1, $2)", &[&LOCK_SPACE, &FEED_LOCK])
            .await
            .map_err(|source| SidecarError::Postgres { doing: "take the feed's lock", source })?;
        if row.get(0) { Ok(Self { client }) } else { Err(SidecarError::Taken { doing: "feeds ClickHouse" }) }
    }
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Ledger for PostgresLedger {
    async fn stored(&mut self) -> Result<Stored, SidecarError> {
        let row = self
            .client
            .query_opt(
                "SELECT position::text, attempt, epoch, system_identifier, timeline FROM arx.feed_positions WHERE consumer = $1",
                &[&CONSUMER],
            )
            .await
            .map_err(|source| SidecarError::Postgres { doing: "read the feed's position", source })?;
        Ok(row.map_or_else(Stored::default, |row| Stored {
            position: row.get(0),
            attempt: unsigned(row.get(1)),
            epoch: row.get(2),
            system_identifier: row.get(3),
            timeline: row.get(4),
        }))
    }

    async fn begin(&mut self, floor: u64) -> Result<u64, SidecarError> {
        let row = self
            .client
            .query_one(
                "INSERT INTO arx.feed_positions AS p (consumer, attempt) VALUES ($1, $2::bigint + 1) \
                 ON CONFLICT (consumer) DO UPDATE SET attempt = greatest(p.attempt, $2::bigint) + 1 RETURNING attempt",
                &[&CONSUMER, &signed(floor)],
            )
            .await
            .map_err(|source| SidecarError::Postgres { doing: "store the feed's intent", source })?;
        Ok(unsigned(row.get(0)))
    }

    async fn confirm(&mut self, confirmation: &Confirmation) -> Result<(), SidecarError> {
        let failed = |source| SidecarError::Postgres { doing: "confirm the feed's position", source };
        let transaction = self.client.transaction().await.map_err(failed)?;
        clear(&transaction, &confirmation.touched).await.map_err(failed)?;
        for batch in confirmation.volumes.chunks(BATCH) {
            write(&transaction, batch).await.map_err(failed)?;
        }
        let mark = &confirmation.mark;
        let full = confirmation.touched == Touched::All;
        let moved = transaction
            .execute(
                "UPDATE arx.feed_positions SET position = $3::text::pg_snapshot, epoch = $4, system_identifier = $5, \
                        timeline = $6, rows_total = CASE WHEN $7 THEN 0 ELSE rows_total END + $8, updated_at = now() \
                  WHERE consumer = $1 AND attempt = $2",
                &[
                    &CONSUMER,
                    &signed(confirmation.attempt),
                    &mark.position,
                    &mark.epoch,
                    &mark.system_identifier,
                    &mark.timeline,
                    &full,
                    &signed(confirmation.rows),
                ],
            )
            .await
            .map_err(failed)?;
        if moved != 1 {
            return Err(SidecarError::Overtaken { attempt: confirmation.attempt });
        }
        transaction.commit().await.map_err(failed)
    }
}

async fn clear(transaction: &Transaction<'_>, touched: &Touched) -> Result<(), tokio_postgres::Error> {
    let hours = match touched {
        Touched::All => return transaction.execute("DELETE FROM arx.hourly_volume", &[]).await.map(drop),
        Touched::Hours(hours) => hours,
    };
    for batch in hours.chunks(BATCH) {
        let (networks, starts): (Vec<&str>, Vec<i64>) =
            batch.iter().map(|hour| (hour.network.as_str(), hour.hours)).unzip();
        transaction
            .execute(
                "DELETE FROM arx.hourly_volume AS v USING unnest($1::text[], $2::bigint[]) AS t (network, hours) \
                  WHERE v.network = t.network AND v.hour = to_timestamp(t.hours * 3600::float8)",
                &[&networks, &starts],
            )
            .await?;
    }
    Ok(())
}

async fn write(transaction: &Transaction<'_>, batch: &[HourlyVolume]) -> Result<(), tokio_postgres::Error> {
    let networks: Vec<&str> = batch.iter().map(|volume| volume.hour.network.as_str()).collect();
    let starts: Vec<i64> = batch.iter().map(|volume| volume.hour.hours).collect();
    let counts: Vec<i64> = batch.iter().map(|volume| signed(volume.transaction_count)).collect();
    let totals: Vec<&str> = batch.iter().map(|volume| volume.total_volume.as_str()).collect();
    let senders: Vec<i64> = batch.iter().map(|volume| signed(volume.unique_senders)).collect();
    let receivers: Vec<i64> = batch.iter().map(|volume| signed(volume.unique_receivers)).collect();
    transaction
        .execute(
            "INSERT INTO arx.hourly_volume (network, hour, transaction_count, total_volume, unique_senders, unique_receivers) \
             SELECT network, to_timestamp(hours * 3600::float8), transactions, total::numeric, senders, receivers \
               FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[]) \
                    AS t (network, hours, transactions, total, senders, receivers)",
            &[&networks, &starts, &counts, &totals, &senders, &receivers],
        )
        .await
        .map(drop)
}
