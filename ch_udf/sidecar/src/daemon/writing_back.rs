//! Writing back beside the feed: each kind at its own rhythm, on a connection of its own, so that no pass waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::feeding::open_write_back;
use super::health::Health;
use super::{delay_after, pause};
use crate::error::{Retrier, SidecarError};
use crate::settings::Settings;
use crate::warehouse::Topology;
use crate::write_back::{Kind, WriteBack, Written};

/// What was fed, told whenever there may be something to write back.
pub(super) type Fed = watch::Receiver<Option<Arc<Topology>>>;

/// Writes a kind back after passes, until the daemon stops or the feed is gone.
pub(super) async fn write_back_loop(
    kind: Kind,
    settings: Settings,
    health: Arc<Health>,
    mut fed: Fed,
    mut stopping: watch::Receiver<bool>,
) {
    let mut write_back: Option<WriteBack> = None;
    let mut retrier = Retrier::default();
    loop {
        // What is cut off here is done again by whoever comes next.
        let mut stopped = stopping.clone();
        let outcome = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            outcome = step(kind, &settings, &mut fed, &mut write_back) => outcome,
        };
        let wait = match outcome {
            Ok(None) => break,
            Ok(Some(written)) => {
                retrier.reset();
                health.wrote_back(kind, &written);
                interval(kind, &settings)
            }
            Err(error) => {
                write_back = None;
                fed.mark_changed();
                health.write_back_failed(kind, &error);
                delay_after(&error, &mut retrier, "writing back failed")
            }
        };
        if pause(&mut stopping, wait).await {
            break;
        }
    }
}

fn interval(kind: Kind, settings: &Settings) -> Duration {
    match kind {
        Kind::Volumes => settings.write_back(),
        Kind::Behaviour => settings.behaviour(),
    }
}

/// Waits until something was fed, and writes it back; nothing when no feed will feed any more.
async fn step(
    kind: Kind,
    settings: &Settings,
    fed: &mut Fed,
    write_back: &mut Option<WriteBack>,
) -> Result<Option<Written>, SidecarError> {
    let topology = loop {
        if fed.changed().await.is_err() {
            return Ok(None);
        }
        if let Some(topology) = fed.borrow_and_update().clone() {
            break topology;
        }
    };
    let open = match write_back.take() {
        Some(open) => open,
        None => open_write_back(kind, settings).await?,
    };
    let written = write_back.insert(open).write(&topology, settings.write_back_daily).await?;
    if written != Written::default() {
        tracing::debug!(hours = written.hours, days = written.days, wallets = written.wallets, "wrote aggregates back");
    }
    Ok(Some(written))
}
