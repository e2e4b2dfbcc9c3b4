//! The distinct pairs of the dense graph as tables of integers, for peers that need such tables.

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio_postgres::Client;

use super::load;
use crate::sets::Dense;

/// Creates `peer.edges` (source, target) and `peer.pgrouting_edges` (id, source, target, cost)
/// unless they exist. Returns the number of pairs.
///
/// # Errors
/// When a table cannot be created or filled.
pub async fn edge_tables(client: &Client, dense: &Dense<'_>) -> Result<usize> {
    let pairs: Vec<(u32, u32)> = dense.csr.pairs().collect();
    let exists: bool = client.query_one("SELECT to_regclass('peer.pgrouting_edges') IS NOT NULL", &[]).await?.get(0);
    if exists {
        return Ok(pairs.len());
    }
    client
        .batch_execute(
            "CREATE EXTENSION IF NOT EXISTS pgrouting CASCADE; \
             CREATE SCHEMA IF NOT EXISTS peer; \
             CREATE TABLE peer.edges (source integer NOT NULL, target integer NOT NULL)",
        )
        .await
        .context("create the peers' tables (scripts/install-tools --bench installs pgRouting)")?;
    let pieces = pairs.chunks(50_000).map(|chunk| {
        Bytes::from(chunk.iter().map(|(source, target)| format!("{source}\t{target}\n")).collect::<String>())
    });
    load::copy_text(client, "peer.edges (source, target)", pieces).await?;
    client
        .batch_execute(
            "CREATE UNIQUE INDEX ON peer.edges (source, target); \
             CREATE TABLE peer.pgrouting_edges AS SELECT row_number() OVER (ORDER BY source, target) AS id, \
                 source::bigint, target::bigint, 1::double precision AS cost FROM peer.edges; \
             CREATE UNIQUE INDEX ON peer.pgrouting_edges (id)",
        )
        .await
        .context("index the peers' tables")?;
    // VACUUM cannot run in a transaction, which a batch would be.
    for table in ["peer.edges", "peer.pgrouting_edges"] {
        client.batch_execute(&format!("VACUUM ANALYZE {table}")).await.context("vacuum the peers' tables")?;
    }
    Ok(pairs.len())
}
