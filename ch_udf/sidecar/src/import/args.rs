//! The command line of `arx-sidecar import`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `arx-sidecar import …`
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// What to import.
    #[command(subcommand)]
    pub command: ImportCommand,
}

/// What to import.
#[derive(Debug, Clone, Subcommand)]
pub enum ImportCommand {
    /// Transactions as ethereum-etl writes them: CSV or JSON lines, plain or gzip
    Transactions(FileArgs),
    /// Token transfers as ethereum-etl writes them: CSV or JSON lines, plain or gzip
    TokenTransfers(FileArgs),
    /// A list of labelled addresses: CSV with network,address,category,abuse,label,source and optionally severity,confidence
    Labels(LabelArgs),
    /// Transactions whose addresses are numbered in a second file
    Graph(GraphArgs),
}

/// What every import understands.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonArgs {
    /// Where bad lines go: line number, reason, line [default: FILE.rejects in the current directory]
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// Stop at the first bad line
    #[arg(long)]
    pub strict: bool,
    /// Import a source that was imported before; rows that are there stay as they are
    #[arg(long)]
    pub again: bool,
}

/// One file of one network.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// The file, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The network that the file is of
    #[arg(long, default_value = "ethereum")]
    pub network: String,
    /// The form of the file [default: told by its first character]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Rejects, strictness, repetition.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// A label list.
#[derive(Debug, Clone, Args)]
pub struct LabelArgs {
    /// The file, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Rejects, strictness, repetition.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The two-file form.
#[derive(Debug, Clone, Args)]
pub struct GraphArgs {
    /// CSV: tx_id,block_number,block_timestamp,from_id,to_id,value_wei,gas_price,gas_used,is_error,is_call
    #[arg(long, value_name = "FILE")]
    pub transactions: PathBuf,
    /// CSV: node_id,address
    #[arg(long, value_name = "FILE")]
    pub nodes: PathBuf,
    /// The network that the files are of
    #[arg(long, default_value = "ethereum")]
    pub network: String,
    /// Rejects, strictness, repetition.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Comma separated, with a header
    Csv,
    /// One JSON object a line
    Json,
}
