//! `graph.build.vs_copy_out` and `graph.refresh_10k.vs_full_build`: the cost of building and
//! refreshing the graph's file.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use super::side::session;
use super::{Runs, load};
use crate::report::Measurement;
use crate::sets::{DENSE_TRANSFERS, Dense};
use crate::timing::{in_turn_async, median, millis};

/// New rows between two refreshes.
pub const NEW_ROWS: usize = 10_000;

/// Reads the columns of a transaction that the graph reads.
const COPY_OUT: &str = "COPY (SELECT network, from_address, to_address, \"timestamp\", value, block_number, transaction_index, \
     status, ingest_xid FROM arx.transactions) TO STDOUT (FORMAT binary)";

/// Result of a refresh.
#[derive(Debug)]
pub struct RefreshResult {
    /// `merged`, `built`, ….
    pub outcome: String,
    pub merged_rows: i64,
    pub transfers: i64,
    pub wallets: i64,
    pub file_bytes: i64,
    /// Duration measured by the client.
    pub millis: f64,
}

/// Calls `refresh_graph`.
///
/// # Errors
/// When it fails.
pub async fn refresh_graph(client: &Client, rebuild: bool) -> Result<RefreshResult> {
    let sql = "SELECT outcome, merged_rows, transfers, wallets, file_bytes FROM arx.refresh_graph(rebuild => $1)";
    let statement = client.prepare(sql).await?;
    let start = Instant::now();
    let row = client.query_one(&statement, &[&rebuild]).await.context("refresh the graph")?;
    let millis = millis(start);
    Ok(RefreshResult {
        outcome: row.get(0),
        merged_rows: row.get(1),
        transfers: row.get(2),
        wallets: row.get(3),
        file_bytes: row.get(4),
        millis,
    })
}

/// Compares the graph with the tables.
async fn ensure_verified(client: &Client) -> Result<()> {
    let rows = client.query("SELECT network, asset FROM arx.verify_graph() WHERE NOT equal", &[]).await?;
    ensure!(rows.is_empty(), "the graph differs from the tables after all refreshes");
    Ok(())
}

/// `graph.build.vs_copy_out`.
///
/// # Errors
/// When a side fails, or the file differs from the table.
pub async fn build(dense: &Dense<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&dense.database, "").await?;
    let rows: i64 = client.query_one("SELECT count(*) FROM arx.transactions", &[]).await?.get(0);
    let ours = async |_| {
        let built = refresh_graph(&client, true).await?;
        ensure!(built.transfers == rows, "the file contains {} of {rows} transfers", built.transfers);
        Ok(built.millis)
    };
    let peer = async |_| {
        let start = Instant::now();
        load::copy_out(&client, COPY_OUT).await?;
        Ok(millis(start))
    };
    let medians = in_turn_async(runs.fast, ours, peer).await?;
    ensure_verified(&client).await?;
    let setting = format!(
        "{} in {} partitions, warm, {} runs. Ours reads the table, sorts both directions and writes its file. The peer sends \
         the columns that the graph reads to a client that discards them.",
        dense.name,
        partitions(&client).await?,
        runs.fast
    );
    Ok(Measurement::new("graph.build.vs_copy_out", medians, "ms", false)
        .against("`COPY … TO STDOUT (FORMAT binary)`", setting))
}

/// Returns the number of monthly partitions of `arx.transactions`.
///
/// # Errors
/// When the query fails.
pub async fn partitions(client: &Client) -> Result<i64> {
    let sql = "SELECT count(*) FROM arx.partition_status WHERE relation = 'arx.transactions' AND NOT is_default";
    Ok(client.query_one(sql, &[]).await.context("count the partitions")?.get(0))
}

/// `graph.refresh_10k.vs_full_build`. Adds rows to the table.
///
/// # Errors
/// When a side fails, or the file differs from the table.
pub async fn refresh(dense: &mut Dense<'_>, runs: Runs) -> Result<Measurement> {
    let (client, writer) = (session(&dense.database, "").await?, session(&dense.database, "").await?);
    let (mut merges, mut builds) = (Vec::new(), Vec::new());
    for _ in 0..runs.fast {
        let rows = dense.later.by_ref().take(NEW_ROWS);
        load::copy(&writer, "arx.transactions", rows, DENSE_TRANSFERS).await?;
        let merged = refresh_graph(&client, false).await?;
        ensure!(
            merged.merged_rows == NEW_ROWS as i64,
            "the refresh ({}) merged {} rows of {NEW_ROWS}",
            merged.outcome,
            merged.merged_rows
        );
        let built = refresh_graph(&client, true).await?;
        ensure!(
            built.transfers == merged.transfers,
            "the merged file contains {} transfers, the rebuilt one {}",
            merged.transfers,
            built.transfers
        );
        merges.push(merged.millis);
        builds.push(built.millis);
    }
    // The last step is a merge, so that the verified file is a merged one.
    let rows = dense.later.by_ref().take(NEW_ROWS);
    load::copy(&writer, "arx.transactions", rows, DENSE_TRANSFERS).await?;
    refresh_graph(&client, false).await?;
    ensure_verified(&client).await?;
    let setting = format!(
        "{NEW_ROWS} new rows in the newest month of {}, then `refresh_graph()`, then `refresh_graph(rebuild => true)`; {} runs. \
         The merged file was compared with the table row by row.",
        dense.name, runs.fast
    );
    let medians = (median(&merges)?, median(&builds)?);
    Ok(Measurement::new("graph.refresh_10k.vs_full_build", medians, "ms", false).against("a full build", setting))
}
