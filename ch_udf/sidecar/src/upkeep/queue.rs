//! Takes tasks from `arx.maintenance_queue` and runs each as a statement of its own.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::archive::archive;
use crate::error::{Chain, Doing, SidecarError};
use crate::servers::postgres;
use crate::settings::Settings;

const DOING: &str = "take work from arx.maintenance_queue";

/// Concurrent index builds wait for old transactions, and nothing waits for them.
const SET_UP: &str = "SET lock_timeout = 0";
const QUEUE: &str = "SELECT arx.queue_maintenance()";
const TAKE: &str = "SELECT task_id, kind, relation, parent, name FROM arx.take_task()";
const STATEMENT: &str = "SELECT arx.maintenance_statement($1, $2, $3)";
const FINISH: &str = "SELECT arx.finish_task($1, $2, $3)";
const WAITING: &str = "
SELECT q.kind, q.name, arx.maintenance_statement(q.kind, q.relation, q.parent)
  FROM arx.maintenance_queue AS q
 WHERE q.state = 'waiting'
 ORDER BY q.task_id";

/// Result of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// There is nothing to do any more.
    Obsolete,
    Failed(String),
}

/// A task that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) kind: String,
    /// Qualified name of the index or the partition.
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) elapsed: Duration,
}

/// Queues what is due, and returns the kind, the name and the statement of each task that waits.
///
/// # Errors
/// Errors of PostgreSQL.
pub(crate) async fn waiting_statements(
    settings: &Settings,
) -> Result<Vec<(String, String, Option<String>)>, SidecarError> {
    let client = postgres::connect(settings).await?.client;
    client.query_one(QUEUE, &[]).await.doing(DOING)?;
    let rows = client.query(WAITING, &[]).await.doing(DOING)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// Queues what is due, and runs tasks until none waits. A task that fails does not prevent the
/// others.
///
/// # Errors
/// Errors of PostgreSQL that concern the queue itself, such as a lost connection.
pub(crate) async fn run_queue(
    settings: &Settings,
    mut report: impl FnMut(&Finished) + Send,
) -> Result<(), SidecarError> {
    let mut client = postgres::connect(settings).await?.client;
    client.batch_execute(SET_UP).await.doing(DOING)?;
    client.query_one(QUEUE, &[]).await.doing(DOING)?;
    loop {
        let row = client.query_one(TAKE, &[]).await.doing(DOING)?;
        let Some(task) = row.get::<_, Option<i64>>(0) else { return Ok(()) };
        let (kind, relation, parent): (String, u32, Option<u32>) = (row.get(1), row.get(2), row.get(3));
        let started = Instant::now();
        let outcome = match carry_out(&mut client, settings, &kind, relation, parent).await {
            Ok(true) => Outcome::Done,
            Ok(false) => Outcome::Obsolete,
            Err(error) => {
                tracing::warn!(kind, error = %Chain(&error), "a task of upkeep failed");
                Outcome::Failed(Chain(&error).to_string())
            }
        };
        let (state, error) = match &outcome {
            Outcome::Done => ("done", None),
            Outcome::Obsolete => ("obsolete", None),
            Outcome::Failed(error) => ("failed", Some(error)),
        };
        client.execute(FINISH, &[&task, &state, &error]).await.doing(DOING)?;
        report(&Finished { kind, name: row.get(4), outcome, elapsed: started.elapsed() });
    }
}

/// Carries a task out, and returns false if there is nothing to do any more.
async fn carry_out(
    client: &mut Client,
    settings: &Settings,
    kind: &str,
    relation: u32,
    parent: Option<u32>,
) -> Result<bool, SidecarError> {
    let row = client.query_one(STATEMENT, &[&kind, &relation, &parent]).await.doing(DOING)?;
    match row.get::<_, Option<String>>(0) {
        None => Ok(false),
        Some(statement) if statement.is_empty() => archive(client, settings, relation).await.map(|()| true),
        Some(statement) => client.batch_execute(&statement).await.doing("run upkeep").map(|()| true),
    }
}
