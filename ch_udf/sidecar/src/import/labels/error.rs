//! Faults of a single record of a label list.

use thiserror::Error;

/// A fault of a record. It carries values of the user's data, so it goes to the rejects file and
/// never to a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum RecordError {
    #[error("{0}")]
    Malformed(String),
    #[error("{0} is empty")]
    Empty(&'static str),
    #[error("{field} is longer than {limit} bytes")]
    TooLong { field: &'static str, limit: usize },
    #[error("{field} has a NUL character")]
    Nul { field: &'static str },
    #[error("{0}")]
    Address(String),
    #[error(
        "address {address:?} is on no network whose addresses ARX can check, and {symbol:?} exists on several networks; \
         name its network by --map-network '{symbol}=NETWORK'"
    )]
    NetworkOfAddress { address: String, symbol: String },
    #[error(
        "the list names no network: name it by --network, or let it follow from the address by --network-by-address"
    )]
    NoNetwork,
    #[error(
        "the text has {address:?} without its network: read the entry, and import the address in a list that names it"
    )]
    AddressInText { address: String },
    #[error("{0}")]
    Network(String),
    #[error("currency {0:?} names no network that ARX knows; name it by --map-network '{0}=NETWORK'")]
    Currency(String),
    #[error("the list names no source: name it by --source")]
    NoSource,
    #[error("severity {0:?} must be one of none, low, medium, high, severe")]
    Severity(String),
    #[error(
        "confidence {0:?} must be above 0 and up to 1, a percentage, or a word of GraphSense; if it has another scale, name its highest value by --confidence-scale"
    )]
    Confidence(String),
    #[error("{field} {text:?} is not a date: expected YYYY-MM-DD, YYYY-MM-DD HH:MM:SS or unix seconds, in UTC")]
    Date { field: &'static str, text: String },
    #[error("valid_from is not before valid_to")]
    Period,
    #[error("the list says something else of the same label in {0}")]
    Contradiction(String),
}

impl RecordError {
    /// The reason without values, by which rejects are counted.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Empty(_) => "no address",
            Self::TooLong { .. } | Self::Nul { .. } => "invalid text",
            Self::Address(_) => "invalid address",
            Self::NetworkOfAddress { .. } | Self::NoNetwork | Self::Currency(_) | Self::AddressInText { .. } => {
                "network not stated"
            }
            Self::Network(_) => "unknown network",
            Self::NoSource => "source not stated",
            Self::Severity(_) => "invalid severity",
            Self::Confidence(_) => "invalid confidence",
            Self::Date { .. } => "invalid date",
            Self::Period => "invalid period",
            Self::Contradiction(_) => "contradicts another line",
        }
    }
}
