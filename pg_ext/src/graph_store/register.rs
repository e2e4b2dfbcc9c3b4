//! The register of writers: which transactions may have changed the tables of transfers, so that a
//! caller need not ask the tables when none of them did.
//!
//! `pgsql_tmp_arx/<database>/writers-<postmaster>` is a ring of transaction ids that all backends
//! of the database map. A transaction enters its id when it first writes into a table of transfers
//! (the trigger `arx_note_writer` of each table and partition) or raises the epoch; aborted ones
//! stay in it, which costs a question. That is before it commits, so a snapshot that sees the
//! transaction was taken when its entry existed. A reader with a snapshot S holds, in a
//! [`Position`], how far it has read the ring and the ids that S does not see yet. For a later
//! snapshot, no id of these and of the entries since is seen if and only if nothing was written.
//!
//! The register is trusted only where that holds:
//!
//! - Entries that the ring has lost, because it is full, are seen by S or in progress in S.
//! - The file is the one under its name, and every transaction that began before it had this name
//!   has ended: an earlier one may have entered its id elsewhere.
//! - Every table and partition has the trigger ([`super::members`]).
//! - The server is no standby, which replays transactions that enter nothing.
//!
//! A file belongs to one start of the postmaster: after a crash of the machine its contents would
//! be those of any time. It is neither read nor flushed afterwards.

#![allow(unsafe_code, reason = "maps a file that other processes change")]

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use arx_core::graph::Snapshot;
use memmap2::MmapRaw;
use pgrx::pg_sys;

use super::folder::Folder;
use super::map::{self, Guard};
use crate::error::SqlError;
use crate::snapshot::{data_directory, next_transaction};

/// Entries of the ring.
const ENTRIES: u64 = 1 << 16;

/// Numbers before the ring: entries given out, highest id that was lost, first id after the file
/// had its name.
const HEADER: usize = 3;
const LENGTH: usize = (HEADER + ENTRIES as usize) * size_of::<u64>();

/// Bits of a transaction id in an entry. A server assigns fewer in centuries.
const XID_BITS: u32 = 47;
const EVENT: u64 = 1 << XID_BITS;
const LAP_SHIFT: u32 = XID_BITS + 1;
const LAP_MASK: u64 = u64::MAX >> LAP_SHIFT;

/// What a transaction enters its id for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It writes rows.
    Rows,
    /// It raises the epoch.
    Event,
}

/// A mapped ring.
struct Register {
    map: MmapRaw,
    _guard: Guard,
    file: File,
}

thread_local! {
    static REGISTER: RefCell<Option<Rc<Register>>> = const { RefCell::new(None) };
    /// The entries that this backend has made last, by kind.
    static NOTED: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
}

impl Register {
    /// Returns the register of this database, which is created if necessary.
    fn open() -> io::Result<Rc<Self>> {
        if let Some(register) = REGISTER.with_borrow(Clone::clone).filter(|register| register.is_current()) {
            return Ok(register);
        }
        // SAFETY: Reads constants of the backend.
        let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
        let folder = data_directory().map_err(|_| io::Error::other("the server has no data directory"))?;
        let folder = Folder::open(&folder, database)?;
        let register = loop {
            let file = folder.register(&name(), LENGTH as u64)?;
            let map = MmapRaw::map_raw(&file)?;
            let guard = Guard::of(map.as_ptr() as usize, map.len())?;
            let register = Rc::new(Self { map, _guard: guard, file });
            if register.is_current() {
                break register;
            }
            // Someone has removed it meanwhile, or has truncated it.
            if register.file.metadata()?.nlink() > 0 {
                folder.remove_register(&name())?;
            }
        };
        // Ids from here on are assigned after the file had its name.
        let next = next_transaction();
        let _ = register.number(2).compare_exchange(0, next, Ordering::SeqCst, Ordering::SeqCst);
        REGISTER.set(Some(Rc::clone(&register)));
        Ok(register)
    }

    /// Returns false if the file was removed or truncated.
    fn is_current(&self) -> bool {
        let metadata = self.file.metadata();
        metadata.is_ok_and(|metadata| metadata.nlink() > 0 && metadata.len() == LENGTH as u64)
    }

    fn number(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < LENGTH / size_of::<u64>());
        // SAFETY: The mapping has this many numbers, starts at a page, and lives as long as `self`.
        // All processes access them as atomics.
        unsafe { &*self.map.as_ptr().cast::<AtomicU64>().add(index) }
    }

    fn head(&self) -> u64 {
        self.number(0).load(Ordering::SeqCst)
    }

    fn slot(&self, position: u64) -> &AtomicU64 {
        self.number(HEADER + (position % ENTRIES) as usize)
    }

    fn add(&self, xid: u64, entry: Entry) {
        let position = self.number(0).fetch_add(1, Ordering::SeqCst);
        let slot = self.slot(position);
        // Readers look for lost entries after the ring, so this comes first.
        self.number(1).fetch_max(slot.load(Ordering::SeqCst) & (EVENT - 1), Ordering::SeqCst);
        let event = if entry == Entry::Event { EVENT } else { 0 };
        slot.store(lap_of(position) << LAP_SHIFT | event | xid, Ordering::SeqCst);
    }

    /// Calls `each` for the entries from `from` on. Returns the position up to which they are
    /// complete: an entry that was given out may not be written yet. `None` if some were lost.
    fn read(&self, from: u64, mut each: impl FnMut(u64, Entry)) -> Option<u64> {
        let head = self.head();
        let mut complete = None;
        for position in from..head {
            let slot = self.slot(position).load(Ordering::SeqCst);
            if slot >> LAP_SHIFT == lap_of(position) {
                each(slot & (EVENT - 1), if slot & EVENT == 0 { Entry::Rows } else { Entry::Event });
            } else {
                complete.get_or_insert(position);
            }
        }
        let is_whole = self.head() - from <= ENTRIES && self.is_current();
        is_whole.then(|| complete.unwrap_or(head))
    }
}

