//! The ClickHouse of a database: timed loads into it, and checks of its rows.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use arx_stack::clickhouse::ClickHouse;
use arx_stack::process::run;
use arx_stack::{Database, Stack};

/// Limit for a load.
const LOAD_LIMIT: Duration = Duration::from_secs(600);

/// Polling interval for the progress of a load. Each query costs ClickHouse 2 ms of CPU time.
const POLL: Duration = Duration::from_millis(50);

/// Number of merges and of other queries. The engine's own query, which waits on a pipe, has
/// another user.
const ACTIVITY: &str = "SELECT (SELECT count() FROM system.merges) \
     + (SELECT count() FROM system.processes WHERE user = 'arx' AND query_id != queryID())";

/// A database and the ClickHouse that its sidecar feeds.
#[derive(Debug)]
pub struct Warehouse<'a> {
    database: &'a Database<'a>,
    pub engine: ClickHouse,
    /// First arguments of `postgresql()` and MaterializedPostgreSQL, which use the same Unix socket
    /// as the sidecar.
    pub postgres: String,
    /// Transactions in PostgreSQL.
    pub rows: u64,
    /// Sum of their values.
    pub value: String,
}

/// Times of a first load.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Seconds from the start of the program until all rows were in `transaction_events`.
    pub rows: f64,
    /// Seconds until the program ended, with all aggregates computed and written back, if it ran so
    /// far.
    pub whole: Option<f64>,
}

impl<'a> Warehouse<'a> {
    /// Starts an engine for a database. It ends with the stack.
    ///
    /// # Errors
    /// When the engine does not start, or the database cannot be read.
    pub fn start(stack: &Stack, database: &'a Database<'a>) -> Result<Self> {
        let engine = ClickHouse::start(stack, database)?;
        let totals = database.query("SELECT count(*), coalesce(trim_scale(sum(value)), 0) FROM arx.transactions")?;
        let (rows, value) = totals.split_once('|').context("parse PostgreSQL's totals")?;
        let cluster = stack.cluster();
        let postgres = format!("'{}:{}', '{}'", cluster.host().display(), cluster.port(), database.name());
        Ok(Self {
            database,
            engine,
            postgres,
            rows: rows.parse().context("count the transactions")?,
            value: value.to_owned(),
        })
    }

    /// Runs `arx-sidecar sync` into a ClickHouse without ARX's tables, to its end or until all rows
    /// have arrived.
    ///
    /// # Errors
    /// When it fails, or ClickHouse's rows differ from PostgreSQL's.
    pub fn load(&self, to_the_end: bool) -> Result<Load> {
        self.load_with(to_the_end, &[])
    }

    /// [`Self::load`] with further variables of the environment, such as other addresses.
    ///
    /// # Errors
    /// The errors of [`Self::load`].
    pub fn load_with(&self, to_the_end: bool, variables: &[(&str, String)]) -> Result<Load> {
        self.drop_database("arx")?;
        let mut command = self.database.sidecar()?;
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.arg("sync").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let mut child = command.spawn().context("start a first load")?;
        let rows = self.wait_for_rows(("arx", "transaction_events"), start, Some(&mut child));
        if rows.is_err() || !to_the_end {
            // Fails when the program has ended by itself.
            let _ = child.kill();
        }
        let status = child.wait().context("wait for a first load")?;
        let (rows, whole) = (rows?, start.elapsed().as_secs_f64());
        ensure!(status.success() || !to_the_end, "the first load ended with {status}");
        self.settle()?;
        self.ensure_same("arx.transaction_events FINAL")?;
        Ok(Load { rows, whole: to_the_end.then_some(whole) })
    }

    /// Drops a database. Its files stay for some minutes, because ext4 without a journal examines
    /// recently deleted files whenever it creates one, and the next run would pay for that.
    ///
    /// # Errors
    /// When ClickHouse fails, or does not become idle.
    pub fn drop_database(&self, name: &str) -> Result<()> {
        self.settle()?;
        self.engine.query(&format!("DROP DATABASE IF EXISTS {name}"))?;
        self.settle()
    }

    /// Creates ARX's tables without rows, and without the views that count arriving rows, which our
    /// first load does not use either.
    ///
    /// # Errors
    /// When a table cannot be created.
    pub fn create_tables(&self) -> Result<()> {
        self.drop_database("arx")?;
        run(self.database.sidecar()?.args(["clickhouse", "apply"]))?;
        let views = "SELECT name FROM system.tables WHERE database = 'arx' AND engine = 'MaterializedView'";
        for view in self.engine.query(views)?.lines() {
            self.engine.query(&format!("DROP VIEW arx.{view} SYNC"))?;
        }
        self.settle()
    }

    /// Returns the seconds from `start` until a table shows all rows of PostgreSQL. Polling does
    /// not read the table before all rows have arrived.
    ///
    /// # Errors
    /// When the rows do not arrive, or the loading process ends without them.
    pub fn wait_for_rows(
        &self,
        (database, table): (&str, &str),
        start: Instant,
        mut loader: Option<&mut Child>,
    ) -> Result<f64> {
        let count = format!(
            "SELECT sum(rows) FROM system.parts WHERE active AND database = '{database}' AND table = '{table}'"
        );
        loop {
            let ended = match &mut loader {
                Some(child) => child.try_wait().context("read the status of a load")?,
                None => None,
            };
            let rows: u64 = self.engine.query(&count)?.parse().context("count the rows that have arrived")?;
            if rows >= self.rows && self.shows_all(database, table) {
                return Ok(start.elapsed().as_secs_f64());
            }
            if let Some(status) = ended {
                bail!("the load ended with {status} and {rows} of {} rows", self.rows);
            }
            ensure!(start.elapsed() < LOAD_LIMIT, "{rows} of {} rows arrived within {LOAD_LIMIT:?}", self.rows);
            std::thread::sleep(POLL);
        }
    }

    /// Returns true when a table can be queried. MaterializedPostgreSQL has the rows shortly before
    /// it shows its table.
    fn shows_all(&self, database: &str, table: &str) -> bool {
        let shown = self.engine.query(&format!("SELECT count() FROM {database}.{table}"));
        shown.is_ok_and(|rows| rows.parse::<u64>().is_ok_and(|rows| rows >= self.rows))
    }

    /// Waits until ClickHouse has no queries and merges, so that a run does not pay for the one
    /// before it.
    ///
    /// # Errors
    /// When it does not become idle.
    pub fn settle(&self) -> Result<()> {
        let is_idle = || Ok(self.engine.query(ACTIVITY)? == "0");
        let settled = arx_stack::process::wait_until(LOAD_LIMIT, is_idle)?;
        ensure!(settled, "ClickHouse is still busy after {LOAD_LIMIT:?}");
        // Writes of this run must not reach the disk during the next one.
        run(&mut Command::new("sync"))?;
        Ok(())
    }

    /// Compares a table with the transactions in PostgreSQL.
    ///
    /// # Errors
    /// When the number of rows or the sum of values differs.
    pub fn ensure_same(&self, table: &str) -> Result<()> {
        let totals =
            self.engine.query(&format!("SELECT count(), sum(toDecimal256(assumeNotNull(value), 18)) FROM {table}"))?;
        let (rows, value) = totals.split_once('\t').context("parse ClickHouse's totals")?;
        ensure!(
            rows == self.rows.to_string() && value == self.value,
            "{table} has {rows} rows with a value of {value}, PostgreSQL {} with {}",
            self.rows,
            self.value
        );
        Ok(())
    }
}
