//! One pass of the feed, step by step. Owns the order of the steps, which makes a crash at any
//! point harmless.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::model::{Chunk, FeedState, FirstLoad, Hour, Rejected, Rows, SourcePosition, Stage, TableRange};
use super::ports::{Confirmation, CountingMode, Delivery, Ledger, Outcome, Reader, Sink, Source};
use super::standing::{FedBy, Standing};
use crate::error::SidecarError;

/// Parameters of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PassOptions<'a> {
    /// Rows of a chunk in memory.
    pub chunk_rows: u32,
    /// Concurrent readers of a first load.
    pub load_workers: u32,
    /// Check that the sink has the confirmed position even if there is nothing to feed, because it
    /// may have been replaced since the last connection.
    pub checks_sink: bool,
    /// Interval at which a load records its chunks.
    pub record_interval: Duration,
    /// The source whose tables this one may take over, by [`SourcePosition::source_id`].
    pub take_over_from: Option<&'a str>,
}

/// The work of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PassReport {
    /// Everything was loaded.
    pub full: bool,
    /// Reason for which the tables in ClickHouse could not be continued.
    pub restart: Option<&'static str>,
    /// Rows inserted, without tombstones.
    pub rows: u64,
    /// Tombstones of rows that were changed or deleted.
    pub tombstones: u64,
    pub reloaded: usize,
    /// Ranges of tables that were loaded again, as after partitions were attached or detached.
    pub ranges: usize,
    /// Aggregates were recomputed.
    pub repaired: bool,
    /// Rows of the source that the sink cannot hold.
    pub set_aside: u64,
    pub elapsed: Duration,
}

impl PassReport {
    fn idle(set_aside: u64, started: Instant) -> Self {
        let elapsed = started.elapsed();
        Self {
            full: false,
            restart: None,
            rows: 0,
            tombstones: 0,
            reloaded: 0,
            ranges: 0,
            repaired: false,
            set_aside,
            elapsed,
        }
    }

    /// Returns whether there was nothing to carry.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        !self.full && self.rows == 0 && self.tombstones == 0 && self.reloaded == 0 && self.ranges == 0
    }
}

/// Returns the version of an attempt's tombstones. Its rows have the next one.
const fn tombstone_version(attempt: u64) -> u64 {
    attempt * 2
}

/// Carries the rows that became visible since the last pass, or all rows when the position of the
/// last pass is unknown to the source or the sink.
///
/// # Errors
/// [`SidecarError::ForeignTables`] when another database has fed the sink since; errors of the
/// servers. A failed pass may be run again.
pub(super) async fn run_pass<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions<'_>,
) -> Outcome<PassReport> {
    let started = Instant::now();
    let (report, is_behind) = run_step(source, sink, ledger, options, started).await?;
    if !is_behind {
        return Ok(report);
    }
    // A resumed load reads the source as it was when the load began.
    let (rest, _) = run_step(source, sink, ledger, options, started).await?;
    Ok(PassReport { full: true, restart: report.restart, rows: report.rows + rest.rows, ..rest })
}

/// Runs a pass. Returns true if the source has changed since the snapshot that was carried.
async fn run_step<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions<'_>,
    started: Instant,
) -> Outcome<(PassReport, bool)> {
    let state = ledger.state().await?;
    let position = source.open().await?;
    let is_before = |stored: &SourcePosition| {
        state.load.is_none() && (stored.is_comparable_with(&position) || stored.may_be_upgraded_to(&position))
    };
    let mut before = state.position.as_ref().filter(|before| is_before(before));
    let events = match before {
        Some(before) => source.events(before).await?,
        None => None,
    };
    before = before.filter(|_| events.is_some());
    let ranges = events.unwrap_or_default();
    let reloads = if before.is_some() { source.reloads().await? } else { Vec::new() };
    let is_settled = state.attempt == state.confirmed && reloads.is_empty() && ranges.is_empty();
    let is_idle = match before {
        Some(before) => is_settled && !source.has_changes(&before.snapshot).await?,
        None => false,
    };
    if is_idle && !options.checks_sink {
        source.close().await?;
        return Ok((PassReport::idle(state.set_aside, started), false));
    }
    let is_same_load =
        |load: &&FirstLoad| load.position.is_comparable_with(&position) && load.position.epoch == position.epoch;
    let load = state.load.as_ref().filter(is_same_load);
    let expected = before.map(|before| before.snapshot.clone()).or(load.map(|load| load_marker(&load.position)));
    let fed_as = before.unwrap_or(&position).source_id();
    let marks = sink.marks(&fed_as, &expected.unwrap_or_default()).await?;
    let standing = marks.standing(&position, &state.remembered(&position));
    if let Standing::Foreign { owner } = &standing
        && options.take_over_from != Some(&*owner.source_id)
    {
        source.close().await?;
        return Err(foreign(owner, &position));
    }
    let is_known = standing.is_own() && marks.has_position;
    if let Some(before) = before.filter(|_| is_known) {
        if is_idle {
            source.close().await?;
            return Ok((PassReport::idle(state.set_aside, started), false));
        }
        let since = before.snapshot.clone();
        let start = IncrementalStart { since, position, reloads, ranges, started };
        return Ok((run_incremental(source, sink, ledger, options, &state, start).await?, false));
    }
    report_standing(&standing, state.attempt);
    let plan = LoadPlan { resumed: load.filter(|_| is_known), floor: marks.latest_attempt(), position, started };
    let (report, has_changed) = load_all(source, sink, ledger, options, plan).await?;
    Ok((PassReport { restart: standing.restart(), ..report }, has_changed))
}

