//! Making a base: from the tables, or from a base and what has changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arx_core::graph::{Base, BuildError, Builder, Damaged, Merge, Provenance};
use arx_pgwire::EPOCH_UNIX_MICROS;
use pgrx::prelude::*;

use super::folder::{KEPT, Lock, boot_id};
use super::map::{self, Output, Workspace};
use super::{Context, Interrupts, Loaded, Need, READY, Ready, caught_up, require_all};
use crate::error::SqlError;
use crate::guc;
use crate::snapshot::{Caller, horizon, may_write, parse_snapshot, snapshot_text};
use crate::spi::{Table, database_exists, estimated_rows, every_row, foreign_changes, latest_epoch, mark_log};

/// Between two looks at a lock that somebody else has.
const POLL: Duration = Duration::from_millis(5);

/// Between two notices of a build.
const NOTICE: Duration = Duration::from_secs(2);

/// Rows between two looks at the clock.
const ROWS: u64 = 1 << 16;

/// How a refresh went.
pub struct Refreshed {
    pub facts: super::Facts,
    pub merged_rows: usize,
    pub outcome: Outcome,
    pub took: Duration,
}

/// What a refresh did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Read the tables.
    Built,
    /// Merged what had changed.
    Merged,
    /// Found nothing that had changed.
    Current,
    /// Left it to another session, which is at it.
    Busy,
}

impl Outcome {
    /// Its name in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Merged => "merged",
            Self::Current => "current",
            Self::Busy => "busy",
        }
    }
}

/// `arx.refresh_graph()`: a new base, unless there is nothing new.
pub fn refresh(from_scratch: bool) -> Result<Refreshed, SqlError> {
    require_all(Need::All)?;
    let started = Instant::now();
    let caller = Caller::current()?;
    if caller.own.is_some() {
        return Err(SqlError::has_written("refresh_graph()"));
    }
    let context = Context::open()?;
    let known = READY.take();
    let usable = if from_scratch { None } else { context.usable(&caller, Need::All, known)? };
    let caught_up = match usable {
        Some(ready) => match caught_up(ready, &caller, Need::All) {
            Ok(ready) => Some(ready),
            Err(super::Stale::Base | super::Stale::Large) => None,
            Err(super::Stale::Error(error)) => return Err(error),
        },
        None => None,
    };
    let (ready, merged_rows, outcome) = match (caught_up, try_lock(&context)?) {
        (Some(ready), _) if ready.overlay.is_empty() && !ready.loaded.private => (ready, 0, Outcome::Current),
        (Some(ready), Some(lock)) => {
            let rows = ready.overlay.rows();
            (merge(&context, &caller, &ready, &lock)?, rows, Outcome::Merged)
        }
        (None, Some(lock)) => (in_place_of_all(&context, &caller, &lock)?, 0, Outcome::Built),
        (Some(ready), None) => (ready, 0, Outcome::Busy),
        (None, None) => (build(&context, &caller, Need::All)?, 0, Outcome::Busy),
    };
    if outcome == Outcome::Busy {
        notice!("another session is building the graph");
    }
    let facts = ready.facts();
    READY.set(Some(ready));
    Ok(Refreshed { facts, merged_rows, outcome, took: started.elapsed() })
}

fn try_lock(context: &Context) -> Result<Option<Lock>, SqlError> {
    context.folder.try_lock().map_err(|error| SqlError::io("lock the graph's folder", &error))
}

/// A base for a caller who has none: built by whoever comes first, for all if all may use it.
pub(super) fn build(context: &Context, caller: &Caller, need: Need) -> Result<Ready, SqlError> {
    if !may_build_for_all(caller) {
        return from_tables(context, caller, need, None);
    }
    loop {
        if let Some(lock) = try_lock(context)? {
            // somebody else may just have finished
            if let Some(ready) = context.usable(caller, need, None)? {
                return Ok(ready);
            }
            return from_tables(context, caller, need, Some(&lock));
        }
        check_for_interrupts!();
        std::thread::sleep(POLL);
        if let Some(ready) = context.usable(caller, need, None)? {
            return Ok(ready);
        }
    }
}

/// Whether what the caller sees is what all see, or will see, and he may read all of it.
fn may_build_for_all(caller: &Caller) -> bool {
    caller.own.is_none() && may_write() && require_all(Need::All).is_ok()
}

/// A base for a caller who found the newest one wrong: that one goes.
pub(super) fn rebuild(context: &Context, caller: &Caller, need: Need) -> Result<Ready, SqlError> {
    match try_lock(context)? {
        Some(lock) if may_build_for_all(caller) => in_place_of_all(context, caller, &lock),
        _ => from_tables(context, caller, need, None),
    }
}

