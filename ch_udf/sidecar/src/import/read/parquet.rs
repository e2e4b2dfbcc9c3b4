//! Parquet files as JSON lines, one object a row, so that the parsers of JSON read them. Exact
//! values stay exact: decimals become digits, bytes become hexadecimal.

use std::fs::File;
use std::io::{self, Read};

use ethnum::I256;
use parquet::data_type::Decimal;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

/// First bytes of a Parquet file.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// The rows of a file as text.
pub(super) struct ParquetText {
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
    pub(super) fn open(file: File) -> io::Result<Self> {
        let reader: Box<dyn FileReader> = Box::new(SerializedFileReader::new(file).map_err(damaged)?);
        Ok(Self { rows: RowIter::from_file_into(reader), line: Vec::new(), taken: 0 })
    }
}

fn damaged(error: parquet::errors::ParquetError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Read for ParquetText {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.line.len() {
            self.taken = 0;
            self.line.clear();
            let Some(row) = self.rows.next() else { return Ok(0) };
            serde_json::to_writer(&mut self.line, &object(&row.map_err(damaged)?)?)?;
            self.line.push(b'\n');
        }
        let rest = self.line.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer.get_mut(..count).unwrap_or_default().copy_from_slice(rest.get(..count).unwrap_or_default());
        self.taken += count;
        Ok(count)
    }
}

fn object(row: &Row) -> io::Result<Value> {
    let fields = row.get_column_iter().map(|(name, field)| Ok((name.clone(), value(field)?)));
    Ok(Value::Object(fields.collect::<io::Result<Map<String, Value>>>()?))
}

/// Converts a field. A time becomes unix seconds.
fn value(field: &Field) -> io::Result<Value> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::Bool(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) | Field::Date(value) | Field::TimeMillis(value) => Value::from(*value),
        Field::Long(value) | Field::TimeMicros(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Float16(value) => Value::from(float(&value.to_f32().to_string(), 6)),
        Field::Float(value) => Value::from(float(&value.to_string(), 9)),
        Field::Double(value) => Value::from(float(&value.to_string(), 15)),
        Field::Decimal(value) => Value::from(decimal(value)?),
        Field::Str(text) => Value::from(text.clone()),
        Field::Bytes(bytes) => Value::from(text_or_hex(bytes.data())),
        Field::TimestampMillis(value) => Value::from(value.div_euclid(1_000)),
        Field::TimestampMicros(value) => Value::from(value.div_euclid(1_000_000)),
        Field::Group(row) => object(row)?,
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(value).collect::<io::Result<_>>()?),
        Field::MapInternal(_) => Value::Null,
    })
}

/// Marks a floating-point number whose type keeps `digits` of them, so that reading checks whether
/// some may be lost: with a point, or with an exponent where all digits are in use.
fn float(plain: &str, digits: usize) -> String {
    let used =
        plain.trim_start_matches(['-', '0', '.']).trim_end_matches('0').replace('.', "").trim_end_matches('0').len();
    match plain.contains('.') {
        _ if used > digits => format!("{plain}e0"),
        true => plain.to_owned(),
        false => format!("{plain}.0"),
    }
}

/// Returns bytes as text if they are a number or name in hexadecimal already, otherwise in
/// hexadecimal: some writers do not mark texts as such.
fn text_or_hex(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.starts_with("0x") || !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            text.to_owned()
        }
        _ => bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}

/// Returns a decimal as digits, without a fraction of zeros.
fn decimal(value: &Decimal) -> io::Result<String> {
    let bytes = value.data();
    let too_large = || io::Error::new(io::ErrorKind::InvalidData, "a decimal has more than 256 bits");
    let fill = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut whole = [fill; 32];
    let start = whole.len().checked_sub(bytes.len()).ok_or_else(too_large)?;
    whole.get_mut(start..).unwrap_or_default().copy_from_slice(bytes);
    let units = I256::from_be_bytes(whole);
    let scale = usize::try_from(value.scale()).map_err(|_| too_large())?;
    let sign = if units < I256::ZERO { "-" } else { "" };
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (before, after) = digits.split_at(digits.len() - scale);
    let after = after.trim_end_matches('0');
    Ok(if after.is_empty() { format!("{sign}{before}") } else { format!("{sign}{before}.{after}") })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use parquet::basic::Compression;
    use parquet::data_type::{
        ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int64Type,
    };
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// A file with bytes, an optional text, a decimal of 38 digits, a time and a double; the texts
    /// by dictionary.
    fn write(file: &File) {
        let schema = "message m {
            required binary transaction_hash;
            optional binary to_address (UTF8);
            required fixed_len_byte_array(16) value (DECIMAL(38,9));
            required int64 block_timestamp (TIMESTAMP_MICROS);
            required double gas;
        }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer = SerializedFileWriter::new(file.try_clone().unwrap(), schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let hashes = [ByteArray::from(vec![0xab; 3]), ByteArray::from("0x1f")];
        column.typed::<ByteArrayType>().write_batch(&hashes, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[ByteArray::from("bob")], Some(&[0, 1]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let decimal = |units: i128| FixedLenByteArray::from(units.to_be_bytes().to_vec());
        let values = [decimal(1_234_567_890_123_456_789_000_000_000), decimal(-1_500_000_000)];
        column.typed::<FixedLenByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[1_683_029_999_000_000, 1], None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&[2.5e18, 0.5], None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn rows_become_lines_with_exact_values() {
        let file = tempfile::tempfile().unwrap();
        write(&file);
        let mut text = String::new();
        ParquetText::open(file).unwrap().read_to_string(&mut text).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = [
            serde_json::json!({"transaction_hash": "0xababab", "to_address": null, "value": "1234567890123456789",
                               "block_timestamp": 1_683_029_999, "gas": "2500000000000000000.0"}),
            serde_json::json!({"transaction_hash": "0x1f", "to_address": "bob", "value": "-1.5", "block_timestamp": 0,
                               "gas": "0.5"}),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn damaged_files_are_errors() {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        write(&file);
        let length = file.metadata().unwrap().len();
        file.set_len(length / 2).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(ParquetText::open(file).map(drop).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