/// Numbers the rounds of the ring from 1, because an entry that was never written is 0.
const fn lap_of(position: u64) -> u64 {
    (position / ENTRIES + 1) & LAP_MASK
}

/// Names the file after this start of the server.
fn name() -> String {
    // SAFETY: Reads constants of the backend.
    let (process, start) = unsafe { (pg_sys::PostmasterPid, pg_sys::PgStartTime) };
    format!("{process}-{start}")
}

/// Enters the current transaction, if it has an id, as one without has written nothing.
pub(crate) fn note(entry: Entry) -> Result<(), SqlError> {
    // SAFETY: Reads a variable of this backend.
    let xid = unsafe { pg_sys::GetTopFullTransactionIdIfAny() }.value;
    let mut noted = NOTED.get();
    if xid == 0 || noted[entry as usize] == xid {
        return Ok(());
    }
    loop {
        match Register::open() {
            Ok(register) => {
                register.add(xid, entry);
                if map::take_damage() || !register.is_current() {
                    REGISTER.set(None);
                    continue;
                }
            }
            // The folder or a resource of this backend is missing.
            Err(_) => remove()?,
        }
        noted[entry as usize] = xid;
        NOTED.set(noted);
        return Ok(());
    }
}

/// Removes a register that cannot be opened, so that no one trusts it.
fn remove() -> Result<(), SqlError> {
    REGISTER.set(None);
    // SAFETY: Reads a constant of the backend.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    // Without a folder there is no register.
    let Ok(folder) = Folder::open(&data_directory()?, database) else { return Ok(()) };
    folder.remove_register(&name()).map_err(|error| SqlError::io("remove the register of writers", &error))
}

/// How far a reader with a snapshot has read the register.
#[derive(Debug, Clone)]
pub(super) struct Position {
    /// Identity of the file.
    inode: u64,
    head: u64,
    /// Transactions that the snapshot does not see, and that may have written.
    writers: Vec<u64>,
    /// Transactions that had not ended, and that may have raised the epoch.
    events: Vec<u64>,
}

/// What may have changed since a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    pub(super) rows: bool,
    pub(super) events: bool,
}

impl Position {
    /// Begins to read the register for a reader who has read the tables in a snapshot. `None` if
    /// the register cannot be trusted for that.
    pub(super) fn begin(snapshot: &Snapshot) -> Option<Self> {
        let register = Register::open().ok()?;
        let created = register.number(2).load(Ordering::SeqCst);
        if created == 0 || snapshot.xmin() < created {
            return None;
        }
        let running = snapshot.in_progress();
        let mut position = Self { inode: 0, head: 0, writers: running.to_vec(), events: running.to_vec() };
        position.inode = register.file.metadata().ok()?.ino();
        let head = register.head();
        position.head = register.read(head.saturating_sub(ENTRIES), |xid, entry| {
            if !snapshot.sees(xid) {
                position.writers.push(xid);
                if entry == Entry::Event {
                    position.events.push(xid);
                }
            }
        })?;
        // A lost entry from here on might be one that the snapshot does not see.
        let lost = register.number(1).load(Ordering::SeqCst);
        position.tidy();
        (lost < snapshot.xmax()).then_some(position)
    }

    /// Reads the register for a later snapshot, for which the position then stands. `None` if it
    /// cannot be trusted any more.
    pub(super) fn advance(&mut self, snapshot: &Snapshot) -> Option<News> {
        let register = REGISTER.with_borrow(Clone::clone)?;
        if register.file.metadata().ok()?.ino() != self.inode {
            return None;
        }
        let Self { head, writers, events, .. } = self;
        *head = register.read(*head, |xid, entry| {
            writers.push(xid);
            if entry == Entry::Event {
                events.push(xid);
            }
        })?;
        self.tidy();
        let (pending, unfinished) = (self.writers.len(), self.events.len());
        self.writers.retain(|xid| !snapshot.sees(*xid));
        self.events.retain(|xid| is_running(*xid));
        Some(News { rows: self.writers.len() < pending, events: self.events.len() < unfinished })
    }

    fn tidy(&mut self) {
        for list in [&mut self.writers, &mut self.events] {
            list.sort_unstable();
            list.dedup();
        }
    }
}

/// Returns true until a transaction has ended, for all sessions.
fn is_running(xid: u64) -> bool {
    // SAFETY: Reads shared state. The id is of a transaction that began in this start of the
    // server, or was in progress in a recent snapshot.
    unsafe { pg_sys::TransactionIdIsInProgress(pg_sys::TransactionId::from(xid as u32)) }
}
