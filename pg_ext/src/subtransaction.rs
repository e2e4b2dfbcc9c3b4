//! Work that can be undone without the end of the transaction.

#![allow(unsafe_code, reason = "begins and ends subtransactions")]

use std::panic::AssertUnwindSafe;

use pgrx::PgTryBuilder;
use pgrx::prelude::*;

use crate::error::SqlError;

/// Runs a function in a subtransaction, as PL/pgSQL does for a block with an exception handler.
/// `None`, an error of the function, and the server's error `caught` undo what it did, and release
/// its locks; the server's error becomes `None`. Any other error of the server undoes it as well,
/// and goes on to the caller.
pub(crate) fn attempt<T>(
    caught: PgSqlErrorCode,
    work: impl FnOnce() -> Result<Option<T>, SqlError>,
) -> Result<Option<T>, SqlError> {
    // SAFETY: In a transaction.
    let outer = unsafe {
        let outer = Outer { context: pg_sys::CurrentMemoryContext, owner: pg_sys::CurrentResourceOwner };
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(outer.context);
        outer
    };
    let in_handler = AssertUnwindSafe(outer);
    let result = PgTryBuilder::new(AssertUnwindSafe(work))
        .catch_when(caught, |_| Ok(None))
        .catch_others(move |error| {
            in_handler.end(false);
            error.rethrow()
        })
        .execute();
    outer.end(matches!(result, Ok(Some(_))));
    result
}

/// State of the backend that a subtransaction changes.
#[derive(Clone, Copy)]
struct Outer {
    context: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

impl Outer {
    /// Ends the subtransaction.
    fn end(self, keep: bool) {
        // SAFETY: Called once, in the subtransaction of `attempt`.
        unsafe {
            if keep {
                pg_sys::ReleaseCurrentSubTransaction();
            } else {
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
            }
            pg_sys::MemoryContextSwitchTo(self.context);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}
