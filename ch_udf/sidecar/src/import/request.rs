//! The request of an import: a source and options.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// A source to import, and the options that every kind of source has.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) source: ImportSource,
    /// The rejects file; named after the source when absent.
    pub(crate) rejects: Option<PathBuf>,
    /// Stop at the first bad line.
    pub(crate) strict: bool,
    /// Import a source again that was imported before.
    pub(crate) again: bool,
}

/// The files of an import, and what they hold.
#[derive(Debug, Clone)]
pub(crate) enum ImportSource {
    Transactions(NetworkFile),
    TokenTransfers(NetworkFile),
    Labels {
        file: PathBuf,
    },
    /// The two-file form.
    Graph {
        transactions: PathBuf,
        nodes: PathBuf,
        network: String,
    },
}

/// A file with rows of one network.
#[derive(Debug, Clone)]
pub(crate) struct NetworkFile {
    pub(crate) file: PathBuf,
    pub(crate) network: String,
    /// The format; detected when absent.
    pub(crate) format: Option<Format>,
}

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Comma separated, with a header
    Csv,
    /// One JSON object a line
    Json,
}

impl ImportSource {
    /// Returns the file whose lines become rows.
    pub(crate) fn file(&self) -> &Path {
        match self {
            Self::Transactions(source) | Self::TokenTransfers(source) => &source.file,
            Self::Labels { file } => file,
            Self::Graph { transactions, .. } => transactions,
        }
    }

    /// Returns the name of this kind of import in `arx.import_progress`.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Transactions(_) => "transactions",
            Self::TokenTransfers(_) => "token_transfers",
            Self::Labels { .. } => "labels",
            Self::Graph { .. } => "graph",
        }
    }
}
