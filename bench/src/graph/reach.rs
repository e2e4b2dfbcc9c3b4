//! `graph.reach_depth3_*`: the number of wallets within three hops, by depth. Peers count only
//! wallets, so ours does the same; each case also reports its time with the default totals of
//! transfers and values.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tokio_postgres::{Client, Row};

use super::dense::address;
use super::edges::edge_tables;
use super::side::{Question, Recursive, StatementSide, ensure_same, session};
use super::{CALLS, HUBS, Runs, hubs};
use crate::report::Measurement;
use crate::sets::{Dense, Real};
use crate::timing::{in_turn_async, median, millis};

const OURS: &str = "SELECT * FROM arx.wallet_reach($1, 'ethereum', 3, totals => false)";

const OURS_WITH_TOTALS: &str = "SELECT * FROM arx.wallet_reach($1, 'ethereum', 3)";

const RECURSIVE_CTE: &str = "WITH RECURSIVE walk(wallet, depth) AS ( \
         SELECT $1::text, 0 \
         UNION \
         SELECT t.to_address, w.depth + 1 FROM walk AS w \
           JOIN arx.transactions AS t ON t.from_address = w.wallet AND t.network = 'ethereum' AND t.to_address IS NOT NULL \
            AND t.status <> 'failed' \
          WHERE w.depth < 3) \
     SELECT depth, count(*) FROM (SELECT wallet, min(depth) AS depth FROM walk GROUP BY wallet) AS found \
      GROUP BY depth ORDER BY depth";

const OURS_IN_TIME: &str = "SELECT depth, wallets FROM arx.wallet_reach($1, 'ethereum', 3, in_time => true)";

/// A transfer follows those before it in time, block and transaction index.
const IN_TIME_CTE: &str = "WITH RECURSIVE walk(wallet, at, block, index, depth) AS ( \
         SELECT $1::text, '-infinity'::timestamptz, NULL::bigint, NULL::integer, 0 \
         UNION \
         SELECT t.to_address, t.\"timestamp\", t.block_number::bigint, t.transaction_index::integer, w.depth + 1 FROM walk AS w \
           JOIN arx.transactions AS t ON t.from_address = w.wallet AND t.network = 'ethereum' AND t.to_address IS NOT NULL \
            AND t.status <> 'failed' \
            AND t.\"timestamp\" >= w.at \
            AND (t.\"timestamp\" > w.at OR t.block_number > w.block \
                 OR (t.block_number = w.block AND COALESCE(t.transaction_index >= w.index, true))) \
          WHERE w.depth < 3) \
     SELECT depth, count(*) FROM (SELECT wallet, min(depth) AS depth FROM walk GROUP BY wallet) AS found \
      GROUP BY depth ORDER BY depth";

const INTEGER_EDGE_CTE: &str = "WITH RECURSIVE walk(wallet, depth) AS ( \
         SELECT $1::integer, 0 \
         UNION \
         SELECT e.target, w.depth + 1 FROM walk AS w JOIN peer.edges AS e ON e.source = w.wallet WHERE w.depth < 3) \
     SELECT depth, count(*) FROM (SELECT wallet, min(depth) AS depth FROM walk GROUP BY wallet) AS found \
      GROUP BY depth ORDER BY depth";

const PGROUTING: &str = "SELECT depth::integer, count(*) FROM pgr_breadthFirstSearch( \
         'SELECT id, source, target, cost FROM peer.pgrouting_edges', $1::bigint, 3, true) \
      GROUP BY depth ORDER BY depth";

/// Senders of the dense graph, by rank: the busiest, a busy and an average one.
const DENSE_SENDERS: [u32; 3] = [0, 100, 10_000];

type Levels = Vec<Vec<(i32, i64)>>;

fn level(row: &Row) -> Result<(i32, i64)> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn by_address(wallets: &[u32]) -> Vec<Question> {
    wallets.iter().map(|wallet| vec![Box::new(address(*wallet)) as _]).collect()
}

