//! The catalogue.

/// Distinct counts of a warehouse are exact up to this number (`uniq` keeps 65,536 hashes).
const MAX_EXACT_COUNT: u64 = 65_000;

/// A question, for the stores, which have a text for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryId {
    /// `largest_transfers`.
    LargestTransfers,
    /// `network_totals`.
    NetworkTotals,
    /// `risk_bands`.
    RiskBands,
    /// `token_totals`.
    TokenTotals,
    /// `top_counterparties`.
    TopCounterparties,
    /// `top_wallets`.
    TopWallets,
    /// `wallet_activity`.
    WalletActivity,
}

/// A question with a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Query {
    /// The question.
    pub id: QueryId,
    /// Name, as in a URL.
    pub name: &'static str,
    /// One sentence about the answer.
    pub about: &'static str,
    /// Parameters that it takes.
    pub parameters: &'static [Parameter],
    /// Columns of the answer, in order.
    pub columns: &'static [Column],
    /// Facts that it reads: the answer changes only when these do.
    pub reads: &'static [Topic],
    /// Exactness of a warehouse's answer; `None` if only the database of record can answer.
    pub warehouse: Option<Exactness>,
}

/// A parameter. Each has the same type and bounds in every question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parameter {
    /// A registered network; required.
    Network,
    /// A wallet of the network; required.
    Address,
    /// A token's contract; all tokens without it.
    Token,
    /// First day (UTC); 30 days before `to` without it.
    From,
    /// The day after the last one (UTC); tomorrow without it.
    To,
    /// Number of rows.
    Limit,
}

impl Parameter {
    /// Every parameter.
    pub const ALL: [Self; 6] = [Self::Network, Self::Address, Self::Token, Self::From, Self::To, Self::Limit];

    /// Name, as in a URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Address => "address",
            Self::Token => "token",
            Self::From => "from",
            Self::To => "to",
            Self::Limit => "limit",
        }
    }

    /// Type, bounds and default, for people.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Network => "name of a registered network, required",
            Self::Address => "address on the network, required",
            Self::Token => "address of a token's contract; all tokens without it",
            Self::From => "first day (UTC), 1970-01-01 to 2105-12-31; 30 days before \"to\" without it",
            Self::To => "day after the last one (UTC), at most 3660 days after \"from\"; tomorrow without it",
            Self::Limit => "number of rows, 1 to 1000; 20 without it",
        }
    }
}

/// A column of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Name in each row.
    pub name: &'static str,
    /// Type of the values.
    pub kind: ColumnKind,
}

/// Type of a column. Any value but a count may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// A text.
    Text,
    /// A day, as `2024-01-31`.
    Day,
    /// A time with microseconds, as `2024-01-31T12:00:00.000000Z`.
    Time,
    /// A whole number.
    Count,
    /// An exact decimal number without trailing zeros, as text.
    Amount,
}

impl ColumnKind {
    /// Name, for documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Day => "day",
            Self::Time => "time",
            Self::Count => "count",
            Self::Amount => "amount",
        }
    }
}

/// Facts that a question reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Transactions and internal transfers.
    Transfers,
    /// Token transfers.
    TokenTransfers,
    /// Stored risk scores.
    Scores,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 3] = [Self::Transfers, Self::TokenTransfers, Self::Scores];

    /// Name, for documents and keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transfers => "transfers",
            Self::TokenTransfers => "token_transfers",
            Self::Scores => "scores",
        }
    }
}

/// Exactness of a warehouse's answer, compared with that of the database of record at the same
/// snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exactness {
    /// To the last digit.
    Exact,
    /// To the last digit, except for these columns where a value exceeds the number.
    UpTo {
        /// Largest exact value.
        count: u64,
        /// Columns with distinct counts.
        columns: &'static [&'static str],
    },
    /// Some rows may be missing, for the stated reason.
    Partial(&'static str),
}

impl Exactness {
    /// One sentence, for documents.
    #[must_use]
    pub fn about(&self) -> String {
        match self {
            Self::Exact => "exact".to_owned(),
            Self::UpTo { count, columns } => {
                format!("exact, except for values of {} above {count}", columns.join(" and "))
            }
            Self::Partial(reason) => (*reason).to_owned(),
        }
    }
}

const fn column(name: &'static str, kind: ColumnKind) -> Column {
    Column { name, kind }
}

