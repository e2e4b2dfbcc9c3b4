//! The reading side of an import, on a thread of its own: opens the source, finds out its form, skips what was done before, and
//! sends chunks until the source ends or nobody listens.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arx_core::address::Network;
use tokio::sync::{mpsc, oneshot};

use super::chunk::{self, Chunk, ChunkRules};
use super::input::{self, Line, Lines};
use crate::import::args::Format;
use crate::import::error::ImportError;
use crate::import::parse::graph::{GraphTransactions, Nodes};
use crate::import::parse::labels::{CsvLabels, Vocabulary};
use crate::import::parse::target::Target;
use crate::import::parse::transactions::{CsvTransactions, JsonTransactions};
use crate::import::parse::transfers::{self, CsvTransfers, JsonTransfers};
use crate::import::parse::values::{Context, RowParser};

/// What is read, with what the database said about it.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// ethereum-etl's transactions.
    Transactions(Context, Option<Format>),
    /// ethereum-etl's token transfers.
    Transfers(Context, Option<Format>),
    /// A label list.
    Labels(Vocabulary),
    /// The two-file form: the network and the nodes file.
    Graph(Context, Network, PathBuf),
}

/// One source to read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// The file.
    pub(crate) path: PathBuf,
    /// What is in it.
    pub(crate) content: Content,
    /// Lines that a former import is done with.
    pub(crate) lines_done: u64,
    /// How to cut it.
    pub(crate) rules: ChunkRules,
}

/// What the reader knows once it has opened its source.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Where its rows go.
    pub(crate) target: Target,
    /// Bytes of the source; unknown for standard input.
    pub(crate) size: Option<u64>,
    /// Bytes read so far.
    pub(crate) bytes_read: Arc<AtomicU64>,
}

/// What the reader says.
#[derive(Debug)]
pub(crate) enum Message {
    /// More lines.
    Chunk(Chunk),
    /// The source has ended, or reading it has failed; lines read at all.
    End(Result<u64, ImportError>),
}

/// Reads a source to its end: first what it is goes to `opened`, then chunks and the end to `messages`.
pub(crate) fn read(
    reading: Reading,
    opened: oneshot::Sender<Result<Opened, ImportError>>,
    messages: &mpsc::Sender<Message>,
) {
    match prepare(&reading) {
        Err(error) => {
            // Nobody waits for it when the import was interrupted meanwhile.
            let _ = opened.send(Err(error));
        }
        Ok(mut prepared) => {
            if opened.send(Ok(prepared.opened)).is_err() {
                return;
            }
            let mut rules = reading.rules;
            rules.keep_lines = prepared.target == Target::UndatedTransfers;
            let ended = chunk::read_chunks(
                &prepared.file,
                &mut prepared.lines,
                prepared.first_line,
                prepared.parser.as_mut(),
                rules,
                &mut |chunk| messages.blocking_send(Message::Chunk(chunk)).is_ok(),
            );
            let _ = messages.blocking_send(Message::End(ended.map(|()| prepared.lines.number())));
        }
    }
}

/// A source in front of its first unread line.
struct Prepared {
    file: String,
    lines: Lines<Box<dyn BufRead + Send>>,
    /// A first line that was read to tell the form, and is a row.
    first_line: Option<(u64, Vec<u8>)>,
    parser: Box<dyn RowParser>,
    target: Target,
    opened: Opened,
}

/// Opens a source, makes its parser and skips what is done.
fn prepare(reading: &Reading) -> Result<Prepared, ImportError> {
    let source = input::open(&reading.path)?;
    let file = source.name;
    let mut lines = Lines::new(source.content);
    let first = first_line(&file, &mut lines)?;
    let format = format_of(&file, &first, reading)?;
    let (parser, target) = parser(&file, &first, format, &reading.content, reading.rules.strict)?;
    let number = lines.number();
    let is_row = format == Format::Json && number > reading.lines_done;
    lines.skip_to(reading.lines_done).map_err(|error| chunk::broken(&file, lines.number(), error))?;
    let opened = Opened { target, size: source.size, bytes_read: source.bytes_read };
    Ok(Prepared { file, lines, first_line: is_row.then_some((number, first)), parser, target, opened })
}

