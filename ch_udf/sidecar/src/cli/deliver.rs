//! `arx-sidecar deliver`: sends alerts about wallets to their destinations, without ClickHouse and
//! Redis.

use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::output::print_line;
use super::{CommandError, exit_code};
use crate::deliver::{deliver_once, deliver_until, judge_once, judge_until};
use crate::error::DoingTo;
use crate::escape::Inline;
use crate::settings::Settings;

/// Arguments of `arx-sidecar deliver`.
#[derive(Debug, Args)]
pub(super) struct DeliverArgs {
    /// Deliver what is due now, and end
    #[arg(long)]
    once: bool,
    /// Also judge new transfers by the alert rules, within a second of their commit
    #[arg(long)]
    judge: bool,
}

impl DeliverArgs {
    /// Delivers once, or until SIGTERM or Ctrl-C. A delivery that failed is tried again later; with
    /// `--once`, the exit code shows it.
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        if self.once {
            if self.judge {
                judge_once(settings).await?;
            }
            let outcomes = deliver_once(settings).await?;
            for (destination, outcome) in &outcomes {
                print_line(format_args!(
                    "{}: {} delivered, {} failed",
                    Inline(destination),
                    outcome.sent,
                    outcome.failed
                ))?;
            }
            return Ok(exit_code(outcomes.values().all(|outcome| outcome.failed == 0)));
        }
        let handler = |kind| signal(kind).doing_to("handle signals of", "this process");
        let (mut terminated, mut interrupted) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
        let (stop, stopping) = watch::channel(false);
        let judging = self.judge.then(|| tokio::spawn(judge_until(settings.clone(), stopping.clone())));
        let work = tokio::spawn(deliver_until(settings.clone(), stopping));
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        // Sending fails only when the task has ended.
        let _ = stop.send(true);
        work.await?;
        if let Some(judging) = judging {
            judging.await?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
