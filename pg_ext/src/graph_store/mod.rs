//! The graph as the caller sees it: a base from a file that all backends share, and what has changed since.
//!
//! A base is used if the caller sees everything it holds. What became visible since is read through the tables' own freshness
//! (`sql/postgres/21_freshness.sql`) and kept beside the base by this backend, so that the next call asks for the rest only. Rows of the
//! caller's own transaction are laid over for one call. A caller for whom no file will do builds a graph for itself.

mod build;
mod folder;
mod map;
mod verify;

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use arx_core::graph::{Base, Graph, NotInGraph, Overlay, Snapshot};
use pgrx::prelude::*;

use crate::error::SqlError;
use crate::guc;
use crate::snapshot::{Caller, Place, data_folder, may_write, parse_snapshot, require_whole};
use crate::spi::{Table, former_rows, latest_epoch, new_rows};

pub use build::{now_micros, refresh};
use folder::Folder;
use map::Mapped;
pub use verify::verify;

/// What a caller wants to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Native coins: token transfers are not asked for.
    Native,
    /// Everything.
    All,
}

/// A base that this backend has mapped.
#[derive(Debug)]
struct Loaded {
    base: Base<Mapped>,
    snapshot: Snapshot,
    /// Built for this backend alone.
    private: bool,
    /// Whether it holds token transfers: all files do.
    has_tokens: bool,
    /// Holds for this caller's snapshot only: it has rows that the tables' freshness does not tell apart.
    closed_for: Option<Caller>,
}

/// A base and what this backend knows beside it: the graph, as long as it is held.
#[derive(Debug, Clone)]
pub struct Ready {
    loaded: Arc<Loaded>,
    overlay: Arc<Overlay>,
    /// Up to where the overlay has each table.
    native: Snapshot,
    tokens: Snapshot,
    /// The folder's state when the newest base was chosen.
    folder: (i64, i64),
}

thread_local! {
    /// Taken out while a call works on it: a call that ends in an error leaves nothing behind, and the next one begins anew.
    static READY: RefCell<Option<Ready>> = const { RefCell::new(None) };
}

/// Which base a graph has: wallets of one base have the same numbers.
#[derive(Debug, Clone)]
pub struct BaseToken(Weak<Loaded>, u32);

impl BaseToken {
    /// How many wallets the base has.
    pub const fn wallets(&self) -> u32 {
        self.1
    }
}

impl PartialEq for BaseToken {
    fn eq(&self, other: &Self) -> bool {
        // memory that a token points at is not used again while the token lives
        self.0.ptr_eq(&other.0)
    }
}

/// Facts about the graph in use; see `arx.graph_status()`.
pub struct Facts {
    pub provenance: arx_core::graph::Provenance,
    pub transfers: u64,
    pub native_transfers: u64,
    pub wallets: u32,
    pub pairs: u64,
    pub file_bytes: usize,
    pub dictionary_bytes: usize,
    /// `None` where they cannot be laid over the base.
    pub delta_rows: Option<usize>,
}

impl Ready {
    /// For reading.
    pub fn graph(&self) -> Graph<'_> {
        Graph::new(&self.loaded.base, &self.overlay)
    }

    /// Which base this is.
    pub fn base_token(&self) -> BaseToken {
        BaseToken(Arc::downgrade(&self.loaded), self.loaded.base.wallets())
    }

    fn facts(&self) -> Facts {
        let base = &self.loaded.base;
        Facts {
            provenance: base.provenance().clone(),
            transfers: base.transfers(),
            native_transfers: base.native_transfers(),
            wallets: base.wallets(),
            pairs: base.pairs(),
            file_bytes: base.size(),
            dictionary_bytes: base.dictionary_size(),
            delta_rows: Some(self.overlay.rows()),
        }
    }

    /// Whether so much is laid over that it is to be merged.
    fn is_overgrown(&self) -> bool {
        self.overlay.rows() > guc::graph_delta_limit() && self.loaded.closed_for.is_none()
    }

    /// Whether the caller sees just what this holds.
    fn is_current(&self, caller: &Caller, need: Need) -> bool {
        if need == Need::All && !self.loaded.has_tokens {
            return false;
        }
        if let Some(closed) = &self.loaded.closed_for {
            return closed == caller;
        }
        caller.own.is_none()
            && caller.snapshot.sees_same(&self.native)
            && (need == Need::Native || caller.snapshot.sees_same(&self.tokens))
    }
}

/// The facts, unless there is no base that the caller could use. Builds nothing.
pub fn facts() -> Result<Option<Facts>, SqlError> {
    require_all(Need::All)?;
    let caller = Caller::current()?;
    let context = Context::open()?;
    let Some(ready) = context.usable(&caller, Need::All, READY.take())? else { return Ok(None) };
    let before = ready.facts();
    match caught_up(ready, &caller, Need::All) {
        Ok(ready) => {
            let facts = ready.facts();
            if caller.own.is_none() {
                READY.set(Some(ready));
            }
            Ok(Some(facts))
        }
        Err(Stale::Error(error)) => Err(error),
        Err(Stale::Base | Stale::Large) => Ok(Some(Facts { delta_rows: None, ..before })),
    }
}

