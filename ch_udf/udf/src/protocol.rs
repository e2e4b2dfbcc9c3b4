//! The protocol between ClickHouse and an executable function: chunks of rows in RowBinary, each
//! after its number of rows and a newline.
//!
//! Owns reading, writing and validating the bytes; the meaning of a row belongs to a
//! [`RowFunction`]. Declared lengths allocate nothing: memory grows only with bytes that arrive.
//! Each row gets exactly one answer, or the process ends without one.

use std::io::{self, Read, Write};

use thiserror::Error;

/// Size of a read, and of the answers that are collected before a write: the capacity of a large
/// pipe.
pub(crate) const BUFFER: usize = 1 << 20;

/// Size limit of a text, as in ClickHouse (`format_binary_max_string_size`).
const MAX_TEXT_BYTES: u64 = 1 << 30;

/// Malformed input.
#[derive(Debug, Error)]
pub enum Damage {
    #[error("standard input cannot be read")]
    Read(#[source] io::Error),
    #[error("the input ends in the middle of {what}")]
    Truncated { what: &'static str },
    #[error(
        "a chunk must begin with its number of rows and a newline, not with byte {found:#04x}; is send_chunk_header set?"
    )]
    Header { found: u8 },
    #[error("the number of rows exceeds 64 bits")]
    Rows,
    #[error("the length of {what} is not a variable-length integer of 64 bits")]
    Length { what: &'static str },
    #[error("{what} begins with byte {found:#04x}, must be 0 (a value) or 1 (NULL)")]
    Null { what: &'static str, found: u8 },
    #[error("an array of {found} features, must have {needed}, or 0 for an unknown wallet")]
    Features { found: u64, needed: usize },
    #[error("{what} has {bytes} bytes, at most {MAX_TEXT_BYTES} are allowed")]
    TooLong {
        what: &'static str,
        /// Declared length.
        bytes: u64,
    },
    #[error("the answer cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// An error that ended the answering before the end of the input. Numbers count from 1.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("chunk {chunk}")]
    Chunk {
        chunk: u64,
        #[source]
        source: Damage,
    },
    #[error("chunk {chunk}, row {row} of {rows}")]
    Row {
        chunk: u64,
        row: u64,
        /// Declared number of rows.
        rows: u64,
        #[source]
        source: Damage,
    },
    #[error("standard output cannot be written")]
    Write(#[source] io::Error),
}

/// A function that gives one answer for each row.
pub(crate) trait RowFunction {
    /// Reads the arguments of one row and appends its answer.
    ///
    /// # Errors
    /// [`Damage`]; the caller then ignores what was appended.
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage>;
}

/// Answers chunk after chunk until the input ends between two chunks. Answers are flushed after
/// each chunk, and written earlier when they exceed [`BUFFER`].
///
/// # Errors
/// [`ServeError`], naming chunk and row.
pub(crate) fn serve<R: Read, W: Write>(
    function: &mut impl RowFunction,
    source: R,
    mut sink: W,
) -> Result<(), ServeError> {
    let mut input = Input::new(source);
    let mut answers = Vec::with_capacity(BUFFER);
    let mut chunk = 1;
    while let Some(rows) = input.header().map_err(|source| ServeError::Chunk { chunk, source })? {
        for row in 1..=rows {
            function.row(&mut input, &mut answers).map_err(|source| ServeError::Row { chunk, row, rows, source })?;
            if answers.len() >= BUFFER {
                sink.write_all(&answers).map_err(ServeError::Write)?;
                answers.clear();
            }
        }
        sink.write_all(&answers).and_then(|()| sink.flush()).map_err(ServeError::Write)?;
        answers.clear();
        chunk += 1;
    }
    Ok(())
}

/// The input, read through a buffer of a fixed size.
#[derive(Debug)]
pub(crate) struct Input<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Input<R> {
    fn new(source: R) -> Self {
        Self { source, buffer: vec![0; BUFFER], start: 0, end: 0 }
    }

    /// Returns the buffered bytes without waiting for more.
    #[inline]
    pub(crate) fn buffered(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Skips buffered bytes.
    #[inline]
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Reads once; `false` at the end of the input. Called only when an item needs more than is
    /// buffered.
    #[cold]
    fn more(&mut self) -> Result<bool, Damage> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        loop {
            match self.source.read(free) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Damage::Read(error)),
            }
        }
    }

    /// Reads a fixed number of bytes.
    #[inline]
    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Damage> {
        loop {
            if let Some(bytes) = self.buffered().first_chunk::<N>() {
                let bytes = *bytes;
                self.start += N;
                return Ok(bytes);
            }
            if !self.more()? {
                return Err(Damage::Truncated { what });
            }
        }
    }

    /// Reads the number of rows at the start of a chunk; `None` at the end of the input.
    fn header(&mut self) -> Result<Option<u64>, Damage> {
        if self.buffered().is_empty() && !self.more()? {
            return Ok(None);
        }
        let mut rows: Option<u64> = None;
        loop {
            let [byte] = self.take("a chunk's number of rows")?;
            match (byte, rows) {
                (b'\n', Some(rows)) => return Ok(Some(rows)),
                (b'0'..=b'9', _) => {
                    let grown =
                        rows.unwrap_or(0).checked_mul(10).and_then(|rows| rows.checked_add(u64::from(byte - b'0')));
                    rows = Some(grown.ok_or(Damage::Rows)?);
                }
                _ => return Err(Damage::Header { found: byte }),
            }
        }
    }

    /// Reads a length (LEB128): seven bits a byte, lowest first, the highest bit set in all bytes
    /// but the last.
    ///
    /// # Errors
    /// [`Damage::Length`], [`Damage::Truncated`].
    #[inline]
    pub(crate) fn length(&mut self, what: &'static str) -> Result<u64, Damage> {
        let mut length = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            length |= bits << shift;
            if byte < 0x80 {
                return Ok(length);
            }
        }
        Err(Damage::Length { what })
    }

