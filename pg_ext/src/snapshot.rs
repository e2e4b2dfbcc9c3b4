//! The caller's snapshot and rights, and the identity of the server, read from its own structures.
//!
//! `pg_current_snapshot()` leaves out transactions in progress while a server replays (it reads
//! `xip`, a standby fills `subxip`), so the snapshot is read here.

#![allow(unsafe_code, reason = "calls the server")]

use arx_core::graph::Snapshot;
use arx_pgwire::PgWireError;
use arx_pgwire::snapshot::PgSnapshot;
use pgrx::pg_sys;

use crate::error::SqlError;
use crate::versions::ACL_SELECT;

/// The reader for which a call works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) snapshot: Snapshot,
    /// Its own transaction, if one is assigned: then it has written, or is about to.
    pub(crate) own: Option<u64>,
    /// Command of the snapshot: it does not see what later commands of its own transaction wrote.
    pub(crate) command: u32,
    /// Its subtransaction: a rollback to a savepoint begins another.
    pub(crate) subtransaction: u32,
}

/// Identity of the cluster, the database and its table of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerIdentity {
    pub(crate) system_identifier: u64,
    pub(crate) timeline: u32,
    pub(crate) database: u32,
    /// `arx.transactions`.
    pub(crate) relation: u32,
    pub(crate) in_recovery: bool,
}

impl Caller {
    /// Returns the transaction of the session, if it has an id.
    pub(crate) fn own_transaction() -> Option<u64> {
        // SAFETY: Reads a variable of this backend.
        let own = unsafe { pg_sys::GetTopFullTransactionIdIfAny() }.value;
        (own != 0).then_some(own)
    }

    /// Reads the active snapshot.
    pub(crate) fn current() -> Result<Self, SqlError> {
        // SAFETY: A function called through SQL has an active snapshot, which lives until the
        // function returns; the two arrays have the lengths stored next to them.
        unsafe {
            let active = pg_sys::GetActiveSnapshot().as_ref();
            let active = active.ok_or_else(|| SqlError::corrupt("no snapshot is active"))?;
            Ok(Self {
                snapshot: of_server(active),
                own: Self::own_transaction(),
                command: active.curcid,
                subtransaction: pg_sys::GetCurrentSubTransactionId(),
            })
        }
    }
}

/// Reads a snapshot of the server.
///
/// # Safety
/// The two arrays of the snapshot have the lengths stored next to them.
unsafe fn of_server(snapshot: &pg_sys::SnapshotData) -> Snapshot {
    // SAFETY: As the caller promises.
    unsafe {
        let next = pg_sys::ReadNextFullTransactionId().value;
        let wide = |xid: pg_sys::TransactionId| extend(xid.into_inner(), next);
        let mut running: Vec<u64> = array(snapshot.xip, snapshot.xcnt as usize).iter().map(|xid| wide(*xid)).collect();
        if snapshot.takenDuringRecovery {
            let count = usize::try_from(snapshot.subxcnt).unwrap_or(0);
            running.extend(array(snapshot.subxip, count).iter().map(|xid| wide(*xid)));
        }
        Snapshot::new(wide(snapshot.xmax), running)
    }
}

/// Returns a snapshot of what is committed now.
pub(crate) fn latest_snapshot() -> Snapshot {
    // SAFETY: A catalog snapshot, which is always new for a relation without a system cache. It is
    // read before anything can replace it.
    unsafe { of_server(&*pg_sys::GetCatalogSnapshot(relation(c"graph_epoch"))) }
}

/// Returns true while the server replays the log of another.
pub(crate) fn is_standby() -> bool {
    // SAFETY: Reads shared state.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Returns the transaction id that the server assigns next.
pub(crate) fn next_transaction() -> u64 {
    // SAFETY: Reads shared state.
    unsafe { pg_sys::ReadNextFullTransactionId().value }
}

/// Prints a snapshot as a `pg_snapshot`.
pub(crate) fn snapshot_text(snapshot: &Snapshot) -> String {
    let in_progress = snapshot.in_progress().to_vec();
    PgSnapshot { xmin: snapshot.xmin(), xmax: snapshot.xmax(), in_progress }.to_string()
}

/// Parses the text of a `pg_snapshot`.
pub(crate) fn parse_snapshot(text: &str) -> Result<Snapshot, PgWireError> {
    text.parse().map(|PgSnapshot { xmax, in_progress, .. }| Snapshot::new(xmax, in_progress))
}

/// # Safety
/// `start` points at `length` elements, or `length` is 0.
unsafe fn array<'a, T>(start: *const T, length: usize) -> &'a [T] {
    // SAFETY: As the caller promises.
    if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(start, length) } }
}

