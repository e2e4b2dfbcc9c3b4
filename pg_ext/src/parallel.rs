//! Threads in addition to the backend's own: their number, and keeping signals away from them.
//!
//! These threads compute only. They must not call the server, which is single-threaded, and must
//! not receive signals, which the backend's own thread handles.

#![allow(unsafe_code, reason = "reads a setting of the server")]

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use pgrx::pg_sys;

/// Returns the number of processes that a parallel query may have, its leader included, but at most
/// the number of processors.
pub(crate) fn parallel_threads() -> usize {
    // SAFETY: A setting, read by the thread that writes it.
    let workers = unsafe { pg_sys::max_parallel_workers_per_gather };
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    usize::try_from(workers).unwrap_or(0).saturating_add(1).min(processors)
}

/// While it is held, this thread receives no signals from elsewhere; threads started meanwhile
/// never do.
pub(crate) struct BlockedSignals(Option<SigSet>);

impl BlockedSignals {
    pub(crate) fn block() -> Self {
        // Those that a thread causes itself must not be blocked: the kernel would end the process.
        let mut signals = SigSet::all();
        for own in [Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGSEGV] {
            signals.remove(own);
        }
        Self(signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
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
