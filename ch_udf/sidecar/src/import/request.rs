//! The request of an import: a source and options.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use sha2::{Digest, Sha256};

use super::parse::fields::Mapping;
use super::parse::kind::Kind;
use super::parse::transfers::TokenRules;
use super::parse::values::Unit;

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
    /// Report what an import would do, and change nothing.
    pub(crate) check: bool,
}

/// The files of an import, and what they hold.
#[derive(Debug, Clone)]
pub(crate) enum ImportSource {
    Transactions(NetworkFile),
    TokenTransfers(NetworkFile),
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
    pub(crate) options: FileOptions,
}

/// Statements of the user about a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileOptions {
    /// The format; detected when absent.
    pub(crate) format: Option<Format>,
    /// The kind; detected when absent.
    pub(crate) kind: Option<Kind>,
    /// The unit of amounts; smallest units when absent, unless the format has its own.
    pub(crate) unit: Option<Unit>,
    /// Several lines may name one transaction.
    pub(crate) edges: bool,
    /// Names of columns.
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) tokens: TokenRules,
    /// Transactions of a block that is no longer in the chain are replaced.
    pub(crate) replace_blocks: bool,
}

impl FileOptions {
    /// Returns a text that differs where options read a file differently; `None` for the defaults.
    /// The kind is part of [`ImportSource::kind`].
    pub(crate) fn fingerprint(&self) -> Option<String> {
        let sorted = |contracts: &std::collections::HashSet<String>| {
            let mut contracts: Vec<String> = contracts.iter().cloned().collect();
            contracts.sort_unstable();
            contracts
        };
        let text = |options: &Self| {
            let Self { format, kind: _, unit, edges, mappings, tokens, replace_blocks } = options;
            let TokenRules { fungible, nfts, decimals } = tokens;
            format!("{:?}", (format, unit, edges, mappings, sorted(fungible), sorted(nfts), decimals, replace_blocks))
        };
        let stated = text(self);
        (stated != text(&Self::default()))
            .then(|| Sha256::digest(stated).iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
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
            Self::Graph { transactions, .. } => transactions,
        }
    }

    /// Returns the name of this kind of import in `arx.import_progress`.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Transactions(file) => match file.options.kind {
                None => "transactions",
                Some(Kind::Transactions) => "transactions only",
                Some(Kind::Receipts) => "receipts",
                Some(Kind::Traces) => "traces",
                Some(Kind::Internal) => "internal transactions",
                Some(Kind::Utxo) => "inputs and outputs",
                Some(Kind::Other(name, _)) => name,
            },
            Self::TokenTransfers(_) => "token_transfers",
            Self::Graph { .. } => "graph",
        }
    }

    /// Returns true if transactions of a block that came again are replaced.
    pub(crate) fn replaces_blocks(&self) -> bool {
        matches!(self, Self::Transactions(source) if source.options.replace_blocks)
    }

    /// Returns true if the user has stated which values are amounts.
    pub(crate) fn states_tokens(&self) -> bool {
        matches!(self, Self::TokenTransfers(source) if !source.options.tokens.fungible.is_empty())
    }

    /// Returns the table whose rows a row of the source may meet.
    pub(crate) const fn table(&self) -> &'static str {
        match self {
            Self::Transactions(_) | Self::Graph { .. } => "arx.transactions",
            Self::TokenTransfers(_) => "arx.token_transfers",
        }
    }
}
