//! The worker that feeds ClickHouse and keeps the embedded engine alive.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::health::Health;
use super::supervise::{Readiness, Worker};
use crate::error::SidecarError;
use crate::feed::{FeedSession, PassReport};
use crate::servers::supervisor::Supervisor;
use crate::settings::Settings;
use crate::warehouse::Topology;

pub(super) struct FeedWorker {
    settings: Settings,
    supervisor: Supervisor,
    health: Arc<Health>,
    /// The fed servers, sent whenever there may be aggregates to write back.
    topology_tx: watch::Sender<Option<Arc<Topology>>>,
    /// Interval of passes; it grows while there is nothing to feed.
    interval: Duration,
    /// Rows that were set aside when it was last logged.
    set_aside: u64,
}

impl FeedWorker {
    pub(super) fn new(
        settings: &Settings,
        supervisor: Supervisor,
        health: &Arc<Health>,
        topology_tx: watch::Sender<Option<Arc<Topology>>>,
    ) -> Self {
        let interval = settings.feed_interval();
        Self { settings: settings.clone(), supervisor, health: Arc::clone(health), topology_tx, interval, set_aside: 0 }
    }
}

impl Worker for FeedWorker {
    type Session = FeedSession;
    type Report = PassReport;

    const FAILURE: &'static str = "the feed failed";

    async fn ready(&mut self) -> Result<Readiness, SidecarError> {
        Ok(if self.supervisor.revive().await? { Readiness::Reopen } else { Readiness::Ready })
    }

    async fn open(&mut self) -> Result<FeedSession, SidecarError> {
        FeedSession::open(&self.settings, &self.supervisor).await
    }

    async fn step(&mut self, session: &mut FeedSession) -> Result<PassReport, SidecarError> {
        // An earlier process may have ended between a pass and its write-back.
        let is_first = !session.has_passed();
        let pass = session.pass(&self.settings).await?;
        if is_first || !pass.is_idle() {
            self.topology_tx.send_replace(Some(session.topology()));
        }
        if !pass.is_idle() {
            tracing::debug!(
                full = pass.full,
                rows = pass.rows,
                tombstones = pass.tombstones,
                reloaded = pass.reloaded,
                ranges = pass.ranges,
                repaired = pass.repaired,
                elapsed = ?pass.elapsed,
                "fed ClickHouse"
            );
        }
        if pass.set_aside != self.set_aside {
            self.set_aside = pass.set_aside;
            tracing::warn!(rows = pass.set_aside, "rows that ClickHouse cannot hold are in arx.feed_rejects");
        }
        Ok(pass)
    }

    fn record(&mut self, outcome: Result<&PassReport, &SidecarError>) {
        match outcome {
            Ok(pass) => self.health.record_pass(pass),
            Err(error) => self.health.record_feed_error(error),
        }
    }

    fn pause(&mut self, pass: &PassReport, elapsed: Duration) -> Duration {
        self.interval = if pass.is_idle() {
            (self.interval * 2).min(self.settings.feed_idle())
        } else {
            self.settings.feed_interval()
        };
        pause_after(self.interval, elapsed)
    }

    async fn close(mut self, session: Option<FeedSession>) {
        drop(session);
        self.supervisor.stop().await;
    }
}

/// Returns the pause after a pass, so that the next one starts one interval after its start. A feed
/// that falls behind still pauses for a quarter of the interval, to leave capacity for other
/// clients.
fn pause_after(interval: Duration, elapsed: Duration) -> Duration {
    interval.saturating_sub(elapsed).max(interval / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_start_an_interval_apart_unless_they_take_longer() {
        let pause = |elapsed| pause_after(Duration::from_millis(800), Duration::from_millis(elapsed)).as_millis();
        assert_eq!([0, 100, 600, 601, 5_000].map(pause), [800, 700, 200, 200, 200]);
    }
}