fn require_all(need: Need) -> Result<(), SqlError> {
    require_whole(c"transactions")?;
    if need == Need::All { require_whole(c"token_transfers") } else { Ok(()) }
}

/// The graph as it is in the caller's snapshot.
///
/// # Errors
/// When the caller may not read the tables, and what building the graph reports.
pub fn current(need: Need) -> Result<Ready, SqlError> {
    require_all(need)?;
    let caller = Caller::current()?;
    let known = READY.take();
    if !guc::takes_base_as_it_is()
        && let Some(ready) = known.as_ref().filter(|ready| ready.is_current(&caller, need))
        && !ready.is_overgrown()
        && ready.loaded.base.provenance().epoch == latest_epoch()?
    {
        let ready = ready.clone();
        READY.set(known);
        return Ok(ready);
    }
    let context = Context::open()?;
    if guc::takes_base_as_it_is()
        && let Some(ready) = context.newest_as_it_is(&caller, need, known.clone())?
    {
        READY.set(Some(ready.clone()));
        return Ok(ready);
    }
    let ready = match context.usable(&caller, need, known)? {
        Some(ready) => ready,
        None => build::build(&context, &caller, need)?,
    };
    // what a transaction that has written lays over holds for one call alone; else nobody keeps the overlay, and it grows in place
    let before = caller.own.is_some().then(|| ready.clone());
    let mut ready = match caught_up(ready, &caller, need) {
        Ok(ready) => ready,
        // the file does not hold what it says: never an answer from it
        Err(Stale::Base) => build::rebuild(&context, &caller, need)?,
        Err(Stale::Large) => build::anew(&context, &caller, need)?,
        Err(Stale::Error(error)) => return Err(error),
    };
    if before.is_some() && ready.loaded.closed_for.is_none() {
        READY.set(before);
        return Ok(ready);
    }
    if ready.is_overgrown() && may_write() {
        ready = build::merge_quietly(&context, &caller, ready)?;
    }
    READY.set(Some(ready.clone()));
    Ok(ready)
}

/// Why a base could not be brought up to date.
enum Stale {
    /// It is not what its provenance says.
    Base,
    /// More has changed than may be kept beside it.
    Large,
    /// Something else.
    Error(SqlError),
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
                .hint("SELECT * FROM arx.verify_graph() tells where they differ."),
            Stale::Large => Self::limit("more transfers have changed than arx.graph_work_mem holds")
                .hint("SELECT * FROM arx.refresh_graph() merges them, or raise arx.graph_work_mem."),
            Stale::Error(error) => error,
        }
    }
}

/// Lays over what the caller sees and the overlay does not have yet.
fn caught_up(mut ready: Ready, caller: &Caller, need: Need) -> Result<Ready, Stale> {
    if ready.loaded.closed_for.is_some() {
        return Ok(ready);
    }
    let mut tables = vec![(Table::Transactions, ready.native.clone())];
    if need == Need::All {
        tables.push((Table::TokenTransfers, ready.tokens.clone()));
    }
    for (table, since) in tables {
        if caller.own.is_none() && caller.snapshot.sees_same(&since) {
            continue;
        }
        let base = &ready.loaded.base;
        let most = guc::graph_work_mem();
        let (mut missing, mut large) = (false, false);
        let overlay = &mut ready.overlay;
        let gone = former_rows(table, &since, |row| {
            // the overlay is copied where somebody else holds it, too
            let overlay = Arc::make_mut(overlay);
            match overlay.remove(base, row) {
                Ok(()) => room(overlay, most, &mut large),
                Err(NotInGraph::Missing) => {
                    missing = true;
                    Ok(())
                }
                Err(NotInGraph::Damaged(damaged)) => Err(damaged.into()),
            }
        });
        if large {
            return Err(Stale::Large);
        }
        gone?;
        if missing {
            return Err(Stale::Base);
        }
        let came = new_rows(table, &since, |row| {
            let overlay = Arc::make_mut(overlay);
            overlay.add(base, row)?;
            room(overlay, most, &mut large)
        });
        if large {
            return Err(Stale::Large);
        }
        came?;
        match table {
            Table::Transactions => ready.native = caller.snapshot.clone(),
            Table::TokenTransfers => ready.tokens = caller.snapshot.clone(),
        }
    }
    Ok(ready)
}

/// Ends the reading of changes when they outgrow the memory for them.
fn room(overlay: &Overlay, most: usize, large: &mut bool) -> Result<(), SqlError> {
    *large = overlay.bytes() > most;
    if *large { Err(Stale::Large.into()) } else { Ok(()) }
}

