//! Input files and standard input, plain or gzip, detected by content and never by name. Owns
//! opening, the identity of a file (by which an interrupted import finds its progress), and cutting
//! bytes into numbered lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::import::error::ImportError;

/// Buffer size for the file and the decompressor: large enough to make system calls negligible.
const BUFFER_BYTES: usize = 256 * 1024;

/// Longer than any transaction of any chain; bounds the memory for a file without newlines.
pub(crate) const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a file that its identity covers, in addition to name and size.
const IDENTITY_BYTES: u64 = 1024 * 1024;

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
    pub(crate) content: Box<dyn BufRead + Send>,
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
        let file = File::open(path).map_err(read_error)?;
        let metadata = file.metadata().map_err(read_error)?;
        (Box::new(file), metadata.is_file().then_some(metadata.len()))
    };
    let bytes_read = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: raw, bytes_read: Arc::clone(&bytes_read) };
    let content = decompressed(counted).map_err(read_error)?;
    match content {
        Some(content) => Ok(OpenedSource { name, size, bytes_read, content }),
        None => Err(ImportError::Empty { file: name }),
    }
}

/// The content of a stream, decompressed if it begins with gzip's magic number; `None` if it is
/// empty.
fn decompressed(mut raw: impl Read + Send + 'static) -> io::Result<Option<Box<dyn BufRead + Send>>> {
    let mut magic = Vec::with_capacity(2);
    raw.by_ref().take(2).read_to_end(&mut magic)?;
    let compressed = magic == [0x1f, 0x8b];
    if magic.is_empty() {
        return Ok(None);
    }
    let whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(magic).chain(raw));
    if compressed {
        Ok(Some(Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(whole)))))
    } else {
        Ok(Some(Box::new(whole)))
    }
}

/// Returns the identity by which a later run recognises a file: name, size and a hash of its first
/// MiB. `None` for standard input and everything else that is not a regular file.
///
/// # Errors
/// [`ImportError::Read`], [`ImportError::Empty`].
pub(crate) fn identity(path: &Path) -> Result<Option<String>, ImportError> {
    if is_stdin(path) {
        return Ok(None);
    }
    let read_error = |source| ImportError::Read { file: display_name(path), source };
    let file = File::open(path).map_err(read_error)?;
    let metadata = file.metadata().map_err(read_error)?;
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.len() == 0 {
        return Err(ImportError::Empty { file: display_name(path) });
    }
    let mut start = Vec::new();
    file.take(IDENTITY_BYTES).read_to_end(&mut start).map_err(read_error)?;
    let hash: String = Sha256::digest(&start).iter().map(|byte| format!("{byte:02x}")).collect();
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
/// swallow the rest.
pub(crate) struct Lines<R> {
    content: R,
    buffer: Vec<u8>,
    number: u64,
    limit: usize,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `content`.
    pub(crate) fn new(content: R) -> Self {
        Self { content, buffer: Vec::new(), number: 0, limit: MAX_LINE_BYTES }
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
        decompressed(Cursor::new(packed.clone())).unwrap().unwrap().read_to_string(&mut whole).unwrap();
        assert_eq!(whole, text);

        let half = packed[..packed.len() / 2].to_vec();
        let mut lines = Lines::new(decompressed(Cursor::new(half)).unwrap().unwrap());
        let error = loop {
            match lines.next_line() {
                Ok(line) => assert!(matches!(line, Some(Line::Whole(_)))),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(lines.number() > 0);
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
