//! Work with the rights of a relation's owner, and locks on relations.
//!
//! Users' tables may belong to any role. Triggers, defaults, policies, and functions in indexes and
//! generated columns are that role's code, and run whenever ARX reads or changes a table. So ARX
//! does it as the owner: the owner does not gain the rights of the caller, and the caller gains no
//! right of the owner beyond the one operation. Nothing here can be called from SQL.

#![allow(unsafe_code, reason = "changes the current user, and locks relations")]

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use crate::error::SqlError;
use crate::guc::set;
use crate::spi;
use crate::subtransaction::attempt;

/// Settings under which work is done as an owner. Names are looked up in the system catalog first,
/// times are printed unambiguously, a policy that would hide rows is an error, and relations are
/// created where their parent is.
const SETTINGS: [(&CStr, &CStr); 6] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"row_security", c"off"),
    (c"datestyle", c"ISO, YMD"),
    (c"timezone", c"UTC"),
    (c"jit", c"off"),
    (c"default_tablespace", c""),
];

/// Longest wait for a lock in one attempt, however long the caller's `lock_timeout` is: later
/// readers and writers wait behind a request for an exclusive lock.
const LOCK_TIMEOUT: &CStr = c"100ms";
const LOCK_TIMEOUT_MILLISECONDS: i32 = 100;
/// Longest wait of a reader, behind another transaction that has locked a relation exclusively.
const READ_TIMEOUT: &CStr = c"3s";
const READ_TIMEOUT_MILLISECONDS: i32 = 3_000;
/// Pause between attempts, in which those who waited behind the last one go on.
const LOCK_PAUSE_MILLISECONDS: i64 = 200;
/// Duration of all attempts.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

thread_local! {
    /// Transaction that has locked a relation exclusively: it does not wait for a further one,
    /// since others would wait for the first one all the while.
    static LOCKED_BY: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Runs a function as the owner of a relation.
///
/// The operation is security-restricted, as those of VACUUM and REINDEX are: the owner's code can
/// leave nothing behind that would run later with the rights of the caller's session (deferred
/// triggers, temporary tables, prepared statements, open cursors), nor take another role. Settings
/// that it changes are reset.
pub(crate) fn as_owner_of<R>(relation: pg_sys::Oid, work: impl FnOnce() -> Result<R, SqlError>) -> Result<R, SqlError> {
    // SAFETY: An open relation has a row of pg_class.
    let owner = unsafe {
        let opened = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as i32);
        if opened.is_null() {
            return Err(SqlError::state(format!("relation with OID {} does not exist any more", relation.to_u32())));
        }
        // The lock is kept until the end of the transaction: the owner cannot change meanwhile.
        let owner = (*(*opened).rd_rel).relowner;
        pg_sys::relation_close(opened, pg_sys::NoLock as i32);
        owner
    };
    as_role(owner, work)
}

/// Does the same for a role.
pub(crate) fn as_role<R>(role: pg_sys::Oid, work: impl FnOnce() -> Result<R, SqlError>) -> Result<R, SqlError> {
    let former = enter_role(role);
    let result = work();
    leave_role(former);
    result
}

/// The state of a session before it works as another role. After an error, the end of the
/// (sub)transaction resets it.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct FormerRole {
    user: pg_sys::Oid,
    context: c_int,
    level: c_int,
}

/// Begins to work as a role, until [`leave_role`].
pub(crate) fn enter_role(role: pg_sys::Oid) -> FormerRole {
    const RESTRICTIONS: c_int = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as c_int;
    // The settings of a call are pinned outside of those of the role.
    spi::pin_call();
    // SAFETY: Variables of this backend; names and values of settings end with NUL.
    unsafe {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
        pg_sys::SetUserIdAndSecContext(role, context | RESTRICTIONS);
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in SETTINGS {
            set(name, value);
        }
        FormerRole { user, context, level }
    }
}

