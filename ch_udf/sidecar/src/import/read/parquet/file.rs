//! A Parquet file as the reader of its pages sees it: reads by position, counts the bytes, and
//! refuses pages that would take too much memory.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use crate::import::read::input::LARGEST_EXPANSION;

/// Largest page, compressed or not. Writers make pages of a megabyte; some put a whole column of a
/// row group into one.
const MAX_PAGE_BYTES: u64 = 256 * 1024 * 1024;

/// Pages up to this size may be compressed to any degree: equal values take next to nothing.
const FREE_PAGE_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes that are read for the header of a page.
const HEADER_BYTES: usize = 1024;

/// A file that several readers share.
#[derive(Clone)]
pub(super) struct PageFile {
    file: Arc<File>,
    length: u64,
    bytes_read: Arc<AtomicU64>,
}

impl PageFile {
    pub(super) fn new(file: File, bytes_read: Arc<AtomicU64>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), length, bytes_read })
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }
}

impl Length for PageFile {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for PageFile {
    type T = BufReader<FromPosition>;

    /// Reads the header of a page, or the footer.
    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut header = [0; 32];
        let count = self.file.read_at(&mut header, start)?;
        if let Some((uncompressed, compressed)) = page_sizes(header.get(..count).unwrap_or_default()) {
            check_page(uncompressed, compressed)?;
        }
        Ok(BufReader::with_capacity(HEADER_BYTES, FromPosition { file: Arc::clone(&self.file), position: start }))
    }

    /// Reads a page, or the metadata.
    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = u64::try_from(length).unwrap_or(u64::MAX);
        if bytes > MAX_PAGE_BYTES {
            return Err(too_large(bytes));
        }
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, start)?;
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        Ok(buffer.into())
    }
}

/// Reads a file from a position on.
pub(super) struct FromPosition {
    file: Arc<File>,
    position: u64,
}

impl Read for FromPosition {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += u64::try_from(count).unwrap_or_default();
        Ok(count)
    }
}

/// Returns the sizes that the header of a page states, uncompressed and compressed; `None` for
/// other bytes. The header is a structure in Thrift's compact protocol, of which the type of the
/// page and the two sizes come first.
fn page_sizes(header: &[u8]) -> Option<(u64, u64)> {
    /// The next field, a 32-bit integer.
    const NEXT_INTEGER: u8 = 0x15;
    let mut bytes = header.iter().copied();
    let mut sizes = [0; 3];
    for size in &mut sizes {
        if bytes.next()? != NEXT_INTEGER {
            return None;
        }
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = bytes.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        // Negative numbers are odd: the reader refuses them.
        *size = value >> 1;
    }
    let [_, uncompressed, compressed] = sizes;
    Some((uncompressed, compressed))
}

fn check_page(uncompressed: u64, compressed: u64) -> Result<()> {
    if uncompressed.max(compressed) > MAX_PAGE_BYTES {
        return Err(too_large(uncompressed.max(compressed)));
    }
    if uncompressed > FREE_PAGE_BYTES.max(compressed.saturating_mul(LARGEST_EXPANSION)) {
        let message = format!("a page of it expands more than {LARGEST_EXPANSION} times: write the file again");
        return Err(external(message));
    }
    Ok(())
}

fn too_large(bytes: u64) -> ParquetError {
    let limit = MAX_PAGE_BYTES / (1024 * 1024);
    external(format!("a page of it has {bytes} bytes: write the file again with pages below {limit} MiB"))
}

fn external(message: String) -> ParquetError {
    ParquetError::External(Box::new(io::Error::new(io::ErrorKind::InvalidData, message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with the type 0 and two sizes.
    fn header(uncompressed: u64, compressed: u64) -> Vec<u8> {
        let mut bytes = vec![0x15, 0];
        for size in [uncompressed, compressed] {
            bytes.push(0x15);
            let mut value = size << 1;
            while value >= 0x80 {
                bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
                value >>= 7;
            }
            bytes.push(u8::try_from(value).unwrap());
        }
        bytes
    }

    #[test]
    fn sizes_of_pages_are_read_from_their_headers() {
        assert_eq!(page_sizes(&header(1_048_576, 77)), Some((1_048_576, 77)));
        assert_eq!(page_sizes(&header(2_147_483_647, 0)), Some((2_147_483_647, 0)));
        assert_eq!(page_sizes(b"\x15\x02\x00\x00PAR1"), None);
        assert_eq!(page_sizes(b""), None);
    }

    #[test]
    fn pages_beyond_the_limits_are_refused_before_they_are_read() {
        let message = |uncompressed, compressed| check_page(uncompressed, compressed).unwrap_err().to_string();
        assert!(message(MAX_PAGE_BYTES + 1, MAX_PAGE_BYTES).contains("pages below 256 MiB"));
        assert!(message(FREE_PAGE_BYTES + 1, 100).contains("200 times"));
        assert!(check_page(FREE_PAGE_BYTES, 100).is_ok());
        assert!(check_page(MAX_PAGE_BYTES, MAX_PAGE_BYTES / 150).is_ok());
        assert!(check_page(0, 0).is_ok());
    }
}
