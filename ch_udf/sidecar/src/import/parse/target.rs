//! Target tables of rows and their columns.

use super::{legs, transactions, transfers};

/// Target of a file's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// One row a transaction.
    Transactions {
        /// Gas prices are those that were paid, and replace those that were offered.
        effective_prices: bool,
    },
    /// Status, gas and contract of transactions that are there.
    Receipts,
    /// Lines of a transaction, of which the first is its row in `arx.transactions`, and the others
    /// are legs.
    Edges {
        /// A line holds all legs of its transaction.
        whole: bool,
    },
    /// Rows of `arx.internal_transfers`.
    Legs,
    /// Rows of `arx.token_transfers`.
    Transfers {
        /// Rows may lack time and block, and all of them may lack the log index.
        incomplete: bool,
    },
}

impl Target {
    /// The table whose partitions the rows need.
    pub(crate) const fn table(self) -> &'static str {
        match self {
            Self::Transactions { .. } | Self::Receipts | Self::Edges { .. } => "arx.transactions",
            Self::Legs => "arx.internal_transfers",
            Self::Transfers { .. } => "arx.token_transfers",
        }
    }

    /// Columns of a tuple.
    pub(crate) const fn columns(self) -> &'static str {
        match self {
            Self::Transactions { .. } | Self::Receipts | Self::Edges { .. } => transactions::COLUMNS,
            Self::Legs => legs::COLUMNS,
            Self::Transfers { .. } => transfers::COLUMNS,
        }
    }

    /// Rows may be copied directly into an empty table.
    pub(crate) const fn may_load_directly(self) -> bool {
        matches!(self, Self::Transactions { .. } | Self::Transfers { incomplete: false })
    }

    /// Number of fields after the network by which a repeated row is recognised before loading; 0
    /// where rows are compared by the database alone.
    pub(crate) const fn key_fields(self) -> usize {
        match self {
            Self::Transactions { .. } => 1,
            Self::Transfers { incomplete: false } => 2,
            Self::Transfers { incomplete: true } | Self::Receipts | Self::Edges { .. } | Self::Legs => 0,
        }
    }

    /// Rows of one transaction belong together: all are loaded or none.
    pub(crate) const fn keeps_together(self) -> bool {
        matches!(self, Self::Edges { .. } | Self::Legs)
    }
}