/// Returns the error of a source that would write into the tables of another.
pub(crate) fn foreign(owner: &FedBy, position: &SourcePosition) -> SidecarError {
    SidecarError::ForeignTables {
        owner: owner.database.clone(),
        owner_id: owner.source_id.clone(),
        database: position.database.clone(),
        source_id: position.source_id(),
    }
}

/// Logs why everything is loaded again.
fn report_standing(standing: &Standing, remembered: u64) {
    match standing {
        Standing::Own | Standing::Upgraded => {}
        Standing::WentBack { seen } => tracing::warn!(
            seen,
            remembered,
            "PostgreSQL went back: ClickHouse has seen later attempts of the feed; everything is loaded again"
        ),
        Standing::Replaced { former } => tracing::warn!(
            former = former.source_id,
            "another database of the same name was fed to ClickHouse; everything is loaded again"
        ),
        Standing::Foreign { owner } => tracing::warn!(
            owner = owner.source_id,
            database = owner.database,
            "the tables of another database are taken over; everything is loaded"
        ),
    }
}

/// Input of an incremental pass.
struct IncrementalStart {
    since: String,
    position: SourcePosition,
    reloads: Vec<Hour>,
    ranges: Vec<TableRange>,
    started: Instant,
}

/// Carries the rows that became visible since the last pass.
async fn run_incremental<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions<'_>,
    state: &FeedState,
    IncrementalStart { since, position, reloads, ranges, started }: IncrementalStart,
) -> Outcome<PassReport> {
    // Views may have counted rows of an interrupted attempt, so a repair counts now.
    let is_recovery = state.attempt != state.confirmed;
    let attempt = ledger.begin(0).await?;
    sink.begin_attempt(&position, attempt).await?;
    let current = tombstone_version(attempt);
    sink.add_columns(source.extra_columns()).await?;
    // An interrupted load may have left the views paused, even one that this database does not know
    // of because it was restored.
    sink.resume_views().await?;
    let token_prefix = token_prefix(&position, attempt);

    let (snapshot, chunk_rows) = (&position.snapshot, options.chunk_rows);
    source.start(&Stage::FormerRows(since.clone())).await?;
    let former = Delivery { version: current, counting: CountingMode::Repair, token: format!("{token_prefix}/former") };
    let (tombstones, _) = transfer(source, sink, ledger, &former, snapshot, chunk_rows).await?;
    if !reloads.is_empty() {
        sink.retract_hours(&reloads, current).await?;
    }
    if !ranges.is_empty() {
        sink.retract_ranges(&ranges, current).await?;
    }
    let reads_again = !reloads.is_empty() || !ranges.is_empty();
    if reads_again {
        ledger.forget_set_aside(&reloads, &ranges).await?;
    }
    source.start(&Stage::Changed(since.clone())).await?;
    let counting = if is_recovery { CountingMode::Repair } else { CountingMode::PerRow };
    let changed = Delivery { version: current + 1, counting, token: format!("{token_prefix}/changed") };
    let (mut rows, to_repair) = transfer(source, sink, ledger, &changed, snapshot, chunk_rows).await?;
    let range_count = ranges.len();
    let again =
        [(!reloads.is_empty(), Stage::Reloaded, "reloaded"), (!ranges.is_empty(), Stage::Ranges(ranges), "ranges")];
    for (_, stage, name) in again.into_iter().filter(|(is_due, ..)| *is_due) {
        source.start(&stage).await?;
        let token = format!("{token_prefix}/{name}");
        let delivery = Delivery { version: current + 1, counting: CountingMode::Repair, token };
        rows += transfer(source, sink, ledger, &delivery, snapshot, chunk_rows).await?.0;
    }
    source.close().await?;
    let repaired = tombstones > 0 || to_repair > 0 || is_recovery || reads_again;
    let first_uncounted = tombstone_version(state.confirmed + 1);
    if repaired {
        sink.repair(first_uncounted, current, attempt).await?;
    }
    if repaired || rows > 0 {
        sink.settle(Some(first_uncounted), current + 1).await?;
    }
    // The sink records the position before the confirmation: a confirmed position that the sink
    // does not have would cost a full load.
    sink.record_position(&position, attempt).await?;
    sink.make_durable().await?;
    let reloaded = reloads.len();
    let since = Some(since);
    let set_aside = ledger.confirm(&Confirmation { attempt, position, since, rows, reloaded: reloads }).await?;
    Ok(PassReport {
        full: false,
        restart: None,
        rows,
        tombstones,
        reloaded,
        ranges: range_count,
        repaired,
        set_aside,
        elapsed: started.elapsed(),
    })
}

