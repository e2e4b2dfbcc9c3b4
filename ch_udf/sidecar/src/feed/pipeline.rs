//! One pass of the feed, step by step. Owns the order of the steps, which makes a crash at any
//! point harmless.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::model::{Chunk, FeedState, FirstLoad, Hour, Rows, SourcePosition, Stage};
use super::ports::{Confirmation, CountingMode, Delivery, Ledger, Outcome, Reader, Sink, Source};
use crate::error::SidecarError;

/// Parameters of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PassOptions {
    /// Rows of a chunk in memory.
    pub chunk_rows: u32,
    /// Concurrent readers of a first load.
    pub load_workers: u32,
    /// Check that the sink has the confirmed position even if there is nothing to feed, because it
    /// may have been replaced since the last connection.
    pub checks_sink: bool,
}

/// The work of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PassReport {
    /// Everything was loaded.
    pub full: bool,
    /// Rows inserted, without tombstones.
    pub rows: u64,
    /// Tombstones of rows that were changed or deleted.
    pub tombstones: u64,
    pub reloaded: usize,
    /// Aggregates were recomputed.
    pub repaired: bool,
    pub elapsed: Duration,
}

impl PassReport {
    fn idle(started: Instant) -> Self {
        Self { full: false, rows: 0, tombstones: 0, reloaded: 0, repaired: false, elapsed: started.elapsed() }
    }

    /// Returns whether there was nothing to carry.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        !self.full && self.rows == 0 && self.tombstones == 0 && self.reloaded == 0
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
/// Errors of the servers. A failed pass may be run again.
pub(super) async fn run_pass<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions,
) -> Outcome<PassReport> {
    let started = Instant::now();
    let (report, is_behind) = run_step(source, sink, ledger, options, started).await?;
    if !is_behind {
        return Ok(report);
    }
    // A resumed load reads the source as it was when the load began.
    let (rest, _) = run_step(source, sink, ledger, options, started).await?;
    Ok(PassReport { full: true, rows: report.rows + rest.rows, ..rest })
}

/// Runs a pass. Returns true if the source has changed since the snapshot that was carried.
async fn run_step<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions,
    started: Instant,
) -> Outcome<(PassReport, bool)> {
    let state = ledger.state().await?;
    let position = source.open().await?;
    let before = state.position.as_ref().filter(|before| state.load.is_none() && before.is_comparable_with(&position));
    if let Some(before) = before {
        let reloads = source.reloads().await?;
        let is_settled = state.attempt == state.confirmed && reloads.is_empty();
        let is_idle = is_settled && !source.has_changes(&before.snapshot).await?;
        if is_idle && !options.checks_sink {
            source.close().await?;
            return Ok((PassReport::idle(started), false));
        }
        if sink.has_position(&position.source_id(), &before.snapshot).await? {
            if is_idle {
                source.close().await?;
                return Ok((PassReport::idle(started), false));
            }
            let since = before.snapshot.clone();
            let start = IncrementalStart { since, position, reloads, started };
            return Ok((run_incremental(source, sink, ledger, options, &state, start).await?, false));
        }
    }
    load(source, sink, ledger, options, &state, position, started).await
}

/// Input of an incremental pass.
struct IncrementalStart {
    since: String,
    position: SourcePosition,
    reloads: Vec<Hour>,
    started: Instant,
}

/// Carries the rows that became visible since the last pass.
async fn run_incremental<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions,
    state: &FeedState,
    IncrementalStart { since, position, reloads, started }: IncrementalStart,
) -> Outcome<PassReport> {
    // Views may have counted rows of an interrupted attempt, so a repair counts now.
    let is_recovery = state.attempt != state.confirmed;
    let attempt = ledger.begin(0).await?;
    let current = tombstone_version(attempt);
    sink.add_columns(source.extra_columns()).await?;
    // An interrupted load may have left the views paused, even one that this database does not know
    // of because it was restored.
    sink.resume_views().await?;
    let token_prefix = format!("{}/{attempt}", position.source_id());

    source.start(&Stage::FormerRows(since.clone())).await?;
    let former = Delivery { version: current, counting: CountingMode::Repair, token: format!("{token_prefix}/former") };
    let (tombstones, _) = transfer(source, sink, &former, options.chunk_rows).await?;
    if !reloads.is_empty() {
        sink.retract_hours(&reloads, current).await?;
    }
    source.start(&Stage::Changed(since)).await?;
    let counting = if is_recovery { CountingMode::Repair } else { CountingMode::PerRow };
    let changed = Delivery { version: current + 1, counting, token: format!("{token_prefix}/changed") };
    let (mut rows, to_repair) = transfer(source, sink, &changed, options.chunk_rows).await?;
    if !reloads.is_empty() {
        source.start(&Stage::Reloaded).await?;
        let reloaded = Delivery {
            version: current + 1,
            counting: CountingMode::Repair,
            token: format!("{token_prefix}/reloaded"),
        };
        rows += transfer(source, sink, &reloaded, options.chunk_rows).await?.0;
    }
    source.close().await?;
    let repaired = tombstones > 0 || to_repair > 0 || is_recovery || !reloads.is_empty();
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
    let reloaded = reloads.len();
    ledger.confirm(&Confirmation { attempt, position, full: false, rows, reloaded: reloads }).await?;
    Ok(PassReport { full: false, rows, tombstones, reloaded, repaired, elapsed: started.elapsed() })
}