/// Measures ours with totals of transfers and values.
async fn with_totals(client: &Rc<Client>, questions: Vec<Question>, expected: &Levels, peer: f64) -> Result<String> {
    let side = StatementSide::prepare(client, OURS_WITH_TOTALS, questions, CALLS).await?;
    ensure_same(&side, expected, level).await?;
    let millis = side.run().await?;
    let ratio = peer / millis;
    Ok(format!(
        "Ours counts only wallets, like the peer; with `totals`, its default, it takes {millis:.2} ms: ratio {ratio:.2}."
    ))
}

/// `graph.reach_depth3_real.vs_recursive_cte`.
///
/// # Errors
/// When a call fails, or when the results differ.
pub async fn real_vs_recursive_cte(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&real.database, "").await?;
    let wallets = hubs(&client).await?;
    let questions = || wallets.iter().map(|wallet| vec![Box::new(wallet.clone()) as _]).collect::<Vec<Question>>();
    let ours = StatementSide::prepare(&client, OURS, questions(), CALLS).await?;
    let expected = ours.answers(level).await?;
    let peer = Recursive::prepare(&real.database, RECURSIVE_CTE, questions).await?;
    let (medians, tuned) = peer.against(&ours, &expected, level, runs.slow).await?;
    let totals = with_totals(&client, questions(), &expected, medians.1).await?;
    let setting = format!(
        "the {HUBS} busiest senders of {}; {} to {} wallets reached, equal counts by depth on both sides. The peer removes \
         duplicates of (wallet, depth) and takes each wallet's smallest depth. {tuned} {totals} {} runs, {CALLS} calls per \
         wallet for ours, one for the peer.",
        real.name,
        wallets_of(&expected).min().unwrap_or(0),
        wallets_of(&expected).max().unwrap_or(0),
        runs.slow,
    );
    Ok(Measurement::new("graph.reach_depth3_real.vs_recursive_cte", medians, "ms a call", false)
        .against("a recursive CTE", setting))
}

/// Wallets reached in time from the senders that are asked about. From the busiest ones, the peer
/// takes hours: it multiplies the transfers to a hub by those from it.
const IN_TIME_WALLETS: std::ops::RangeInclusive<i64> = 1_000..=10_000;

/// Rank of the busiest sender that is tried.
const FIRST_RANK: i64 = 1_000;

/// Returns the busiest senders from [`FIRST_RANK`] with a reach in [`IN_TIME_WALLETS`].
async fn in_time_senders(client: &Client) -> Result<Vec<String>> {
    let sql = "SELECT from_address FROM arx.transactions WHERE network = 'ethereum' AND to_address IS NOT NULL \
               GROUP BY from_address ORDER BY count(*) DESC, from_address OFFSET $1 LIMIT 1000";
    let senders = client.query(sql, &[&FIRST_RANK]).await.context("find busy senders")?;
    let ours = client.prepare(OURS_IN_TIME).await?;
    let mut found = Vec::new();
    for row in senders {
        let sender: String = row.get(0);
        let levels = client.query(&ours, &[&sender]).await?;
        let reached = levels.iter().map(|row| row.get::<_, i64>(1)).sum();
        if IN_TIME_WALLETS.contains(&reached) {
            found.push(sender);
        }
        if found.len() == HUBS {
            return Ok(found);
        }
    }
    bail!("only {} senders reach {IN_TIME_WALLETS:?} wallets in time", found.len())
}