pub(crate) fn leave_role(former: FormerRole) {
    // SAFETY: Puts back what `enter_role` found.
    unsafe {
        pg_sys::AtEOXact_GUC(false, former.level);
        pg_sys::SetUserIdAndSecContext(former.user, former.context);
    }
}

/// Runs a function that waits for each lock no longer than [`LOCK_TIMEOUT`], or than the caller's
/// `lock_timeout` if that is shorter.
pub(crate) fn with_lock_timeout<R>(work: impl FnOnce() -> Result<R, SqlError>) -> Result<R, SqlError> {
    with_timeout(LOCK_TIMEOUT, LOCK_TIMEOUT_MILLISECONDS, work)
}

/// Does the same for a function that only reads, and waits no longer than [`READ_TIMEOUT`]: no one
/// waits behind its locks.
pub(crate) fn with_read_timeout<R>(work: impl FnOnce() -> Result<R, SqlError>) -> Result<R, SqlError> {
    with_timeout(READ_TIMEOUT, READ_TIMEOUT_MILLISECONDS, work)
}

fn with_timeout<R>(
    timeout: &CStr,
    milliseconds: i32,
    work: impl FnOnce() -> Result<R, SqlError>,
) -> Result<R, SqlError> {
    spi::pin_call();
    // SAFETY: The setting is reset below; after an error, the end of the (sub)transaction resets
    // it.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        let callers = pg_sys::LockTimeout;
        if callers == 0 || callers > milliseconds {
            set(c"lock_timeout", timeout);
        }
        let result = work();
        pg_sys::AtEOXact_GUC(true, level);
        result
    }
}

/// Locks relations against all other transactions until the end of this one, in their order. It
/// tries again for [`LOCK_PATIENCE`], and holds no lock meanwhile. The error names the relation and
/// the processes that use it.
pub(crate) fn lock_exclusively(relations: &[pg_sys::Oid]) -> Result<(), SqlError> {
    lock_in_attempts(relations, pg_sys::AccessExclusiveLock as i32)
}

/// Does the same with a lock that lets others read.
pub(crate) fn lock_against_changes(relations: &[pg_sys::Oid]) -> Result<(), SqlError> {
    lock_in_attempts(relations, pg_sys::ShareLock as i32)
}

fn lock_in_attempts(relations: &[pg_sys::Oid], mode: i32) -> Result<(), SqlError> {
    // SAFETY: In a transaction that changes tables.
    let transaction = unsafe { pg_sys::GetTopTransactionId() }.into_inner();
    // SAFETY: Reads a setting.
    let is_patient =
        LOCKED_BY.get() != Some(transaction) && unsafe { pg_sys::LockTimeout } == LOCK_TIMEOUT_MILLISECONDS;
    let begun = Instant::now();
    loop {
        let Some(refused) = try_lock(relations, mode)? else {
            LOCKED_BY.set(Some(transaction));
            return Ok(());
        };
        if !is_patient || begun.elapsed() > LOCK_PATIENCE {
            return Err(SqlError::locked(&spi::relation_name(refused)?, &spi::lock_holders(refused)?));
        }
        pause();
    }
}

/// Locks relations in a subtransaction, or returns the one whose lock was not granted in time, and
/// holds none then.
fn try_lock(relations: &[pg_sys::Oid], mode: i32) -> Result<Option<pg_sys::Oid>, SqlError> {
    let current = Cell::new(pg_sys::InvalidOid);
    let is_granted = attempt(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, || {
        for &relation in relations {
            current.set(relation);
            // SAFETY: Any OID may be locked.
            unsafe { pg_sys::LockRelationOid(relation, mode) };
        }
        Ok(Some(()))
    })?;
    Ok(if is_granted.is_some() { None } else { Some(current.get()) })
}

/// Waits a moment; a cancellation ends the wait.
fn pause() {
    const EVENTS: c_int = (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as c_int;
    // SAFETY: The latch of this backend.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, EVENTS, LOCK_PAUSE_MILLISECONDS, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    check_for_interrupts!();
}