/// Moves the started stage into the sink, and sets aside what it cannot hold. The next chunk is
/// read while the current one is being inserted. Returns the rows that were inserted, and those of
/// them that a repair has to count.
async fn transfer<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    delivery: &Delivery,
    snapshot: &str,
    chunk_rows: u32,
) -> Outcome<(u64, u64)> {
    let (mut rows, mut to_repair) = (0_u64, 0_u64);
    let mut chunk = source.next(chunk_rows).await?;
    let mut number = 0_u32;
    while !chunk.is_empty() {
        let numbered = Delivery { token: format!("{}/{number}", delivery.token), ..delivery.clone() };
        let (inserted, next) = tokio::join!(sink.insert(&numbered, &chunk), source.next(chunk_rows));
        let inserted = inserted?;
        rows += inserted.rows;
        to_repair += inserted.to_repair;
        if !inserted.rejected.is_empty() {
            ledger.set_aside(&inserted.rejected, snapshot).await?;
        }
        chunk = next?;
        number += 1;
    }
    Ok((rows, to_repair))
}

/// Returns the beginning of the tokens of an attempt. A database that went back in time gives out
/// the numbers of its attempts again, so the tokens contain a random number as well: the sink would
/// skip rows whose token it knows.
fn token_prefix(position: &SourcePosition, attempt: u64) -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("{}/{attempt}/{random:016x}", position.source_id())
}

/// Input of a full load.
struct LoadPlan<'a> {
    /// An interrupted load that goes on.
    resumed: Option<&'a FirstLoad>,
    /// The latest attempt that the sink has seen.
    floor: u64,
    position: SourcePosition,
    started: Instant,
}

/// Loads everything, or resumes an interrupted load. Returns true if the load was resumed.
async fn load_all<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions<'_>,
    LoadPlan { resumed, floor, position, started }: LoadPlan<'_>,
) -> Outcome<(PassReport, bool)> {
    sink.add_columns(source.extra_columns()).await?;
    let (load, attempt) = match resumed {
        Some(load) => {
            let attempt = ledger.begin(0).await?;
            sink.begin_attempt(&position, attempt).await?;
            (load.clone(), attempt)
        }
        None => {
            // Rows of another source, or of this one before it was restored, must lose as well.
            let attempt = ledger.begin(floor.max(sink.highest_version().await?.div_ceil(2))).await?;
            sink.begin_attempt(&position, attempt).await?;
            let load = FirstLoad { attempt, position: position.clone(), pending: source.chunks().await?, rows: 0 };
            sink.record_position(&SourcePosition { snapshot: load_marker(&position), ..position }, attempt).await?;
            ledger.begin_load(&load).await?;
            (load, attempt)
        }
    };
    sink.pause_views().await?;
    let rows = match load_chunks(source, sink, ledger, options, &load, attempt).await {
        Err(error @ SidecarError::Rewritten { .. }) => {
            // The next pass plans a new load.
            ledger.drop_load().await?;
            return Err(error);
        }
        rows => load.rows + rows?,
    };
    source.close().await?;
    // The views have to carry the tombstones of the next step to received_transactions.
    sink.resume_views().await?;
    let version = tombstone_version(load.attempt);
    sink.remove_older(version).await?;
    sink.rebuild(attempt, version + 1).await?;
    sink.settle(None, tombstone_version(attempt) + 1).await?;
    sink.record_position(&load.position, attempt).await?;
    sink.make_durable().await?;
    let is_resumed = attempt != load.attempt;
    let confirmation = Confirmation { attempt, position: load.position, since: None, rows, reloaded: Vec::new() };
    let set_aside = ledger.confirm(&confirmation).await?;
    let elapsed = started.elapsed();
    Ok((
        PassReport {
            full: true,
            restart: None,
            rows,
            tombstones: 0,
            reloaded: 0,
            ranges: 0,
            repaired: true,
            set_aside,
            elapsed,
        },
        is_resumed,
    ))
}

