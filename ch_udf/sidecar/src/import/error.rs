//! What can end an import, and what can be wrong with one line of it.

use std::path::PathBuf;

use arx_core::amount::AmountError;
use thiserror::Error;

use crate::error::SidecarError;

/// Why an import ended before its file did.
#[derive(Debug, Error)]
pub enum ImportError {
    /// A file could not be opened or read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file, or `standard input`.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The rejects file could not be written.
    #[error("cannot write the rejects file {}: {source} (choose another with --rejects FILE)", file.display())]
    Rejects {
        /// The rejects file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing in the file.
    #[error("{file} is empty: expected a header")]
    Empty {
        /// The file.
        file: String,
    },
    /// A compressed file ends early.
    #[error(
        "{file} is cut off: its compressed data ends in the middle, after line {line}; the lines before are imported \
         (fetch the whole file and import it: nothing is doubled)"
    )]
    CutOff {
        /// The file.
        file: String,
        /// The last whole line.
        line: u64,
    },
    /// A compressed file is damaged.
    #[error("{file} is damaged after line {line}: {source}; the lines before are imported")]
    Damaged {
        /// The file.
        file: String,
        /// The last whole line.
        line: u64,
        /// What the decompressor said.
        source: std::io::Error,
    },
    /// A header without the columns that the import needs.
    #[error("{file} lacks the column{} {}; its header is: {found}", if missing.len() == 1 { "" } else { "s" }, missing.join(", "))]
    MissingColumns {
        /// The file.
        file: String,
        /// The columns that are needed and not there.
        missing: Vec<&'static str>,
        /// The header as found.
        found: String,
    },
    /// A header that names a column twice.
    #[error("{file} names the column {column:?} twice in its header")]
    DuplicateColumn {
        /// The file.
        file: String,
        /// The column.
        column: String,
    },
    /// A format that the importer cannot read.
    #[error("{file} is not {expected}: it begins with {begins:?}")]
    Format {
        /// The file.
        file: String,
        /// What was expected.
        expected: &'static str,
        /// The first characters found.
        begins: String,
    },
    /// A network name that is none.
    #[error("invalid network: {message}")]
    InvalidNetwork {
        /// What is wrong with it.
        message: String,
    },
    /// A network without a row in `arx.networks`.
    #[error("{}", unknown_network(network))]
    UnknownNetwork {
        /// The network.
        network: String,
    },
    /// The first bad line under `--strict`.
    #[error("{file}, line {line}: {reason} (--strict stops at the first bad line)")]
    Strict {
        /// The file.
        file: String,
        /// Its line.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Another session imports the same source.
    #[error("another import of {file} is running: wait for it, or end it")]
    Busy {
        /// The file.
        file: String,
    },
    /// Ctrl-C.
    #[error("interrupted after line {line} of {file}: continue by running the same command")]
    Interrupted {
        /// The file.
        file: String,
        /// The last line that is loaded.
        line: u64,
    },
    /// The connection string is wrong, the server does not answer or is too old, or the database has no extension.
    #[error(transparent)]
    Connect {
        /// What connecting said.
        source: Box<SidecarError>,
    },
    /// The server refused something.
    #[error("{context}: {}", describe(source))]
    Database {
        /// What was being done.
        context: String,
        /// What the server or the client said.
        source: tokio_postgres::Error,
    },
    /// The thread that reads the file ended without a word.
    #[error("the reader of {file} stopped unexpectedly after line {line}: run the same command again")]
    ReaderStopped {
        /// The file.
        file: String,
        /// The last line that is loaded.
        line: u64,
    },
}

/// The server's own words, with detail and hint, instead of `db error`.
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
    let mut text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
    for (name, part) in [("detail", db.detail()), ("hint", db.hint())] {
        if let Some(part) = part {
            text = format!("{text}; {name}: {part}");
        }
    }
    text
}

/// How to add a network that is not there.
fn unknown_network(network: &str) -> String {
    let quoted = network.to_lowercase().replace('\'', "''");
    format!(
        "network {network:?} is not in arx.networks: INSERT INTO arx.networks (network, native_asset, native_decimals) \
         VALUES ('{quoted}', '<asset>', <decimals>)"
    )
}

