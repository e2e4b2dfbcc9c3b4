//! Errors that end an import, and errors of a single line.

use std::path::PathBuf;

use arx_core::amount::AmountError;
use thiserror::Error;
use tokio_postgres::error::SqlState;

use super::parse::number::NumberFault;
use super::parse::values::shorten;
use crate::error::{SidecarError, WithoutValues};

/// An error that ends an import before the end of its file.
#[derive(Debug, Error)]
pub(crate) enum ImportError {
    /// A file could not be opened or read.
    #[error("cannot read {file}: {source}")]
    Read { file: String, source: std::io::Error },
    /// The rejects file could not be written.
    #[error("cannot write the rejects file {}: {source} (choose another with --rejects FILE)", file.display())]
    Rejects { file: PathBuf, source: std::io::Error },
    #[error("{file} is empty: expected a header")]
    Empty { file: String },
    /// A compressed file or an array ends early.
    #[error(
        "{file} is cut off: it ends in the middle, after line {line}; the lines before are imported \
         (fetch the whole file and import it: nothing is doubled)"
    )]
    CutOff {
        file: String,
        /// Last complete line.
        line: u64,
    },
    /// A compressed file is damaged.
    #[error("{file} is damaged after line {line}: {source}; the lines before are imported")]
    Damaged {
        file: String,
        /// Last complete line.
        line: u64,
        source: std::io::Error,
    },
    /// A compressed file whose content does not match its checksum, or cannot be decompressed: what
    /// was read before may be wrong, too.
    #[error(
        "{file} is damaged before line {line}: {source}; its rows are not imported, because any of them may be wrong{}: \
         fetch the file again",
        if *taken_back > 0 { format!(" ({taken_back} rows were taken back)") } else { String::new() }
    )]
    Corrupt {
        file: String,
        /// Last complete line.
        line: u64,
        source: std::io::Error,
        /// Rows of earlier lines that were deleted again.
        taken_back: u64,
    },
    /// An amount that shows that those of other lines may mean something else: with a decimal point
    /// in a file whose amounts are taken for smallest units, or with a decimal comma.
    #[error(
        "{file}, line {line}: {reason}; nothing of this file is imported{}: {advice}",
        if *taken_back > 0 { format!(", {taken_back} rows were taken back") } else { String::new() }
    )]
    Unit {
        file: String,
        line: u64,
        reason: String,
        advice: &'static str,
        /// Rows of earlier lines that were deleted again.
        taken_back: u64,
    },
    /// A file that does not say in which unit its amounts are.
    #[error(
        "{file} does not state the unit of its amounts, and programs write it in both: add --unit coin or --unit base"
    )]
    UnknownUnit { file: String },
    /// A column of amounts whose name states another unit than those of the network's coin.
    #[error(
        "{file}: the column {column:?} is not in a unit of the coin of {network}: state another network with --network, or \
         the meaning of the column with --map and --unit"
    )]
    ColumnUnit { file: String, column: String, network: String },
    /// A text file of old Macintosh programs.
    #[error("{file} has lines that end in CR alone: convert it with tr '\\r' '\\n'")]
    LineEnds { file: String },
    /// A `--map` without a column or without a meaning.
    #[error("{file}: {message}")]
    Mapping { file: String, message: String },
    /// A file of another kind.
    #[error("{file} holds {found}: {advice}")]
    OtherKind { file: String, found: &'static str, advice: &'static str },
    /// A header without the columns that the import needs.
    #[error(
        "{file} lacks the column{} {}; its header is: {found} (--map COLUMN=FIELD names the column of a field)",
        if missing.len() == 1 { "" } else { "s" },
        missing.join(", ")
    )]
    MissingColumns { file: String, missing: Vec<&'static str>, found: String },
    /// Another header within a file.
    #[error(
        "{file}, line {line}: another header begins here, by which the columns have another order or meaning; the lines \
         before it are imported: import what follows as a file of its own"
    )]
    OtherHeader { file: String, line: u64 },
    /// A header that names a column twice.
    #[error("{file} names the column {column:?} twice in its header")]
    DuplicateColumn { file: String, column: String },
    /// A format that the importer cannot read.
    #[error("{file} is not {expected}: it begins with {begins:?}")]
    Format { file: String, expected: &'static str, begins: String },
    /// An invalid line in a list of wallets whose history is complete.
    #[error("{file}, line {line}: {message}")]
    Wallet { file: String, line: u64, message: String },
    /// The time up to which a history is complete is unknown.
    #[error("the history cannot be recorded as complete, because {reason}")]
    Coverage { reason: &'static str },
    /// A malformed network name.
    #[error("invalid network: {message}")]
    InvalidNetwork { message: String },
    /// A network without a row in `arx.networks`.
    #[error("{}", unknown_network(network))]
    UnknownNetwork { network: String },
    /// A label list that cannot be imported as a whole.
    #[error("{file}: {message}")]
    LabelList { file: String, message: String },
    /// The first bad line under `--strict`.
    #[error("{file}, line {line}: {reason} (--strict stops at the first bad line)")]
    Strict { file: String, line: u64, reason: String },
    /// Rows repeat in a source whose rows were only counted by a check, which has to begin again.
    #[error("rows of the file repeat")]
    Repeats,
    /// Another session imports the same source.
    #[error("another import of {file} is running: wait for it, or end it")]
    Busy { file: String },
    #[error("interrupted after line {line} of {file}: continue by running the same command")]
    Interrupted {
        file: String,
        /// Last committed line.
        line: u64,
    },
    /// The connection string is wrong, the server does not answer or is too old, or the database
    /// has no extension.
    #[error(transparent)]
    Connect { source: Box<SidecarError> },
    /// A statement failed.
    #[error("{context}: {}", describe(source))]
    Database { context: String, source: tokio_postgres::Error },
    /// The reader thread ended without reporting a result.
    #[error("the reader of {file} stopped unexpectedly after line {line}: run the same command again")]
    ReaderStopped {
        file: String,
        /// Last committed line.
        line: u64,
    },
}

/// Formats the server's message with detail and hint, without values of rows; tokio-postgres alone
/// shows `db error`.
fn describe(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        if error.is_closed() {
            text.push_str("; run the same command again: it continues behind the last committed line");
        }
        return text;
    };
    let text = format!("{} (SQLSTATE {})", WithoutValues(db), db.code().code());
    if *db.code() == SqlState::DISK_FULL {
        let advice = "make room for PostgreSQL, and run the same command again: it continues behind the last committed \
                      line";
        return format!("{text}; {advice}");
    }
    text
}

