//! `feed.source_overhead`: how much the feed slows writers of PostgreSQL.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack};

use super::daemon::{Daemon, LIMIT, ensure_this_month};
use crate::graph::Runs;
use crate::report::Measurement;
use crate::timing::in_turn;

pub const CASE: &str = "feed.source_overhead";

const CLIENTS: u32 = 2;
const SECONDS: u32 = 10;

/// One row a transaction with a random hash, among 5,000 wallets.
const SCRIPT: &str = "\\set a random(1, 9223372036854775806)\n\\set b random(1, 9223372036854775806)\n\
     \\set sender random(1, 5000)\n\\set receiver random(1, 5000)\n\
     INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, gas_used, gas_price, status) \
     VALUES ('ethereum', '0x' || lpad(to_hex(:a::bigint), 32, '0') || lpad(to_hex(:b::bigint), 32, '0'), 1, now(), \
             '0x' || lpad(to_hex(:sender::bigint), 40, '0'), '0x' || lpad(to_hex(:receiver::bigint), 40, '0'), 0.5, 21000, 20000000000, \
             'confirmed');\n";

/// A row to carry, by which the daemon shows that it works.
const MARKER: &str = "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, value) \
     VALUES ('ethereum', 'marker' || gen_random_uuid(), 0, now(), '0x0000000000000000000000000000000000000001', 0)";

/// True when everything has been written back: volumes, and the behaviour of wallets, which is
/// last.
const WRITTEN_BACK: &str = "SELECT (SELECT count(*) FROM arx.transactions) = (SELECT coalesce(sum(transaction_count), 0) FROM arx.hourly_volume) \
     AND (SELECT count(DISTINCT consumer) FROM arx.feed_positions WHERE attempt >= \
          (SELECT 2 * max(confirmed) FROM arx.feed_positions WHERE consumer = 'clickhouse') AND consumer <> 'clickhouse') >= 2";

/// Runs the measurement.
///
/// # Errors
/// When an insert fails, or an inserted row does not arrive.
pub fn measure(stack: &Stack, runs: Runs) -> Result<Measurement> {
    let database = stack.database("source_overhead")?;
    ensure_this_month(&database)?;
    let script = stack.folder().join("insert.sql");
    std::fs::write(&script, SCRIPT).with_context(|| format!("write {}", script.display()))?;
    // Warm the caches for both sides.
    inserts(stack, &database, &script)?;

    let with = |_| {
        database.query(MARKER)?;
        let daemon = Daemon::start(stack, &database)?;
        // Carrying the rows of earlier runs is not a cost of a running feed.
        let is_level = wait_until(LIMIT, || Ok(database.query(WRITTEN_BACK)? == "t"))?;
        ensure!(is_level, "the daemon has not written back within {LIMIT:?}");
        let rate = inserts(stack, &database, &script)?;
        daemon.stop()?;
        Ok(rate)
    };
    let medians = in_turn(runs.fast, with, |_| inserts(stack, &database, &script))?;

    run(database.sidecar()?.arg("sync"))?;
    let rows = database.query("SELECT count(*) FROM arx.transactions")?;
    let arrived = database.query("SELECT sum(transaction_count) FROM arx.hourly_volume")?;
    ensure!(rows == arrived, "{arrived} of {rows} transactions were written back");
    let setting = format!(
        "`pgbench` with {CLIENTS} clients, {SECONDS} s a run, {} runs: one row into `arx.transactions` per transaction, with \
         `arx-sidecar run` and its embedded engine on the same machine, compared with the clients alone. {rows} rows \
         in total; all arrived in ClickHouse.",
        runs.fast
    );
    database.drop_now()?;
    Ok(Measurement::new(CASE, medians, "inserts/s", true).against("the same without a feed", setting))
}

/// Runs pgbench and returns the inserts per second.
fn inserts(stack: &Stack, database: &Database<'_>, script: &Path) -> Result<f64> {
    let mut pgbench = stack.cluster().program("pgbench");
    pgbench.args(["--no-vacuum", "--protocol=prepared"]);
    pgbench.args([format!("--client={CLIENTS}"), format!("--time={SECONDS}"), format!("--file={}", script.display())]);
    transactions_per_second(&run(pgbench.arg(database.name()))?)
}

fn transactions_per_second(output: &str) -> Result<f64> {
    let failed = output.contains("failed transactions:") && !output.contains("failed transactions: 0 ");
    ensure!(!failed, "transactions failed: {output}");
    let line = output.lines().find_map(|line| line.strip_prefix("tps = "));
    let line = line.with_context(|| format!("pgbench reports no rate: {output}"))?;
    let number = line.split(' ').next().unwrap_or_default();
    number.parse().with_context(|| format!("parse the line {line:?} of pgbench"))
}

#[cfg(test)]
mod tests {
    use super::transactions_per_second;

    #[test]
    fn failed_transactions_are_an_error() {
        let output = "number of failed transactions: 0 (0.000%)\ntps = 1234.500000 (without initial connection time)\n";
        assert_eq!(transactions_per_second(output).unwrap(), 1234.5);
        assert!(transactions_per_second(&output.replace(": 0 (0.000%)", ": 7 (0.100%)")).is_err());
        assert!(transactions_per_second("pgbench: error").is_err());
    }
}
