//! `arx-sidecar run` beside a measurement.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack};

/// How long the daemon may take to carry something, and to end.
pub const LIMIT: Duration = Duration::from_secs(120);

/// What the feed has confirmed; 0 if it has never run.
const CONFIRMED: &str = "SELECT coalesce(max(confirmed), 0) FROM arx.feed_positions WHERE consumer = 'clickhouse'";

/// A running daemon. It ends with the stack, if nobody stops it before.
#[derive(Debug)]
pub struct Daemon<'a> {
    stack: &'a Stack,
    pid: u32,
}

impl<'a> Daemon<'a> {
    /// Starts it, and waits until it has confirmed a pass. There must be something that has not been fed, or no feed yet.
    ///
    /// # Errors
    /// When it ends, or confirms nothing in time.
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

    /// Ends it as an operator does, and waits for its end.
    ///
    /// # Errors
    /// When it does not end, or not well.
    pub fn stop(self) -> Result<()> {
        run(Command::new("kill").args(["-s", "TERM", &self.pid.to_string()]))?;
        let mut status = None;
        wait_until(LIMIT, || {
            status = self.stack.ended(self.pid);
            Ok(status.is_some())
        })?;
        let status = status.context("the daemon does not end")?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }
}

/// Makes the months of rows that are written now.
///
/// # Errors
/// When a partition cannot be made.
pub fn ensure_this_month(database: &Database<'_>) -> Result<()> {
    database.query("SELECT arx.ensure_partitions('arx.transactions', now(), now() + interval '1 day')").map(drop)
}
