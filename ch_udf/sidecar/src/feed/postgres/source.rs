//! Reads snapshots of `arx.transactions` by COPY: memory is bounded by the chunk, not by the table.
//! Works on a primary and on a hot standby.

use std::cmp::Reverse;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::Fuse;
use tokio_postgres::{Client, CopyOutStream};

use super::super::columns;
use super::super::model::{Chunk, ExtraColumn, Hour, SourcePosition, SourceTable, Span, Stage, TableRange, ValueKind};
use super::super::ports::{Reader, Source};
use super::rows::{Layout, PostgresRows};
use super::sql::{self, snapshot_literal, visible_since};
use crate::error::{Doing, SidecarError};
use crate::servers::postgres;

/// Bytes after which a chunk ends, regardless of its rows: rows with thousands of token transfers
/// are large.
const CHUNK_BYTES: usize = 48 << 20;

/// Maximum number of tables in a chunk of a first load.
const CHUNK_TABLES: usize = 64;

/// Maximum number of blocks in a chunk of a first load: 40 MB of table, just below 200,000 rows, at
/// most a second of work to repeat.
const CHUNK_BLOCKS: i64 = 5_120;

/// Interval at which the end of the transactions of events is awaited.
const SETTLE_POLL: Duration = Duration::from_millis(2);

/// Pause after events on a standby, which makes a transaction visible just before it gives the news
/// to its sessions.
const STANDBY_PAUSE: Duration = Duration::from_millis(50);

/// Fused, because it is polled again after its end.
type CopyStream = Fuse<Pin<Box<CopyOutStream>>>;

/// Reads `arx.transactions` in one read-only transaction at a time.
pub(crate) struct PostgresSource {
    server: postgres::Server,
    client: Client,
    layout: Arc<Layout>,
    snapshot: String,
    /// Number of events in the snapshot.
    epoch: i64,
    /// The last pair of snapshots without changes in between.
    unchanged: Option<(String, String)>,
    stream: Option<(CopyStream, Arc<Layout>)>,
}

impl std::fmt::Debug for PostgresSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSource").field("server", &self.server).finish_non_exhaustive()
    }
}

impl PostgresSource {
    /// Connects. The connection's transaction stays open for a whole pass.
    pub(crate) async fn connect(source: &postgres::Source) -> Result<Self, SidecarError> {
        let postgres::Connection { client, server, .. } = postgres::connect_to(source).await?;
        let (layout, snapshot) = (Arc::default(), String::new());
        Ok(Self { server, client, layout, snapshot, epoch: 0, unchanged: None, stream: None })
    }

    /// Runs a query in the open snapshot, for the comparison of transactions with the fed ones.
    pub(crate) async fn query(
        &self,
        text: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, SidecarError> {
        self.client.query(text, parameters).await.doing("compare transactions")
    }
}

async fn batch_execute(client: &Client, doing: &'static str, text: &str) -> Result<(), SidecarError> {
    client.batch_execute(text).await.doing(doing)
}

async fn copy(client: &Client, query: &str) -> Result<CopyStream, SidecarError> {
    let stream = client.copy_out(&format!("COPY ({query}) TO STDOUT (FORMAT binary)")).await;
    stream.map(|stream| Box::pin(stream).fuse()).doing("read transactions")
}

/// Receives the next rows of a stream, at most `limit`.
async fn receive(stream: &mut CopyStream, layout: &Arc<Layout>, limit: u32) -> Result<PostgresRows, SidecarError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut rows = PostgresRows::new(Arc::clone(layout), limit.min(4_096));
    let mut bytes = 0;
    while bytes < CHUNK_BYTES && super::super::model::Rows::len(&rows) < limit {
        let Some(message) = stream.next().await else { break };
        bytes += rows.push(message.doing("read transactions")?);
    }
    rows.sort();
    Ok(rows)
}

