//! The builder outside readers: a background worker that merges the changes since the graph's file.
//!
//! A reader that finds too many changes asks for a worker and answers from base and overlay, so it
//! neither waits for a merge nor fails with one. A worker runs one transaction, reads the tables
//! with the rights of their owner, and ends. Only if the server has no worker to give, the reader
//! merges.

#![allow(unsafe_code, reason = "starts a background worker, and runs in it")]

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::time::{Duration, Instant};

use nix::libc;
use pgrx::prelude::*;

use super::{Location, refresh};
use crate::error::or_report;
use crate::guc;
use crate::table_owner::{Purpose, as_table_owner};
use crate::versions::handle_signal;

// The server's handler itself, not pgrx's wrapper of it.
unsafe extern "C-unwind" {
    fn die(signal: c_int);
}

/// Intervals between requests of a session for the same base: while workers fail, for lack of room
/// for example, they get longer.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);
const LAST_INTERVAL: Duration = Duration::from_secs(60);

/// Longest wait of a worker for a table that another session has locked. Sessions request another
/// worker later.
const LOCK_TIMEOUT: &CStr = c"1s";

#[derive(Debug, Clone, Copy)]
struct Request {
    generation: u64,
    made: Instant,
    interval: Duration,
}

thread_local! {
    static LAST: Cell<Option<Request>> = const { Cell::new(None) };
}

/// Requests a worker that merges the changes since the base of a generation. Returns false if the
/// server has none to give. A worker that is running, or was requested just now, is enough.
pub(super) fn request(location: &Location, generation: u64) -> bool {
    let now = Instant::now();
    let last = LAST.get().filter(|last| last.generation == generation);
    if last.is_some_and(|last| now.duration_since(last.made) < last.interval) {
        return true;
    }
    if !matches!(location.folder.try_lock(), Ok(Some(_))) {
        return true;
    }
    let interval = last.map_or(FIRST_INTERVAL, |last| (last.interval * 2).min(LAST_INTERVAL));
    LAST.set(Some(Request { generation, made: now, interval }));
    start()
}

fn start() -> bool {
    let mut worker = pg_sys::BackgroundWorker {
        bgw_flags: (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as c_int,
        bgw_start_time: pg_sys::BgWorkerStartTime::BgWorkerStart_ConsistentState,
        bgw_restart_time: pg_sys::BGW_NEVER_RESTART,
        // SAFETY: Reads a constant of the backend.
        bgw_main_arg: pg_sys::Datum::from(unsafe { pg_sys::MyDatabaseId }),
        ..Default::default()
    };
    // The limit that the session has found exceeded.
    if let Ok(limit) = CString::new(guc::graph_delta_limit().to_string()) {
        copy(&limit, &mut worker.bgw_extra);
    }
    copy(c"arx graph builder", &mut worker.bgw_name);
    copy(c"arx graph builder", &mut worker.bgw_type);
    copy(c"arx", &mut worker.bgw_library_name);
    copy(c"arx_graph_builder", &mut worker.bgw_function_name);
    // SAFETY: The server copies the description.
    unsafe { pg_sys::RegisterDynamicBackgroundWorker(&raw mut worker, std::ptr::null_mut()) }
}

/// Copies a short text, with its NUL, into a longer field.
fn copy(text: &CStr, field: &mut [c_char]) {
    for (to, from) in field.iter_mut().zip(text.to_bytes_with_nul()) {
        *to = *from as c_char;
    }
}

/// Runs in the worker: merges the changes of the database whose OID is the argument.
#[pg_guard]
#[unsafe(no_mangle)]
pub(crate) extern "C-unwind" fn arx_graph_builder(database: pg_sys::Datum) {
    // SAFETY: The start of a worker's process, in the order that the server prescribes.
    unsafe {
        handle_signal(libc::SIGTERM, Some(die));
        pg_sys::BackgroundWorkerUnblockSignals();
        let database = pg_sys::Oid::from(database.value() as u32);
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let limit = (*pg_sys::MyBgworkerEntry).bgw_extra;
        let (user, session) = (pg_sys::GucContext::PGC_USERSET, pg_sys::GucSource::PGC_S_SESSION);
        pg_sys::SetConfigOption(c"arx.graph_delta_limit".as_ptr(), limit.as_ptr(), user, session);
        pg_sys::SetConfigOption(c"lock_timeout".as_ptr(), LOCK_TIMEOUT.as_ptr(), user, session);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, c"merging the graph of arx".as_ptr());
    }
    // As every call of a superuser, with the rights of the tables' owner.
    or_report(as_table_owner(Purpose::Read, || refresh(false).map(drop)));
    // SAFETY: Ends what was begun above.
    unsafe {
        pg_sys::PopActiveSnapshot();
        pg_sys::CommitTransactionCommand();
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
    }
}
