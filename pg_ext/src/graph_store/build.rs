//! Building a base: from the tables, or from a base and its overlay.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arx_core::graph::{Base, BuildError, Builder, MergePlan, Overlay, Provenance, Snapshot, Upkeep};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::events::settle;
use super::folder::{Lock, MAX_GENERATIONS, Stamp, boot_id};
use super::map::{self, Output, Workspace};
use super::{
    AssetScope, CACHED, Facts, GraphHandle, Interrupts, Location, MappedBase, Stale, catch_up, epoch_of,
    require_intact, require_tables, with_own_bytes,
};
use crate::error::SqlError;
use crate::guc;
use crate::snapshot::{Caller, may_write, oldest_invisible, parse_snapshot, random_seed, relation, snapshot_text};
use crate::spi::{
    Epoch, Table, database_exists, estimated_rows, events_since, every_row, foreign_changes, mark_log, read_epoch,
};
use crate::table_owner::lock_for_reading;
use crate::time::now_micros;

/// Interval between attempts to take a lock that another session holds.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Interval between progress notices of a build.
const NOTICE_INTERVAL: Duration = Duration::from_secs(2);

/// Interval between attempts of a session to merge, when there is no room for it.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Rows between two cancellation checks.
const ROWS_PER_CHECK: u64 = 1 << 16;

/// Result of a refresh.
pub(crate) struct Refreshed {
    pub(crate) facts: Facts,
    pub(crate) merged_rows: usize,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

/// Outcome of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Built from the tables.
    Built,
    /// Merged the overlay into the base.
    Merged,
    /// Wrote the overlay as the delta segment of the base.
    Appended,
    /// Nothing had changed.
    Current,
    /// Another session is building.
    Busy,
}

impl Outcome {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Merged => "merged",
            Self::Appended => "appended",
            Self::Current => "current",
            Self::Busy => "busy",
        }
    }
}

/// Implements `arx.refresh_graph()`: makes a new base, unless nothing has changed.
pub(crate) fn refresh(from_scratch: bool) -> Result<Refreshed, SqlError> {
    require_tables(AssetScope::All)?;
    let started = Instant::now();
    let caller = Caller::current()?;
    if caller.own.is_some() {
        return Err(SqlError::has_written("refresh_graph()"));
    }
    let location = Location::open()?;
    let cached = CACHED.take().map(GraphHandle::without_own_rows);
    let usable = if from_scratch { None } else { location.usable(&caller, AssetScope::All, cached)? };
    let current = match usable {
        Some(handle) => match catch_up(handle, &caller, AssetScope::All) {
            Ok((handle, _)) => Some(handle),
            Err(Stale::Base | Stale::Large | Stale::Epoch) => None,
            Err(Stale::Error(error)) => return Err(error),
        },
        None => None,
    };
    if current.is_none() {
        lock_tables();
    }
    let (handle, merged_rows, outcome) = match (current, try_lock(&location)?) {
        (Some(handle), _) if handle.overlay.is_empty() && !handle.mapped.private => (handle, 0, Outcome::Current),
        (Some(handle), _) if handle.segment_rows > 0 && handle.overlay.rows() == handle.segment_rows => {
            (handle, 0, Outcome::Current)
        }
        (Some(handle), Some(lock)) if handle.fits_segment() => {
            let rows = handle.overlay.rows().abs_diff(handle.segment_rows);
            (append(&location, &caller, handle, &lock)?, rows, Outcome::Appended)
        }
        (Some(handle), Some(lock)) => {
            let rows = handle.overlay.rows();
            (merge(&location, &caller, &handle, &lock)?, rows, Outcome::Merged)
        }
        (None, Some(lock)) => (replace_all(&location, &caller, &lock)?, 0, Outcome::Built),
        (Some(handle), None) => (handle, 0, Outcome::Busy),
        (None, None) => (build(&location, &caller, AssetScope::All)?, 0, Outcome::Busy),
    };
    if outcome == Outcome::Busy {
        notice!("another session is building the graph");
    }
    let facts = handle.facts();
    CACHED.set(Some(handle));
    Ok(Refreshed { facts, merged_rows, outcome, took: started.elapsed() })
}

