//! The only door to SPI: every query runs under pinned settings.
//!
//! A caller's `search_path` decides which operator `=` or `*` means wherever `pg_catalog` has no
//! exact match, so a role that may create an operator in a schema of that path could run code as
//! the caller. With `row_security` on, a policy removes rows and leaves no trace, so an answer
//! would be partial without saying so; with it off, such a query is an error.
//!
//! Pinning costs some microseconds. A function with several queries therefore pins once by
//! [`pin`]; queries find the settings in force and leave them alone. The settings themselves are
//! compared, not a flag: a query may call a function that changes them and calls ARX again.

#![allow(unsafe_code, reason = "changes settings of the server")]

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pgrx::pg_sys;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::tables::is_table_of_users;
use crate::encoding::require_utf8;
use crate::error::{SqlError, or_report};
use crate::guc::set;
use crate::table_owner::{Purpose, as_table_owner};

const SEARCH_PATH: &CStr = c"pg_catalog, pg_temp";

/// Plans that suit a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Index scans of partitions: the planner would estimate that an unknown snapshot selects a
    /// third of the table.
    Index,
    /// Any plan, in one process.
    Any,
}

/// Settings that are reset when it is dropped.
#[must_use]
pub(crate) struct Pinned(Option<c_int>);

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(level) = self.0
            && !std::thread::panicking()
        {
            // SAFETY: Resets the settings of the level that was begun in `pin_for`. After an error,
            // the end of the (sub)transaction resets them.
            unsafe { pg_sys::AtEOXact_GUC(true, level) };
        }
    }
}

/// State of a call: its first query pins the settings of all of them.
#[derive(Debug, Clone, Copy)]
enum CallState {
    /// No call is running, or [`pin`] did not begin it.
    None,
    /// No query has run yet.
    Unpinned,
    Pinned,
}

thread_local! {
    static CALL: Cell<CallState> = const { Cell::new(CallState::None) };
    static PINNED: RefCell<Vec<Pinned>> = const { RefCell::new(Vec::new()) };
}

/// A call whose settings are reset when it is dropped.
#[must_use]
pub(crate) struct PinnedCall {
    outer: CallState,
    /// Pinned before this call.
    before: usize,
}

impl Drop for PinnedCall {
    fn drop(&mut self) {
        CALL.set(self.outer);
        // After an error, they reset nothing: see `Pinned`.
        PINNED.with_borrow_mut(|pinned| pinned.truncate(self.before));
    }
}

/// Pins the settings of all queries from the first one on, until the result is dropped. A call that
/// reads the graph alone pins nothing.
pub(crate) fn pin() -> PinnedCall {
    or_report(require_utf8());
    let before = PINNED.with_borrow(Vec::len);
    PinnedCall { outer: CALL.replace(CallState::Unpinned), before }
}

/// Pins the settings of the call that is running, if that has not been done. It comes before any
/// other level of settings is begun within the call, so that levels end in the order in which they
/// began.
pub(crate) fn pin_call() {
    if matches!(CALL.get(), CallState::Unpinned) {
        CALL.set(CallState::Pinned);
        let pinned = pin_for(Access::Index);
        PINNED.with_borrow_mut(|all| all.push(pinned));
    }
}

fn pin_for(access: Access) -> Pinned {
    let index = access == Access::Index;
    // SAFETY: Reads variables of this backend, which has one thread that calls the server. The
    // search path is a string that ends with NUL, or null before the first setting.
    let settings = unsafe {
        let path = pg_sys::namespace_search_path;
        let is_pinned = !path.is_null() && CStr::from_ptr(path) == SEARCH_PATH;
        [
            (c"search_path", SEARCH_PATH, is_pinned),
            (c"row_security", c"off", !pg_sys::row_security),
            (c"jit", c"off", !pg_sys::jit_enabled),
            (c"enable_seqscan", if index { c"off" } else { c"on" }, pg_sys::enable_seqscan != index),
            // Switched off by functions whose steps have no known sizes: without it, few wallets
            // would be joined by a hash of a whole table.
            (c"enable_nestloop", c"on", pg_sys::enable_nestloop),
            (c"max_parallel_workers_per_gather", c"0", index || pg_sys::max_parallel_workers_per_gather == 0),
        ]
    };
    if settings.iter().all(|(_, _, in_force)| *in_force) {
        return Pinned(None);
    }
    // SAFETY: Names and values end with NUL, and the level is ended by `Pinned`.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        for (name, value, _) in settings.iter().filter(|(_, _, in_force)| !in_force) {
            set(name, value);
        }
        Pinned(Some(level))
    }
}

/// Runs a function within an SPI connection, under pinned settings.
#[allow(clippy::disallowed_methods, reason = "the only door to SPI")]
pub(super) fn connected<R>(
    access: Access,
    run: impl FnOnce(&mut SpiClient<'_>) -> Result<R, SqlError>,
) -> Result<R, SqlError> {
    or_report(require_utf8());
    let _pinned = pin_for(access);
    Spi::connect_mut(run)
}

/// Does the same for a query that reads tables of users, with the rights that a reader has. Errors
/// of the server that the caller can act on get ARX's words.
pub(super) fn connected_to_tables<R>(
    access: Access,
    run: impl FnOnce(&mut SpiClient<'_>) -> Result<R, SqlError>,
) -> Result<R, SqlError> {
    pin_call();
    as_table_owner(Purpose::Read, || in_words(translated, || connected(access, run)))
}

/// Does the same for a query that may run as the owner of a table: the server's hint about
/// row-level security is meant for that role.
pub(super) fn connected_as_any_role<R>(
    access: Access,
    run: impl FnOnce(&mut SpiClient<'_>) -> Result<R, SqlError>,
) -> Result<R, SqlError> {
    in_words(missing_table, || connected(access, run))
}

/// Runs a function, and replaces the error that the tables of users are missing.
pub(crate) fn with_words<R>(run: impl FnOnce() -> Result<R, SqlError>) -> Result<R, SqlError> {
    in_words(missing_table, run)
}

/// Runs a function, and replaces an error of the server for which there are words.
fn in_words<R>(
    words: fn(&ErrorReportWithLevel) -> Option<SqlError>,
    run: impl FnOnce() -> Result<R, SqlError>,
) -> Result<R, SqlError> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(payload) => match payload.downcast::<CaughtError>() {
            Ok(caught) => Err(match &*caught {
                CaughtError::PostgresError(report) => words(report),
                _ => None,
            }
            .unwrap_or_else(|| caught.rethrow())),
            Err(other) => resume_unwind(other),
        },
    }
}

/// Returns ARX's error for one of the server's, if it has one. The caller raises it at once, so
/// that the transaction ends as with the server's own.
fn translated(report: &ErrorReportWithLevel) -> Option<SqlError> {
    // The function's name distinguishes it from other errors in every language of the server.
    let is_row_security = report.sql_error_code() == PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE
        && report.function_name() == Some("check_enable_rls");
    if is_row_security { Some(SqlError::row_security(quoted(report.message()))) } else { missing_table(report) }
}

fn missing_table(report: &ErrorReportWithLevel) -> Option<SqlError> {
    let is_missing = report.sql_error_code() == PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE
        && is_table_of_users(quoted(report.message()));
    is_missing.then(|| SqlError::no_tables(report.message()))
}

/// Returns the name that a message of the server quotes.
fn quoted(message: &str) -> &str {
    let is_quote = |c: char| matches!(c, '"' | '«' | '»' | '„' | '“' | '”');
    let name = message.split(is_quote).nth(1).map(|name| name.trim_matches(|c: char| c.is_whitespace()));
    name.unwrap_or(message)
}
