//! The reading side of an import, on a separate thread: opens the source, detects its format, skips
//! lines that were committed before, and sends chunks until the source ends or the receiver is
//! gone. Rows of Parquet are parsed by several threads.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arx_core::address::{Network, NetworkFamily};
use tokio::sync::{mpsc, oneshot};

use super::chunk::{self, Chunk, ChunkRules, Names};
use super::input::{self, Line, Lines, OpenedSource};
use super::nodes;
use super::parquet::Table;
use crate::import::error::ImportError;
use crate::import::parse::csv_line::SEPARATOR;
use crate::import::parse::fields::{self, Column, Mapping};
use crate::import::parse::graph::{GraphTransactions, Nodes};
use crate::import::parse::kind::{self, Kind};
use crate::import::parse::legs::{CsvLegs, JsonLegs};
use crate::import::parse::receipts::{CsvReceipts, JsonReceipts};
use crate::import::parse::target::Target;
use crate::import::parse::transactions::{CsvTransactions, JsonTransactions};
use crate::import::parse::transfers::{self, CsvTransfers, JsonTransfers};
use crate::import::parse::utxo::UtxoTransactions;
use crate::import::parse::values::{Context, RowParser};
use crate::import::request::{FileOptions, Format};

/// Threads that parse rows of Parquet, at most: each holds chunks.
const MAX_PARSERS: usize = 4;

/// Types of objects in a mixed stream.
const STREAM_TYPES: [&str; 7] = ["transaction", "block", "log", "token_transfer", "trace", "contract", "token"];

/// Kind of content, with the facts from the database that parsing needs.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Transactions(Context, FileOptions),
    Transfers(Context, FileOptions),
    /// The two-file form: the network and the nodes file.
    Graph(Context, Network, PathBuf),
}

impl Content {
    /// The family of the network.
    pub(crate) fn family(&self) -> NetworkFamily {
        match self {
            Self::Transactions(context, _) | Self::Transfers(context, _) | Self::Graph(context, ..) => {
                context.registered().family()
            }
        }
    }
}

/// One source to read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) path: PathBuf,
    pub(crate) content: Content,
    /// Lines that an earlier import committed.
    pub(crate) lines_done: u64,
    pub(crate) rules: ChunkRules,
}

/// Facts about an opened source.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) target: Target,
    /// Size in bytes; unknown for standard input.
    pub(crate) size: Option<u64>,
    /// Bytes read so far.
    pub(crate) bytes_read: Arc<AtomicU64>,
    /// Names of columns that the import does not read.
    pub(crate) unused: Vec<String>,
    /// Amounts of the native coin are taken for smallest units, because nothing states their unit.
    pub(crate) assumes_smallest_unit: bool,
}

/// A message of the reader.
#[derive(Debug)]
pub(crate) enum Message {
    Chunk(Box<Chunk>),
    /// The number of lines at the end of the source, or the error that ended reading.
    End(Result<u64, ImportError>),
}

/// Reads a source to its end: reports to `opened`, then sends chunks and the end to `messages`.
pub(crate) fn read(
    reading: Reading,
    opened: oneshot::Sender<Result<Opened, ImportError>>,
    messages: &mpsc::Sender<Message>,
) {
    match prepare(&reading) {
        Err(error) => {
            // The receiver is gone when the import was interrupted meanwhile.
            let _ = opened.send(Err(error));
        }
        Ok(prepared) => {
            if opened.send(Ok(prepared.opened)).is_err() {
                return;
            }
            let mut rules = reading.rules;
            rules.keep_together = prepared.target.keeps_together();
            rules.key_fields = prepared.target.key_fields();
            let file = prepared.file;
            let deliver = &mut |chunk| messages.blocking_send(Message::Chunk(Box::new(chunk))).is_ok();
            let (mut lines, mut parsers) = (prepared.lines, prepared.parsers);
            let ended = match prepared.names {
                Some(names) if !rules.keep_together && parsers.len() > 1 => {
                    chunk::read_in_parallel(&file, lines, parsers, prepared.rows, rules, &names, deliver)
                        .map(|()| prepared.rows)
                }
                names => {
                    let Some(parser) = parsers.first_mut() else { return };
                    let first = prepared.first_line;
                    let header = (prepared.header, names);
                    chunk::read_chunks(&file, &mut lines, first, parser.as_mut(), rules, header, deliver)
                        .map(|()| lines.number())
                }
            };
            let _ = messages.blocking_send(Message::End(ended));
        }
    }
}

