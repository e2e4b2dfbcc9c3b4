//! `feed.*`, `aggregates.*`, `udf.*`: the cost of feeding ClickHouse, and queries of the fed data,
//! compared with ClickHouse's built-in access to PostgreSQL, plain SQL, and PostgreSQL itself.
//!
//! These cases use a separate stack, because one peer needs logical decoding, which would slow the
//! writers of the other cases.

pub mod daemon;
pub mod detached;
pub mod encrypted;
pub mod freshness;
pub mod initial;
pub mod overhead;
pub mod verify;
pub mod volume;
pub mod wallet_type;
pub mod warehouse;

use arx_stack::{Stack, StackOptions};

use crate::data::DataSource;
use crate::graph::Runs;
use crate::report::Results;
use crate::sets::Sets;
use warehouse::Warehouse;

/// Settings that only these cases need.
const SETTINGS: [&str; 1] = ["wal_level = 'logical'"];

/// Measures the wanted cases on a server with the given settings and those that the peers need.
pub async fn measure(
    source: &DataSource,
    settings: &[&str],
    runs: Runs,
    wanted: &dyn Fn(&str) -> bool,
    results: &mut Results,
) {
    let real =
        [initial::BY_FUNCTION, initial::BY_REPLICATION, initial::WHOLE, encrypted::CASE, volume::CASE, verify::CASE];
    let generated = [freshness::CASE, overhead::CASE, wallet_type::CASE, detached::CASE];
    let cases: Vec<&str> = real.into_iter().chain(generated).filter(|case| wanted(case)).collect();
    if cases.is_empty() {
        return;
    }
    let settings = settings.iter().chain(&SETTINGS).map(ToString::to_string).collect();
    let stack = match Stack::start_listening(&StackOptions { durable: true, settings }) {
        Ok(stack) => stack,
        Err(error) => {
            cases.into_iter().for_each(|case| results.failed(case, &error));
            return;
        }
    };
    for case in generated.into_iter().filter(|case| wanted(case)) {
        eprintln!("{case}");
        let measured = match case {
            freshness::CASE => freshness::measure(&stack).await,
            overhead::CASE => overhead::measure(&stack, runs),
            detached::CASE => detached::measure(&stack, runs),
            _ => wallet_type::measure(&stack, runs),
        };
        results.add(case, measured);
    }
    let real: Vec<&str> = real.into_iter().filter(|case| wanted(case)).collect();
    if real.is_empty() {
        return;
    }
    let mut sets = Sets::new(&stack, source);
    let set = match sets.real().await {
        Ok(set) => &*set,
        Err(error) => {
            real.into_iter().for_each(|case| results.failed(case, &error));
            return;
        }
    };
    let warehouse = match Warehouse::start(&stack, &set.database) {
        Ok(warehouse) => warehouse,
        Err(error) => {
            real.into_iter().for_each(|case| results.failed(case, &error));
            return;
        }
    };
    for case in real {
        eprintln!("{case}");
        let measured = match case {
            initial::BY_FUNCTION => initial::by_function(&warehouse, set, runs),
            initial::BY_REPLICATION => initial::by_replication(&warehouse, set, runs),
            initial::WHOLE => initial::whole(&warehouse, set, runs),
            encrypted::CASE => encrypted::measure(&stack, &warehouse, set, runs),
            verify::CASE => verify::measure(&warehouse, set, runs),
            _ => volume::measure(&warehouse, set, runs).await,
        };
        results.add(case, measured);
    }
}
