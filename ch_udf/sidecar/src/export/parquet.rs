//! Encodes rows of COPY's binary form as Parquet, by columns. Texts are slices of the messages and
//! are not copied; a row group bounds the memory.

use std::io;
use std::sync::Arc;

use arx_pgwire::EPOCH_UNIX_MICROS;
use arx_pgwire::copy::{Fields, int8};
use arx_pgwire::numeric::decode_wire;
use bytes::Bytes;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as PhysicalType, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type};

use super::files::{PartFile, malformed};
use super::tables::{Column, Kind};

/// A row group ends after this number of rows, or of bytes.
const GROUP_ROWS: usize = 122_880;
const GROUP_BYTES: usize = 48 << 20;

/// Bytes of a decimal with 38 digits.
const DECIMAL_BYTES: usize = 16;

/// Decimals of coins and of dollars.
const COIN_SCALE: u32 = 18;
const DOLLAR_SCALE: u32 = 2;

pub(super) struct ParquetSink {
    writer: SerializedFileWriter<PartFile>,
    columns: Vec<Buffer>,
    rows: usize,
    bytes: usize,
}

/// The values of a column in the current row group.
struct Buffer {
    kind: Kind,
    is_required: bool,
    /// 1 for a value, 0 for NULL; unused for a required column.
    levels: Vec<i16>,
    values: Values,
}

enum Values {
    Texts(Vec<ByteArray>),
    Numbers(Vec<i64>),
    Booleans(Vec<bool>),
    /// Decimals one after the other.
    Decimals(Vec<u8>),
}

