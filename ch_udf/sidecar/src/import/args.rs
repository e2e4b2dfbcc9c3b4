//! The command line of `arx-sidecar import`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `arx-sidecar import …`
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Kind of import.
    #[command(subcommand)]
    pub command: ImportCommand,
}

/// Kind of import.
#[derive(Debug, Clone, Subcommand)]
pub enum ImportCommand {
    /// Transactions as ethereum-etl writes them: CSV or JSON lines, plain or gzip
    Transactions(FileArgs),
    /// Token transfers as ethereum-etl writes them: CSV or JSON lines, plain or gzip
    TokenTransfers(FileArgs),
    /// A list of labelled addresses: CSV with network,address,category,abuse,label,source and
    /// optionally severity,confidence
    Labels(LabelArgs),
    /// Transactions whose addresses are numbered in a second file
    Graph(GraphArgs),
}

/// Arguments of every import.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonArgs {
    /// File for rejected lines: line number, reason, line [default: FILE.rejects in the current
    /// directory]
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// Stop at the first invalid line
    #[arg(long)]
    pub strict: bool,
    /// Import a source that was imported before; existing rows stay unchanged
    #[arg(long)]
    pub again: bool,
}

/// One file of one network.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// The file, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Network of the file
    #[arg(long, default_value = "ethereum")]
    pub network: String,
    /// Format of the file [default: detected from its first character]
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

/// Files of the two-file form.
#[derive(Debug, Clone, Args)]
pub struct GraphArgs {
    /// CSV:
    /// tx_id,block_number,block_timestamp,from_id,to_id,value_wei,gas_price,gas_used,is_error,is_call
    #[arg(long, value_name = "FILE")]
    pub transactions: PathBuf,
    /// CSV: node_id,address
    #[arg(long, value_name = "FILE")]
    pub nodes: PathBuf,
    /// Network of the files
    #[arg(long, default_value = "ethereum")]
    pub network: String,
    /// Rejects, strictness, repetition.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Comma separated, with a header
    Csv,
    /// One JSON object a line
    Json,
}
