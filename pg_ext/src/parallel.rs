//! Threads beside the server's own: how many there may be, and that they stay out of its way. They compute and call nothing of the
//! server, which knows one thread; signals are for that one alone.

use nix::sys::signal::{SigSet, SigmaskHow};
use pgrx::pg_sys;

/// As many threads as a parallel query would have processes, the leader among them, but no more than there are processors.
pub fn parallel_threads() -> usize {
    // SAFETY: a setting, read by the thread that writes it.
    let workers = unsafe { pg_sys::max_parallel_workers_per_gather };
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    usize::try_from(workers).unwrap_or(0).saturating_add(1).min(processors)
}

/// As long as it is held, this thread takes no signal; threads that it starts meanwhile never do.
pub struct WithoutSignals(Option<SigSet>);

impl WithoutSignals {
    /// Holds signals back.
    pub fn hold() -> Self {
        Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
    }
}

impl Drop for WithoutSignals {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // a mask that the system gave is one that it takes
            let _ = before.thread_set_mask();
        }
    }
}
