//! Writes transactions as versioned events into ClickHouse, and repairs the aggregates that a
//! change touched.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clickhouse::{Client, Row};
use futures_util::future::join_all;
use serde::Serialize;

use super::super::metadata::as_text;
use super::super::model::{
    CountedBy, Event, ExtraColumn, Hour, Month, Rejected, Rows, SourcePosition, SourceTable, TableRange,
};
use super::super::ports::{CountingMode, Delivery, Inserted, Sink};
use super::super::standing::Marks;
use super::durability::{self, Durability};
use super::marks;
use super::native::{Block, Stamp, Used, name_of, type_of};
use crate::error::{Chain, Doing, SidecarError};
use crate::retry::{Retrier, clickhouse_code};
use crate::warehouse::{
    AGGREGATES, Months, Repair, Shape, Topology, ValidGenerations, all_months, fill_received, group_months,
    touched_months,
};

/// Hours per statement: about 40 bytes each, well below [`MAX_QUERY_BYTES`].
const HOURS_PER_STATEMENT: usize = 4_000;

/// Maximum length of a statement. ClickHouse's own limit is 256 KiB.
const MAX_QUERY_BYTES: &str = "1048576";

/// Positions kept per source; see `sql/clickhouse/11_feed.sql`.
const POSITION_SLOTS: u8 = 64;

/// Bytes after which ClickHouse groups the states of a month on disk.
const GROUP_BY_MEMORY: &str = "536870912";

/// A time that no event has, in microseconds since 1970: 2200-01-01.
const LAST_MICROS: i64 = 7_258_118_400_000_000;

/// Rows in the months of one statement, unless a single month has more.
const ROWS_PER_STATEMENT: u64 = 500_000;

/// Writes into the tables of `sql/clickhouse`.
#[derive(Clone)]
pub(crate) struct ClickHouseSink {
    topology: Arc<Topology>,
    valid: Arc<Mutex<ValidGenerations>>,
    extra_columns: Arc<[ExtraColumn]>,
    /// The views are known to exist.
    views_exist: bool,
    /// Retry a failed insert here. False for the embedded engine, which has another address after a
    /// restart.
    retries_inserts: bool,
    durability: Durability,
}

impl std::fmt::Debug for ClickHouseSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickHouseSink").field("topology", &self.topology).finish_non_exhaustive()
    }
}

impl ClickHouseSink {
    /// Uses the existing tables.
    pub(crate) async fn open(
        topology: Topology,
        retries_inserts: bool,
        durability: Durability,
    ) -> Result<Self, SidecarError> {
        let valid = topology.valid_generations().await?;
        Ok(Self {
            topology: Arc::new(topology),
            valid: Arc::new(Mutex::new(valid)),
            extra_columns: Arc::new([]),
            views_exist: false,
            retries_inserts,
            durability,
        })
    }