use ColumnKind::{Amount, Count, Day, Text, Time};
use Parameter::{Address, From, Limit, Network, To, Token};

/// All questions, by name.
pub const CATALOGUE: &[Query] = &[
    Query {
        id: QueryId::LargestTransfers,
        name: "largest_transfers",
        about: "the largest movements of the native coin in a range of days",
        parameters: &[Network, From, To, Limit],
        columns: &[
            column("at", Time),
            column("tx_hash", Text),
            column("leg", Count),
            column("sender", Text),
            column("receiver", Text),
            column("value", Amount),
        ],
        reads: &[Topic::Transfers],
        warehouse: Some(Exactness::Exact),
    },
    Query {
        id: QueryId::NetworkTotals,
        name: "network_totals",
        about: "transactions, volume and distinct wallets of a network by day",
        parameters: &[Network, From, To],
        columns: &[
            column("day", Day),
            column("transactions", Count),
            column("volume", Amount),
            column("volume_usd", Amount),
            column("senders", Count),
            column("receivers", Count),
            column("min_gas_price", Amount),
            column("max_gas_price", Amount),
        ],
        reads: &[Topic::Transfers],
        warehouse: Some(Exactness::UpTo { count: MAX_EXACT_COUNT, columns: &["senders", "receivers"] }),
    },
    Query {
        id: QueryId::RiskBands,
        name: "risk_bands",
        about: "number of the wallets of a network by band and state of their latest stored score",
        parameters: &[Network],
        columns: &[column("band", Text), column("state", Text), column("wallets", Count)],
        reads: &[Topic::Scores],
        warehouse: None,
    },
    Query {
        id: QueryId::TokenTotals,
        name: "token_totals",
        about: "transfers, amount and distinct wallets of the tokens of a network, busiest token first",
        parameters: &[Network, Token, From, To, Limit],
        columns: &[
            column("token", Text),
            column("transfers", Count),
            column("amount", Amount),
            column("senders", Count),
            column("receivers", Count),
        ],
        reads: &[Topic::Transfers, Topic::TokenTransfers],
        warehouse: Some(Exactness::Partial("lacks token transfers whose transaction is not stored")),
    },
    Query {
        id: QueryId::TopCounterparties,
        name: "top_counterparties",
        about: "wallets that a wallet exchanged most with",
        parameters: &[Network, Address, From, To, Limit],
        columns: &[
            column("counterparty", Text),
            column("sent_count", Count),
            column("received_count", Count),
            column("sent", Amount),
            column("received", Amount),
        ],
        reads: &[Topic::Transfers],
        warehouse: Some(Exactness::Exact),
    },
    Query {
        id: QueryId::TopWallets,
        name: "top_wallets",
        about: "wallets of a network by the volume that they sent and received",
        parameters: &[Network, From, To, Limit],
        columns: &[
            column("wallet", Text),
            column("sent_count", Count),
            column("received_count", Count),
            column("sent", Amount),
            column("received", Amount),
        ],
        reads: &[Topic::Transfers],
        warehouse: Some(Exactness::Exact),
    },
    Query {
        id: QueryId::WalletActivity,
        name: "wallet_activity",
        about: "movements, volume and distinct counterparties of a wallet by day",
        parameters: &[Network, Address, From, To],
        columns: &[
            column("day", Day),
            column("sent_count", Count),
            column("received_count", Count),
            column("sent", Amount),
            column("received", Amount),
            column("recipients", Count),
            column("senders", Count),
        ],
        reads: &[Topic::Transfers],
        warehouse: Some(Exactness::Exact),
    },
];

/// Finds a question.
#[must_use]
pub fn query(name: &str) -> Option<&'static Query> {
    CATALOGUE.iter().find(|query| query.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_plain_and_unique() {
        assert!(CATALOGUE.windows(2).all(|pair| pair[0].name < pair[1].name));
        for query in CATALOGUE {
            assert!(query.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", query.name);
            assert!(query.parameters.is_sorted() && query.parameters.contains(&Network), "{}", query.name);
            assert!(!query.reads.is_empty() && !query.columns.is_empty(), "{}", query.name);
            if let Some(Exactness::UpTo { columns, .. }) = query.warehouse {
                let has = |name: &&str| query.columns.iter().any(|column| column.name == *name && column.kind == Count);
                assert!(columns.iter().all(has), "{}", query.name);
            }
        }
    }
}
