//! The workers that write aggregates back: each kind at its own interval and on its own connection,
//! so that no pass of the feed waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::health::Health;
use super::supervise::{Readiness, Worker};
use crate::error::SidecarError;
use crate::settings::Settings;
use crate::warehouse::Topology;
use crate::write_back::{Kind, WriteBack, Written};

pub(super) struct WriteBackWorker {
    kind: Kind,
    settings: Settings,
    health: Arc<Health>,
    topology_rx: watch::Receiver<Option<Arc<Topology>>>,
    /// The servers of the latest pass.
    topology: Option<Arc<Topology>>,
}

impl WriteBackWorker {
    pub(super) fn new(
        kind: Kind,
        settings: &Settings,
        health: &Arc<Health>,
        topology_rx: watch::Receiver<Option<Arc<Topology>>>,
    ) -> Self {
        Self { kind, settings: settings.clone(), health: Arc::clone(health), topology_rx, topology: None }
    }
}

impl Worker for WriteBackWorker {
    type Session = WriteBack;
    type Report = Written;

    const FAILURE: &'static str = "writing back failed";

    /// Waits for a pass of the feed.
    async fn ready(&mut self) -> Result<Readiness, SidecarError> {
        loop {
            if self.topology_rx.changed().await.is_err() {
                return Ok(Readiness::Finished);
            }
            self.topology = self.topology_rx.borrow_and_update().clone();
            if self.topology.is_some() {
                return Ok(Readiness::Ready);
            }
        }
    }

    async fn open(&mut self) -> Result<WriteBack, SidecarError> {
        WriteBack::open(self.kind, &self.settings).await
    }

    async fn step(&mut self, session: &mut WriteBack) -> Result<Written, SidecarError> {
        let Some(topology) = &self.topology else { return Ok(Written::default()) };
        let written = session.write(topology, self.settings.write_back_daily).await?;
        if written != Written::default() {
            let Written { hours, days, wallets } = written;
            tracing::debug!(hours, days, wallets, "wrote aggregates back");
        }
        Ok(written)
    }

    fn record(&mut self, outcome: Result<&Written, &SidecarError>) {
        match outcome {
            Ok(written) => self.health.record_write_back(self.kind, written),
            Err(error) => {
                // The work is still to be done: do not wait for another pass.
                self.topology_rx.mark_changed();
                self.health.record_write_back_error(self.kind, error);
            }
        }
    }

    fn pause(&mut self, _: &Written, _: Duration) -> Duration {
        match self.kind {
            Kind::Volumes => self.settings.write_back_interval(),
            Kind::Behaviour => self.settings.behaviour_interval(),
        }
    }

    async fn close(self, _: Option<WriteBack>) {}
}