/// A source positioned at its first unread line.
struct Prepared {
    file: String,
    lines: Lines<Box<dyn BufRead + Send>>,
    /// At least one; several where each can parse any line.
    parsers: Vec<Box<dyn RowParser>>,
    /// Names of the columns of Parquet, and the number of its rows.
    names: Option<Names>,
    rows: u64,
    /// A first line that was read to detect the format and is itself a row.
    first_line: Option<(u64, Vec<u8>)>,
    /// The header of a CSV file, which may occur again where files were put together.
    header: Option<Vec<u8>>,
    target: Target,
    opened: Opened,
}

/// Opens a source, creates its parser and skips committed lines.
fn prepare(reading: &Reading) -> Result<Prepared, ImportError> {
    let mut source = input::open(&reading.path)?;
    if let Some(table) = source.table.take()
        && let Some(prepared) = prepare_table(reading, &source, &table)?
    {
        return Ok(prepared);
    }
    let file = source.name;
    let mut lines = Lines::detect(source.content).map_err(|source| ImportError::Read { file: file.clone(), source })?;
    let first = first_line(&file, &mut lines)?;
    let format = format_of(&file, &first, reading)?;
    let (parser, target) = parser(&file, &first, format, &reading.content, reading.rules.strict)?;
    let number = lines.number();
    let is_row = format == Format::Json && number > reading.lines_done;
    lines.skip_to(reading.lines_done).map_err(|error| chunk::broken(&file, lines.number(), error))?;
    let mappings = match &reading.content {
        Content::Transactions(_, options) | Content::Transfers(_, options) => options.mappings.as_slice(),
        Content::Graph(..) => &[],
    };
    check_mappings(&file, mappings, parser.as_ref())?;
    if format == Format::Json {
        check_keys(&file, &first, parser.columns(), mappings)?;
    }
    let unused = match format {
        Format::Csv => parser.unused_columns().to_vec(),
        Format::Json => unused_keys(&first, parser.columns(), mappings),
    };
    let assumes_smallest_unit = format == Format::Csv && assumes_smallest_unit(&reading.content, parser.as_ref());
    let (size, bytes_read) = (source.size, source.bytes_read);
    let opened = Opened { target, size, bytes_read, unused, assumes_smallest_unit };
    let header = (format == Format::Csv).then(|| first.clone());
    let first_line = is_row.then_some((number, first));
    let parsers = vec![parser];
    Ok(Prepared { file, lines, parsers, names: None, rows: 0, first_line, header, target, opened })
}

