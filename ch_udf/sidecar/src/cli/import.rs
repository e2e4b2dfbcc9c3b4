//! `arx-sidecar import`: files into PostgreSQL.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::CommandError;
use super::import_labels::LabelArgs;
use super::output::print_line;
use crate::escape::{Inline, JsonText, Lines};
use crate::import::{
    self, Coverage, FileOptions, Format, ImportReport, ImportSource, Mapping, NetworkFile, Request, StatedKind,
    TokenRules, Unit,
};
use crate::settings::Settings;

/// Exit code of an import that did not account for every line.
const INCOMPLETE: u8 = 2;

/// Arguments of `arx-sidecar import`.
#[derive(Debug, Clone, Args)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    command: ImportCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum ImportCommand {
    #[command(flatten)]
    Files(FileCommand),
    /// A list of labelled addresses: CSV, JSON, tag packs of GraphSense, OFAC's files, or one
    /// address a line; plain, gzip or zstd
    Labels(Box<LabelArgs>),
}

#[derive(Debug, Clone, Subcommand)]
enum FileCommand {
    /// Transactions, receipts, traces and internal transactions: files of ethereum-etl and
    /// bitcoin-etl, edge lists, exports and API answers of explorers; CSV or JSON, plain, gzip or
    /// zstd
    Transactions(TransactionArgs),
    /// Token transfers of ethereum-etl or an explorer; CSV or JSON, plain, gzip or zstd
    TokenTransfers(TransferArgs),
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
    /// Import a source again that was imported before; no row is doubled
    #[arg(long)]
    again: bool,
    /// Report what an import would do, and write nothing
    #[arg(long)]
    check: bool,
    /// Print the report as JSON, one object a file
    #[arg(long)]
    json: bool,
}

/// Files of one network.
#[derive(Debug, Clone, Args)]
struct FileArgs {
    /// Files or patterns, or - for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Network of the files
    #[arg(long, default_value = "ethereum")]
    network: String,
    /// Format of the files [default: detected from the first character]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Read the column COLUMN as FIELD, a name of ethereum-etl such as from_address; may be
    /// repeated
    #[arg(long = "map", value_name = "COLUMN=FIELD")]
    mappings: Vec<Mapping>,
    /// The files hold all transactions of the network between the first and the last: recorded in
    /// arx.history_coverage if every line is imported
    #[arg(long, conflicts_with = "complete_for")]
    complete_network: bool,
    /// The files hold the whole history of the wallets in FILE, one address a line: recorded in
    /// arx.history_coverage if every line is imported
    #[arg(long, value_name = "FILE")]
    complete_for: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Clone, Args)]
struct TransactionArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Kind of the files [default: detected from their columns]
    #[arg(long, value_enum)]
    kind: Option<StatedKind>,
    /// Unit of amounts [default: the smallest, except in formats that have their own]
    #[arg(long, value_enum)]
    unit: Option<Unit>,
    /// The files list movements: several lines may name one transaction. Always so on networks with
    /// inputs and outputs
    #[arg(long)]
    edges: bool,
    /// Remove the stored transactions of a block that comes again with another block_hash
    #[arg(long)]
    replace_blocks: bool,
}

#[derive(Debug, Clone, Args)]
struct TransferArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Contracts whose values are token ids: each transfer counts as 1; `all` for every contract
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    erc721: Vec<String>,
    /// Contracts whose values are amounts, even above 2^128; `all` for every contract
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    erc20: Vec<String>,
    /// Decimals of the token, where amounts are in tokens
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=77))]
    token_decimals: Option<u32>,
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
        let command = match self.command {
            ImportCommand::Labels(args) => return args.run(settings).await,
            ImportCommand::Files(command) => command,
        };
        let mut coverage = command.coverage();
        if let Some(coverage) = &coverage {
            // An invalid list is reported before the import.
            coverage.addresses()?;
        }
        let (requests, json) = command.requests()?;
        // Neither the files that follow nor the history depend on a reader of the reports.
        let (mut is_complete, mut printed) = (true, Ok(()));
        for request in requests {
            let check = request.check;
            let report = import::run(request, settings).await?;
            coverage = coverage.filter(|_| !check);
            if let Some(coverage) = &mut coverage {
                coverage.times = import::joined_times(coverage.times, report.tally.times);
            }
            printed = printed.and(if json {
                print_line(JsonText(as_json(&report)))
            } else {
                print_line(Lines(message(&report)))
            });
            is_complete &= report.is_complete();
        }
        match coverage {
            Some(coverage) if is_complete => {
                let statements = coverage.record(settings).await?;
                if !json {
                    print_line(format_args!("history recorded as complete: {statements} new statements"))?;
                }
            }
            Some(_) if !json => print_line("history not recorded as complete, because not every line was imported")?,
            _ => {}
        }
        printed?;
        Ok(if is_complete { ExitCode::SUCCESS } else { INCOMPLETE.into() })
    }
}