/// The first line that is not blank.
pub(crate) fn first_line<R: BufRead>(file: &str, lines: &mut Lines<R>) -> Result<Vec<u8>, ImportError> {
    loop {
        match lines.next_line() {
            Ok(Some(Line::Whole(line) | Line::Unfinished(line))) => {
                if !line.trim_ascii().is_empty() {
                    return Ok(line.to_vec());
                }
            }
            Ok(Some(Line::TooLong(line))) => {
                let begins = String::from_utf8_lossy(line).chars().take(40).collect();
                let expected = "CSV with a header, or JSON lines";
                return Err(ImportError::Format { file: file.to_owned(), expected, begins });
            }
            Ok(None) => return Err(ImportError::Empty { file: file.to_owned() }),
            Err(error) => return Err(chunk::broken(file, lines.number(), error)),
        }
    }
}

/// CSV or JSON lines: as the user says, else by the first character.
fn format_of(file: &str, first: &[u8], reading: &Reading) -> Result<Format, ImportError> {
    let found = told_format(file, first)?;
    match &reading.content {
        Content::Transactions(_, asked) | Content::Transfers(_, asked) => Ok(asked.unwrap_or(found)),
        Content::Labels(_) | Content::Graph(..) if found == Format::Csv => Ok(found),
        Content::Labels(_) | Content::Graph(..) => Err(wrong_format(file, first, "CSV with a header")),
    }
}

/// CSV or JSON lines, told by the first character.
pub(crate) fn told_format(file: &str, first: &[u8]) -> Result<Format, ImportError> {
    match first.trim_ascii_start().first() {
        Some(b'[') => Err(wrong_format(file, first, "JSON lines (one object a line, no array around them) or CSV")),
        Some(b'{') => Ok(Format::Json),
        _ => Ok(Format::Csv),
    }
}

fn wrong_format(file: &str, first: &[u8], expected: &'static str) -> ImportError {
    let begins = String::from_utf8_lossy(first).chars().take(40).collect();
    ImportError::Format { file: file.to_owned(), expected, begins }
}

/// The parser for what a source holds, and where its rows go.
fn parser(
    file: &str,
    first: &[u8],
    format: Format,
    content: &Content,
    strict: bool,
) -> Result<(Box<dyn RowParser>, Target), ImportError> {
    Ok(match (content, format) {
        (Content::Transactions(context, _), Format::Csv) => {
            (Box::new(CsvTransactions::new(context.clone(), file, first)?), Target::Transactions)
        }
        (Content::Transactions(context, _), Format::Json) => {
            (Box::new(JsonTransactions::new(context.clone())), Target::Transactions)
        }
        (Content::Transfers(context, _), format) => {
            let target = if transfers::is_dated(first) { Target::Transfers } else { Target::UndatedTransfers };
            match format {
                Format::Csv => (Box::new(CsvTransfers::new(context.clone(), file, first)?), target),
                Format::Json => (Box::new(JsonTransfers::new(context.clone(), first)), target),
            }
        }
        (Content::Labels(vocabulary), _) => {
            (Box::new(CsvLabels::new(vocabulary.clone(), file, first)?), Target::Labels)
        }
        (Content::Graph(context, network, path), _) => {
            let nodes = read_nodes(path, network, strict)?;
            (Box::new(GraphTransactions::new(context.clone(), nodes, file, first)?), Target::Transactions)
        }
    })
}

/// Reads the nodes file. A bad line is worth a word: the transactions of its node will be rejected.
fn read_nodes(path: &Path, network: &Network, strict: bool) -> Result<Nodes, ImportError> {
    let file = input::display_name(path);
    let nodes = Nodes::read(input::open(path)?, network)?;
    let Some(&line) = nodes.bad_lines.first() else { return Ok(nodes) };
    if strict {
        let reason = "names no node: expected node_id,address".to_owned();
        return Err(ImportError::Strict { file, line, reason });
    }
    let count = nodes.bad_lines.len();
    tracing::warn!(file, first_line = line, count, "lines of the nodes file name no node");
    Ok(nodes)
}