    #[must_use]
    pub(crate) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology)
    }

    fn local(&self) -> &'static str {
        self.topology.shape.local()
    }

    /// Runs a statement on each shard.
    async fn on_shards(&self, doing: &'static str, statement: &str) -> Result<(), SidecarError> {
        run_all(self.topology.shards.iter().map(|shard| execute(shard, doing, statement))).await
    }

    /// Runs DDL statements in order, each on all servers that need it.
    async fn run_ddl(&self, doing: &'static str, statements: &[String]) -> Result<(), SidecarError> {
        for statement in statements {
            run_all(self.topology.ddl_servers().iter().map(|server| execute(server, doing, statement))).await?;
        }
        Ok(())
    }

    /// Waits for the first replicas: an insert that found one busy went to another replica of the
    /// shard.
    async fn sync_replicas(&self) -> Result<(), SidecarError> {
        for statement in self.topology.shape.sync_replicas() {
            self.on_shards("wait for the replicas", &statement).await?;
        }
        Ok(())
    }

    fn valid_generations(&self) -> ValidGenerations {
        // A holder that panicked cannot have left the pair half written.
        *self.valid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the states of a repair valid, and those below `floor` invalid.
    async fn publish(&self, generation: u64, floor: u64) -> Result<(), SidecarError> {
        let statement = format!(
            "INSERT INTO aggregate_generations{} (generation, floor) VALUES ({generation}, {floor})",
            self.local()
        );
        self.on_shards("publish a repair", &statement).await?;
        let before = self.valid_generations();
        *self.valid.lock().unwrap_or_else(PoisonError::into_inner) =
            ValidGenerations { generation: before.generation.max(generation), floor: before.floor.max(floor) };
        Ok(())
    }

    async fn send(&self, token: &str, packed: &Packed) -> Result<(), clickhouse::error::Error> {
        let columns = packed.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        // The server must not squash separate blocks.
        let (min_rows, min_bytes) = if packed.one_block_per_month { ("0", "0") } else { ("2000000", "1073741824") };
        let mut insert = self
            .topology
            .entry
            .insert_formatted_with(format!("INSERT INTO transaction_events ({columns}) FORMAT Native"))
            .with_setting("insert_deduplication_token", token)
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
            .with_setting("type_json_skip_duplicated_paths", "1")
            .with_setting("distributed_foreground_insert", "1")
            // Reads with FINAL make this needless; it would sort and merge each chunk a second
            // time.
            .with_setting("optimize_on_insert", "0")
            .with_setting("max_insert_block_size", "2000000")
            .with_setting("min_insert_block_size_rows", min_rows)
            .with_setting("min_insert_block_size_bytes", min_bytes)
            // A chunk of a long history touches more months than the default allows.
            .with_setting("max_partitions_per_insert_block", "0")
            .with_timeouts(Some(Duration::from_secs(60)), Some(Duration::from_secs(300)));
        for piece in &packed.pieces {
            insert.send(piece.clone()).await?;
        }
        insert.end().await
    }
}

/// The form in which metadata is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MetadataForm {
    /// Documents, in the form in which the source carries them.
    Document,
    /// Objects that hold the documents as text, which every server reads.
    Text,
}

/// Returns whether an insert failed because of a document. Nothing else of an insert is parsed.
fn refuses_document(error: &clickhouse::error::Error) -> bool {
    /// `INCORRECT_DATA`.
    const INCORRECT_DATA: u32 = 117;
    matches!(error, clickhouse::error::Error::BadResponse(text) if clickhouse_code(text) == Some(INCORRECT_DATA))
}

/// Rows encoded for an insert.
struct Packed {
    metadata: MetadataForm,
    columns: Vec<String>,
    pieces: Vec<Bytes>,
    /// Each month is a separate block.
    one_block_per_month: bool,
    rows: u64,
    /// Rows that a repair has to count.
    to_repair: u64,
    rejected: Vec<Rejected>,
}

impl Packed {
    /// Encodes rows that views count as one block: it is inserted and counted completely or not at
    /// all, and each further block would make ClickHouse plan all views again. Before a rebuild,
    /// each month is a block, so that ClickHouse need not split it into partitions.
    fn new<R: Rows>(
        rows: &R,
        stamp: Stamp,
        extra_columns: &[ExtraColumn],
        metadata: MetadataForm,
    ) -> Result<Self, SidecarError> {
        let one_block_per_month = stamp.counting == CountingMode::Rebuild;
        let mut blocks = vec![Block::with_capacity(rows.len())];
        let (mut month, mut count, mut to_repair) = (None::<Month>, 0, 0);
        let rejected = rows.for_each(&mut |event| {
            count += 1;
            let is_new_month =
                one_block_per_month && month.as_ref().is_none_or(|month| !month.contains(event.event_time));
            if is_new_month && month.replace(Month::of(event.event_time)).is_some() {
                blocks.push(Block::default());
            }
            to_repair += u64::from(stamp.counting.counted_by(event.counted_by) == CountedBy::Repair);
            if let Some(block) = blocks.last_mut() {
                match (&event.metadata, metadata) {
                    (Some(document), MetadataForm::Text) => {
                        let document = Some(as_text(document).into());
                        block.push(&Event { metadata: document, ..event.clone() }, stamp, extra_columns);
                    }
                    (None, _) | (_, MetadataForm::Document) => block.push(event, stamp, extra_columns),
                }
            }
            Ok(())
        })?;
        blocks.retain(|block| !block.is_empty());
        let used = blocks.iter().map(Block::used).fold(Used::default(), Used::or);
        let (mut columns, mut pieces) = (Vec::new(), Vec::new());
        for block in blocks {
            let (names, block_pieces) = block.finish(stamp, used, extra_columns);
            columns = names;
            pieces.extend(block_pieces);
        }
        Ok(Self { metadata, columns, pieces, one_block_per_month, rows: count, to_repair, rejected })
    }
}

