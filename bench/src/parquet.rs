//! `import.parquet.vs_csv`: rows a second that `arx-sidecar import --check` reads and validates,
//! from Parquet and from the same rows in ethereum-etl's CSV. A check of a network without rows
//! reads a file as an import does and loads nothing: an import itself takes as long as PostgreSQL
//! takes for the rows, whatever their format.
//!
//! `import.memory_peak`: the memory that the import of 10 million rows of Parquet takes at most,
//! from the start to the last commit, against 256 MB.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arx_stack::process::run;
use arx_stack::{Database, Stack};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::data::{DataSource, PreparedData};
use crate::report::Measurement;
use crate::timing::in_turn;

/// Names of the cases.
pub const SPEED: &str = "import.parquet.vs_csv";
pub const MEMORY: &str = "import.memory_peak";

/// Rows of a row group, as warehouses write them.
const GROUP_ROWS: usize = 250_000;

/// Rows, wallets and times of the large file.
const MANY_ROWS: u64 = 10_000_000;
const WALLETS: u64 = 1_000_000;
const FIRST_TIME: i64 = 1_577_836_800;
const SECONDS_A_ROW: i64 = 6;
const SEED: u64 = 11;

/// The bound of the peak.
const MAX_BYTES: f64 = 256.0 * 1024.0 * 1024.0;
const POLL: Duration = Duration::from_millis(20);

/// Columns as warehouses export them: texts, whole numbers, a time and a decimal.
const EXPORT: &str = "message transactions {
    required binary hash (UTF8);
    required int64 block_number;
    required int64 transaction_index;
    required binary from_address (UTF8);
    optional binary to_address (UTF8);
    required fixed_len_byte_array(16) value (DECIMAL(38,0));
    required int64 gas_price;
    required int64 block_timestamp (TIMESTAMP_MICROS);
    required int64 receipt_gas_used;
    required int64 receipt_status;
}";

/// Columns as programs that read nodes write them: names as bytes.
const EXTRACT: &str = "message transactions {
    required binary transaction_hash;
    required int64 block_number;
    required int64 transaction_index;
    required binary from_address;
    required binary to_address;
    required fixed_len_byte_array(16) value (DECIMAL(38,0));
    required int64 gas_price;
    required int64 timestamp;
    required int64 gas_used;
    required int64 success;
}";

/// Measures the reading of Parquet.
///
/// # Errors
/// When a side fails or does not read every row.
pub fn measure(stack: &Stack, source: &DataSource, data: &PreparedData, runs: usize) -> Result<Measurement> {
    let file = data.etl.with_extension("parquet");
    write_export(&data.etl, &file).context("write Parquet")?;
    let database = stack.database("parquet")?;
    let medians = in_turn(runs, |_| check(&database, &file, data.rows), |_| check(&database, &data.etl, data.rows))?;
    let setting = format!(
        "{} rows of {}, read and validated by `arx-sidecar import transactions --check`, {runs} runs each. Parquet has \
         texts, numbers, times and a decimal in row groups of {GROUP_ROWS} rows, compressed by Snappy. The end of an import \
         is not part of it: PostgreSQL takes as long for rows of either format.",
        data.rows,
        source.name()
    );
    Ok(Measurement::new(SPEED, medians, "rows/s", true).against("ethereum-etl's CSV", setting))
}

/// Returns the rows per second of a check.
fn check(database: &Database<'_>, file: &Path, rows: u64) -> Result<f64> {
    let mut command = database.sidecar()?;
    command.args(["import", "transactions", "--check", "--json"]).arg(file);
    command.arg("--rejects").arg(file.with_extension("rejects"));
    let start = Instant::now();
    let report = run(&mut command)?;
    let seconds = start.elapsed().as_secs_f64();
    let report: serde_json::Value = serde_json::from_str(&report).context("read the report")?;
    ensure!(report["imported"] == rows && report["complete"] == true, "the check reports {report}");
    Ok(rows as f64 / seconds)
}