/// A base from the tables, after which those before it go: who has one of them mapped moves on to a higher generation.
fn in_place_of_all(context: &Context, caller: &Caller, lock: &Lock) -> Result<Ready, SqlError> {
    let former = generations(context)?;
    let ready = from_tables(context, caller, Need::All, Some(lock))?;
    for generation in former.into_iter().filter(|_| !ready.loaded.private) {
        remove(context, lock, generation)?;
    }
    Ok(Ready::of(ready.loaded, context.state()?))
}

/// A base for a caller from whose newest one too much has changed.
pub(super) fn anew(context: &Context, caller: &Caller, need: Need) -> Result<Ready, SqlError> {
    let lock = if may_build_for_all(caller) { try_lock(context)? } else { None };
    from_tables(context, caller, need, lock.as_ref())
}

/// With `lock` for all, else for this caller alone: then without tokens, if he does not need them and may not read them.
fn from_tables(context: &Context, caller: &Caller, need: Need, lock: Option<&Lock>) -> Result<Ready, SqlError> {
    let started = Instant::now();
    let has_tokens = need == Need::All || require_all(Need::All).is_ok();
    let tables: &[Table] =
        if has_tokens { &[Table::Transactions, Table::TokenTransfers] } else { &[Table::Transactions] };
    // before the rows: what is raised while they are read, the next reader notices
    let epoch = latest_epoch()?;
    let mut builder = Builder::new(workspace(context)).map_err(SqlError::from)?;
    let mut foreign = foreign_changes(caller.snapshot.xmax(), caller.own)?;
    let mut said = started;
    let mut expected = None;
    for table in tables {
        every_row(*table, |row, written_by| {
            foreign |= !caller.snapshot.sees(written_by) && caller.own != Some(written_by);
            builder.push(row)?;
            if builder.transfers() % ROWS == 0 {
                check_for_interrupts!();
                if said.elapsed() >= NOTICE {
                    said = Instant::now();
                    let about = expected.get_or_insert(0);
                    if *about == 0 {
                        *about = estimated_rows()?;
                    }
                    notice!("building the graph: {} of about {} transfers", builder.transfers(), *about);
                }
            }
            Ok(())
        })?;
    }
    if foreign {
        warning!(
            "rows carry transaction ids of another cluster, so the graph is built for this call alone; SELECT arx.after_restore() mends that"
        );
    }
    let plan = builder.finish(&mut Interrupts)?;
    let shared = lock.filter(|_| !foreign && caller.own.is_none());
    let generation = next_generation(context)?;
    let provenance = provenance(context, caller, epoch, generation);
    let closed = foreign || caller.own.is_some();
    let write = |provenance: &Provenance, out: &Output<'_>| Ok(plan.write(provenance, out, &mut Interrupts)?);
    finish(context, caller, &Draft { provenance, has_tokens, closed, started }, shared, write)
}

/// What is known of a base before it is written.
struct Draft {
    provenance: Provenance,
    has_tokens: bool,
    closed: bool,
    started: Instant,
}

/// Writes a base, and gives it its name if all may use it.
fn finish(
    context: &Context,
    caller: &Caller,
    draft: &Draft,
    shared: Option<&Lock>,
    write: impl FnOnce(&Provenance, &Output<'_>) -> Result<(), SqlError>,
) -> Result<Ready, SqlError> {
    let failed = |error: std::io::Error| SqlError::io("write the graph's file", &error);
    let shared = match shared {
        Some(lock) if is_newest(context, caller, draft.provenance.epoch)? => Some(lock),
        _ => None,
    };
    let (path, file) = context.folder.unfinished().map_err(failed)?;
    let unfinished = Unfinished(Some(path));
    let loaded = if let Some(lock) = shared {
        let loaded = written(caller, draft, &file, false, write)?;
        if !context.place.in_recovery {
            mark_log()?;
        }
        unfinished.publish(context, lock, draft.provenance.generation).map_err(failed)?;
        clean_up(context, lock)?;
        loaded
    } else {
        // it loses its name before it is written: whatever ends this backend leaves nothing
        drop(unfinished);
        written(caller, draft, &file, true, write)?
    };
    Ok(Ready::of(Arc::new(loaded), context.state()?))
}

fn written(
    caller: &Caller,
    draft: &Draft,
    file: &std::fs::File,
    private: bool,
    write: impl FnOnce(&Provenance, &Output<'_>) -> Result<(), SqlError>,
) -> Result<Loaded, SqlError> {
    let failed = |error: std::io::Error| SqlError::io("write the graph's file", &error);
    let build_millis = u64::try_from(draft.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    write(&Provenance { build_millis, ..draft.provenance.clone() }, &Output(file))?;
    let base = Base::open(map::read(file).map_err(failed)?)?;
    let snapshot = caller.snapshot.clone();
    let closed_for = draft.closed.then(|| caller.clone());
    Ok(Loaded { base, snapshot, private, has_tokens: draft.has_tokens, closed_for })
}

/// A file that has no name yet goes with whoever wrote it.
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn publish(mut self, context: &Context, lock: &Lock, generation: u64) -> std::io::Result<()> {
        if let Some(path) = &self.0 {
            context.folder.publish(lock, path, generation)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // one that cannot be removed now, the next builder sweeps away
            drop(std::fs::remove_file(path));
        }
    }
}

/// A caller with an older view than the newest base must not take its place.
fn is_newest(context: &Context, caller: &Caller, epoch: i64) -> Result<bool, SqlError> {
    let newest = context.newest(0, |_, _| true)?;
    Ok(newest.is_none_or(|newest| newest.base.provenance().epoch <= epoch && caller.snapshot.covers(&newest.snapshot)))
}

/// The time, as the server counts it.
pub fn now_micros() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX) - EPOCH_UNIX_MICROS
}

