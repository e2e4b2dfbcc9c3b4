//! Looks at the watch now and then.

use super::error::FitError;
use crate::graph::Interrupt;

/// BoostRows looked at between two looks at the interrupt: about half a millisecond.
const ROWS: usize = 1 << 16;

/// Looks at a watch every few rows.
pub(super) struct RowPace<'w, W> {
    interrupt: &'w mut W,
    rows: usize,
}

impl<'w, W: Interrupt> RowPace<'w, W> {
    pub(super) fn new(interrupt: &'w mut W) -> Self {
        // the first step looks: a fit without time ends at once
        Self { interrupt, rows: ROWS }
    }

    /// After so many rows: whether to go on.
    pub(super) fn step(&mut self, rows: usize) -> Result<(), FitError> {
        self.rows = self.rows.saturating_add(rows).saturating_add(1);
        if self.rows < ROWS {
            return Ok(());
        }
        self.rows = 0;
        if self.interrupt.should_stop() { Err(FitError::Stopped) } else { Ok(()) }
    }

    pub(super) fn interrupt(&mut self) -> &mut W {
        self.interrupt
    }
}