/// Message with the statement that adds the network.
fn unknown_network(network: &str) -> String {
    let quoted = network.to_lowercase().replace('\'', "''");
    format!(
        "network {network:?} is not in arx.networks: SELECT arx.add_network('{quoted}', '<family>', '<coin>', <decimals>), \
         where the family is evm, bitcoin, tron, solana or opaque"
    )
}

/// An error of a single line. It carries values of the user's data, so it goes to the rejects file
/// and never to a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum LineError {
    #[error("invalid UTF-8 at byte {position}")]
    InvalidUtf8 {
        /// Offset in the line, from 1.
        position: usize,
    },
    /// A byte that PostgreSQL's text cannot hold.
    #[error("column {column} holds a NUL character")]
    NulCharacter { column: &'static str },
    #[error("line is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("{found} columns where the header has {expected}")]
    ColumnCount {
        /// Fields in the line.
        found: usize,
        /// Fields in the header.
        expected: usize,
    },
    #[error("a quoted field is not closed on its line")]
    OpenQuote,
    /// Not a JSON object of the expected form.
    #[error("invalid JSON: {message}")]
    Json { message: String },
    /// A required value is missing.
    #[error("column {column} is empty")]
    Empty { column: &'static str },
    /// Not a whole number.
    #[error("column {column}: {text:?} is not a whole number")]
    NotAnInteger { column: &'static str, text: String },
    #[error("column {column}: {text} is out of range ({limits})")]
    OutOfRange { column: &'static str, text: String, limits: &'static str },
    /// A number with a fraction where smallest units are expected.
    #[error("column {column}: {text:?} is not a whole number of smallest units")]
    Fraction { column: &'static str, text: String },
    /// A small number with a decimal point where nothing states the unit.
    #[error(
        "column {column}: {text:?} has a decimal point, and is hardly an amount of the smallest unit (if it is, state \
         --unit base)"
    )]
    CoinsOrUnits { column: &'static str, text: String },
    /// A number that a program may have rounded.
    #[error(
        "column {column}: {text:?} may have lost digits, because the program that wrote it keeps 16 of them or fewer; \
         export the column as text"
    )]
    LostDigits { column: &'static str, text: String },
    /// A comma that separates thousands or decimals.
    #[error("column {column}: the comma in {text:?} may separate thousands or decimals; export the column without it")]
    Ambiguous { column: &'static str, text: String },
    #[error(
        "column {column}: {text:?} has a decimal comma, or points between thousands, so that a point in another line may \
         mean either"
    )]
    DecimalComma { column: &'static str, text: String },
    /// The same value under two columns, with different contents.
    #[error("columns {columns} contradict each other: {text:?}")]
    Contradiction { columns: &'static str, text: String },
    /// A value that is hardly an amount, of a token about which nothing is stated.
    #[error(
        "column value: {text} may be a token id, because it or another value of the contract is more than 2^128 or an id: \
         state --erc721 {token} if the token's values are ids, --erc20 {token} if they are amounts"
    )]
    TokenId { text: String, token: String },
    /// An amount in tokens of unknown decimals.
    #[error(
        "column token_value: {text:?} is in tokens, and the file does not state their decimals: add --token-decimals"
    )]
    TokenDecimals { text: String },
    /// An amount in tokens among raw values.
    #[error("column value: {text:?} is not a whole number of the token's smallest units")]
    TokenFraction { text: String },
    /// A unit that the network's coin does not have.
    #[error("column {column}: {text:?} is not the coin of {network}, nor a unit of it")]
    UnitName { column: &'static str, text: String, network: String },
    /// An amount in a column that may be in any unit.
    #[error("column {column}: {text:?} states no unit, and the column has none: state --unit coin or --unit base")]
    NoUnit { column: &'static str, text: String },
    /// A line of another network.
    #[error("column {column}: {text:?} is not {network}: import the lines of each network with its own --network")]
    OtherNetwork { column: &'static str, text: String, network: String },
    /// A transaction whose inputs and outputs do not add up.
    #[error("{message}")]
    Sums { message: String },
    /// An amount of the native coin.
    #[error("column {column}: {source}")]
    Amount { column: &'static str, source: AmountError },
    #[error("column {column}: {message}")]
    Address { column: &'static str, message: String },
    #[error("column {column}: {text:?} is not a transaction hash of {network}")]
    Hash { column: &'static str, text: String, network: String },
    #[error(
        "column {column}: {text:?} is neither unix seconds nor 'YYYY-MM-DD HH:MM:SS UTC'; if the column is in UTC, state it \
         by --map COLUMN=datetime_utc"
    )]
    Time { column: &'static str, text: String },
    /// A value outside a fixed set.
    #[error("column {column}: {text:?} must be one of {allowed}")]
    NotOneOf { column: &'static str, text: String, allowed: &'static str },
    /// A text that is too long for an index entry.
    #[error("column {column} is longer than {limit} bytes")]
    TextTooLong { column: &'static str, limit: usize },
    /// A node id that the nodes file does not hold.
    #[error("column {column}: node {id} is not in the nodes file")]
    UnknownNode { column: &'static str, id: u64 },
    /// The line of this node in the nodes file is invalid.
    #[error("column {column}: node {id} has no valid address: {message}")]
    BadNode { column: &'static str, id: u64, message: String },
    /// A sender whose node has no address.
    #[error("column {column}: node {id} has no address, and only a receiver may have none")]
    NamelessNode { column: &'static str, id: String },
    /// The last line is invalid and has no newline: the file was probably cut off.
    #[error("the file ends in the middle of this line: {cause}")]
    EndsInside { cause: Box<Self> },
}

impl LineError {
    /// Returns the error of two values of one fact.
    pub(super) fn two_values(columns: &'static str, one: &str, other: &str) -> Self {
        Self::Contradiction { columns, text: format!("{} and {}", shorten(one), shorten(other)) }
    }

    /// Returns the error of a number.
    pub(super) fn of_number(fault: NumberFault, column: &'static str, text: &str) -> Self {
        let text = shorten(text);
        match fault {
            NumberFault::NotANumber => Self::NotAnInteger { column, text },
            NumberFault::Fraction => Self::Fraction { column, text },
            NumberFault::LostDigits => Self::LostDigits { column, text },
            NumberFault::Ambiguous => Self::Ambiguous { column, text },
            NumberFault::DecimalComma => Self::DecimalComma { column, text },
            NumberFault::TooLarge => Self::OutOfRange { column, text, limits: "at most 78 digits" },
        }
    }

    /// Returns the kind of error, without values, for counting.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::InvalidUtf8 { .. } => "invalid UTF-8".to_owned(),
            Self::NulCharacter { column } => format!("{column}: NUL character"),
            Self::TooLong { .. } => "line too long".to_owned(),
            Self::ColumnCount { .. } => "number of columns".to_owned(),
            Self::OpenQuote => "unclosed quote".to_owned(),
            Self::Json { .. } => "invalid JSON".to_owned(),
            Self::Empty { column } => format!("{column}: empty"),
            Self::NotAnInteger { column, .. } => format!("{column}: not a whole number"),
            Self::OutOfRange { column, .. } => format!("{column}: out of range"),
            Self::Fraction { column, .. } => format!("{column}: fraction of a smallest unit"),
            Self::CoinsOrUnits { column, .. } => format!("{column}: no unit"),
            Self::LostDigits { column, .. } => format!("{column}: lost digits"),
            Self::Ambiguous { column, .. } => format!("{column}: ambiguous comma"),
            Self::DecimalComma { column, .. } => format!("{column}: decimal comma"),
            Self::Contradiction { columns, .. } => format!("{columns}: contradiction"),
            Self::TokenId { .. } => "value: amount or token id".to_owned(),
            Self::TokenDecimals { .. } => "token_value: unknown decimals".to_owned(),
            Self::TokenFraction { .. } => "value: fraction of a smallest unit".to_owned(),
            Self::UnitName { column, .. } => format!("{column}: another unit"),
            Self::NoUnit { column, .. } => format!("{column}: no unit"),
            Self::OtherNetwork { column, .. } => format!("{column}: another network"),
            Self::Sums { .. } => "inputs and outputs".to_owned(),
            Self::Amount { column, .. } => format!("{column}: not an amount"),
            Self::Address { column, .. } => format!("{column}: not an address of the network"),
            Self::Hash { column, .. } => format!("{column}: not a transaction hash"),
            Self::Time { column, .. } => format!("{column}: not a time"),
            Self::NotOneOf { column, .. } => format!("{column}: unknown value"),
            Self::TextTooLong { column, .. } => format!("{column}: too long"),
            Self::UnknownNode { column, .. } => format!("{column}: unknown node"),
            Self::BadNode { column, .. } | Self::NamelessNode { column, .. } => {
                format!("{column}: node without address")
            }
            Self::EndsInside { cause } => format!("file ends inside a line ({})", cause.kind()),
        }
    }

    /// Returns the advice for a line which shows that the amounts of the whole file may mean
    /// something else.
    pub(super) fn questions_all_amounts(&self) -> Option<&'static str> {
        match self {
            Self::Fraction { .. } | Self::CoinsOrUnits { .. } => {
                Some("state the unit with --unit coin (or correct the line)")
            }
            Self::TokenFraction { .. } => {
                Some("amounts in tokens are read by --map value=token_value, with their decimals (or correct the line)")
            }
            Self::DecimalComma { .. } => Some("write its numbers with a decimal point, and without separators"),
            Self::EndsInside { cause } => cause.questions_all_amounts(),
            _ => None,
        }
    }
}