/// Packs tables, given as oid, file and blocks, into chunks: large tables are split, small ones
/// share a chunk, because the fixed cost of a ClickHouse insert equals 10,000 rows. The slowest
/// chunks (many tables, then many blocks) come first, so that the readers finish at about the same
/// time.
fn pack_chunks(tables: impl Iterator<Item = (u32, u32, i64)>) -> Vec<Chunk> {
    let mut chunks: Vec<(Chunk, i64)> = Vec::new();
    for (relation, file, blocks) in tables {
        let mut first_block = 0;
        loop {
            let end = first_block + CHUNK_BLOCKS;
            let end_block = (end < blocks).then_some(end);
            let span_blocks = end_block.unwrap_or(blocks) - first_block;
            let span = Span { relation, file, first_block, end_block };
            match chunks.last_mut() {
                Some((chunk, free_blocks)) if span_blocks <= *free_blocks && chunk.spans.len() < CHUNK_TABLES => {
                    chunk.spans.push(span);
                    *free_blocks -= span_blocks;
                }
                _ => chunks.push((Chunk { number: 0, spans: vec![span] }, CHUNK_BLOCKS - span_blocks)),
            }
            let Some(end) = end_block else { break };
            first_block = end;
        }
    }
    chunks.sort_by_key(|(chunk, free_blocks)| (Reverse(chunk.spans.len()), *free_blocks));
    let numbered = (0..).zip(chunks);
    numbered.map(|(number, (chunk, _))| Chunk { number, ..chunk }).collect()
}

fn value_kind(type_name: &str) -> ValueKind {
    match type_name {
        "smallint" => ValueKind::Int16,
        "integer" => ValueKind::Int32,
        "bigint" => ValueKind::Int64,
        "real" => ValueKind::Float32,
        "double precision" => ValueKind::Float64,
        "boolean" => ValueKind::Bool,
        "date" => ValueKind::Date,
        name if name.starts_with("timestamp") && !name.ends_with(']') => ValueKind::Timestamp,
        name => decimal_scale(name).map_or(ValueKind::Text, ValueKind::Decimal),
    }
}

/// Digits of the widest decimal that is carried as one.
const MAX_PRECISION: u8 = 38;

/// Returns the scale of `numeric(precision,scale)`.
fn decimal_scale(type_name: &str) -> Option<u8> {
    let (precision, scale) = type_name.strip_prefix("numeric(")?.strip_suffix(')')?.split_once(',')?;
    let (precision, scale) = (precision.parse::<u8>().ok()?, scale.parse::<u8>().ok()?);
    (precision <= MAX_PRECISION && scale <= precision).then_some(scale)
}

impl PostgresSource {
    /// Returns the query for rows that became visible since `from`, and for older transactions
    /// whose token transfers changed since.
    fn changed(&self, from: &str) -> Result<String, SidecarError> {
        let (until, layout) = (&self.snapshot, &self.layout);
        let new = visible_since("t.ingest_xid", from, until)?;
        let changes = visible_since("c.changed_xid", from, until)?;
        let former = format!(
            "CASE WHEN EXISTS (SELECT FROM arx.transaction_changes AS c WHERE c.relation = 'transactions' \
                AND c.network = t.network AND c.tx_hash = t.tx_hash AND {changes}) THEN 1 ELSE 0 END"
        );
        let mut rows = layout.select("arx.transactions AS t", &former, &new);
        if layout.legs {
            let former = format!(
                "CASE WHEN EXISTS (SELECT FROM arx.transaction_changes AS c WHERE c.relation = 'internal_transfers' \
                    AND c.network = t.network AND c.tx_hash = t.tx_hash AND c.log_index = t.position AND {changes}) THEN 1 ELSE 0 END"
            );
            rows = format!("{rows} UNION ALL {}", layout.select_internal("arx.internal_transfers AS t", &former, &new));
        }
        if !layout.transfers {
            return Ok(rows);
        }
        let arrived = visible_since("n.ingest_xid", from, until)?;
        let parents = format!(
            "(SELECT n.network, n.tx_hash, n.\"timestamp\" FROM arx.token_transfers AS n WHERE {arrived} \
               UNION SELECT c.network, c.tx_hash, c.\"timestamp\" FROM arx.transaction_changes AS c \
                      WHERE c.relation = 'token_transfers' AND {changes}) AS p \
             JOIN arx.transactions AS t ON t.network = p.network AND t.tx_hash = p.tx_hash AND t.\"timestamp\" = p.\"timestamp\""
        );
        let before = format!("pg_visible_in_snapshot(t.ingest_xid, {})", snapshot_literal(from)?);
        Ok(format!("{rows} UNION ALL {}", layout.select(&parents, "2", &before)))
    }

