//! Cuts a source into chunks: rows encoded for COPY, rejected lines, and the months of the rows.
//! Runs on a separate thread and does not talk to PostgreSQL.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead};
use std::ops::Range;

use arx_pgwire::copy::{Fields, TupleBuffer};
use bytes::Bytes;
use chrono::{DateTime, Datelike};

use super::input::{Line, Lines};
use crate::import::error::{ImportError, LineError};
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
    /// The line of each row, and its place in `text`.
    row_lines: Vec<(u64, Range<usize>)>,
    text: Vec<u8>,
}

impl Chunk {
    /// Number and text of the line of a row, counted from 0.
    pub(crate) fn line_of_row(&self, row: usize) -> (u64, String) {
        let Some((line, range)) = self.row_lines.get(row) else { return (0, String::new()) };
        (*line, String::from_utf8_lossy(self.text.get(range.clone()).unwrap_or_default()).into_owned())
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

/// A chunk is cut within a transaction when it has grown to this multiple of its limits.
const LARGEST_TRANSACTION: usize = 8;

/// Keys that are remembered, in 75 MB: 7/8 of a power of two, at which a hash set grows.
const MAX_KEYS: usize = 7 << 20;

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
    header: Option<Vec<u8>>,
    parser: &mut dyn RowParser,
    rules: ChunkRules,
    deliver: &mut dyn FnMut(Chunk) -> bool,
) -> Result<(), ImportError> {
    let mut builder = Builder::new(rules, header);
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
                builder.take(file, number, line, parser)?;
            }
            Ok(None) => break Ok(()),
            Err(source) => break Err(broken(file, lines.number(), source)),
        }
    };
    if !builder.chunk.is_empty() {
        deliver(builder.finish(lines.number()));
    }
    ended
}

/// Classifies a read error.
pub(crate) fn broken(file: &str, line: u64, source: io::Error) -> ImportError {
    let file = file.to_owned();
    match source.kind() {
        io::ErrorKind::UnexpectedEof => ImportError::CutOff { file, line },
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
    /// Hashes of the keys of all rows of the source.
    keys: HashSet<u64>,
}

impl Builder {
    fn new(rules: ChunkRules, header: Option<Vec<u8>>) -> Self {
        let tuples = TupleBuffer::default();
        Self { rules, header, tuples, chunk: Chunk::default(), latest_month: None, keys: HashSet::new() }
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
                (bytes, outcome.map_err(|cause| LineError::EndsInside { cause: Box::new(cause) }))
            }
            Line::TooLong(bytes) => (bytes, Err(LineError::TooLong { limit: super::input::MAX_LINE_BYTES })),
        };
        match outcome {
            Ok(Parsed::Skipped(kind)) => *self.chunk.skipped.entry(kind).or_default() += 1,
            Ok(Parsed::Nothing) => self.chunk.nothing += 1,
            Ok(Parsed::Row { unix_seconds }) => self.note_rows(number, bytes, unix_seconds, 1, start, parser),
            Ok(Parsed::Rows { unix_seconds, count }) => {
                self.note_rows(number, bytes, unix_seconds, count, start, parser);
            }
            Err(error) if error.questions_the_unit() => {
                let (file, reason) = (file.to_owned(), error.to_string());
                return Err(ImportError::Unit { file, line: number, reason, taken_back: 0 });
            }
            Err(error) if self.rules.strict => {
                return Err(ImportError::Strict { file: file.to_owned(), line: number, reason: error.to_string() });
            }
            Err(error) => self.note_reject(number, bytes, &error, parser),
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
            let key = key_of(self.tuples.as_bytes().get(start..).unwrap_or_default(), self.rules.key_fields);
            self.chunk.repeats |= self.keys.len() >= MAX_KEYS || !self.keys.insert(key);
        }
    }

    fn note_reject(&mut self, number: u64, bytes: &[u8], error: &LineError, parser: &mut dyn RowParser) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if self.rules.keep_together
            && let Some(transaction) = parser.transaction(&text)
        {
            self.chunk.broken.entry(transaction.to_ascii_lowercase()).or_insert(number);
        }
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
        let next = Chunk { text, ..Chunk::default() };
        Chunk { tuples: tuples.into(), lines_done, ..std::mem::replace(&mut self.chunk, next) }
    }
}

/// Returns a hash of the fields of a tuple that identify its row.
fn key_of(tuple: &[u8], fields: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Ok(mut rest) = Fields::of_tuple(tuple) {
        for _ in 0..=fields {
            if let Ok(field) = rest.nullable() {
                field.hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}
