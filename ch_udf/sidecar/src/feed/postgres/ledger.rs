//! The feed's state in PostgreSQL. Owns the lock that prevents two feeds of one database.

use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};
use tokio_postgres::{Client, Transaction};

use super::super::model::{Chunk, FeedState, FirstLoad, Hour, Rejected, RowPart, SourcePosition, Span, TableRange};
use super::super::ports::{Confirmation, Ledger};
use super::super::standing::Remembered;
use super::sql;
use crate::error::{Doing, SidecarError};
use crate::servers::postgres::Duty;

/// Name of this feed in `arx.feed_positions`.
pub(crate) const CONSUMER: &str = "clickhouse";

/// State of the feed, on the connection that holds its lock: without the connection, nothing can be
/// confirmed.
#[derive(Debug)]
pub(crate) struct PostgresLedger {
    client: Client,
}

impl PostgresLedger {
    /// Takes the feed's lock.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar feeds from this database.
    pub(crate) async fn acquire(client: Client) -> Result<Self, SidecarError> {
        // A stored attempt must survive a crash, and with it all transactions that an earlier
        // snapshot showed.
        client.batch_execute("SET synchronous_commit = on").await.doing("set up the feed's connection")?;
        Duty::Feed.acquire(&client).await?;
        client.batch_execute(sql::WATCH).await.doing("watch the tables")?;
        Ok(Self { client })
    }

    async fn load(&self, database: &str) -> Result<Option<FirstLoad>, SidecarError> {
        let doing = "read the first load";
        let row = self.client.query_opt(sql::LOAD, &[&CONSUMER]).await.doing(doing)?;
        let Some(row) = row else { return Ok(None) };
        let chunks = self.client.query(sql::PENDING_CHUNKS, &[&CONSUMER]).await.doing(doing)?;
        let pending = chunks
            .iter()
            .map(|row| {
                let files: (Vec<u32>, Vec<u32>) = (row.get(1), row.get(2));
                let blocks: (Vec<i64>, Vec<Option<i64>>) = (row.get(3), row.get(4));
                let spans = files.0.into_iter().zip(files.1).zip(blocks.0.into_iter().zip(blocks.1));
                let span =
                    |((relation, file), (first_block, end_block))| Span { relation, file, first_block, end_block };
                Chunk { number: row.get(0), spans: spans.map(span).collect() }
            })
            .collect();
        let position = SourcePosition {
            snapshot: row.get(1),
            epoch: row.get(2),
            system_identifier: row.get(3),
            timeline: row.get(4),
            database_oid: row.get(6),
            database: database.to_owned(),
        };
        Ok(Some(FirstLoad { attempt: unsigned(row.get(0)), position, pending, rows: unsigned(row.get(5)) }))
    }
}

/// A `timestamptz` as PostgreSQL sent it: no other type holds all of its values.
#[derive(Debug)]
struct WireTime(i64);

impl ToSql for WireTime {
    fn to_sql(&self, _: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        bytes::BufMut::put_i64(out, self.0);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);

    to_sql_checked!();
}

/// Stores rows that ClickHouse cannot hold, with the versions that are visible in a snapshot.
async fn set_aside(
    transaction: &Transaction<'_>,
    rejected: &[Rejected],
    snapshot: &str,
    doing: &'static str,
) -> Result<(), SidecarError> {
    let statements = [
        (sql::REJECT_TRANSACTIONS.to_owned(), RowPart::Transaction),
        (sql::reject_parts("internal_transfers", "position"), RowPart::Internal(0)),
        (sql::reject_parts("token_transfers", "log_index"), RowPart::Token(0)),
    ];
    for (statement, kind) in &statements {
        let is_of_table = |rejected: &&Rejected| std::mem::discriminant(&rejected.part) == std::mem::discriminant(kind);
        let chosen: Vec<&Rejected> = rejected.iter().filter(is_of_table).collect();
        if chosen.is_empty() {
            continue;
        }
        let networks: Vec<&[u8]> = chosen.iter().map(|rejected| &*rejected.network).collect();
        let hashes: Vec<&[u8]> = chosen.iter().map(|rejected| &*rejected.tx_hash).collect();
        let times: Vec<WireTime> = chosen.iter().map(|rejected| WireTime(rejected.time)).collect();
        let positions: Vec<Option<i32>> = chosen.iter().map(|rejected| rejected.part.position()).collect();
        let reasons: Vec<&str> = chosen.iter().map(|rejected| &*rejected.reason).collect();
        transaction
            .execute(statement.as_str(), &[&CONSUMER, &networks, &hashes, &times, &positions, &reasons, &snapshot])
            .await
            .doing(doing)?;
    }
    Ok(())
}

