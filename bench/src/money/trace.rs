//! `trace.haircut_depth5.vs_recursive_cte`: the destinations of a wallet's funds, by haircut.
//! The peer finds the wallets that funds can reach by a recursion over indexed transfers, level by
//! level and in time, and divides amounts in one pass over their transfers in PL/pgSQL, with arrays
//! for balances. A single recursive CTE cannot add up the funds that arrive at a wallet: it has to
//! follow each path separately, and there are far more paths than transfers. The case reports the
//! time for listing the paths without amounts.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

use crate::graph::Runs;
use crate::graph::side::{Question, StatementSide, session};
use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::{in_turn_async, millis};

pub const CASE: &str = "trace.haircut_depth5.vs_recursive_cte";

const OURS: &str = "SELECT tx_hash, tainted_amount::double precision \
     FROM arx.trace_funds($1, 'ethereum', max_hops => 5, max_fan_out => 1000, stop_at_services => false, max_nodes => NULL, min_share => NULL) \
      WHERE tx_hash IS NOT NULL";

const PEER: &str = "SELECT tx_hash, tainted FROM peer.trace_haircut($1, 5, 1000)";

/// Counts the paths in time, without amounts. `peer.hubs` contains the wallets that are not
/// followed.
const PATHS: &str = "WITH RECURSIVE path(wallet, at, hop) AS ( \
         SELECT t.to_address, t.\"timestamp\", 1 FROM arx.transactions AS t \
          WHERE t.from_address = $1 AND t.network = 'ethereum' AND t.status <> 'failed' AND t.value > 0 AND t.to_address <> $1 \
         UNION ALL \
         SELECT t.to_address, t.\"timestamp\", p.hop + 1 FROM path AS p \
           JOIN arx.transactions AS t ON t.from_address = p.wallet AND t.network = 'ethereum' AND t.\"timestamp\" >= p.at \
          WHERE p.hop < 5 AND t.status <> 'failed' AND t.value > 0 AND t.to_address <> $1 \
            AND p.wallet NOT IN (SELECT hub.wallet FROM peer.hubs AS hub)) \
     SELECT count(*) FROM path";

const HUBS: &str = "CREATE TABLE peer.hubs AS \
     SELECT from_address AS wallet FROM arx.transactions WHERE network = 'ethereum' AND to_address IS NOT NULL \
      GROUP BY from_address HAVING count(DISTINCT to_address) > 1000";

/// Limit for listing the paths of one wallet.
const PATHS_LIMIT: &str = "20s";

/// Selects senders in an order that is independent of their behaviour.
const SENDERS: &str = "SELECT address FROM ( \
         SELECT DISTINCT from_address AS address FROM arx.transactions \
          WHERE network = 'ethereum' AND status <> 'failed' AND value > 0) AS sender \
     ORDER BY md5(address) LIMIT 1000";

/// Number of traced wallets.
const SEEDS: usize = 5;

/// Allowed number of transfers in a trace.
const STEPS: std::ops::RangeInclusive<usize> = 500..=20_000;

/// Calls per wallet and run for ours.
const CALLS: usize = 5;

/// Allowed difference of amounts, relative to the largest amount of the trace.
const TOLERANCE: f64 = 1e-9;

