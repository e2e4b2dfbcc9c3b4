//! `arx-sidecar run` during a measurement.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack};

/// Limit for carrying rows and for stopping.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The confirmed attempt of the feed; 0 if it has never run.
const CONFIRMED: &str = "SELECT coalesce(max(confirmed), 0) FROM arx.feed_positions WHERE consumer = 'clickhouse'";

/// A running daemon, which ends with the stack unless it is stopped before.
#[derive(Debug)]
pub struct Daemon<'a> {
    stack: &'a Stack,
    pid: u32,
}

impl<'a> Daemon<'a> {
    /// Starts the daemon and waits until it has confirmed a pass. There must be rows to carry, or
    /// no earlier feed.
    ///
    /// # Errors
    /// When the daemon ends, or confirms nothing in time.
    pub fn start(stack: &'a Stack, database: &Database<'_>) -> Result<Self> {
        let confirmed =
            || -> Result<u64> { database.query(CONFIRMED)?.parse().context("read what the feed confirmed") };
        let before = confirmed()?;
        let mut command = database.sidecar()?;
        let log = format!("daemon-{}", database.name());
        let daemon = Self { stack, pid: stack.start_server(&log, command.arg("run"))? };
        let has_fed = wait_until(LIMIT, || {
            ensure!(stack.ended(daemon.pid).is_none(), "the daemon ended; see {log}.log");
            Ok(confirmed()? > before)
        })?;
        ensure!(has_fed, "the daemon confirmed nothing within {LIMIT:?}; see {log}.log");
        Ok(daemon)
    }

    /// Stops the daemon as an operator does, and waits for its end.
    ///
    /// # Errors
    /// When it does not end, or ends with an error.
    pub fn stop(self) -> Result<()> {
        run(Command::new("kill").args(["-s", "TERM", &self.pid.to_string()]))?;
        let mut status = None;
        wait_until(LIMIT, || {
            status = self.stack.ended(self.pid);
            Ok(status.is_some())
        })?;
        let status = status.context("the daemon did not end")?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }
}

/// Creates the partitions for rows of today.
///
/// # Errors
/// When a partition cannot be made.
pub fn ensure_this_month(database: &Database<'_>) -> Result<()> {
    database.query("SELECT arx.ensure_partitions('arx.transactions', now(), now() + interval '1 day')").map(drop)
}