/// Sets up a client. A key never moves between months, so FINAL may merge partitions one by one.
fn with_settings(client: &Client) -> Client {
    client
        .clone()
        .with_setting("do_not_merge_across_partitions_select_final", "1")
        .with_setting("max_partitions_per_insert_block", "0")
        .with_setting("max_bytes_before_external_group_by", GROUP_BY_MEMORY)
        .with_setting("max_query_size", MAX_QUERY_BYTES)
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

#[derive(Row, Serialize)]
struct MarkRow<'a> {
    source: &'a str,
    slot: u8,
    attempt: u64,
    position: &'a str,
    database: &'a str,
    timeline: i32,
}

impl ClickHouseSink {
    /// Writes a mark of a source on every shard.
    async fn mark(&self, source: &SourcePosition, slot: u8, attempt: u64, position: &str) -> Result<(), SidecarError> {
        let doing = "record the feed's position";
        let table = format!("feed_marks{}", self.local());
        let source_id = source.source_id();
        for shard in &self.topology.shards {
            let mut insert = shard.insert::<MarkRow<'_>>(&table).await.doing(doing)?;
            let (database, timeline) = (source.database.as_str(), source.timeline);
            let row = MarkRow { source: &source_id, slot, attempt, position, database, timeline };
            insert.write(&row).await.doing(doing)?;
            insert.end().await.doing(doing)?;
        }
        Ok(())
    }
}

impl Sink for ClickHouseSink {
    async fn marks(&mut self, source_id: &str, snapshot: &str) -> Result<Marks, SidecarError> {
        marks::read(&self.topology, source_id, snapshot).await
    }

    async fn begin_attempt(&mut self, source: &SourcePosition, attempt: u64) -> Result<(), SidecarError> {
        self.mark(source, POSITION_SLOTS, attempt, "").await
    }

    async fn highest_version(&mut self) -> Result<u64, SidecarError> {
        let query = self.topology.entry.query("SELECT max(version) FROM transaction_events");
        query.fetch_one().await.doing("read the highest version")
    }

