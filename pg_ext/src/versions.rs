//! Differences between the supported versions of PostgreSQL. Everything else is the same code for
//! all of them.

#![allow(unsafe_code, reason = "reads the server's structures")]

use std::ffi::c_int;

use pgrx::pg_sys;

/// The privilege SELECT. Privileges have 32 bits in PostgreSQL 15, and 64 since 16.
pub(crate) const ACL_SELECT: pg_sys::AclMode = pg_sys::ACL_SELECT as pg_sys::AclMode;

/// Returns the number of this backend's transaction, which it has before it writes, or that of its
/// last one.
pub(crate) fn local_transaction_id() -> pg_sys::LocalTransactionId {
    // SAFETY: Set at the start of the backend; the field is written by this backend alone.
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    let number = unsafe { (*pg_sys::MyProc).lxid };
    // SAFETY: As above.
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    let number = unsafe { (*pg_sys::MyProc).vxid.lxid };
    number
}

/// Returns the columns of a tuple descriptor.
///
/// # Safety
/// The descriptor must be valid for `'a`.
pub(crate) unsafe fn attributes<'a>(columns: pg_sys::TupleDesc) -> &'a [pg_sys::FormData_pg_attribute] {
    // SAFETY: The caller's.
    let count = unsafe { (*columns).natts as usize };
    // SAFETY: The server allocates a descriptor with an array of that many columns.
    #[cfg(not(feature = "pg18"))]
    let attributes = unsafe { (*columns).attrs.as_slice(count) };
    // SAFETY: Since 18, the columns follow an array of as many short forms.
    #[cfg(feature = "pg18")]
    let attributes = unsafe { std::slice::from_raw_parts((*columns).compact_attrs.as_ptr().add(count).cast(), count) };
    attributes
}

/// Begins a scan of an index with this number of keys.
///
/// # Safety
/// Both relations are open and locked, and the snapshot lives until the scan ends.
pub(crate) unsafe fn index_beginscan(
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: i32,
) -> pg_sys::IndexScanDesc {
    // SAFETY: As the caller promises.
    #[cfg(not(feature = "pg18"))]
    let scan = unsafe { pg_sys::index_beginscan(relation, index, snapshot, keys, 0) };
    // SAFETY: As the caller promises; the counters of EXPLAIN are left out.
    #[cfg(feature = "pg18")]
    let scan = unsafe { pg_sys::index_beginscan(relation, index, snapshot, std::ptr::null_mut(), keys, 0) };
    scan
}

/// Sets the handler of a signal.
///
/// # Safety
/// The handler may be called at any time from now on.
pub(crate) unsafe fn handle_signal(signal: c_int, handler: pg_sys::pqsigfunc) {
    // SAFETY: As the caller promises; the former handler is not needed.
    #[cfg(not(feature = "pg18"))]
    unsafe {
        pg_sys::pqsignal(signal, handler);
    }
    // SAFETY: As the caller promises; since 18, backends have a function of their own.
    #[cfg(feature = "pg18")]
    unsafe {
        pg_sys::pqsignal_be(signal, handler);
    }
}
