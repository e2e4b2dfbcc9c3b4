//! `export.parquet.vs_copy_csv`: rows a second of `arx-sidecar export` to Parquet, and of psql's
//! `\copy` of the same tables to CSV.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arx_stack::process::run;

use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::in_turn;

/// Name of the case.
pub const CASE: &str = "export.parquet.vs_copy_csv";

/// Queries of the peer, with the columns of the export.
const TABLES: [(&str, &str); 5] = [
    (
        "transactions",
        "SELECT network, tx_hash, block_number, transaction_index, \"timestamp\", from_address, to_address, value, value_usd, \
         gas_used, gas_price, status, metadata, block_hash FROM arx.transactions",
    ),
    (
        "internal_transfers",
        "SELECT network, tx_hash, position, is_ordered, block_number, transaction_index, \"timestamp\", from_address, \
         to_address, value, value_usd, kind, succeeded, trace_path, block_hash FROM arx.internal_transfers",
    ),
    (
        "token_transfers",
        "SELECT network, tx_hash, log_index, block_number, \"timestamp\", token_address, from_address, to_address, amount, \
         token_id, value_usd FROM arx.token_transfers",
    ),
    ("wallet_profiles", "SELECT * FROM arx.wallet_profiles"),
    ("address_labels", "SELECT * FROM arx.address_labels"),
];

/// Runs the measurement.
///
/// # Errors
/// When a side fails, or exports other rows.
pub fn measure(real: &Real<'_>, folder: &Path, runs: usize) -> Result<Measurement> {
    let folder = folder.join("export");
    std::fs::create_dir_all(&folder)?;
    let transactions: u64 = real.database.query("SELECT count(*) FROM arx.transactions")?.parse()?;
    let mut stored: u64 = 0;
    for (_, query) in TABLES {
        stored += real.database.query(&format!("SELECT count(*) FROM ({query}) AS t"))?.parse::<u64>()?;
    }
    let (mut ours_bytes, mut peer_bytes) = (0, 0);
    let medians = in_turn(
        runs,
        |run| {
            let (rate, bytes) = parquet(real, &folder.join(format!("parquet-{run}")), transactions)?;
            ours_bytes = bytes;
            Ok(rate)
        },
        |_| {
            let (rate, bytes) = csv(real, &folder, stored)?;
            peer_bytes = bytes;
            Ok(rate)
        },
    )?;
    std::fs::remove_dir_all(&folder)?;
    let megabytes = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
    let setting = format!(
        "{transactions} transactions of {} with their wallets and labels, in a month a partition; {:.0} MB of Parquet, \
         compressed by Zstandard and with checksums, against {:.0} MB of CSV that psql writes, {runs} runs each.",
        real.name,
        megabytes(ours_bytes),
        megabytes(peer_bytes)
    );
    Ok(Measurement::new(CASE, medians, "rows/s", true).against("COPY to CSV", setting))
}

/// Returns rows per second, and the size of the files.
fn parquet(real: &Real<'_>, folder: &Path, transactions: u64) -> Result<(f64, u64)> {
    let mut command = real.database.sidecar()?;
    command.args(["export", "--format", "parquet", "--json"]).arg(folder);
    let start = Instant::now();
    let report = run(&mut command)?;
    let seconds = start.elapsed().as_secs_f64();
    let report: serde_json::Value = serde_json::from_str(&report).context("read the report")?;
    let number = |name: &str| report[name].as_u64().with_context(|| format!("{name} is missing in {report}"));
    let (rows, bytes) = (number("rows")?, number("bytes")?);
    ensure!(rows >= transactions, "the export has {rows} rows of {transactions} transactions");
    std::fs::remove_dir_all(folder)?;
    Ok((rows as f64 / seconds, bytes))
}

fn csv(real: &Real<'_>, folder: &Path, rows: u64) -> Result<(f64, u64)> {
    let mut psql = real.database.psql();
    let mut files = Vec::new();
    for (table, query) in TABLES {
        let file = folder.join(format!("{table}.csv"));
        let path = file.display().to_string().replace('\'', "''");
        psql.args(["-c", &format!("\\copy ({query}) TO '{path}' WITH (FORMAT csv)")]);
        files.push(file);
    }
    let start = Instant::now();
    run(&mut psql)?;
    let seconds = start.elapsed().as_secs_f64();
    let mut bytes = 0;
    for file in files {
        bytes += std::fs::metadata(&file)?.len();
        std::fs::remove_file(file)?;
    }
    Ok((rows as f64 / seconds, bytes))
}
