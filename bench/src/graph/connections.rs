//! `graph.top100_depth3_real` and `graph.all_rows_depth3_real`: reached wallets with strength and
//! rank, in the specification's columns. Both sides send their rows to the client.

use anyhow::Result;
use tokio_postgres::Row;

use super::side::{Question, Recursive, StatementSide, session};
use super::{CALLS, HUBS, Runs, hubs};
use crate::report::Measurement;
use crate::sets::Real;

const OURS: &str = "SELECT source, target, connection_strength, depth, strength_rank \
     FROM arx.wallet_connections($1, 'ethereum', 3)";

const OURS_TOP: &str = "SELECT source, target, connection_strength, depth, strength_rank \
     FROM arx.wallet_connections($1, 'ethereum', 3, top => 100)";

/// Finds wallets at their smallest depth, then the transfers from each depth to the next. `ranked`
/// has the specification's columns.
const RANKED: &str = "WITH RECURSIVE walk(wallet, depth) AS ( \
         SELECT $1::text, 0 \
         UNION \
         SELECT t.to_address, w.depth + 1 FROM walk AS w \
           JOIN arx.transactions AS t ON t.from_address = w.wallet AND t.network = 'ethereum' AND t.to_address IS NOT NULL \
            AND t.status <> 'failed' \
          WHERE w.depth < 3), \
     reached AS (SELECT wallet, min(depth) AS depth FROM walk GROUP BY wallet), \
     ranked AS ( \
         SELECT $1::text AS source, t.to_address AS target, count(*) AS connection_strength, n.depth, \
                rank() OVER (PARTITION BY n.depth ORDER BY count(*) DESC) AS strength_rank, \
                row_number() OVER (PARTITION BY n.depth ORDER BY count(*) DESC, t.to_address) AS place \
           FROM reached AS f \
           JOIN arx.transactions AS t ON t.from_address = f.wallet AND t.network = 'ethereum' AND t.status <> 'failed' \
           JOIN reached AS n ON n.wallet = t.to_address AND n.depth = f.depth + 1 \
          GROUP BY t.to_address, n.depth) \
     SELECT source, target, connection_strength, depth, strength_rank FROM ranked";

/// Target, strength, depth and rank.
type StrengthRow = (String, i64, i32, i64);

fn connection(row: &Row) -> Result<StrengthRow> {
    Ok((row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
}

/// `graph.top100_depth3_real.vs_recursive_cte`.
///
/// # Errors
/// When a call fails, or when the results differ.
pub async fn top100(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let peer = format!("{RANKED} WHERE place <= 100 ORDER BY depth, place");
    measure(real, runs, "graph.top100_depth3_real.vs_recursive_cte", OURS_TOP, &peer, "the 100 strongest of each depth")
        .await
}

/// `graph.all_rows_depth3_real.vs_recursive_cte`.
///
/// # Errors
/// When a call fails, or when the results differ.
pub async fn all_rows(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let peer = format!("{RANKED} ORDER BY depth, place");
    measure(real, runs, "graph.all_rows_depth3_real.vs_recursive_cte", OURS, &peer, "all wallets within three hops")
        .await
}

async fn measure(
    real: &Real<'_>,
    runs: Runs,
    case: &str,
    ours: &str,
    peer: &str,
    selection: &str,
) -> Result<Measurement> {
    let client = session(&real.database, "").await?;
    let wallets = hubs(&client).await?;
    let questions = || wallets.iter().map(|wallet| vec![Box::new(wallet.clone()) as _]).collect::<Vec<Question>>();
    let ours = StatementSide::prepare(&client, ours, questions(), CALLS).await?;
    let expected = ours.answers(connection).await?;
    let peer = Recursive::prepare(&real.database, peer, questions).await?;
    let (medians, tuned) = peer.against(&ours, &expected, connection, runs.slow).await?;
    let rows = || expected.iter().map(Vec::len);
    let setting = format!(
        "{selection}, from the {HUBS} busiest senders of {}, with source, target, strength, depth and rank, in order; {} to {} \
         rows per call, fetched by the client, equal on both sides. {tuned} {} runs, {CALLS} calls per wallet for ours, one \
         for the peer.",
        real.name,
        rows().min().unwrap_or(0),
        rows().max().unwrap_or(0),
        runs.slow,
    );
    Ok(Measurement::new(case, medians, "ms a call", false).against("a recursive CTE", setting))
}