/// Why a line cannot become a row. The values in it are the user's own: they go into the rejects file, never into a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineError {
    /// Bytes that are no UTF-8.
    #[error("invalid UTF-8 at byte {position}")]
    InvalidUtf8 {
        /// Offset in the line, from 1.
        position: usize,
    },
    /// A byte that PostgreSQL's text cannot hold.
    #[error("column {column} holds a NUL character")]
    NulCharacter {
        /// The column.
        column: &'static str,
    },
    /// Longer than any real line.
    #[error("line is longer than {limit} bytes")]
    TooLong {
        /// The most that is read.
        limit: usize,
    },
    /// More or fewer fields than the header.
    #[error("{found} columns where the header has {expected}")]
    ColumnCount {
        /// Fields in the line.
        found: usize,
        /// Fields in the header.
        expected: usize,
    },
    /// A quote that the line does not close.
    #[error("a quoted field is not closed on its line")]
    OpenQuote,
    /// Not a JSON object of the expected form.
    #[error("invalid JSON: {message}")]
    Json {
        /// What the parser said.
        message: String,
    },
    /// A required value that is not there.
    #[error("column {column} is empty")]
    Empty {
        /// The column.
        column: &'static str,
    },
    /// Not a whole number.
    #[error("column {column}: {text:?} is not a whole number")]
    NotAnInteger {
        /// The column.
        column: &'static str,
        /// What was found.
        text: String,
    },
    /// A number outside of what the column holds.
    #[error("column {column}: {text} is out of range ({limits})")]
    OutOfRange {
        /// The column.
        column: &'static str,
        /// What was found.
        text: String,
        /// What is allowed.
        limits: &'static str,
    },
    /// An amount of the native coin.
    #[error("column {column}: {source}")]
    Amount {
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        source: AmountError,
    },
    /// An address.
    #[error("column {column}: {message}")]
    Address {
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// A transaction hash.
    #[error("column {column}: {text:?} is not a transaction hash of {network}")]
    Hash {
        /// The column.
        column: &'static str,
        /// What was found.
        text: String,
        /// The network.
        network: String,
    },
    /// A time.
    #[error("column {column}: {text:?} is neither unix seconds nor 'YYYY-MM-DD HH:MM:SS UTC'")]
    Time {
        /// The column.
        column: &'static str,
        /// What was found.
        text: String,
    },
    /// A value that is none of those known.
    #[error("column {column}: {text:?} is none of {allowed}")]
    NotOneOf {
        /// The column.
        column: &'static str,
        /// What was found.
        text: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A text longer than an index can hold.
    #[error("column {column} is longer than {limit} bytes")]
    TextTooLong {
        /// The column.
        column: &'static str,
        /// The most that is allowed.
        limit: usize,
    },
    /// A node id that the nodes file does not hold.
    #[error("column {column}: node {id} is not in the nodes file")]
    UnknownNode {
        /// The column.
        column: &'static str,
        /// The id.
        id: u64,
    },
    /// A node whose line in the nodes file is bad.
    #[error("column {column}: node {id} has no valid address: {message}")]
    BadNode {
        /// The column.
        column: &'static str,
        /// The id.
        id: u64,
        /// What is wrong with its address.
        message: String,
    },
    /// A sender whose node has no address.
    #[error("column {column}: node {id} has no address, and only a receiver may have none")]
    NamelessNode {
        /// The column.
        column: &'static str,
        /// The id.
        id: String,
    },
    /// A network that the database does not hold.
    #[error("{}", unknown_network(network))]
    UnknownNetwork {
        /// The network.
        network: String,
    },
    /// A transfer whose transaction is not there, which alone knows its time.
    #[error("transaction {tx_hash} is not in arx.transactions: import transactions first")]
    UnknownTransaction {
        /// Its transaction.
        tx_hash: String,
    },
    /// The last line, without a newline, and bad.
    #[error("the file ends in the middle of this line: {cause}")]
    EndsInside {
        /// What is wrong with what is there.
        cause: Box<Self>,
    },
}