/// Widens a 32-bit transaction id that is not after `next`.
const fn extend(xid: u32, next: u64) -> u64 {
    let epoch = next >> 32;
    let epoch = if xid > next as u32 { epoch.wrapping_sub(1) } else { epoch };
    (epoch << 32) | xid as u64
}

impl ServerIdentity {
    pub(crate) fn current() -> Self {
        // SAFETY: Reads shared state that a backend may read at any time.
        unsafe {
            let in_recovery = pg_sys::RecoveryInProgress();
            let mut timeline = 0;
            if in_recovery {
                pg_sys::GetXLogReplayRecPtr(&raw mut timeline);
            } else {
                timeline = pg_sys::GetWALInsertionTimeLine();
            }
            Self {
                system_identifier: pg_sys::GetSystemIdentifier(),
                timeline,
                database: pg_sys::MyDatabaseId.to_u32(),
                relation: relation(c"graph_epoch").to_u32(),
                in_recovery,
            }
        }
    }
}

/// Returns the oldest transaction that a running one may not see. Older ones are visible to all.
pub(crate) fn oldest_invisible() -> u64 {
    // SAFETY: Without a relation the function answers for all databases.
    unsafe {
        let next = pg_sys::ReadNextFullTransactionId().value;
        extend(pg_sys::GetOldestNonRemovableTransactionId(std::ptr::null_mut()).into_inner(), next)
    }
}

/// Returns a number that no one can predict.
pub(crate) fn random_seed() -> Result<u64, SqlError> {
    let mut seed = [0_u8; 8];
    // SAFETY: Fills a buffer of the given length.
    let filled = unsafe { pg_sys::pg_strong_random(seed.as_mut_ptr().cast(), seed.len()) };
    if filled { Ok(u64::from_ne_bytes(seed)) } else { Err(SqlError::corrupt("the server has no random numbers")) }
}

/// Returns true if a transaction id may be assigned now, which a parallel query must not do.
pub(crate) fn may_write() -> bool {
    // SAFETY: Reads a flag of this backend.
    unsafe { !pg_sys::IsInParallelMode() }
}

pub(crate) fn data_directory() -> Result<std::path::PathBuf, SqlError> {
    // SAFETY: Set once at the server's start, to a string that ends with NUL.
    let directory = unsafe { pg_sys::DataDir.cast_const().as_ref().map(|first| std::ffi::CStr::from_ptr(first)) };
    let directory = directory.ok_or_else(|| SqlError::corrupt("the server has no data directory"))?;
    Ok(std::path::PathBuf::from(std::ffi::OsStr::new(&*directory.to_string_lossy())))
}

/// Returns a relation of the schema `arx`, or 0 if it does not exist.
pub(crate) fn relation(name: &std::ffi::CStr) -> pg_sys::Oid {
    // SAFETY: Reads the catalog by names that end with NUL.
    unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(c"arx".as_ptr(), true)) }
}

/// Returns true if all statements of the transaction see the same snapshot.
pub(crate) fn keeps_snapshot() -> bool {
    // SAFETY: Reads a variable of this backend.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Runs a function in a snapshot that sees everything committed until now and this transaction's
/// own changes. It is a catalog snapshot, because the leader of a parallel query may still take
/// one.
pub(crate) fn with_latest_snapshot<R>(run: impl FnOnce() -> Result<R, SqlError>) -> Result<R, SqlError> {
    // SAFETY: The catalog snapshot for a relation without a system cache is always new, and the
    // stack copies it. It is popped below; after an error, the end of the (sub)transaction pops it.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetCatalogSnapshot(relation(c"graph_epoch"))) };
    let result = run();
    // SAFETY: Pops the snapshot pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}

/// Returns the OID of a table of users, which must exist.
pub(crate) fn require_table(name: &std::ffi::CStr) -> Result<pg_sys::Oid, SqlError> {
    let oid = relation(name);
    if oid == pg_sys::InvalidOid {
        return Err(SqlError::no_tables(&format!("relation \"arx.{}\" does not exist", name.to_string_lossy())));
    }
    Ok(oid)
}

/// Rejects a caller that may not read every row of a relation of the schema `arx`.
pub(crate) fn require_whole(relation: &'static std::ffi::CStr) -> Result<(), SqlError> {
    const RLS_ENABLED: i32 = 2;
    let name = relation.to_string_lossy();
    // SAFETY: Reads the catalog by names that end with NUL.
    unsafe {
        let oid = require_table(relation)?;
        let allowed = pg_sys::pg_class_aclcheck(oid, pg_sys::GetUserId(), ACL_SELECT);
        if allowed != pg_sys::AclResult::ACLCHECK_OK {
            return Err(SqlError::no_select(&name));
        }
        if pg_sys::check_enable_rls(oid, pg_sys::InvalidOid, true) == RLS_ENABLED {
            return Err(SqlError::row_security(&name));
        }
    }
    Ok(())
}