/// Returns the snapshot that the sink records while a load is in progress.
fn load_marker(position: &SourcePosition) -> String {
    format!("load {}", position.snapshot)
}

async fn load_chunks<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions<'_>,
    load: &FirstLoad,
    attempt: u64,
) -> Outcome<u64> {
    let mut pending = load.pending.iter();
    let workers = options.load_workers.min(u32::try_from(load.pending.len()).unwrap_or(u32::MAX));
    // The token names this attempt: the rows of a chunk that are left may differ from those that an
    // earlier attempt inserted under its own token.
    let token_prefix = format!("{}/chunk", token_prefix(&load.position, attempt));
    let version = tombstone_version(load.attempt) + 1;
    let delivery_of = |chunk: &Chunk| Delivery {
        version,
        counting: CountingMode::Rebuild,
        token: format!("{token_prefix}/{}", chunk.number),
    };
    // Chunks are separate tasks: sorting and packing one takes a processor for some time, and must
    // not stop the other readers.
    let mut total = 0;
    let mut running = JoinSet::new();
    for reader in source.readers(workers, &load.position.snapshot).await? {
        if let Some(chunk) = pending.next() {
            running.spawn(load_chunk(reader, sink.clone(), chunk.clone(), delivery_of(chunk), options.chunk_rows));
        }
    }
    let (mut finished, mut recorded) = (Vec::new(), Instant::now());
    while let Some(joined) = running.join_next().await {
        let loaded = match joined {
            Ok(loaded) => loaded,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let progress = match loaded {
            Ok(LoadedChunk { reader, chunk, rows, rejected }) => {
                if let Some(chunk) = pending.next() {
                    let delivery = delivery_of(chunk);
                    running.spawn(load_chunk(reader, sink.clone(), chunk.clone(), delivery, options.chunk_rows));
                }
                finished.push(FinishedChunk { chunk, rows, rejected });
                if recorded.elapsed() >= options.record_interval {
                    recorded = Instant::now();
                    record_chunks(sink, ledger, &mut finished).await
                } else {
                    Ok(0)
                }
            }
            Err(error) => Err(error),
        };
        match progress {
            Ok(rows) => total += rows,
            Err(error) => {
                // No task of a failed attempt may still run when the next attempt begins.
                running.shutdown().await;
                return Err(error);
            }
        }
    }
    Ok(total + record_chunks(sink, ledger, &mut finished).await?)
}

/// Records chunks that the sink has, once a loss of power cannot take them. Returns their rows.
async fn record_chunks<K: Sink, L: Ledger>(
    sink: &mut K,
    ledger: &mut L,
    finished: &mut Vec<FinishedChunk>,
) -> Outcome<u64> {
    sink.make_durable().await?;
    let mut total = 0;
    for FinishedChunk { chunk, rows, rejected } in finished.drain(..) {
        ledger.finish_chunk(&chunk, rows, &rejected).await?;
        total += rows;
    }
    Ok(total)
}

/// A chunk that the sink has.
struct FinishedChunk {
    chunk: Chunk,
    rows: u64,
    rejected: Vec<Rejected>,
}

/// A chunk that a reader has moved into the sink.
struct LoadedChunk<R> {
    reader: R,
    chunk: Chunk,
    rows: u64,
    rejected: Vec<Rejected>,
}

async fn load_chunk<R: Reader, K: Sink>(
    mut reader: R,
    mut sink: K,
    chunk: Chunk,
    delivery: Delivery,
    chunk_rows: u32,
) -> Outcome<LoadedChunk<R>> {
    reader.start(&chunk).await?;
    let mut read = reader.next(chunk_rows).await?;
    let (mut rows, mut rejected, mut part) = (0, Vec::new(), 0_u32);
    while !read.is_empty() {
        let numbered = Delivery { token: format!("{}/{part}", delivery.token), ..delivery.clone() };
        let (inserted, next) = tokio::join!(sink.insert(&numbered, &read), reader.next(chunk_rows));
        let inserted = inserted?;
        rows += inserted.rows;
        rejected.extend(inserted.rejected);
        read = next?;
        part += 1;
    }
    reader.finish(&chunk).await?;
    Ok(LoadedChunk { reader, chunk, rows, rejected })
}
