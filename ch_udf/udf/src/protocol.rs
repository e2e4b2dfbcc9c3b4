//! How ClickHouse talks to an executable function: chunks of rows in RowBinary, each after its number of rows and a newline.
//!
//! Owns reading, writing and what can be wrong with the bytes; what a row means is a [`RowFunction`]'s. Nothing is allocated by what the
//! input declares: a length is believed as far as bytes arrive. A row gets its one answer, or none and the process ends.

use std::io::{self, Read, Write};

use thiserror::Error;

/// Bytes read at a time, and answers kept before they are written: a large pipe's worth.
pub const BUFFER: usize = 1 << 20;

/// The longest text taken, as in ClickHouse (`format_binary_max_string_size`).
const MAX_TEXT: u64 = 1 << 30;

/// What is wrong with the input.
#[derive(Debug, Error)]
pub enum Damage {
    /// It cannot be read.
    #[error("standard input cannot be read")]
    Read(#[source] io::Error),
    /// It ends in the middle.
    #[error("the input ends in the middle of {what}")]
    Truncated {
        /// Of what.
        what: &'static str,
    },
    /// A chunk that does not begin with its number of rows.
    #[error(
        "a chunk begins with its number of rows and a newline, not with byte {found:#04x}; is send_chunk_header set?"
    )]
    Header {
        /// What was found there.
        found: u8,
    },
    /// A number of rows that no `u64` holds.
    #[error("the number of rows is beyond 64 bits")]
    Rows,
    /// A length that no `u64` holds.
    #[error("the length of {what} is no variable-length integer of 64 bits")]
    Length {
        /// Of what.
        what: &'static str,
    },
    /// A byte that says neither that there is a value nor that there is none.
    #[error("{what} begins with byte {found:#04x}, where 0 (a value) or 1 (NULL) is needed")]
    Null {
        /// What.
        what: &'static str,
        /// What was found.
        found: u8,
    },
    /// An array of another number of features.
    #[error("an array of {found} features, where {needed} are needed, or none for an unknown wallet")]
    Features {
        /// How many were found.
        found: u64,
        /// How many are needed.
        needed: usize,
    },
    /// A text that is too long.
    #[error("{what} of {bytes} bytes, where at most {MAX_TEXT} are taken")]
    TooLong {
        /// What.
        what: &'static str,
        /// How long it is said to be.
        bytes: u64,
    },
    /// An answer that cannot be put into words.
    #[error("the answer cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Why the answering ended before the input did.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Something is wrong with the beginning of a chunk.
    #[error("chunk {chunk}")]
    Chunk {
        /// Which, from 1.
        chunk: u64,
        /// What.
        #[source]
        source: Damage,
    },
    /// Something is wrong with a row.
    #[error("chunk {chunk}, row {row} of {rows}")]
    Row {
        /// Which chunk, from 1.
        chunk: u64,
        /// Which row of it, from 1.
        row: u64,
        /// Rows that the chunk is said to have.
        rows: u64,
        /// What.
        #[source]
        source: Damage,
    },
    /// Answers cannot be written.
    #[error("standard output cannot be written")]
    Write(#[source] io::Error),
}

/// One answer for each row.
pub trait RowFunction {
    /// Reads the arguments of one row and appends its answer.
    ///
    /// # Errors
    /// [`Damage`]; then what was appended does not count.
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage>;
}

