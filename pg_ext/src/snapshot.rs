//! What the caller sees, and where it runs: the server's own structures, read.
//!
//! `pg_current_snapshot()` leaves out what is in progress while a server replays (it reads `xip`, a standby fills `subxip`), so the
//! snapshot is read here.

use arx_core::graph::Snapshot;
use arx_pgwire::PgWireError;
use arx_pgwire::snapshot::PgSnapshot;
use pgrx::pg_sys;

use crate::error::SqlError;

/// The reader that a call works for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose commits it sees.
    pub snapshot: Snapshot,
    /// Its own transaction, if that has a number: it has written, or is about to.
    pub own: Option<u64>,
    /// The command whose snapshot it is: what later ones of its own transaction wrote is not seen.
    pub command: u32,
    /// The subtransaction it runs in: going back to a savepoint begins another.
    pub subtransaction: u32,
}

/// The cluster and the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub system_identifier: u64,
    pub timeline: u32,
    pub database: u32,
    /// `arx.transactions`.
    pub relation: u32,
    pub in_recovery: bool,
}

impl Caller {
    /// From the active snapshot.
    pub fn current() -> Result<Self, SqlError> {
        // SAFETY: a function called through SQL has an active snapshot, which lives until it returns; the two arrays have the
        // lengths beside them.
        unsafe {
            let active = pg_sys::GetActiveSnapshot().as_ref();
            let active = active.ok_or_else(|| SqlError::corrupt("a graph function runs without a snapshot"))?;
            let next = pg_sys::ReadNextFullTransactionId().value;
            let wide = |xid: pg_sys::TransactionId| extend(xid.into_inner(), next);
            let mut running: Vec<u64> = array(active.xip, active.xcnt as usize).iter().map(|xid| wide(*xid)).collect();
            if active.takenDuringRecovery {
                let count = usize::try_from(active.subxcnt).unwrap_or(0);
                running.extend(array(active.subxip, count).iter().map(|xid| wide(*xid)));
            }
            let own = pg_sys::GetTopFullTransactionIdIfAny().value;
            Ok(Self {
                snapshot: Snapshot::new(wide(active.xmax), running),
                own: (own != 0).then_some(own),
                command: active.curcid,
                subtransaction: pg_sys::GetCurrentSubTransactionId(),
            })
        }
    }
}

/// Prints a snapshot as a `pg_snapshot`.
pub fn snapshot_text(snapshot: &Snapshot) -> String {
    let in_progress = snapshot.in_progress().to_vec();
    PgSnapshot { xmin: snapshot.xmin(), xmax: snapshot.xmax(), in_progress }.to_string()
}

/// Parses the text of a `pg_snapshot`.
pub fn parse_snapshot(text: &str) -> Result<Snapshot, PgWireError> {
    text.parse().map(|PgSnapshot { xmax, in_progress, .. }| Snapshot::new(xmax, in_progress))
}

/// # Safety
/// `start` points at `length` elements, or `length` is 0.
unsafe fn array<'a, T>(start: *const T, length: usize) -> &'a [T] {
    // SAFETY: as the caller promises
    if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(start, length) } }
}

/// A 32-bit number that is not after `next`, with the upper half it must have.
const fn extend(xid: u32, next: u64) -> u64 {
    let upper = next >> 32;
    let upper = if xid > next as u32 { upper.wrapping_sub(1) } else { upper };
    (upper << 32) | xid as u64
}

impl Place {
    /// Of this backend.
    pub fn current() -> Self {
        // SAFETY: reads shared state of the server that a backend may read at any time.
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
                relation: relation(c"transactions").to_u32(),
                in_recovery,
            }
        }
    }
}

/// The oldest transaction that some running one may not see yet: what is older, everybody sees.
pub fn horizon() -> u64 {
    // SAFETY: without a relation the function answers for all databases.
    unsafe {
        let next = pg_sys::ReadNextFullTransactionId().value;
        extend(pg_sys::GetOldestNonRemovableTransactionId(std::ptr::null_mut()).into_inner(), next)
    }
}

/// Whether a transaction number may be taken now: not while a query runs in parallel.
pub fn may_write() -> bool {
    // SAFETY: reads a flag of this backend.
    unsafe { !pg_sys::IsInParallelMode() }
}

/// The folder of the cluster's data.
pub fn data_folder() -> Result<std::path::PathBuf, SqlError> {
    // SAFETY: set once at the server's start to a string that ends with NUL.
    let folder = unsafe { pg_sys::DataDir.cast_const().as_ref().map(|first| std::ffi::CStr::from_ptr(first)) };
    let folder = folder.ok_or_else(|| SqlError::corrupt("the server has no data folder"))?;
    Ok(std::path::PathBuf::from(std::ffi::OsStr::new(&*folder.to_string_lossy())))
}

/// A relation of the schema `arx`, 0 if it is not there.
fn relation(name: &std::ffi::CStr) -> pg_sys::Oid {
    // SAFETY: looks into the catalog with names that end with NUL.
    unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(c"arx".as_ptr(), true)) }
}

/// Runs something that sees whatever has been committed until now, and what this transaction has done. The snapshot is one for the
/// catalog: that is what the leader of a parallel query may still take.
pub fn with_latest_snapshot<R>(run: impl FnOnce() -> Result<R, SqlError>) -> Result<R, SqlError> {
    // SAFETY: a snapshot for a relation without a system cache is always a new one; put on the stack, it is copied. It is taken
    // off again, after an error by the end of the (sub)transaction.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetCatalogSnapshot(relation(c"graph_epoch"))) };
    let result = run();
    // SAFETY: as above
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}

/// Refuses a caller that may not read all of a relation of the schema `arx`.
pub fn require_whole(relation: &'static std::ffi::CStr) -> Result<(), SqlError> {
    const RLS_ENABLED: i32 = 2;
    let name = relation.to_string_lossy();
    // SAFETY: looks into the catalog with names that end with NUL.
    unsafe {
        let oid = self::relation(relation);
        if oid == pg_sys::InvalidOid {
            return Err(SqlError::corrupt(format!("relation arx.{name} is missing")));
        }
        let allowed = pg_sys::pg_class_aclcheck(oid, pg_sys::GetUserId(), pg_sys::ACL_SELECT);
        if allowed != pg_sys::AclResult::ACLCHECK_OK {
            return Err(SqlError::no_select(&name));
        }
        if pg_sys::check_enable_rls(oid, pg_sys::InvalidOid, true) == RLS_ENABLED {
            return Err(SqlError::row_security(&name));
        }
    }
    Ok(())
}