/// `graph.reach_in_time_depth3.vs_recursive_cte`.
///
/// # Errors
/// When a call fails, or when the results differ.
pub async fn in_time_vs_recursive_cte(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&real.database, "").await?;
    let wallets = in_time_senders(&client).await?;
    let questions = || wallets.iter().map(|wallet| vec![Box::new(wallet.clone()) as _]).collect::<Vec<Question>>();
    let ours = StatementSide::prepare(&client, OURS_IN_TIME, questions(), CALLS).await?;
    let expected = ours.answers(level).await?;
    let peer = Recursive::prepare(&real.database, IN_TIME_CTE, questions).await?;
    let (medians, tuned) = peer.against(&ours, &expected, level, runs.slow).await?;
    let setting = format!(
        "{HUBS} senders of {}, the busiest from rank {FIRST_RANK} that reach {} to {} wallets; {} to {} wallets reached by transfers of which each is at or after the one \
         before, equal counts by depth on both sides. The peer removes duplicates of (wallet, place in time, depth) and \
         takes each wallet's smallest depth; ours also adds up transfers and values. {tuned} {} runs, {CALLS} calls per \
         wallet for ours, one for the peer.",
        real.name,
        IN_TIME_WALLETS.start(),
        IN_TIME_WALLETS.end(),
        wallets_of(&expected).min().unwrap_or(0),
        wallets_of(&expected).max().unwrap_or(0),
        runs.slow,
    );
    Ok(Measurement::new("graph.reach_in_time_depth3.vs_recursive_cte", medians, "ms a call", false)
        .against("a recursive CTE", setting))
}

/// Returns a session, our side for senders of the dense graph, and its answers.
async fn ours_on_dense(dense: &Dense<'_>, wallets: &[u32]) -> Result<(Rc<Client>, StatementSide, Levels)> {
    let client = session(&dense.database, "").await?;
    let ours = StatementSide::prepare(&client, OURS, by_address(wallets), CALLS).await?;
    let expected = ours.answers(level).await?;
    Ok((client, ours, expected))
}

/// Describes a case on the dense graph.
async fn dense_setting(
    dense: &Dense<'_>,
    (client, wallets, expected): (&Rc<Client>, &[u32], &Levels),
    (peer, peer_millis): (&str, f64),
    runs: usize,
) -> Result<String> {
    let totals = with_totals(client, by_address(wallets), expected, peer_millis).await?;
    let ranks: Vec<String> = wallets.iter().map(ToString::to_string).collect();
    Ok(format!(
        "{}; from the senders of rank {}, {} to {} wallets reached, equal counts by depth on both sides. {peer} {totals} \
         {runs} runs, {CALLS} calls per wallet for ours.",
        dense.name,
        ranks.join(", "),
        wallets_of(expected).min().unwrap_or(0),
        wallets_of(expected).max().unwrap_or(0),
    ))
}

fn wallets_of(levels: &Levels) -> impl Iterator<Item = i64> {
    levels.iter().map(|level| level.iter().map(|(_, wallets)| wallets).sum())
}

/// `graph.reach_depth3_dense.vs_recursive_cte`, for one wallet, because the peer takes very long.
///
/// # Errors
/// When a call fails, or when the results differ.
pub async fn dense_vs_recursive_cte(dense: &Dense<'_>, runs: Runs) -> Result<Measurement> {
    let wallets = &DENSE_SENDERS[..1];
    let (client, ours, expected) = ours_on_dense(dense, wallets).await?;
    let peer = Recursive::prepare(&dense.database, RECURSIVE_CTE, || by_address(wallets)).await?;
    let (medians, tuned) = peer.against(&ours, &expected, level, runs.slow).await?;
    let text =
        format!("The peer removes duplicates of (wallet, depth) and takes each wallet's smallest depth. {tuned}");
    let setting = dense_setting(dense, (&client, wallets, &expected), (&text, medians.1), runs.slow).await?;
    Ok(Measurement::new("graph.reach_depth3_dense.vs_recursive_cte", medians, "ms a call", false)
        .against("a recursive CTE", setting))
}

