//! Connections that copy chunks into a table at once. Each chunk has a transaction of its own; the
//! caller commits them in the order of the source, so a chunk waits for the ones before it.
//!
//! Rows of different chunks have different keys, so lanes do not wait for each other. They may wait
//! for a stranger that inserts the same rows, and it for a chunk that waits for its turn: the
//! server cannot see such a deadlock, so lanes give up after a while, and all chunks are loaded one
//! by one.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::postgres_sink::copy;
use crate::import::error::ImportError;
use crate::import::read::chunk::Chunk;
use crate::servers::postgres::{self, Source};

/// Cores that lanes are made for: more chunks at once need more memory, and the reader cannot feed
/// more.
const MAX_CORES: usize = 4;

/// Settings of a lane, as those of the connection of the import.
const SESSION: &str = "SET synchronous_commit = off; SET jit = off; SET lock_timeout = '5s'";

/// Connections and the chunks that they load, oldest first.
pub(crate) struct Lanes {
    source: Source,
    count: usize,
    free: Vec<Arc<Client>>,
    chunks: VecDeque<Loading>,
    /// The oldest chunk could not be loaded.
    has_failed: bool,
}

/// A chunk that is being loaded, or is loaded and not committed.
struct Loading {
    client: Arc<Client>,
    task: JoinHandle<Result<(String, u64), tokio_postgres::Error>>,
    /// Its transaction, once it is loaded.
    transaction: Option<String>,
    lines_done: u64,
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lanes {
    /// One lane for each core, and one that is loaded while another waits for its turn or the next
    /// chunk. Connections are made when they are needed.
    pub(crate) fn new(source: Source) -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_CORES) + 1;
        Self { source, count, free: Vec::new(), chunks: VecDeque::new(), has_failed: false }
    }

    /// Number of chunks that may be loaded at once.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Returns true if no chunk is being loaded.
    pub(super) fn is_idle(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Starts to load a chunk. Returns false, and starts nothing, if the server has no connection
    /// left: fewer chunks are then loaded at once.
    pub(super) async fn start(&mut self, statement: String, chunk: &Chunk) -> bool {
        let client = match self.free.pop() {
            Some(client) => client,
            None => match self.connect().await {
                Ok(client) => client,
                Err(error) => {
                    tracing::debug!(%error, "connect once more");
                    self.count = self.chunks.len();
                    return false;
                }
            },
        };
        let (tuples, connection) = (chunk.tuples.clone(), Arc::clone(&client));
        let task = tokio::spawn(async move {
            connection.batch_execute("BEGIN").await?;
            let row = connection.query_one("SELECT pg_catalog.pg_current_xact_id()::text", &[]).await?;
            let rows = copy(&connection, &statement, &tuples).await?;
            Ok((row.get(0), rows))
        });
        self.chunks.push_back(Loading { client, task, transaction: None, lines_done: chunk.lines_done });
        true
    }

    async fn connect(&self) -> Result<Arc<Client>, ImportError> {
        let connection = postgres::connect_to_extension(&self.source)
            .await
            .map_err(|source| ImportError::Connect { source: Box::new(source) })?;
        let context = || "cannot set a session up for lines".to_owned();
        let set_up = connection.client.batch_execute(SESSION).await;
        set_up.map_err(|source| ImportError::Database { context: context(), source })?;
        Ok(Arc::new(connection.client))
    }

    /// Waits until the oldest chunk is loaded, and returns the number of its rows. `None`: a row
    /// exists already, or is being inserted by another session, and all chunks have to be rolled
    /// back. May be dropped and called again.
    ///
    /// # Errors
    /// Errors of the database, with the last line of the chunk.
    pub(super) async fn loaded(&mut self) -> Result<Option<u64>, (tokio_postgres::Error, u64)> {
        let Some(oldest) = self.chunks.front_mut() else { return std::future::pending().await };
        let lines_done = oldest.lines_done;
        match (&mut oldest.task).await {
            Ok(Ok((transaction, rows))) => {
                oldest.transaction = Some(transaction);
                Ok(Some(rows))
            }
            Ok(Err(error)) => {
                self.has_failed = true;
                let conflicts =
                    [SqlState::UNIQUE_VIOLATION, SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
                match error.code() {
                    Some(code) if conflicts.contains(code) => Ok(None),
                    _ => Err((error, lines_done)),
                }
            }
            // The task was aborted, or has panicked.
            Err(_) => {
                self.has_failed = true;
                Ok(None)
            }
        }
    }

    /// Returns the connection and the transaction of the oldest chunk, if it is loaded, to be
    /// committed. The connection is free after that.
    pub(super) fn take_loaded(&mut self) -> Option<(Arc<Client>, String)> {
        let transaction = self.chunks.front_mut()?.transaction.take()?;
        let loaded = self.chunks.pop_front()?;
        self.free.push(Arc::clone(&loaded.client));
        Some((Arc::clone(&loaded.client), transaction))
    }

    /// Rolls all chunks back, if one of them has failed, and closes the connections.
    pub(super) async fn roll_back_failed(&mut self) {
        if !self.has_failed {
            return;
        }
        for mut loading in std::mem::take(&mut self.chunks) {
            loading.task.abort();
            if !loading.task.is_finished() {
                let _ = (&mut loading.task).await;
            }
            if let Err(error) = loading.client.batch_execute("ROLLBACK").await {
                tracing::debug!(%error, "roll back");
            }
        }
        self.free.clear();
        self.has_failed = false;
    }
}
