//! The worker that keeps the cached profiles in step with PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use super::health::Health;
use super::supervise::Worker;
use crate::cache::{Followed, Follower};
use crate::error::SidecarError;
use crate::settings::Settings;

pub(super) struct FollowWorker {
    settings: Settings,
    health: Arc<Health>,
}

impl FollowWorker {
    pub(super) fn new(settings: &Settings, health: &Arc<Health>) -> Self {
        Self { settings: settings.clone(), health: Arc::clone(health) }
    }
}

impl Worker for FollowWorker {
    type Session = Follower;
    type Report = Followed;

    const FAILURE: &'static str = "following the profiles failed";

    async fn open(&mut self) -> Result<Follower, SidecarError> {
        Follower::open(&self.settings).await
    }

    async fn step(&mut self, follower: &mut Follower) -> Result<Followed, SidecarError> {
        follower.pass().await
    }

    fn record(&mut self, outcome: Result<&Followed, &SidecarError>) {
        match outcome {
            Ok(followed) => self.health.record_followed(followed),
            Err(error) => self.health.record_follow_error(error),
        }
    }

    fn pause(&mut self, followed: &Followed, elapsed: Duration) -> Duration {
        if followed.backlog > 0 { Duration::ZERO } else { self.settings.cache_interval().saturating_sub(elapsed) }
    }

    async fn close(self, follower: Option<Follower>) {
        if let Some(follower) = follower {
            follower.leave().await;
        }
    }
}
