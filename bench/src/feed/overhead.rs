//! `feed.source_overhead`: what the feed costs those who write into PostgreSQL.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack};

use super::daemon::{Daemon, LIMIT, ensure_this_month};
use crate::graph::Runs;
use crate::report::Measurement;
use crate::timing::in_turn;

/// The case.
pub const CASE: &str = "feed.source_overhead";

/// Who inserts, and how long a run.
const CLIENTS: u32 = 2;
const SECONDS: u32 = 10;

/// One row a transaction, each with a hash of its own, among 5,000 wallets.
const SCRIPT: &str = "\\set a random(1, 9223372036854775806)\n\\set b random(1, 9223372036854775806)\n\
     \\set sender random(1, 5000)\n\\set receiver random(1, 5000)\n\
     INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, gas_used, gas_price, status) \
     VALUES ('ethereum', '0x' || lpad(to_hex(:a::bigint), 32, '0') || lpad(to_hex(:b::bigint), 32, '0'), 1, now(), \
             '0x' || lpad(to_hex(:sender::bigint), 40, '0'), '0x' || lpad(to_hex(:receiver::bigint), 40, '0'), 0.5, 21000, 20000000000, \
             'confirmed');\n";

/// Something that has not been fed: the daemon shows by it that it is at work.
const MARKER: &str = "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, value) \
     VALUES ('ethereum', 'marker' || gen_random_uuid(), 0, now(), '0x0000000000000000000000000000000000000001', 0)";

/// Whether everything has come back: volumes, and the behaviour of wallets, which comes last.
const BACK: &str = "SELECT (SELECT count(*) FROM arx.transactions) = (SELECT coalesce(sum(transaction_count), 0) FROM arx.hourly_volume) \
     AND (SELECT count(DISTINCT consumer) FROM arx.feed_positions WHERE attempt >= \
          (SELECT 2 * max(confirmed) FROM arx.feed_positions WHERE consumer = 'clickhouse') AND consumer <> 'clickhouse') >= 2";

/// The measurement.
///
/// # Errors
/// When an insert fails, or what was inserted does not arrive.
pub fn measure(stack: &Stack, runs: Runs) -> Result<Measurement> {
    let database = stack.database("source_overhead")?;
    ensure_this_month(&database)?;
    let script = stack.folder().join("insert.sql");
    std::fs::write(&script, SCRIPT).with_context(|| format!("write {}", script.display()))?;
    // fills the caches of both
    inserts(stack, &database, &script)?;

    let with = |_| {
        database.query(MARKER)?;
        let daemon = Daemon::start(stack, &database)?;
        // what the daemon was not there to carry is no cost of a feed that is at work
        let is_level = wait_until(LIMIT, || Ok(database.query(BACK)? == "t"))?;
        ensure!(is_level, "the daemon has not written back within {LIMIT:?}");
        let rate = inserts(stack, &database, &script)?;
        daemon.stop()?;
        Ok(rate)
    };
    let medians = in_turn(runs.fast, with, |_| inserts(stack, &database, &script))?;

    run(database.sidecar()?.arg("sync"))?;
    let held = database.query("SELECT count(*) FROM arx.transactions")?;
    let arrived = database.query("SELECT sum(transaction_count) FROM arx.hourly_volume")?;
    ensure!(held == arrived, "of {held} transactions {arrived} came back");
    let setting = format!(
        "`pgbench` with {CLIENTS} clients, {SECONDS} s a run, {} runs: one row into `arx.transactions` a transaction, with `arx-sidecar run` and its \
         embedded engine at work on the same machine, against nobody but the clients. {held} rows in all; all arrived in ClickHouse.",
        runs.fast
    );
    database.drop_now()?;
    Ok(Measurement::new(CASE, medians, "inserts/s", true).against("the same without a feed", setting))
}

/// Inserts a second.
fn inserts(stack: &Stack, database: &Database<'_>, script: &Path) -> Result<f64> {
    let mut pgbench = stack.cluster().program("pgbench");
    pgbench.args(["--no-vacuum", "--protocol=prepared"]);
    pgbench.args([format!("--client={CLIENTS}"), format!("--time={SECONDS}"), format!("--file={}", script.display())]);
    let said = run(pgbench.arg(database.name()))?;
    transactions_a_second(&said)
}

fn transactions_a_second(said: &str) -> Result<f64> {
    ensure!(!said.contains("failed transactions:") || said.contains("failed transactions: 0 "), "pgbench says: {said}");
    let line =
        said.lines().find_map(|line| line.strip_prefix("tps = ")).with_context(|| format!("pgbench says: {said}"))?;
    let number = line.split(' ').next().unwrap_or_default();
    number.parse().with_context(|| format!("read pgbench's {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::transactions_a_second;

    #[test]
    fn the_rate_is_read_and_failures_are_none() {
        let said = "number of failed transactions: 0 (0.000%)\ntps = 1234.500000 (without initial connection time)\n";
        assert_eq!(transactions_a_second(said).unwrap(), 1234.5);
        assert!(transactions_a_second(&said.replace(": 0 (0.000%)", ": 7 (0.100%)")).is_err());
        assert!(transactions_a_second("pgbench: error").is_err());
    }
}
