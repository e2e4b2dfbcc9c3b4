//! `graph.hub_after_price_update.vs_before`: a busy wallet after a column that the graph does not
//! have was updated in many of its rows.

use anyhow::{Context, Result, ensure};

use super::side::{StatementSide, session};
use super::{CALLS, Runs, hubs};
use crate::report::Measurement;
use crate::sets::Dense;
use crate::timing::in_turn_async;

/// Rows that are updated, of the busiest wallet.
const UPDATED_ROWS: i64 = 20_000;

const UPDATE: &str = "UPDATE arx.transactions AS t SET value_usd = coalesce(t.value_usd, 0) + 1 \
     FROM (SELECT u.ctid AS place, u.tableoid AS part FROM arx.transactions AS u WHERE u.from_address = ANY ($1) LIMIT $2) AS u \
    WHERE t.ctid = u.place AND t.tableoid = u.part";

const OURS: &str = "SELECT depth, wallets, transfers, total_value::text FROM arx.wallet_reach($1, 'ethereum', 1)";

/// Measures the same call before and after, in turn with updates between.
///
/// # Errors
/// When a call fails, or an answer changes.
pub async fn price_update(dense: &Dense<'_>, runs: Runs) -> Result<Measurement> {
    let (client, writer) = (session(&dense.database, "").await?, session(&dense.database, "").await?);
    let hubs = hubs(&writer).await?;
    let hub = hubs.first().context("there is no hub")?.clone();
    super::upkeep::refresh_graph(&client, false).await?;
    let side = StatementSide::prepare(&client, OURS, vec![vec![Box::new(hub.clone())]], CALLS).await?;
    let read = |row: &tokio_postgres::Row| {
        Ok((
            row.try_get::<_, i32>(0)?,
            row.try_get::<_, i64>(1)?,
            row.try_get::<_, i64>(2)?,
            row.try_get::<_, String>(3)?,
        ))
    };
    let before = side.answers(read).await?;
    let mut updated = 0;
    let ours = async |_| {
        updated = writer.execute(UPDATE, &[&hubs, &UPDATED_ROWS]).await.context("update prices")?;
        // The first call reads what was written.
        ensure!(side.answers(read).await? == before, "the answer differs after the update");
        side.run().await
    };
    // A merge would hide what the changes leave behind.
    let quiet = session(&dense.database, "").await?;
    let fresh = StatementSide::prepare(&quiet, OURS, vec![vec![Box::new(hub.clone())]], CALLS).await?;
    let peer = async |_| {
        super::upkeep::refresh_graph(&quiet, false).await?;
        fresh.run().await?;
        fresh.run().await
    };
    let medians = in_turn_async(runs.fast, ours, peer).await?;
    let setting = format!(
        "wallet {hub} of {}, depth 1, {} runs of {CALLS} calls. Another session has set `value_usd` in {updated} rows of the \
         {} busiest wallets before each run of ours; the call that reads that is not timed. The peer is the same call right \
         after a refresh.",
        dense.name,
        runs.fast,
        hubs.len()
    );
    Ok(Measurement::new("graph.hub_after_price_update.vs_before", medians, "ms a call", false)
        .against("the same call before the update", setting))
}
