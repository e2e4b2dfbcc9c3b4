//! `graph.warm_call_k2`: a small query on a warm connection, compared with the shortest possible
//! round trip. `graph.first_call_of_a_session`: the same query as the first one of a connection.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arx_stack::Database;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::side::{StatementSide, session};
use super::{Runs, upkeep};
use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::{in_turn_async, millis};

/// PostgreSQL's own way to the same wallets.
const PLAIN: &str = "WITH RECURSIVE walk(wallet, depth) AS ( \
         SELECT $1::text, 0 \
         UNION \
         SELECT t.to_address, w.depth + 1 FROM walk AS w \
           JOIN arx.transactions AS t ON t.from_address = w.wallet AND t.network = 'ethereum' \
                                     AND t.to_address IS NOT NULL AND t.status <> 'failed' \
          WHERE w.depth < 2) \
     SELECT depth, count(*) FROM (SELECT wallet, min(depth) AS depth FROM walk GROUP BY wallet) AS found \
      GROUP BY depth ORDER BY depth";

const OURS: &str = "SELECT * FROM arx.wallet_reach($1, 'ethereum', 2)";

/// Number of monthly partitions.
const MONTHS: i32 = 120;

/// Calls per run, which are short.
const WARM_CALLS: usize = 500;

/// Selects wallets that sent the median number of transfers.
const MEDIAN_SENDERS: &str = "WITH senders AS MATERIALIZED ( \
         SELECT from_address, count(*) AS sent FROM arx.transactions \
          WHERE network = 'ethereum' AND to_address IS NOT NULL GROUP BY from_address) \
     SELECT from_address, sent FROM senders \
      WHERE sent = (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY sent) FROM senders) \
      ORDER BY md5(from_address) LIMIT 101";

/// Returns the one of these that reaches the median number of wallets: its address, the number of
/// sent transfers, and the number of wallets within two hops.
async fn median_wallet(client: &Client) -> Result<(String, i64, i64)> {
    let mut wallets: Vec<(i64, String, i64)> = Vec::new();
    for row in client.query(MEDIAN_SENDERS, &[]).await.context("find the median senders")? {
        let (wallet, sent): (String, i64) = (row.get(0), row.get(1));
        let reached = "SELECT sum(wallets)::bigint FROM arx.wallet_reach($1, 'ethereum', 2)";
        wallets.push((client.query_one(reached, &[&wallet]).await?.get(0), wallet, sent));
    }
    wallets.sort();
    let middle = wallets.len() / 2;
    let (reached, wallet, sent) = wallets.into_iter().nth(middle).context("no wallet is a sender")?;
    Ok((wallet, sent, reached))
}

/// Adds months to the table, and brings the graph up to date. Returns the number of months before
/// and after.
async fn add_months(real: &Real<'_>, client: &Client) -> Result<(i64, i64)> {
    let filled = upkeep::partitions(client).await?;
    let months = format!(
        "SELECT arx.ensure_partitions('arx.transactions', first, first + interval '{MONTHS} months' - interval '1 day') \
         FROM (SELECT min(range_from) AS first FROM arx.partition_status WHERE relation = 'arx.transactions') AS t"
    );
    real.database.query(&months)?;
    let partitions = upkeep::partitions(client).await?;
    ensure!(partitions >= i64::from(MONTHS), "there are only {partitions} months");
    upkeep::refresh_graph(client, false).await?;
    Ok((filled, partitions))
}

/// Measures the first call of a session. Adds empty months to the table.
///
/// # Errors
/// When a call fails, or the answers differ.
pub async fn first_call(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&real.database, "").await?;
    let (filled, partitions) = add_months(real, &client).await?;
    let (wallet, sent, reached) = median_wallet(&client).await?;
    let call = async |statement: &str| -> Result<(f64, Vec<(i32, i64)>)> {
        let client = session(&real.database, "").await?;
        let start = Instant::now();
        let rows = client.query_typed(statement, &[(&wallet, Type::TEXT)]).await.context("run a first call")?;
        let time = millis(start);
        Ok((time, rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_>>()?))
    };
    let (_, expected) = call(OURS).await?;
    let (_, answer) = call(PLAIN).await?;
    ensure!(answer == expected, "the answers differ: {expected:?} and {answer:?}");
    let ours = async |_| Ok(call(OURS).await?.0);
    let medians = in_turn_async(runs.fast, ours, async |_| Ok(call(PLAIN).await?.0)).await?;
    let setting = format!(
        "wallet {wallet} of {}, with {sent} sent transfers and {reached} wallets within two hops (including itself); \
         {partitions} monthly partitions, {filled} with rows. Each call is the first of a new session, {} runs; connecting \
         is not timed, loading the library is. Equal counts by depth.",
        real.name, runs.fast
    );
    Ok(Measurement::new("graph.first_call_of_a_session", medians, "ms", false)
        .against("a recursive CTE over the table", setting))
}

/// Runs the measurement. Adds empty months to the table.
///
/// # Errors
/// When a call fails.
pub async fn measure(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&real.database, "").await?;
    let (filled, partitions) = add_months(real, &client).await?;

    let (wallet, sent, reached) = median_wallet(&client).await?;
    let round_trip = StatementSide::prepare(&client, "SELECT 1", vec![vec![]], WARM_CALLS).await?;
    let current = StatementSide::prepare(&client, OURS, vec![vec![Box::new(wallet.clone())]], WARM_CALLS).await?;
    // The first calls plan, until PostgreSQL decides for a generic plan.
    current.run().await?;
    let quiet = current.run().await?;
    // As in a database with writers, every call has a new snapshot.
    let writer = session(&real.database, "").await?;
    let commit = async || writer.batch_execute("SELECT pg_current_xact_id()").await.context("commit a transaction");
    current.run_after(commit).await?;
    let ours = async |_| current.run_after(commit).await;
    let medians = in_turn_async(runs.fast, ours, async |_| round_trip.run_after(commit).await).await?;
    let from_base = on_base(&real.database, &wallet).await?;
    let setting = format!(
        "wallet {wallet} of {}, with {sent} sent transfers and {reached} wallets within two hops (including itself), both \
         the median; {partitions} monthly partitions, {filled} with rows; prepared, {} runs of {WARM_CALLS} calls. Another \
         session commits between two calls, so that each call asks every partition for new rows. Without writers since the \
         last call it takes {quiet:.3} ms; with `arx.graph_freshness = 'base'`, which never asks, {from_base:.3} ms.",
        real.name, runs.fast
    );
    Ok(Measurement::new("graph.warm_call_k2", medians, "ms a call", false).against("`SELECT 1`", setting))
}

/// Measures the same call without asking for new rows, after commits of another session.
async fn on_base(database: &Database<'_>, wallet: &str) -> Result<f64> {
    let (client, writer) = (session(database, "").await?, session(database, "").await?);
    // The setting exists once the library is loaded.
    client.batch_execute("SELECT state FROM arx.graph_status(); SET arx.graph_freshness = 'base'").await?;
    let side = StatementSide::prepare(&client, OURS, vec![vec![Box::new(wallet.to_owned())]], WARM_CALLS).await?;
    side.run().await?;
    side.run_after(async || writer.batch_execute("SELECT pg_current_xact_id()").await.context("commit a transaction"))
        .await
}
