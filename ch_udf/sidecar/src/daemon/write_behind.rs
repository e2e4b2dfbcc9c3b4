//! The worker that applies queued annotations.

use std::sync::Arc;
use std::time::Duration;

use super::health::Health;
use super::supervise::Worker;
use crate::cache::{Drained, Writer};
use crate::error::SidecarError;
use crate::settings::Settings;

/// Pause when nothing is queued.
const IDLE_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct WriteBehindWorker {
    settings: Settings,
    health: Arc<Health>,
}

impl WriteBehindWorker {
    pub(super) fn new(settings: &Settings, health: &Arc<Health>) -> Self {
        Self { settings: settings.clone(), health: Arc::clone(health) }
    }
}

/// One round, and the entries that are still queued after it.
pub(super) struct Round {
    drained: Drained,
    pending: u64,
}

impl Worker for WriteBehindWorker {
    type Session = Writer;
    type Report = Round;

    const FAILURE: &'static str = "write-behind failed";

    /// A round is short, and its acknowledgements should follow its commit.
    const CAN_INTERRUPT: bool = false;

    async fn open(&mut self) -> Result<Writer, SidecarError> {
        Writer::acquire(&self.settings).await
    }

    async fn step(&mut self, writer: &mut Writer) -> Result<Round, SidecarError> {
        let drained = writer.drain().await?;
        Ok(Round { drained, pending: writer.pending().await? })
    }

    fn record(&mut self, outcome: Result<&Round, &SidecarError>) {
        match outcome {
            Ok(round) => self.health.record_write_behind(&round.drained, round.pending),
            Err(error) => self.health.record_write_behind_error(error),
        }
    }

    fn pause(&mut self, round: &Round, _: Duration) -> Duration {
        if round.drained.is_idle() { IDLE_PAUSE } else { Duration::ZERO }
    }

    async fn close(self, writer: Option<Writer>) {
        if let Some(writer) = writer {
            writer.leave().await;
        }
    }
}
