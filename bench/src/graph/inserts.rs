//! `graph.insert_overhead.vs_plain_table`: how much ARX slows a writer.

use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use arx_stack::Stack;
use bytes::Bytes;
use tokio_postgres::Client;

use super::dense::{COLUMNS, DenseTransfers};
use super::side::session;
use super::{Runs, load};
use crate::report::Measurement;
use crate::timing::median;

/// Rows of a batch, which is one COPY in one transaction.
const BATCH: usize = 10_000;
/// Batches of a run.
const BATCHES: usize = 20;
const WALLETS: u32 = 200_000;
/// Number of rows that fills the months. The batches of a run proceed through them.
const WHOLE: u64 = 2_000_000;

/// Creates tables with the columns, constraints, indexes and months of `arx.transactions`, without
/// its triggers and outside the extension: one with ARX's stamp of each row, one without.
const PLAIN: &str = "CREATE SCHEMA stamped; CREATE SCHEMA unstamped; \
     CREATE TABLE stamped.transactions (LIKE arx.transactions INCLUDING ALL) PARTITION BY RANGE (\"timestamp\"); \
     CREATE TABLE unstamped.transactions (LIKE arx.transactions INCLUDING ALL) PARTITION BY RANGE (\"timestamp\"); \
     ALTER TABLE unstamped.transactions DROP COLUMN ingest_xid; \
     DO $$ DECLARE month record; place text; BEGIN \
       FOR month IN SELECT * FROM arx.partition_status WHERE relation = 'arx.transactions' LOOP \
         FOREACH place IN ARRAY ARRAY['stamped', 'unstamped'] LOOP \
           EXECUTE format('CREATE TABLE %I.%I PARTITION OF %I.transactions %s', place, split_part(month.partition, '.', 2), place, \
             CASE WHEN month.is_default THEN 'DEFAULT' \
                  ELSE format('FOR VALUES FROM (%L) TO (%L)', month.range_from, month.range_to) END); \
         END LOOP; \
       END LOOP; \
     END $$";

const TABLES: [&str; 3] = ["arx.transactions", "stamped.transactions", "unstamped.transactions"];

/// Runs the measurement.
///
/// # Errors
/// When a row is rejected, or the tables differ.
pub async fn measure(stack: &Stack, runs: Runs) -> Result<Measurement> {
    let database = stack.database("insert_overhead")?;
    load::ensure_months(&database)?;
    let client = session(&database, "").await?;
    client.batch_execute(PLAIN).await.context("create the plain tables")?;

    let mut transfers = DenseTransfers::new(5, WALLETS);
    let mut rates: [Vec<f64>; TABLES.len()] = Default::default();
    for run in 0..runs.fast {
        // Generated before the clock starts.
        let batches: Vec<Bytes> = (0..BATCHES).map(|_| load::text(transfers.by_ref().take(BATCH), WHOLE)).collect();
        // The order of the tables changes from run to run.
        for turn in 0..TABLES.len() {
            let side = (run + turn) % TABLES.len();
            rates[side].push(insert(&client, TABLES[side], &batches).await?);
        }
    }
    ensure_equal(&client).await?;
    let [ours, stamped, unstamped] = rates;
    let (ours, stamped, unstamped) = (median(&ours)?, median(&stamped)?, median(&unstamped)?);
    let setting = format!(
        "COPY of {BATCHES} batches of {BATCH} rows, one transaction each, over {} monthly partitions; {} runs, the same \
         rows on both sides. The peer is made by `LIKE arx.transactions INCLUDING ALL`: the same columns, with the stamp \
         `ingest_xid`, and indexes, but no triggers and no extension. A table without the stamp and its index takes \
         {unstamped:.0} rows/s, which gives a ratio of {:.2}.",
        super::upkeep::partitions(&client).await?,
        runs.fast,
        ours / unstamped,
    );
    database.drop_now()?;
    Ok(Measurement::new("graph.insert_overhead.vs_plain_table", (ours, stamped), "rows/s", true)
        .against("a plain partitioned table", setting))
}

async fn insert(client: &Client, table: &str, batches: &[Bytes]) -> Result<f64> {
    let start = Instant::now();
    let into = format!("{table} ({COLUMNS})");
    let mut rows = 0;
    for batch in batches {
        rows += load::copy_text(client, &into, std::iter::once(batch.clone())).await?;
    }
    Ok(rows as f64 / start.elapsed().as_secs_f64())
}

async fn ensure_equal(client: &Client) -> Result<()> {
    let mut totals: Vec<(i64, String)> = Vec::new();
    for table in TABLES {
        let row = client.query_one(&format!("SELECT count(*), sum(value)::text FROM {table}"), &[]).await?;
        totals.push((row.get(0), row.get(1)));
    }
    let first = totals.first().ok_or_else(|| anyhow!("no table was filled"))?;
    ensure!(totals.iter().all(|total| total == first), "the tables differ: {totals:?}");
    Ok(())
}