    async fn add_columns(&mut self, extra_columns: &[ExtraColumn]) -> Result<(), SidecarError> {
        if extra_columns == &*self.extra_columns {
            return Ok(());
        }
        let doing = "add columns to transaction_events";
        let names: Vec<String> = extra_columns.iter().map(|column| name_of(column).into_owned()).collect();
        let query = "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'transaction_events' \
                     AND has(?, name)";
        let existing: Vec<(String, String)> =
            self.topology.entry.query(query).bind(names).fetch_all().await.doing(doing)?;
        for column in extra_columns {
            let (name, wanted) = (name_of(column), type_of(column));
            match existing.iter().find(|(present, _)| *present == name) {
                Some((_, present)) if *present == wanted => {}
                Some((name, present)) => {
                    return Err(SidecarError::Configuration {
                        detail: format!(
                            "column {name} of transaction_events has type {present} in ClickHouse, but PostgreSQL's needs {wanted}; \
                             drop or rename one of the two"
                        ),
                    });
                }
                None => {
                    self.run_ddl(doing, &self.topology.shape.add_column(&quoted(&name), &wanted)).await?;
                    tracing::info!(column = &*name, r#type = &*wanted, "added a column of PostgreSQL");
                }
            }
        }
        self.extra_columns = extra_columns.into();
        Ok(())
    }

    async fn resume_views(&mut self) -> Result<(), SidecarError> {
        if !self.views_exist {
            self.run_ddl("create the views", &self.topology.shape.create_views()?).await?;
            self.views_exist = true;
        }
        Ok(())
    }

    async fn pause_views(&mut self) -> Result<(), SidecarError> {
        self.views_exist = false;
        self.run_ddl("drop the views", &self.topology.shape.drop_views()).await
    }

    async fn insert<R: Rows>(&mut self, delivery: &Delivery, rows: &R) -> Result<Inserted, SidecarError> {
        let stamp = Stamp {
            version: delivery.version,
            generation: self.valid_generations().generation,
            counting: delivery.counting,
        };
        let mut packed = Packed::new(rows, stamp, &self.extra_columns, MetadataForm::Document)?;
        let mut retrier = Retrier::default();
        loop {
            let sent = if packed.rows == 0 { Ok(()) } else { self.send(&delivery.token, &packed).await };
            let error = match sent {
                Ok(()) => {
                    let Packed { rows, to_repair, rejected, .. } = packed;
                    return Ok(Inserted { rows, to_repair, rejected });
                }
                Err(error) if packed.metadata == MetadataForm::Document && refuses_document(&error) => {
                    // The message contains the document.
                    tracing::warn!(
                        rows = packed.rows,
                        "ClickHouse refuses a document of these rows; all are sent as text"
                    );
                    packed = Packed::new(rows, stamp, &self.extra_columns, MetadataForm::Text)?;
                    continue;
                }
                Err(source) => SidecarError::ClickHouse { doing: "insert transactions", source },
            };
            // The token makes a retry harmless: the server skips blocks that it already has.
            let delay = if self.retries_inserts { retrier.delay(&error) } else { None };
            let Some(delay) = delay else { return Err(error) };
            tracing::warn!(error = %Chain(&error), again_in = ?delay, "retrying an insert");
            tokio::time::sleep(delay).await;
        }
    }

    async fn remove_older(&mut self, version: u64) -> Result<(), SidecarError> {
        self.sync_replicas().await?;
        let local = self.local();
        run_all(self.topology.shards.iter().map(|shard| remove_older(shard, local, version))).await
    }

    async fn retract_hours(&mut self, hours: &[Hour], version: u64) -> Result<(), SidecarError> {
        self.sync_replicas().await?;
        let doing = "retract hours that are loaded again";
        let condition =
            format!("version < {version} AND (network, intDiv(toUnixTimestamp64Micro(event_time), 3600000000)) IN ?");
        let statement = insert_tombstones(self.local(), version, &condition);
        for batch in hours.chunks(HOURS_PER_STATEMENT) {
            let hours: Vec<(&str, i64)> = batch.iter().map(|hour| (hour.network.as_str(), hour.hours)).collect();
            let shards = self.topology.shards.iter();
            run_all(shards.map(|shard| {
                let query = with_settings(shard).query(&statement).bind(&hours);
                async move { query.execute().await.doing(doing) }
            }))
            .await?;
        }
        Ok(())
    }

    async fn retract_ranges(&mut self, ranges: &[TableRange], version: u64) -> Result<(), SidecarError> {
        let conditions: Vec<String> = ranges.iter().filter_map(events_within).collect();
        if conditions.is_empty() {
            return Ok(());
        }
        self.sync_replicas().await?;
        for condition in conditions {
            let condition = format!("version < {version} AND {condition}");
            let statement = insert_tombstones(self.local(), version, &condition);
            self.on_shards("retract rows of partitions that changed", &statement).await?;
        }
        Ok(())
    }

    async fn repair(&mut self, since: u64, current: u64, generation: u64) -> Result<(), SidecarError> {
        self.sync_replicas().await?;
        let shape = &self.topology.shape;
        let months = touched_months(shape, since, current);
        let repair_of = |months| Repair::Touched { since, current, generation, months };
        let shards = self.topology.shards.iter();
        run_all(shards.map(|shard| write_states(shard, "repair the aggregates", shape, &months, repair_of))).await?;
        self.publish(generation, 0).await
    }

    async fn rebuild(&mut self, generation: u64, version: u64) -> Result<(), SidecarError> {
        self.sync_replicas().await?;
        let shape = &self.topology.shape;
        let months = all_months(shape);
        let repair_of = |months| Repair::All { generation, version, months };
        run_all(self.topology.shards.iter().map(|shard| fill_received_transactions(shard, shape, &months))).await?;
        let shards = self.topology.shards.iter();
        run_all(shards.map(|shard| write_states(shard, "compute the aggregates", shape, &months, repair_of))).await?;
        let before = self.valid_generations().generation;
        self.publish(generation, generation).await?;
        if before > 0 {
            for aggregate in &AGGREGATES {
                let statement = format!(
                    "ALTER TABLE {}_states{} DELETE WHERE generation < {generation}",
                    aggregate.name,
                    self.local()
                );
                let shards = self.topology.shards.iter();
                run_all(shards.map(|shard| delete_in_background(shard, "remove invalid states", &statement))).await?;
            }
        }
        Ok(())
    }

    async fn settle(&mut self, since: Option<u64>, version: u64) -> Result<(), SidecarError> {
        self.sync_replicas().await?;
        run_all(AGGREGATES.iter().map(async |aggregate| {
            for statement in aggregate.settle(&self.topology.shape, Some(self.valid_generations()), since, version) {
                execute(&self.topology.entry, "settle the volumes", &statement).await?;
            }
            Ok(())
        }))
        .await
    }

    async fn make_durable(&mut self) -> Result<(), SidecarError> {
        match &self.durability {
            Durability::Given => Ok(()),
            Durability::Server => {
                self.on_shards("make inserts durable (clickhouse_sync)", "SYSTEM SYNC FILE CACHE").await
            }
            Durability::Files(synced) => durability::sync_parts(&self.topology.entry, &mut *synced.lock().await).await,
        }
    }

    async fn record_position(&mut self, position: &SourcePosition, attempt: u64) -> Result<(), SidecarError> {
        self.sync_replicas().await?;
        let slot = u8::try_from(attempt % u64::from(POSITION_SLOTS)).unwrap_or_default();
        self.mark(position, slot, attempt, &position.snapshot).await
    }
}

/// Runs work on all shards concurrently, and waits for all of it even after a failure, so that
/// nothing of a failed attempt is still running when the next one begins.
async fn run_all(
    work: impl Iterator<Item = impl Future<Output = Result<(), SidecarError>>>,
) -> Result<(), SidecarError> {
    join_all(work).await.into_iter().collect()
}

async fn execute(shard: &Client, doing: &'static str, statement: &str) -> Result<(), SidecarError> {
    with_settings(shard).query_raw(statement).execute().await.doing(doing)
}

async fn fetch_all<T>(shard: &Client, doing: &'static str, query: &str) -> Result<Vec<T>, SidecarError>
where
    T: clickhouse::RowOwned + clickhouse::RowRead,
{
    with_settings(shard).query_raw(query).fetch_all().await.doing(doing)
}

async fn remove_older(shard: &Client, local: &str, version: u64) -> Result<(), SidecarError> {
    let doing = "remove rows that a full load replaced";
    let query = format!("SELECT count() FROM transaction_events{local} WHERE version < {version}");
    if fetch_all::<u64>(shard, doing, &query).await?.first() == Some(&0) {
        return Ok(());
    }
    // Tombstones correct the results at once. The rows themselves are deleted in the background,
    // part by part, which takes the embedded engine 20 s for 60 months.
    execute(shard, doing, &insert_tombstones(local, version, &format!("version < {version}"))).await?;
    for table in ["transaction_events", "received_transactions"] {
        // A part with a tombstone may be rewritten before the part with its row, which would then
        // be visible again: earlier tombstones get a version that is not deleted. The subquery
        // keeps the condition from reading the new version.
        let kept = format!(
            "INSERT INTO {table}{local} SELECT * REPLACE ({version} AS version) \
               FROM (SELECT * FROM {table}{local} WHERE version < {version} AND is_deleted = 1)"
        );
        execute(shard, doing, &kept).await?;
        delete_in_background(shard, doing, &format!("ALTER TABLE {table}{local} DELETE WHERE version < {version}"))
            .await?;
    }
    Ok(())
}

/// Deletes invisible rows in the background.
async fn delete_in_background(shard: &Client, doing: &'static str, statement: &str) -> Result<(), SidecarError> {
    execute(&shard.clone().with_setting("mutations_sync", "0"), doing, statement).await
}

/// Copies the loaded rows of a shard into `received_transactions`.
async fn fill_received_transactions(shard: &Client, shape: &Shape, months: &str) -> Result<(), SidecarError> {
    let doing = "sort transactions by receiver";
    let months: Vec<(u32, u64)> = fetch_all(shard, doing, months).await?;
    for months in group_months(&months, ROWS_PER_STATEMENT) {
        execute(shard, doing, &fill_received(shape, &months)).await?;
    }
    Ok(())
}

/// Writes the states of a repair on one shard, some months at a time.
async fn write_states(
    shard: &Client,
    doing: &'static str,
    shape: &Shape,
    months: &str,
    repair_of: impl Fn(Months) -> Repair,
) -> Result<(), SidecarError> {
    let months: Vec<(u32, u64)> = fetch_all(shard, doing, months).await?;
    for months in group_months(&months, ROWS_PER_STATEMENT) {
        let repair = repair_of(months);
        for statement in AGGREGATES.iter().flat_map(|aggregate| aggregate.repair(shape, &repair)) {
            execute(shard, doing, &statement).await?;
        }
    }
    Ok(())
}

/// Returns the statement that writes tombstones for the rows of a condition.
fn insert_tombstones(local: &str, version: u64, condition: &str) -> String {
    let columns = "event_time, network, tx_hash, leg, kind, block_number, from_address, to_address, value, status";
    format!(
        "INSERT INTO transaction_events{local} ({columns}, version, is_deleted, counted) \
         SELECT {columns}, {version}, 1, 'repair' FROM transaction_events{local} FINAL WHERE {condition}"
    )
}

/// Returns the condition for the events of a range; `None` if no event is one of its rows. All
/// events are of times from 1970 on.
fn events_within(range: &TableRange) -> Option<String> {
    let mut condition = match range.table {
        SourceTable::Transactions => String::from("leg = 0"),
        SourceTable::InternalTransfers => String::from("leg > 0"),
        SourceTable::TokenTransfers => return None,
    };
    for (limit, operator) in [(range.from, ">="), (range.until, "<")] {
        if let Some(micros) = limit {
            // The limit of the type.
            let micros = micros.clamp(0, LAST_MICROS);
            condition.push_str(&format!(" AND event_time {operator} fromUnixTimestamp64Micro({micros}, 'UTC')"));
        }
    }
    Some(condition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_range_are_those_of_its_table_and_times() {
        let range = |table, from, until| TableRange { table, from, until };
        let within = |range: &TableRange| events_within(range).unwrap();
        assert_eq!(
            within(&range(SourceTable::Transactions, Some(5), Some(7))),
            "leg = 0 AND event_time >= fromUnixTimestamp64Micro(5, 'UTC') AND event_time < fromUnixTimestamp64Micro(7, 'UTC')"
        );
        assert_eq!(within(&range(SourceTable::InternalTransfers, None, None)), "leg > 0");
        assert!(within(&range(SourceTable::Transactions, Some(-9), Some(i64::MAX))).contains("(0, 'UTC')"));
        assert!(events_within(&range(SourceTable::TokenTransfers, None, None)).is_none());
    }

    /// One row with metadata.
    struct OneRow;

    impl Rows for OneRow {
        fn len(&self) -> usize {
            1
        }

        fn for_each(
            &self,
            visit: &mut dyn FnMut(&Event<'_>) -> Result<(), SidecarError>,
        ) -> Result<Vec<Rejected>, SidecarError> {
            let metadata = Some(r#"{"a": 1}"#.into());
            visit(&Event { metadata, deleted: false, ..Event::of_key(0, "n", "h", "s", None) }).map(|()| Vec::new())
        }
    }

    #[test]
    fn documents_that_a_server_refuses_are_sent_as_text() {
        let refused = |text: &str| refuses_document(&clickhouse::error::Error::BadResponse(text.into()));
        assert!(refused("Code: 117. DB::Exception: Cannot parse JSON object here: {}"));
        assert!(!refused("Code: 252. DB::Exception: Too many parts"));
        let stamp = Stamp { version: 1, generation: 0, counting: CountingMode::PerRow };
        let sent = |form| {
            let packed = Packed::new(&OneRow, stamp, &[], form).unwrap();
            String::from_utf8_lossy(&packed.pieces.concat()).into_owned()
        };
        assert!(sent(MetadataForm::Document).contains(r#"{"a": 1}"#));
        assert!(sent(MetadataForm::Text).contains(r#"{"text":"{\"a\": 1}"}"#));
    }

    #[test]
    fn quotes_in_names_are_escaped() {
        assert_eq!(quoted("chain"), "`chain`");
        assert_eq!(quoted("a`b\\"), "`a\\`b\\\\`");
    }
}
