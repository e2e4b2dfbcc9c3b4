//! `arx-sidecar maintain`: upkeep that cannot run inside a function, and the schedules where there
//! is no pg_cron. `arx-sidecar restore-archive` brings archived rows back.

use std::process::ExitCode;

use clap::Args;

use super::output::print_line;
use super::{CommandError, exit_code};
use crate::escape::{Inline, Lines};
use crate::settings::Settings;
use crate::upkeep::{Finished, Outcome, restore, run_queue, run_schedules, waiting_statements};

/// Arguments of `arx-sidecar maintain`.
#[derive(Debug, Args)]
pub(super) struct MaintainArgs {
    /// Only print what is due
    #[arg(long)]
    dry_run: bool,
    /// Run the jobs of arx.schedules at their times, and what is due every hour, until stopped
    #[arg(long, conflicts_with = "dry_run")]
    schedules: bool,
}

impl MaintainArgs {
    /// Runs or prints what is due. A failed task does not prevent the others.
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        if self.schedules {
            run_schedules(settings).await?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.dry_run {
            let waiting = waiting_statements(settings).await?;
            if waiting.is_empty() {
                print_line("nothing is due")?;
            }
            for (kind, name, statement) in waiting {
                match statement.filter(|statement| !statement.is_empty()) {
                    Some(statement) => print_line(format_args!("{};", Lines(statement)))?,
                    None => print_line(format_args!("-- {} {}", Inline(kind), Inline(name)))?,
                }
            }
            return Ok(ExitCode::SUCCESS);
        }
        // The upkeep does not depend on a reader of its lines.
        let (mut finished, mut is_ok, mut printed) = (0, true, Ok(()));
        run_queue(settings, |task| {
            finished += 1;
            let Finished { kind, name, outcome, elapsed } = task;
            let (kind, name, seconds) = (Inline(kind), Inline(name), elapsed.as_secs_f64());
            let line = match outcome {
                Outcome::Done => print_line(format_args!("done in {seconds:.2} s: {kind} {name}")),
                Outcome::Obsolete => print_line(format_args!("not needed any more: {kind} {name}")),
                Outcome::Failed(error) => {
                    is_ok = false;
                    print_line(format_args!("FAILED: {kind} {name} ({})", Lines(error)))
                }
            };
            if printed.is_ok() {
                printed = line;
            }
        })
        .await?;
        printed?;
        if finished == 0 {
            print_line("nothing is due")?;
        }
        Ok(exit_code(is_ok))
    }
}

/// Arguments of `arx-sidecar restore-archive`.
#[derive(Debug, Args)]
pub(super) struct RestoreArchiveArgs {
    /// Archive to restore: `archive_id` of arx.archived_ranges
    #[arg(value_name = "ARCHIVE")]
    archive_id: String,
}

impl RestoreArchiveArgs {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let rows = restore(settings, &self.archive_id).await?;
        print_line(format_args!("restored {rows} rows"))?;
        Ok(ExitCode::SUCCESS)
    }
}
