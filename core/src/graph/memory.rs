//! A budget of bytes that a traversal draws on, so that a hub's neighbourhood ends in an error and not in the kernel's
//! out-of-memory killer.

/// Bytes a wallet costs beside its text: its entries in the hash tables (at most half empty), two string headers, and its row
/// in the answer.
const WALLET_OVERHEAD: usize = 160;

/// Counts estimated bytes against a limit.
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

    /// Books one more wallet whose address has `address_bytes` bytes (kept twice: as visited, and in the answer). `false` when
    /// that is more than allowed.
    pub const fn take_wallet(&mut self, address_bytes: usize) -> bool {
        self.used = self.used.saturating_add(WALLET_OVERHEAD + 2 * address_bytes);
        self.used <= self.limit
    }
}
