//! `import.copy.vs_psql_copy`: rows a second into `arx.transactions`, from ethereum-etl's CSV by
//! `arx-sidecar import`, and from a CSV of the table's columns by `psql \copy`. The monthly
//! partitions exist before the clock starts. The peer validates no addresses, rejects no rows and
//! cannot resume; ours does all of that within its time.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arx_stack::process::run;
use arx_stack::{Database, Stack};

use crate::data::{DataSource, PreparedData, TABLE_COLUMNS};
use crate::report::Measurement;
use crate::timing::in_turn;

/// Name of the case.
pub const COPY: &str = "import.copy.vs_psql_copy";

/// Runs the measurement.
///
/// # Errors
/// When a side fails or does not load every row.
pub fn measure(stack: &Stack, source: &DataSource, data: &PreparedData, runs: usize) -> Result<Measurement> {
    let medians = in_turn(runs, |run| ours(stack, data, run), |run| peer(stack, data, run))?;
    let setting = format!(
        "{} rows of {} into an empty `arx.transactions` with its indexes, {runs} runs each. The peer's CSV has the columns \
         of the table. On both sides the monthly partitions exist before the clock starts.",
        data.rows,
        source.name()
    );
    Ok(Measurement::new(COPY, medians, "rows/s", true).against("`psql \\copy`", setting))
}

/// Creates a database with the months of the data, which is the same for both sides.
fn prepared<'a>(stack: &'a Stack, data: &PreparedData, name: &str) -> Result<Database<'a>> {
    let database = stack.database(name)?;
    let (first, last) = data.times;
    database.query(&format!(
        "SELECT arx.ensure_partitions('arx.transactions', to_timestamp({first}), to_timestamp({last}))"
    ))?;
    Ok(database)
}

fn ours(stack: &Stack, data: &PreparedData, number: usize) -> Result<f64> {
    let database = prepared(stack, data, &format!("ours_{number}"))?;
    let rejects = data.etl.with_extension("rejects");
    let mut command = database.sidecar()?;
    command.args(["import", "transactions"]).arg(&data.etl).arg("--rejects").arg(rejects);
    let start = Instant::now();
    run(&mut command)?;
    rate(&database, data, start)
}

fn peer(stack: &Stack, data: &PreparedData, number: usize) -> Result<f64> {
    let database = prepared(stack, data, &format!("peer_{number}"))?;
    let copy = format!(
        "\\copy arx.transactions ({TABLE_COLUMNS}) FROM '{}' WITH (FORMAT csv)",
        data.table.display().to_string().replace('\'', "''")
    );
    let mut command = database.psql();
    command.args(["-c", &copy]);
    let start = Instant::now();
    run(&mut command)?;
    rate(&database, data, start)
}

/// Returns the rows per second since `start`, after a check of their number.
fn rate(database: &Database<'_>, data: &PreparedData, start: Instant) -> Result<f64> {
    let seconds = start.elapsed().as_secs_f64();
    let loaded: u64 = database.query("SELECT count(*) FROM arx.transactions")?.parse().context("count the rows")?;
    ensure!(loaded == data.rows, "{} has {loaded} rows after loading {}", database.name(), data.rows);
    let in_default = database.query("SELECT count(*) FROM arx.transactions_default")?;
    ensure!(in_default == "0", "{in_default} rows of {} are in the default partition", database.name());
    database.drop_now()?;
    Ok(data.rows as f64 / seconds)
}
