//! `wallet_history.vs_or_query`: the newest hundred transactions of a busy wallet, by `arx.wallet_history()` and by the query that
//! the specification gives. Both on one warm connection, prepared.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arx_tests::process::run;
use arx_tests::{Database, Stack};
use tokio_postgres::{Client, Statement};

use crate::data::Source;
use crate::report::Measurement;
use crate::timing::median;

/// Calls a run: enough that one slow call moves nothing.
const CALLS: usize = 20;

const OURS: &str = "SELECT tx_hash, \"timestamp\", value, gas_used FROM arx.wallet_history($1, 'ethereum', NULL, 100)";

const PEER: &str = "SELECT tx_hash, \"timestamp\", value, gas_used FROM arx.transactions \
     WHERE from_address = $1 OR to_address = $1 ORDER BY \"timestamp\" DESC LIMIT 100";

/// Loads the whole source and measures the case.
///
/// # Errors
/// When loading or a query fails, or when the two sides disagree.
pub async fn measure(stack: &Stack, source: &Source, runs: usize) -> Result<Measurement> {
    let database = stack.database("wallet_history")?;
    load(&database, source)?;
    let client = database.connect().await?;
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
    let total: i64 = client.query_one("SELECT count(*) FROM arx.transactions", &[]).await?.get(0);

    let (ours, peer) = (client.prepare(OURS).await?, client.prepare(PEER).await?);
    ensure_equal(&client, &ours, &peer, &wallet).await?;
    let (mut of_ours, mut of_peer) = (Vec::new(), Vec::new());
    for run in 0..runs {
        if run % 2 == 0 {
            of_ours.push(call(&client, &ours, &wallet).await?);
            of_peer.push(call(&client, &peer, &wallet).await?);
        } else {
            of_peer.push(call(&client, &peer, &wallet).await?);
            of_ours.push(call(&client, &ours, &wallet).await?);
        }
    }
    let setting = format!(
        "wallet {wallet} with {transactions} of {total} transactions of {}, warm, {runs} runs of {CALLS} calls each.",
        source.name()
    );
    Ok(Measurement::new("wallet_history.vs_or_query", (median(&of_ours)?, median(&of_peer)?), "ms a call", false)
        .against("the specification's OR query", setting))
}

fn load(database: &Database<'_>, source: &Source) -> Result<()> {
    let mut command = database.sidecar()?;
    match source {
        Source::Graph { transactions, nodes } => {
            command.args(["import", "graph", "--transactions"]).arg(transactions).arg("--nodes").arg(nodes)
        }
        Source::Sample(path) => command.args(["import", "transactions"]).arg(path),
    };
    std::fs::create_dir_all(database.data_folder()).context("create the sidecar's folder")?;
    run(command.arg("--rejects").arg(database.data_folder().join("rejects")))?;
    database.query("VACUUM ANALYZE arx.transactions").map(drop)
}

/// A fast wrong answer is no answer: both must give the same times and values (hashes may differ where times tie).
async fn ensure_equal(client: &Client, ours: &Statement, peer: &Statement, wallet: &str) -> Result<()> {
    let mut answers = Vec::new();
    for statement in [ours, peer] {
        let rows = client.query(statement, &[&wallet]).await?;
        let times: Vec<std::time::SystemTime> = rows.iter().map(|row| row.get(1)).collect();
        answers.push(times);
    }
    ensure!(answers.first() == answers.last(), "wallet_history and the OR query disagree on {wallet}");
    Ok(())
}

/// Median milliseconds of [`CALLS`] calls, after three that warm the caches.
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
