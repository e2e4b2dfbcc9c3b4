//! `graph.shortest_path_dense.vs_pgrouting` and `graph.two_hop_path.vs_prepared_pairs`: a path with
//! the fewest hops between two wallets. Ours lists the transactions of each step, the peers list
//! wallets.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use tokio_postgres::Row;

use super::dense::address;
use super::edges::edge_tables;
use super::side::{Question, StatementSide, session};
use super::{CALLS, Runs};
use crate::report::Measurement;
use crate::sets::Dense;
use crate::timing::in_turn_async;

const OURS: &str = "SELECT * FROM arx.shortest_path($1, $2, 'ethereum')";

const PGROUTING: &str = "SELECT * FROM pgr_bdDijkstra( \
     'SELECT id, source, target, cost FROM peer.pgrouting_edges', $1::bigint, $2::bigint, true)";

const PAIRS: usize = 5;

/// The shortest path of at most two hops, and the wallet in the middle.
const TWO_HOPS: &str = "SELECT found.hops, found.via FROM ( \
         SELECT 1 AS hops, NULL::integer AS via FROM peer.edges AS e WHERE e.source = $1 AND e.target = $2 \
         UNION ALL \
         SELECT 2, a.target FROM peer.edges AS a JOIN peer.edges AS b ON b.source = a.target AND b.target = $2 \
          WHERE a.source = $1) AS found \
      ORDER BY found.hops, found.via LIMIT 1";

/// Calls of each side per run and pair, which are short.
const SHORT_CALLS: usize = 100;

/// Draws pairs of wallets with one of these distances in hops. Returns them with their distance.
fn pairs(dense: &Dense<'_>, distances: std::ops::RangeInclusive<u32>) -> Vec<(u32, u32, u32)> {
    let mut random = fastrand::Rng::with_seed(11);
    let wallets = dense.csr.wallets();
    std::iter::repeat_with(|| (random.u32(..wallets), random.u32(..wallets)))
        // Most pairs of a dense graph are connected.
        .take(100_000)
        .filter_map(|(source, target)| Some((source, target, dense.csr.distance(source, target)?)))
        .filter(|(.., hops)| distances.contains(hops))
        .take(PAIRS)
        .collect()
}

/// Runs the measurement.
///
/// # Errors
/// When a call fails, or the length of a path differs from the distance of a search in memory.
pub async fn measure(dense: &Dense<'_>, runs: Runs) -> Result<Measurement> {
    let pairs = pairs(dense, 2..=6);
    ensure!(pairs.len() == PAIRS, "only {} pairs are connected", pairs.len());
    let client = session(&dense.database, "").await?;
    edge_tables(&client, dense).await?;
    let by_address =
        pairs.iter().map(|(from, to, _)| vec![Box::new(address(*from)) as _, Box::new(address(*to)) as _]).collect();
    let by_number: Vec<Question> = pairs
        .iter()
        .map(|(from, to, _)| vec![Box::new(i64::from(*from)) as _, Box::new(i64::from(*to)) as _])
        .collect();
    let ours = StatementSide::prepare(&client, OURS, by_address, CALLS).await?;
    let peer = StatementSide::prepare(&client, PGROUTING, by_number, 1).await?;

    let steps = ours.answers(|row: &Row| Ok(row.try_get::<_, Option<i32>>("step")?)).await?;
    let costs = peer.answers(|row: &Row| Ok(row.try_get::<_, f64>("agg_cost")?)).await?;
    for (((from, to, hops), steps), costs) in pairs.iter().zip(&steps).zip(&costs) {
        let our_hops = steps.iter().flatten().collect::<BTreeSet<_>>().len();
        let peer_hops = costs.iter().copied().fold(0.0, f64::max);
        ensure!(
            our_hops == *hops as usize && peer_hops == f64::from(*hops),
            "from wallet {from} to {to}: {hops} hops are right, ours finds {our_hops}, the peer {peer_hops}"
        );
    }

    let medians = in_turn_async(runs.slow, async |_| ours.run().await, async |_| peer.run().await).await?;
    let lengths: Vec<String> = pairs.iter().map(|(.., hops)| hops.to_string()).collect();
    let setting = format!(
        "{}; {PAIRS} random connected pairs, {} hops apart, equal on both sides and by a search in memory. The peer reads a \
         table of the distinct pairs with cost 1, created before the clock started; directed. {} runs, {CALLS} calls per \
         pair for ours, one for the peer.",
        dense.name,
        lengths.join(", "),
        runs.slow,
    );
    Ok(Measurement::new("graph.shortest_path_dense.vs_pgrouting", medians, "ms a call", false)
        .against("pgRouting's `pgr_bdDijkstra`", setting))
}

/// `graph.two_hop_path.vs_prepared_pairs`.
///
/// # Errors
/// When a call fails, or a side finds another number of hops.
pub async fn two_hops(dense: &Dense<'_>, runs: Runs) -> Result<Measurement> {
    let pairs = pairs(dense, 2..=2);
    ensure!(pairs.len() == PAIRS, "only {} pairs are two hops apart", pairs.len());
    let client = session(&dense.database, "").await?;
    let edges = edge_tables(&client, dense).await?;
    let by_address =
        pairs.iter().map(|(from, to, _)| vec![Box::new(address(*from)) as _, Box::new(address(*to)) as _]).collect();
    let by_number: Vec<Question> = pairs
        .iter()
        .map(|(from, to, _)| vec![Box::new(from.cast_signed()) as _, Box::new(to.cast_signed()) as _])
        .collect();
    let ours = StatementSide::prepare(&client, OURS, by_address, SHORT_CALLS).await?;
    let peer = StatementSide::prepare(&client, TWO_HOPS, by_number, SHORT_CALLS).await?;
    for steps in ours.answers(|row: &Row| Ok(row.try_get::<_, Option<i32>>("step")?)).await? {
        let hops = steps.iter().flatten().collect::<BTreeSet<_>>().len();
        ensure!(hops == 2, "ours finds {hops} hops");
    }
    for hops in peer.answers(|row: &Row| Ok(row.try_get::<_, i32>("hops")?)).await? {
        ensure!(hops == [2], "the peer finds {hops:?} hops");
    }
    // The first calls plan, until PostgreSQL decides for a generic plan.
    ours.run().await?;
    peer.run().await?;
    let medians = in_turn_async(runs.fast, async |_| ours.run().await, async |_| peer.run().await).await?;
    let setting = format!(
        "{}; {PAIRS} random pairs of wallets that are two hops apart. Ours returns the transactions of both steps, the peer \
         the wallet in the middle, from an indexed table of the {edges} distinct pairs of integers, which was made before \
         the clock started and does not follow new rows. Both prepared, {} runs of {SHORT_CALLS} calls a pair.",
        dense.name, runs.fast
    );
    Ok(Measurement::new("graph.two_hop_path.vs_prepared_pairs", medians, "ms a call", false)
        .against("a join of integer pairs", setting))
}
