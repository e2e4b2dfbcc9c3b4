//! Cuts a source into chunks: rows encoded for COPY, rejected lines, and the months of the rows.
//! Runs on threads of its own and does not talk to PostgreSQL.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arx_pgwire::copy::{Fields, TupleBuffer};
use bytes::Bytes;
use chrono::{DateTime, Datelike};

use super::input::{Corrupt, Line, Lines};
use crate::import::error::{ImportError, LineError};
use crate::import::parse::csv_line::{self, Repeated, SEPARATOR};
use crate::import::parse::values::{OtherKind, Parsed, RowParser};

/// A calendar month (UTC), counted from year 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Month(i32);

impl Month {
    /// The month of a time.
    fn of(unix_seconds: i64) -> Option<Self> {
        let time = DateTime::from_timestamp(unix_seconds, 0)?;
        Some(Self(time.year() * 12 + i32::try_from(time.month0()).ok()?))
    }

    /// The current month.
    pub(crate) fn now() -> Self {
        let now = DateTime::<chrono::Utc>::from(std::time::SystemTime::now());
        Self(now.year() * 12 + i32::try_from(now.month0()).unwrap_or_default())
    }

    /// First day in PostgreSQL's format.
    pub(crate) fn first_day(self) -> String {
        format!("{:04}-{:02}-01 00:00:00+00", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Month 1 to 12 of a year.
    pub(crate) fn new(year: i32, month: i32) -> Self {
        Self(year * 12 + month - 1)
    }
}

/// A rejected line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reject {
    /// Line number, from 1.
    pub(crate) line: u64,
    pub(crate) reason: String,
    /// Reason without values, for counting.
    pub(crate) kind: String,
    pub(crate) text: String,
}

/// The lines of one database transaction.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) tuples: Bytes,
    pub(crate) rows: u64,
    /// Lines of the source up to and including the last line of this chunk.
    pub(crate) lines_done: u64,
    /// Months of the rows that have a time.
    pub(crate) months: BTreeSet<Month>,
    pub(crate) rejects: Vec<Reject>,
    /// Transactions that rejected lines name, with the first such line, where rows of one
    /// transaction belong together.
    pub(crate) broken: BTreeMap<String, u64>,
    /// Lines of another kind.
    pub(crate) skipped: BTreeMap<OtherKind, u64>,
    /// Lines that move nothing.
    pub(crate) nothing: u64,
    /// Lines that repeat the header.
    pub(crate) headers: u64,
    /// Rows without a status.
    pub(crate) without_status: u64,
    /// Facts about imported lines that the report counts.
    pub(crate) notes: BTreeMap<&'static str, u64>,
    /// First and last time of the rows that have one.
    pub(crate) times: Option<(i64, i64)>,
    /// A row may have the key of an earlier row of the source.
    pub(crate) repeats: bool,
    /// A row lacks a part of its key.
    pub(crate) lacks_key: bool,
    /// The line of each row, and its place in `text`.
    row_lines: Vec<(u64, Range<usize>)>,
    text: Vec<u8>,
    /// Hashes of the keys of the rows, until [`SeenKeys`] takes them.
    keys: Vec<u64>,
    names: Option<Names>,
}

/// Names of the columns of lines that are rows of Parquet.
pub(crate) type Names = Arc<[String]>;

/// Returns a line as the rejects file shows it: a row of Parquet is a JSON object of its texts.
fn shown(line: &[u8], names: Option<&Names>) -> String {
    let Some(names) = names else { return String::from_utf8_lossy(line).into_owned() };
    let texts = line.split(|byte| *byte == SEPARATOR).map(String::from_utf8_lossy);
    let fields = names.iter().zip(texts).filter(|(_, text)| !text.is_empty());
    let object = fields.map(|(name, text)| (name.clone(), text.into()));
    serde_json::Value::Object(object.collect()).to_string()
}

impl Chunk {
    /// Number and text of the line of a row, counted from 0.
    pub(crate) fn line_of_row(&self, row: usize) -> (u64, String) {
        let Some((line, range)) = self.row_lines.get(row) else { return (0, String::new()) };
        (*line, shown(self.text.get(range.clone()).unwrap_or_default(), self.names.as_ref()))
    }

    /// Numbers of the lines of all rows, in the order of the rows.
    pub(crate) fn lines_of_rows(&self) -> impl Iterator<Item = u64> + '_ {
        self.row_lines.iter().map(|(line, _)| *line)
    }

    fn is_empty(&self) -> bool {
        self.rows == 0 && self.rejects.is_empty() && self.skipped.is_empty() && self.nothing == 0 && self.headers == 0
    }
}

