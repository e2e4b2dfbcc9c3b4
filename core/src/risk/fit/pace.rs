//! Cancellation checks of a fit.

use super::error::FitError;
use crate::graph::{Interrupt, Pace};

/// Rows processed between two cancellation checks; about half a millisecond.
const ROWS_PER_CHECK: usize = 1 << 16;

/// A [`Pace`] that fails a fit when it should stop.
pub(super) struct RowPace<'w, W>(Pace<'w, W, ROWS_PER_CHECK>);

impl<'w, W: Interrupt> RowPace<'w, W> {
    pub(super) fn new(interrupt: &'w mut W) -> Self {
        Self(Pace::every(interrupt))
    }

    /// Counts `rows` that were processed.
    pub(super) fn step(&mut self, rows: usize) -> Result<(), FitError> {
        if self.0.step(rows).is_some() { Err(FitError::Stopped) } else { Ok(()) }
    }

    pub(super) fn interrupt(&mut self) -> &mut W {
        self.0.interrupt()
    }
}
