//! The daemon: feeds ClickHouse, writes aggregates back, keeps the cached profiles in step, applies
//! write-behind, keeps the embedded engine alive, and answers `/healthz`, `/metrics`,
//! `/v1/wallets` and `/v1/query`.
//!
//! Owns the tasks and how they stop; the work itself belongs to `feed`, `write_back`, `cache` and
//! `servers`.

mod database_health;
mod feeding;
mod following;
mod functions;
mod health;
mod http;
mod metrics;
mod queries;
mod reload;
mod supervise;
mod tokens;
mod wallets;
mod write_back;
mod write_behind;

use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cache::{WriteQueue, identity};
use crate::deliver::{deliver_until, judge_until};
use crate::error::{DoingTo, SidecarError};
use crate::servers::postgres;
use crate::servers::redis::Endpoint;
use crate::servers::supervisor::Supervisor;
use crate::servers::{self};
use crate::settings::{Listen, Settings};
use crate::write_back::Kind;
use database_health::DatabaseHealthWorker;
use feeding::FeedWorker;
use following::FollowWorker;
use functions::FunctionsWorker;
use health::Health;
pub use metrics::{METRICS, Metric, MetricKind};
use supervise::supervise;
use write_back::WriteBackWorker;
use write_behind::WriteBehindWorker;

/// Descriptors that the daemon and the embedded engine may use, if the system allows.
const DESCRIPTORS: u64 = 65_536;

/// Raises the soft limit of open files, which is 1,024 on most systems, towards the hard limit. The
/// embedded engine inherits it.
fn raise_descriptor_limit() {
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    let Ok((soft, hard)) = limits else { return };
    let wanted = hard.min(DESCRIPTORS);
    if soft < wanted
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
    {
        tracing::debug!(%error, soft, "the limit of open files stays");
    }
}

/// Runs until SIGTERM or Ctrl-C.
///
/// # Errors
/// Errors that prevent the start: wrong settings, servers that are down or too old, a port that is
/// taken. Later errors are logged, counted, and retried.
pub(crate) async fn run(settings: &Settings) -> Result<(), SidecarError> {
    let handler = |kind| signal(kind).doing_to("handle signals of", "this process");
    let (mut terminated, mut interrupted) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    raise_descriptor_limit();
    let health = Arc::new(Health::install()?);
    let client = postgres::connect(settings).await?.client;
    let (identity, _) = identity(&client).await?;
    drop(client);
    drop(servers::redis::connect(settings, Endpoint::Cache).await?);
    if settings.write_behind {
        drop(WriteQueue::connect(settings, identity).await?);
    }
    let supervisor = Supervisor::ensure(settings).await?;
    let (stop, stopping) = watch::channel(false);
    let server = match settings.listen() {
        Listen::Off => None,
        Listen::On(address) => Some(http::serve(&address, settings, Arc::clone(&health), stopping.clone()).await?),
    };
    let (topology_tx, topology_rx) = watch::channel(None);
    let mut tasks = vec![
        tokio::spawn(supervise(FeedWorker::new(settings, supervisor, &health, topology_tx), stopping.clone())),
        tokio::spawn(supervise(FollowWorker::new(settings, &health), stopping.clone())),
        tokio::spawn(supervise(DatabaseHealthWorker::new(settings), stopping.clone())),
        tokio::spawn(supervise(FunctionsWorker::new(settings, &health), stopping.clone())),
    ];
    if settings.write_behind {
        tasks.push(tokio::spawn(supervise(WriteBehindWorker::new(settings, &health), stopping.clone())));
    }
    tasks.extend(Kind::ALL.map(|kind| {
        let worker = WriteBackWorker::new(kind, settings, &health, topology_rx.clone());
        tokio::spawn(supervise(worker, stopping.clone()))
    }));
    tasks.push(tokio::spawn(deliver_until(settings.clone(), stopping.clone())));
    tasks.push(tokio::spawn(judge_until(settings.clone(), stopping.clone())));
    tasks.extend(server);
    tracing::info!("running; SIGTERM or Ctrl-C stops");
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tracing::info!("stopping");
    // Sending fails only when every task has ended.
    let _ = stop.send(true);
    for task in tasks {
        if let Err(error) = task.await {
            tracing::error!(%error, "a task failed to end cleanly");
        }
    }
    Ok(())
}
