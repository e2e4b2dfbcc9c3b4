//! Input files and standard input, plain, gzip or zstd, detected by content and never by name. Owns
//! opening, the identity of a file (by which an interrupted import finds its progress), and cutting
//! bytes into numbered lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::elements::{self, ArrayScanner};
use super::parquet::{self, Records, Table};
use crate::import::error::ImportError;

/// Buffer size for the file and the decompressor: large enough to make system calls negligible.
const BUFFER_BYTES: usize = 256 * 1024;

/// Longer than any transaction of any chain; bounds the memory for a file without newlines.
pub(crate) const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

/// Compressed data may expand to this size in any case.
const FREE_EXPANSION: u64 = 64 * 1024 * 1024;

/// Beyond [`FREE_EXPANSION`], compressed data that expands further is refused. Lists of
/// transactions expand less than 20 times.
pub(super) const LARGEST_EXPANSION: u64 = 200;

/// Window of zstd, as a power of two: more memory than its own tools use is refused.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Place of the word `ustar` in a tar archive.
const TAR_MARK: std::ops::Range<usize> = 257..262;

/// Argument that stands for standard input.
const STDIN: &str = "-";

/// An opened source of lines.
pub(crate) struct OpenedSource {
    /// The file as the user named it, or `standard input`.
    pub(crate) name: String,
    /// Its size in bytes as stored; unknown for standard input.
    pub(crate) size: Option<u64>,
    /// Stored bytes read so far.
    pub(crate) bytes_read: Arc<AtomicU64>,
    /// Its text: the rows of Parquet as JSON lines.
    pub(crate) content: Box<dyn BufRead + Send>,
    /// The rows of Parquet.
    pub(crate) table: Option<Table>,
}

/// Returns true if a path stands for standard input.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == STDIN
}

/// The file as messages name it.
pub(crate) fn display_name(path: &Path) -> String {
    if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() }
}

/// Opens a file, or standard input for `-`, and decompresses gzip.
///
/// # Errors
/// [`ImportError::Read`], [`ImportError::Empty`].
pub(crate) fn open(path: &Path) -> Result<OpenedSource, ImportError> {
    let name = display_name(path);
    let read_error = |source| ImportError::Read { file: name.clone(), source };
    let (raw, size): (Box<dyn Read + Send>, _) = if is_stdin(path) {
        (Box::new(io::stdin()), None)
    } else {
        let mut file = File::open(path).map_err(read_error)?;
        let metadata = file.metadata().map_err(read_error)?;
        if metadata.is_file() && begins_as_parquet(&mut file).map_err(read_error)? {
            let bytes_read = Arc::default();
            let table = Table::open(file, Arc::clone(&bytes_read)).map_err(read_error)?;
            if table.rows() == 0 {
                return Err(ImportError::Empty { file: name });
            }
            let content = Box::new(BufReader::with_capacity(BUFFER_BYTES, table.text().map_err(read_error)?));
            return Ok(OpenedSource { size: Some(metadata.len()), bytes_read, content, table: Some(table), name });
        }
        (Box::new(file), metadata.is_file().then_some(metadata.len()))
    };
    let bytes_read = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: raw, bytes_read: Arc::clone(&bytes_read) };
    let content = decompressed(counted).map_err(read_error)?;
    match content {
        Some(content) => Ok(OpenedSource { name, size, bytes_read, content, table: None }),
        None => Err(ImportError::Empty { file: name }),
    }
}

/// Returns true if a file begins as Parquet; its position is then its start.
fn begins_as_parquet(file: &mut File) -> io::Result<bool> {
    let mut start = Vec::with_capacity(parquet::MAGIC.len());
    file.by_ref().take(4).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(start == parquet::MAGIC)
}

