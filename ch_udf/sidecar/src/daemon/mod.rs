//! The daemon: feeds ClickHouse, writes aggregates back, applies write-behind, watches the embedded engine, and answers `/healthz` and
//! `/metrics`.
//! Owns the tasks and how they stop; the work itself belongs to `feed`, `cache` and `engine`.

mod feeding;
mod health;
mod http;
mod metrics;
mod writing_back;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cache::{ProfileCache, Writer};
use crate::error::{Chain, Retrier, SidecarError};
use crate::feed::PassReport;
use crate::servers::engine::Supervisor;
use crate::servers::postgres;
use crate::settings::{Listen, Settings};
use crate::warehouse::Topology;
use crate::write_back::Kind;
pub(crate) use feeding::Feed;
pub use feeding::Round;
use health::Health;
pub use metrics::{METRICS, Metric, MetricKind};
use writing_back::write_back_loop;

/// Pause after an error that trying again does not help: somebody has to act, and may have.
const REST: Duration = Duration::from_secs(60);

/// Pause of the write-behind consumer when nothing is queued.
const WRITE_BEHIND_PAUSE: Duration = Duration::from_millis(200);

/// One pass of the feed, with an engine of its own if none runs. Waits for whoever is in the way (another pass, an engine that
/// is just ending); a server that is down is an error at once.
///
/// # Errors
/// The first one that waiting did not help.
pub async fn sync_once(settings: &Settings) -> Result<Round, SidecarError> {
    // PostgreSQL first: an engine is not started for a database that is not there
    drop(postgres::connect(&settings.postgres_url).await?);
    let mut retrier = Retrier::default();
    loop {
        let error = match sync_try(settings).await {
            Ok(report) => return Ok(report),
            Err(error @ SidecarError::Unreachable { .. }) => return Err(error),
            Err(error) => error,
        };
        let Some(delay) = retrier.delay(&error) else { return Err(error) };
        tracing::warn!(error = %Chain(&error), again_in = ?delay, "trying again");
        tokio::time::sleep(delay).await;
    }
}

async fn sync_try(settings: &Settings) -> Result<Round, SidecarError> {
    Supervisor::during(settings, async |supervisor| {
        let mut feed = Feed::open(settings, supervisor).await?;
        let pass = feed.pass(settings).await?;
        Ok(Round { pass, written: feed.write_back(settings).await? })
    })
    .await
}

/// Runs until SIGTERM or Ctrl-C.
///
/// # Errors
/// What is wrong at the start: settings, servers that are down or too old, a port that is taken. Later trouble is logged,
/// counted, and tried again.
pub async fn run(settings: &Settings) -> Result<(), SidecarError> {
    let handler =
        |kind| signal(kind).map_err(|source| SidecarError::io("handle signals of", "this process".as_ref(), source));
    let (mut terminated, mut interrupted) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    let health = Arc::new(Health::install()?);
    drop(postgres::connect(&settings.postgres_url).await?);
    drop(ProfileCache::connect(&settings.redis_url, settings.profile_ttl_seconds).await?);
    let supervisor = Supervisor::ensure(settings).await?;
    let (stop, stopping) = watch::channel(false);
    let server = match settings.listen() {
        Listen::Off => None,
        Listen::On(address) => Some(http::serve(&address, Arc::clone(&health), stopping.clone()).await?),
    };
    let (tell, fed) = watch::channel(None);
    let mut tasks = vec![
        tokio::spawn(feed_loop(settings.clone(), supervisor, tell, Arc::clone(&health), stopping.clone())),
        tokio::spawn(write_loop(settings.clone(), Arc::clone(&health), stopping.clone())),
    ];
    tasks.extend(Kind::ALL.map(|kind| {
        tokio::spawn(write_back_loop(kind, settings.clone(), Arc::clone(&health), fed.clone(), stopping.clone()))
    }));
    tasks.extend(server);
    tracing::info!("running; SIGTERM or Ctrl-C stops");
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tracing::info!("stopping");
    // everybody holds a receiver, and a task that is gone already needs no telling
    let _ = stop.send(true);
    for task in tasks {
        if let Err(error) = task.await {
            tracing::error!(%error, "a task ended badly");
        }
    }
    Ok(())
}

/// Waits, or returns `true` at once when the daemon stops.
async fn pause(stopping: &mut watch::Receiver<bool>, time: Duration) -> bool {
    tokio::time::timeout(time, stopping.wait_for(|stop| *stop)).await.is_ok()
}

