//! The graph in the caller's snapshot: a base from a file that all backends share, and an overlay
//! of the changes since.
//!
//! A base is usable if the caller sees everything that it holds. Changes since are read through the
//! freshness of the tables (`sql/postgres/21_freshness.sql`). This backend keeps them in an
//! overlay, so that the next call reads only the rest, and nothing at all if the register of
//! writers has no transaction that may have written. Rows of the caller's own transaction are in
//! the overlay for one call. A caller for whom no file is usable builds a private graph.

#![allow(unsafe_code, reason = "registers a callback of the server")]

mod build;
mod direct;
mod events;
mod folder;
mod map;
mod members;
mod register;
mod verify;
mod worker;

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arx_core::graph::{Base, Damaged, Graph, NotInGraph, Overlay, Provenance, Snapshot, TransferRow, Upkeep};
use pgrx::prelude::*;

use crate::error::{SqlError, or_report};
use crate::guc;
use crate::memory::{check_threads, is_backend_thread};
use crate::snapshot::{Caller, ServerIdentity, data_directory, is_standby, may_write, parse_snapshot, require_whole};
use crate::spi::{Epoch, Table, changes_before, database_exists, former_rows, latest_epoch, new_rows, rows_between};

pub(crate) use build::refresh;
use events::{Reloads, reloads_since};
use folder::{Folder, Stamp};
use map::Mapped;
use members::{Members, members};
pub(crate) use register::{Entry, note};
use register::{News, Position};
pub(crate) use verify::verify;

/// Assets that a call may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AssetScope {
    /// Native coins; token transfers are not read.
    Native,
    All,
}

/// A base that this backend has mapped.
#[derive(Debug)]
struct MappedBase {
    base: Base<Mapped>,
    snapshot: Snapshot,
    /// Changes of partitions that the base has.
    epoch: Epoch,
    /// Built for this backend alone.
    private: bool,
    /// Holds token transfers; every file does.
    has_tokens: bool,
    /// Valid for this caller's snapshot only: it has rows that the tables' freshness cannot tell
    /// apart.
    valid_only_for: Option<Caller>,
    /// State of the file when it was known to be whole.
    stamp: Stamp,
}

impl MappedBase {
    /// Returns false if something has written into the file, or cut it off.
    fn is_unchanged(&self) -> bool {
        Stamp::of(self.base.holder().file()).is_ok_and(|stamp| stamp.has_contents_of(&self.stamp))
    }
}

/// Rejects an answer from a file that was damaged while it was used. The next call starts from a
/// file that is whole.
pub(crate) fn require_intact() -> Result<(), SqlError> {
    reject_damage()?;
    if CACHED.with_borrow(|cached| cached.as_ref().is_none_or(|handle| handle.mapped.is_unchanged())) {
        return Ok(());
    }
    drop(CACHED.take());
    Err(SqlError::damaged_file("the graph's file was overwritten while it was used"))
}

/// Rejects what was read from a file of which a part could not be read.
pub(crate) fn reject_damage() -> Result<(), SqlError> {
    if !map::take_damage() {
        return Ok(());
    }
    drop(CACHED.take());
    Err(SqlError::damaged_file("the graph's file was truncated or unreadable while it was used"))
}

/// Handles what must end a computation at once: cancellation, and failures that other code has left
/// for this thread to report.
pub(crate) fn check_for_failures() {
    check_threads();
    or_report(reject_damage());
    check_for_interrupts!();
}

/// Ends a computation that was cancelled. Threads of extractors leave that to the backend's own
/// thread, which waits for them.
fn poll() {
    if is_backend_thread() {
        check_for_failures();
    }
}

/// A base has at least this many transfers for each change in its delta segment. A segment is
/// written as a whole by each refresh, and a merge copies the base.
const SEGMENT_SHARE: u64 = 32;

/// A base and its overlay. Its graph is stable as long as the handle is held.
#[derive(Debug, Clone)]
pub(crate) struct GraphHandle {
    mapped: Arc<MappedBase>,
    overlay: Arc<Overlay>,
    /// Snapshot up to which the overlay holds transactions and internal transfers.
    native: Snapshot,
    /// Snapshot up to which the overlay holds token transfers.
    tokens: Snapshot,
    /// Changes of partitions that the overlay has, of the tables of the native coin and of tokens.
    native_epoch: Epoch,
    tokens_epoch: Epoch,
    /// Changes of the overlay that the delta segment of the base holds, too.
    segment_rows: usize,
    /// Bytes of that segment.
    segment_bytes: usize,
    /// Cost of keeping the graph current, that of its file and segment included.
    upkeep: Upkeep,
    /// The position up to which the register of writers has been read for `native`, with the list
    /// of partitions that it was trusted for.
    position: Option<(Position, u64)>,
    /// State of the folder when the base was the newest.
    folder: (i64, i64),
}

