//! The worker that notices when ClickHouse's functions apply other documents than the database has.

use std::sync::Arc;
use std::time::Duration;

use super::health::Health;
use super::supervise::Worker;
use crate::error::SidecarError;
use crate::functions::{Comparer, Comparison};
use crate::settings::Settings;

/// Interval at which the documents are read. ClickHouse is asked only when they have changed, or
/// until it follows.
const INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct FunctionsWorker {
    settings: Settings,
    health: Arc<Health>,
}

impl FunctionsWorker {
    pub(super) fn new(settings: &Settings, health: &Arc<Health>) -> Self {
        Self { settings: settings.clone(), health: Arc::clone(health) }
    }
}

impl Worker for FunctionsWorker {
    type Session = Comparer;
    type Report = Comparison;

    const FAILURE: &'static str = "comparing the functions in ClickHouse failed";

    async fn open(&mut self) -> Result<Comparer, SidecarError> {
        Ok(Comparer::default())
    }

    async fn step(&mut self, session: &mut Comparer) -> Result<Comparison, SidecarError> {
        session.compare(&self.settings).await
    }

    fn record(&mut self, outcome: Result<&Comparison, &SidecarError>) {
        if let Ok(comparison) = outcome {
            self.health.record_functions(*comparison);
        }
    }

    fn pause(&mut self, _: &Comparison, _: Duration) -> Duration {
        INTERVAL
    }

    async fn close(self, _: Option<Comparer>) {}
}
