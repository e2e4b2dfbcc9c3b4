use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int32Type,
    Int64Type, Int96, Int96Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::*;

fn writer(schema: &str) -> (File, SerializedFileWriter<File>) {
    let file = tempfile::tempfile().unwrap();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let writer = SerializedFileWriter::new(file.try_clone().unwrap(), schema, Arc::new(properties)).unwrap();
    (file, writer)
}

/// Writes the next column of a group, whose levels are those of its values.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    levels: Option<&[i16]>,
    repetitions: Option<&[i16]>,
) where
    T::T: Clone,
{
    let mut column: SerializedColumnWriter<'_> = group.next_column().unwrap().unwrap();
    let typed: &mut ColumnWriterImpl<'_, T> = column.typed::<T>();
    typed.write_batch(values, levels, repetitions).unwrap();
    column.close().unwrap();
}

/// A file with bytes, an optional text, a decimal of 38 digits, times and numbers.
fn flat() -> File {
    let (file, mut writer) = writer(
        "message m {
            required binary transaction_hash;
            optional binary to_address (UTF8);
            required fixed_len_byte_array(16) value (DECIMAL(38,9));
            required int64 block_timestamp (TIMESTAMP(NANOS,true));
            required int96 seen;
            required double gas;
            required int32 day (DATE);
            required int64 nonce (UINT_64);
            optional boolean success;
        }",
    );
    for nanos in [1_683_029_999_123_456_789, 1] {
        let mut group = writer.next_row_group().unwrap();
        column::<ByteArrayType>(&mut group, &[ByteArray::from(vec![0xab; 3]), ByteArray::from("0x1f")], None, None);
        column::<ByteArrayType>(&mut group, &[ByteArray::from("bob")], Some(&[0, 1]), None);
        let decimal = |units: i128| FixedLenByteArray::from(units.to_be_bytes().to_vec());
        let values = [decimal(1_234_567_890_123_456_789_000_000_000), decimal(-1_500_000_000)];
        column::<FixedLenByteArrayType>(&mut group, &values, None, None);
        column::<Int64Type>(&mut group, &[nanos, 2_000_000_000], None, None);
        let mut day = Int96::new();
        // 2023-05-02: its Julian day.
        day.set_data(0, 0, 2_460_067);
        column::<Int96Type>(&mut group, &[day, day], None, None);
        column::<DoubleType>(&mut group, &[2.5e18, 0.5], None, None);
        column::<Int32Type>(&mut group, &[19_479, 0], None, None);
        column::<Int64Type>(&mut group, &[-1, 7], None, None);
        column::<BoolType>(&mut group, &[true], Some(&[1, 0]), None);
        group.close().unwrap();
    }
    writer.close().unwrap();
    file
}

fn table(file: File) -> Table {
    Table::open(file, Arc::default()).unwrap()
}

fn lines(records: &mut Records) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = Vec::new();
    while records.next(&mut line).unwrap() {
        lines.push(String::from_utf8(std::mem::take(&mut line)).unwrap().replace('\x1f', "|"));
    }
    lines
}

#[test]
fn rows_of_a_flat_file_are_lines_with_exact_values() {
    let table = table(flat());
    assert_eq!(table.rows(), 4);
    let mut records = table.records(|_| true).unwrap().unwrap();
    let rest = "1234567890123456789";
    let expected = [
        format!("0xababab||{rest}|1683029999|1682985600|2500000000000000000.0|2023-05-02|18446744073709551615|true"),
        "0x1f|bob|-1.5|2|1682985600|0.5|1970-01-01|7|".to_owned(),
        format!("0xababab||{rest}|0|1682985600|2500000000000000000.0|2023-05-02|18446744073709551615|true"),
        "0x1f|bob|-1.5|2|1682985600|0.5|1970-01-01|7|".to_owned(),
    ];
    assert_eq!(lines(&mut records), expected);
}

#[test]
fn unused_columns_are_not_decoded_and_rows_can_be_skipped() {
    let table = table(flat());
    for skipped in 0..6 {
        let mut records = table.records(|name| ["to_address", "gas"].contains(&name)).unwrap().unwrap();
        records.skip(skipped / 2).unwrap();
        records.skip(skipped - skipped / 2).unwrap();
        let all = ["|||||2500000000000000000.0|||", "|bob||||0.5|||"].repeat(2);
        assert_eq!(lines(&mut records), all[usize::try_from(skipped.min(4)).unwrap()..]);
    }
    let mut records = table.records(|name| name == "gas").unwrap().unwrap();
    let mut line = Vec::new();
    records.next(&mut line).unwrap();
    records.skip(2).unwrap();
    assert_eq!(lines(&mut records).len(), 1);
}

#[test]
fn a_nested_column_makes_json_of_the_rows_if_it_is_used() {
    let (file, mut writer) = writer(
        "message m {
            required binary hash (UTF8);
            required group inputs (LIST) { repeated group list { required int64 element; } }
        }",
    );
    let mut group = writer.next_row_group().unwrap();
    column::<ByteArrayType>(&mut group, &[ByteArray::from("a"), ByteArray::from("b")], None, None);
    column::<Int64Type>(&mut group, &[1, 2, 3], Some(&[1, 1, 1]), Some(&[0, 1, 0]));
    group.close().unwrap();
    writer.close().unwrap();
    let table = table(file);
    assert_eq!(lines(&mut table.records(|name| name == "hash").unwrap().unwrap()), ["a|", "b|"]);
    assert!(table.records(|_| true).unwrap().is_none());
    let mut text = String::new();
    table.text().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "{\"hash\":\"a\",\"inputs\":[1,2]}\n{\"hash\":\"b\",\"inputs\":[3]}\n");
}

#[test]
fn a_text_with_a_separator_stays_one_text_and_a_long_one_is_cut() {
    let (file, mut writer) = writer("message m { required binary a (UTF8); required binary b; }");
    let mut group = writer.next_row_group().unwrap();
    column::<ByteArrayType>(&mut group, &[ByteArray::from("x\x1fy")], None, None);
    column::<ByteArrayType>(&mut group, &[ByteArray::from(vec![1; 1 << 20])], None, None);
    group.close().unwrap();
    writer.close().unwrap();
    let line = lines(&mut table(file).records(|_| true).unwrap().unwrap()).remove(0);
    assert!(line.starts_with("x␟y|0x0101") && line.ends_with("(cut)") && line.len() < 200, "{line}");
}

#[test]
fn damaged_files_are_errors() {
    let mut file = flat();
    let length = file.metadata().unwrap().len();
    file.set_len(length / 2).unwrap();
    file.write_all(b"x").unwrap();
    assert_eq!(Table::open(file, Arc::default()).map(drop).unwrap_err().kind(), io::ErrorKind::InvalidData);

    // A page that is damaged ends reading with an error, after the rows before it.
    use std::os::unix::fs::FileExt;
    let file = flat();
    file.write_all_at(&[0xff; 40], 4).unwrap();
    let table = table(file);
    assert!(table.records(|_| true).unwrap().unwrap().next(&mut Vec::new()).is_err());
}
