//! `graph.tiny_neighbourhood.vs_prepared_pairs` and
//! `graph.first_question_after_10k.vs_plain_index`: small questions, where what a call costs before
//! it searches counts most.

use anyhow::{Context, Result, ensure};
use tokio_postgres::Row;

use super::dense::address;
use super::edges::edge_tables;
use super::side::{StatementSide, ensure_same, session};
use super::upkeep::NEW_ROWS;
use super::{Runs, load};
use crate::report::Measurement;
use crate::sets::{DENSE_TRANSFERS, Dense};
use crate::timing::{in_turn_async, median, millis};

const OURS: &str = "SELECT depth, wallets FROM arx.wallet_reach($1, 'ethereum', 2, totals => false)";

const PAIRS: &str = "WITH RECURSIVE walk(wallet, depth) AS ( \
         SELECT $1::integer, 0 \
         UNION \
         SELECT e.target, w.depth + 1 FROM walk AS w JOIN peer.edges AS e ON e.source = w.wallet WHERE w.depth < 2) \
     SELECT depth, count(*) FROM (SELECT wallet, min(depth) AS depth FROM walk GROUP BY wallet) AS found \
      GROUP BY depth ORDER BY depth";

const PLAIN: &str = "WITH RECURSIVE walk(wallet, depth) AS ( \
         SELECT $1::text, 0 \
         UNION \
         SELECT t.to_address, w.depth + 1 FROM walk AS w \
           JOIN arx.transactions AS t ON t.from_address = w.wallet AND t.network = 'ethereum' AND t.to_address IS NOT NULL \
            AND t.status <> 'failed' \
          WHERE w.depth < 2) \
     SELECT depth, count(*) FROM (SELECT wallet, min(depth) AS depth FROM walk GROUP BY wallet) AS found \
      GROUP BY depth ORDER BY depth";

/// Calls of each side per run, which are short.
const SHORT_CALLS: usize = 200;

/// Wallets of which the median one is asked about.
const SAMPLE: u32 = 101;

fn level(row: &Row) -> Result<(i32, i64)> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Returns the wallet that reaches the median number of others within two hops, of a sample of all
/// ranks, and that number.
fn median_wallet(dense: &Dense<'_>) -> Result<(u32, i64)> {
    let wallets = dense.csr.wallets();
    let reached = |wallet: u32| -> i64 { dense.csr.reach(wallet, 2).iter().map(|(_, wallets)| wallets).sum() };
    let mut sample: Vec<(i64, u32)> = (0..SAMPLE)
        .map(|number| number * (wallets / SAMPLE) + wallets / (2 * SAMPLE))
        .map(|wallet| (reached(wallet), wallet))
        .filter(|(reached, _)| *reached > 1)
        .collect();
    sample.sort_unstable();
    let (reached, wallet) = *sample.get(sample.len() / 2).context("no wallet of the sample is a sender")?;
    Ok((wallet, reached))
}

/// `graph.tiny_neighbourhood.vs_prepared_pairs`.
///
/// # Errors
/// When a call fails, or the answers differ.
pub async fn neighbourhood(dense: &Dense<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&dense.database, "").await?;
    let (wallet, reached) = median_wallet(dense)?;
    let edges = edge_tables(&client, dense).await?;
    let ours = StatementSide::prepare(&client, OURS, vec![vec![Box::new(address(wallet))]], SHORT_CALLS).await?;
    let peer = StatementSide::prepare(&client, PAIRS, vec![vec![Box::new(wallet.cast_signed())]], SHORT_CALLS).await?;
    let expected = ours.answers(level).await?;
    ensure_same(&peer, &expected, level).await?;
    // The first calls plan, until PostgreSQL decides for a generic plan.
    ours.run().await?;
    peer.run().await?;
    let medians = in_turn_async(runs.fast, async |_| ours.run().await, async |_| peer.run().await).await?;
    let setting = format!(
        "{}; from the sender of rank {wallet}, which reaches the median number of wallets within two hops: {reached}, \
         including itself; equal counts by depth. The peer reads an indexed table of the {edges} distinct pairs of integers, \
         which was made before the clock started and does not follow new rows. Both prepared, {} runs of {SHORT_CALLS} calls.",
        dense.name, runs.fast
    );
    Ok(Measurement::new("graph.tiny_neighbourhood.vs_prepared_pairs", medians, "ms a call", false)
        .against("a recursive CTE over integer pairs", setting))
}

/// `graph.first_question_after_10k.vs_plain_index`. Adds rows to the table.
///
/// # Errors
/// When a call fails, or the answers differ.
pub async fn first_question(dense: &mut Dense<'_>, runs: Runs) -> Result<Measurement> {
    let (client, writer) = (session(&dense.database, "").await?, session(&dense.database, "").await?);
    let peers = session(&dense.database, "").await?;
    let (wallet, reached) = median_wallet(dense)?;
    let ours = StatementSide::prepare(&client, OURS, vec![vec![Box::new(address(wallet))]], 1).await?;
    let peer = StatementSide::prepare(&peers, PLAIN, vec![vec![Box::new(address(wallet))]], 1).await?;
    for _ in 0..10 {
        ours.run().await?;
        peer.run().await?;
    }
    let (mut our_times, mut peer_times) = (Vec::new(), Vec::new());
    for run in 0..runs.fast {
        let rows = dense.later.by_ref().take(NEW_ROWS);
        let loaded = load::copy(&writer, "arx.transactions", rows, DENSE_TRANSFERS).await?;
        ensure!(loaded == NEW_ROWS as u64, "{loaded} of {NEW_ROWS} rows were loaded");
        let timed = async |side: &StatementSide| -> Result<f64> {
            let start = std::time::Instant::now();
            side.run().await?;
            Ok(millis(start))
        };
        if run % 2 == 0 {
            our_times.push(timed(&ours).await?);
            peer_times.push(timed(&peer).await?);
        } else {
            peer_times.push(timed(&peer).await?);
            our_times.push(timed(&ours).await?);
        }
        ensure_same(&peer, &ours.answers(level).await?, level).await?;
        super::upkeep::refresh_graph(&writer, false).await?;
        ours.run().await?;
    }
    let setting = format!(
        "{}; from the sender of rank {wallet}, depth 2, {reached} wallets before the first run; equal counts by depth. \
         Before each of {} runs another session commits {NEW_ROWS} rows; the first question after that is timed, on warm \
         sessions with prepared statements. The peer reads the index on senders.",
        dense.name, runs.fast
    );
    let medians = (median(&our_times)?, median(&peer_times)?);
    Ok(Measurement::new("graph.first_question_after_10k.vs_plain_index", medians, "ms", false)
        .against("a recursive CTE over the table", setting))
}
