//! The rows of a flat file, read by columns: each becomes a line of texts between separators. Only
//! used columns are decoded; the others are empty in the line.

use std::io;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray, Int96};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::damaged;
use super::file::PageFile;
use super::values;
use crate::import::parse::csv_line::SEPARATOR;

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 1024;

/// Longest text of a value; no name, number or path that is read is as long.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// The rest of a longer text, which no parser takes for a value.
const CUT: &str = "… (cut)";

/// Rows of a flat file.
pub(crate) struct Records {
    reader: SerializedFileReader<PageFile>,
    /// For each name of the file its used column, if it is used.
    layout: Vec<Option<usize>>,
    columns: Vec<Column>,
    /// The next row group.
    group: usize,
    /// Rows of the current group that are not decoded yet.
    rows_left: usize,
    /// Decoded rows, and those of them that have been returned.
    batch: usize,
    returned: usize,
}

/// A used column.
struct Column {
    /// Its index in the file.
    index: usize,
    kind: Kind,
    max_level: i16,
    reader: Option<ColumnReader>,
    levels: Vec<i16>,
    /// The texts of the decoded rows and where each ends.
    text: String,
    ends: Vec<usize>,
}

/// The meaning of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The value as its physical type has it; bytes may be text.
    Plain,
    Unsigned,
    /// A time, with the number of its units in a second.
    Time(i64),
    Date,
    Decimal(usize),
    Text,
    Hex,
    HalfFloat,
    /// A value that no column that is read has.
    Foreign,
}

impl Kind {
    fn of(column: &ColumnDescriptor) -> Self {
        let scale = || usize::try_from(column.type_scale()).unwrap_or_default();
        match (column.logical_type_ref(), column.converted_type()) {
            (Some(LogicalType::Timestamp(timestamp)), _) => Self::Time(match timestamp.unit {
                TimeUnit::MILLIS => 1_000,
                TimeUnit::MICROS => 1_000_000,
                TimeUnit::NANOS => 1_000_000_000,
            }),
            (Some(LogicalType::Decimal(_)), _) | (_, ConvertedType::DECIMAL) => Self::Decimal(scale()),
            (Some(LogicalType::Date), _) | (_, ConvertedType::DATE) => Self::Date,
            (Some(LogicalType::Float16), _) => Self::HalfFloat,
            (Some(LogicalType::Uuid), _) => Self::Hex,
            (_, ConvertedType::TIMESTAMP_MILLIS) => Self::Time(1_000),
            (_, ConvertedType::TIMESTAMP_MICROS) => Self::Time(1_000_000),
            (_, ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON) => Self::Text,
            (_, ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64) => {
                Self::Unsigned
            }
            (_, ConvertedType::INTERVAL | ConvertedType::BSON) => Self::Foreign,
            _ => Self::Plain,
        }
    }
}

impl Records {
    pub(super) fn new(
        reader: SerializedFileReader<PageFile>,
        names: &[String],
        is_used: impl Fn(&str) -> bool,
    ) -> io::Result<Option<Self>> {
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let mut columns = Vec::new();
        let mut layout = Vec::with_capacity(names.len());
        for (root, name) in names.iter().enumerate() {
            if !is_used(name) {
                layout.push(None);
                continue;
            }
            let leaf = |index: &usize| schema.get_column_root_idx(*index) == root;
            let Some(index) = (0..schema.num_columns()).find(leaf) else { return Ok(None) };
            let column = schema.column(index);
            if column.path().parts().len() != 1 || column.max_rep_level() != 0 {
                return Ok(None);
            }
            layout.push(Some(columns.len()));
            columns.push(Column {
                index,
                kind: Kind::of(&column),
                max_level: column.max_def_level(),
                reader: None,
                levels: Vec::new(),
                text: String::new(),
                ends: Vec::new(),
            });
        }
        Ok(Some(Self { reader, layout, columns, group: 0, rows_left: 0, batch: 0, returned: 0 }))
    }

