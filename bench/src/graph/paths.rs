//! `graph.shortest_path_dense.vs_pgrouting`: a path with the fewest hops between two wallets. Ours names the transactions behind
//! each step; the peer names wallets.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use tokio_postgres::Row;

use super::dense::address;
use super::edges::edge_tables;
use super::side::{Question, Side, session};
use super::{CALLS, Runs};
use crate::report::Measurement;
use crate::sets::Dense;
use crate::timing::in_turn_async;

const OURS: &str = "SELECT * FROM arx.shortest_path($1, $2, 'ethereum')";

const PGROUTING: &str = "SELECT * FROM pgr_bdDijkstra( \
     'SELECT id, source, target, cost FROM peer.pgrouting_edges', $1::bigint, $2::bigint, true)";

const PAIRS: usize = 5;

/// Pairs of wallets drawn evenly, between which a path of two to six hops leads, with its length.
fn pairs(dense: &Dense<'_>) -> Vec<(u32, u32, u32)> {
    let mut random = fastrand::Rng::with_seed(11);
    let wallets = dense.csr.wallets();
    std::iter::repeat_with(|| (random.u32(..wallets), random.u32(..wallets)))
        // connected pairs are the rule in a dense graph
        .take(1_000)
        .filter_map(|(source, target)| Some((source, target, dense.csr.distance(source, target)?)))
        .filter(|(.., hops)| (2..=6).contains(hops))
        .take(PAIRS)
        .collect()
}

/// The measurement.
///
/// # Errors
/// When a call fails, or when a side finds a path of another length than a bare search does.
pub async fn measure(dense: &Dense<'_>, runs: Runs) -> Result<Measurement> {
    let pairs = pairs(dense);
    ensure!(pairs.len() == PAIRS, "only {} pairs are connected", pairs.len());
    let client = session(&dense.database, "").await?;
    edge_tables(&client, dense).await?;
    let by_address =
        pairs.iter().map(|(from, to, _)| vec![Box::new(address(*from)) as _, Box::new(address(*to)) as _]).collect();
    let by_number: Vec<Question> = pairs
        .iter()
        .map(|(from, to, _)| vec![Box::new(i64::from(*from)) as _, Box::new(i64::from(*to)) as _])
        .collect();
    let ours = Side::prepare(&client, OURS, by_address, CALLS).await?;
    let peer = Side::prepare(&client, PGROUTING, by_number, 1).await?;

    let steps = ours.answers(|row: &Row| Ok(row.try_get::<_, Option<i32>>("step")?)).await?;
    let costs = peer.answers(|row: &Row| Ok(row.try_get::<_, f64>("agg_cost")?)).await?;
    for (((from, to, hops), steps), costs) in pairs.iter().zip(&steps).zip(&costs) {
        let of_ours = steps.iter().flatten().collect::<BTreeSet<_>>().len();
        let of_peer = costs.iter().copied().fold(0.0, f64::max);
        ensure!(
            of_ours == *hops as usize && of_peer == f64::from(*hops),
            "from wallet {from} to {to}: {hops} hops in truth, {of_ours} by ours, {of_peer} by the peer"
        );
    }

    let medians = in_turn_async(runs.slow, async |_| ours.run().await, async |_| peer.run().await).await?;
    let lengths: Vec<String> = pairs.iter().map(|(.., hops)| hops.to_string()).collect();
    let setting = format!(
        "{}; {PAIRS} random connected pairs, {} hops apart, the same lengths on both sides and by a bare search. The peer reads a \
         table of the distinct pairs with cost 1, made before the clock started; directed. {} runs, {CALLS} calls a pair of ours, \
         one of the peer's.",
        dense.name,
        lengths.join(", "),
        runs.slow,
    );
    Ok(Measurement::new("graph.shortest_path_dense.vs_pgrouting", medians, "ms a call", false)
        .against("pgRouting's `pgr_bdDijkstra`", setting))
}
