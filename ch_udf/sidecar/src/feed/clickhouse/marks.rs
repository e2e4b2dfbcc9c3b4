//! Reads `feed_marks`: the sources that have fed the tables, and how far.

use clickhouse::Row;
use serde::Deserialize;
use tokio_postgres::Client;

use super::super::postgres::identify;
use super::super::standing::{FedBy, Marks, Standing};
use crate::error::{Doing, SidecarError};
use crate::warehouse::Topology;

#[derive(Row, Deserialize)]
struct SourceRow {
    source: String,
    database: String,
    attempt: u64,
    positions: u64,
}

/// Reads the marks of all shards: a position counts if every shard has it, an attempt if any shard
/// has seen it.
pub(crate) async fn read(topology: &Topology, source_id: &str, snapshot: &str) -> Result<Marks, SidecarError> {
    let query = format!(
        "SELECT source, argMax(m.database, m.attempt) AS database, max(m.attempt) AS attempt, \
                countIf(position = ?) AS positions \
           FROM feed_marks{} AS m FINAL GROUP BY source",
        topology.shape.local()
    );
    let mut marks = Marks { sources: Vec::new(), has_position: !snapshot.is_empty() };
    for shard in &topology.shards {
        let rows: Vec<SourceRow> =
            shard.query(&query).bind(snapshot).fetch_all().await.doing("read the feed's positions")?;
        marks.has_position &= rows.iter().any(|row| row.source == source_id && row.positions > 0);
        for SourceRow { source: source_id, database, attempt, .. } in rows {
            match marks.sources.iter_mut().find(|fed_by| fed_by.source_id == source_id) {
                Some(fed_by) if fed_by.attempt >= attempt => {}
                Some(fed_by) => *fed_by = FedBy { source_id, database, attempt },
                None => marks.sources.push(FedBy { source_id, database, attempt }),
            }
        }
    }
    Ok(marks)
}

/// Returns the source and the number of the latest attempt, which is marked before anything of it
/// arrives. The entry has all marks: a feed marks every shard.
pub(crate) async fn latest_attempt(topology: &Topology) -> Result<Option<(String, u64)>, SidecarError> {
    let query =
        format!("SELECT source, attempt FROM feed_marks{} ORDER BY attempt DESC LIMIT 1", topology.shape.local());
    topology.entry.query(&query).fetch_optional().await.doing("read the feed's latest attempt")
}

/// Returns the relation of a database to the tables in ClickHouse.
///
/// # Errors
/// Errors of the servers.
pub(crate) async fn read_standing(client: &Client, topology: &Topology) -> Result<Standing, SidecarError> {
    let (identity, remembered) = identify(client).await?;
    let marks = read(topology, &identity.source_id(), "").await?;
    Ok(marks.standing(&identity, &remembered))
}