    fn reloaded(&self) -> Result<String, SidecarError> {
        let condition = format!("pg_visible_in_snapshot(t.ingest_xid, {})", snapshot_literal(&self.snapshot)?);
        let transactions = self.layout.select(sql::RELOADED_TRANSACTIONS, "1", &condition);
        if !self.layout.legs {
            return Ok(transactions);
        }
        let internal = self.layout.select_internal(sql::RELOADED_INTERNAL_TRANSFERS, "1", &condition);
        Ok(format!("{transactions} UNION ALL {internal}"))
    }

    /// Returns the query for the rows of some times; `None` if no table has such rows.
    fn of_ranges(&self, ranges: &[TableRange]) -> Result<Option<String>, SidecarError> {
        let visible = format!("pg_visible_in_snapshot(t.ingest_xid, {})", snapshot_literal(&self.snapshot)?);
        let mut parts = Vec::new();
        for range in ranges {
            let condition = format!("{visible}{}", sql::within("t", range));
            match range.table {
                SourceTable::Transactions => parts.push(self.layout.select("arx.transactions AS t", "1", &condition)),
                SourceTable::InternalTransfers if self.layout.legs => {
                    parts.push(self.layout.select_internal("arx.internal_transfers AS t", "1", &condition));
                }
                SourceTable::InternalTransfers => {}
                // Transfers that went left no trace in their transactions.
                SourceTable::TokenTransfers => {
                    parts.push(self.layout.select("arx.transactions AS t", "1", &condition));
                }
            }
        }
        Ok((!parts.is_empty()).then(|| parts.join(" UNION ALL ")))
    }

    /// Waits until the transactions of the events since a snapshot have released their locks. A
    /// transaction is visible before other sessions learn that a table has another partition:
    /// until then, a query would be planned without it.
    async fn settle_events(&self, since: &str) -> Result<(), SidecarError> {
        let unsettled = sql::unsettled_events(since)?;
        loop {
            let row = self.client.query_one(&unsettled, &[]).await.doing("wait for changes of partitions")?;
            let (is_unsettled, is_standby): (bool, bool) = (row.get(0), row.get(1));
            if is_standby {
                // It replays the end of a transaction as a whole, in microseconds.
                tokio::time::sleep(STANDBY_PAUSE).await;
            }
            if !is_unsettled {
                return Ok(());
            }
            tokio::time::sleep(SETTLE_POLL).await;
        }
    }
}

impl Source for PostgresSource {
    type Rows = PostgresRows;
    type Reader = PostgresReader;

    async fn open(&mut self) -> Result<SourcePosition, SidecarError> {
        self.stream = None;
        // An earlier pass may have left its transaction open.
        let begin = "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        batch_execute(&self.client, "open a snapshot", begin).await?;
        let named_columns: Vec<&str> = columns::names().collect();
        let row = self.client.query_one(sql::SOURCE_POSITION, &[&named_columns]).await.doing("open a snapshot")?;
        let (names, types): (Option<Vec<String>>, Option<Vec<String>>) = (row.get(5), row.get(6));
        let extra_columns = names
            .unwrap_or_default()
            .into_iter()
            .zip(types.unwrap_or_default())
            .map(|(name, type_name)| ExtraColumn { name, kind: value_kind(&type_name) })
            .collect();
        self.layout = Arc::new(Layout { transfers: row.get(7), legs: row.get(9), extra_columns, ..Layout::default() });
        (self.snapshot, self.epoch) = (row.get(0), row.get(1));
        Ok(SourcePosition {
            snapshot: self.snapshot.clone(),
            epoch: self.epoch,
            system_identifier: row.get(2),
            timeline: row.get(3),
            database: row.get(4),
            database_oid: row.get(8),
        })
    }

    fn extra_columns(&self) -> &[ExtraColumn] {
        &self.layout.extra_columns
    }

    async fn has_changes(&mut self, since: &str) -> Result<bool, SidecarError> {
        let snapshots = (since.to_owned(), self.snapshot.clone());
        if self.unchanged.as_ref() == Some(&snapshots) {
            // No transaction has committed since the last check.
            return Ok(false);
        }
        let query = sql::has_changes(since, &self.snapshot)?;
        // The planner overestimates what is new since a snapshot, and would scan tables.
        batch_execute(&self.client, "check for new transactions", "SET LOCAL enable_seqscan = off").await?;
        let row = self.client.query_one(&query, &[]).await.doing("check for new transactions")?;
        let has_changes: bool = row.get(0);
        self.unchanged = (!has_changes).then_some(snapshots);
        Ok(has_changes)
    }

