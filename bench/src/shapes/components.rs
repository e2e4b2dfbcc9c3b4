//! `clusters.wcc.*`: weakly connected components of the real graph.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use tokio_postgres::{Client, Row};

use super::python::{Timed, timed};
use crate::graph::side::{Question, StatementSide, session};
use crate::graph::{CALLS, Runs};
use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::{median, millis};

/// Comparison with networkx.
pub const VS_NETWORKX: &str = "clusters.wcc.vs_networkx";

/// Comparison with SQL.
pub const VS_SQL: &str = "clusters.wcc.vs_sql";

const OURS: &str = "SELECT cluster, wallets, complete FROM arx.wallet_clusters('ethereum', 'weak')";

const PAIRS: &str = "COPY (SELECT DISTINCT from_address, to_address FROM arx.transactions \
     WHERE network = 'ethereum' AND to_address IS NOT NULL AND status <> 'failed') TO STDOUT";

const PEER: &str =
    "SELECT w.address, c.wallets FROM peer.components() AS c JOIN peer.wallets AS w ON w.wallet = c.label";

/// First wallet by address, and size of each component.
type Components = BTreeSet<(String, i64)>;

/// Returns our side and its result.
async fn ours(client: &Rc<Client>) -> Result<(StatementSide, Components)> {
    let side = StatementSide::prepare(client, OURS, vec![Question::new()], CALLS).await?;
    let read = |row: &Row| {
        ensure!(row.try_get::<_, bool>(2)?, "the result is incomplete");
        Ok((row.try_get(0)?, row.try_get(1)?))
    };
    let components = side.answers(read).await?.into_iter().flatten().collect();
    Ok((side, components))
}

fn ensure_same(ours: &Components, peers: &Components) -> Result<()> {
    let differences = ours.symmetric_difference(peers).take(3).collect::<Vec<_>>();
    ensure!(
        differences.is_empty(),
        "ours has {} components, the peer {}, different are {differences:?}",
        ours.len(),
        peers.len()
    );
    Ok(())
}

async fn our_runs(side: &StatementSide, runs: usize) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..runs {
        times.push(side.run().await?);
    }
    median(&times)
}

/// `clusters.wcc.vs_networkx`.
///
/// # Errors
/// When a call fails, or when the results differ.
pub async fn vs_networkx(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&real.database, "").await?;
    let (side, components) = ours(&client).await?;
    let (file, pairs) = write_pairs(&client, real).await?;
    let peer: Timed<Vec<(String, i64)>> = timed(include_str!("components.py"), &file, runs.slow)?;
    ensure_same(&components, &peer.answer.into_iter().collect())?;
    let medians = (our_runs(&side, runs.slow).await?, median(&peer.milliseconds)?);
    let setting = format!(
        "{}; {}, equal on both sides. networkx {} has a DiGraph of the {pairs} pairs, built before the clock started, and \
         measures itself; ours is called in SQL, and lists the first 100 wallets of each component. {} runs with {CALLS} \
         calls for ours.",
        real.name,
        sizes(&components),
        peer.version,
        runs.slow,
    );
    Ok(Measurement::new(VS_NETWORKX, medians, "ms a call", false)
        .against("networkx's `weakly_connected_components`", setting))
}

/// `clusters.wcc.vs_sql`. The peer takes long, so it runs only once.
///
/// # Errors
/// When a call fails, or when the results differ.
pub async fn vs_sql(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&real.database, "SET client_min_messages = warning; SET statement_timeout = '10min'").await?;
    let (side, components) = ours(&client).await?;
    client.batch_execute(include_str!("components_peer.sql")).await.context("create the peer's tables")?;
    let start = Instant::now();
    let rows = client.query(PEER, &[]).await.context("call the peer")?;
    let peer = millis(start);
    let peer_components =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Components>>()?;
    ensure_same(&components, &peer_components)?;
    let medians = (our_runs(&side, runs.slow).await?, peer);
    let setting = format!(
        "{}; {}, equal on both sides. The peer propagates the smallest label over an indexed table of pairs of integers in \
         both directions, created before the clock started; only changed labels are propagated. {} runs with {CALLS} calls \
         for ours, one call for the peer.",
        real.name,
        sizes(&components),
        runs.slow,
    );
    Ok(Measurement::new(VS_SQL, medians, "ms a call", false).against("label propagation in SQL", setting))
}

fn sizes(components: &Components) -> String {
    let largest = components.iter().map(|(_, wallets)| *wallets).max().unwrap_or_default();
    format!("{} components of two wallets or more, the largest of {largest}", components.len())
}

/// Writes the pairs into a file, one pair of sender and receiver a line.
async fn write_pairs(client: &Client, real: &Real<'_>) -> Result<(PathBuf, usize)> {
    let folder = real.database.data_folder();
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let path = folder.join("pairs");
    let mut file = BufWriter::new(File::create(&path).with_context(|| format!("create {}", path.display()))?);
    let mut stream = pin!(client.copy_out(PAIRS).await.context("read the pairs")?);
    let mut pairs = 0;
    while let Some(piece) = stream.next().await {
        let piece = piece.context("read the pairs")?;
        pairs += piece.iter().filter(|byte| **byte == b'\n').count();
        file.write_all(&piece).with_context(|| format!("write {}", path.display()))?;
    }
    file.flush().with_context(|| format!("write {}", path.display()))?;
    Ok((path, pairs))
}
