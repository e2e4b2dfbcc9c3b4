//! One pass of the feed, step by step. Owns the order of the steps, which is what makes a crash harmless.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::model::{Change, Confirmation, Hour, HourlyVolume, Load, Mark, Stage, Stored, Touched};
use crate::error::SidecarError;

type Outcome<T> = Result<T, SidecarError>;

/// One snapshot of the transactions at a time.
pub trait Source: Send {
    /// Opens a snapshot and says where it stands. An earlier one is closed.
    fn open(&mut self) -> impl Future<Output = Outcome<Mark>> + Send;

    /// Whether the snapshot shows anything that became visible since `position`.
    fn has_news(&mut self, position: &str) -> impl Future<Output = Outcome<bool>> + Send;

    /// Starts reading a stage of the snapshot.
    fn start(&mut self, stage: &Stage) -> impl Future<Output = Outcome<()>> + Send;

    /// The next rows of the stage, at most `limit`; none at its end.
    fn next(&mut self, limit: u32) -> impl Future<Output = Outcome<Vec<Change>>> + Send;

    /// Closes the snapshot.
    fn close(&mut self) -> impl Future<Output = Outcome<()>> + Send;
}

/// Holds versioned events: of a key, the highest version counts, unless it is a tombstone.
pub trait Sink: Send {
    /// Whether everything up to `position` of `source` was put here.
    fn holds(&mut self, source: &str, position: &str) -> impl Future<Output = Outcome<bool>> + Send;

    /// The highest version there is, 0 if there is none.
    fn highest_version(&mut self) -> impl Future<Output = Outcome<u64>> + Send;

    /// Puts rows in under a version.
    fn insert(&mut self, version: u64, rows: Vec<Change>) -> impl Future<Output = Outcome<()>> + Send;

    /// Removes whatever has a lower version.
    fn remove_older(&mut self, version: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Notes that everything up to the mark's position is here.
    fn mark(&mut self, mark: &Mark, attempt: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Volumes of these hours, as far as they have transactions.
    fn hourly_volumes(&mut self, touched: &Touched) -> impl Future<Output = Outcome<Vec<HourlyVolume>>> + Send;
}

/// The feed's state and the volumes, stored together.
pub trait Ledger: Send {
    /// What was confirmed last, and the number of the last attempt.
    fn stored(&mut self) -> impl Future<Output = Outcome<Stored>> + Send;

    /// Stores the intent of an attempt and returns its number: above every earlier one, and above `floor`.
    fn begin(&mut self, floor: u64) -> impl Future<Output = Outcome<u64>> + Send;

    /// Stores the volumes and the new position in one step.
    fn confirm(&mut self, confirmation: &Confirmation) -> impl Future<Output = Outcome<()>> + Send;
}

/// What a pass did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassReport {
    /// Whether everything was loaded anew.
    pub full: bool,
    /// Rows put into ClickHouse as they are now.
    pub rows: u64,
    /// Former keys taken back.
    pub tombstones: u64,
    /// Hours whose volume was written.
    pub hours: usize,
    /// How long it took.
    pub elapsed: Duration,
}

impl PassReport {
    /// Whether there was nothing to carry.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.full && self.rows == 0 && self.tombstones == 0
    }
}

/// Version of the tombstones of an attempt; its rows have the next one.
const fn tombstone_version(attempt: u64) -> u64 {
    attempt * 2
}

/// Carries what became visible since the last pass (or everything, when that cannot be told), `chunk_rows` at a time.
///
/// # Errors
/// Whatever a server refuses. A pass that failed anywhere may simply be run again.
pub async fn run_pass<S: Source, K: Sink, L: Ledger>(
    source: &mut S,
    sink: &mut K,
    ledger: &mut L,
    chunk_rows: u32,
) -> Outcome<PassReport> {
    let started = Instant::now();
    let stored = ledger.stored().await?;
    let mark = source.open().await?;
    let load = choose_load(sink, &stored, &mark).await?;
    if let Load::Since(position) = &load
        && !source.has_news(position).await?
    {
        source.close().await?;
        return Ok(PassReport { full: false, rows: 0, tombstones: 0, hours: 0, elapsed: started.elapsed() });
    }
    let full = load == Load::Full;
    // What another source, or this one before it was restored, left in the sink must lose as well.
    let floor = if full { sink.highest_version().await?.div_ceil(2) } else { 0 };
    let attempt = ledger.begin(floor).await?;
    let version = tombstone_version(attempt);

    let mut hours = BTreeSet::new();
    let mut tombstones = 0;
    if let Load::Since(position) = &load {
        source.start(&Stage::FormerSelves(position.clone())).await?;
        tombstones = carry(source, sink, version, chunk_rows, Some(&mut hours)).await?;
    }
    source.start(&Stage::Rows(load)).await?;
    let rows = carry(source, sink, version + 1, chunk_rows, if full { None } else { Some(&mut hours) }).await?;
    source.close().await?;
    if full {
        sink.remove_older(version).await?;
    }
    let touched = if full { Touched::All } else { Touched::Hours(hours.into_iter().collect()) };
    let volumes = sink.hourly_volumes(&touched).await?;
    // Before the confirmation: a confirmed position that is not marked here would cost a full load.
    sink.mark(&mark, attempt).await?;
    let written = match &touched {
        Touched::All => volumes.len(),
        Touched::Hours(hours) => hours.len(),
    };
    ledger.confirm(&Confirmation { attempt, mark, rows, touched, volumes }).await?;
    Ok(PassReport { full, rows, tombstones, hours: written, elapsed: started.elapsed() })
}

async fn choose_load<K: Sink>(sink: &mut K, stored: &Stored, mark: &Mark) -> Outcome<Load> {
    let Some(position) = stored.comparable_position(mark) else { return Ok(Load::Full) };
    Ok(if sink.holds(&mark.source(), position).await? { Load::Since(position.to_owned()) } else { Load::Full })
}

/// Moves the started stage into the sink: one chunk is read while the one before is being inserted.
async fn carry<S: Source, K: Sink>(
    source: &mut S,
    sink: &mut K,
    version: u64,
    chunk_rows: u32,
    mut hours: Option<&mut BTreeSet<Hour>>,
) -> Outcome<u64> {
    let mut carried = 0_u64;
    let mut chunk = source.next(chunk_rows).await?;
    while !chunk.is_empty() {
        carried += chunk.len() as u64;
        if let Some(hours) = hours.as_deref_mut() {
            note_hours(hours, &chunk);
        }
        let (inserted, next) = tokio::join!(sink.insert(version, chunk), source.next(chunk_rows));
        inserted?;
        chunk = next?;
    }
    Ok(carried)
}

/// Neighbouring rows are mostly of the same hour: only a new one costs an allocation and a look into the set.
fn note_hours(hours: &mut BTreeSet<Hour>, chunk: &[Change]) {
    let mut last: Option<Hour> = None;
    for change in chunk {
        let of_last = last.as_ref().is_some_and(|hour| {
            hour.network == change.network && hour.hours == change.event_time.div_euclid(super::model::HOUR_MICROS)
        });
        if !of_last {
            let hour = change.hour();
            hours.insert(hour.clone());
            last = Some(hour);
        }
    }
}
