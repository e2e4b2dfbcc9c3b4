//! `feed.verify.vs_full_compare`: a comparison that reads what changed since the last one.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arx_stack::Database;
use arx_stack::process::run;

use super::warehouse::Warehouse;
use crate::graph::Runs;
use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::{in_turn, median};

pub const CASE: &str = "feed.verify.vs_full_compare";

/// Rows that change between two comparisons.
const CHANGED: u32 = 1_000;

/// Runs the measurement. Changes prices of transactions.
///
/// # Errors
/// When a program fails, or finds a difference.
pub fn measure(warehouse: &Warehouse<'_>, real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    warehouse.load(true)?;
    verify(&real.database, &["--full"])?;
    let mut changed = Vec::new();
    let ours = |_| {
        // The newest rows, as when statuses and prices arrive.
        real.database.query(&format!(
            "UPDATE arx.transactions AS t SET value_usd = coalesce(t.value_usd, 0) + 1 \
               FROM (SELECT network, tx_hash, \"timestamp\" FROM arx.transactions ORDER BY \"timestamp\" DESC LIMIT {CHANGED}) AS n \
              WHERE t.network = n.network AND t.tx_hash = n.tx_hash AND t.\"timestamp\" = n.\"timestamp\""
        ))?;
        run(real.database.sidecar()?.arg("sync"))?;
        warehouse.settle()?;
        changed.push(verify(&real.database, &[])?);
        // Nothing was fed since.
        verify(&real.database, &[])
    };
    let medians = in_turn(runs.slow, ours, |_| verify(&real.database, &["--full"]))?;
    let setting = format!(
        "{}; the whole program in both cases, {} runs. Ours is `arx-sidecar verify` after a comparison in which both sides \
         were the same: it reads the hours and months that changed since, and every aggregate. After a pass with {CHANGED} \
         changed transactions of the last days it takes {:.2} s. The peer is `arx-sidecar verify --full`, which reads every \
         row on both sides.",
        real.name,
        runs.slow,
        median(&changed)?
    );
    Ok(Measurement::new(CASE, medians, "s", false).against("a comparison of all rows", setting))
}

/// Compares both sides, and returns the seconds that it took.
fn verify(database: &Database<'_>, arguments: &[&str]) -> Result<f64> {
    let start = Instant::now();
    let report = run(database.sidecar()?.arg("verify").args(arguments)).context("compare both sides")?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(report.contains("both sides are the same"), "the comparison reports: {report}");
    Ok(seconds)
}
