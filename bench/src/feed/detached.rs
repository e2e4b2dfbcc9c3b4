//! `feed.partition_detached.vs_full_load`: the pass after a month was detached.

use anyhow::{Context, Result, ensure};
use arx_stack::process::run;
use arx_stack::{Database, Stack};

use super::warehouse::Warehouse;
use crate::graph::Runs;
use crate::graph::detach::{MONTHS, WALLETS, fill};
use crate::report::Measurement;
use crate::timing::median;

pub const CASE: &str = "feed.partition_detached.vs_full_load";

const ROWS: i64 = 3_000_000;

/// Runs the measurement in a database of its own.
///
/// # Errors
/// When a pass fails, loads more or less than it should, or leaves other rows than PostgreSQL has.
pub fn measure(stack: &Stack, runs: Runs) -> Result<Measurement> {
    let database = stack.database("feed_detached")?;
    database.query(&fill(ROWS))?;
    database.query("VACUUM ANALYZE arx.transactions")?;
    let warehouse = Warehouse::start(stack, &database)?;
    let (mut loaded, mut detached, mut attached) = (Vec::new(), Vec::new(), Vec::new());
    let mut removed = 0_u64;
    for run in 0..runs.slow {
        let month = format!("2022-{:02}", run % 12 + 1);
        let name = format!("arx.transactions_{}", month.replace('-', "_"));
        warehouse.drop_database("arx")?;
        loaded.push(pass(&database, "loaded everything")?);
        warehouse.settle()?;
        removed = database.query(&format!("SELECT count(*) FROM {name}"))?.parse().context("count a month")?;
        database.query(&format!("ALTER TABLE arx.transactions DETACH PARTITION {name}"))?;
        detached.push(pass(&database, "1 ranges of partitions")?);
        let rows = warehouse.engine.query("SELECT count() FROM arx.transaction_events FINAL")?;
        ensure!(rows == (warehouse.rows - removed).to_string(), "ClickHouse has {rows} rows after a detach");
        warehouse.settle()?;
        database.query(&format!(
            "ALTER TABLE arx.transactions ATTACH PARTITION {name} FOR VALUES FROM ('{month}-01') \
             TO ('{}')",
            database.query(&format!("SELECT ('{month}-01'::date + interval '1 month')::date"))?
        ))?;
        attached.push(pass(&database, "1 ranges of partitions")?);
        warehouse.settle()?;
        warehouse.ensure_same("arx.transaction_events FINAL")?;
    }
    let attached = median(&attached)?;
    let setting = format!(
        "{ROWS} transfers of {WALLETS} wallets in {MONTHS} months; one month, of {removed} rows, is detached, {} runs. Times \
         are those of the passes, as `arx-sidecar sync` reports them, without what it writes back afterwards. Ours is the \
         pass after the month was detached, which takes its rows back and computes its aggregates again; the pass after it \
         was attached again takes {attached:.2} s. The peer is the first load of everything.",
        runs.slow
    );
    let medians = (median(&detached)?, median(&loaded)?);
    database.drop_now()?;
    Ok(Measurement::new(CASE, medians, "s", false).against("a full load", setting))
}

/// Runs `arx-sidecar sync`, whose report must contain a text, and returns the seconds of its pass.
fn pass(database: &Database<'_>, expected: &str) -> Result<f64> {
    let report = run(database.sidecar()?.arg("sync"))?;
    ensure!(report.contains(expected), "the pass reports: {report}");
    let (_, rest) = report.split_once(", in ").with_context(|| format!("no time in {report:?}"))?;
    let (seconds, _) = rest.split_once(" s;").with_context(|| format!("no time in {report:?}"))?;
    seconds.parse().with_context(|| format!("parse the time in {report:?}"))
}
