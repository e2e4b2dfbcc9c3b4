//! How one wallet leads to another.

use arx_core::graph::{Damaged, Path, Step, Weight, shortest_paths};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::question::{Arguments, Question, Scope, ScopeArguments, reason, time};
use crate::convert::Wallet;
use crate::error::SqlError;
use crate::graph_store::now_micros;
use crate::numeric::SqlNumeric;
use crate::spi::{StepTimes, step_transactions};

/// Transactions named for a step.
const TRANSACTIONS: usize = 10;

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn shortest_path(
    source: Option<&str>,
    target: Option<&str>,
    network: Option<&str>,
    weight: default!(Option<&str>, "'hops'"),
    k: default!(Option<i32>, 1),
    max_depth: default!(Option<i32>, 6),
    direction: default!(Option<&str>, "'out'"),
    asset: default!(Option<&str>, "'native'"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    min_strength: default!(Option<i64>, 1),
    include_failed: default!(Option<bool>, true),
    max_nodes: default!(Option<i64>, "NULL"),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(path, Option<i32>),
            name!(step, Option<i32>),
            name!(from_address, Option<String>),
            name!(to_address, Option<String>),
            name!(transfers, Option<i64>),
            name!(total_value, Option<SqlNumeric>),
            name!(first_seen, Option<TimestampWithTimeZone>),
            name!(last_seen, Option<TimestampWithTimeZone>),
            name!(tx_hashes, Option<Vec<String>>),
            name!(step_cost, Option<f64>),
            name!(path_cost, Option<f64>),
            name!(hops, Option<i32>),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let source = Wallet::parse_argument("source", source, network)?;
    let target = Wallet::parse_argument("target", target, network)?;
    let k = k.ok_or_else(|| SqlError::null_argument("k"))?;
    let now = until.map_or_else(now_micros, TimestampWithTimeZone::into_inner);
    let weight = parse_weight(weight.ok_or_else(|| SqlError::null_argument("weight"))?, now)?;
    let scope = ScopeArguments { asset, since, until, min_value, include_failed, max_time };
    let arguments = Arguments { scope, max_depth, direction, min_strength, max_nodes };
    let mut question = Question::parse(source.network.clone(), arguments)?;
    let nothing = |complete, reason: String| {
        let row = (None, None, None, None, None, None, None, None, None, None, None, None, complete, Some(reason));
        Ok(TableIterator::once(row))
    };
    let (Some(from), Some(to)) = (question.scope.known(&source)?, question.scope.known(&target)?) else {
        return nothing(true, "wallet has no transaction".to_owned());
    };
    let answer = {
        let Question { scope: Scope { ready, filter, deadline, .. }, direction, limits } = &mut question;
        let graph = ready.graph();
        shortest_paths(&graph, from, to, *direction, filter, weight, k, limits, deadline).map_err(SqlError::from)?
    };
    let reason = reason(answer.halted);
    if answer.found.is_empty() {
        let depth = question.limits.max_depth;
        let complete = reason.is_none();
        return nothing(complete, reason.unwrap_or_else(|| format!("not connected within {depth} hops")));
    }
    let hashes = transactions(&question, &answer.found)?;
    let mut rows = Vec::new();
    let graph = question.scope.ready.graph();
    let mut hashes = hashes.into_iter();
    for (number, path) in (1_i32..).zip(&answer.found) {
        let hops = path.steps.len() as i32;
        if path.steps.is_empty() {
            // from a wallet to itself
            let own = Some(source.address.as_str().to_owned());
            let (number, nowhere) = (Some(number), Some(0));
            let (cost, hops) = (Some(path.cost), nowhere);
            rows.push((number, nowhere, own.clone(), own, None, None, None, None, None, None, cost, hops, true, None));
        }
        for (place, step) in (1_i32..).zip(&path.steps) {
            rows.push((
                Some(number),
                Some(place),
                Some(graph.address(step.from).map_err(SqlError::from)?.to_owned()),
                Some(graph.address(step.to).map_err(SqlError::from)?.to_owned()),
                Some(step.transfers.cast_signed()),
                question.scope.value(step.value),
                Some(time(step.first)?),
                Some(time(step.last)?),
                hashes.next(),
                Some(step.cost),
                Some(path.cost),
                Some(hops),
                reason.is_none(),
                reason.clone(),
            ));
        }
    }
    Ok(TableIterator::new(rows))
}

fn parse_weight(name: &str, now: i64) -> Result<Weight, SqlError> {
    match name.to_ascii_lowercase().as_str() {
        "hops" => Ok(Weight::Hops),
        "value" => Ok(Weight::Value),
        "recency" => Ok(Weight::Recency { now }),
        _ => Err(SqlError::argument(format!("weight must be hops, value or recency, not \"{name}\""))),
    }
}

/// Of every step of every path, the hashes of its latest transactions.
fn transactions(question: &Question, paths: &[Path]) -> Result<Vec<Vec<String>>, SqlError> {
    let steps: Vec<&Step> = paths.iter().flat_map(|path| &path.steps).collect();
    let graph = question.scope.ready.graph();
    let mut asked = Vec::with_capacity(steps.len());
    for step in &steps {
        let mut times = Vec::new();
        graph.transfers_between(step.from, step.to, &question.scope.filter, |transfer| -> Result<(), Damaged> {
            times.push(transfer.time);
            Ok(())
        })?;
        // the latest, each time once: what happened at one time is found together
        times.dedup();
        let latest = times.len().saturating_sub(TRANSACTIONS);
        let (from, to) = (graph.address(step.from)?.to_owned(), graph.address(step.to)?.to_owned());
        asked.push(StepTimes { from, to, times: times.split_off(latest) });
    }
    let mut hashes = step_transactions(&question.scope.network, &asked, &question.scope.sources())?;
    for of_step in &mut hashes {
        of_step.truncate(TRANSACTIONS);
    }
    Ok(hashes)
}
