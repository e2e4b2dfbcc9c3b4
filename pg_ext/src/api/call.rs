//! The frame of every SQL function that reads tables or the graph.

use pgrx::pg_sys::panic::ErrorReport;

use crate::graph_store::require_intact;
use crate::spi::pin;

/// Runs the body of a function: its queries under pinned settings, and its answer only if the files
/// of the graph stayed whole meanwhile.
pub(super) fn call<T>(run: impl FnOnce() -> Result<T, ErrorReport>) -> Result<T, ErrorReport> {
    let _pinned = pin();
    let answer = run();
    require_intact()?;
    answer
}
