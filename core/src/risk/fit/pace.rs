//! Cancellation checks of a fit.

use super::error::FitError;
use crate::graph::Interrupt;

/// Rows processed between two cancellation checks; about half a millisecond.
const ROWS_PER_CHECK: usize = 1 << 16;

/// Checks an interrupt every [`ROWS_PER_CHECK`] rows.
pub(super) struct RowPace<'w, W> {
    interrupt: &'w mut W,
    rows: usize,
}

impl<'w, W: Interrupt> RowPace<'w, W> {
    pub(super) fn new(interrupt: &'w mut W) -> Self {
        // The first step checks, so a cancelled fit ends at once.
        Self { interrupt, rows: ROWS_PER_CHECK }
    }

    /// Counts rows; [`FitError::Stopped`] when the interrupt asks for it.
    pub(super) fn step(&mut self, rows: usize) -> Result<(), FitError> {
        self.rows = self.rows.saturating_add(rows).saturating_add(1);
        if self.rows < ROWS_PER_CHECK {
            return Ok(());
        }
        self.rows = 0;
        if self.interrupt.should_stop() { Err(FitError::Stopped) } else { Ok(()) }
    }

    pub(super) fn interrupt(&mut self) -> &mut W {
        self.interrupt
    }
}