impl ParquetSink {
    pub(super) fn create(file: PartFile, columns: &[Column]) -> io::Result<Self> {
        let fields = columns.iter().map(|column| field(column).map(Arc::new)).collect::<Result<Vec<_>, _>>();
        let schema = fields.and_then(|fields| Type::group_type_builder("arx").with_fields(fields).build());
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(failed)?))
            .set_created_by(format!("arx-sidecar version {}", env!("CARGO_PKG_VERSION")))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .set_write_batch_size(8_192);
        for column in columns {
            let path = ColumnPath::from(column.name);
            if matches!(column.kind, Kind::Name | Kind::Coins) {
                properties = properties.set_column_dictionary_enabled(path.clone(), false);
            }
            // Readers skip row groups by time and by block.
            if matches!(column.kind, Kind::Time | Kind::Integer) {
                properties = properties.set_column_statistics_enabled(path, EnabledStatistics::Chunk);
            }
        }
        let schema = Arc::new(schema.map_err(failed)?);
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).map_err(failed)?;
        Ok(Self { writer, columns: columns.iter().map(Buffer::new).collect(), rows: 0, bytes: 0 })
    }

    /// Adds a tuple.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a malformed tuple, and errors of the file.
    pub(super) fn push(&mut self, tuple: &Bytes) -> io::Result<()> {
        let mut fields = Fields::of_tuple(tuple).map_err(malformed)?;
        for column in &mut self.columns {
            column.push(fields.nullable().map_err(malformed)?, tuple)?;
        }
        self.rows += 1;
        self.bytes += tuple.len();
        if self.rows >= GROUP_ROWS || self.bytes >= GROUP_BYTES { self.flush() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> io::Result<PartFile> {
        self.flush()?;
        self.writer.into_inner().map_err(failed)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        (self.rows, self.bytes) = (0, 0);
        let mut group = self.writer.next_row_group().map_err(failed)?;
        for column in &mut self.columns {
            column.write(&mut group).map_err(failed)?;
        }
        group.close().map_err(failed)?;
        Ok(())
    }
}

impl Buffer {
    fn new(column: &Column) -> Self {
        let values = match column.kind {
            Kind::Text | Kind::Name | Kind::Json => Values::Texts(Vec::new()),
            Kind::Integer | Kind::Time => Values::Numbers(Vec::new()),
            Kind::Boolean => Values::Booleans(Vec::new()),
            Kind::Coins | Kind::Dollars => Values::Decimals(Vec::new()),
        };
        Self { kind: column.kind, is_required: column.is_required, levels: Vec::new(), values }
    }

    fn push(&mut self, value: Option<&[u8]>, tuple: &Bytes) -> io::Result<()> {
        let Some(raw) = value else {
            if self.is_required {
                return Err(malformed(arx_pgwire::PgWireError::UnexpectedNull));
            }
            self.levels.push(0);
            return Ok(());
        };
        if !self.is_required {
            self.levels.push(1);
        }
        match &mut self.values {
            Values::Texts(values) => values.push(ByteArray::from(tuple.slice_ref(raw))),
            Values::Numbers(values) => {
                let number = int8(raw).map_err(malformed)?;
                values.push(match self.kind {
                    // Infinite times stay the largest and the smallest ones.
                    Kind::Time => number.saturating_add(EPOCH_UNIX_MICROS),
                    _ => number,
                });
            }
            Values::Booleans(values) => values.push(raw.first().is_some_and(|byte| *byte != 0)),
            Values::Decimals(values) => {
                let scale = if self.kind == Kind::Dollars { DOLLAR_SCALE } else { COIN_SCALE };
                let units = decode_wire(raw, scale).map_err(malformed)?;
                let units = i128::try_from(units).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                values.extend_from_slice(&units.to_be_bytes());
            }
        }
        Ok(())
    }

    /// Writes and removes the values.
    fn write(&mut self, group: &mut SerializedRowGroupWriter<'_, PartFile>) -> Result<(), ParquetError> {
        let levels = (!self.is_required).then_some(self.levels.as_slice());
        match &mut self.values {
            Values::Texts(values) => write::<ByteArrayType>(group, values, levels)?,
            Values::Numbers(values) => write::<Int64Type>(group, values, levels)?,
            Values::Booleans(values) => write::<BoolType>(group, values, levels)?,
            Values::Decimals(bytes) => {
                let bytes = Bytes::from(std::mem::take(bytes));
                let starts = (0..bytes.len()).step_by(DECIMAL_BYTES);
                let decimals = starts.map(|start| ByteArray::from(bytes.slice(start..start + DECIMAL_BYTES)).into());
                let mut decimals: Vec<FixedLenByteArray> = decimals.collect();
                write::<FixedLenByteArrayType>(group, &mut decimals, levels)?;
            }
        }
        self.levels.clear();
        Ok(())
    }
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, PartFile>,
    values: &mut Vec<T::T>,
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("the schema has no further column".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(values, levels, None)?;
    values.clear();
    column.close()
}

fn field(column: &Column) -> Result<Type, ParquetError> {
    let (physical, logical) = match column.kind {
        Kind::Text | Kind::Name => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Json => (PhysicalType::BYTE_ARRAY, Some(LogicalType::Json)),
        Kind::Integer => (PhysicalType::INT64, None),
        Kind::Time => (PhysicalType::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        Kind::Boolean => (PhysicalType::BOOLEAN, None),
        Kind::Coins => (PhysicalType::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::decimal(18, 38))),
        Kind::Dollars => (PhysicalType::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::decimal(2, 20))),
    };
    let repetition = if column.is_required { Repetition::REQUIRED } else { Repetition::OPTIONAL };
    let builder = Type::primitive_type_builder(column.name, physical).with_repetition(repetition);
    let builder = match column.kind {
        Kind::Coins => builder.with_length(DECIMAL_BYTES as i32).with_precision(38).with_scale(COIN_SCALE as i32),
        Kind::Dollars => builder.with_length(DECIMAL_BYTES as i32).with_precision(20).with_scale(DOLLAR_SCALE as i32),
        _ => builder,
    };
    builder.with_logical_type(logical).build()
}

/// Returns the error of the file that is the cause, if there is one.
fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => *cause,
            Err(cause) => io::Error::other(cause),
        },
        error => io::Error::other(error),
    }
}