    /// Reads whether a nullable value follows.
    ///
    /// # Errors
    /// [`Damage::Null`], [`Damage::Truncated`].
    #[inline]
    pub(crate) fn is_some(&mut self, what: &'static str) -> Result<bool, Damage> {
        match self.take(what)? {
            [0] => Ok(true),
            [1] => Ok(false),
            [found] => Err(Damage::Null { what, found }),
        }
    }

    /// Reads a `UInt64`.
    ///
    /// # Errors
    /// [`Damage::Truncated`].
    #[inline]
    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.take(what)?))
    }

    /// Reads a `Float64`.
    ///
    /// # Errors
    /// [`Damage::Truncated`].
    #[inline]
    pub(crate) fn f64(&mut self, what: &'static str) -> Result<f64, Damage> {
        Ok(f64::from_le_bytes(self.take(what)?))
    }

    /// Reads a `Decimal` of 19 to 38 digits, in its smallest units.
    ///
    /// # Errors
    /// [`Damage::Truncated`].
    #[inline]
    pub(crate) fn i128(&mut self, what: &'static str) -> Result<i128, Damage> {
        Ok(i128::from_le_bytes(self.take(what)?))
    }

    /// Reads a `String` and replaces `text` with its first `keep` bytes; the rest is discarded.
    ///
    /// # Errors
    /// [`Damage::Length`], [`Damage::TooLong`], [`Damage::Truncated`].
    pub(crate) fn text(&mut self, what: &'static str, keep: usize, text: &mut Vec<u8>) -> Result<(), Damage> {
        text.clear();
        let mut left = match self.length(what)? {
            bytes if bytes > MAX_TEXT_BYTES => return Err(Damage::TooLong { what, bytes }),
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        while left > 0 {
            if self.buffered().is_empty() && !self.more()? {
                return Err(Damage::Truncated { what });
            }
            let part = self.buffered();
            let part = part.get(..left).unwrap_or(part);
            text.extend(part.iter().take(keep - text.len()));
            let read = part.len();
            self.consume(read);
            left -= read;
        }
        Ok(())
    }
}

pub(crate) fn put_length(answers: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        answers.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    answers.push(length as u8);
}

pub(crate) fn put_text(answers: &mut Vec<u8>, text: &[u8]) {
    put_length(answers, text.len());
    answers.extend_from_slice(text);
}
