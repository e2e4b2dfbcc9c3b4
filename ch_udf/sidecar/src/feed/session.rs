//! The feed with the connections that it uses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pipeline::{PassOptions, PassReport, run_pass};
use super::{ClickHouseSink, Durability, PostgresLedger, PostgresSource};
use crate::error::SidecarError;
use crate::servers::postgres;
use crate::servers::supervisor::Supervisor;
use crate::settings::Settings;
use crate::warehouse::{self, Topology};

/// Interval at which an idle feed checks whether the tables are still its own.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Interval at which a full load records its progress. A process that is killed repeats that much
/// work.
const RECORD_INTERVAL: Duration = Duration::from_secs(5);

/// The connections that passes need.
pub(crate) struct FeedSession {
    source: PostgresSource,
    sink: ClickHouseSink,
    ledger: PostgresLedger,
    /// Start of the last pass that read the sink's marks.
    checked: Option<Instant>,
}

impl FeedSession {
    /// Connects to all servers, and creates the tables that are missing.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar feeds, and those of connecting.
    pub(crate) async fn open(settings: &Settings, supervisor: &Supervisor) -> Result<Self, SidecarError> {
        let ledger = PostgresLedger::acquire(postgres::connect(settings).await?.client).await?;
        let source = PostgresSource::connect(&postgres::Source::read(settings)).await?;
        let topology = Topology::connect(settings, supervisor).await?;
        warehouse::ensure(&topology).await?;
        let durability = match (supervisor.is_embedded(), settings.clickhouse_sync) {
            (true, _) => Durability::Files(Arc::default()),
            (false, true) => Durability::Server,
            (false, false) => Durability::Given,
        };
        let sink = ClickHouseSink::open(topology, !supervisor.is_embedded(), durability).await?;
        Ok(Self { source, sink, ledger, checked: None })
    }

    /// Runs one pass.
    ///
    /// # Errors
    /// Errors of [`run_pass`].
    pub(crate) async fn pass(&mut self, settings: &Settings) -> Result<PassReport, SidecarError> {
        let options = PassOptions {
            chunk_rows: settings.feed_chunk_rows,
            load_workers: settings.feed_load_workers,
            checks_sink: self.checked.is_none_or(|checked| checked.elapsed() > CHECK_INTERVAL),
            record_interval: RECORD_INTERVAL,
            take_over_from: settings.clickhouse_take_over_from.as_deref(),
        };
        let started = Instant::now();
        let report = run_pass(&mut self.source, &mut self.sink, &mut self.ledger, options).await?;
        if options.checks_sink || !report.is_idle() {
            self.checked = Some(started);
        }
        Ok(report)
    }

    /// Returns whether this session has made a pass.
    pub(crate) const fn has_passed(&self) -> bool {
        self.checked.is_some()
    }

    /// Returns the servers that are fed.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.sink.topology()
    }
}
