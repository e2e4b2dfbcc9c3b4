//! `graph.*`: the graph engine, compared with the tools that users have today, and with a lower
//! bound for a search.
//!
//! Every case compares the answers of both sides before it measures them.

pub mod connections;
pub mod csr;
pub mod dense;
pub mod detach;
pub mod edges;
pub mod growth;
pub mod hub;
pub mod inserts;
pub mod load;
pub mod paths;
pub mod reach;
pub mod side;
pub mod tiny;
pub mod upkeep;
pub mod warm;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use crate::report::Results;
use crate::sets::Sets;

/// Calls of ours per run: enough that a single slow call has no effect.
pub const CALLS: usize = 20;

/// Number of hub wallets in a case.
pub const HUBS: usize = 3;

/// Number of runs of a case.
#[derive(Debug, Clone, Copy)]
pub struct Runs {
    /// For a peer that takes milliseconds.
    pub fast: usize,
    /// For a peer that takes seconds.
    pub slow: usize,
}

/// Returns the busiest senders.
///
/// # Errors
/// When there are too few.
pub async fn hubs(client: &Client) -> Result<Vec<String>> {
    let sql = "SELECT from_address FROM arx.transactions WHERE network = 'ethereum' AND to_address IS NOT NULL \
               GROUP BY from_address ORDER BY count(*) DESC, from_address LIMIT $1";
    let rows = client.query(sql, &[&(HUBS as i64)]).await.context("find the busiest senders")?;
    ensure!(rows.len() == HUBS, "only {} wallets are senders", rows.len());
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Measures the wanted cases. Cases that add rows come after those that compare answers.
///
/// # Errors
/// When a database cannot be dropped. The errors of cases are in the results.
pub async fn measure(
    sets: &mut Sets<'_>,
    runs: Runs,
    wanted: &dyn Fn(&str) -> bool,
    results: &mut Results,
) -> Result<()> {
    macro_rules! case {
        ($name:literal, $measured:expr) => {
            if wanted($name) {
                eprintln!($name);
                let measured: Result<_> = async { $measured }.await;
                results.add($name, measured);
            }
        };
    }
    case!("graph.reach_depth3_real.vs_recursive_cte", reach::real_vs_recursive_cte(sets.real().await?, runs).await);
    case!(
        "graph.reach_in_time_depth3.vs_recursive_cte",
        reach::in_time_vs_recursive_cte(sets.real().await?, runs).await
    );
    case!("graph.top100_depth3_real.vs_recursive_cte", connections::top100(sets.real().await?, runs).await);
    case!("graph.all_rows_depth3_real.vs_recursive_cte", connections::all_rows(sets.real().await?, runs).await);
    case!("graph.reach_depth3_dense.vs_recursive_cte", reach::dense_vs_recursive_cte(sets.dense().await?, runs).await);
    case!(
        "graph.reach_depth3_dense.vs_integer_edge_cte",
        reach::dense_vs_integer_edge_cte(sets.dense().await?, runs).await
    );
    case!("graph.reach_depth3_dense.vs_pgrouting", reach::dense_vs_pgrouting(sets.dense().await?, runs).await);
    case!("graph.reach_depth3_dense.vs_bare_csr", reach::dense_vs_bare_csr(sets.dense().await?, runs).await);
    case!("graph.shortest_path_dense.vs_pgrouting", paths::measure(sets.dense().await?, runs).await);
    case!("graph.two_hop_path.vs_prepared_pairs", paths::two_hops(sets.dense().await?, runs).await);
    case!("graph.tiny_neighbourhood.vs_prepared_pairs", tiny::neighbourhood(sets.dense().await?, runs).await);
    case!("graph.hub_after_price_update.vs_before", hub::price_update(sets.dense().await?, runs).await);
    case!("graph.build.vs_copy_out", upkeep::build(sets.dense().await?, runs).await);
    case!("graph.first_question_after_10k.vs_plain_index", tiny::first_question(sets.dense().await?, runs).await);
    case!("graph.refresh_10k.vs_full_build", upkeep::refresh(sets.dense().await?, runs).await);
    sets.drop_dense()?;
    case!("graph.partition_detached.vs_full_rebuild", detach::measure(sets.stack, runs).await);
    case!("graph.insert_overhead.vs_plain_table", inserts::measure(sets.stack, runs).await);
    case!("graph.first_call_of_a_session", warm::first_call(sets.real().await?, runs).await);
    case!("graph.warm_call_k2", warm::measure(sets.real().await?, runs).await);
    Ok(())
}