/// Size limits of chunks and the treatment of invalid lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkRules {
    pub(crate) lines: u64,
    /// Encoded bytes at which a chunk ends early.
    pub(crate) bytes: usize,
    /// End the import at the first invalid line.
    pub(crate) strict: bool,
    /// Fields at the start of a tuple that identify its row, after the network; 0 if no row is
    /// compared with earlier ones.
    pub(crate) key_fields: usize,
    /// Lines of one transaction are not divided between chunks.
    pub(crate) keep_together: bool,
}

/// 50,000 lines make a transaction of about a second; 32 MiB bounds the memory where lines are
/// long.
pub(crate) const DEFAULT_RULES: ChunkRules =
    ChunkRules { lines: 50_000, bytes: 32 * 1024 * 1024, strict: false, key_fields: 0, keep_together: false };

/// Chunks that are loaded directly, several at once, are smaller: what is in memory is bounded.
pub(crate) const DIRECT_RULES: ChunkRules = ChunkRules { lines: 10_000, ..DEFAULT_RULES };

/// Note about a file of CSV that does not end in a newline: a value that was cut may look whole.
const NO_LINE_END: &str = "last line has no line end: if the file was cut, its last value is too short";

/// A chunk is cut within a transaction when it has grown to this multiple of its limits.
const LARGEST_TRANSACTION: usize = 8;

/// Keys that are remembered: 7/8 of a power of two, at which hash sets grow. They take 84 MB.
const MAX_KEYS: usize = 14 << 20;

/// Sets of keys, as a power of two.
const KEY_SETS: u32 = 12;

/// The keys of all rows of a source, by 44 bits of their hashes. Many small sets, because a set
/// that grows exists twice for a moment.
struct SeenKeys {
    sets: Vec<HashSet<u32>>,
    count: usize,
}

impl SeenKeys {
    fn new() -> Self {
        Self { sets: (0..1_u32 << KEY_SETS).map(|_| HashSet::new()).collect(), count: 0 }
    }

    /// Takes the keys of a chunk, and notes in it whether one of them may have occurred before.
    fn take(&mut self, chunk: &mut Chunk) {
        for key in std::mem::take(&mut chunk.keys) {
            let set = usize::try_from(key >> (64 - KEY_SETS)).unwrap_or_default();
            let low = u32::try_from(key & u64::from(u32::MAX)).unwrap_or_default();
            let is_new = self.count < MAX_KEYS && self.sets.get_mut(set).is_some_and(|set| set.insert(low));
            self.count += usize::from(is_new);
            chunk.repeats |= !is_new;
        }
    }
}

/// Reads the rest of `lines` into chunks and passes each to `deliver`, which returns false to stop.
/// A chunk that ends at an invalid line under `strict` is not delivered; lines before a cut in
/// compressed data are.
///
/// # Errors
/// Errors of reading, and [`ImportError::Strict`].
pub(crate) fn read_chunks<R: BufRead>(
    file: &str,
    lines: &mut Lines<R>,
    first_line: Option<(u64, Vec<u8>)>,
    parser: &mut dyn RowParser,
    rules: ChunkRules,
    (header, names): (Option<Vec<u8>>, Option<Names>),
    deliver: &mut dyn FnMut(Chunk) -> bool,
) -> Result<(), ImportError> {
    let mut seen = SeenKeys::new();
    let mut deliver = |mut chunk: Chunk| {
        seen.take(&mut chunk);
        deliver(chunk)
    };
    let mut builder = Builder::new(rules, header, names);
    if let Some((number, line)) = first_line {
        builder.take(file, number, Line::Whole(&line), parser)?;
    }
    let ended = loop {
        let number = lines.number() + 1;
        match lines.next_line() {
            Ok(Some(line)) => {
                if builder.is_full(1) && !builder.is_continued_by(&line, parser) && !deliver(builder.finish(number - 1))
                {
                    return Ok(());
                }
                match builder.take(file, number, line, parser) {
                    Err(error @ ImportError::OtherHeader { .. }) => break Err(error),
                    taken => taken?,
                }
            }
            Ok(None) => break Ok(()),
            Err(source) => break Err(broken(file, lines.number(), source)),
        }
    };
    if !builder.chunk.is_empty() {
        // A header that ends the import is read again when it is continued.
        let unread = u64::from(matches!(ended, Err(ImportError::OtherHeader { .. })));
        deliver(builder.finish(lines.number() - unread));
    }
    ended
}

