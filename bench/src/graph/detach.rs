//! `graph.partition_detached.vs_full_rebuild`: the first question after a month was detached.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arx_stack::Stack;

use super::side::{StatementSide, session};
use super::{Runs, upkeep};
use crate::report::Measurement;
use crate::timing::{median, millis};

const ROWS: i64 = 1_000_000;
pub(crate) const WALLETS: i64 = 100_000;
pub(crate) const MONTHS: i64 = 60;

const OURS: &str = "SELECT depth, wallets, transfers FROM arx.wallet_reach('0x' || lpad('7', 40, '0'), 'ethereum', 1)";

/// Loads rows of all months, without the indexes that neither side uses.
pub(crate) fn fill(rows: i64) -> String {
    format!(
        "SELECT arx.ensure_partitions('arx.transactions', '2020-01-01', '2024-12-31'); \
         ALTER TABLE arx.transactions DROP CONSTRAINT transactions_pkey; \
         DROP INDEX arx.idx_transactions_hash; DROP INDEX arx.idx_transactions_from_addr; DROP INDEX arx.idx_transactions_to_addr; \
         INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status) \
         SELECT 'ethereum', 't' || n, n, '2020-01-01'::timestamptz + n * (interval '1826 days' / {rows}), \
                '0x' || lpad((n * 7919 % {WALLETS})::text, 40, '0'), \
                '0x' || lpad((n * 104729 / 13 % {WALLETS})::text, 40, '0'), n % 1000, 'confirmed' \
           FROM generate_series(1::bigint, {rows}) AS n"
    )
}

/// Runs the measurement in a database of its own.
///
/// # Errors
/// When a statement fails, or the graph differs from the tables.
pub async fn measure(stack: &Stack, runs: Runs) -> Result<Measurement> {
    let database = stack.database("detached")?;
    database.query(&fill(ROWS))?;
    database.query("VACUUM ANALYZE arx.transactions")?;
    database.query("SELECT outcome FROM arx.refresh_graph(rebuild => true)")?;
    let (client, writer) = (session(&database, "").await?, session(&database, "").await?);
    ensure!(upkeep::partitions(&client).await? == MONTHS, "there are not {MONTHS} months");
    let side = StatementSide::prepare(&client, OURS, vec![vec![]], 1).await?;
    side.run().await?;
    let (mut detached, mut rebuilt, mut attached) = (Vec::new(), Vec::new(), Vec::new());
    let mut removed = 0_i64;
    for run in 0..runs.fast {
        let month = format!("2022-{:02}", run % 12 + 1);
        let name = format!("arx.transactions_{}", month.replace('-', "_"));
        removed = client.query_one(&format!("SELECT count(*) FROM {name}"), &[]).await?.get(0);
        writer.batch_execute(&format!("ALTER TABLE arx.transactions DETACH PARTITION {name}")).await?;
        let start = Instant::now();
        side.run().await?;
        detached.push(millis(start));
        rebuilt.push(upkeep::refresh_graph(&writer, true).await?.millis);
        side.run().await?;
        let attach = format!(
            "ALTER TABLE arx.transactions ATTACH PARTITION {name} \
             FOR VALUES FROM ('{month}-01') TO ('{}')",
            client
                .query_one(&format!("SELECT ('{month}-01'::date + interval '1 month')::date::text"), &[])
                .await?
                .get::<_, String>(0)
        );
        writer.batch_execute(&attach).await.context("attach the month")?;
        let start = Instant::now();
        side.run().await?;
        attached.push(millis(start));
    }
    let unequal: i64 = client.query_one("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal", &[]).await?.get(0);
    ensure!(unequal == 0, "the graph differs from the tables after the changes of partitions");
    let attached = median(&attached)?;
    database.drop_now()?;
    let setting = format!(
        "{ROWS} transfers of {WALLETS} wallets in {MONTHS} months; one month, of {removed} rows, is detached by another \
         session, {} runs. Ours is the first question of a warm session after that, which takes the month back; after the \
         month is attached again, the first question takes {attached:.1} ms. The peer is `refresh_graph(rebuild => true)`.",
        runs.fast
    );
    let medians = (median(&detached)?, median(&rebuilt)?);
    Ok(Measurement::new("graph.partition_detached.vs_full_rebuild", medians, "ms", false)
        .against("a full build", setting))
}