/// `graph.reach_depth3_dense.vs_integer_edge_cte`.
///
/// # Errors
/// When a call fails, or when the results differ.
pub async fn dense_vs_integer_edge_cte(dense: &Dense<'_>, runs: Runs) -> Result<Measurement> {
    let (client, ours, expected) = ours_on_dense(dense, &DENSE_SENDERS).await?;
    let edges = edge_tables(&client, dense).await?;
    let questions =
        || DENSE_SENDERS.iter().map(|wallet| vec![Box::new(wallet.cast_signed()) as _]).collect::<Vec<Question>>();
    let peer = Recursive::prepare(&dense.database, INTEGER_EDGE_CTE, questions).await?;
    let (medians, tuned) = peer.against(&ours, &expected, level, runs.slow).await?;
    let text = format!(
        "The peer reads an indexed table of the {edges} distinct pairs as (source integer, target integer), which was \
         created before the clock started and does not follow new rows. {tuned}"
    );
    let setting = dense_setting(dense, (&client, &DENSE_SENDERS, &expected), (&text, medians.1), runs.slow).await?;
    Ok(Measurement::new("graph.reach_depth3_dense.vs_integer_edge_cte", medians, "ms a call", false)
        .against("a recursive CTE over integer pairs", setting))
}

/// `graph.reach_depth3_dense.vs_pgrouting`.
///
/// # Errors
/// When a call fails, or when the results differ.
pub async fn dense_vs_pgrouting(dense: &Dense<'_>, runs: Runs) -> Result<Measurement> {
    let (client, ours, expected) = ours_on_dense(dense, &DENSE_SENDERS).await?;
    let edges = edge_tables(&client, dense).await?;
    let questions = DENSE_SENDERS.iter().map(|wallet| vec![Box::new(i64::from(*wallet)) as _]).collect();
    let peer = StatementSide::prepare(&client, PGROUTING, questions, 1).await?;
    ensure_same(&peer, &expected, level).await?;
    let medians = in_turn_async(runs.slow, async |_| ours.run().await, async |_| peer.run().await).await?;
    let text = format!(
        "The peer reads a table of the {edges} distinct pairs (id, source, target, cost), made before the clock started; \
         directed, to depth 3."
    );
    let setting = dense_setting(dense, (&client, &DENSE_SENDERS, &expected), (&text, medians.1), runs.slow).await?;
    Ok(Measurement::new("graph.reach_depth3_dense.vs_pgrouting", medians, "ms a call", false)
        .against("pgRouting's `pgr_breadthFirstSearch`", setting))
}

/// `graph.reach_depth3_dense.vs_bare_csr`.
///
/// # Errors
/// When a call fails, or when the results differ.
pub async fn dense_vs_bare_csr(dense: &Dense<'_>, runs: Runs) -> Result<Measurement> {
    let (client, ours, expected) = ours_on_dense(dense, &DENSE_SENDERS).await?;
    let levels: Levels = DENSE_SENDERS.iter().map(|wallet| dense.csr.reach(*wallet, 3)).collect();
    ensure!(levels == expected, "ours has {expected:?}, the search in memory {levels:?}");
    let medians =
        in_turn_async(runs.fast, async |_| ours.run().await, async |_| bare(dense)).await.context("search")?;
    let text = "The peer is a breadth-first search over the distinct pairs as a CSR in this process's memory, with a new array \
                of visited wallets per call: no SQL, no round trip, no transfers, no values, no new rows.";
    let setting = dense_setting(dense, (&client, &DENSE_SENDERS, &expected), (text, medians.1), runs.fast).await?;
    Ok(Measurement::new("graph.reach_depth3_dense.vs_bare_csr", medians, "ms a call", false)
        .against("a bare search in memory", setting))
}

fn bare(dense: &Dense<'_>) -> Result<f64> {
    let mut sum = 0.0;
    for wallet in DENSE_SENDERS {
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let start = Instant::now();
            std::hint::black_box(dense.csr.reach(std::hint::black_box(wallet), 3));
            times.push(millis(start));
        }
        sum += median(&times)?;
    }
    Ok(sum / DENSE_SENDERS.len() as f64)
}
