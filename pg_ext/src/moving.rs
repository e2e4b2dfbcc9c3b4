//! Rows that ARX moves or stamps itself.
//!
//! While ARX moves rows from a default partition into a month, or stamps the rows of a restored
//! database, no content changes: rows keep their stamps, nothing is logged, and the epoch stays.
//! The state belongs to this backend and cannot be set from SQL.

#![allow(unsafe_code, reason = "sets a variable of the server")]

use std::cell::Cell;

use pgrx::pg_sys;

thread_local! {
    static MOVING: Cell<bool> = const { Cell::new(false) };
}

/// Returns true within [`move_rows`].
pub(crate) fn is_moving_rows() -> bool {
    MOVING.get()
}

/// Runs a function whose changes of facts are not changes of content.
pub(crate) fn move_rows<R>(work: impl FnOnce() -> R) -> R {
    let _moving = Moving(MOVING.replace(true));
    work()
}

/// Runs a function that moves or stamps rows, without the triggers of users: they would see a
/// change although the content stays, and could change or prevent it. ARX's own triggers, which are
/// enabled always, fire. Triggers that a user has enabled always, or for replication, fire as well.
///
/// The session counts as one that applies changes of a publisher. The variable is set instead of
/// the setting, whose change would discard the session's plans.
pub(crate) fn without_user_triggers<R>(work: impl FnOnce() -> R) -> R {
    const REPLICA: i32 = pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32;
    // SAFETY: A variable of this backend, whose only thread that runs the server's code is here.
    let _replica = unsafe {
        let before = pg_sys::SessionReplicationRole;
        pg_sys::SessionReplicationRole = REPLICA;
        Replica(before)
    };
    work()
}

/// Restores the session's role when it is dropped, also while an error unwinds.
struct Replica(i32);

impl Drop for Replica {
    fn drop(&mut self) {
        // SAFETY: As above.
        unsafe { pg_sys::SessionReplicationRole = self.0 };
    }
}

/// Restores the state when it is dropped, also while an error unwinds.
struct Moving(bool);

impl Drop for Moving {
    fn drop(&mut self) {
        MOVING.set(self.0);
    }
}
