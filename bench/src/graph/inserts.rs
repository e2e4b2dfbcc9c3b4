//! `graph.insert_overhead.vs_plain_table`: what ARX costs a writer.

use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use arx_stack::Stack;
use bytes::Bytes;
use tokio_postgres::Client;

use super::dense::{COLUMNS, Transfers};
use super::side::session;
use super::{Runs, load};
use crate::report::Measurement;
use crate::timing::median;

/// Rows a batch; a batch is a COPY and a transaction of its own.
const BATCH: usize = 10_000;
/// Batches a run.
const BATCHES: usize = 20;
/// Senders and receivers.
const WALLETS: u32 = 200_000;
/// Rows that fill the months, so that a run's batches go on through them.
const WHOLE: u64 = 2_000_000;

/// Tables with the columns, constraints, indexes and months of `arx.transactions`, without its triggers and outside the
/// extension: one with the stamp that ARX gives each row, one without.
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

/// The measurement.
///
/// # Errors
/// When a row is refused, or the tables do not hold the same.
pub async fn measure(stack: &Stack, runs: Runs) -> Result<Measurement> {
    let database = stack.database("insert_overhead")?;
    load::ensure_months(&database)?;
    let client = session(&database, "").await?;
    client.batch_execute(PLAIN).await.context("make the plain tables")?;

    let mut transfers = Transfers::new(5, WALLETS);
    let mut rates: [Vec<f64>; TABLES.len()] = Default::default();
    for run in 0..runs.fast {
        // made before the clock starts
        let batches: Vec<Bytes> = (0..BATCHES).map(|_| load::text(transfers.by_ref().take(BATCH), WHOLE)).collect();
        // who goes first changes from run to run
        for turn in 0..TABLES.len() {
            let side = (run + turn) % TABLES.len();
            rates[side].push(insert(&client, TABLES[side], &batches).await?);
        }
    }
    ensure_equal(&client).await?;
    let [ours, stamped, unstamped] = rates;
    let (ours, stamped, unstamped) = (median(&ours)?, median(&stamped)?, median(&unstamped)?);
    let setting = format!(
        "COPY of {BATCHES} batches of {BATCH} rows, a transaction each, over {} monthly partitions; {} runs, the same rows on both \
         sides. The peer is made by `LIKE arx.transactions INCLUDING ALL`: the same columns, the stamp `ingest_xid` among them, \
         and indexes, but no triggers and no extension. A table without the stamp and its index takes {unstamped:.0} rows/s: \
         against that one the ratio is {:.2}.",
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
    let mut held: Vec<(i64, String)> = Vec::new();
    for table in TABLES {
        let row = client.query_one(&format!("SELECT count(*), sum(value)::text FROM {table}"), &[]).await?;
        held.push((row.get(0), row.get(1)));
    }
    let first = held.first().ok_or_else(|| anyhow!("no table was filled"))?;
    ensure!(held.iter().all(|one| one == first), "the tables do not hold the same: {held:?}");
    Ok(())
}
