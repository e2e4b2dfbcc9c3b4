//! The register of writers: which transactions may have changed the tables of transfers, so that a
//! caller need not ask the tables when none of them did. `arx_core::graph::Register` is the ring;
//! this module owns its file.
//!
//! `pgsql_tmp_arx/<database>/writers-<postmaster>` is mapped by all backends of the database. A
//! transaction enters its id when it first writes into a table of transfers (the trigger
//! `arx_note_writer` of each table and partition) or raises the epoch; aborted ones stay in it,
//! which costs a question. The register is trusted only where that holds:
//!
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
use std::sync::atomic::AtomicU64;

pub(crate) use arx_core::graph::Entry;
pub(super) use arx_core::graph::News;
use arx_core::graph::{Register, RegisterPosition, Snapshot};
use memmap2::MmapRaw;
use pgrx::pg_sys;

use super::folder::Folder;
use super::map::{self, Guard};
use crate::error::SqlError;
use crate::snapshot::{data_directory, next_transaction};

/// Entries of the ring.
const ENTRIES: usize = 1 << 16;
const LENGTH: usize = Register::length(ENTRIES) * size_of::<u64>();

/// A mapped ring.
struct MappedRegister {
    /// Distinguishes it from all others that this backend has mapped. A later file may have the
    /// inode of an earlier one.
    serial: u64,
    map: MmapRaw,
    _guard: Guard,
    file: File,
}

thread_local! {
    static REGISTER: RefCell<Option<Rc<MappedRegister>>> = const { RefCell::new(None) };
    static SERIAL: Cell<u64> = const { Cell::new(0) };
    /// The entries that this backend has made last, by kind.
    static NOTED: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
}

impl MappedRegister {
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
            SERIAL.set(SERIAL.get() + 1);
            let register = Rc::new(Self { serial: SERIAL.get(), map, _guard: guard, file });
            if register.is_current() {
                break register;
            }
            // Someone has removed it meanwhile, or has truncated it.
            if register.file.metadata()?.nlink() > 0 {
                folder.remove_register(&name())?;
            }
        };
        // Ids from here on are assigned after the file had its name.
        register.ring()?.trust_from(next_transaction());
        REGISTER.set(Some(Rc::clone(&register)));
        Ok(register)
    }

    /// Returns false if the file was removed or truncated.
    fn is_current(&self) -> bool {
        let metadata = self.file.metadata();
        metadata.is_ok_and(|metadata| metadata.nlink() > 0 && metadata.len() == LENGTH as u64)
    }

    fn ring(&self) -> io::Result<Register<'_>> {
        // SAFETY: The mapping has this many numbers, starts at a page, and lives as long as `self`.
        // All processes access them as atomics.
        let numbers = unsafe {
            let first = self.map.as_ptr().cast::<AtomicU64>();
            std::slice::from_raw_parts(first, self.map.len() / size_of::<u64>())
        };
        Register::new(numbers).ok_or_else(|| io::Error::other("the register of writers is too short"))
    }
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
        let added = MappedRegister::open().and_then(|register| {
            register.ring()?.add(xid, entry);
            Ok(register)
        });
        match added {
            Ok(register) => {
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

/// The position up to which a reader has read the register.
#[derive(Debug, Clone)]
pub(super) struct Position {
    /// The register that it was read from.
    serial: u64,
    position: RegisterPosition,
}

impl Position {
    /// Begins to read the register for a reader who has read the tables in a snapshot. `None` if
    /// the register cannot be trusted for that.
    pub(super) fn begin(snapshot: &Snapshot) -> Option<Self> {
        let register = MappedRegister::open().ok()?;
        let position = RegisterPosition::begin(&register.ring().ok()?, snapshot)?;
        register.is_current().then_some(Self { serial: register.serial, position })
    }

    /// Reads the register for a later snapshot, for which the position then stands. `None` if it
    /// cannot be trusted any more.
    pub(super) fn advance(&mut self, snapshot: &Snapshot) -> Option<News> {
        let register = REGISTER.with_borrow(Clone::clone)?;
        let news = self.position.advance(&register.ring().ok()?, snapshot, is_running)?;
        // A file that was removed meanwhile may have missed entries.
        (register.serial == self.serial && register.is_current()).then_some(news)
    }
}

/// Returns true until a transaction has ended, for all sessions.
fn is_running(xid: u64) -> bool {
    // SAFETY: Reads shared state. The id is of a transaction that began in this start of the
    // server, or was in progress in a recent snapshot.
    unsafe { pg_sys::TransactionIdIsInProgress(pg_sys::TransactionId::from(xid as u32)) }
}
