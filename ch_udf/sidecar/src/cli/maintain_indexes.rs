//! `arx-sidecar maintain-indexes`: runs the statements that `arx.index_maintenance_plan()`
//! proposes. `REINDEX CONCURRENTLY` and the like cannot run inside a function, so each runs here as
//! a statement.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use super::output::print_line;
use super::{CommandError, exit_code};
use crate::error::{Chain, Doing};
use crate::escape::Lines;
use crate::servers::postgres;
use crate::settings::Settings;

const PLAN: &str = "SELECT statement FROM arx.index_maintenance_plan() WHERE statement IS NOT NULL";

/// Arguments of `arx-sidecar maintain-indexes`.
#[derive(Debug, Args)]
pub(super) struct MaintainIndexesArgs {
    /// Only print the statements
    #[arg(long)]
    dry_run: bool,
}

impl MaintainIndexesArgs {
    /// Runs or prints the plan. A failed statement does not prevent the others.
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let client = postgres::connect(settings).await?.client;
        // Concurrent index builds wait for old transactions, and nothing waits for them.
        client.batch_execute("SET lock_timeout = 0").await.doing("prepare index maintenance")?;
        let rows = client.query(PLAN, &[]).await.doing("read the index maintenance plan")?;
        if rows.is_empty() {
            print_line("no index needs maintenance")?;
        }
        // The upkeep does not depend on a reader of its lines.
        let (mut is_ok, mut printed) = (true, Ok(()));
        for row in rows {
            let statement: String = row.get(0);
            if self.dry_run {
                print_line(format_args!("{};", Lines(statement.trim_end_matches(';'))))?;
                continue;
            }
            let started = Instant::now();
            let outcome = client.batch_execute(&statement).await.doing("run index maintenance");
            let elapsed = started.elapsed().as_secs_f64();
            printed = printed.and(match outcome {
                Ok(()) => print_line(format_args!("done in {elapsed:.2} s: {}", Lines(&statement))),
                Err(error) => {
                    is_ok = false;
                    tracing::warn!(statement, error = %Chain(&error), "index maintenance failed");
                    print_line(format_args!("FAILED: {} ({})", Lines(&statement), Lines(Chain(&error))))
                }
            });
        }
        printed?;
        Ok(exit_code(is_ok))
    }
}
