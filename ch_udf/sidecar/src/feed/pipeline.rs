//! One pass of the feed, step by step. Owns the order of the steps, which is what makes a crash
//! harmless.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::model::{Chunk, FirstLoad, Hour, Mark, Rows, Stage, Stored};
use super::ports::{Confirmation, Counting, Delivery, Ledger, Outcome, Reader, Sink, Source};
use crate::error::SidecarError;

/// How a pass goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PassOptions {
    /// Rows of a chunk in memory.
    pub chunk_rows: u32,
    /// Readers of a first load.
    pub load_workers: u32,
    /// Ask the sink whether it is the one that was fed, even if there is nothing to feed. Who has
    /// just connected cannot know.
    pub asks_sink: bool,
}

/// What a pass did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PassReport {
    /// Whether everything was loaded anew.
    pub full: bool,
    /// Rows put into ClickHouse as they are now.
    pub rows: u64,
    /// Former keys taken back.
    pub tombstones: u64,
    /// Hours loaded again.
    pub reloaded: usize,
    /// Whether aggregates were computed anew.
    pub repaired: bool,
    /// How long it took.
    pub elapsed: Duration,
}

impl PassReport {
    fn idle(started: Instant) -> Self {
        Self { full: false, rows: 0, tombstones: 0, reloaded: 0, repaired: false, elapsed: started.elapsed() }
    }

    /// Whether there was nothing to carry.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        !self.full && self.rows == 0 && self.tombstones == 0 && self.reloaded == 0
    }
}

/// Version of the tombstones of an attempt; its rows have the next one.
const fn tombstone_version(attempt: u64) -> u64 {
    attempt * 2
}

/// Carries what became visible since the last pass (or everything, when that cannot be told).
///
/// # Errors
/// Whatever a server refuses. A pass that failed anywhere may simply be run again.
pub(super) async fn run_pass<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions,
) -> Outcome<PassReport> {
    let started = Instant::now();
    let (report, is_behind) = step(source, sink, ledger, options, started).await?;
    if !is_behind {
        return Ok(report);
    }
    // A load that went on from where it was cut off shows the source as it was when it began.
    let (rest, _) = step(source, sink, ledger, options, started).await?;
    Ok(PassReport { full: true, rows: report.rows + rest.rows, ..rest })
}

/// A pass, and whether the source has gone on since what it shows.
async fn step<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions,
    started: Instant,
) -> Outcome<(PassReport, bool)> {
    let stored = ledger.stored().await?;
    let mark = source.open().await?;
    let before = stored.mark.as_ref().filter(|before| stored.load.is_none() && before.is_of_same_source(&mark));
    if let Some(before) = before {
        let reloads = source.reloads().await?;
        let is_level = stored.attempt == stored.confirmed && reloads.is_empty();
        let is_idle = is_level && !source.has_news(&before.position).await?;
        if is_idle && !options.asks_sink {
            source.close().await?;
            return Ok((PassReport::idle(started), false));
        }
        if sink.holds(&mark.source(), &before.position).await? {
            if is_idle {
                source.close().await?;
                return Ok((PassReport::idle(started), false));
            }
            let since = before.position.clone();
            let following = Following { since, mark, reloads, started };
            return Ok((follow(source, sink, ledger, options, &stored, following).await?, false));
        }
    }
    load(source, sink, ledger, options, &stored, mark, started).await
}

/// What a pass that follows another one starts from.
struct Following {
    since: String,
    mark: Mark,
    reloads: Vec<Hour>,
    started: Instant,
}

/// Carries what became visible since the last pass.
async fn follow<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions,
    stored: &Stored,
    Following { since, mark, reloads, started }: Following,
) -> Outcome<PassReport> {
    // What a pass that was cut off put in, views may have counted: now a repair counts.
    let is_recovery = stored.attempt != stored.confirmed;
    let attempt = ledger.begin(0).await?;
    let current = tombstone_version(attempt);
    sink.prepare(source.further_columns()).await?;
    // a load that was cut off, and is none of this database as it was restored, may have left them
    // at rest
    sink.resume_views().await?;
    let named = format!("{}/{attempt}", mark.source());

    source.start(&Stage::FormerSelves(since.clone())).await?;
    let taken_back = Delivery { version: current, counting: Counting::ByRepair, token: format!("{named}/former") };
    let (tombstones, _) = carry(source, sink, &taken_back, options.chunk_rows).await?;
    if !reloads.is_empty() {
        sink.take_back(&reloads, current).await?;
    }
    source.start(&Stage::Changed(since)).await?;
    let counting = if is_recovery { Counting::ByRepair } else { Counting::AsMarked };
    let changed = Delivery { version: current + 1, counting, token: format!("{named}/changed") };
    let (mut rows, to_repair) = carry(source, sink, &changed, options.chunk_rows).await?;
    if !reloads.is_empty() {
        source.start(&Stage::Reloaded).await?;
        let again = Delivery { version: current + 1, counting: Counting::ByRepair, token: format!("{named}/reloaded") };
        rows += carry(source, sink, &again, options.chunk_rows).await?.0;
    }
    source.close().await?;
    let repaired = tombstones > 0 || to_repair > 0 || is_recovery || !reloads.is_empty();
    let uncounted = tombstone_version(stored.confirmed + 1);
    if repaired {
        sink.repair(uncounted, current, attempt).await?;
    }
    if repaired || rows > 0 {
        sink.settle(Some(uncounted), current + 1).await?;
    }
    // Before the confirmation: a confirmed position that is not marked here would cost a full load.
    sink.mark(&mark, attempt).await?;
    let reloaded = reloads.len();
    ledger.confirm(&Confirmation { attempt, mark, full: false, rows, reloaded: reloads }).await?;
    Ok(PassReport { full: false, rows, tombstones, reloaded, repaired, elapsed: started.elapsed() })
}