    async fn events(&mut self, since: &SourcePosition) -> Result<Option<Vec<TableRange>>, SidecarError> {
        if since.epoch == self.epoch {
            return Ok(Some(Vec::new()));
        }
        let doing = "read changes of partitions";
        let rows = self.client.query(&sql::events(&since.snapshot, &self.snapshot)?, &[]).await.doing(doing)?;
        if i64::try_from(rows.len()).ok() != self.epoch.checked_sub(since.epoch) {
            return Ok(None);
        }
        self.settle_events(&since.snapshot).await?;
        let range = |row: &tokio_postgres::Row| {
            let table = row.get::<_, Option<&str>>(0).and_then(SourceTable::named)?;
            row.get::<_, bool>(1).then(|| TableRange { table, from: row.get(2), until: row.get(3) })
        };
        let Some(ranges) = rows.iter().map(range).collect::<Option<Vec<TableRange>>>() else { return Ok(None) };
        let ranges = TableRange::disjoint(ranges);
        let tables: Vec<&str> = ranges.iter().map(|range| range.table.name()).collect();
        let from: Vec<Option<i64>> = ranges.iter().map(|range| range.from).collect();
        let until: Vec<Option<i64>> = ranges.iter().map(|range| range.until).collect();
        let row = self.client.query_one(sql::IS_MOST, &[&tables, &from, &until]).await.doing(doing)?;
        Ok((!row.get::<_, bool>(0)).then_some(ranges))
    }

    async fn reloads(&mut self) -> Result<Vec<Hour>, SidecarError> {
        let rows = self.client.query(sql::RELOADS, &[]).await.doing("read which hours to load again")?;
        Ok(rows.iter().map(|row| Hour { network: row.get(0), hours: row.get(1) }).collect())
    }

    async fn start(&mut self, stage: &Stage) -> Result<(), SidecarError> {
        self.stream = None;
        let mut scans_tables = "off";
        let (query, layout) = match stage {
            Stage::FormerRows(from) => {
                let layout = Layout { tombstones: true, ..Layout::default() };
                (Layout::select_former(&visible_since("changed_xid", from, &self.snapshot)?), Arc::new(layout))
            }
            Stage::Changed(from) => (self.changed(from)?, Arc::clone(&self.layout)),
            Stage::Reloaded => (self.reloaded()?, Arc::clone(&self.layout)),
            Stage::Ranges(ranges) => {
                let Some(query) = self.of_ranges(ranges)? else { return Ok(()) };
                // Whole partitions.
                scans_tables = "on";
                (query, Arc::clone(&self.layout))
            }
        };
        let setting = format!("SET LOCAL enable_seqscan = {scans_tables}");
        batch_execute(&self.client, "read transactions", &setting).await?;
        self.stream = Some((copy(&self.client, &query).await?, layout));
        Ok(())
    }

    async fn next(&mut self, limit: u32) -> Result<PostgresRows, SidecarError> {
        match &mut self.stream {
            Some((stream, layout)) => receive(stream, layout, limit).await,
            None => Ok(PostgresRows::new(Arc::clone(&self.layout), 0)),
        }
    }

    async fn chunks(&mut self) -> Result<Vec<Chunk>, SidecarError> {
        let rows = self.client.query(sql::CHUNKS, &[]).await.doing("plan the first load")?;
        Ok(pack_chunks(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2)))))
    }

    async fn readers(&mut self, count: u32, load_snapshot: &str) -> Result<Vec<PostgresReader>, SidecarError> {
        let row = self.client.query_one(sql::EXPORT_SNAPSHOT, &[]).await.doing("share the snapshot")?;
        let exported: String = row.get(0);
        // The first comparison is cheap and true for nearly all rows.
        let load_snapshot = snapshot_literal(load_snapshot)?;
        let condition = format!(
            "(t.ingest_xid < pg_snapshot_xmin({load_snapshot}) OR pg_visible_in_snapshot(t.ingest_xid, {load_snapshot}))"
        );
        let layout = Arc::new(Layout { uncounted: true, ..Layout::clone(&self.layout) });
        let mut readers = Vec::new();
        for _ in 0..count {
            let client = self.server.connect().await?;
            // The server chose the name: hexadecimal digits and dashes.
            let begin =
                format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{exported}'");
            batch_execute(&client, "share the snapshot", &begin).await?;
            let (condition, layout) = (condition.clone(), Arc::clone(&layout));
            readers.push(PostgresReader { client, condition, layout, stream: None });
        }
        Ok(readers)
    }

    async fn close(&mut self) -> Result<(), SidecarError> {
        self.stream = None;
        batch_execute(&self.client, "close the snapshot", "COMMIT").await
    }
}