/// Says what failed, and for how long to leave it alone.
fn delay_after(error: &SidecarError, retrier: &mut Retrier, what: &'static str) -> Duration {
    let delay = retrier.delay(error).unwrap_or_else(|| {
        retrier.reset();
        REST
    });
    tracing::error!(error = %Chain(error), again_in = ?delay, "{what}");
    delay
}

async fn feed_loop(
    settings: Settings,
    mut supervisor: Supervisor,
    tell: watch::Sender<Option<Arc<Topology>>>,
    health: Arc<Health>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut feed: Option<Feed> = None;
    let mut retrier = Retrier::default();
    let mut idle = settings.feed_interval();
    loop {
        // A pass that is cut off here is a crash like any other: the next one makes it good.
        let mut stopped = stopping.clone();
        let begun = Instant::now();
        let outcome = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            outcome = feed_step(&settings, &mut supervisor, &mut feed, &tell) => outcome,
        };
        let wait = match outcome {
            Ok(pass) => {
                retrier.reset();
                health.fed(&pass);
                idle = if pass.is_idle() { (idle * 2).min(settings.feed_idle()) } else { settings.feed_interval() };
                rest_of(idle, begun.elapsed())
            }
            Err(error) => {
                feed = None;
                health.feed_failed(&error);
                delay_after(&error, &mut retrier, "the feed failed")
            }
        };
        if pause(&mut stopping, wait).await {
            break;
        }
    }
    drop(feed);
    supervisor.stop().await;
}

/// How long to rest after a pass, so that the next one begins an interval after it did. Who cannot keep up rests for a fourth of it: the
/// servers have others to serve.
fn rest_of(interval: Duration, elapsed: Duration) -> Duration {
    interval.saturating_sub(elapsed).max(interval / 4)
}

async fn feed_step(
    settings: &Settings,
    supervisor: &mut Supervisor,
    feed: &mut Option<Feed>,
    tell: &watch::Sender<Option<Arc<Topology>>>,
) -> Result<PassReport, SidecarError> {
    if supervisor.revive().await? {
        *feed = None;
    }
    let open = match feed.take() {
        Some(open) => open,
        None => Feed::open(settings, supervisor).await?,
    };
    let feed = feed.insert(open);
    // an earlier process may have ended between a pass and what follows it
    let is_first = !feed.has_passed();
    let pass = feed.pass(settings).await?;
    if is_first || !pass.is_idle() {
        tell.send_replace(Some(feed.topology()));
    }
    if !pass.is_idle() {
        tracing::debug!(
            full = pass.full,
            rows = pass.rows,
            tombstones = pass.tombstones,
            reloaded = pass.reloaded,
            repaired = pass.repaired,
            elapsed = ?pass.elapsed,
            "fed ClickHouse"
        );
    }
    Ok(pass)
}

async fn write_loop(settings: Settings, health: Arc<Health>, mut stopping: watch::Receiver<bool>) {
    let mut writer: Option<Writer> = None;
    let mut retrier = Retrier::default();
    loop {
        let wait = match write_step(&settings, &mut writer, &health).await {
            Ok(idle) => {
                retrier.reset();
                if idle { WRITE_BEHIND_PAUSE } else { Duration::ZERO }
            }
            Err(error) => {
                writer = None;
                health.writes_failed();
                delay_after(&error, &mut retrier, "write-behind failed")
            }
        };
        if pause(&mut stopping, wait).await {
            break;
        }
    }
    if let Some(writer) = writer {
        writer.leave().await;
    }
}

/// One round of write-behind; whether there was nothing to do.
async fn write_step(settings: &Settings, writer: &mut Option<Writer>, health: &Health) -> Result<bool, SidecarError> {
    let open = match writer.take() {
        Some(open) => open,
        None => {
            let cache = ProfileCache::connect(&settings.redis_url, settings.profile_ttl_seconds).await?;
            let client = postgres::connect(&settings.postgres_url).await?.client;
            Writer::acquire(client, cache).await?
        }
    };
    let open = writer.insert(open);
    let drained = open.drain().await?;
    health.wrote(&drained, open.pending().await?);
    Ok(drained.is_idle())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_begin_an_interval_apart_unless_they_take_longer() {
        let rest = |elapsed| rest_of(Duration::from_millis(800), Duration::from_millis(elapsed)).as_millis();
        assert_eq!([0, 100, 600, 601, 5_000].map(rest), [800, 700, 200, 200, 200]);
    }
}
