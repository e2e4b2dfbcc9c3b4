//! The feed with the connections that it uses.

use std::sync::Arc;

use super::pipeline::{PassOptions, PassReport, run_pass};
use super::{ClickHouseSink, PostgresLedger, PostgresSource};
use crate::error::SidecarError;
use crate::servers::postgres;
use crate::servers::supervisor::Supervisor;
use crate::settings::Settings;
use crate::warehouse::{self, Topology};

/// The connections that passes need.
pub(crate) struct FeedSession {
    source: PostgresSource,
    sink: ClickHouseSink,
    ledger: PostgresLedger,
    has_passed: bool,
}

impl FeedSession {
    /// Connects to all servers, and creates the tables that are missing.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar feeds, and those of connecting.
    pub(crate) async fn open(settings: &Settings, supervisor: &Supervisor) -> Result<Self, SidecarError> {
        let ledger = PostgresLedger::acquire(postgres::connect(settings).await?.client).await?;
        let source = PostgresSource::connect(postgres::read_url(settings)).await?;
        let topology = Topology::connect(settings, supervisor).await?;
        warehouse::ensure(&topology).await?;
        let sink = ClickHouseSink::open(topology, !supervisor.is_embedded()).await?;
        Ok(Self { source, sink, ledger, has_passed: false })
    }

    /// Runs one pass.
    ///
    /// # Errors
    /// Errors of [`run_pass`].
    pub(crate) async fn pass(&mut self, settings: &Settings) -> Result<PassReport, SidecarError> {
        let options = PassOptions {
            chunk_rows: settings.feed_chunk_rows,
            load_workers: settings.feed_load_workers,
            checks_sink: !self.has_passed,
        };
        let report = run_pass(&mut self.source, &mut self.sink, &mut self.ledger, options).await?;
        self.has_passed = true;
        Ok(report)
    }

    /// Returns whether this session has made a pass.
    pub(crate) const fn has_passed(&self) -> bool {
        self.has_passed
    }

    /// Returns the servers that are fed.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.sink.topology()
    }
}