pub(crate) struct PostgresReader {
    client: Client,
    condition: String,
    layout: Arc<Layout>,
    stream: Option<CopyStream>,
}

impl Reader for PostgresReader {
    type Rows = PostgresRows;

    async fn start(&mut self, chunk: &Chunk) -> Result<(), SidecarError> {
        let relations: Vec<u32> = chunk.spans.iter().map(|span| span.relation).collect();
        let names = self.client.query(sql::NAMES, &[&relations]).await.doing("find the tables of a chunk")?;
        let mut parts = Vec::with_capacity(chunk.spans.len());
        for (span, row) in chunk.spans.iter().zip(&names) {
            let name: Option<&str> = row.get(0);
            let name = name.ok_or(SidecarError::Rewritten { relation: span.relation })?;
            let mut condition = self.condition.clone();
            if span.first_block > 0 {
                condition.push_str(&format!(" AND t.ctid >= '({},0)'::tid", span.first_block));
            }
            if let Some(end) = span.end_block {
                condition.push_str(&format!(" AND t.ctid < '({end},0)'::tid"));
            }
            let from = format!("{name} AS t");
            if !row.get::<_, bool>(1) {
                parts.push(self.layout.select(&from, "", &condition));
            } else if self.layout.legs {
                parts.push(self.layout.select_internal(&from, "", &condition));
            }
        }
        self.stream = Some(copy(&self.client, &parts.join(" UNION ALL ")).await?);
        Ok(())
    }

    async fn next(&mut self, limit: u32) -> Result<PostgresRows, SidecarError> {
        match &mut self.stream {
            Some(stream) => receive(stream, &self.layout, limit).await,
            None => Ok(PostgresRows::new(Arc::clone(&self.layout), 0)),
        }
    }

    async fn finish(&mut self, chunk: &Chunk) -> Result<(), SidecarError> {
        self.stream = None;
        let relations: Vec<u32> = chunk.spans.iter().map(|span| span.relation).collect();
        // The reads hold locks on the tables, so these are the files that were read.
        let files = self.client.query(sql::FILES, &[&relations]).await.doing("check the tables of a chunk")?;
        let rewritten = chunk.spans.iter().zip(&files).find(|(span, row)| row.get::<_, u32>(0) != span.file);
        rewritten.map_or(Ok(()), |(span, _)| Err(SidecarError::Rewritten { relation: span.relation }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tables_share_a_chunk_and_large_ones_are_split() {
        let spans = |chunk: &Chunk| -> Vec<(u32, i64, Option<i64>)> {
            chunk.spans.iter().map(|span| (span.relation, span.first_block, span.end_block)).collect()
        };
        let tables = [(1, 1, 10), (2, 2, 0), (3, 3, CHUNK_BLOCKS - 10), (4, 4, 2 * CHUNK_BLOCKS + 1), (5, 5, 7)];
        let chunks = pack_chunks(tables.into_iter());
        assert_eq!(chunks.iter().map(|chunk| chunk.number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(spans(&chunks[0]), [(1, 0, None), (2, 0, None), (3, 0, None)]);
        assert_eq!(spans(&chunks[1]), [(4, 2 * CHUNK_BLOCKS, None), (5, 0, None)]);
        assert_eq!(spans(&chunks[2]), [(4, 0, Some(CHUNK_BLOCKS))]);
        assert_eq!(spans(&chunks[3]), [(4, CHUNK_BLOCKS, Some(2 * CHUNK_BLOCKS))]);
        let many = pack_chunks((0..100).map(|number| (number, number, 0)));
        assert_eq!(many.iter().map(|chunk| chunk.spans.len()).collect::<Vec<_>>(), [64, 36]);
        assert!(pack_chunks(std::iter::empty()).is_empty());
    }
}
