//! ClickHouse as a store of answers. It runs statements of the catalogue alone, read-only, and
//! binds their parameters on the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arx_core::analytics::Request;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Semaphore};

use super::forms;
use crate::cache::Breaker;
use crate::error::{Chain, Doing, SidecarError};
use crate::feed::{Marks, latest_attempt, read_marks};
use crate::servers::clickhouse::{Choice, connect};
use crate::settings::Settings;
use crate::warehouse::Topology;

/// Queries at a time.
const CONCURRENCY: usize = 8;

/// Time limit for reading the marks of the feed.
const MARKS_LIMIT: Duration = Duration::from_secs(1);

/// Largest answer. The catalogue's limits stay below it.
const MAX_ROWS: &str = "10000";

pub(super) struct Warehouse {
    settings: Settings,
    topology: Mutex<Option<Arc<Topology>>>,
    permits: Semaphore,
    breaker: Breaker,
}

impl Warehouse {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            topology: Mutex::new(None),
            permits: Semaphore::new(CONCURRENCY),
            breaker: Breaker::default(),
        }
    }

    /// Returns the connection; an embedded engine must be running, and gets another address with
    /// each start.
    async fn topology(&self) -> Result<Arc<Topology>, SidecarError> {
        let mut topology = self.topology.lock().await;
        if let Some(topology) = &*topology {
            return Ok(Arc::clone(topology));
        }
        let choice = Choice::new(&self.settings);
        let is_embedded = matches!(choice, Choice::Embedded(_));
        let Some(server) = choice.running(&self.settings)? else {
            return Err(SidecarError::EngineFailed { detail: "it is not running".into() });
        };
        let client = connect(&server).await?.client;
        let connected = Arc::new(Topology::of_server(&self.settings, client, is_embedded));
        Ok(Arc::clone(topology.insert(connected)))
    }

    /// Connects again with the next question.
    async fn forget(&self) {
        *self.topology.lock().await = None;
    }

    /// Reads which databases have fed the tables, and whether a position is there; the reason if
    /// that cannot be read.
    pub(super) async fn marks(&self, source_id: &str, position: &str) -> Result<Marks, String> {
        if !self.breaker.admits(Instant::now()) {
            return Err("ClickHouse failed a moment ago".to_owned());
        }
        let reading = async {
            let topology = self.topology().await?;
            read_marks(&topology, source_id, position).await
        };
        let outcome = match tokio::time::timeout(MARKS_LIMIT, reading).await {
            Ok(Ok(marks)) => {
                self.breaker.succeeded();
                return Ok(marks);
            }
            Ok(Err(error)) => Err(format!("ClickHouse cannot be asked: {}", Chain(&error))),
            Err(_) => Err(format!("ClickHouse has not answered within {MARKS_LIMIT:?}")),
        };
        self.breaker.failed(Instant::now());
        self.forget().await;
        outcome
    }

    /// Reads whose pass has begun last.
    ///
    /// # Errors
    /// [`SidecarError::ClickHouse`], those of connecting, and [`SidecarError::Unreachable`] after
    /// the time limit.
    pub(super) async fn latest_attempt(&self) -> Result<(String, u64), SidecarError> {
        let topology = self.topology().await?;
        let reading = tokio::time::timeout(MARKS_LIMIT, latest_attempt(&topology));
        let unreachable = |elapsed| SidecarError::Unreachable {
            server: "ClickHouse",
            address: self.address(),
            source: Box::new(elapsed),
        };
        Ok(reading.await.map_err(unreachable)??.unwrap_or_default())
    }

    /// Answers a query.
    ///
    /// # Errors
    /// [`SidecarError::ClickHouse`], [`SidecarError::Json`], those of connecting, and
    /// [`SidecarError::Unreachable`] after the time limit.
    pub(super) async fn answer(
        &self,
        request: &Request,
        limit: Duration,
    ) -> Result<Vec<Map<String, Value>>, SidecarError> {
        let outcome = tokio::time::timeout(limit, self.ask(request, limit)).await.unwrap_or_else(|elapsed| {
            Err(SidecarError::Unreachable { server: "ClickHouse", address: self.address(), source: Box::new(elapsed) })
        });
        if outcome.is_err() {
            self.forget().await;
        }
        outcome
    }

    fn address(&self) -> String {
        self.settings.clickhouse_url.as_ref().map_or_else(|| "the embedded engine".to_owned(), ToString::to_string)
    }

    async fn ask(&self, request: &Request, limit: Duration) -> Result<Vec<Map<String, Value>>, SidecarError> {
        let doing = "answer a query";
        let Some(statement) = forms::clickhouse(request.query.id) else { return Ok(Vec::new()) };
        let topology = self.topology().await?;
        let permit = self.permits.acquire().await;
        let arguments = &request.arguments;
        let days = arguments.range.map(|(from, to)| (from.to_string(), to.to_string()));
        let (from, to) = days.unwrap_or_default();
        let mut query = topology
            .entry
            .query(statement)
            .param("network", arguments.network.name())
            .param("address", arguments.address.as_ref().map_or("", |address| address.as_str()))
            .param("token", arguments.token.as_ref().map_or("", |token| token.as_str()))
            .param("from", from)
            .param("to", to)
            .param("limit", arguments.limit.unwrap_or(0));
        let seconds = limit.as_secs().max(1).to_string();
        let settings = [
            // Nothing but SELECT, whatever rights the sidecar's user has.
            ("readonly", "2"),
            ("max_execution_time", seconds.as_str()),
            ("max_result_rows", MAX_ROWS),
            ("result_overflow_mode", "throw"),
            ("cancel_http_readonly_queries_on_client_close", "1"),
            // An error that comes after the first rows is one of the whole answer.
            ("wait_end_of_query", "1"),
            ("do_not_merge_across_partitions_select_final", "1"),
        ];
        for (name, value) in settings {
            query = query.with_setting(name, value);
        }
        let mut cursor = query.fetch_bytes("JSONEachRow").doing(doing)?;
        let text = cursor.collect().await.doing(doing)?;
        drop(permit);
        text.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).doing("read an answer of ClickHouse"))
            .collect()
    }
}
