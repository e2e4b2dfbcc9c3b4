//! The tables that rows go to, and their columns.

use super::{labels, transactions, transfers};

/// What rows of which form go where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// `arx.transactions`.
    Transactions,
    /// `arx.token_transfers`.
    Transfers,
    /// `arx.token_transfers`, with line numbers and without times.
    UndatedTransfers,
    /// `arx.address_labels`.
    Labels,
}

impl Target {
    pub(crate) const fn table(self) -> &'static str {
        match self {
            Self::Transactions => "arx.transactions",
            Self::Transfers | Self::UndatedTransfers => "arx.token_transfers",
            Self::Labels => "arx.address_labels",
        }
    }

    pub(crate) const fn columns(self) -> &'static str {
        match self {
            Self::Transactions => transactions::COLUMNS,
            Self::Transfers | Self::UndatedTransfers => transfers::COLUMNS,
            Self::Labels => labels::COLUMNS,
        }
    }

    /// Whether rows cannot go straight into the table.
    pub(crate) const fn needs_staging(self) -> bool {
        matches!(self, Self::UndatedTransfers | Self::Labels)
    }
}