/// Locks the tables as a reader does. A builder does so before it takes the lock of the folder, and
/// waits for no table while it has that: the server does not see who waits for the folder, so
/// neither `lock_timeout` nor its search for deadlocks would end that wait.
fn lock_tables() {
    for table in Table::ALL {
        lock_for_reading(relation(table.bare_name()));
    }
}

fn try_lock(location: &Location) -> Result<Option<Lock>, SqlError> {
    location.folder.try_lock().map_err(|error| SqlError::io("lock the folder of the graph", &error))
}

/// Returns a base for a caller without one. The first such caller builds it, for all sessions if
/// they may use it; the others wait for it.
pub(super) fn build(location: &Location, caller: &Caller, assets: AssetScope) -> Result<GraphHandle, SqlError> {
    if !may_build_for_all(caller) {
        return from_tables(location, caller, assets, None);
    }
    lock_tables();
    loop {
        if let Some(lock) = try_lock(location)? {
            // Another session may just have finished.
            if let Some(handle) = location.usable(caller, assets, None)? {
                return Ok(handle);
            }
            return from_tables(location, caller, assets, Some(&lock));
        }
        check_for_interrupts!();
        std::thread::sleep(LOCK_POLL_INTERVAL);
        if let Some(handle) = location.usable(caller, assets, None)? {
            return Ok(handle);
        }
    }
}

/// Returns true if the caller sees committed rows only, and may read all of them.
fn may_build_for_all(caller: &Caller) -> bool {
    caller.own.is_none() && may_write() && require_tables(AssetScope::All).is_ok()
}

/// Builds a base for a caller who found the newest one to be wrong, and removes that one.
pub(super) fn replace_damaged(
    location: &Location,
    caller: &Caller,
    assets: AssetScope,
) -> Result<GraphHandle, SqlError> {
    if may_build_for_all(caller) {
        lock_tables();
        if let Some(lock) = try_lock(location)? {
            return replace_all(location, caller, &lock);
        }
    }
    from_tables(location, caller, assets, None)
}

/// Builds a base from the tables and removes all earlier ones. Sessions that have one of them
/// mapped move on to the higher generation.
fn replace_all(location: &Location, caller: &Caller, lock: &Lock) -> Result<GraphHandle, SqlError> {
    let earlier = location.generations()?;
    let handle = from_tables(location, caller, AssetScope::All, Some(lock))?;
    for generation in earlier.into_iter().filter(|_| !handle.mapped.private) {
        remove(location, lock, generation)?;
    }
    Ok(GraphHandle::new(handle.mapped, location.state()?))
}

/// Returns a base for a caller with more changes since the base of a generation than memory holds.
/// The first such caller builds it, and the others wait for it. Only those who must not wait,
/// because they have written, and those who cannot use what was built, build their own.
pub(super) fn build_past_changes(
    location: &Location,
    caller: &Caller,
    assets: AssetScope,
    outgrown: u64,
) -> Result<GraphHandle, SqlError> {
    if !may_build_for_all(caller) {
        return from_tables(location, caller, assets, None);
    }
    lock_tables();
    let mut state = None;
    loop {
        let lock = try_lock(location)?;
        // A file may have been named since the last check.
        let now = location.state()?;
        if state.replace(now) != Some(now)
            && let Some(handle) = location.usable(caller, assets, None)?
            && handle.generation() > outgrown
        {
            match catch_up(handle, caller, assets) {
                Ok((handle, _)) => return Ok(handle),
                Err(Stale::Base | Stale::Large | Stale::Epoch) => {}
                Err(Stale::Error(error)) => return Err(error),
            }
        }
        if let Some(lock) = lock {
            return from_tables(location, caller, assets, Some(&lock));
        }
        check_for_interrupts!();
        std::thread::sleep(LOCK_POLL_INTERVAL);
    }
}

