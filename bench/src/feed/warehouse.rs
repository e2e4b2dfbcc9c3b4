//! ClickHouse beside a database: loads into it, timed, and what it then holds.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use arx_stack::clickhouse::ClickHouse;
use arx_stack::process::run;
use arx_stack::{Database, Stack};

/// How long a load may take.
const LOAD_LIMIT: Duration = Duration::from_secs(600);

/// Between two looks at how far a load is: each costs ClickHouse 2 ms of a processor.
const LOOK: Duration = Duration::from_millis(50);

/// Merges, and queries beside this one and the engine's own, which reads a pipe that nobody writes.
const AT_WORK: &str = "SELECT (SELECT count() FROM system.merges) \
     + (SELECT count() FROM system.processes WHERE user = 'arx' AND query_id != queryID())";

/// A database and the ClickHouse that its sidecar feeds.
#[derive(Debug)]
pub struct Warehouse<'a> {
    database: &'a Database<'a>,
    /// The engine.
    pub engine: ClickHouse,
    /// How the engine reaches PostgreSQL, as the first arguments of `postgresql()` and MaterializedPostgreSQL: by the same Unix socket
    /// as the sidecar.
    pub postgres: String,
    /// Transactions in PostgreSQL.
    pub rows: u64,
    /// Sum of their values.
    pub value: String,
}

/// A first load.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Seconds from the start of the program until all rows were in `transaction_events`.
    pub rows: f64,
    /// Seconds until the program ended, all aggregates computed and written back, if it was let.
    pub whole: Option<f64>,
}

impl<'a> Warehouse<'a> {
    /// Starts an engine for a database. It ends with the stack.
    ///
    /// # Errors
    /// When the engine does not start, or the database cannot be read.
    pub fn beside(stack: &Stack, database: &'a Database<'a>) -> Result<Self> {
        let engine = ClickHouse::start(stack, database)?;
        let held = database.query("SELECT count(*), coalesce(trim_scale(sum(value)), 0) FROM arx.transactions")?;
        let (rows, value) = held.split_once('|').context("read what PostgreSQL holds")?;
        let postgres = format!("'{}:5432', '{}'", stack.cluster().host().display(), database.name());
        Ok(Self {
            database,
            engine,
            postgres,
            rows: rows.parse().context("count the transactions")?,
            value: value.to_owned(),
        })
    }

    /// `arx-sidecar sync` into a ClickHouse without ARX's tables: to its end, or only until all rows are in, which another load makes good.
    ///
    /// # Errors
    /// When it fails, or ClickHouse does not hold what PostgreSQL does.
    pub fn load(&self, to_the_end: bool) -> Result<Load> {
        self.forget("arx")?;
        let mut command = self.database.sidecar()?;
        command.arg("sync").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let mut child = command.spawn().context("start a first load")?;
        let rows = self.wait_for_rows(("arx", "transaction_events"), start, Some(&mut child));
        if rows.is_err() || !to_the_end {
            // it may have ended by itself
            let _ = child.kill();
        }
        let status = child.wait().context("wait for a first load")?;
        let (rows, whole) = (rows?, start.elapsed().as_secs_f64());
        ensure!(status.success() || !to_the_end, "the first load ended with {status}");
        self.settle()?;
        self.ensure_same("arx.transaction_events FINAL")?;
        Ok(Load { rows, whole: to_the_end.then_some(whole) })
    }

    /// Leaves ClickHouse without a database. Its files stay for some minutes: for a while after files went, ext4 without a journal looks
    /// at each of them when it makes another, and whoever makes many files would pay for the run before.
    ///
    /// # Errors
    /// When ClickHouse refuses, or does not come to rest.
    pub fn forget(&self, name: &str) -> Result<()> {
        self.settle()?;
        self.engine.query(&format!("DROP DATABASE IF EXISTS {name}"))?;
        self.settle()
    }

    /// ARX's tables, without a row and without the views that count what arrives: a first load of ours lets these rest, too.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn make_tables(&self) -> Result<()> {
        self.forget("arx")?;
        run(self.database.sidecar()?.args(["clickhouse", "apply"]))?;
        let views = "SELECT name FROM system.tables WHERE database = 'arx' AND engine = 'MaterializedView'";
        for view in self.engine.query(views)?.lines() {
            self.engine.query(&format!("DROP VIEW arx.{view} SYNC"))?;
        }
        self.settle()
    }

    /// Seconds from `start` until a table shows as many rows as PostgreSQL has. Until all of them are in, what is asked for costs
    /// ClickHouse no read of the table.
    ///
    /// # Errors
    /// When the rows do not come, or whoever brings them ends without them.
    pub fn wait_for_rows(
        &self,
        (database, table): (&str, &str),
        start: Instant,
        mut bringing: Option<&mut Child>,
    ) -> Result<f64> {
        let asked = format!(
            "SELECT sum(rows) FROM system.parts WHERE active AND database = '{database}' AND table = '{table}'"
        );
        loop {
            let ended = match &mut bringing {
                Some(child) => child.try_wait().context("look after a load")?,
                None => None,
            };
            let rows: u64 = self.engine.query(&asked)?.parse().context("count the rows that are in")?;
            if rows >= self.rows && self.shows_all(database, table) {
                return Ok(start.elapsed().as_secs_f64());
            }
            if let Some(status) = ended {
                bail!("the load ended with {status} and {rows} of {} rows", self.rows);
            }
            ensure!(start.elapsed() < LOAD_LIMIT, "{rows} of {} rows came within {LOAD_LIMIT:?}", self.rows);
            std::thread::sleep(LOOK);
        }
    }

    /// Whether a table can be asked for its rows: MaterializedPostgreSQL has them a moment before it shows its table.
    fn shows_all(&self, database: &str, table: &str) -> bool {
        let shown = self.engine.query(&format!("SELECT count() FROM {database}.{table}"));
        shown.is_ok_and(|rows| rows.parse::<u64>().is_ok_and(|rows| rows >= self.rows))
    }

    /// Waits until ClickHouse has done what it was told and merged what it wants to: a run does not pay for the one before it.
    ///
    /// # Errors
    /// When it does not come to rest.
    pub fn settle(&self) -> Result<()> {
        let asked = || Ok(self.engine.query(AT_WORK)? == "0");
        let is_at_rest = arx_stack::process::wait_until(LOAD_LIMIT, asked)?;
        ensure!(is_at_rest, "ClickHouse is still at work after {LOAD_LIMIT:?}");
        // what one run has written must not reach the disk in the next one's time
        run(&mut Command::new("sync"))?;
        Ok(())
    }

    /// Holds a table against the transactions in PostgreSQL.
    ///
    /// # Errors
    /// When the number of rows or the sum of values differs.
    pub fn ensure_same(&self, table: &str) -> Result<()> {
        let held =
            self.engine.query(&format!("SELECT count(), sum(toDecimal256(assumeNotNull(value), 18)) FROM {table}"))?;
        let (rows, value) = held.split_once('\t').context("read what ClickHouse holds")?;
        ensure!(
            rows == self.rows.to_string() && value == self.value,
            "{table} holds {rows} rows with {value}, PostgreSQL {} with {}",
            self.rows,
            self.value
        );
        Ok(())
    }
}