/// Moves the started stage into the sink: one chunk is read while the one before is being inserted.
async fn carry<S: Source, K: Sink>(
    source: &mut S,
    sink: &mut K,
    delivery: &Delivery,
    chunk_rows: u32,
) -> Outcome<(u64, u64)> {
    let (mut carried, mut to_repair) = (0_u64, 0_u64);
    let mut chunk = source.next(chunk_rows).await?;
    let mut number = 0_u32;
    while !chunk.is_empty() {
        carried += chunk.len() as u64;
        let numbered = Delivery { token: format!("{}/{number}", delivery.token), ..delivery.clone() };
        let (inserted, next) = tokio::join!(sink.insert(&numbered, &chunk), source.next(chunk_rows));
        to_repair += inserted?;
        chunk = next?;
        number += 1;
    }
    Ok((carried, to_repair))
}

/// Loads everything, or goes on with a load that was cut off.
async fn load<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    options: PassOptions,
    stored: &Stored,
    mark: Mark,
    started: Instant,
) -> Outcome<(PassReport, bool)> {
    sink.prepare(source.further_columns()).await?;
    let (load, attempt) = match &stored.load {
        Some(load)
            if load.mark.is_of_same_source(&mark) && sink.holds(&load.mark.source(), &of_load(&load.mark)).await? =>
        {
            (load.clone(), ledger.begin(0).await?)
        }
        Some(_) | None => {
            // What another source, or this one before it was restored, left in the sink must lose
            // as well.
            let attempt = ledger.begin(sink.highest_version().await?.div_ceil(2)).await?;
            let load = FirstLoad { attempt, mark: mark.clone(), pending: source.chunks().await?, rows: 0 };
            sink.mark(&Mark { position: of_load(&mark), ..mark }, attempt).await?;
            ledger.begin_load(&load).await?;
            (load, attempt)
        }
    };
    sink.pause_views().await?;
    let rows = match load_chunks(source, sink, ledger, options, &load, attempt).await {
        Err(error @ SidecarError::Rewritten { .. }) => {
            // the next pass plans anew
            ledger.drop_load().await?;
            return Err(error);
        }
        rows => load.rows + rows?,
    };
    source.close().await?;
    // what is taken back now, the views carry to those who sort it by receiver
    sink.resume_views().await?;
    let version = tombstone_version(load.attempt);
    sink.remove_older(version).await?;
    sink.rebuild(attempt, version + 1).await?;
    sink.settle(None, tombstone_version(attempt) + 1).await?;
    sink.mark(&load.mark, attempt).await?;
    let goes_on = attempt != load.attempt;
    ledger.confirm(&Confirmation { attempt, mark: load.mark, full: true, rows, reloaded: Vec::new() }).await?;
    let elapsed = started.elapsed();
    Ok((PassReport { full: true, rows, tombstones: 0, reloaded: 0, repaired: true, elapsed }, goes_on))
}

/// What the sink is marked with while a load goes on.
fn of_load(mark: &Mark) -> String {
    format!("load {}", mark.position)
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
    // Named after this attempt: what is left of a chunk may be other rows than those that an
    // earlier one put in under its name.
    let named = format!("{}/{attempt}/chunk", load.mark.source());
    let version = tombstone_version(load.attempt) + 1;
    let to_deliver =
        |chunk: &Chunk| Delivery { version, counting: Counting::ByRebuild, token: format!("{named}/{}", chunk.number) };
    // Tasks of their own: sorting and packing a chunk takes a processor for some time, and must not
    // stop the other readers.
    let mut running = JoinSet::new();
    for reader in source.readers(workers, &load.mark.position).await? {
        if let Some(chunk) = pending.next() {
            running.spawn(load_chunk(reader, sink.clone(), chunk.clone(), to_deliver(chunk), options.chunk_rows));
        }
    }
    let mut total = 0;
    while let Some(ended) = running.join_next().await {
        let loaded = match ended {
            Ok(loaded) => note(ledger, loaded).await,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let (reader, rows) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                // nothing of a failed attempt may still be at work when the next one begins
                running.shutdown().await;
                return Err(error);
            }
        };
        total += rows;
        if let Some(chunk) = pending.next() {
            running.spawn(load_chunk(reader, sink.clone(), chunk.clone(), to_deliver(chunk), options.chunk_rows));
        }
    }
    Ok(total)
}

/// Notes a chunk that is in.
async fn note<R, L: Ledger>(ledger: &mut L, loaded: Outcome<(R, Chunk, u64)>) -> Outcome<(R, u64)> {
    let (reader, chunk, rows) = loaded?;
    ledger.chunk_done(&chunk, rows).await?;
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