/// Returns the identity of a database, and what it remembers about the feed.
///
/// # Errors
/// Errors of the server.
pub(crate) async fn identify(client: &Client) -> Result<(SourcePosition, Remembered), SidecarError> {
    let row = client.query_one(sql::IDENTITY, &[&CONSUMER]).await.doing("identify the database")?;
    let identity = SourcePosition {
        snapshot: String::new(),
        epoch: 0,
        system_identifier: row.get(0),
        timeline: row.get(1),
        database_oid: row.get(2),
        database: row.get(3),
    };
    let former =
        row.get::<_, Option<i64>>(5).map(|system| SourcePosition { system_identifier: system, ..identity.clone() });
    let former_id = former.as_ref().map(SourcePosition::source_id);
    Ok((identity, Remembered { attempt: unsigned(row.get(4)), former_id }))
}

pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Ledger for PostgresLedger {
    async fn state(&mut self) -> Result<FeedState, SidecarError> {
        let row = self.client.query_opt(sql::STORED, &[&CONSUMER]).await.doing("read the feed's position")?;
        let Some(row) = row else { return Ok(FeedState::default()) };
        let database: String = row.get(6);
        let load = self.load(&database).await?;
        let snapshot: Option<String> = row.get(0);
        let identity: (Option<i64>, Option<i64>, Option<i32>, Option<u32>) =
            (row.get(3), row.get(4), row.get(5), row.get(8));
        let position = match (snapshot, identity) {
            (Some(snapshot), (Some(epoch), Some(system_identifier), Some(timeline), Some(database_oid))) => {
                Some(SourcePosition { snapshot, epoch, system_identifier, timeline, database_oid, database })
            }
            _ => None,
        };
        let set_aside = unsigned(row.get(7));
        Ok(FeedState { position, attempt: unsigned(row.get(1)), confirmed: unsigned(row.get(2)), set_aside, load })
    }

    async fn begin(&mut self, floor: u64) -> Result<u64, SidecarError> {
        let row = self
            .client
            .query_one(sql::BEGIN_ATTEMPT, &[&CONSUMER, &signed(floor)])
            .await
            .doing("store the feed's intent")?;
        Ok(unsigned(row.get(0)))
    }

    async fn begin_load(&mut self, load: &FirstLoad) -> Result<(), SidecarError> {
        let doing = "store the plan of the first load";
        let transaction = self.client.transaction().await.doing(doing)?;
        transaction.execute(sql::DELETE_LOAD, &[&CONSUMER]).await.doing(doing)?;
        transaction.execute(sql::DELETE_REJECTS, &[&CONSUMER]).await.doing(doing)?;
        let position = &load.position;
        transaction
            .execute(
                sql::INSERT_LOAD,
                &[
                    &CONSUMER,
                    &signed(load.attempt),
                    &position.snapshot,
                    &position.epoch,
                    &position.system_identifier,
                    &position.timeline,
                    &position.database_oid,
                ],
            )
            .await
            .doing(doing)?;
        let spans = || load.pending.iter().flat_map(|chunk| chunk.spans.iter().map(|span| (chunk.number, span)));
        let numbers: Vec<i32> = spans().map(|(number, _)| number).collect();
        let relations: Vec<u32> = spans().map(|(_, span)| span.relation).collect();
        let files: Vec<u32> = spans().map(|(_, span)| span.file).collect();
        let firsts: Vec<i64> = spans().map(|(_, span)| span.first_block).collect();
        let ends: Vec<Option<i64>> = spans().map(|(_, span)| span.end_block).collect();
        transaction
            .execute(sql::INSERT_CHUNKS, &[&CONSUMER, &numbers, &relations, &files, &firsts, &ends])
            .await
            .doing(doing)?;
        transaction.commit().await.doing(doing)
    }

    async fn finish_chunk(&mut self, chunk: &Chunk, rows: u64, rejected: &[Rejected]) -> Result<(), SidecarError> {
        let doing = "store that a chunk is loaded";
        let transaction = self.client.transaction().await.doing(doing)?;
        // A chunk whose entry a crash loses is loaded again; waiting for the disk would stop all
        // readers.
        transaction.batch_execute("SET LOCAL synchronous_commit = off").await.doing(doing)?;
        if !rejected.is_empty() {
            let row = transaction.query_one(sql::LOAD_SNAPSHOT, &[&CONSUMER]).await.doing(doing)?;
            let snapshot: String = row.get(0);
            set_aside(&transaction, rejected, &snapshot, doing).await?;
        }
        transaction.execute(sql::FINISH_CHUNK, &[&CONSUMER, &chunk.number, &signed(rows)]).await.doing(doing)?;
        transaction.commit().await.doing(doing)
    }

    async fn set_aside(&mut self, rejected: &[Rejected], snapshot: &str) -> Result<(), SidecarError> {
        let doing = "set rows aside";
        let transaction = self.client.transaction().await.doing(doing)?;
        set_aside(&transaction, rejected, snapshot, doing).await?;
        transaction.commit().await.doing(doing)
    }

    async fn forget_set_aside(&mut self, hours: &[Hour], ranges: &[TableRange]) -> Result<(), SidecarError> {
        let (networks, starts): (Vec<&str>, Vec<i64>) =
            hours.iter().map(|hour| (hour.network.as_str(), hour.hours)).unzip();
        let tables: Vec<&str> = ranges.iter().map(|range| range.table.name()).collect();
        let from: Vec<Option<i64>> = ranges.iter().map(|range| range.from).collect();
        let until: Vec<Option<i64>> = ranges.iter().map(|range| range.until).collect();
        let doing = "forget rows that were set aside";
        let transaction = self.client.transaction().await.doing(doing)?;
        transaction.execute(sql::DELETE_REJECTS_OF_HOURS, &[&CONSUMER, &networks, &starts]).await.doing(doing)?;
        transaction.execute(sql::DELETE_REJECTS_OF_RANGES, &[&CONSUMER, &tables, &from, &until]).await.doing(doing)?;
        transaction.commit().await.doing(doing)
    }

    async fn drop_load(&mut self) -> Result<(), SidecarError> {
        self.client.execute(sql::DELETE_LOAD, &[&CONSUMER]).await.map(drop).doing("forget the first load")
    }

    async fn confirm(&mut self, confirmation: &Confirmation) -> Result<u64, SidecarError> {
        let doing = "confirm the feed's position";
        let transaction = self.client.transaction().await.doing(doing)?;
        let position = &confirmation.position;
        let moved = transaction
            .execute(
                sql::CONFIRM,
                &[
                    &CONSUMER,
                    &signed(confirmation.attempt),
                    &position.snapshot,
                    &position.epoch,
                    &position.system_identifier,
                    &position.timeline,
                    &confirmation.since.is_none(),
                    &signed(confirmation.rows),
                    &position.database_oid,
                ],
            )
            .await
            .doing(doing)?;
        if moved != 1 {
            return Err(SidecarError::Overtaken { attempt: confirmation.attempt });
        }
        match &confirmation.since {
            None => transaction.execute(sql::DELETE_LOAD, &[&CONSUMER]).await.doing(doing)?,
            Some(since) => transaction.execute(sql::DELETE_REPLACED_REJECTS, &[&CONSUMER, since]).await.doing(doing)?,
        };
        if !confirmation.reloaded.is_empty() {
            let (networks, starts): (Vec<&str>, Vec<i64>) =
                confirmation.reloaded.iter().map(|hour| (hour.network.as_str(), hour.hours)).unzip();
            transaction.execute(sql::DELETE_RELOADS, &[&networks, &starts]).await.doing(doing)?;
        }
        let row = transaction.query_one(sql::COUNT_REJECTS, &[&CONSUMER]).await.doing(doing)?;
        transaction.commit().await.doing(doing)?;
        Ok(unsigned(row.get(0)))
    }
}
