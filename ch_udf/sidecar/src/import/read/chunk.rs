//! Cutting a source into chunks: rows encoded for COPY, with the lines they came from, what was rejected on the way, and the
//! months they fall into. Runs on a thread of its own and knows nothing of PostgreSQL.

use std::collections::BTreeSet;
use std::io::{self, BufRead};

use bytes::Bytes;
use chrono::{DateTime, Datelike};

use super::input::{Line, Lines};
use crate::import::error::{ImportError, LineError};
use crate::import::parse::encode::TupleBuffer;
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

    /// Its first day, as PostgreSQL reads it.
    pub(crate) fn first_day(self) -> String {
        format!("{:04}-{:02}-01 00:00:00+00", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }

    /// The month after.
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// From a year and a month from 1 to 12.
    pub(crate) fn new(year: i32, month: i32) -> Self {
        Self(year * 12 + month - 1)
    }
}

/// A line that became no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reject {
    /// Its number, from 1.
    pub(crate) line: u64,
    /// What is wrong with it.
    pub(crate) reason: String,
    /// The line itself.
    pub(crate) text: String,
}

/// The lines of one database transaction.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// Encoded tuples.
    pub(crate) tuples: Bytes,
    /// How many.
    pub(crate) rows: u64,
    /// Lines of the source up to and including this chunk's last.
    pub(crate) lines_done: u64,
    /// Months of the rows that know their time.
    pub(crate) months: BTreeSet<Month>,
    /// Lines that became no row.
    pub(crate) rejects: Vec<Reject>,
    /// Lines of another kind.
    pub(crate) skipped: u64,
    /// Whether rows are kept with their lines, because loading may still reject some.
    keeps_lines: bool,
    kept: Vec<(u64, Box<str>)>,
}

impl Chunk {
    /// The text of a kept line.
    pub(crate) fn line_text(&self, line: u64) -> &str {
        match self.kept.binary_search_by_key(&line, |(number, _)| *number) {
            Ok(place) => &self.kept[place].1,
            Err(_) => "",
        }
    }

    /// Whether no line of the source is in it.
    fn is_empty(&self) -> bool {
        self.rows == 0 && self.rejects.is_empty() && self.skipped == 0
    }
}

/// How large a chunk gets, and what is done about bad lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkRules {
    /// Lines a chunk.
    pub(crate) lines: u64,
    /// Encoded bytes after which a chunk ends early.
    pub(crate) bytes: usize,
    /// Whether the first bad line ends the import.
    pub(crate) strict: bool,
    /// Whether rows are kept with their lines.
    pub(crate) keep_lines: bool,
}

/// Some 50,000 lines make a transaction of about a second; 32 MiB bound the memory where lines are large.
pub(crate) const DEFAULT_RULES: ChunkRules =
    ChunkRules { lines: 50_000, bytes: 32 * 1024 * 1024, strict: false, keep_lines: false };

/// Reads the rest of `lines` into chunks and hands each to `deliver`, which says whether to go on. A chunk that a bad line
/// ends under `strict` is not delivered; what precedes a cut in compressed data is.
///
/// # Errors
/// Those of reading, and [`ImportError::Strict`].
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

/// What a failed read means.
pub(crate) fn broken(file: &str, line: u64, source: io::Error) -> ImportError {
    let file = file.to_owned();
    match source.kind() {
        io::ErrorKind::UnexpectedEof => ImportError::CutOff { file, line },
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => ImportError::Damaged { file, line, source },
        _ => ImportError::Read { file, source },
    }
}

/// A chunk in the making.
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

    /// Takes a line in.
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

    /// Notes the month of a row. Neighbours are mostly of the same day, for which nothing is computed.
    fn note_month(&mut self, unix_seconds: i64) {
        const DAY: i64 = 86_400;
        let day = unix_seconds.div_euclid(DAY);
        if self.latest_month.is_some_and(|(known, _)| known == day) {
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

    /// Gives the chunk away and begins the next.
    fn finish(&mut self, lines_done: u64) -> Chunk {
        let room = self.tuples.len() + self.tuples.len() / 8;
        let tuples = std::mem::replace(&mut self.tuples, TupleBuffer::with_capacity(room)).into_bytes();
        self.latest_month = None;
        let next = Chunk { keeps_lines: self.rules.keep_lines, ..Chunk::default() };
        Chunk { tuples: tuples.into(), lines_done, ..std::mem::replace(&mut self.chunk, next) }
    }
}
