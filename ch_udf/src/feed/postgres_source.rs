//! One snapshot of `arx.transactions` in PostgreSQL, read through a cursor: memory is bounded by the chunk, not by the table.

use tokio_postgres::{Client, Row};

use super::model::{Change, HOUR_MICROS, Load, Mark, Stage};
use super::numeric::{NumericError, RawNumeric, units_from_binary};
use super::pipeline::Source;
use crate::error::SidecarError;

/// Microseconds between 1970 and 2000, PostgreSQL's epoch.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// 2299-12-31 23:00, the last hour of a `DateTime64`.
const LAST_HOUR: i64 = 10_413_788_400_000_000 / HOUR_MICROS;

const COLUMNS: &str = "\"timestamp\", network, tx_hash, block_number, transaction_index, from_address, to_address, value, \
                       value_usd, gas_used, gas_price, status::text";

const MARK: &str = "SELECT pg_current_snapshot()::text, arx.current_graph_epoch(), \
            (SELECT system_identifier FROM pg_control_system()), \
            CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint()) \
                 ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END, \
            current_database()::text";

/// Reads `arx.transactions` in one read-only transaction at a time.
#[derive(Debug)]
pub struct PostgresSource {
    client: Client,
    tombstones: bool,
}

impl PostgresSource {
    /// Uses a connection of its own: its transaction stays open for a whole pass.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, tombstones: false }
    }

    async fn batch(&self, doing: &'static str, text: &str) -> Result<(), SidecarError> {
        self.client.batch_execute(text).await.map_err(|source| SidecarError::Postgres { doing, source })
    }
}

/// What became visible since a snapshot, as a condition over the column that holds a row's transaction.
fn since(column: &str, position: &str) -> Result<String, SidecarError> {
    // A cursor takes no parameters: the text that goes into it is checked to be nothing but a snapshot.
    if position.is_empty() || !position.bytes().all(|byte| byte.is_ascii_digit() || byte == b':' || byte == b',') {
        return Err(SidecarError::Configuration {
            detail: format!("arx.feed_positions holds a position that is no snapshot: {position:?}"),
        });
    }
    Ok(format!(
        "{column} >= pg_snapshot_xmin('{position}'::pg_snapshot) \
         AND NOT pg_visible_in_snapshot({column}, '{position}'::pg_snapshot)"
    ))
}

fn changes_since(position: &str) -> Result<String, SidecarError> {
    Ok(format!("arx.transaction_changes WHERE relation = 'transactions' AND {}", since("changed_xid", position)?))
}

impl Source for PostgresSource {
    async fn open(&mut self) -> Result<Mark, SidecarError> {
        // an earlier pass may have left its transaction open
        let begin = "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp; \
                     SET LOCAL cursor_tuple_fraction = 1; SET LOCAL statement_timeout = 0; \
                     SET LOCAL idle_in_transaction_session_timeout = 0";
        self.batch("open a snapshot", begin).await?;
        let row = self
            .client
            .query_one(MARK, &[])
            .await
            .map_err(|source| SidecarError::Postgres { doing: "open a snapshot", source })?;
        Ok(Mark {
            position: row.get(0),
            epoch: row.get(1),
            system_identifier: row.get(2),
            timeline: row.get(3),
            database: row.get(4),
        })
    }

    async fn has_news(&mut self, position: &str) -> Result<bool, SidecarError> {
        let text = format!(
            "SELECT EXISTS (SELECT FROM arx.transactions WHERE {}) OR EXISTS (SELECT FROM {})",
            since("ingest_xid", position)?,
            changes_since(position)?
        );
        let row = self
            .client
            .query_one(text.as_str(), &[])
            .await
            .map_err(|source| SidecarError::Postgres { doing: "look for new transactions", source })?;
        Ok(row.get(0))
    }

    async fn start(&mut self, stage: &Stage) -> Result<(), SidecarError> {
        let query = match stage {
            Stage::FormerSelves(position) => {
                format!("SELECT \"timestamp\", network, tx_hash, from_address FROM {}", changes_since(position)?)
            }
            Stage::Rows(Load::Full) => format!("SELECT {COLUMNS} FROM arx.transactions"),
            Stage::Rows(Load::Since(position)) => {
                format!("SELECT {COLUMNS} FROM arx.transactions WHERE {}", since("ingest_xid", position)?)
            }
        };
        self.tombstones = matches!(stage, Stage::FormerSelves(_));
        let cursor = if self.tombstones { "arx_former" } else { "arx_rows" };
        self.batch("read transactions", &format!("DECLARE {cursor} NO SCROLL CURSOR FOR {query}")).await
    }

