//! `feed.initial.*`: rows a second of a first load, against ClickHouse's own ways to take a table over from PostgreSQL.

use std::cell::RefCell;
use std::time::Instant;

use anyhow::{Context, Result};

use super::warehouse::{Load, Warehouse};
use crate::graph::Runs;

use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::{in_turn, median};

/// Against the table function.
pub const BY_FUNCTION: &str = "feed.initial.vs_postgresql_function";
/// Against the database engine.
pub const BY_REPLICATION: &str = "feed.initial.vs_materialized_postgresql";

/// Everything as the sidecar stores it in a first load. A rebuild counts these rows. No row has metadata.
const INSERT: &str = "INSERT INTO arx.transaction_events (event_time, network, tx_hash, block_number, transaction_index, from_address, \
         to_address, value, value_usd, gas_used, gas_price, status, version, is_deleted, counted, generation) \
     SELECT timestamp, network, tx_hash, block_number, transaction_index, from_address, to_address, value, value_usd, gas_used, gas_price, \
            status, 1, 0, 'rebuild', 0 \
       FROM postgresql(";

/// The columns without which MaterializedPostgreSQL takes no table: a key. Its indexes are those of a table that is only taken over: none.
const PLAIN: &str = "DROP SCHEMA IF EXISTS plain CASCADE; CREATE SCHEMA plain; CREATE TABLE plain.transactions AS SELECT * FROM arx.transactions; \
     ALTER TABLE plain.transactions ADD PRIMARY KEY (network, tx_hash, \"timestamp\")";

/// Loads of ours, remembered for what else they tell.
#[derive(Default)]
struct Loads(RefCell<Vec<Load>>);

impl Loads {
    fn rate(&self, warehouse: &Warehouse<'_>) -> Result<f64> {
        // the end of the program takes longer than what is measured
        let is_first = self.0.borrow().is_empty();
        let load = warehouse.load(is_first)?;
        self.0.borrow_mut().push(load);
        Ok(warehouse.rows as f64 / load.rows)
    }

    fn said(&self) -> Result<String> {
        let loads = self.0.borrow();
        let whole = loads.iter().find_map(|load| load.whole).context("no load was let to its end")?;
        Ok(format!(
            "Ours is `arx-sidecar sync` into a ClickHouse without ARX's tables, from the start of the program until all rows are in \
             `transaction_events` ({:.1} s; looked for every 50 ms in `system.parts`). Then it computes the aggregates and writes them \
             back: the whole program took {:.1} s, once; in the other runs it was ended when the rows were in",
            median(&loads.iter().map(|load| load.rows).collect::<Vec<_>>())?,
            whole,
        ))
    }
}

/// The first case.
///
/// # Errors
/// When a side fails, or does not load what PostgreSQL holds.
pub fn by_function(warehouse: &Warehouse<'_>, real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let ours = Loads::default();
    let medians = in_turn(runs.slow, |_| ours.rate(warehouse), |_| insert(warehouse))?;
    let setting = format!(
        "{}, from one PostgreSQL, over its Unix socket, into one engine; both sides fill tables of the same definition, while no view counts. {}. \
         The peer is ClickHouse's `INSERT INTO transaction_events SELECT … FROM postgresql(…)` with its default settings, into empty \
         tables, the clock stopped when it returns; it reads over one connection. {} runs.",
        real.name,
        ours.said()?,
        runs.slow
    );
    Ok(Measurement::new(BY_FUNCTION, medians, "rows/s", true).against("`INSERT … SELECT FROM postgresql()`", setting))
}

fn insert(warehouse: &Warehouse<'_>) -> Result<f64> {
    let engine = &warehouse.engine;
    warehouse.make_tables()?;
    let statement = format!("{INSERT}{}, 'transactions', 'postgres', '', 'arx')", warehouse.postgres);
    let start = Instant::now();
    engine.query(&statement)?;
    let seconds = start.elapsed().as_secs_f64();
    warehouse.ensure_same("arx.transaction_events FINAL")?;
    Ok(warehouse.rows as f64 / seconds)
}

/// The second case.
///
/// # Errors
/// When a side fails, or does not load what PostgreSQL holds.
pub fn by_replication(warehouse: &Warehouse<'_>, real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    real.database.query(PLAIN).context("make the table for MaterializedPostgreSQL")?;
    real.database.query("VACUUM ANALYZE plain.transactions")?;
    let ours = Loads::default();
    let medians = in_turn(runs.slow, |_| ours.rate(warehouse), |_| replicate(warehouse))?;
    real.database.query("DROP SCHEMA plain CASCADE")?;
    let setting = format!(
        "{}, from one PostgreSQL, over its Unix socket, into one engine. {}. The peer is `CREATE DATABASE … ENGINE = MaterializedPostgreSQL`, \
         from the statement until all rows are in its table. It takes no partitioned table: it reads a plain copy of the rows with a primary \
         key alone; and it fills one table as it comes, without partitions and without a second one in the order of receivers. {} runs.",
        real.name,
        ours.said()?,
        runs.slow
    );
    Ok(Measurement::new(BY_REPLICATION, medians, "rows/s", true).against("MaterializedPostgreSQL", setting))
}

fn replicate(warehouse: &Warehouse<'_>) -> Result<f64> {
    let engine = &warehouse.engine;
    // a run that failed may have left it
    warehouse.forget("replicated")?;
    let statement = format!(
        "CREATE DATABASE replicated ENGINE = MaterializedPostgreSQL({}, 'postgres', '') \
         SETTINGS materialized_postgresql_schema = 'plain', materialized_postgresql_tables_list = 'transactions'",
        warehouse.postgres
    );
    let start = Instant::now();
    engine.query_with("allow_experimental_database_materialized_postgresql=1", &statement)?;
    let loaded = warehouse.wait_for_rows(("replicated", "transactions"), start, None);
    let same = loaded.and_then(|seconds| warehouse.ensure_same("replicated.transactions").map(|()| seconds));
    engine.query("DROP DATABASE replicated")?;
    Ok(warehouse.rows as f64 / same?)
}