/// Writes the rows of ethereum-etl's CSV as Parquet.
fn write_export(csv: &Path, file: &Path) -> Result<()> {
    let mut reader = csv::Reader::from_path(csv)?;
    let mut writer = create(file, EXPORT)?;
    let mut rows = reader.records();
    loop {
        let group: Vec<csv::StringRecord> = rows.by_ref().take(GROUP_ROWS).collect::<Result<_, _>>()?;
        if group.is_empty() {
            break;
        }
        let text = |index: usize| group.iter().map(move |row| row.get(index).unwrap_or_default());
        let bytes = |index| text(index).filter(|text| !text.is_empty()).map(ByteArray::from).collect::<Vec<_>>();
        let numbers = |index: usize, factor: i64| -> Result<Vec<i64>> {
            text(index).map(|text| Ok(text.parse::<i64>()? * factor)).collect()
        };
        let values: Vec<FixedLenByteArray> = text(5).map(|text| Ok(decimal(text.parse()?))).collect::<Result<_>>()?;
        let levels: Vec<i16> = text(4).map(|text| i16::from(!text.is_empty())).collect();
        let mut columns = writer.next_row_group()?;
        column::<ByteArrayType>(&mut columns, &bytes(0), None)?;
        column::<Int64Type>(&mut columns, &numbers(1, 1)?, None)?;
        column::<Int64Type>(&mut columns, &numbers(2, 1)?, None)?;
        column::<ByteArrayType>(&mut columns, &bytes(3), None)?;
        column::<ByteArrayType>(&mut columns, &bytes(4), Some(&levels))?;
        column::<FixedLenByteArrayType>(&mut columns, &values, None)?;
        column::<Int64Type>(&mut columns, &numbers(6, 1)?, None)?;
        column::<Int64Type>(&mut columns, &numbers(7, 1_000_000)?, None)?;
        column::<Int64Type>(&mut columns, &numbers(8, 1)?, None)?;
        column::<Int64Type>(&mut columns, &numbers(9, 1)?, None)?;
        columns.close()?;
    }
    writer.close()?;
    Ok(())
}

/// Measures the peak of the memory.
///
/// # Errors
/// When the file cannot be written, or not every row is imported.
pub fn memory(stack: &Stack) -> Result<Measurement> {
    let file = stack.folder().join("many.parquet");
    write_many(&file).context("write Parquet")?;
    let database = stack.database("memory_peak")?;
    let last = FIRST_TIME + SECONDS_A_ROW * MANY_ROWS.cast_signed();
    database.query(&format!(
        "SELECT arx.ensure_partitions('arx.transactions', to_timestamp({FIRST_TIME}), to_timestamp({last}))"
    ))?;
    let mut command = database.sidecar()?;
    command.args(["import", "transactions"]).arg(&file).arg("--rejects").arg(file.with_extension("rejects"));
    let peak = peak_of(&mut command)?;
    let loaded = database.query("SELECT count(*) FROM arx.transactions")?;
    ensure!(loaded == MANY_ROWS.to_string(), "{loaded} rows of {MANY_ROWS} were imported");
    let bytes = std::fs::metadata(&file)?.len();
    database.drop_now()?;
    std::fs::remove_file(&file)?;
    let megabytes = |bytes: f64| bytes / (1024.0 * 1024.0);
    let setting = format!(
        "the peak of `VmHWM` of `arx-sidecar import transactions` for {MANY_ROWS} rows of {WALLETS} wallets, {:.0} MB of \
         Parquet, into an empty `arx.transactions`, 1 run.",
        megabytes(bytes as f64)
    );
    let medians = (megabytes(peak as f64), megabytes(MAX_BYTES));
    Ok(Measurement::new(MEMORY, medians, "MB", false).against("a bound of 256 MB", setting))
}