    /// Reads the next row into `line`. Returns false at the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a damaged file; earlier rows were complete.
    pub(crate) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        if self.returned == self.batch && !self.decode()? {
            return Ok(false);
        }
        let row = self.returned;
        self.returned += 1;
        for (number, slot) in self.layout.iter().enumerate() {
            if number > 0 {
                line.push(SEPARATOR);
            }
            if let Some(column) = slot.and_then(|slot| self.columns.get(slot)) {
                line.extend_from_slice(column.row(row).as_bytes());
            }
        }
        Ok(true)
    }

    /// Skips rows, or all that are left if there are fewer.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a damaged file.
    pub(crate) fn skip(&mut self, rows: u64) -> io::Result<()> {
        let mut rows = usize::try_from(rows).unwrap_or(usize::MAX);
        loop {
            let decoded = rows.min(self.batch - self.returned);
            self.returned += decoded;
            rows -= decoded;
            if rows == 0 {
                return Ok(());
            }
            if self.rows_left == 0 {
                let Some(length) = self.group_rows(self.group)? else { return Ok(()) };
                if length <= rows {
                    self.group += 1;
                    rows -= length;
                    continue;
                }
                self.open_group()?;
                continue;
            }
            let skipped = rows.min(self.rows_left);
            for column in &mut self.columns {
                column.skip(skipped)?;
            }
            self.rows_left -= skipped;
            rows -= skipped;
        }
    }

    /// Number of rows of a group; `None` after the last one.
    fn group_rows(&self, group: usize) -> io::Result<Option<usize>> {
        let metadata = self.reader.metadata();
        if group >= metadata.num_row_groups() {
            return Ok(None);
        }
        usize::try_from(metadata.row_group(group).num_rows()).map(Some).map_err(|_| corrupt("a group has no length"))
    }

    /// Begins the next row group. Returns false at the end.
    fn open_group(&mut self) -> io::Result<bool> {
        let Some(rows) = self.group_rows(self.group)? else { return Ok(false) };
        let group = self.reader.get_row_group(self.group).map_err(damaged)?;
        for column in &mut self.columns {
            column.reader = Some(group.get_column_reader(column.index).map_err(damaged)?);
        }
        self.group += 1;
        self.rows_left = rows;
        Ok(true)
    }

    /// Decodes the next rows. Returns false at the end.
    fn decode(&mut self) -> io::Result<bool> {
        while self.rows_left == 0 {
            if !self.open_group()? {
                return Ok(false);
            }
        }
        let rows = self.rows_left.min(BATCH_ROWS);
        for column in &mut self.columns {
            column.decode(rows)?;
        }
        self.rows_left -= rows;
        (self.batch, self.returned) = (rows, 0);
        Ok(true)
    }
}

/// Calls a function with the typed reader of a column.
macro_rules! typed {
    ($reader:expr, $typed:ident => $call:expr) => {
        match $reader {
            ColumnReader::BoolColumnReader($typed) => $call,
            ColumnReader::Int32ColumnReader($typed) => $call,
            ColumnReader::Int64ColumnReader($typed) => $call,
            ColumnReader::Int96ColumnReader($typed) => $call,
            ColumnReader::FloatColumnReader($typed) => $call,
            ColumnReader::DoubleColumnReader($typed) => $call,
            ColumnReader::ByteArrayColumnReader($typed) => $call,
            ColumnReader::FixedLenByteArrayColumnReader($typed) => $call,
        }
    };
}

impl Column {
    /// Returns the text of a decoded row; empty for NULL.
    fn row(&self, row: usize) -> &str {
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        let end = self.ends.get(row).copied().unwrap_or(start);
        self.text.get(start..end).unwrap_or_default()
    }

    fn skip(&mut self, rows: usize) -> io::Result<()> {
        let reader = self.reader.as_mut().ok_or_else(|| corrupt("a column is missing"))?;
        let skipped = typed!(reader, typed => typed.skip_records(rows)).map_err(damaged)?;
        if skipped == rows { Ok(()) } else { Err(corrupt("a column is shorter than its row group")) }
    }

    /// Decodes the next rows into texts.
    fn decode(&mut self, rows: usize) -> io::Result<()> {
        self.text.clear();
        self.ends.clear();
        let Self { reader, levels, text, ends, kind, max_level, .. } = self;
        let reader = reader.as_mut().ok_or_else(|| corrupt("a column is missing"))?;
        let mut rest = Rest { rows, levels, max_level: *max_level, text, ends };
        typed!(reader, typed => rest.read(typed, *kind))
    }
}