/// Prepares the reading of Parquet by columns: each thread that parses has a parser of its own.
/// Returns `None` for a file whose rows have to become JSON: the columns that are used are nested,
/// or its rows are of several kinds.
fn prepare_table(reading: &Reading, source: &OpenedSource, table: &Table) -> Result<Option<Prepared>, ImportError> {
    let file = source.name.clone();
    let (Content::Transactions(_, options) | Content::Transfers(_, options)) = &reading.content else {
        return Ok(None);
    };
    if options.format.is_some() {
        return Ok(None);
    }
    let mut content = reading.content.clone();
    let mappings = &options.mappings;
    let mut names = fields::folded(&table.names.iter().map(String::as_str).collect::<Vec<_>>(), mappings);
    if let Some(word) = first_type(&file, table, mappings)? {
        if STREAM_TYPES.contains(&word.as_str()) {
            return Ok(None);
        }
        names.push(format!("type:{word}"));
    }
    if let Content::Transactions(_, options) = &mut content {
        let kind = options.kind.unwrap_or_else(|| kind::detect(&names));
        if kind == Kind::Utxo {
            return Ok(None);
        }
        options.kind = Some(kind);
    }
    let header = table.names.join(char::from(SEPARATOR).encode_utf8(&mut [0; 4]));
    let create = || parser(&file, header.as_bytes(), Format::Csv, &content, reading.rules.strict);
    let (first, target) = create()?;
    check_mappings(&file, mappings, first.as_ref())?;
    let unused = first.unused_columns().to_vec();
    let assumes_smallest_unit = assumes_smallest_unit(&content, first.as_ref());
    let count = match target.keeps_together() {
        true => 1,
        false => std::thread::available_parallelism().map_or(1, usize::from).min(MAX_PARSERS),
    };
    let damaged = |source| ImportError::Read { file: file.clone(), source };
    let Some(records) = table.records(|name| !unused.iter().any(|other| other == name)).map_err(damaged)? else {
        return Ok(None);
    };
    let mut lines = Lines::of_records(Box::new(std::io::empty()) as Box<dyn BufRead + Send>, records);
    lines.skip_to(reading.lines_done).map_err(|error| chunk::broken(&file, lines.number(), error))?;
    let mut parsers = vec![first];
    while parsers.len() < count {
        parsers.push(create()?.0);
    }
    let (size, bytes_read) = (source.size, Arc::clone(&source.bytes_read));
    let opened = Opened { target, size, bytes_read, unused, assumes_smallest_unit };
    let names = Some(table.names.clone().into());
    let rows = table.rows();
    Ok(Some(Prepared { file, lines, parsers, names, rows, first_line: None, header: None, target, opened }))
}

