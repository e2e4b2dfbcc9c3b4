//! Rows that ARX moves or stamps itself.
//!
//! While ARX moves rows from a default partition into a month, or stamps the rows of a restored
//! database, no content changes: rows keep their stamps, nothing is logged, and the epoch stays.
//! The state belongs to this backend and cannot be set from SQL.

use std::cell::Cell;

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

/// Restores the state when it is dropped, also while an error unwinds.
struct Moving(bool);

impl Drop for Moving {
    fn drop(&mut self) {
        MOVING.set(self.0);
    }
}