/// Answers chunk after chunk until the input ends between two of them. What is written is flushed once a chunk; answers larger than
/// [`BUFFER`] go out before.
///
/// # Errors
/// [`ServeError`], naming chunk and row.
pub fn serve<R: Read, W: Write>(function: &mut impl RowFunction, source: R, mut sink: W) -> Result<(), ServeError> {
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

/// The input, through a buffer of a fixed size.
#[derive(Debug)]
pub struct Input<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Input<R> {
    /// Reads from `source`.
    #[must_use]
    pub fn new(source: R) -> Self {
        Self { source, buffer: vec![0; BUFFER], start: 0, end: 0 }
    }

    /// What is in the buffer now, without waiting for more.
    #[inline]
    pub fn at_hand(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Steps over bytes that are at hand.
    #[inline]
    pub fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Reads once; `false` at the end of the input. Only called with less at hand than an item needs.
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

    /// The next bytes, a fixed number of them.
    #[inline]
    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Damage> {
        loop {
            if let Some(bytes) = self.at_hand().first_chunk::<N>() {
                let bytes = *bytes;
                self.start += N;
                return Ok(bytes);
            }
            if !self.more()? {
                return Err(Damage::Truncated { what });
            }
        }
    }

    /// The number of rows that a chunk begins with; `None` if the input ends here.
    fn header(&mut self) -> Result<Option<u64>, Damage> {
        if self.at_hand().is_empty() && !self.more()? {
            return Ok(None);
        }
        let mut rows: Option<u64> = None;
        loop {
            let [byte] = self.take("a chunk's number of rows")?;
            match (byte, rows) {
                (b'\n', Some(rows)) => return Ok(Some(rows)),
                (b'0'..=b'9', _) => {
                    let more =
                        rows.unwrap_or(0).checked_mul(10).and_then(|rows| rows.checked_add(u64::from(byte - b'0')));
                    rows = Some(more.ok_or(Damage::Rows)?);
                }
                _ => return Err(Damage::Header { found: byte }),
            }
        }
    }

    /// A length: seven bits a byte, the lowest first, the highest bit set in all bytes but the last (LEB128).
    ///
    /// # Errors
    /// [`Damage::Length`], [`Damage::Truncated`].
    #[inline]
    pub fn length(&mut self, what: &'static str) -> Result<u64, Damage> {
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

    /// Whether a nullable value follows.
    ///
    /// # Errors
    /// [`Damage::Null`], [`Damage::Truncated`].
    #[inline]
    pub fn is_some(&mut self, what: &'static str) -> Result<bool, Damage> {
        match self.take(what)? {
            [0] => Ok(true),
            [1] => Ok(false),
            [found] => Err(Damage::Null { what, found }),
        }
    }

    /// A `UInt64`.
    ///
    /// # Errors
    /// [`Damage::Truncated`].
    #[inline]
    pub fn u64(&mut self, what: &'static str) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.take(what)?))
    }

    /// A `Float64`.
    ///
    /// # Errors
    /// [`Damage::Truncated`].
    #[inline]
    pub fn f64(&mut self, what: &'static str) -> Result<f64, Damage> {
        Ok(f64::from_le_bytes(self.take(what)?))
    }

    /// A `Decimal` of 19 to 38 digits, in its smallest units.
    ///
    /// # Errors
    /// [`Damage::Truncated`].
    #[inline]
    pub fn i128(&mut self, what: &'static str) -> Result<i128, Damage> {
        Ok(i128::from_le_bytes(self.take(what)?))
    }

    /// A `String`, of which the first `keep` bytes replace what is in `text`; the others are read and forgotten.
    ///
    /// # Errors
    /// [`Damage::Length`], [`Damage::TooLong`], [`Damage::Truncated`].
    pub fn text(&mut self, what: &'static str, keep: usize, text: &mut Vec<u8>) -> Result<(), Damage> {
        text.clear();
        let mut left = match self.length(what)? {
            bytes if bytes > MAX_TEXT => return Err(Damage::TooLong { what, bytes }),
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        while left > 0 {
            if self.at_hand().is_empty() && !self.more()? {
                return Err(Damage::Truncated { what });
            }
            let part = self.at_hand();
            let part = part.get(..left).unwrap_or(part);
            text.extend(part.iter().take(keep - text.len()));
            let read = part.len();
            self.consume(read);
            left -= read;
        }
        Ok(())
    }
}

/// Appends a length.
pub fn put_length(answers: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        answers.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    answers.push(length as u8);
}

/// Appends a `String`.
pub fn put_text(answers: &mut Vec<u8>, text: &[u8]) {
    put_length(answers, text.len());
    answers.extend_from_slice(text);
}