/// The content of a stream, decompressed if it begins with the magic number of gzip or zstd; `None`
/// if it is empty.
fn decompressed(mut raw: Counted<impl Read + Send + 'static>) -> io::Result<Option<Box<dyn BufRead + Send>>> {
    let mut start = Vec::with_capacity(4);
    raw.by_ref().take(4).read_to_end(&mut start)?;
    if start.is_empty() {
        return Ok(None);
    }
    let magic = start.clone();
    // What follows is read with the first bytes, so that the first buffer shows how a source
    // begins.
    start.resize(BUFFER_BYTES, 0);
    let count = magic.len() + raw.read(start.get_mut(magic.len()..).unwrap_or_default())?;
    start.truncate(count);
    let bytes_read = Arc::clone(&raw.bytes_read);
    let mut whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(start).chain(raw));
    let buffered = |inner: Box<dyn Read + Send>| {
        let bounded = Bounded { inner, bytes_read, expanded: 0 };
        let mut content = BufReader::with_capacity(BUFFER_BYTES, bounded);
        let start: Vec<u8> = content.fill_buf()?.iter().take(TAR_MARK.end).copied().collect();
        let fault = match start.as_slice() {
            [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("it is compressed twice: decompress it once"),
            other => foreign_format(other),
        };
        match fault {
            Some(message) => Err(io::Error::new(io::ErrorKind::InvalidInput, message)),
            None => Ok(Some(Box::new(content) as Box<dyn BufRead + Send>)),
        }
    };
    match magic.as_slice() {
        [0x1f, 0x8b, ..] => buffered(Box::new(MultiGzDecoder::new(whole))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            buffered(Box::new(decoder))
        }
        _ => match foreign_format(whole.fill_buf()?) {
            Some(message) => Err(io::Error::new(io::ErrorKind::InvalidInput, message)),
            None => Ok(Some(Box::new(whole))),
        },
    }
}

/// Names a format that the import does not read, by its first bytes, and the way on.
fn foreign_format(start: &[u8]) -> Option<&'static str> {
    if start.get(TAR_MARK) == Some(b"ustar") {
        return Some("it is a tar archive: unpack it first");
    }
    match start.get(..4).unwrap_or(start) {
        b"PAR1" => Some("it is Parquet, which is read from files alone: name the file"),
        [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => Some("it is UTF-32: convert it with iconv -f UTF-32 -t UTF-8"),
        [0, first, 0, second] if first.is_ascii() && second.is_ascii() && *first > 0 && *second > 0 => {
            Some("it is UTF-16: convert it with iconv -f UTF-16BE -t UTF-8")
        }
        [first, 0, second, 0] if first.is_ascii() && second.is_ascii() && *first > 0 && *second > 0 => {
            Some("it is UTF-16: convert it with iconv -f UTF-16LE -t UTF-8")
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("it is UTF-16: convert it with iconv -f UTF-16 -t UTF-8"),
        b"PK\x03\x04" => Some("it is a zip archive: unpack it first"),
        [b'B', b'Z', b'h', _] => Some("it is compressed by bzip2: unpack it first"),
        [0xfd, b'7', b'z', b'X'] => Some("it is compressed by xz: unpack it first"),
        _ => None,
    }
}

/// The reason why data cannot be decompressed, or does not match its checksum.
#[derive(Debug)]
pub(crate) struct Corrupt(String);

impl std::fmt::Display for Corrupt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Corrupt {}

/// Marks the errors of a decompressor: not those of the device, nor an early end.
fn corrupt(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::Interrupted => error,
        _ if error.raw_os_error().is_some() => error,
        _ => io::Error::new(io::ErrorKind::InvalidData, Corrupt(error.to_string())),
    }
}

/// Decompressed data, which ends with an error when it expands without bound.
struct Bounded {
    inner: Box<dyn Read + Send>,
    /// Compressed bytes.
    bytes_read: Arc<AtomicU64>,
    expanded: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer).map_err(corrupt)?;
        self.expanded += u64::try_from(count).unwrap_or_default();
        let allowed = self.bytes_read.load(Ordering::Relaxed).saturating_mul(LARGEST_EXPANSION);
        if self.expanded > FREE_EXPANSION.max(allowed) {
            let message =
                format!("its compressed data expands more than {LARGEST_EXPANSION} times: unpack it to import it");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(count)
    }
}

/// Returns the identity by which a later run recognises a file: name, size and a hash of its
/// content. `None` for standard input and everything else that is not a regular file.
///
/// # Errors
/// [`ImportError::Read`], [`ImportError::Empty`].
pub(crate) fn identity(path: &Path) -> Result<Option<String>, ImportError> {
    if is_stdin(path) {
        return Ok(None);
    }
    let read_error = |source| ImportError::Read { file: display_name(path), source };
    let mut file = File::open(path).map_err(read_error)?;
    let metadata = file.metadata().map_err(read_error)?;
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.len() == 0 {
        return Err(ImportError::Empty { file: display_name(path) });
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer).map_err(read_error)? {
            0 => break,
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
    let hash: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Some(format!("{name}:{}:{hash}", metadata.len())))
}

/// Counts the bytes read.
struct Counted<R> {
    inner: R,
    bytes_read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes_read.fetch_add(u64::try_from(count).unwrap_or_default(), Ordering::Relaxed);
        Ok(count)
    }
}

