//! `graph.warm_call_k2`: a small question over a warm connection, held against the least that a round trip can be. Most of ours
//! is asking every month's index what is new.

use anyhow::{Context, Result, ensure};
use arx_stack::Database;
use tokio_postgres::Client;

use super::side::{Side, session};
use super::{Runs, upkeep};
use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::in_turn_async;

const OURS: &str = "SELECT * FROM arx.wallet_reach($1, 'ethereum', 2)";

/// Months that the table is given.
const MONTHS: i32 = 120;

/// Calls a run: they are short.
const WARM_CALLS: usize = 500;

/// Some of the wallets that sent the median number of transfers.
const MEDIAN_SENDERS: &str = "WITH senders AS MATERIALIZED ( \
         SELECT from_address, count(*) AS sent FROM arx.transactions \
          WHERE network = 'ethereum' AND to_address IS NOT NULL GROUP BY from_address) \
     SELECT from_address, sent FROM senders \
      WHERE sent = (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY sent) FROM senders) \
      ORDER BY md5(from_address) LIMIT 101";

/// Of those the one that reaches the median number of wallets: its address, transfers sent, wallets within two hops.
async fn median_wallet(client: &Client) -> Result<(String, i64, i64)> {
    let mut wallets: Vec<(i64, String, i64)> = Vec::new();
    for row in client.query(MEDIAN_SENDERS, &[]).await.context("find the median senders")? {
        let (wallet, sent): (String, i64) = (row.get(0), row.get(1));
        let reached = "SELECT sum(wallets)::bigint FROM arx.wallet_reach($1, 'ethereum', 2)";
        wallets.push((client.query_one(reached, &[&wallet]).await?.get(0), wallet, sent));
    }
    wallets.sort();
    let middle = wallets.len() / 2;
    let (reached, wallet, sent) = wallets.into_iter().nth(middle).context("no wallet has sent anything")?;
    Ok((wallet, sent, reached))
}

/// The measurement. Adds empty months to the table.
///
/// # Errors
/// When a call fails.
pub async fn measure(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&real.database, "").await?;
    let filled = upkeep::partitions(&client).await?;
    let months = format!(
        "SELECT arx.ensure_partitions('arx.transactions', first, first + interval '{MONTHS} months' - interval '1 day') \
         FROM (SELECT min(range_from) AS first FROM arx.partition_status WHERE relation = 'arx.transactions') AS t"
    );
    real.database.query(&months)?;
    let partitions = upkeep::partitions(&client).await?;
    ensure!(partitions >= i64::from(MONTHS), "there are only {partitions} months");
    upkeep::refresh_graph(&client, false).await?;

    let (wallet, sent, reached) = median_wallet(&client).await?;
    let least = Side::prepare(&client, "SELECT 1", vec![vec![]], WARM_CALLS).await?;
    let exact = Side::prepare(&client, OURS, vec![vec![Box::new(wallet.clone())]], WARM_CALLS).await?;
    // the first calls plan, and find that a generic plan will do
    exact.run().await?;
    let quiet = exact.run().await?;
    // as in a database that is written to: every call has a snapshot that the one before had not
    let writer = session(&real.database, "").await?;
    let commit = async || writer.batch_execute("SELECT pg_current_xact_id()").await.context("commit something");
    exact.run_after(commit).await?;
    let ours = async |_| exact.run_after(commit).await;
    let medians = in_turn_async(runs.fast, ours, async |_| least.run_after(commit).await).await?;
    let base = on_base(&real.database, &wallet).await?;
    let setting = format!(
        "wallet {wallet}, which sent {sent} and reaches {reached} wallets within two hops (itself included), the median on both \
         counts, of {}, in {partitions} monthly partitions of which {filled} hold rows; prepared, {} runs of {WARM_CALLS} calls. \
         Between two calls another session commits, so that each call asks every partition what is new. Where nobody has written \
         since the last call, it takes {quiet:.3} ms; with `arx.graph_freshness = 'base'`, which never asks, {base:.3} ms.",
        real.name, runs.fast
    );
    Ok(Measurement::new("graph.warm_call_k2", medians, "ms a call", false).against("`SELECT 1`", setting))
}

/// The same call without asking what is new, after another session's commits.
async fn on_base(database: &Database<'_>, wallet: &str) -> Result<f64> {
    let (client, writer) = (session(database, "").await?, session(database, "").await?);
    // known once the library is loaded
    client.batch_execute("SELECT state FROM arx.graph_status(); SET arx.graph_freshness = 'base'").await?;
    let side = Side::prepare(&client, OURS, vec![vec![Box::new(wallet.to_owned())]], WARM_CALLS).await?;
    side.run().await?;
    side.run_after(async || writer.batch_execute("SELECT pg_current_xact_id()").await.context("commit something")).await
}