/// Runs a command and returns the peak of its resident memory, in bytes.
fn peak_of(command: &mut Command) -> Result<u64> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("start the import")?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        // The peak never falls, so that only growth within the last interval is missed.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kilobytes = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = kilobytes.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        peak = kilobytes.map_or(peak, |kilobytes| kilobytes * 1024);
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "the import ended with {status}");
            ensure!(peak > 0, "the memory of the import could not be read");
            return Ok(peak);
        }
        std::thread::sleep(POLL);
    }
}

/// Writes the large file.
fn write_many(file: &Path) -> Result<()> {
    let mut writer = create(file, EXTRACT)?;
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut wallets = fastrand::Rng::with_seed(SEED);
    let wallets: Vec<[u8; 20]> = (0..WALLETS).map(|_| std::array::from_fn(|_| wallets.u8(..))).collect();
    let mut first = 0;
    while first < MANY_ROWS {
        let rows = first..(first + GROUP_ROWS as u64).min(MANY_ROWS);
        let all = |value: i64| vec![value; GROUP_ROWS];
        let mut columns = writer.next_row_group()?;
        let hashes: Vec<ByteArray> =
            rows.clone().map(|_| (0..32).map(|_| random.u8(..)).collect::<Vec<u8>>().into()).collect();
        column::<ByteArrayType>(&mut columns, &hashes, None)?;
        let blocks: Vec<i64> = rows.clone().map(|row| (row / 2).cast_signed()).collect();
        column::<Int64Type>(&mut columns, &blocks, None)?;
        let indexes: Vec<i64> = rows.clone().map(|row| (row % 2).cast_signed()).collect();
        column::<Int64Type>(&mut columns, &indexes, None)?;
        for _ in 0..2 {
            let ends = rows.clone().map(|_| random.usize(..wallets.len())).filter_map(|wallet| wallets.get(wallet));
            let ends: Vec<ByteArray> = ends.map(|wallet| wallet.to_vec().into()).collect();
            column::<ByteArrayType>(&mut columns, &ends, None)?;
        }
        let values: Vec<FixedLenByteArray> = rows.clone().map(|_| decimal(random.u64(..).into())).collect();
        column::<FixedLenByteArrayType>(&mut columns, &values, None)?;
        column::<Int64Type>(&mut columns, &all(20_000_000_000), None)?;
        let times: Vec<i64> = blocks.iter().map(|block| FIRST_TIME + block * 2 * SECONDS_A_ROW).collect();
        column::<Int64Type>(&mut columns, &times, None)?;
        column::<Int64Type>(&mut columns, &all(21_000), None)?;
        column::<Int64Type>(&mut columns, &all(1), None)?;
        columns.close()?;
        first = rows.end;
    }
    writer.close()?;
    Ok(())
}

fn create(file: &Path, schema: &str) -> Result<SerializedFileWriter<File>> {
    let schema = Arc::new(parse_message_type(schema)?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let file = File::create(file).with_context(|| format!("create {}", file.display()))?;
    Ok(SerializedFileWriter::new(file, schema, Arc::new(properties))?)
}

/// Writes the next column of a row group.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<()> {
    let mut column = group.next_column()?.context("the schema has no further column")?;
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()?;
    Ok(())
}

fn decimal(units: i128) -> FixedLenByteArray {
    units.to_be_bytes().to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rows_are_written_as_parquet() {
        let folder = std::env::temp_dir().join(format!("arx-bench-parquet-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (csv, file) = (folder.join("rows.csv"), folder.join("rows.parquet"));
        std::fs::write(&csv, "a,b,c,d,e,f,g,h,i,j\nx,1,2,y,,5,6,7,8,1\nz,1,2,y,w,5,6,7,8,1\n").unwrap();
        write_export(&csv, &file).unwrap();
        let reader = parquet::file::reader::SerializedFileReader::new(File::open(&file).unwrap()).unwrap();
        let rows = parquet::record::reader::RowIter::from_file_into(Box::new(reader));
        let rows: Vec<String> = rows.map(|row| row.unwrap().to_string()).collect();
        assert_eq!(rows.len(), 2);
        assert!(rows[0].contains("hash: \"x\"") && rows[0].contains("to_address: null"), "{rows:?}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