fn provenance(context: &Context, caller: &Caller, epoch: i64, generation: u64) -> Provenance {
    Provenance {
        system_identifier: context.place.system_identifier,
        timeline: context.place.timeline,
        database: context.place.database,
        relation: context.place.relation,
        epoch,
        generation,
        built_at: now_micros(),
        build_millis: 0,
        boot_id: boot_id(),
        snapshot: snapshot_text(&caller.snapshot),
    }
}

fn generations(context: &Context) -> Result<Vec<u64>, SqlError> {
    context.folder.generations().map_err(|error| SqlError::io("list the graph's folder", &error))
}

fn next_generation(context: &Context) -> Result<u64, SqlError> {
    Ok(generations(context)?.first().copied().unwrap_or(0) + 1)
}

fn workspace(context: &Context) -> Workspace {
    Workspace::new(context.folder.clone(), guc::graph_work_mem())
}

/// Merges what is laid over into a new base. The overlay must have both tables as the caller sees them.
fn merge(context: &Context, caller: &Caller, ready: &Ready, lock: &Lock) -> Result<Ready, SqlError> {
    let started = Instant::now();
    let base = &ready.loaded.base;
    let merge = Merge::plan(workspace(context), base, &ready.overlay, &mut Interrupts)?;
    let provenance = provenance(context, caller, base.provenance().epoch, next_generation(context)?);
    let write = |provenance: &Provenance, out: &Output<'_>| Ok(merge.write(provenance, out, &mut Interrupts)?);
    finish(context, caller, &Draft { provenance, has_tokens: true, closed: false, started }, Some(lock), write)
}

/// Merges if nobody else does and the caller may read both tables; a graph that grew too far is otherwise used as it is.
pub(super) fn merge_quietly(context: &Context, caller: &Caller, ready: Ready) -> Result<Ready, SqlError> {
    if !may_build_for_all(caller) {
        return Ok(ready);
    }
    let Some(lock) = try_lock(context)? else { return Ok(ready) };
    match caught_up(ready, caller, Need::All) {
        Ok(ready) => merge(context, caller, &ready, &lock),
        Err(super::Stale::Base) => in_place_of_all(context, caller, &lock),
        Err(super::Stale::Large) => from_tables(context, caller, Need::All, Some(&lock)),
        Err(super::Stale::Error(error)) => Err(error),
    }
}

/// Removes files that nobody needs any more.
fn clean_up(context: &Context, lock: &Lock) -> Result<(), SqlError> {
    let failed = |error: std::io::Error| SqlError::io("clean up the graph's folder", &error);
    let all_see_below = horizon();
    let mut successor_suits_all = false;
    for (place, generation) in generations(context)?.into_iter().enumerate() {
        if successor_suits_all || place >= KEPT {
            remove(context, lock, generation)?;
            continue;
        }
        let file = context.folder.file(generation).and_then(|file| map::read(&file)).map_err(failed)?;
        let xmax = match Base::open(file) {
            Ok(base) if base.provenance().system_identifier == context.place.system_identifier => {
                parse_snapshot(&base.provenance().snapshot).map(|snapshot| snapshot.xmax()).ok()
            }
            _ => None,
        };
        match xmax {
            Some(xmax) => successor_suits_all = xmax <= all_see_below,
            None => remove(context, lock, generation)?,
        }
    }
    context.folder.sweep(lock).map_err(failed)?;
    // a database that cannot be asked for is one that is kept
    context.folder.sweep_databases(lock, |database| database_exists(database).unwrap_or(true)).map_err(failed)
}

fn remove(context: &Context, lock: &Lock, generation: u64) -> Result<(), SqlError> {
    let removed = context.folder.remove_if_there(lock, generation);
    removed.map_err(|error| SqlError::io("remove an old graph", &error))
}

impl From<BuildError<std::io::Error>> for SqlError {
    fn from(error: BuildError<std::io::Error>) -> Self {
        match error {
            BuildError::Scratch(source) => Self::io("take memory for the graph", &source),
            BuildError::Sink(source) => Self::io("write the graph's file", &source),
            BuildError::TooMany { .. } => Self::limit(error.to_string()),
            BuildError::Damaged(Damaged { what }) => Self::corrupt(format!("the graph is damaged: {what}")),
        }
    }
}
