//! Index maintenance: runs what `arx.index_maintenance_plan()` proposes. `REINDEX CONCURRENTLY` and its like cannot run inside
//! a function, so they run here, each as a statement of its own.

use std::time::{Duration, Instant};

use crate::error::{Chain, SidecarError};
use crate::servers::postgres;
use crate::settings::ServerUrl;

/// One statement of the plan and what came of it.
#[derive(Debug)]
pub struct Step {
    /// The statement.
    pub statement: String,
    /// How long it took, if it was run.
    pub outcome: Option<Result<Duration, SidecarError>>,
}

/// Runs the plan, or only reads it. A statement that fails does not keep the others from running.
///
/// # Errors
/// What keeps the plan from being read.
pub async fn maintain_indexes(url: &ServerUrl, dry_run: bool) -> Result<Vec<Step>, SidecarError> {
    let connection = postgres::connect(url).await?;
    let rows = connection
        .client
        .query("SELECT statement FROM arx.index_maintenance_plan() WHERE statement IS NOT NULL", &[])
        .await
        .map_err(|source| SidecarError::Postgres { doing: "read the index maintenance plan", source })?;
    let mut steps = Vec::with_capacity(rows.len());
    for row in rows {
        let statement: String = row.get(0);
        let outcome = if dry_run {
            None
        } else {
            let started = Instant::now();
            let run = connection.client.batch_execute(&statement).await;
            let run = run.map_err(|source| SidecarError::Postgres { doing: "run index maintenance", source });
            if let Err(error) = &run {
                tracing::warn!(statement, error = %Chain(error), "index maintenance failed");
            }
            Some(run.map(|()| started.elapsed()))
        };
        steps.push(Step { statement, outcome });
    }
    Ok(steps)
}