/// Moves the started stage into the sink. The next chunk is read while the current one is being
/// inserted.
async fn transfer<S: Source, K: Sink>(
    source: &mut S,
    sink: &mut K,
    delivery: &Delivery,
    chunk_rows: u32,
) -> Outcome<(u64, u64)> {
    let (mut rows, mut to_repair) = (0_u64, 0_u64);
    let mut chunk = source.next(chunk_rows).await?;
    let mut number = 0_u32;
    while !chunk.is_empty() {
        rows += chunk.len() as u64;
        let numbered = Delivery { token: format!("{}/{number}", delivery.token), ..delivery.clone() };
        let (inserted, next) = tokio::join!(sink.insert(&numbered, &chunk), source.next(chunk_rows));
        to_repair += inserted?;
        chunk = next?;
        number += 1;
    }
    Ok((rows, to_repair))
}

/// Loads everything, or resumes an interrupted load. Returns true if the load was resumed.
async fn load<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions,
    state: &FeedState,
    position: SourcePosition,
    started: Instant,
) -> Outcome<(PassReport, bool)> {
    sink.add_columns(source.extra_columns()).await?;
    let (load, attempt) = match &state.load {
        Some(load)
            if load.position.is_comparable_with(&position)
                && sink.has_position(&load.position.source_id(), &load_marker(&load.position)).await? =>
        {
            (load.clone(), ledger.begin(0).await?)
        }
        Some(_) | None => {
            // Rows of another source, or of this one before it was restored, must lose as well.
            let attempt = ledger.begin(sink.highest_version().await?.div_ceil(2)).await?;
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
    let is_resumed = attempt != load.attempt;
    ledger.confirm(&Confirmation { attempt, position: load.position, full: true, rows, reloaded: Vec::new() }).await?;
    let elapsed = started.elapsed();
    Ok((PassReport { full: true, rows, tombstones: 0, reloaded: 0, repaired: true, elapsed }, is_resumed))
}

/// Returns the snapshot that the sink records while a load is in progress.
fn load_marker(position: &SourcePosition) -> String {
    format!("load {}", position.snapshot)
}

async fn load_chunks<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &K,
    ledger: &mut L,
    options: PassOptions,
    load: &FirstLoad,
    attempt: u64,
) -> Outcome<u64> {
    let mut pending = load.pending.iter();
    let workers = options.load_workers.min(u32::try_from(load.pending.len()).unwrap_or(u32::MAX));
    // The token names this attempt: the rows of a chunk that are left may differ from those that an
    // earlier attempt inserted under its own token.
    let token_prefix = format!("{}/{attempt}/chunk", load.position.source_id());
    let version = tombstone_version(load.attempt) + 1;
    let delivery_of = |chunk: &Chunk| Delivery {
        version,
        counting: CountingMode::Rebuild,
        token: format!("{token_prefix}/{}", chunk.number),
    };
    // Chunks are separate tasks: sorting and packing one takes a processor for some time, and must
    // not stop the other readers.
    let mut running = JoinSet::new();
    for reader in source.readers(workers, &load.position.snapshot).await? {
        if let Some(chunk) = pending.next() {
            running.spawn(load_chunk(reader, sink.clone(), chunk.clone(), delivery_of(chunk), options.chunk_rows));
        }
    }
    let mut total = 0;
    while let Some(joined) = running.join_next().await {
        let loaded = match joined {
            Ok(loaded) => record_chunk(ledger, loaded).await,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let (reader, rows) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                // No task of a failed attempt may still run when the next attempt begins.
                running.shutdown().await;
                return Err(error);
            }
        };
        total += rows;
        if let Some(chunk) = pending.next() {
            running.spawn(load_chunk(reader, sink.clone(), chunk.clone(), delivery_of(chunk), options.chunk_rows));
        }
    }
    Ok(total)
}

/// Records a chunk that the sink has.
async fn record_chunk<R, L: Ledger>(ledger: &mut L, loaded: Outcome<(R, Chunk, u64)>) -> Outcome<(R, u64)> {
    let (reader, chunk, rows) = loaded?;
    ledger.finish_chunk(&chunk, rows).await?;
    Ok((reader, rows))
}

async fn load_chunk<R: Reader, K: Sink>(
    mut reader: R,
    mut sink: K,
    chunk: Chunk,
    delivery: Delivery,
    chunk_rows: u32,
) -> Outcome<(R, Chunk, u64)> {
    reader.start(&chunk).await?;
    let mut rows = reader.next(chunk_rows).await?;
    let (mut total, mut part) = (0, 0_u32);
    while !rows.is_empty() {
        total += rows.len() as u64;
        let numbered = Delivery { token: format!("{}/{part}", delivery.token), ..delivery.clone() };
        let (inserted, next) = tokio::join!(sink.insert(&numbered, &rows), reader.next(chunk_rows));
        inserted?;
        rows = next?;
        part += 1;
    }
    reader.finish(&chunk).await?;
    Ok((reader, chunk, total))
}
