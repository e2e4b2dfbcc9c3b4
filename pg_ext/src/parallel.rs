//! Threads in addition to the backend's own: their number, and keeping signals away from them.
//!
//! These threads compute only. They must not call the server, which is single-threaded, and must
//! not receive signals, which the backend's own thread handles.

#![allow(unsafe_code, reason = "reads a setting of the server")]

use nix::sys::signal::{SigSet, SigmaskHow};
use pgrx::pg_sys;

/// Returns the number of processes that a parallel query may have, its leader included, but at most
/// the number of processors.
pub(crate) fn parallel_threads() -> usize {
    // SAFETY: A setting, read by the thread that writes it.
    let workers = unsafe { pg_sys::max_parallel_workers_per_gather };
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    usize::try_from(workers).unwrap_or(0).saturating_add(1).min(processors)
}

/// While it is held, this thread receives no signals; threads started meanwhile never do.
pub(crate) struct BlockedSignals(Option<SigSet>);

impl BlockedSignals {
    pub(crate) fn block() -> Self {
        Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        if let Some(previous) = &self.0 {
            // A mask that the system returned is one that it accepts.
            let _ = previous.thread_set_mask();
        }
    }
}
