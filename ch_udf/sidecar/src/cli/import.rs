//! `arx-sidecar import`: files into PostgreSQL.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::CommandError;
use crate::escape::Inline;
use crate::import::{self, Format, ImportReport, ImportSource, NetworkFile, Request};
use crate::settings::Settings;

/// Arguments of `arx-sidecar import`.
#[derive(Debug, Clone, Args)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    command: ImportCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum ImportCommand {
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

/// Options of every import.
#[derive(Debug, Clone, Default, Args)]
struct CommonArgs {
    /// File for bad lines: line number, reason and line, the texts as JSON strings; at most 100,000
    /// lines and 64 MB [default: FILE.rejects in the current directory]
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Stop at the first bad line
    #[arg(long)]
    strict: bool,
    /// Import a source again that was imported before; existing rows stay as they are
    #[arg(long)]
    again: bool,
}

#[derive(Debug, Clone, Args)]
struct FileArgs {
    /// The file, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Network of the file
    #[arg(long, default_value = "ethereum")]
    network: String,
    /// Format of the file [default: detected from its first character]
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Clone, Args)]
struct LabelArgs {
    /// The file, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Clone, Args)]
struct GraphArgs {
    /// CSV:
    /// tx_id,block_number,block_timestamp,from_id,to_id,value_wei,gas_price,gas_used,is_error,is_call
    #[arg(long, value_name = "FILE")]
    transactions: PathBuf,
    /// CSV: node_id,address
    #[arg(long, value_name = "FILE")]
    nodes: PathBuf,
    /// Network of the files
    #[arg(long, default_value = "ethereum")]
    network: String,
    #[command(flatten)]
    common: CommonArgs,
}

impl ImportArgs {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let report = import::run(self.command.request(), settings).await?;
        println!("{}", Inline(message(&report)));
        Ok(ExitCode::SUCCESS)
    }
}

impl ImportCommand {
    fn request(self) -> Request {
        let network_file =
            |args: FileArgs| (NetworkFile { file: args.file, network: args.network, format: args.format }, args.common);
        let (source, common) = match self {
            Self::Transactions(args) => {
                let (source, common) = network_file(args);
                (ImportSource::Transactions(source), common)
            }
            Self::TokenTransfers(args) => {
                let (source, common) = network_file(args);
                (ImportSource::TokenTransfers(source), common)
            }
            Self::Labels(args) => (ImportSource::Labels { file: args.file }, args.common),
            Self::Graph(args) => {
                let GraphArgs { transactions, nodes, network, common } = args;
                (ImportSource::Graph { transactions, nodes, network }, common)
            }
        };
        Request { source, rejects: common.rejects, strict: common.strict, again: common.again }
    }
}

fn message(report: &ImportReport) -> String {
    let file = &report.file;
    if report.already_finished {
        return format!("{file}: imported before, nothing to do (--again reads it once more; no row is duplicated)");
    }
    let continued = match report.lines_before {
        0 => String::new(),
        lines => format!("continued after line {lines}: "),
    };
    let rejects = report.rejects.as_ref();
    let unlisted = match report.unlisted {
        0 => String::new(),
        lines => format!(", except for {lines} more, for which the file has no room"),
    };
    let rejects =
        rejects.map_or_else(String::new, |path| format!("; rejected lines are in {}{unlisted}", path.display()));
    format!(
        "{file}: {continued}{} rows imported, {} already present, {} rejected, {} skipped in {:.1} s ({} rows/s){rejects}",
        report.imported,
        report.present,
        report.rejected,
        report.skipped,
        report.elapsed.as_secs_f64(),
        report.rows_per_second()
    )
}
