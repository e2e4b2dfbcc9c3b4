//! `udf.wallet_type.vs_native_sql`: classification of wallets by an executable function, compared
//! with an SQL expression.

use std::time::Instant;

use anyhow::{Result, ensure};
use arx_stack::Stack;
use arx_stack::clickhouse::ClickHouse;
use arx_stack::process::run;

use crate::graph::Runs;
use crate::report::Measurement;
use crate::timing::in_turn;

pub const CASE: &str = "udf.wallet_type.vs_native_sql";

const ROWS: u64 = 5_000_000;

/// Wallets of all classes. Every third one has no gas price.
const WALLETS: &str = "SELECT number % 211 AS transactions, toDecimal128(number % 7919, 18) * (number % 401) AS volume, \
     if(number % 3 = 0, NULL, toFloat64(number % 97) * 1e9) AS mean_gas_price, number % 83 AS recipients FROM numbers(";

const OURS: &str = "arxWalletType(transactions, volume, mean_gas_price, recipients)";

/// Classes of the specification, with the thresholds of `core/src/behaviour.rs`.
const PEER: &str = "CASE WHEN transactions = 0 THEN 'regular' WHEN volume / transactions > 10000 THEN 'whale' \
     WHEN transactions > 100 AND mean_gas_price > 50e9 THEN 'trader' WHEN recipients > 50 THEN 'distributor' ELSE 'regular' END";

/// Runs the measurement.
///
/// # Errors
/// When a side fails, or the counts differ.
pub fn measure(stack: &Stack, runs: Runs) -> Result<Measurement> {
    let database = stack.database("wallet_type")?;
    let engine = ClickHouse::start(stack, &database)?;
    run(database.sidecar()?.args(["clickhouse", "install-udfs"]))?;
    let counts = |class: &str| {
        engine.query(&format!(
            "SELECT class, count() FROM (SELECT {class} AS class FROM ({WALLETS}{ROWS}))) GROUP BY class ORDER BY class"
        ))
    };
    let (ours, peers) = (counts(OURS)?, counts(PEER)?);
    ensure!(ours == peers, "the function counts {ours}, the expression {peers}");
    ensure!(ours.lines().count() == 4, "only the classes {ours} occur");
    let rate = |class: &str| {
        let start = Instant::now();
        counts(class)?;
        Ok(ROWS as f64 / start.elapsed().as_secs_f64())
    };
    let medians = in_turn(runs.fast, |_| rate(OURS), |_| rate(PEER))?;
    let setting = format!(
        "{ROWS} rows of `numbers()`, whose cost is part of both sides, classified and counted by class in one engine; {} \
         runs. Both counted the same: {}. Ours is the code that the sidecar itself uses; its classes are an Enum8, the \
         expression's are text.",
        runs.fast,
        ours.replace('\t', " ").replace('\n', ", ")
    );
    database.drop_now()?;
    Ok(Measurement::new(CASE, medians, "rows/s", true).against("a CASE expression", setting))
}
