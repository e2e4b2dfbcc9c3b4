//! Transactions as versioned events in ClickHouse, and the aggregates repaired that a change
//! touched.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clickhouse::{Client, Row};
use futures_util::future::join_all;
use serde::Serialize;

use super::super::model::{Counted, FurtherColumn, Hour, Mark, Month, Rows};
use super::super::ports::{Counting, Delivery, Sink};
use super::native::{Block, Stamp, Used, type_of};
use crate::error::{Chain, Doing, SidecarError};
use crate::retry::Retrier;
use crate::warehouse::{
    AGGREGATES, Months, Repair, Shape, Topology, ValidGenerations, all_months, fill_received, group_months,
    touched_months,
};

/// Hours of one statement: some 40 bytes each, well below [`QUERY_BYTES`].
const HOURS_A_STATEMENT: usize = 4_000;

/// Longest statement; ClickHouse's own limit is 256 KiB.
const QUERY_BYTES: &str = "1048576";

/// Marks kept a source; see `sql/clickhouse/11_feed.sql`.
const SLOTS: u64 = 64;

/// Memory beyond which the states of a month are grouped on disk.
const GROUP_BYTES: &str = "536870912";

/// Rows of the months that one statement of a repair looks at, unless one month alone has more.
const MONTHS_ROWS: u64 = 500_000;

/// Writes into the tables of `sql/clickhouse`.
#[derive(Clone)]
pub(crate) struct ClickHouseSink {
    topology: Arc<Topology>,
    valid: Arc<Mutex<ValidGenerations>>,
    further: Arc<[FurtherColumn]>,
    /// Whether the views are known to count what arrives.
    is_counting: bool,
    /// Whether an insert that fails is tried again where it is. An embedded engine that died comes
    /// back at another address.
    is_patient: bool,
}

impl std::fmt::Debug for ClickHouseSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickHouseSink").field("topology", &self.topology).finish_non_exhaustive()
    }
}

impl ClickHouseSink {
    /// Uses tables that are there.
    ///
    /// # Errors
    /// [`SidecarError::ClickHouse`].
    pub(crate) async fn open(topology: Topology, is_patient: bool) -> Result<Self, SidecarError> {
        let valid = topology.valid_generations().await?;
        Ok(Self {
            topology: Arc::new(topology),
            valid: Arc::new(Mutex::new(valid)),
            further: Arc::new([]),
            is_counting: false,
            is_patient,
        })
    }

    /// What it writes to.
    #[must_use]
    pub(crate) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology)
    }

    fn local(&self) -> &'static str {
        self.topology.shape.local()
    }

    /// Runs a statement on each shard.
    async fn on_shards(&self, doing: &'static str, statement: &str) -> Result<(), SidecarError> {
        all_of(self.topology.shards.iter().map(|shard| execute(shard, doing, statement))).await
    }

    /// Runs DDL, one statement after the other, wherever it has to be run.
    async fn define(&self, doing: &'static str, statements: &[String]) -> Result<(), SidecarError> {
        for statement in statements {
            all_of(self.topology.ddl_servers().iter().map(|server| execute(server, doing, statement))).await?;
        }
        Ok(())
    }

    /// An insert that found a first replica busy went to another one of the shard, and is waited
    /// for.
    async fn catch_up(&self) -> Result<(), SidecarError> {
        for statement in self.topology.shape.sync_replicas() {
            self.on_shards("wait for what other replicas received", &statement).await?;
        }
        Ok(())
    }

    /// Which states of the aggregates count.
    fn valid(&self) -> ValidGenerations {
        // two numbers: a holder that panicked cannot have left them half written
        *self.valid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the states of a repair valid, and those below `floor` void.
    async fn publish(&self, generation: u64, floor: u64) -> Result<(), SidecarError> {
        let statement = format!(
            "INSERT INTO aggregate_generations{} (generation, floor) VALUES ({generation}, {floor})",
            self.local()
        );
        self.on_shards("publish a repair", &statement).await?;
        let before = self.valid();
        *self.valid.lock().unwrap_or_else(PoisonError::into_inner) =
            ValidGenerations { generation: before.generation.max(generation), floor: before.floor.max(floor) };
        Ok(())
    }

    async fn send(&self, token: &str, packed: &Packed) -> Result<(), clickhouse::error::Error> {
        let columns = packed.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        // blocks are not put together again
        let (least_rows, least_bytes) = if packed.is_apart { ("0", "0") } else { ("2000000", "1073741824") };
        let mut insert = self
            .topology
            .entry
            .insert_formatted_with(format!("INSERT INTO transaction_events ({columns}) FORMAT Native"))
            .with_setting("insert_deduplication_token", token)
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
            .with_setting("type_json_skip_duplicated_paths", "1")
            .with_setting("distributed_foreground_insert", "1")
            // FINAL does what this would: it would sort and merge each chunk a second time
            .with_setting("optimize_on_insert", "0")
            .with_setting("max_insert_block_size", "2000000")
            .with_setting("min_insert_block_size_rows", least_rows)
            .with_setting("min_insert_block_size_bytes", least_bytes)
            // a chunk of a long history touches more months than the default allows
            .with_setting("max_partitions_per_insert_block", "0")
            .with_timeouts(Some(Duration::from_secs(60)), Some(Duration::from_secs(300)));
        for piece in &packed.pieces {
            insert.send(piece.clone()).await?;
        }
        insert.end().await
    }
}