thread_local! {
    /// The handle of the last call. A call takes it while it works, so that an error leaves nothing
    /// behind and the next call starts from a file.
    static CACHED: RefCell<Option<GraphHandle>> = const { RefCell::new(None) };
}

/// Longest time for which a session keeps a file that was replaced, once it ends a transaction
/// without having used the graph.
const KEPT_IDLE: Duration = Duration::from_secs(10);

thread_local! {
    /// Time of the last use of the graph; `None` while a transaction that used it is running.
    static USED: Cell<Option<Instant>> = const { Cell::new(None) };
    static IS_WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Notes that this transaction uses the graph. A pooled session that has turned to other work then
/// gives up its file once that is replaced, instead of holding its room on the disk.
fn note_use() {
    USED.set(None);
    if !IS_WATCHING.replace(true) {
        // SAFETY: The function lives as long as the backend.
        unsafe { pg_sys::RegisterXactCallback(Some(end_of_transaction), std::ptr::null_mut()) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn end_of_transaction(event: pg_sys::XactEvent::Type, _argument: *mut std::ffi::c_void) {
    if !matches!(event, pg_sys::XactEvent::XACT_EVENT_COMMIT | pg_sys::XactEvent::XACT_EVENT_ABORT) {
        return;
    }
    match USED.get() {
        None => USED.set(Some(Instant::now())),
        Some(used) if used.elapsed() >= KEPT_IDLE => {
            USED.set(Some(Instant::now()));
            // The catalog cannot be read any more.
            // SAFETY: Reads a constant of the backend.
            let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
            let folder = data_directory().ok().and_then(|data| Folder::open(&data, database).ok());
            let state = folder.and_then(|folder| folder.state().ok());
            let is_old = |handle: &GraphHandle| state.is_some_and(|state| state != handle.folder);
            let is_replaced = CACHED.with_borrow(|cached| cached.as_ref().is_some_and(is_old));
            if is_replaced {
                CACHED.set(None);
            }
        }
        Some(_) => {}
    }
}

/// Identity of a base: within one base, wallets keep their ids.
#[derive(Debug, Clone)]
pub(crate) struct BaseToken {
    base: Weak<MappedBase>,
    wallets: u32,
}

impl BaseToken {
    /// Number of wallets in the base.
    pub(crate) const fn wallets(&self) -> u32 {
        self.wallets
    }
}

impl PartialEq for BaseToken {
    fn eq(&self, other: &Self) -> bool {
        // The memory is not reused while a token points to it.
        self.base.ptr_eq(&other.base)
    }
}

/// Facts about the graph in use; see `arx.graph_status()`.
pub(crate) struct Facts {
    pub(crate) provenance: Provenance,
    pub(crate) transfers: u64,
    pub(crate) native_transfers: u64,
    pub(crate) wallets: u32,
    pub(crate) pairs: u64,
    pub(crate) file_bytes: usize,
    pub(crate) dictionary_bytes: usize,
    /// `None` if the changes do not fit into an overlay of the base.
    pub(crate) delta_rows: Option<usize>,
    /// Changes in the delta segment, and its bytes.
    pub(crate) segment_rows: usize,
    pub(crate) segment_bytes: usize,
    pub(crate) upkeep: Upkeep,
}

impl GraphHandle {
    /// Combines a base with an empty overlay.
    fn new(mapped: Arc<MappedBase>, folder: (i64, i64)) -> Self {
        let (native, tokens) = (mapped.snapshot.clone(), mapped.snapshot.clone());
        let (native_epoch, tokens_epoch) = (mapped.epoch.clone(), mapped.epoch.clone());
        let overlay = Arc::new(Overlay::new());
        let upkeep = with_own_bytes(mapped.base.provenance().upkeep, mapped.base.size());
        Self {
            mapped,
            overlay,
            native,
            tokens,
            native_epoch,
            tokens_epoch,
            segment_rows: 0,
            segment_bytes: 0,
            upkeep,
            position: None,
            folder,
        }
    }

    pub(crate) fn graph(&self) -> Graph<'_> {
        Graph::new(&self.mapped.base, &self.overlay).with_poll(poll)
    }

    pub(crate) fn base_token(&self) -> BaseToken {
        BaseToken { base: Arc::downgrade(&self.mapped), wallets: self.mapped.base.wallets() }
    }

    fn facts(&self) -> Facts {
        let base = &self.mapped.base;
        // The rows of a segment count as those of the file do.
        let (added, removed) = if self.segment_rows > 0 { self.overlay.added_and_removed() } else { (0, 0) };
        Facts {
            provenance: base.provenance().clone(),
            transfers: base.transfers() + added - removed,
            native_transfers: base.native_transfers(),
            // Number 0 stands for a missing sender.
            wallets: base.wallets().saturating_sub(1),
            pairs: base.pairs(),
            file_bytes: base.size(),
            dictionary_bytes: base.dictionary_size(),
            delta_rows: Some(self.overlay.rows().saturating_sub(self.segment_rows)),
            segment_rows: self.segment_rows,
            segment_bytes: self.segment_bytes,
            upkeep: self.upkeep,
        }
    }

    /// Returns true if the overlay is large enough to be merged.
    fn needs_merge(&self) -> bool {
        self.overlay.rows() > guc::graph_delta_limit() && self.mapped.valid_only_for.is_none()
    }

    /// Returns true if writing the changes as a segment is so much cheaper than merging them that
    /// readers should hold them in memory.
    fn fits_segment(&self) -> bool {
        let rows = self.overlay.rows();
        let is_small = (rows as u64).saturating_mul(SEGMENT_SHARE) <= self.mapped.base.transfers();
        is_small && rows <= guc::graph_delta_limit() && !self.mapped.private
    }

    fn generation(&self) -> u64 {
        self.mapped.base.provenance().generation
    }

    fn has(&self, assets: AssetScope) -> bool {
        self.mapped.has_tokens || assets == AssetScope::Native
    }

    /// Takes back the rows of a transaction of the caller, which are valid for one call. Without
    /// another handle on the overlay, that costs what these rows cost.
    fn without_own_rows(mut self) -> Self {
        if self.overlay.is_marked() {
            Arc::make_mut(&mut self.overlay).roll_back();
        }
        self
    }

    /// Returns true if the handle holds exactly what the caller sees, by its snapshots or by the
    /// register of writers.
    fn is_current(&mut self, caller: &Caller, assets: AssetScope) -> Result<bool, SqlError> {
        if !self.has(assets) {
            return Ok(false);
        }
        if let Some(only) = &self.mapped.valid_only_for {
            return Ok(only == caller && self.mapped.base.provenance().epoch == latest_epoch()?);
        }
        let provenance = self.mapped.base.provenance();
        let server = ServerIdentity::current();
        if caller.own.is_some() || provenance.relation != server.relation || provenance.timeline != server.timeline {
            return Ok(false);
        }
        let Some(news) = self.news(caller, &server)? else {
            let is_same = caller.snapshot.sees_same(&self.native)
                && (assets == AssetScope::Native || caller.snapshot.sees_same(&self.tokens));
            return Ok(is_same && self.is_of_epoch(latest_epoch()?, assets));
        };
        if news.rows || (news.events && !self.is_of_epoch(latest_epoch()?, assets)) {
            return Ok(false);
        }
        if !self.is_of_epoch(self.native_epoch.number, assets) {
            return Ok(false);
        }
        if self.tokens == self.native {
            self.tokens = caller.snapshot.clone();
        }
        self.native = caller.snapshot.clone();
        Ok(assets == AssetScope::Native || caller.snapshot.sees_same(&self.tokens))
    }

    /// Returns true if the handle has all changes of partitions up to an epoch.
    const fn is_of_epoch(&self, epoch: i64, assets: AssetScope) -> bool {
        self.native_epoch.number == epoch && (matches!(assets, AssetScope::Native) || self.tokens_epoch.number == epoch)
    }

    /// Returns what may have changed since the handle was brought up to date. `None` if the
    /// register of writers cannot tell: then the position is given up.
    fn news(&mut self, caller: &Caller, server: &ServerIdentity) -> Result<Option<News>, SqlError> {
        let Some((mut position, serial)) = self.position.take() else { return Ok(None) };
        if server.in_recovery || members()?.serial != serial || !caller.snapshot.covers(&self.native) {
            return Ok(None);
        }
        let news = position.advance(&caller.snapshot);
        self.position = news.map(|_| (position, serial));
        Ok(news)
    }
}

/// Returns facts about the graph, or `None` if there is no base that the caller can use. Builds
/// nothing.
pub(crate) fn facts() -> Result<Option<Facts>, SqlError> {
    note_use();
    require_tables(AssetScope::All)?;
    let caller = Caller::current()?;
    let location = Location::open()?;
    let cached = CACHED.take().map(GraphHandle::without_own_rows);
    let Some(handle) = location.usable(&caller, AssetScope::All, cached)? else { return Ok(None) };
    let before = handle.facts();
    match catch_up(handle, &caller, AssetScope::All) {
        Ok((handle, kept)) => {
            let facts = handle.facts();
            drop(handle);
            CACHED.set(Some(kept));
            Ok(Some(facts))
        }
        Err(Stale::Error(error)) => Err(error),
        Err(Stale::Base | Stale::Large | Stale::Epoch) => Ok(Some(Facts { delta_rows: None, ..before })),
    }
}

/// Requires that the caller may read every row of the tables behind the graph.
fn require_tables(assets: AssetScope) -> Result<(), SqlError> {
    let tables = if assets == AssetScope::All { &Table::ALL[..] } else { &Table::NATIVE };
    tables.iter().try_for_each(|table| require_whole(table.bare_name()))
}

/// Returns the graph in the caller's snapshot, and builds it if necessary.
pub(crate) fn current(assets: AssetScope) -> Result<GraphHandle, SqlError> {
    require_tables(assets)?;
    note_use();
    let caller = Caller::current()?;
    let mut cached = CACHED.take().filter(|handle| handle.mapped.is_unchanged()).map(GraphHandle::without_own_rows);
    if !guc::accepts_stale_base()
        && let Some(handle) = &mut cached
        && handle.is_current(&caller, assets)?
        && !handle.needs_merge()
    {
        let handle = handle.clone();
        CACHED.set(cached);
        return Ok(handle);
    }
    let location = Location::open()?;
    location.sweep_databases_once();
    if guc::accepts_stale_base()
        && let Some(handle) = location.newest_as_it_is(&caller, assets, cached.clone())?
    {
        CACHED.set(Some(handle.clone()));
        return Ok(handle);
    }
    let handle = match location.usable(&caller, assets, cached)? {
        Some(handle) => handle,
        None => {
            location.remove_outdated()?;
            build::build(&location, &caller, assets)?
        }
    };
    let generation = handle.generation();
    let (handle, kept) = match catch_up(handle, &caller, assets) {
        Ok(both) => both,
        // The file does not hold what its provenance says: never answer from it.
        Err(Stale::Base) => both(build::replace_damaged(&location, &caller, assets)?),
        Err(Stale::Large) => both(build::build_past_changes(&location, &caller, assets, generation)?),
        Err(Stale::Epoch) => return current(assets),
        Err(Stale::Error(error)) => return Err(error),
    };
    if caller.own.is_none() && handle.needs_merge() && may_write() && !worker::request(&location, handle.generation()) {
        drop(kept);
        let handle = build::merge_quietly(&location, &caller, handle)?;
        CACHED.set(Some(handle.clone()));
        return Ok(handle);
    }
    CACHED.set(Some(kept));
    Ok(handle)
}

/// Returns a handle to answer from, and one to keep.
fn both(handle: GraphHandle) -> (GraphHandle, GraphHandle) {
    (handle.clone(), handle)
}

/// Reasons for which a base could not be brought up to date.
enum Stale {
    /// The base does not hold what its provenance says.
    Base,
    /// The changes do not fit into memory.
    Large,
    /// The epoch rose meanwhile, so that base and changes are not of one instant.
    Epoch,
    Error(SqlError),
}

impl From<Damaged> for Stale {
    fn from(damaged: Damaged) -> Self {
        Self::Error(damaged.into())
    }
}

impl From<SqlError> for Stale {
    fn from(error: SqlError) -> Self {
        Self::Error(error)
    }
}

impl From<Stale> for SqlError {
    fn from(stale: Stale) -> Self {
        match stale {
            Stale::Base => Self::corrupt("the graph does not hold what arx.transactions held")
                .hint("SELECT * FROM arx.verify_graph() shows the differences."),
            Stale::Large => Self::limit("changed transfers need more memory than arx.graph_work_mem allows")
                .hint("Run SELECT * FROM arx.refresh_graph() to merge them, or raise arx.graph_work_mem."),
            Stale::Epoch => Self::state("partitions were attached, detached or truncated meanwhile")
                .hint("Run the statement again."),
            Stale::Error(error) => error,
        }
    }
}

impl GraphHandle {
    /// Returns what is to be read again because of changes of partitions, which then count as read.
    fn follow_events(&mut self, caller: &Caller, assets: AssetScope) -> Result<Reloads, Stale> {
        let (native, reloads) = reloads_since(&self.native_epoch, caller.own)?.ok_or(Stale::Epoch)?;
        if assets == AssetScope::Native {
            self.native_epoch = native;
            return Ok(reloads.without(Table::TokenTransfers));
        }
        let (tokens, token_reloads) = reloads_since(&self.tokens_epoch, caller.own)?.ok_or(Stale::Epoch)?;
        if tokens.number != native.number {
            return Err(Stale::Epoch);
        }
        (self.native_epoch, self.tokens_epoch) = (native, tokens);
        Ok(reloads.with(Table::TokenTransfers, &token_reloads))
    }
}

/// Adds to the overlay what the caller sees beyond it. Returns the handle to answer from, and the
/// one to keep for the next call, from which rows of the caller's own transaction will be taken
/// back.
fn catch_up(mut handle: GraphHandle, caller: &Caller, assets: AssetScope) -> Result<(GraphHandle, GraphHandle), Stale> {
    if handle.mapped.valid_only_for.is_some() {
        return Ok(both(handle));
    }
    let former_epochs = (handle.native_epoch.clone(), handle.tokens_epoch.clone());
    let mut reloads = Reloads::default();
    let now = latest_epoch()?;
    if !handle.is_of_epoch(now, assets) {
        // The list of partitions is read after the events have settled.
        reloads = handle.follow_events(caller, assets)?;
    }
    let has_own = caller.own.is_some();
    let is_same = caller.snapshot.sees_same(&handle.native)
        && (assets == AssetScope::Native || caller.snapshot.sees_same(&handle.tokens));
    if is_same && !has_own && reloads.is_empty() {
        // The list of partitions, which a session reads once, is not needed.
        return Ok(both(handle));
    }
    let members = members()?;
    let (native_epoch, tokens_epoch) = former_epochs;
    let (native, tokens, position) = (handle.native.clone(), handle.tokens.clone(), handle.position.clone());
    if has_own {
        Arc::make_mut(&mut handle.overlay).mark();
    }
    let mut tables: Vec<_> = Table::NATIVE.into_iter().map(|table| (table, handle.native.clone())).collect();
    if assets == AssetScope::All {
        tables.push((Table::TokenTransfers, handle.tokens.clone()));
    }
    let mut has_asked = false;
    for (table, since) in tables {
        if !has_own && caller.snapshot.sees_same(&since) && reloads.of(table).is_empty() {
            continue;
        }
        has_asked = true;
        read_changes(&mut handle, &members, table, &since, &reloads)?;
        if table == Table::TokenTransfers {
            handle.tokens = caller.snapshot.clone();
        }
    }
    handle.native = caller.snapshot.clone();
    if has_own {
        check_epoch(&handle)?;
        let kept = GraphHandle { native, tokens, native_epoch, tokens_epoch, position, ..handle.clone() };
        return Ok((handle, kept));
    }
    // The register is read after the snapshot was taken, and before the epoch.
    let news = match handle.position.take() {
        Some((mut position, serial)) if serial == members.serial => {
            let news = position.advance(&caller.snapshot);
            handle.position = news.map(|_| (position, serial));
            news
        }
        _ => None,
    };
    if handle.position.is_none() && members.notes_writers_since(&caller.snapshot) && !is_standby() {
        handle.position = Position::begin(&caller.snapshot).map(|position| (position, members.serial));
    }
    if has_asked && news.is_none_or(|news| news.events) {
        check_epoch(&handle)?;
    }
    Ok(both(handle))
}

/// Reads the changes of a table since a snapshot.
fn read_changes(
    handle: &mut GraphHandle,
    members: &Members,
    table: Table,
    since: &Snapshot,
    reloads: &Reloads,
) -> Result<(), Stale> {
    let base = &handle.mapped.base;
    let limit = guc::graph_work_mem();
    let source = table.source();
    for times in reloads.of(table) {
        let overlay = Arc::make_mut(&mut handle.overlay);
        overlay.take_back(base, source, times, |bytes| {
            check_for_failures();
            if bytes > limit { Err(Stale::Large) } else { Ok(()) }
        })?;
    }
    let (mut missing, mut large) = (false, false);
    let overlay = &mut handle.overlay;
    let mut remove = |row: &TransferRow<'_>| {
        if reloads.have(table, row.time) {
            return Ok(());
        }
        // Copies the overlay if another handle shares it.
        let overlay = Arc::make_mut(overlay);
        match overlay.remove_from(base, source, row) {
            Ok(()) => check_memory(overlay, limit, &mut large),
            Err(NotInGraph::Missing) => {
                missing = true;
                Ok(())
            }
            Err(NotInGraph::Damaged(damaged)) => Err(damaged.into()),
        }
    };
    let removed = match direct::may_have_former_rows(members, since) {
        Ok(true) => former_rows(table, since, &mut remove),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    if large {
        return Err(Stale::Large);
    }
    removed?;
    if missing {
        return Err(Stale::Base);
    }
    let mut add = |row: &TransferRow<'_>| {
        let overlay = Arc::make_mut(overlay);
        overlay.add_from(base, source, row)?;
        check_memory(overlay, limit, &mut large)
    };
    let mut add_other = |row: &TransferRow<'_>| if reloads.have(table, row.time) { Ok(()) } else { add(row) };
    let mut added = match direct::new_rows(members, table, since, &mut add_other) {
        Ok(false) => new_rows(table, since, &mut add_other),
        Ok(true) => Ok(()),
        Err(error) => Err(error),
    };
    for times in reloads.of(table) {
        added = added.and_then(|()| rows_between(table, times, &mut add));
    }
    if large {
        return Err(Stale::Large);
    }
    Ok(added?)
}

/// Rejects a handle whose base is of an earlier epoch than the changes that were read.
fn check_epoch(handle: &GraphHandle) -> Result<(), Stale> {
    if handle.native_epoch.number == latest_epoch()? { Ok(()) } else { Err(Stale::Epoch) }
}

/// Ends the reading of changes when the overlay outgrows its memory.
fn check_memory(overlay: &Overlay, limit: usize, large: &mut bool) -> Result<(), SqlError> {
    *large = overlay.bytes() > limit;
    if *large { Err(Stale::Large.into()) } else { Ok(()) }
}

/// Adds the bytes of a file or segment to those written before it, if it holds changes.
const fn with_own_bytes(upkeep: Upkeep, bytes: usize) -> Upkeep {
    let own = if upkeep.holds_changes { bytes as u64 } else { 0 };
    Upkeep { written: upkeep.written.saturating_add(own), ..upkeep }
}

/// Returns the changes of partitions that a base or segment has. One without their snapshot has
/// none.
fn epoch_of(provenance: &Provenance) -> Epoch {
    let seen = parse_snapshot(&provenance.epoch_snapshot).unwrap_or_else(|_| Snapshot::new(1, Vec::new()));
    Epoch { number: provenance.epoch, seen }
}

/// Returns true if the changes of partitions since an epoch can be read.
fn can_follow(epoch: &Epoch, caller: &Caller) -> bool {
    reloads_since(epoch, caller.own).is_ok_and(|reloads| reloads.is_some())
}

/// This backend's server, and the folder of its graph.
struct Location {
    server: ServerIdentity,
    folder: Folder,
}

impl Location {
    fn open() -> Result<Self, SqlError> {
        let server = ServerIdentity::current();
        let folder = Folder::open(&data_directory()?, server.database)
            .map_err(|error| SqlError::io("open the folder of the graph", &error))?;
        Ok(Self { server, folder })
    }

    fn state(&self) -> Result<(i64, i64), SqlError> {
        self.folder.state().map_err(|error| SqlError::io("read the folder of the graph", &error))
    }

    fn generations(&self) -> Result<Vec<u64>, SqlError> {
        self.folder.generations().map_err(|error| SqlError::io("list the folder of the graph", &error))
    }

    fn next_generation(&self) -> Result<u64, SqlError> {
        self.folder.next_generation().map_err(|error| SqlError::io("list the folder of the graph", &error))
    }

    /// Returns a handle that can be brought up to date for the caller: the cached one, unless a
    /// newer file is usable.
    fn usable(
        &self,
        caller: &Caller,
        assets: AssetScope,
        cached: Option<GraphHandle>,
    ) -> Result<Option<GraphHandle>, SqlError> {
        let epoch = latest_epoch()?;
        let state = self.state()?;
        let kept_since = changes_before()?;
        let cached = cached.filter(|handle| {
            let provenance = handle.mapped.base.provenance();
            handle.mapped.valid_only_for.is_none()
                && handle.has(assets)
                && (handle.is_of_epoch(epoch, assets)
                    || (can_follow(&handle.native_epoch, caller)
                        && (assets == AssetScope::Native || can_follow(&handle.tokens_epoch, caller))))
                && provenance.relation == self.server.relation
                && provenance.timeline == self.server.timeline
                && caller.snapshot.covers(&handle.mapped.snapshot)
                && handle.native.xmin().min(handle.tokens.xmin()) >= kept_since
        });
        // An overlay that is ahead of this caller is discarded.
        let cached = cached.and_then(|handle| {
            if caller.snapshot.covers(&handle.native) && caller.snapshot.covers(&handle.tokens) {
                Some(handle)
            } else {
                let base = GraphHandle::new(handle.mapped, handle.folder);
                (base.native.xmin() >= kept_since).then_some(base)
            }
        });
        if let Some(handle) = &cached
            && handle.folder == state
        {
            return Ok(cached);
        }
        let shared = cached.as_ref().filter(|handle| !handle.mapped.private);
        let generation = shared.map_or(0, |handle| handle.mapped.base.provenance().generation);
        let newer = self.newest(generation, |base, snapshot| {
            caller.snapshot.covers(snapshot)
                && snapshot.xmin() >= kept_since
                && (base.provenance().epoch == epoch || can_follow(&epoch_of(base.provenance()), caller))
        })?;
        Ok(match newer {
            Some(mapped) => {
                let handle = GraphHandle::new(Arc::new(mapped), state);
                Some(self.with_segment(&handle, caller, epoch, kept_since).unwrap_or(handle))
            }
            None => cached.map(|handle| GraphHandle { folder: state, ..handle }),
        })
    }

    /// Adds the changes of the delta segment, if the caller sees them all. A segment that cannot be
    /// used costs the reading of the tables.
    fn with_segment(&self, handle: &GraphHandle, caller: &Caller, epoch: i64, kept_since: u64) -> Option<GraphHandle> {
        let limit = guc::graph_work_mem();
        let bytes = self.folder.segment(handle.generation(), limit).ok()?;
        let (provenance, overlay) = Overlay::of_segment(&handle.mapped.base, &bytes).ok()?;
        let snapshot = parse_snapshot(&provenance.snapshot).ok()?;
        let of_segment = epoch_of(&provenance);
        let is_usable = self.is_of_server(&provenance)
            && caller.snapshot.covers(&snapshot)
            && snapshot.covers(&handle.native)
            && snapshot.xmin() >= kept_since
            && (of_segment.number == epoch || can_follow(&of_segment, caller))
            && overlay.bytes() <= limit;
        is_usable.then(|| GraphHandle {
            segment_rows: overlay.rows(),
            segment_bytes: bytes.len(),
            upkeep: with_own_bytes(provenance.upkeep, bytes.len()),
            overlay: Arc::new(overlay),
            native: snapshot.clone(),
            tokens: snapshot,
            native_epoch: of_segment.clone(),
            tokens_epoch: of_segment,
            ..handle.clone()
        })
    }

    /// Returns the newest file that the caller may see, without the changes since.
    fn newest_as_it_is(
        &self,
        caller: &Caller,
        assets: AssetScope,
        cached: Option<GraphHandle>,
    ) -> Result<Option<GraphHandle>, SqlError> {
        // TRUNCATE takes effect for all transactions at once, and no file of before may answer.
        let (epoch, state) = (latest_epoch()?, self.state()?);
        if let Some(handle) = cached
            && handle.folder == state
            && handle.mapped.base.provenance().epoch == epoch
            && handle.mapped.valid_only_for.is_none()
            && handle.has(assets)
            && caller.snapshot.covers(&handle.mapped.snapshot)
        {
            return Ok(Some(handle));
        }
        let newest =
            self.newest(0, |base, snapshot| base.provenance().epoch == epoch && caller.snapshot.covers(snapshot))?;
        Ok(newest.map(|mapped| GraphHandle::new(Arc::new(mapped), state)))
    }

    /// Maps the newest file of this database after a generation that `accepts` allows.
    fn newest(
        &self,
        after: u64,
        accepts: impl Fn(&Base<Mapped>, &Snapshot) -> bool,
    ) -> Result<Option<MappedBase>, SqlError> {
        for generation in self.generations()?.into_iter().filter(|generation| *generation > after) {
            // A file that is damaged, or has been removed meanwhile, is skipped.
            let Some((base, stamp)) = self.open_base(generation)? else { continue };
            let Ok(snapshot) = parse_snapshot(&base.provenance().snapshot) else { continue };
            if self.is_ours(&base, generation) && accepts(&base, &snapshot) && self.is_whole(&base, generation, &stamp)
            {
                let (private, has_tokens, valid_only_for) = (false, true, None);
                let epoch = epoch_of(base.provenance());
                return Ok(Some(MappedBase { base, snapshot, epoch, private, has_tokens, valid_only_for, stamp }));
            }
        }
        Ok(None)
    }

    /// Maps the file of a generation. Returns `None` if it has been removed, or its header is
    /// damaged.
    fn open_base(&self, generation: u64) -> Result<Option<(Base<Mapped>, Stamp)>, SqlError> {
        let file = match self.folder.file(generation) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(SqlError::corrupt(error.to_string()));
            }
            Err(_) => return Ok(None),
        };
        // The stamp is that of before the file is read: a later change is noticed.
        let Ok(stamp) = Stamp::of(&file) else { return Ok(None) };
        let base = map::read(file).ok().and_then(|mapped| Base::open(mapped).ok());
        Ok(base.filter(|_| !map::take_damage()).map(|base| (base, stamp)))
    }

    /// Returns true if a file holds the tables of this database.
    fn is_ours(&self, base: &Base<Mapped>, generation: u64) -> bool {
        self.is_of_server(base.provenance()) && base.provenance().generation == generation
    }

    fn is_of_server(&self, provenance: &Provenance) -> bool {
        provenance.system_identifier == self.server.system_identifier
            && provenance.timeline == self.server.timeline
            && provenance.database == self.server.database
            && provenance.relation == self.server.relation
    }

    /// Returns true if a file is whole. It is read through unless that has been done: it may have
    /// lost pages that were not on disk when the machine stopped, or may have been changed.
    fn is_whole(&self, base: &Base<Mapped>, generation: u64, stamp: &Stamp) -> bool {
        if self.folder.is_verified(generation, stamp) {
            return true;
        }
        let whole = base.verify(&mut Interrupts).is_ok() && !map::take_damage();
        if whole {
            // Without it, the next session reads the file through, too.
            drop(self.folder.set_verified(generation, stamp));
        }
        whole
    }

    /// Removes files that no caller can use any more: of tables that were dropped or truncated, or
    /// of another timeline. Another session that holds the lock does so itself.
    fn remove_outdated(&self) -> Result<(), SqlError> {
        let epoch = latest_epoch()?;
        let Ok(Some(lock)) = self.folder.try_lock() else { return Ok(()) };
        for generation in self.generations()? {
            let outdated = match self.open_base(generation)? {
                Some((base, _)) => {
                    let has_followed =
                        || reloads_since(&epoch_of(base.provenance()), None).is_ok_and(|reloads| reloads.is_some());
                    !self.is_ours(&base, generation) || (base.provenance().epoch < epoch && !has_followed())
                }
                None => true,
            };
            if outdated {
                // What cannot be removed is not used either.
                drop(self.folder.remove(&lock, generation));
            }
        }
        Ok(())
    }

    /// Removes the folders of databases that were dropped, at the first call of a session that
    /// reads a file.
    fn sweep_databases_once(&self) {
        thread_local! {
            static SWEPT: Cell<bool> = const { Cell::new(false) };
        }
        if !SWEPT.replace(true)
            && let Ok(Some(lock)) = self.folder.try_lock()
        {
            // A later session tries again.
            drop(self.folder.sweep_databases(&lock, |database| database_exists(database).unwrap_or(true)));
        }
    }
}

/// Lets the server cancel a computation, and never stops it otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interrupts;

impl arx_core::graph::Interrupt for Interrupts {
    fn should_stop(&mut self) -> bool {
        check_for_failures();
        false
    }
}