/// Reads the lines of Parquet up to `rows` on one thread, parses them on one thread a parser, and
/// passes chunks to `deliver` in their order. The threads take turns with batches of lines, of
/// which each holds two, so that memory does not depend on the number of rows.
///
/// # Errors
/// The errors of [`read_chunks`].
pub(crate) fn read_in_parallel<R: BufRead + Send>(
    file: &str,
    mut lines: Lines<R>,
    parsers: Vec<Box<dyn RowParser>>,
    rows: u64,
    rules: ChunkRules,
    names: &Names,
    deliver: &mut dyn FnMut(Chunk) -> bool,
) -> Result<(), ImportError> {
    std::thread::scope(|scope| {
        let (mut batches, mut parts) = (Vec::with_capacity(parsers.len()), Vec::with_capacity(parsers.len()));
        for mut parser in parsers {
            let (batch_sender, batch_receiver) = sync_channel::<Batch>(1);
            let (part_sender, part_receiver) = sync_channel(1);
            batches.push(batch_sender);
            parts.push(part_receiver);
            scope.spawn(move || {
                let mut builder = Builder::new(rules, None, Some(Arc::clone(names)));
                for batch in batch_receiver {
                    if !parse_batch(file, batch, parser.as_mut(), &mut builder, &part_sender) {
                        return;
                    }
                }
            });
        }
        scope.spawn(move || {
            let mut size = 0;
            // Without the receivers the thread ends.
            for sender in batches.iter().cycle() {
                if lines.number() >= rows {
                    return;
                }
                let batch = Batch::read(file, &mut lines, rows, rules, size);
                // The next one is about as large; growing copies it.
                size = batch.text.len() + batch.text.len() / 8;
                let is_last = batch.error.is_some();
                if sender.send(batch).is_err() || is_last {
                    return;
                }
            }
        });
        let mut seen = SeenKeys::new();
        let mut turn = 0;
        // Without the receivers the threads end.
        while let Some(Ok(part)) = parts.get(turn).map(|part: &Receiver<Part>| part.recv()) {
            let mut chunk = part.chunk;
            seen.take(&mut chunk);
            if !chunk.is_empty() && !deliver(chunk) {
                break;
            }
            match part.ended {
                None => {}
                Some(Ok(())) => turn = (turn + 1) % parts.len(),
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(())
    })
}

/// Lines that one thread parses.
struct Batch {
    /// Number of lines before the first one.
    before: u64,
    text: Vec<u8>,
    /// The end of each line in `text`.
    ends: Vec<usize>,
    /// The error that ended the source after these lines.
    error: Option<ImportError>,
}

impl Batch {
    /// Reads the next lines, of which there is at least one, into a text with a capacity.
    fn read<R: BufRead>(file: &str, lines: &mut Lines<R>, rows: u64, rules: ChunkRules, capacity: usize) -> Self {
        let before = lines.number();
        let end = before.saturating_add(rules.lines).min(rows);
        let mut text = Vec::with_capacity(capacity);
        let mut ends = Vec::with_capacity(usize::try_from(end - before).unwrap_or_default());
        let mut error = None;
        while error.is_none() && lines.number() < end && text.len() < rules.bytes {
            let number = lines.number();
            match lines.next_line() {
                // Rows of Parquet are whole.
                Ok(Some(Line::Whole(line) | Line::Unfinished(line) | Line::TooLong(line))) => {
                    text.extend_from_slice(line);
                    ends.push(text.len());
                }
                Ok(None) => error = Some(broken(file, number, io::ErrorKind::UnexpectedEof.into())),
                Err(source) => error = Some(broken(file, number, source)),
            }
        }
        Self { before, text, ends, error }
    }
}

/// A chunk of a batch.
struct Part {
    chunk: Chunk,
    /// Set for the last chunk of the batch.
    ended: Option<Result<(), ImportError>>,
}

/// Parses one batch. Returns false if the thread has to end.
fn parse_batch(
    file: &str,
    batch: Batch,
    parser: &mut dyn RowParser,
    builder: &mut Builder,
    parts: &SyncSender<Part>,
) -> bool {
    let mut start = 0;
    let mut number = batch.before;
    for end in batch.ends {
        if builder.is_full(1) && parts.send(Part { chunk: builder.finish(number), ended: None }).is_err() {
            return false;
        }
        number += 1;
        let line = batch.text.get(start..end).unwrap_or_default();
        start = end;
        if let Err(error) = builder.take(file, number, Line::Whole(line), parser) {
            // The chunk of an invalid line is not delivered.
            let _ = parts.send(Part { chunk: Chunk::default(), ended: Some(Err(error)) });
            return false;
        }
    }
    let ended = batch.error.map_or(Ok(()), Err);
    let goes_on = ended.is_ok();
    parts.send(Part { chunk: builder.finish(number), ended: Some(ended) }).is_ok() && goes_on
}

/// Classifies a read error.
pub(crate) fn broken(file: &str, line: u64, source: io::Error) -> ImportError {
    let file = file.to_owned();
    match source.kind() {
        io::ErrorKind::UnexpectedEof => ImportError::CutOff { file, line },
        _ if source.get_ref().is_some_and(|cause| cause.is::<Corrupt>()) => {
            ImportError::Corrupt { file, line, source, taken_back: 0 }
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => ImportError::Damaged { file, line, source },
        _ => ImportError::Read { file, source },
    }
}

/// A chunk under construction.
struct Builder {
    rules: ChunkRules,
    header: Option<Vec<u8>>,
    tuples: TupleBuffer,
    chunk: Chunk,
    latest_month: Option<(i64, Month)>,
}

impl Builder {
    fn new(rules: ChunkRules, header: Option<Vec<u8>>, names: Option<Names>) -> Self {
        let chunk = Chunk { names, ..Chunk::default() };
        Self { rules, header, tuples: TupleBuffer::default(), chunk, latest_month: None }
    }

    /// Adds a line.
    fn take(&mut self, file: &str, number: u64, line: Line<'_>, parser: &mut dyn RowParser) -> Result<(), ImportError> {
        let start = self.tuples.len();
        let (bytes, outcome) = match line {
            Line::Whole(bytes) | Line::Unfinished(bytes) if bytes.is_empty() => return Ok(()),
            Line::Whole(bytes) | Line::Unfinished(bytes) if self.header.as_deref() == Some(bytes) => {
                self.chunk.headers += 1;
                return Ok(());
            }
            Line::Whole(bytes) => (bytes, self.parse(number, bytes, parser)),
            Line::Unfinished(bytes) => {
                let outcome = self.parse(number, bytes, parser);
                if outcome.is_ok() && self.header.is_some() {
                    *self.chunk.notes.entry(NO_LINE_END).or_default() += 1;
                }
                (bytes, outcome.map_err(|cause| LineError::EndsInside { cause: Box::new(cause) }))
            }
            Line::TooLong(bytes) => (bytes, Err(LineError::TooLong { limit: super::input::MAX_LINE_BYTES })),
        };
        if outcome.is_err()
            && let Some(header) = &self.header
        {
            match csv_line::repeats(header, bytes) {
                Repeated::No => {}
                Repeated::Same => {
                    self.chunk.headers += 1;
                    return Ok(());
                }
                Repeated::Other => return Err(ImportError::OtherHeader { file: file.to_owned(), line: number }),
            }
        }
        match outcome {
            Ok(Parsed::Skipped(kind)) => *self.chunk.skipped.entry(kind).or_default() += 1,
            Ok(Parsed::Nothing) => self.chunk.nothing += 1,
            Ok(Parsed::Row { unix_seconds }) => self.note_rows(number, bytes, unix_seconds, 1, start, parser),
            Ok(Parsed::Rows { unix_seconds, count }) => {
                self.note_rows(number, bytes, unix_seconds, count, start, parser);
            }
            Err(error) => {
                if let Some(advice) = error.questions_all_amounts() {
                    let (file, reason) = (file.to_owned(), error.to_string());
                    return Err(ImportError::Unit { file, line: number, reason, advice, taken_back: 0 });
                }
                if self.rules.strict {
                    return Err(ImportError::Strict { file: file.to_owned(), line: number, reason: error.to_string() });
                }
                self.note_reject(number, bytes, &error, parser);
            }
        }
        Ok(())
    }

    /// Records the rows that a line became, encoded from `start` on.
    fn note_rows(
        &mut self,
        number: u64,
        bytes: &[u8],
        unix_seconds: Option<i64>,
        count: u32,
        start: usize,
        parser: &dyn RowParser,
    ) {
        self.chunk.rows += u64::from(count);
        if parser.lacks_status() {
            self.chunk.without_status += u64::from(count);
        }
        if let Some((note, count)) = parser.note() {
            *self.chunk.notes.entry(note).or_default() += count;
        }
        if let Some(seconds) = unix_seconds {
            self.note_month(seconds);
            let (first, last) = self.chunk.times.unwrap_or((seconds, seconds));
            self.chunk.times = Some((first.min(seconds), last.max(seconds)));
        }
        let begins = self.chunk.text.len();
        self.chunk.text.extend_from_slice(bytes);
        let range = begins..self.chunk.text.len();
        self.chunk.row_lines.extend((0..count).map(|_| (number, range.clone())));
        if self.rules.key_fields > 0 {
            match key_of(self.tuples.as_bytes().get(start..).unwrap_or_default(), self.rules.key_fields) {
                Some(key) => self.chunk.keys.push(key),
                None => self.chunk.lacks_key = true,
            }
        }
    }

    fn note_reject(&mut self, number: u64, bytes: &[u8], error: &LineError, parser: &mut dyn RowParser) {
        if self.rules.keep_together
            && let Some(transaction) = parser.transaction(&String::from_utf8_lossy(bytes))
        {
            self.chunk.broken.entry(transaction.to_ascii_lowercase()).or_insert(number);
        }
        let text = shown(bytes, self.chunk.names.as_ref());
        self.chunk.rejects.push(Reject { line: number, reason: error.to_string(), kind: error.kind(), text });
    }

    /// Returns true if a line belongs to the transaction of the last row.
    fn is_continued_by(&self, line: &Line<'_>, parser: &mut dyn RowParser) -> bool {
        let (Line::Whole(bytes) | Line::Unfinished(bytes)) = line else { return false };
        if !self.rules.keep_together || self.is_full(LARGEST_TRANSACTION) {
            return false;
        }
        let last = self.chunk.row_lines.last().and_then(|(_, range)| self.chunk.text.get(range.clone()));
        let (Some(last), Ok(next)) = (last, std::str::from_utf8(bytes)) else { return false };
        let Ok(last) = std::str::from_utf8(last) else { return false };
        let Some(transaction) = parser.transaction(last).map(|text| text.into_owned()) else { return false };
        parser.transaction(next).is_some_and(|next| next == transaction)
    }

    fn parse(&mut self, number: u64, bytes: &[u8], parser: &mut dyn RowParser) -> Result<Parsed, LineError> {
        let text =
            std::str::from_utf8(bytes).map_err(|error| LineError::InvalidUtf8 { position: error.valid_up_to() + 1 })?;
        parser.parse(number, text, &mut self.tuples)
    }

    /// Records the month of a row. Neighbouring rows mostly share a day, which needs no
    /// computation.
    fn note_month(&mut self, unix_seconds: i64) {
        const DAY: i64 = 86_400;
        let day = unix_seconds.div_euclid(DAY);
        if self.latest_month.is_some_and(|(latest_day, _)| latest_day == day) {
            return;
        }
        if let Some(month) = Month::of(unix_seconds) {
            self.chunk.months.insert(month);
            self.latest_month = Some((day, month));
        }
    }

    /// Returns true if the chunk has grown to `multiple` of its limits.
    fn is_full(&self, multiple: usize) -> bool {
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let skipped: u64 = self.chunk.skipped.values().sum();
        let lines = self.chunk.rows + skipped + self.chunk.nothing + count(self.chunk.rejects.len());
        lines >= self.rules.lines * count(multiple)
            || self.tuples.len().max(self.chunk.text.len()) >= self.rules.bytes * multiple
    }

    /// Returns the chunk and starts the next one.
    fn finish(&mut self, lines_done: u64) -> Chunk {
        let capacity = self.tuples.len() + self.tuples.len() / 8;
        let tuples = std::mem::replace(&mut self.tuples, TupleBuffer::with_capacity(capacity)).into_bytes();
        self.latest_month = None;
        let text = Vec::with_capacity(self.chunk.text.len() + self.chunk.text.len() / 8);
        let next = Chunk { text, names: self.chunk.names.clone(), ..Chunk::default() };
        Chunk { tuples: tuples.into(), lines_done, ..std::mem::replace(&mut self.chunk, next) }
    }
}

/// Returns a hash of the fields of a tuple that identify its row; `None` if one of them is missing.
fn key_of(tuple: &[u8], fields: usize) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let mut rest = Fields::of_tuple(tuple).ok()?;
    for _ in 0..=fields {
        rest.nullable().ok()??.hash(&mut hasher);
    }
    Some(hasher.finish())
}