/// Rows as they are sent.
struct Packed {
    columns: Vec<String>,
    pieces: Vec<Bytes>,
    /// Whether each month is a block of its own.
    is_apart: bool,
    /// Rows that a repair has to count.
    to_repair: u64,
}

impl Packed {
    /// Rows that views count are one block: they are there, and counted, or they are not, and each
    /// block would have ClickHouse plan all views again. Where a rebuild follows, each month is a
    /// block of its own, which need not be cut up into partitions.
    fn new<R: Rows>(rows: &R, stamp: Stamp, further: &[FurtherColumn]) -> Result<Self, SidecarError> {
        let is_apart = stamp.counting == Counting::ByRebuild;
        let mut blocks = vec![Block::with_capacity(rows.len())];
        let (mut month, mut to_repair) = (None::<Month>, 0);
        rows.each(&mut |event| {
            let is_of_another = is_apart && month.as_ref().is_none_or(|month| !month.contains(event.event_time));
            if is_of_another && month.replace(Month::of(event.event_time)).is_some() {
                blocks.push(Block::default());
            }
            to_repair += u64::from(stamp.counting.counted(event.counted) == Counted::ByRepair);
            if let Some(block) = blocks.last_mut() {
                block.push(event, stamp, further);
            }
            Ok(())
        })?;
        let used = blocks.iter().map(Block::used).fold(Used::default(), Used::or);
        let (mut columns, mut pieces) = (Vec::new(), Vec::new());
        for block in blocks {
            let (names, of_block) = block.finish(stamp, used, further);
            columns = names;
            pieces.extend(of_block);
        }
        Ok(Self { columns, pieces, is_apart, to_repair })
    }
}

/// A key never moves between months, so partitions are merged one by one.
fn prepared(client: &Client) -> Client {
    client
        .clone()
        .with_setting("do_not_merge_across_partitions_select_final", "1")
        .with_setting("max_partitions_per_insert_block", "0")
        .with_setting("max_bytes_before_external_group_by", GROUP_BYTES)
        .with_setting("max_query_size", QUERY_BYTES)
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
}