/// Destination of a column's texts.
struct Rest<'a> {
    rows: usize,
    levels: &'a mut Vec<i16>,
    max_level: i16,
    text: &'a mut String,
    ends: &'a mut Vec<usize>,
}

impl Rest<'_> {
    fn read<T: DataType>(&mut self, reader: &mut ColumnReaderImpl<T>, kind: Kind) -> io::Result<()>
    where
        T::T: Show,
    {
        let mut values: Vec<T::T> = Vec::with_capacity(self.rows);
        self.levels.clear();
        let levels = (self.max_level > 0).then_some(&mut *self.levels);
        let (rows, ..) = reader.read_records(self.rows, levels, None, &mut values).map_err(damaged)?;
        let is_whole = rows == self.rows && (self.max_level == 0 || self.levels.len() == rows);
        if !is_whole {
            return Err(corrupt("a column is shorter than its row group"));
        }
        let mut values = values.iter();
        for row in 0..rows {
            if self.max_level == 0 || self.levels.get(row) == Some(&self.max_level) {
                let value = values.next().ok_or_else(|| corrupt("a column has fewer values than rows"))?;
                value.show(kind, self.text);
            }
            self.ends.push(self.text.len());
        }
        Ok(())
    }
}

/// Values that have a text.
trait Show {
    fn show(&self, kind: Kind, out: &mut String);
}

impl Show for bool {
    fn show(&self, _kind: Kind, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl Show for i32 {
    fn show(&self, kind: Kind, out: &mut String) {
        match kind {
            Kind::Unsigned => values::integer(self.cast_unsigned(), out),
            Kind::Date => values::date(*self, out),
            Kind::Decimal(scale) => values::decimal(&self.to_be_bytes(), scale, out),
            _ => values::integer(*self, out),
        }
    }
}

impl Show for i64 {
    fn show(&self, kind: Kind, out: &mut String) {
        match kind {
            Kind::Unsigned => values::integer(self.cast_unsigned(), out),
            Kind::Time(per_second) => values::integer(self.div_euclid(per_second), out),
            Kind::Decimal(scale) => values::decimal(&self.to_be_bytes(), scale, out),
            _ => values::integer(*self, out),
        }
    }
}

impl Show for Int96 {
    /// The type of times in old files.
    fn show(&self, _kind: Kind, out: &mut String) {
        values::integer(self.to_seconds(), out);
    }
}

impl Show for f32 {
    fn show(&self, _kind: Kind, out: &mut String) {
        values::float(&self.to_string(), 6, out);
    }
}

impl Show for f64 {
    fn show(&self, _kind: Kind, out: &mut String) {
        values::float(&self.to_string(), 15, out);
    }
}

impl Show for ByteArray {
    fn show(&self, kind: Kind, out: &mut String) {
        show_bytes(self.data(), kind, out);
    }
}

impl Show for FixedLenByteArray {
    fn show(&self, kind: Kind, out: &mut String) {
        show_bytes(self.data(), kind, out);
    }
}

fn show_bytes(bytes: &[u8], kind: Kind, out: &mut String) {
    match kind {
        Kind::Decimal(scale) => values::decimal(bytes, scale, out),
        Kind::HalfFloat => match <[u8; 2]>::try_from(bytes) {
            Ok(half) => values::float(&half::f16::from_le_bytes(half).to_f32().to_string(), 3, out),
            Err(_) => values::hex(bytes, out),
        },
        _ if bytes.len() > MAX_TEXT_BYTES => {
            values::hex(bytes.get(..64).unwrap_or_default(), out);
            out.push_str(CUT);
        }
        Kind::Hex => values::hex(bytes, out),
        Kind::Foreign => out.push_str("(a value of another type)"),
        Kind::Text => match std::str::from_utf8(bytes) {
            Ok(text) if memchr::memchr(SEPARATOR, bytes).is_none() => out.push_str(text),
            Ok(text) => out.push_str(&text.replace(char::from(SEPARATOR), "␟")),
            Err(_) => values::hex(bytes, out),
        },
        _ => values::text_or_hex(bytes, out),
    }
}

fn corrupt(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