/// Runs the measurement.
///
/// # Errors
/// When a call fails, or the results differ.
pub async fn measure(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&real.database, "").await?;
    client.batch_execute(include_str!("trace_peer.sql")).await.context("create the peer's functions")?;
    client.batch_execute("SELECT peer.prepare()").await.context("create the peer's tables")?;
    let seeds = seeds(&client).await?;
    let questions = || seeds.iter().map(|seed| vec![Box::new(seed.clone()) as _]).collect::<Vec<Question>>();
    let ours = StatementSide::prepare(&client, OURS, questions(), CALLS).await?;
    let peer = StatementSide::prepare(&client, PEER, questions(), 1).await?;
    let read = |row: &Row| Ok((row.try_get::<_, Option<String>>(0)?.unwrap_or_default(), row.try_get::<_, f64>(1)?));
    let (our_traces, peer_traces) = (ours.answers(read).await?, peer.answers(read).await.context("call the peer")?);
    ensure!(our_traces.len() == peer_traces.len(), "the sides have different questions");
    for ((seed, ours), peers) in seeds.iter().zip(&our_traces).zip(&peer_traces) {
        ensure_close(seed, ours, peers)?;
    }
    let medians = in_turn_async(runs.slow, async |_| ours.run().await, async |_| peer.run().await).await?;
    let paths = describe_paths(real, &seeds).await?;
    let steps: Vec<String> = our_traces.iter().map(|trace| trace.len().to_string()).collect();
    let setting = format!(
        "{}; from the first {SEEDS} senders by md5 of the address whose funds are in {} to {} transfers within 5 hops: {}. \
         On both sides, services do not stop a trace, wallets with more than 1,000 receivers do, and each part of the \
         funds is followed for 5 transfers. The tainted amounts of every transfer are equal to {TOLERANCE:e} \
         of the largest. The peer computes in double precision, ours in integer units. The peer collects wallets level by \
         level with the earliest time of arrival, by the table's indexes, then reads their transfers once in order of \
         time, in PL/pgSQL. {paths} {} runs, {CALLS} calls per wallet for ours, one for the peer.",
        real.name,
        STEPS.start(),
        STEPS.end(),
        steps.join(", "),
        runs.slow,
    );
    Ok(Measurement::new(CASE, medians, "ms a call", false)
        .against("SQL, level by level, and one pass in PL/pgSQL", setting))
}

/// Reports how long a recursive CTE takes to list the paths from each wallet.
async fn describe_paths(real: &Real<'_>, seeds: &[String]) -> Result<String> {
    let client = session(&real.database, &format!("SET statement_timeout = '{PATHS_LIMIT}'")).await?;
    client.batch_execute(HUBS).await.context("find the wallets that are not followed")?;
    let paths = client.prepare(PATHS).await.context("prepare the listing of paths")?;
    let mut times = Vec::new();
    for seed in seeds {
        let start = Instant::now();
        match client.query_one(&paths, &[seed]).await {
            Ok(row) => times.push(format!("{:.1} s ({} paths)", millis(start) / 1000.0, row.try_get::<_, i64>(0)?)),
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                times.push(format!("more than {PATHS_LIMIT}"));
            }
            Err(error) => return Err(error).context("list paths"),
        }
    }
    Ok(format!("A recursive CTE that lists the paths in time, without amounts, takes {}.", times.join(", ")))
}

async fn seeds(client: &Rc<Client>) -> Result<Vec<String>> {
    let senders = client.query(SENDERS, &[]).await.context("select wallets")?;
    let mut seeds = Vec::new();
    for sender in senders {
        let address: String = sender.try_get(0)?;
        let steps = client.query(OURS, &[&address]).await.context("trace a wallet")?.len();
        if STEPS.contains(&steps) {
            seeds.push(address);
            if seeds.len() == SEEDS {
                return Ok(seeds);
            }
        }
    }
    ensure!(!seeds.is_empty(), "no wallet has a trace of that size");
    Ok(seeds)
}

/// Compares tainted amounts by transaction, which may contain several transfers.
fn ensure_close(seed: &str, ours: &[(String, f64)], peers: &[(String, f64)]) -> Result<()> {
    let sums = |rows: &[(String, f64)]| {
        let mut sums = BTreeMap::<String, f64>::new();
        for (hash, tainted) in rows {
            *sums.entry(hash.clone()).or_default() += tainted;
        }
        sums
    };
    let (ours, mut peers) = (sums(ours), sums(peers));
    let largest = ours.values().copied().fold(0.0, f64::max);
    for (hash, tainted) in &ours {
        let peer = peers.remove(hash).unwrap_or_default();
        ensure!(
            (tainted - peer).abs() <= TOLERANCE * largest,
            "from {seed}, {hash}: ours has {tainted}, the peer {peer}"
        );
    }
    for (hash, peer) in peers {
        ensure!(peer <= TOLERANCE * largest, "from {seed}, {hash}: ours has nothing, the peer {peer}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ensure_close;

    #[test]
    fn amounts_are_compared_by_transaction() {
        let row = |hash: &str, tainted| (hash.to_owned(), tainted);
        let ours = [row("a", 1.0), row("a", 2.0), row("b", 5.0)];
        assert!(ensure_close("w", &ours, &[row("a", 3.0), row("b", 5.0), row("c", 1e-12)]).is_ok());
        assert!(ensure_close("w", &ours, &[row("a", 3.0)]).is_err());
        assert!(ensure_close("w", &ours, &[row("a", 3.0), row("b", 5.0), row("c", 1.0)]).is_err());
    }
}