impl Sink for ClickHouseSink {
    async fn holds(&mut self, source: &str, position: &str) -> Result<bool, SidecarError> {
        let table = format!("feed_marks{}", self.local());
        for shard in &self.topology.shards {
            let found: u64 = shard
                .query(&format!("SELECT count() FROM {table} FINAL WHERE source = ? AND position = ?"))
                .bind(source)
                .bind(position)
                .fetch_one()
                .await
                .doing("look for the feed's mark")?;
            if found == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn highest_version(&mut self) -> Result<u64, SidecarError> {
        let query = self.topology.entry.query("SELECT max(version) FROM transaction_events");
        query.fetch_one().await.doing("look for the highest version")
    }

    async fn prepare(&mut self, further: &[FurtherColumn]) -> Result<(), SidecarError> {
        if further == &*self.further {
            return Ok(());
        }
        let doing = "add columns to transaction_events";
        let names: Vec<&str> = further.iter().map(|column| column.name.as_str()).collect();
        let query = "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'transaction_events' \
                     AND has(?, name)";
        let present: Vec<(String, String)> =
            self.topology.entry.query(query).bind(names).fetch_all().await.doing(doing)?;
        for column in further {
            let wanted = type_of(column);
            match present.iter().find(|(name, _)| *name == column.name) {
                Some((_, found)) if found == wanted => {}
                Some((name, found)) => {
                    return Err(SidecarError::Configuration {
                        detail: format!(
                            "column {name} of transaction_events is {found} in ClickHouse and would be {wanted} after PostgreSQL; \
                             drop or rename one of the two"
                        ),
                    });
                }
                None => {
                    self.define(doing, &self.topology.shape.add_column(&quoted(&column.name), wanted)).await?;
                    tracing::info!(column = column.name, r#type = wanted, "a column of PostgreSQL is carried over");
                }
            }
        }
        self.further = further.into();
        Ok(())
    }

    async fn resume_views(&mut self) -> Result<(), SidecarError> {
        if !self.is_counting {
            self.define("let the views count", &self.topology.shape.create_views()?).await?;
            self.is_counting = true;
        }
        Ok(())
    }

    async fn pause_views(&mut self) -> Result<(), SidecarError> {
        self.is_counting = false;
        self.define("let the views rest", &self.topology.shape.drop_views()).await
    }

    async fn insert<R: Rows>(&mut self, delivery: &Delivery, rows: &R) -> Result<u64, SidecarError> {
        let stamp =
            Stamp { version: delivery.version, generation: self.valid().generation, counting: delivery.counting };
        let packed = Packed::new(rows, stamp, &self.further)?;
        let mut retrier = Retrier::default();
        loop {
            let error = match self.send(&delivery.token, &packed).await {
                Ok(()) => return Ok(packed.to_repair),
                Err(source) => SidecarError::ClickHouse { doing: "insert transactions", source },
            };
            // the token makes a second try harmless: what the first one did is not done again
            let delay = if self.is_patient { retrier.delay(&error) } else { None };
            let Some(delay) = delay else { return Err(error) };
            tracing::warn!(error = %Chain(&error), again_in = ?delay, "an insert is tried again");
            tokio::time::sleep(delay).await;
        }
    }

    async fn remove_older(&mut self, version: u64) -> Result<(), SidecarError> {
        self.catch_up().await?;
        let local = self.local();
        all_of(self.topology.shards.iter().map(|shard| remove_older(shard, local, version))).await
    }

    async fn take_back(&mut self, hours: &[Hour], version: u64) -> Result<(), SidecarError> {
        self.catch_up().await?;
        let doing = "take hours back that are loaded again";
        let condition =
            format!("version < {version} AND (network, intDiv(toUnixTimestamp64Micro(event_time), 3600000000)) IN ?");
        let statement = take_back(self.local(), version, &condition);
        for batch in hours.chunks(HOURS_A_STATEMENT) {
            let hours: Vec<(&str, i64)> = batch.iter().map(|hour| (hour.network.as_str(), hour.hours)).collect();
            let shards = self.topology.shards.iter();
            all_of(shards.map(|shard| {
                let query = prepared(shard).query(&statement).bind(&hours);
                async move { query.execute().await.doing(doing) }
            }))
            .await?;
        }
        Ok(())
    }

    async fn repair(&mut self, since: u64, current: u64, generation: u64) -> Result<(), SidecarError> {
        self.catch_up().await?;
        let shape = &self.topology.shape;
        let months = touched_months(shape, since, current);
        let of_months = |months| Repair::Touched { since, current, generation, months };
        let shards = self.topology.shards.iter();
        all_of(shards.map(|shard| compute(shard, "repair the aggregates", shape, &months, of_months))).await?;
        self.publish(generation, 0).await
    }

    async fn rebuild(&mut self, generation: u64, version: u64) -> Result<(), SidecarError> {
        self.catch_up().await?;
        let shape = &self.topology.shape;
        let months = all_months(shape);
        let of_months = |months| Repair::All { generation, version, months };
        all_of(self.topology.shards.iter().map(|shard| fill(shard, shape, &months))).await?;
        let shards = self.topology.shards.iter();
        all_of(shards.map(|shard| compute(shard, "compute the aggregates", shape, &months, of_months))).await?;
        let before = self.valid().generation;
        self.publish(generation, generation).await?;
        if before > 0 {
            for aggregate in &AGGREGATES {
                let statement = format!(
                    "ALTER TABLE {}_states{} DELETE WHERE generation < {generation}",
                    aggregate.name,
                    self.local()
                );
                let shards = self.topology.shards.iter();
                all_of(shards.map(|shard| remove(shard, "remove states that are void", &statement))).await?;
            }
        }
        Ok(())
    }

    async fn settle(&mut self, since: Option<u64>, version: u64) -> Result<(), SidecarError> {
        self.catch_up().await?;
        all_of(AGGREGATES.iter().map(async |aggregate| {
            for statement in aggregate.settle(&self.topology.shape, Some(self.valid()), since, version) {
                execute(&self.topology.entry, "settle the volumes", &statement).await?;
            }
            Ok(())
        }))
        .await
    }

    async fn mark(&mut self, mark: &Mark, attempt: u64) -> Result<(), SidecarError> {
        self.catch_up().await?;
        let doing = "mark the feed's position";
        let source = mark.source();
        let slot = u8::try_from(attempt % SLOTS).unwrap_or_default();
        let table = format!("feed_marks{}", self.local());
        for shard in &self.topology.shards {
            let mut insert = shard.insert::<MarkRow<'_>>(&table).await.doing(doing)?;
            let row = MarkRow { source: &source, slot, attempt, position: &mark.position };
            insert.write(&row).await.doing(doing)?;
            insert.end().await.doing(doing)?;
        }
        Ok(())
    }
}

/// Shards work side by side. All of them are waited for, so that nothing of a failed attempt still
/// runs when the next one begins.
async fn all_of(
    work: impl Iterator<Item = impl Future<Output = Result<(), SidecarError>>>,
) -> Result<(), SidecarError> {
    join_all(work).await.into_iter().collect()
}

async fn execute(shard: &Client, doing: &'static str, statement: &str) -> Result<(), SidecarError> {
    prepared(shard).query_raw(statement).execute().await.doing(doing)
}

async fn numbers<T>(shard: &Client, doing: &'static str, query: &str) -> Result<Vec<T>, SidecarError>
where
    T: clickhouse::RowOwned + clickhouse::RowRead,
{
    prepared(shard).query_raw(query).fetch_all().await.doing(doing)
}

async fn remove_older(shard: &Client, local: &str, version: u64) -> Result<(), SidecarError> {
    let doing = "remove what a full load replaced";
    let query = format!("SELECT count() FROM transaction_events{local} WHERE version < {version}");
    if numbers::<u64>(shard, doing, &query).await?.first() == Some(&0) {
        return Ok(());
    }
    // Tombstones make the answer right at once; the rows themselves go in the background, part by
    // part, which takes the embedded engine 20 s for 60 months.
    execute(shard, doing, &take_back(local, version, &format!("version < {version}"))).await?;
    for table in ["transaction_events", "received_transactions"] {
        remove(shard, doing, &format!("ALTER TABLE {table}{local} DELETE WHERE version < {version}")).await?;
    }
    Ok(())
}

/// Has what nobody sees any more removed in the background.
async fn remove(shard: &Client, doing: &'static str, statement: &str) -> Result<(), SidecarError> {
    execute(&shard.clone().with_setting("mutations_sync", "0"), doing, statement).await
}

/// Puts what was loaded on one shard into the order of receivers, too.
async fn fill(shard: &Client, shape: &Shape, months: &str) -> Result<(), SidecarError> {
    let doing = "sort transactions by receiver";
    let months: Vec<(u32, u64)> = numbers(shard, doing, months).await?;
    for months in group_months(&months, MONTHS_ROWS) {
        execute(shard, doing, &fill_received(shape, &months)).await?;
    }
    Ok(())
}

/// Writes the states of a repair on one shard, some months at a time.
async fn compute(
    shard: &Client,
    doing: &'static str,
    shape: &Shape,
    months: &str,
    of_months: impl Fn(Months) -> Repair,
) -> Result<(), SidecarError> {
    let months: Vec<(u32, u64)> = numbers(shard, doing, months).await?;
    for months in group_months(&months, MONTHS_ROWS) {
        let repair = of_months(months);
        for statement in AGGREGATES.iter().flat_map(|aggregate| aggregate.repair(shape, &repair)) {
            execute(shard, doing, &statement).await?;
        }
    }
    Ok(())
}

/// Tombstones for what a condition finds.
fn take_back(local: &str, version: u64, condition: &str) -> String {
    let same = "event_time, network, tx_hash, block_number, from_address, to_address, value, status";
    format!(
        "INSERT INTO transaction_events{local} ({same}, version, is_deleted, counted) \
         SELECT {same}, {version}, 1, 'repair' FROM transaction_events{local} FINAL WHERE {condition}"
    )
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted("chain"), "`chain`");
        assert_eq!(quoted("a`b\\"), "`a\\`b\\\\`");
    }
}
