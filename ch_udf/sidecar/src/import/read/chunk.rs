//! Cuts a source into chunks: rows encoded for COPY, rejected lines, and the months of the rows.
//! Runs on a separate thread and does not talk to PostgreSQL.

use std::collections::BTreeSet;
use std::io::{self, BufRead};

use arx_pgwire::copy::TupleBuffer;
use bytes::Bytes;
use chrono::{DateTime, Datelike};

use super::input::{Line, Lines};
use crate::import::error::{ImportError, LineError};
use crate::import::parse::values::{Parsed, RowParser};

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
    /// Lines of another kind.
    pub(crate) skipped: u64,
    /// Keep the lines of rows, because loading may still reject some.
    keeps_lines: bool,
    kept: Vec<(u64, Box<str>)>,
}

impl Chunk {
    /// The text of a kept line.
    pub(crate) fn line_text(&self, line: u64) -> &str {
        match self.kept.binary_search_by_key(&line, |(number, _)| *number) {
            Ok(index) => &self.kept[index].1,
            Err(_) => "",
        }
    }

    fn is_empty(&self) -> bool {
        self.rows == 0 && self.rejects.is_empty() && self.skipped == 0
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
    /// Keep the lines of rows.
    pub(crate) keep_lines: bool,
}

/// 50,000 lines make a transaction of about a second; 32 MiB bounds the memory where lines are
/// long.
pub(crate) const DEFAULT_RULES: ChunkRules =
    ChunkRules { lines: 50_000, bytes: 32 * 1024 * 1024, strict: false, keep_lines: false };

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
    deliver: &mut dyn FnMut(Chunk) -> bool,
) -> Result<(), ImportError> {
    let mut builder = Builder::new(rules);
    if let Some((number, line)) = first_line {
        builder.take(file, number, Line::Whole(&line), parser)?;
    }
    let ended = loop {
        let number = lines.number() + 1;
        match lines.next_line() {
            Ok(Some(line)) => builder.take(file, number, line, parser)?,
            Ok(None) => break Ok(()),
            Err(source) => break Err(broken(file, lines.number(), source)),
        }
        if builder.is_full() && !deliver(builder.finish(lines.number())) {
            return Ok(());
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
    tuples: TupleBuffer,
    chunk: Chunk,
    latest_month: Option<(i64, Month)>,
}

impl Builder {
    fn new(rules: ChunkRules) -> Self {
        let chunk = Chunk { keeps_lines: rules.keep_lines, ..Chunk::default() };
        Self { rules, tuples: TupleBuffer::default(), chunk, latest_month: None }
    }

    /// Adds a line.
    fn take(&mut self, file: &str, number: u64, line: Line<'_>, parser: &mut dyn RowParser) -> Result<(), ImportError> {
        let (bytes, outcome) = match line {
            Line::Whole(bytes) | Line::Unfinished(bytes) if bytes.is_empty() => return Ok(()),
            Line::Whole(bytes) => (bytes, self.parse(number, bytes, parser)),
            Line::Unfinished(bytes) => {
                let outcome = self.parse(number, bytes, parser);
                (bytes, outcome.map_err(|cause| LineError::EndsInside { cause: Box::new(cause) }))
            }
            Line::TooLong(bytes) => (bytes, Err(LineError::TooLong { limit: super::input::MAX_LINE_BYTES })),
        };
        match outcome {
            Ok(Parsed::Skipped) => self.chunk.skipped += 1,
            Ok(Parsed::Row { unix_seconds }) => {
                self.chunk.rows += 1;
                if let Some(seconds) = unix_seconds {
                    self.note_month(seconds);
                }
                if self.chunk.keeps_lines {
                    self.chunk.kept.push((number, String::from_utf8_lossy(bytes).into()));
                }
            }
            Err(error) if self.rules.strict => {
                return Err(ImportError::Strict { file: file.to_owned(), line: number, reason: error.to_string() });
            }
            Err(error) => self.chunk.rejects.push(Reject {
                line: number,
                reason: error.to_string(),
                text: String::from_utf8_lossy(bytes).into_owned(),
            }),
        }
        Ok(())
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

    fn is_full(&self) -> bool {
        let rejects = u64::try_from(self.chunk.rejects.len()).unwrap_or(u64::MAX);
        self.chunk.rows + self.chunk.skipped + rejects >= self.rules.lines || self.tuples.len() >= self.rules.bytes
    }

    /// Returns the chunk and starts the next one.
    fn finish(&mut self, lines_done: u64) -> Chunk {
        let capacity = self.tuples.len() + self.tuples.len() / 8;
        let tuples = std::mem::replace(&mut self.tuples, TupleBuffer::with_capacity(capacity)).into_bytes();
        self.latest_month = None;
        let next = Chunk { keeps_lines: self.rules.keep_lines, ..Chunk::default() };
        Chunk { tuples: tuples.into(), lines_done, ..std::mem::replace(&mut self.chunk, next) }
    }
}
