//! `restore.dump_restore.vs_plain_tables`: the time of `pg_dump` and `pg_restore`. The peer is the
//! same database after `DROP EXTENSION arx CASCADE`: the same tables, rows and indexes, without the
//! triggers, constraints and functions of ARX.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use arx_stack::process::run;
use arx_stack::{Database, Stack};

use crate::data::{DataSource, PreparedData, TABLE_COLUMNS};
use crate::report::Measurement;
use crate::timing::in_turn;

const CASE: &str = "restore.dump_restore.vs_plain_tables";
const ROWS: &str = "SELECT count(*), sum(value) FROM arx.transactions";

/// Runs the measurement.
///
/// # Errors
/// When a program fails, reports an error, or restores other rows.
pub fn measure(stack: &Stack, source: &DataSource, data: &PreparedData, runs: usize) -> Result<Measurement> {
    let ours = stack.database("restore_ours")?;
    let (first, last) = data.times;
    ours.query(&format!(
        "SELECT arx.ensure_partitions('arx.transactions', to_timestamp({first}), to_timestamp({last}))"
    ))?;
    let file = data.table.display().to_string().replace('\'', "''");
    run(ours
        .psql()
        .args(["-c", &format!("\\copy arx.transactions ({TABLE_COLUMNS}) FROM '{file}' WITH (FORMAT csv)")]))?;
    ours.query("SELECT arx.refresh_wallet_profiles()")?;
    let plain = stack.copy_of(&ours, "restore_plain")?;
    plain.query("DROP EXTENSION arx CASCADE")?;
    let folder = data.table.parent().unwrap_or(Path::new("."));
    let medians = in_turn(
        runs,
        |_| dump_and_restore(stack, &ours, &folder.join("ours.dump")),
        |_| dump_and_restore(stack, &plain, &folder.join("plain.dump")),
    )?;
    let setting = format!(
        "`pg_dump -Fc` and `pg_restore -j2` of {} transactions of {} and their wallet profiles, {runs} runs each.",
        data.rows,
        source.name()
    );
    ours.drop_now()?;
    plain.drop_now()?;
    Ok(Measurement::new(CASE, medians, "s", false).against("the same tables without ARX", setting))
}

/// Returns the seconds that a dump and a restore take.
fn dump_and_restore(stack: &Stack, source: &Database<'_>, file: &Path) -> Result<f64> {
    let target = stack.bare_database("restore_target")?;
    let start = Instant::now();
    run(stack.cluster().program("pg_dump").args(["-Fc", "-Z1", "-d", source.name(), "-f"]).arg(file))?;
    run(stack.cluster().program("pg_restore").args(["-j2", "-e", "-d", target.name()]).arg(file))?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(target.query(ROWS)? == source.query(ROWS)?, "{} and its copy have other rows", source.name());
    target.drop_now()?;
    Ok(seconds)
}