/// Builds a base from the tables: for all sessions with `lock`, otherwise for this caller alone. A
/// private base has no tokens if the caller neither needs nor may read them.
fn from_tables(
    location: &Location,
    caller: &Caller,
    assets: AssetScope,
    lock: Option<&Lock>,
) -> Result<GraphHandle, SqlError> {
    let started = Instant::now();
    let has_tokens = assets == AssetScope::All || require_tables(AssetScope::All).is_ok();
    let tables: &[Table] = if has_tokens { &Table::ALL } else { &Table::NATIVE };
    // The epoch is read before the rows: the next reader notices if it rises meanwhile.
    let epoch = read_epoch()?;
    settle(&events_since(&Epoch { number: 0, seen: Snapshot::new(1, Vec::new()) })?.1);
    let mut builder = Builder::new(workspace(location), random_seed()?)?;
    let mut foreign = foreign_changes(caller.snapshot.xmax(), caller.own)?;
    let mut progress = Progress { noticed: started, expected: None };
    for table in tables {
        every_row(*table, |row, written_by| {
            foreign |= !caller.snapshot.sees(written_by) && caller.own != Some(written_by);
            builder.push_from(table.source(), row)?;
            if builder.transfers() % ROWS_PER_CHECK == 0 {
                check_for_interrupts!();
                progress.report(builder.transfers())?;
            }
            Ok(())
        })?;
    }
    if foreign {
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            "rows bear transaction ids of another cluster, so the graph is built for this call alone",
            "arx",
        )
        .set_hint("Disable the trigger arx_restamp of the table and enable it again: this stamps the rows.")
        .report(PgLogLevel::WARNING);
    }
    let plan = builder.finish(&mut Interrupts)?;
    let shared = lock.filter(|_| !foreign && caller.own.is_none());
    let provenance = provenance(location, caller, &epoch)?;
    let closed = foreign || caller.own.is_some();
    let write = |provenance: &Provenance, out: &Output<'_>| Ok(plan.write(provenance, out, &mut Interrupts)?);
    finish(location, caller, &Draft { provenance, has_tokens, closed, started }, shared, write)
}

/// Progress of a build.
struct Progress {
    noticed: Instant,
    /// Estimated number of rows, once it was needed.
    expected: Option<i64>,
}

impl Progress {
    fn report(&mut self, transfers: u64) -> Result<(), SqlError> {
        if self.noticed.elapsed() >= NOTICE_INTERVAL {
            self.noticed = Instant::now();
            let expected = match self.expected {
                Some(expected) => expected,
                None => *self.expected.insert(estimated_rows()?),
            };
            notice!("building the graph: {transfers} of about {expected} transfers");
        }
        Ok(())
    }
}

/// Properties of a base before it is written.
struct Draft {
    provenance: Provenance,
    has_tokens: bool,
    /// Valid for the caller's snapshot only.
    closed: bool,
    started: Instant,
}

