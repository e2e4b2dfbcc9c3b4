//! A budget of bytes that a search draws on, so that a hub's neighbourhood ends in an error and not in the kernel's
//! out-of-memory killer.

/// Counts bytes against a limit.
#[derive(Debug, Clone, Copy)]
pub struct MemoryBudget {
    limit: usize,
    used: usize,
}

impl MemoryBudget {
    /// At most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, used: 0 }
    }

    /// Bytes allowed.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.limit.saturating_sub(self.used)
    }

    /// Gives back what was booked.
    pub const fn give(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Books bytes. `false` when that is more than allowed.
    pub const fn take(&mut self, bytes: usize) -> bool {
        self.used = self.used.saturating_add(bytes);
        self.used <= self.limit
    }
}
