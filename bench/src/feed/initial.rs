//! `feed.initial.*`: rows a second of a first load, compared with ClickHouse's built-in ways to
//! copy a table from PostgreSQL; and `feed.first_load_whole.vs_rows`: the time until everything
//! that follows from the rows is there as well.

use std::cell::RefCell;
use std::time::Instant;

use anyhow::{Context, Result};

use super::warehouse::{Load, Warehouse};
use crate::graph::Runs;
use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::{in_turn, median};

/// Comparison with the table function.
pub const BY_FUNCTION: &str = "feed.initial.vs_postgresql_function";
/// Comparison with the database engine.
pub const BY_REPLICATION: &str = "feed.initial.vs_materialized_postgresql";

/// The whole of a first load, compared with the arrival of its rows.
pub const WHOLE: &str = "feed.first_load_whole.vs_rows";

/// Stores the rows as the sidecar's first load does. A rebuild counts them. No row has metadata.
const INSERT: &str = "INSERT INTO arx.transaction_events (event_time, network, tx_hash, block_number, transaction_index, from_address, \
         to_address, value, value_usd, gas_used, gas_price, status, version, is_deleted, counted, generation) \
     SELECT timestamp, network, tx_hash, block_number, transaction_index, from_address, to_address, value, value_usd, gas_used, gas_price, \
            status, 1, 0, 'rebuild', 0 \
       FROM postgresql(";

/// MaterializedPostgreSQL requires a primary key. A table that is only copied needs no other index.
const PLAIN: &str = "DROP SCHEMA IF EXISTS plain CASCADE; CREATE SCHEMA plain; CREATE TABLE plain.transactions AS SELECT * FROM arx.transactions; \
     ALTER TABLE plain.transactions ADD PRIMARY KEY (network, tx_hash, \"timestamp\")";

/// Our loads, kept for the description.
#[derive(Default)]
struct Loads(RefCell<Vec<Load>>);

impl Loads {
    fn rate(&self, warehouse: &Warehouse<'_>) -> Result<f64> {
        // Only the first load runs to the end of the program, which takes longer than the measured
        // part.
        let is_first = self.0.borrow().is_empty();
        let load = warehouse.load(is_first)?;
        self.0.borrow_mut().push(load);
        Ok(warehouse.rows as f64 / load.rows)
    }

    fn description(&self) -> Result<String> {
        let loads = self.0.borrow();
        let whole = loads.iter().find_map(|load| load.whole).context("no load ran to its end")?;
        Ok(format!(
            "Ours is `arx-sidecar sync` into a ClickHouse without ARX's tables, from the start of the program until \
             `transaction_events` contains all rows ({:.1} s; polled every 50 ms in `system.parts`). It then computes the \
             aggregates and writes them back: the whole program took {:.1} s, once; in the other runs it was stopped when \
             the rows had arrived",
            median(&loads.iter().map(|load| load.rows).collect::<Vec<_>>())?,
            whole,
        ))
    }
}

/// Compares with `INSERT … SELECT FROM postgresql()`.
///
/// # Errors
/// When a side fails, or its rows differ from PostgreSQL's.
pub fn by_function(warehouse: &Warehouse<'_>, real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let ours = Loads::default();
    let medians = in_turn(runs.slow, |_| ours.rate(warehouse), |_| insert(warehouse))?;
    let setting = format!(
        "{}, from one PostgreSQL over its Unix socket into one engine; both sides fill tables of the same definition, \
         without views that count rows. {}. The peer is ClickHouse's `INSERT INTO transaction_events SELECT … FROM \
         postgresql(…)` with default settings, into empty tables, until it returns; it reads over one connection. {} runs.",
        real.name,
        ours.description()?,
        runs.slow
    );
    Ok(Measurement::new(BY_FUNCTION, medians, "rows/s", true).against("`INSERT … SELECT FROM postgresql()`", setting))
}

fn insert(warehouse: &Warehouse<'_>) -> Result<f64> {
    let engine = &warehouse.engine;
    warehouse.create_tables()?;
    let statement = format!("{INSERT}{}, 'transactions', 'postgres', '', 'arx')", warehouse.postgres);
    let start = Instant::now();
    engine.query(&statement)?;
    let seconds = start.elapsed().as_secs_f64();
    warehouse.ensure_same("arx.transaction_events FINAL")?;
    Ok(warehouse.rows as f64 / seconds)
}

/// Compares a whole first load with the arrival of its rows.
///
/// # Errors
/// When a load fails, or its rows differ from PostgreSQL's.
pub fn whole(warehouse: &Warehouse<'_>, real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let mut loads = Vec::new();
    for _ in 0..runs.slow {
        // Nothing of an earlier run may be left to compare with.
        real.database.query("DELETE FROM arx.wallet_behaviour; DELETE FROM arx.hourly_volume")?;
        real.database.query("VACUUM arx.wallet_behaviour")?;
        loads.push(warehouse.load(true)?);
    }
    let rows = median(&loads.iter().map(|load| load.rows).collect::<Vec<_>>())?;
    let whole = median(&loads.iter().filter_map(|load| load.whole).collect::<Vec<_>>())?;
    let wallets = real.database.query("SELECT count(*) FROM arx.wallet_behaviour")?;
    let setting = format!(
        "{}. Both times are those of `arx-sidecar sync` into a ClickHouse without ARX's tables, from the start of the \
         program: ours until it ends, with the table by receivers, the volumes of hours and days, and the behaviour of \
         {wallets} wallets written back into PostgreSQL; the other until all rows are in `transaction_events`. {} runs.",
        real.name, runs.slow
    );
    Ok(Measurement::new(WHOLE, (whole, rows), "s", false).against("the rows alone", setting))
}

/// Compares with MaterializedPostgreSQL.
///
/// # Errors
/// When a side fails, or its rows differ from PostgreSQL's.
pub fn by_replication(warehouse: &Warehouse<'_>, real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    real.database.query(PLAIN).context("make the table for MaterializedPostgreSQL")?;
    real.database.query("VACUUM ANALYZE plain.transactions")?;
    let ours = Loads::default();
    let medians = in_turn(runs.slow, |_| ours.rate(warehouse), |_| replicate(warehouse))?;
    real.database.query("DROP SCHEMA plain CASCADE")?;
    let setting = format!(
        "{}, from one PostgreSQL over its Unix socket into one engine. {}. The peer is `CREATE DATABASE … ENGINE = \
         MaterializedPostgreSQL`, from the statement until its table contains all rows. It does not support partitioned \
         tables, so it reads an unpartitioned copy of the rows with only a primary key. It fills one table without \
         partitions, and no second table in the order of receivers. {} runs.",
        real.name,
        ours.description()?,
        runs.slow
    );
    Ok(Measurement::new(BY_REPLICATION, medians, "rows/s", true).against("MaterializedPostgreSQL", setting))
}

fn replicate(warehouse: &Warehouse<'_>) -> Result<f64> {
    let engine = &warehouse.engine;
    // A failed run may have left the database.
    warehouse.drop_database("replicated")?;
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
