//! `wallet_history.vs_or_query`: the newest hundred transactions of a busy wallet, by
//! `arx.wallet_history()` and by the specification's query, both prepared on one warm connection.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio_postgres::{Client, Statement};

use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::{in_turn_async, median};

/// Calls per run: enough that a single slow call has no effect.
const CALLS: usize = 20;

const OURS: &str = "SELECT tx_hash, \"timestamp\", value, gas_used FROM arx.wallet_history($1, 'ethereum', NULL, 100)";

const PEER: &str = "SELECT tx_hash, \"timestamp\", value, gas_used FROM arx.transactions \
     WHERE from_address = $1 OR to_address = $1 ORDER BY \"timestamp\" DESC LIMIT 100";

/// Runs the measurement.
///
/// # Errors
/// When a query fails, or the results differ.
pub async fn measure(real: &Real<'_>, runs: usize) -> Result<Measurement> {
    let client = real.database.connect().await?;
    let row = client
        .query_one(
            "SELECT address, count(*) FROM (SELECT from_address AS address FROM arx.transactions UNION ALL \
             SELECT to_address FROM arx.transactions WHERE to_address IS NOT NULL AND to_address <> from_address) AS t \
             GROUP BY address ORDER BY count(*) DESC, address LIMIT 1",
            &[],
        )
        .await
        .context("find the busiest wallet")?;
    let (wallet, transactions): (String, i64) = (row.get(0), row.get(1));

    let (ours, peer) = (client.prepare(OURS).await?, client.prepare(PEER).await?);
    ensure_equal(&client, &ours, &peer, &wallet).await?;
    let medians = in_turn_async(
        runs,
        async |_| call(&client, &ours, &wallet).await,
        async |_| call(&client, &peer, &wallet).await,
    )
    .await?;
    let setting =
        format!("wallet {wallet} with {transactions} of {}, warm, {runs} runs with {CALLS} calls each.", real.name);
    Ok(Measurement::new("wallet_history.vs_or_query", medians, "ms a call", false)
        .against("the specification's OR query", setting))
}

/// Compares the times of both results. Hashes may differ where times are equal.
async fn ensure_equal(client: &Client, ours: &Statement, peer: &Statement, wallet: &str) -> Result<()> {
    let mut answers = Vec::new();
    for statement in [ours, peer] {
        let rows = client.query(statement, &[&wallet]).await?;
        let times: Vec<std::time::SystemTime> = rows.iter().map(|row| row.get(1)).collect();
        answers.push(times);
    }
    ensure!(answers.first() == answers.last(), "wallet_history and the OR query differ for {wallet}");
    Ok(())
}

/// Returns the median milliseconds of [`CALLS`] calls, after three that warm the caches.
async fn call(client: &Client, statement: &Statement, wallet: &str) -> Result<f64> {
    let mut times = Vec::new();
    for number in 0..CALLS + 3 {
        let start = Instant::now();
        client.query(statement, &[&wallet]).await?;
        if number >= 3 {
            times.push(start.elapsed().as_secs_f64() * 1000.0);
        }
    }
    median(&times)
}