    async fn next(&mut self, limit: u32) -> Result<Vec<Change>, SidecarError> {
        let failed = |source| SidecarError::Postgres { doing: "read transactions", source };
        let cursor = if self.tombstones { "arx_former" } else { "arx_rows" };
        let rows = self.client.query(format!("FETCH {limit} FROM {cursor}").as_str(), &[]).await.map_err(failed)?;
        let convert = if self.tombstones { tombstone } else { change };
        rows.iter().map(convert).collect()
    }

    async fn close(&mut self) -> Result<(), SidecarError> {
        self.batch("close the snapshot", "COMMIT").await
    }
}

/// `timestamptz` as microseconds since 1970.
struct Micros(i64);

impl<'a> tokio_postgres::types::FromSql<'a> for Micros {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_2000)))
    }

    fn accepts(kind: &tokio_postgres::types::Type) -> bool {
        *kind == tokio_postgres::types::Type::TIMESTAMPTZ
    }
}

/// A column of a row of `arx.transactions`, or which one could not be read.
fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, SidecarError> {
    row.try_get(index).map_err(|source| SidecarError::Postgres { doing: "read a column of a transaction", source })
}

fn event_time(row: &Row) -> Result<i64, SidecarError> {
    let micros = column::<Micros>(row, 0)?.0;
    if (0..=LAST_HOUR).contains(&micros.div_euclid(HOUR_MICROS)) {
        return Ok(micros);
    }
    Err(SidecarError::ValueOutOfRange {
        network: column(row, 1)?,
        tx_hash: column(row, 2)?,
        column: "timestamp",
        value: format!("{micros} µs since 1970"),
        target: "DateTime64 (1970 to 2299)",
    })
}

fn tombstone(row: &Row) -> Result<Change, SidecarError> {
    Ok(Change {
        event_time: event_time(row)?,
        network: column(row, 1)?,
        tx_hash: column(row, 2)?,
        block_number: 0,
        transaction_index: None,
        from_address: column(row, 3)?,
        to_address: None,
        value: 0,
        value_usd: None,
        gas_used: None,
        gas_price: None,
        status: "confirmed".into(),
        deleted: true,
    })
}

fn change(row: &Row) -> Result<Change, SidecarError> {
    let out_of_range = |column_name, value: String, target| -> SidecarError {
        SidecarError::ValueOutOfRange {
            network: column(row, 1).unwrap_or_default(),
            tx_hash: column(row, 2).unwrap_or_default(),
            column: column_name,
            value,
            target,
        }
    };
    let whole = |index, name| -> Result<Option<u64>, SidecarError> {
        let value: Option<i64> = column(row, index)?;
        value.map(|value| u64::try_from(value).map_err(|_| out_of_range(name, value.to_string(), "UInt64"))).transpose()
    };
    let exact = |raw: RawNumeric<'_>, scale, name, target| {
        units_from_binary(raw.0, scale).map_err(|error: NumericError| out_of_range(name, format!("({error})"), target))
    };
    let place: Option<i32> = column(row, 4)?;
    let usd: Option<RawNumeric<'_>> = column(row, 8)?;
    Ok(Change {
        event_time: event_time(row)?,
        network: column(row, 1)?,
        tx_hash: column(row, 2)?,
        block_number: whole(3, "block_number")?.unwrap_or_default(),
        transaction_index: place
            .map(|value| {
                u32::try_from(value).map_err(|_| out_of_range("transaction_index", value.to_string(), "UInt32"))
            })
            .transpose()?,
        from_address: column(row, 5)?,
        to_address: column(row, 6)?,
        value: exact(column(row, 7)?, 18, "value", "Decimal(38, 18)")?,
        value_usd: usd.map(|raw| exact(raw, 2, "value_usd", "Decimal(20, 2)")).transpose()?,
        gas_used: whole(9, "gas_used")?,
        gas_price: whole(10, "gas_price")?,
        status: column(row, 11)?,
        deleted: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_snapshot_gets_into_the_text() {
        assert!(since("ingest_xid", "10:20:11,12").unwrap().contains("'10:20:11,12'"));
        assert!(since("ingest_xid", "10:20:").is_ok());
        assert!(since("ingest_xid", "1'; DROP").is_err());
        assert!(since("ingest_xid", "").is_err());
    }
}