/// Writes a base. It is published if all sessions may use it.
fn finish(
    location: &Location,
    caller: &Caller,
    draft: &Draft,
    shared: Option<&Lock>,
    write: impl FnOnce(&Provenance, &Output<'_>) -> Result<(), SqlError>,
) -> Result<GraphHandle, SqlError> {
    let failed = |error: std::io::Error| SqlError::io("write the file of the graph", &error);
    let shared = match shared {
        Some(lock) if is_newest(location, caller, draft.provenance.epoch)? => Some(lock),
        _ => None,
    };
    let (path, file) = location.folder.unfinished().map_err(failed)?;
    let unfinished = UnfinishedFile(Some(path));
    let mapped = if let Some(lock) = shared {
        let mut mapped = write_and_map(caller, draft, &file, false, write)?;
        if !location.server.in_recovery {
            mark_log()?;
        }
        unfinished.publish(location, lock, draft.provenance.generation).map_err(failed)?;
        // Its new name has changed the stamp. What was written is whole until the machine stops.
        mapped.stamp = Stamp::of(&file).map_err(failed)?;
        drop(location.folder.set_verified(draft.provenance.generation, &mapped.stamp));
        clean_up(location, lock)?;
        mapped
    } else {
        // The file loses its name before it is written, so that a crash of this backend leaves
        // nothing.
        drop(unfinished);
        write_and_map(caller, draft, &file, true, write)?
    };
    Ok(GraphHandle::new(Arc::new(mapped), location.state()?))
}

fn write_and_map(
    caller: &Caller,
    draft: &Draft,
    file: &std::fs::File,
    private: bool,
    write: impl FnOnce(&Provenance, &Output<'_>) -> Result<(), SqlError>,
) -> Result<MappedBase, SqlError> {
    let build_millis = u64::try_from(draft.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    write(&Provenance { build_millis, ..draft.provenance.clone() }, &Output(file))?;
    let failed = |error: std::io::Error| SqlError::io("map the file of the graph", &error);
    let mapped = map::read(file.try_clone().map_err(failed)?).map_err(failed)?;
    let base = Base::open(mapped)?;
    // A workspace on disk may have lost its pages.
    require_intact()?;
    let stamp = Stamp::of(file).map_err(failed)?;
    let snapshot = caller.snapshot.clone();
    let valid_only_for = draft.closed.then(|| caller.clone());
    let epoch = epoch_of(base.provenance());
    Ok(MappedBase { base, snapshot, epoch, private, has_tokens: draft.has_tokens, valid_only_for, stamp })
}

/// A file that is removed when it is dropped, unless it was published.
struct UnfinishedFile(Option<PathBuf>);

impl UnfinishedFile {
    fn publish(mut self, location: &Location, lock: &Lock, generation: u64) -> std::io::Result<()> {
        if let Some(path) = &self.0 {
            location.folder.publish(lock, path, generation)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // If this fails, the next builder sweeps the file away.
            drop(std::fs::remove_file(path));
        }
    }
}

/// Returns false if the newest base is ahead of the caller, whose base must not replace it.
fn is_newest(location: &Location, caller: &Caller, epoch: i64) -> Result<bool, SqlError> {
    let newest = location.newest(0, |_, _| true)?;
    Ok(newest.is_none_or(|newest| newest.base.provenance().epoch <= epoch && caller.snapshot.covers(&newest.snapshot)))
}

fn provenance(location: &Location, caller: &Caller, epoch: &Epoch) -> Result<Provenance, SqlError> {
    Ok(Provenance {
        system_identifier: location.server.system_identifier,
        timeline: location.server.timeline,
        database: location.server.database,
        relation: location.server.relation,
        epoch: epoch.number,
        epoch_snapshot: snapshot_text(&epoch.seen),
        generation: location.next_generation()?,
        built_at: now_micros(),
        build_millis: 0,
        boot_id: boot_id(),
        snapshot: snapshot_text(&caller.snapshot),
        upkeep: Upkeep::default(),
    })
}

/// Returns the upkeep of a file or segment that holds all changes of a handle.
fn upkeep(handle: &GraphHandle, existing: Option<&(Provenance, usize)>) -> Upkeep {
    let of_segment = existing.map_or(0, |(provenance, bytes)| with_own_bytes(provenance.upkeep, *bytes).written);
    Upkeep {
        written: handle.upkeep.written.max(of_segment),
        changes: handle.mapped.base.provenance().upkeep.changes.saturating_add(handle.overlay.rows() as u64),
        holds_changes: true,
    }
}

/// Reads the provenance of the delta segment of a generation, with its bytes.
fn existing_segment(location: &Location, generation: u64) -> Option<(Provenance, usize)> {
    let bytes = location.folder.segment(generation, usize::MAX).ok()?;
    Some((Overlay::segment_provenance(&bytes).ok()?, bytes.len()))
}

fn workspace(location: &Location) -> Workspace {
    Workspace::new(location.folder.clone(), guc::graph_work_mem())
}

/// Merges an overlay into a new base. The overlay must hold both tables as the caller sees them.
fn merge(location: &Location, caller: &Caller, handle: &GraphHandle, lock: &Lock) -> Result<GraphHandle, SqlError> {
    let started = Instant::now();
    let base = &handle.mapped.base;
    let merge = MergePlan::new(workspace(location), base, &handle.overlay, &mut Interrupts)?;
    let existing = existing_segment(location, handle.generation());
    let upkeep = upkeep(handle, existing.as_ref());
    let provenance = Provenance { upkeep, ..provenance(location, caller, &handle.native_epoch)? };
    let write = |provenance: &Provenance, out: &Output<'_>| Ok(merge.write(provenance, out, &mut Interrupts)?);
    finish(location, caller, &Draft { provenance, has_tokens: true, closed: false, started }, Some(lock), write)
}

/// Writes an overlay as the delta segment of its base, for all sessions, unless that has a segment
/// or successor which is ahead of the caller. The overlay must hold both tables as the caller sees
/// them.
fn append(location: &Location, caller: &Caller, handle: GraphHandle, lock: &Lock) -> Result<GraphHandle, SqlError> {
    let generation = handle.generation();
    let existing = existing_segment(location, generation);
    let snapshot = existing.as_ref().and_then(|(provenance, _)| parse_snapshot(&provenance.snapshot).ok());
    let is_ahead = snapshot.is_some_and(|snapshot| !caller.snapshot.covers(&snapshot));
    if is_ahead || location.generations()?.first() != Some(&generation) {
        return Ok(handle);
    }
    let upkeep = upkeep(&handle, existing.as_ref());
    let provenance = Provenance { generation, upkeep, ..provenance(location, caller, &handle.native_epoch)? };
    let bytes = handle.overlay.to_segment(&provenance)?;
    if !location.server.in_recovery {
        mark_log()?;
    }
    let written = location.folder.write_segment(lock, generation, &bytes);
    written.map_err(|error| SqlError::io("write the delta segment of the graph", &error))?;
    Ok(GraphHandle {
        segment_rows: handle.overlay.rows(),
        segment_bytes: bytes.len(),
        upkeep: with_own_bytes(upkeep, bytes.len()),
        folder: location.state()?,
        ..handle
    })
}

thread_local! {
    /// Time at which this session last failed to merge.
    static FAILED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Merges an overlay that has grown too large. If there is no room for that, the handle answers as
/// it is, and the session warns and tries again later.
pub(super) fn merge_quietly(
    location: &Location,
    caller: &Caller,
    handle: GraphHandle,
) -> Result<GraphHandle, SqlError> {
    if FAILED.get().is_some_and(|failed| failed.elapsed() < RETRY_INTERVAL) {
        return Ok(handle);
    }
    match merge_if_possible(location, caller, handle.clone()) {
        Err(error) if error.is_shortage() => {
            FAILED.set(Some(Instant::now()));
            error.detail("The changes since the graph's file are read at each first call of a session.").warn();
            Ok(handle)
        }
        other => other,
    }
}

/// Merges an overlay, if the caller may read both tables and no other session is building.
/// Otherwise returns the handle as it is.
fn merge_if_possible(location: &Location, caller: &Caller, handle: GraphHandle) -> Result<GraphHandle, SqlError> {
    if !may_build_for_all(caller) {
        return Ok(handle);
    }
    lock_tables();
    let Some(lock) = try_lock(location)? else { return Ok(handle) };
    match catch_up(handle, caller, AssetScope::All) {
        Ok((handle, _)) => merge(location, caller, &handle, &lock),
        Err(Stale::Base) => replace_all(location, caller, &lock),
        Err(Stale::Large | Stale::Epoch) => from_tables(location, caller, AssetScope::All, Some(&lock)),
        Err(Stale::Error(error)) => Err(error),
    }
}

/// Removes files that no caller needs.
fn clean_up(location: &Location, lock: &Lock) -> Result<(), SqlError> {
    let failed = |error: std::io::Error| SqlError::io("clean up the folder of the graph", &error);
    let visible_to_all_below = oldest_invisible();
    let mut newer_suits_all = false;
    for (index, generation) in location.generations()?.into_iter().enumerate() {
        if newer_suits_all || index >= MAX_GENERATIONS {
            remove(location, lock, generation)?;
            continue;
        }
        let xmax = match location.open_base(generation)? {
            Some((base, _)) if location.is_ours(&base, generation) => {
                parse_snapshot(&base.provenance().snapshot).map(|snapshot| snapshot.xmax()).ok()
            }
            _ => None,
        };
        match xmax {
            Some(xmax) => newer_suits_all = xmax <= visible_to_all_below,
            None => remove(location, lock, generation)?,
        }
    }
    location.folder.sweep(lock).map_err(failed)?;
    // If the catalog cannot be read, the folder is kept.
    location.folder.sweep_databases(lock, |database| database_exists(database).unwrap_or(true)).map_err(failed)
}

fn remove(location: &Location, lock: &Lock, generation: u64) -> Result<(), SqlError> {
    let removed = location.folder.remove(lock, generation);
    removed.map_err(|error| SqlError::io("remove a file of the graph", &error))
}

impl From<BuildError<std::io::Error>> for SqlError {
    fn from(error: BuildError<std::io::Error>) -> Self {
        match error {
            BuildError::Scratch(source) => Self::io("allocate memory for the graph", &source),
            BuildError::Sink(source) => Self::io("write the file of the graph", &source),
            BuildError::TooMany { .. } => Self::limit(error.to_string()),
            BuildError::Damaged(damaged) => damaged.into(),
        }
    }
}
