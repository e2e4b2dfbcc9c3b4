//! Target tables of rows and their columns.

use super::{labels, transactions, transfers};

/// Target table of a file's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Transactions,
    Transfers,
    /// `arx.token_transfers`, with line numbers and without times.
    UndatedTransfers,
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

    /// Rows must go through the temporary table.
    pub(crate) const fn needs_staging(self) -> bool {
        matches!(self, Self::UndatedTransfers | Self::Labels)
    }
}