impl FileCommand {
    /// Returns the statement about the history, if one is asked for.
    fn coverage(&self) -> Option<Coverage> {
        let (Self::Transactions(TransactionArgs { file, .. }) | Self::TokenTransfers(TransferArgs { file, .. })) = self
        else {
            return None;
        };
        if !file.complete_network && file.complete_for.is_none() {
            return None;
        }
        let names: Vec<String> = file.files.iter().map(|file| file.display().to_string()).collect();
        Some(Coverage {
            network: file.network.clone(),
            wallets: file.complete_for.clone(),
            times: None,
            source: format!("import of {}", names.join(", ")),
        })
    }

    /// Returns one request for each file, and whether reports are JSON.
    fn requests(self) -> Result<(Vec<Request>, bool), CommandError> {
        match self {
            Self::Transactions(args) => {
                let options = FileOptions {
                    format: args.file.format,
                    kind: args.kind.map(Into::into),
                    unit: args.unit,
                    edges: args.edges,
                    mappings: args.file.mappings.clone(),
                    replace_blocks: args.replace_blocks,
                    ..FileOptions::default()
                };
                file_requests(args.file, &options, ImportSource::Transactions)
            }
            Self::TokenTransfers(args) => {
                let contracts =
                    |list: Vec<String>| list.iter().map(|text| text.to_lowercase()).collect::<HashSet<String>>();
                let tokens = TokenRules {
                    fungible: contracts(args.erc20),
                    nfts: contracts(args.erc721),
                    decimals: args.token_decimals,
                };
                let options = FileOptions {
                    format: args.file.format,
                    mappings: args.file.mappings.clone(),
                    tokens,
                    ..FileOptions::default()
                };
                file_requests(args.file, &options, ImportSource::TokenTransfers)
            }
            Self::Graph(args) => {
                let GraphArgs { transactions, nodes, network, common } = args;
                let json = common.json;
                Ok((vec![request(ImportSource::Graph { transactions, nodes, network }, common)], json))
            }
        }
    }
}

fn request(source: ImportSource, common: CommonArgs) -> Request {
    let CommonArgs { rejects, strict, again, check, json: _ } = common;
    Request { source, rejects, strict, again, check }
}

/// Returns one request for each file.
fn file_requests(
    args: FileArgs,
    options: &FileOptions,
    source: fn(NetworkFile) -> ImportSource,
) -> Result<(Vec<Request>, bool), CommandError> {
    let files = expanded(&args.files)?;
    if files.len() > 1 && args.common.rejects.is_some() {
        return Err("--rejects takes the lines of one file: leave it out for several files".into());
    }
    let json = args.common.json;
    let requests = files.into_iter().map(|file| {
        let file = NetworkFile { file, network: args.network.clone(), options: options.clone() };
        request(source(file), args.common.clone())
    });
    Ok((requests.collect(), json))
}

/// Returns the files that patterns name, in the order of their names. A file whose name looks like
/// a pattern is a file.
fn expanded(patterns: &[PathBuf]) -> Result<Vec<PathBuf>, CommandError> {
    let mut files = Vec::new();
    for pattern in patterns {
        let text = pattern.to_string_lossy();
        if !text.contains(['*', '?', '[']) || pattern.exists() {
            files.push(pattern.clone());
            continue;
        }
        let before = files.len();
        for file in glob::glob(&text)? {
            files.push(file?);
        }
        if files.len() == before {
            return Err(format!("no file matches {text:?}").into());
        }
    }
    Ok(files)
}