/// Where this backend's graph is.
struct Context {
    place: Place,
    folder: Folder,
}

impl Context {
    fn open() -> Result<Self, SqlError> {
        let place = Place::current();
        let folder = Folder::open(&data_folder()?, place.database)
            .map_err(|error| SqlError::io("open the graph's folder", &error))?;
        Ok(Self { place, folder })
    }

    fn state(&self) -> Result<(i64, i64), SqlError> {
        self.folder.state().map_err(|error| SqlError::io("look at the graph's folder", &error))
    }

    /// What may be brought up to date for the caller: what this backend has, if nothing newer will do, else the newest file.
    fn usable(&self, caller: &Caller, need: Need, known: Option<Ready>) -> Result<Option<Ready>, SqlError> {
        let epoch = latest_epoch()?;
        let state = self.state()?;
        let known = known.filter(|ready| {
            let provenance = ready.loaded.base.provenance();
            ready.loaded.closed_for.is_none()
                && (ready.loaded.has_tokens || need == Need::Native)
                && provenance.epoch == epoch
                && provenance.relation == self.place.relation
                && provenance.timeline == self.place.timeline
                && caller.snapshot.covers(&ready.loaded.snapshot)
        });
        // one that went ahead of this caller begins again
        let known = known.map(|ready| {
            if caller.snapshot.covers(&ready.native) && caller.snapshot.covers(&ready.tokens) {
                ready
            } else {
                Ready::of(ready.loaded, ready.folder)
            }
        });
        if let Some(ready) = &known
            && ready.folder == state
        {
            return Ok(known);
        }
        let newer_than = known.as_ref().filter(|ready| !ready.loaded.private);
        let newer_than = newer_than.map_or(0, |ready| ready.loaded.base.provenance().generation);
        let found = self.newest(newer_than, |base, snapshot| {
            base.provenance().epoch == epoch && caller.snapshot.covers(snapshot)
        })?;
        Ok(match found {
            Some(loaded) => Some(Ready::of(Arc::new(loaded), state)),
            None => known.map(|ready| Ready { folder: state, ..ready }),
        })
    }

    /// The newest file that the caller may see, whatever has changed since.
    fn newest_as_it_is(&self, caller: &Caller, need: Need, known: Option<Ready>) -> Result<Option<Ready>, SqlError> {
        let state = self.state()?;
        if let Some(ready) = known
            && ready.folder == state
            && ready.loaded.closed_for.is_none()
            && (ready.loaded.has_tokens || need == Need::Native)
            && caller.snapshot.covers(&ready.loaded.snapshot)
        {
            return Ok(Some(ready));
        }
        let found = self.newest(0, |_, snapshot| caller.snapshot.covers(snapshot))?;
        Ok(found.map(|loaded| Ready::of(Arc::new(loaded), state)))
    }

    /// The newest file after a generation that is ours and suits.
    fn newest(&self, after: u64, suits: impl Fn(&Base<Mapped>, &Snapshot) -> bool) -> Result<Option<Loaded>, SqlError> {
        let generations = self.folder.generations().map_err(|error| SqlError::io("list the graph's folder", &error))?;
        for generation in generations.into_iter().filter(|generation| *generation > after) {
            // a file that was removed meanwhile, or is damaged, is passed over
            let Ok(mapped) = self.folder.file(generation).and_then(|file| map::read(&file)) else { continue };
            let Ok(base) = Base::open(mapped) else { continue };
            let provenance = base.provenance();
            let ours = provenance.system_identifier == self.place.system_identifier
                && provenance.timeline == self.place.timeline
                && provenance.database == self.place.database
                && provenance.relation == self.place.relation
                && provenance.generation == generation;
            let Ok(snapshot) = parse_snapshot(&provenance.snapshot) else { continue };
            if ours && suits(&base, &snapshot) && is_whole(&base) {
                return Ok(Some(Loaded { base, snapshot, private: false, has_tokens: true, closed_for: None }));
            }
        }
        Ok(None)
    }
}

/// A file of an earlier run of the machine may have lost what was not on disk yet: it is read through once.
fn is_whole(base: &Base<Mapped>) -> bool {
    base.provenance().boot_id == folder::boot_id() || base.verify(&mut Interrupts).is_ok()
}

impl Ready {
    /// A base with nothing beside it.
    fn of(loaded: Arc<Loaded>, folder: (i64, i64)) -> Self {
        let (native, tokens) = (loaded.snapshot.clone(), loaded.snapshot.clone());
        Self { loaded, overlay: Arc::new(Overlay::new()), native, tokens, folder }
    }
}

/// Lets cancellation through.
#[derive(Debug, Clone, Copy)]
pub struct Interrupts;

impl arx_core::graph::Interrupt for Interrupts {
    fn should_stop(&mut self) -> bool {
        check_for_interrupts!();
        false
    }
}
