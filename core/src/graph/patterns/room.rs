//! Memory that is booked and given back: findings are let go when stronger ones come.

use crate::graph::memory::MemoryBudget;

/// Counts bytes against a limit.
#[derive(Debug)]
pub struct Room {
    limit: usize,
    used: usize,
}

impl Room {
    pub const fn new(budget: &MemoryBudget) -> Self {
        Self { limit: budget.left(), used: 0 }
    }

    pub const fn limit(&self) -> usize {
        self.limit
    }

    pub const fn left(&self) -> usize {
        self.limit.saturating_sub(self.used)
    }

    /// Books bytes. `false` when that is more than allowed.
    pub const fn take(&mut self, bytes: usize) -> bool {
        self.used = self.used.saturating_add(bytes);
        self.used <= self.limit
    }

    /// Gives back what was booked.
    pub const fn give(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }
}