/// Formats counts by name: `2 value: empty, 1 hash: empty`.
fn counts(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let list: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    list.join(", ")
}

fn message(report: &ImportReport) -> String {
    let file = Inline(&report.file);
    if report.already_finished {
        return format!("{file}: imported before, nothing to do (--again reads it once more; no row is doubled)");
    }
    let tally = &report.tally;
    let continued = match report.lines_before {
        0 => String::new(),
        lines => format!("continued after line {lines}: "),
    };
    let of_which = |count: u64, text: &str| if count == 0 { String::new() } else { format!(" ({count} {text})") };
    let sum = |counts: &std::collections::BTreeMap<String, u64>| counts.values().sum::<u64>();
    let mut lines = vec![format!(
        "{file}: {}{continued}{} rows imported, {} updated{}, {} unchanged{}, {} rejected, {} skipped in {:.1} s ({} rows/s)",
        if report.check { "check, nothing is written: " } else { "" },
        tally.imported,
        tally.updated,
        of_which(tally.moved, "from another block"),
        tally.unchanged,
        of_which(tally.less, "know less than the stored rows"),
        sum(&tally.rejected),
        sum(&tally.skipped),
        report.elapsed.as_secs_f64(),
        report.rows_per_second()
    )];
    let mut note = |condition: bool, text: String| {
        if condition {
            lines.push(format!("  {}", Inline(text)));
        }
    };
    note(tally.replaced > 0, format!("removed with their blocks: {} stored transactions", tally.replaced));
    note(tally.nothing > 0, format!("move no value: {} lines", tally.nothing));
    note(tally.headers > 0, format!("repeat the header: {} lines", tally.headers));
    note(
        tally.without_status > 0,
        format!(
            "without a status: {} rows, whose outcome is unknown until receipts are imported",
            tally.without_status
        ),
    );
    for (text, count) in &tally.notes {
        note(true, format!("{count} {text}"));
    }
    note(!tally.skipped.is_empty(), format!("skipped, of another kind: {}", counts(&tally.skipped)));
    note(!tally.rejected.is_empty(), format!("rejected: {}", counts(&tally.rejected)));
    if let Some(path) = &report.rejects {
        let unlisted = match report.unlisted {
            0 => String::new(),
            lines => format!(", except for {lines} more, for which the file has no room"),
        };
        note(true, format!("rejected lines are in {}{unlisted}", path.display()));
    }
    note(report.assumes_smallest_unit, "unit of amounts: the smallest, because none is stated".to_owned());
    note(!report.unused_columns.is_empty(), format!("columns not used: {}", report.unused_columns.join(", ")));
    note(!report.is_complete() && sum(&tally.rejected) == 0, "not every line was imported".to_owned());
    lines.join("\n")
}

/// Returns the report as a JSON object on one line.
fn as_json(report: &ImportReport) -> String {
    let tally = &report.tally;
    serde_json::json!({
        "file": report.file,
        "already_finished": report.already_finished,
        "check": report.check,
        "lines_before": report.lines_before,
        "imported": tally.imported,
        "updated": tally.updated,
        "moved": tally.moved,
        "unchanged": tally.unchanged,
        "less": tally.less,
        "no_value": tally.nothing,
        "removed": tally.replaced,
        "headers": tally.headers,
        "without_status": tally.without_status,
        "notes": tally.notes,
        "rejected": tally.rejected,
        "skipped": tally.skipped,
        "assumes_smallest_unit": report.assumes_smallest_unit,
        "unused_columns": report.unused_columns,
        "rejects_file": report.rejects.as_ref().map(|path| path.display().to_string()),
        "unlisted": report.unlisted,
        "complete": report.is_complete(),
        "seconds": report.elapsed.as_secs_f64(),
    })
    .to_string()
}