/// One line, without its line ending.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A line that ends in a newline.
    Whole(&'a [u8]),
    /// The last line of a source that does not end in a newline.
    Unfinished(&'a [u8]),
    /// The beginning of a line longer than [`MAX_LINE_BYTES`].
    TooLong(&'a [u8]),
}

/// Numbered lines. A line ends at a newline even within quotes, so that one invalid line cannot
/// swallow the rest. In a JSON array, or an object around one, the lines are the elements.
pub(crate) struct Lines<R> {
    content: R,
    buffer: Vec<u8>,
    number: u64,
    limit: usize,
    /// Set when the source is a JSON array.
    array: Option<ArrayScanner>,
    /// Set when the lines are the rows of Parquet.
    records: Option<Records>,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `content`.
    pub(crate) fn new(content: R) -> Self {
        Self { content, buffer: Vec::new(), number: 0, limit: MAX_LINE_BYTES, array: None, records: None }
    }

    /// The rows of Parquet; `content` is not read.
    pub(crate) fn of_records(content: R, records: Records) -> Self {
        Self { records: Some(records), ..Self::new(content) }
    }

    /// The lines of `content`, or its elements if it is a JSON array or an object around one. Skips
    /// a byte order mark.
    ///
    /// # Errors
    /// Errors of the reader.
    pub(crate) fn detect(mut content: R) -> io::Result<Self> {
        if content.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            content.consume(3);
        }
        let array = elements::begins(content.fill_buf()?).then(ArrayScanner::default);
        Ok(Self { array, ..Self::new(content) })
    }

    /// Number of lines read or skipped.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the next line, `None` at the end. Its number is then [`Lines::number`].
    ///
    /// # Errors
    /// Errors of the reader; earlier lines were complete.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        if let Some(records) = &mut self.records {
            if !records.next(&mut self.buffer)? {
                return Ok(None);
            }
            self.number += 1;
            return Ok(Some(Line::Whole(&self.buffer)));
        }
        if let Some(scanner) = &mut self.array {
            return match scanner.next(&mut self.content, &mut self.buffer, self.limit)? {
                None => Ok(None),
                Some(is_whole) => {
                    self.number += 1;
                    Ok(Some(if is_whole { Line::Whole(&self.buffer) } else { Line::TooLong(&self.buffer) }))
                }
            };
        }
        let limit = u64::try_from(self.limit).unwrap_or(u64::MAX);
        self.content.by_ref().take(limit).read_until(b'\n', &mut self.buffer)?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if self.buffer.last() == Some(&b'\n') {
            self.number += 1;
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
            return Ok(Some(Line::Whole(&self.buffer)));
        }
        if self.buffer.len() == self.limit {
            self.content.skip_until(b'\n')?;
            self.number += 1;
            self.buffer.truncate(1024);
            return Ok(Some(Line::TooLong(&self.buffer)));
        }
        self.number += 1;
        Ok(Some(Line::Unfinished(&self.buffer)))
    }

    /// Skips to the end of line `number`, or to the end of a shorter source.
    ///
    /// # Errors
    /// Errors of the reader.
    pub(crate) fn skip_to(&mut self, number: u64) -> io::Result<()> {
        if let Some(records) = &mut self.records {
            records.skip(number.saturating_sub(self.number))?;
            self.number = self.number.max(number);
            return Ok(());
        }
        if self.array.is_some() {
            while self.number < number && self.next_line()?.is_some() {}
            return Ok(());
        }
        while self.number < number && self.content.skip_until(b'\n')? > 0 {
            self.number += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn lines_of(content: &[u8]) -> Vec<(u64, String)> {
        let mut lines = Lines::new(content);
        let mut found = Vec::new();
        loop {
            let text = match lines.next_line().unwrap() {
                None => return found,
                Some(line) => format!("{line:?}").replace(|c: char| !c.is_ascii_alphabetic(), ""),
            };
            found.push((lines.number(), text));
        }
    }

    #[test]
    fn lines_are_numbered_from_one_and_the_last_may_be_unfinished() {
        assert_eq!(lines_of(b"").len(), 0);
        assert_eq!(lines_of(b"x\r\n\ny"), [(1, "Whole".into()), (2, "Whole".into()), (3, "Unfinished".into())]);
    }

    #[test]
    fn a_line_without_end_uses_bounded_memory() {
        let mut lines = Lines::new(&b"short\nfar too long a line\nnext\n"[..]);
        lines.limit = 8;
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"short")));
        assert_eq!(lines.next_line().unwrap(), Some(Line::TooLong(b"far too ")));
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"next")));
        assert_eq!(lines.number(), 3);
    }

    #[test]
    fn skipped_lines_count() {
        let mut lines = Lines::new(&b"1\n2\n3\n4"[..]);
        lines.skip_to(3).unwrap();
        assert_eq!(lines.number(), 3);
        assert_eq!(lines.next_line().unwrap(), Some(Line::Unfinished(b"4")));
        lines.skip_to(9).unwrap();
        assert_eq!(lines.number(), 4);
    }

    #[test]
    fn gzip_is_detected_by_content_and_truncation_is_an_error() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let text: String = (0..5000).map(|i| format!("line {}\n", i * 7919)).collect();
        encoder.write_all(text.as_bytes()).unwrap();
        let packed = encoder.finish().unwrap();
        let mut whole = String::new();
        decompressed(counted(&packed)).unwrap().unwrap().read_to_string(&mut whole).unwrap();
        assert_eq!(whole, text);

        let mut lines = Lines::new(decompressed(counted(&packed[..packed.len() / 2])).unwrap().unwrap());
        let error = loop {
            match lines.next_line() {
                Ok(line) => assert!(matches!(line, Some(Line::Whole(_)))),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(lines.number() > 0);
    }

    fn counted(bytes: &[u8]) -> Counted<Cursor<Vec<u8>>> {
        Counted { inner: Cursor::new(bytes.to_vec()), bytes_read: Arc::default() }
    }

    #[test]
    fn zstd_is_read_and_a_bomb_is_refused() {
        let text = "a line\n".repeat(3000);
        let packed = zstd::encode_all(text.as_bytes(), 3).unwrap();
        let mut whole = String::new();
        let both = [packed.clone(), packed].concat();
        decompressed(counted(&both)).unwrap().unwrap().read_to_string(&mut whole).unwrap();
        assert_eq!(whole, text.repeat(2));

        let zeros = io::repeat(b'0').take(FREE_EXPANSION * 4);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        io::copy(&mut io::repeat(b'0').take(FREE_EXPANSION * 4), &mut gzip).unwrap();
        for bomb in [zstd::encode_all(zeros, 3).unwrap(), gzip.finish().unwrap()] {
            let error = io::copy(&mut decompressed(counted(&bomb)).unwrap().unwrap(), &mut io::sink()).unwrap_err();
            assert!(error.to_string().contains("200 times"), "{error}");
        }
    }

    #[test]
    fn corrupt_data_and_cut_data_are_different_errors() {
        let text: String = (0..5000).map(|i| format!("line {}\n", i * 7919)).collect();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text.as_bytes()).unwrap();
        let mut packed = gzip.finish().unwrap();
        let checksum = packed.len() - 8;
        packed[checksum] ^= 0xff;
        let mut zstd = zstd::encode_all(text.as_bytes(), 3).unwrap();
        let middle = zstd.len() / 2;
        zstd[middle] ^= 0xff;
        for damaged in [packed, zstd] {
            let content = decompressed(counted(&damaged));
            let read = content.and_then(|content| io::copy(&mut content.unwrap(), &mut io::sink()));
            // A flipped bit may leave zstd's data readable, which has no checksum here.
            let Err(error) = read else { continue };
            assert!(error.get_ref().is_some_and(|cause| cause.is::<Corrupt>()), "{error:?}");
        }
        let twice = zstd::encode_all(zstd::encode_all(text.as_bytes(), 3).unwrap().as_slice(), 3).unwrap();
        assert!(decompressed(counted(&twice)).map(drop).unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn formats_that_are_not_read_are_named() {
        for (bytes, name) in [
            (&b"PAR1...."[..], "Parquet"),
            (b"\xff\xfeh\0", "UTF-16"),
            (b"h\0a\0", "UTF-16LE"),
            (b"\0h\0a", "UTF-16BE"),
            (b"\xff\xfe\0\0", "UTF-32"),
            (b"PK\x03\x04..", "zip"),
            (&[&[b'a'; 257][..], b"ustar  "].concat(), "tar"),
        ] {
            let error = decompressed(counted(bytes)).map(drop).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn an_identity_depends_on_name_size_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "one").unwrap();
        let first = identity(&path).unwrap().unwrap();
        std::fs::write(&path, "two").unwrap();
        let second = identity(&path).unwrap().unwrap();
        assert!(first.starts_with("a.csv:3:") && second.starts_with("a.csv:3:"));
        assert_ne!(first, second);
        assert_eq!(identity(Path::new("-")).unwrap(), None);
    }
}
