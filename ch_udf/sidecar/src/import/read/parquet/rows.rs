//! Files with nested columns as JSON lines, one object a row, so that the parsers of JSON read
//! them.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::damaged;
use super::file::PageFile;
use super::values;

/// The rows of a file as text.
pub(crate) struct ParquetText {
    rows: RowIter<'static>,
    line: Vec<u8>,
    /// Bytes of `line` that have been read.
    taken: usize,
}

impl ParquetText {
    /// Opens a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a damaged file, or one with an unknown encoding.
    pub(super) fn open(file: PageFile) -> io::Result<Self> {
        let reader: Box<dyn FileReader> = Box::new(SerializedFileReader::new(file).map_err(damaged)?);
        Ok(Self { rows: RowIter::from_file_into(reader), line: Vec::new(), taken: 0 })
    }

    /// Returns the next row. The library panics for columns of some types.
    fn next(&mut self) -> io::Result<Option<Row>> {
        match catch_unwind(AssertUnwindSafe(|| self.rows.next())) {
            Ok(row) => row.transpose().map_err(damaged),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it has a nested column, and another one of a type that is not read: write it without that column",
            )),
        }
    }
}

impl Read for ParquetText {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.line.len() {
            self.taken = 0;
            self.line.clear();
            let Some(row) = self.next()? else { return Ok(0) };
            serde_json::to_writer(&mut self.line, &object(&row))?;
            self.line.push(b'\n');
        }
        let rest = self.line.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer.get_mut(..count).unwrap_or_default().copy_from_slice(rest.get(..count).unwrap_or_default());
        self.taken += count;
        Ok(count)
    }
}

fn object(row: &Row) -> Value {
    Value::Object(row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect::<Map<_, _>>())
}

/// Converts a field. A time becomes unix seconds.
fn value(field: &Field) -> Value {
    let text = |write: &dyn Fn(&mut String)| {
        let mut text = String::new();
        write(&mut text);
        Value::from(text)
    };
    match field {
        Field::Null | Field::MapInternal(_) => Value::Null,
        Field::Bool(value) => Value::Bool(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) | Field::TimeMillis(value) => Value::from(*value),
        Field::Long(value) | Field::TimeMicros(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Date(days) => text(&|out| values::date(*days, out)),
        Field::Float16(value) => text(&|out| values::float(&value.to_f32().to_string(), 3, out)),
        Field::Float(value) => text(&|out| values::float(&value.to_string(), 6, out)),
        Field::Double(value) => text(&|out| values::float(&value.to_string(), 15, out)),
        Field::Decimal(value) => {
            let scale = usize::try_from(value.scale()).unwrap_or_default();
            text(&|out| values::decimal(value.data(), scale, out))
        }
        Field::Str(text) => Value::from(text.clone()),
        Field::Bytes(bytes) => text(&|out| values::text_or_hex(bytes.data(), out)),
        Field::TimestampMillis(value) => Value::from(value.div_euclid(1_000)),
        Field::TimestampMicros(value) => Value::from(value.div_euclid(1_000_000)),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(value).collect()),
    }
}