/// Returns the word in the column `type` of the first row of Parquet, if it has one.
fn first_type(file: &str, table: &Table, mappings: &[Mapping]) -> Result<Option<String>, ImportError> {
    let is_type = |name: &str| fields::folded(&[name], mappings).first().is_some_and(|name| name == "type");
    if !table.names.iter().any(|name| is_type(name)) {
        return Ok(None);
    }
    let read_error = |source| ImportError::Read { file: file.to_owned(), source };
    let Some(mut records) = table.records(is_type).map_err(read_error)? else { return Ok(None) };
    let mut line = Vec::new();
    records.next(&mut line).map_err(read_error)?;
    let text = String::from_utf8_lossy(&line).replace(char::from(SEPARATOR), "");
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn check_mappings(file: &str, mappings: &[Mapping], parser: &dyn RowParser) -> Result<(), ImportError> {
    match Mapping::unknown(mappings, parser.columns()) {
        None => Ok(()),
        Some(mapping) => {
            let message = format!("--map {mapping} names a field that this kind of file does not have");
            Err(ImportError::Mapping { file: file.to_owned(), message })
        }
    }
}

/// Rejects a file whose first object has no key for a hash: its rows are not objects of this form.
fn check_keys(file: &str, first: &[u8], columns: &[Column], mappings: &[Mapping]) -> Result<(), ImportError> {
    let keys = fields::keys(&String::from_utf8_lossy(first));
    let folded = kind::names(file, first, Format::Json, mappings)?;
    // A stream begins with an item of any type.
    if folded.iter().filter_map(|name| name.strip_prefix("type:")).any(|word| STREAM_TYPES.contains(&word)) {
        return Ok(());
    }
    let hash = columns.iter().find(|column| column.name.ends_with("hash"));
    match hash.filter(|column| !keys.is_empty() && !folded.iter().any(|name| column.names.contains(&name.as_str()))) {
        None => Ok(()),
        Some(column) => {
            let found = keys.join(",").chars().take(500).collect();
            Err(ImportError::MissingColumns { file: file.to_owned(), missing: vec![column.name], found })
        }
    }
}

/// Returns true if nothing states the unit of the native coin's amounts.
fn assumes_smallest_unit(content: &Content, parser: &dyn RowParser) -> bool {
    matches!(content, Content::Transactions(_, options) if options.unit.is_none()) && parser.takes_base_units()
}

/// Returns the keys of the first object that the import does not read, and mapped ones that it does
/// not have.
fn unused_keys(first: &[u8], columns: &[Column], mappings: &[Mapping]) -> Vec<String> {
    if columns.is_empty() {
        return Vec::new();
    }
    let line = String::from_utf8_lossy(first);
    let keys = fields::keys(&line);
    let mut unused = fields::unused_keys(&line, columns, mappings);
    unused.extend(Mapping::absent(mappings, &keys).map(|column| format!("{column} (not in the first object)")));
    unused
}

/// Returns the first line that is not blank.
pub(crate) fn first_line<R: BufRead>(file: &str, lines: &mut Lines<R>) -> Result<Vec<u8>, ImportError> {
    loop {
        match lines.next_line() {
            Ok(Some(Line::Whole(line) | Line::Unfinished(line))) => {
                if line.trim_ascii().contains(&b'\r') && !line.starts_with(b"{") {
                    return Err(ImportError::LineEnds { file: file.to_owned() });
                }
                if !line.trim_ascii().is_empty() {
                    return Ok(line.to_vec());
                }
            }
            Ok(Some(Line::TooLong(line))) => {
                let begins = String::from_utf8_lossy(line).chars().take(40).collect();
                let expected = "CSV with a header, or JSON";
                return Err(ImportError::Format { file: file.to_owned(), expected, begins });
            }
            Ok(None) => return Err(ImportError::Empty { file: file.to_owned() }),
            Err(error) => return Err(chunk::broken(file, lines.number(), error)),
        }
    }
}

/// Returns the format that the user gave, or else the one detected from the first character.
fn format_of(file: &str, first: &[u8], reading: &Reading) -> Result<Format, ImportError> {
    let detected = detected_format(file, first)?;
    match &reading.content {
        Content::Transactions(_, options) | Content::Transfers(_, options) => Ok(options.format.unwrap_or(detected)),
        Content::Graph(..) if detected == Format::Csv => Ok(detected),
        Content::Graph(..) => Err(wrong_format(file, first, "CSV with a header")),
    }
}

/// Detects CSV or JSON lines from the first character.
pub(crate) fn detected_format(file: &str, first: &[u8]) -> Result<Format, ImportError> {
    match first.trim_ascii_start().first() {
        Some(b'[') => Err(wrong_format(file, first, "JSON objects or CSV")),
        Some(b'{') => Ok(Format::Json),
        _ => Ok(Format::Csv),
    }
}

fn wrong_format(file: &str, first: &[u8], expected: &'static str) -> ImportError {
    let begins = String::from_utf8_lossy(first).chars().take(40).collect();
    ImportError::Format { file: file.to_owned(), expected, begins }
}

/// Returns the parser for a source and the target of its rows.
fn parser(
    file: &str,
    first: &[u8],
    format: Format,
    content: &Content,
    strict: bool,
) -> Result<(Box<dyn RowParser>, Target), ImportError> {
    Ok(match (content, format) {
        (Content::Transactions(context, options), format) => {
            let names = kind::names(file, first, format, &options.mappings)?;
            let kind = options.kind.unwrap_or_else(|| kind::detect(&names));
            kind::check_unit(file, kind, &names, options)?;
            return transactions_parser(file, first, format, kind, context, options);
        }
        (Content::Transfers(context, options), format) => {
            let names = kind::names(file, first, format, &options.mappings)?;
            // Objects of explorers have different keys; those of ethereum-etl have all.
            let may_differ = format == Format::Json && memchr::memmem::find(first, b"\"log_index\"").is_none();
            let incomplete = may_differ || transfers::is_incomplete(&names);
            let target = Target::Transfers { incomplete };
            let (context, rules, mappings) = (context.clone(), options.tokens.clone(), &options.mappings);
            match format {
                Format::Csv => {
                    let parser = CsvTransfers::new(context, rules, file, first, mappings)?;
                    (Box::new(parser.of_whole_rows(!incomplete)), target)
                }
                Format::Json => {
                    let parser = JsonTransfers::new(context, rules, mappings.clone());
                    (Box::new(parser.of_whole_rows(!incomplete)), target)
                }
            }
        }
        (Content::Graph(context, network, path), _) => {
            let nodes = nodes_of(path, network, strict)?;
            (
                Box::new(GraphTransactions::new(context.clone(), nodes, file, first)?),
                Target::Transactions { effective_prices: false },
            )
        }
    })
}

/// Returns the parser for a file of transactions, or of what belongs to them.
fn transactions_parser(
    file: &str,
    first: &[u8],
    format: Format,
    kind: Kind,
    context: &Context,
    options: &FileOptions,
) -> Result<(Box<dyn RowParser>, Target), ImportError> {
    let context = context.clone().with_unit(options.unit);
    let mappings = &options.mappings;
    Ok(match (kind, format) {
        (Kind::Transactions, Format::Csv) => {
            let parser = CsvTransactions::new(context, file, first, options.edges, mappings)?;
            let target = match parser.shape().edges {
                true => Target::Edges { whole: false },
                false => Target::Transactions { effective_prices: parser.has_effective_prices() },
            };
            (Box::new(parser), target)
        }
        (Kind::Transactions, Format::Json) => {
            let parser = JsonTransactions::new(context, options.edges, mappings.clone());
            let effective_prices =
                kind::names(file, first, format, mappings)?.iter().any(|name| name.ends_with("effectivegasprice"));
            let target = match parser.shape().edges {
                true => Target::Edges { whole: false },
                false => Target::Transactions { effective_prices },
            };
            (Box::new(parser), target)
        }
        (Kind::Receipts, Format::Csv) => {
            (Box::new(CsvReceipts::new(context, file, first, mappings)?), Target::Receipts)
        }
        (Kind::Receipts, Format::Json) => (Box::new(JsonReceipts::new(context, mappings.clone())), Target::Receipts),
        (Kind::Traces | Kind::Internal, Format::Csv) => {
            (Box::new(CsvLegs::new(context, file, first, mappings)?), Target::Legs)
        }
        (Kind::Traces | Kind::Internal, Format::Json) => {
            (Box::new(JsonLegs::new(context, kind == Kind::Traces, mappings.clone())), Target::Legs)
        }
        (Kind::Utxo, Format::Json) => (Box::new(UtxoTransactions::new(context)), Target::Edges { whole: true }),
        (Kind::Utxo, Format::Csv) => return Err(wrong_format(file, first, "JSON objects with inputs and outputs")),
        (Kind::Other(found, advice), _) => {
            return Err(ImportError::OtherKind { file: file.to_owned(), found, advice });
        }
    })
}

/// Reads the nodes file. Invalid lines are reported, because transactions of their nodes will be
/// rejected.
fn nodes_of(path: &Path, network: &Network, strict: bool) -> Result<Nodes, ImportError> {
    let file = input::display_name(path);
    let nodes = nodes::read_nodes(input::open(path)?, network)?;
    let Some(&line) = nodes.bad_lines.first() else { return Ok(nodes) };
    if strict {
        let reason = "is not a node: expected node_id,address".to_owned();
        return Err(ImportError::Strict { file, line, reason });
    }
    let count = nodes.bad_lines.len();
    tracing::warn!(file, first_line = line, count, "invalid lines in the nodes file");
    Ok(nodes)
}
