//! Parquet files. A flat file is read by its columns (`columns`), of which only those are decoded
//! that the import uses; a file with nested columns becomes JSON lines (`rows`). Exact values stay
//! exact: decimals become digits, bytes become hexadecimal. Reads one page of each column at a
//! time, so that memory does not depend on the size of row groups.

mod columns;
mod file;
mod rows;
#[cfg(test)]
mod tests;
mod values;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parquet::file::reader::{FileReader, SerializedFileReader};

pub(crate) use columns::Records;
use file::PageFile;
pub(super) use rows::ParquetText;

/// First bytes of a Parquet file.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// Files with fewer rows are read whatever their size.
const FREE_ROWS: u64 = 1_000_000;

/// An opened file, whose footer has been read.
pub(crate) struct Table {
    file: PageFile,
    /// Names of the columns, nested ones by their outer name.
    pub(crate) names: Vec<String>,
    rows: u64,
}

impl Table {
    /// Opens a file and counts the bytes that are read from it in `bytes_read`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a damaged file, one with an unknown encoding, and one
    /// that claims more rows than its bytes can hold.
    pub(super) fn open(file: File, bytes_read: Arc<AtomicU64>) -> io::Result<Self> {
        let file = PageFile::new(file, bytes_read)?;
        let reader = SerializedFileReader::new(file.clone()).map_err(damaged)?;
        let metadata = reader.metadata().file_metadata();
        let names = metadata.schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
        let rows = reader.metadata().row_groups().iter().map(|group| group.num_rows());
        let rows = rows.fold(0_u64, |sum, rows| sum.saturating_add(u64::try_from(rows).unwrap_or_default()));
        if rows > FREE_ROWS.max(file.length()) {
            let message =
                format!("it states {rows} rows in {} bytes, and no row is shorter than a byte", file.length());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Self { file, names, rows })
    }

    /// Number of rows.
    pub(crate) const fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns a reader of the columns for which `is_used` is true, in the order of `names`; `None`
    /// if one of them is nested.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a damaged file.
    pub(crate) fn records(&self, is_used: impl Fn(&str) -> bool) -> io::Result<Option<Records>> {
        let reader = SerializedFileReader::new(self.file.clone()).map_err(damaged)?;
        Records::new(reader, &self.names, is_used)
    }

    /// Returns the rows as JSON lines.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a damaged file.
    pub(super) fn text(&self) -> io::Result<ParquetText> {
        ParquetText::open(self.file.clone())
    }
}

fn damaged(error: parquet::errors::ParquetError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
