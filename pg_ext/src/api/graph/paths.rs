//! Shortest paths between two wallets.

use std::collections::VecDeque;

use arx_core::graph::in_time::{self, TimedPath};
use arx_core::graph::{Damaged, Path, PathStep, Paths, Status, U256, WalletId, Weight, shortest_paths};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::request::{InTime, InTimeArguments, NO_TRANSACTION, ScopeArguments, Traversal, TraversalArguments, reason};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{Wallet, required};
use crate::error::SqlError;
use crate::graph_store::check_for_failures;
use crate::numeric::SqlNumeric;
use crate::spi::{StepTimes, TransferKey, step_transactions, transfer_hashes};
use crate::time::{from_micros, now_micros};

/// Transfers read between two cancellation checks.
const TRANSFERS_PER_CHECK: usize = 1 << 13;

/// Transactions named for a step.
const TRANSACTIONS_PER_STEP: usize = 10;

sql_row! {
    #[derive(Default)]
    struct PathRow {
        path: Option<i32>,
        step: Option<i32>,
        from_address: Option<String>,
        to_address: Option<String>,
        transfers: Option<i64>,
        total_value: Option<SqlNumeric>,
        first_seen: Option<TimestampWithTimeZone>,
        last_seen: Option<TimestampWithTimeZone>,
        tx_hashes: Option<Vec<String>>,
        step_cost: Option<f64>,
        path_cost: Option<f64>,
        hops: Option<i32>,
        complete: bool,
        reason: Option<String>,
        order_inferred: Option<bool>,
    }
}

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
    include_failed: default!(Option<bool>, false),
    max_nodes: default!(Option<i64>, "NULL"),
    max_time: default!(Option<Interval>, "NULL"),
    in_time: default!(Option<bool>, false),
    max_gap: default!(Option<Interval>, "NULL"),
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
            name!(order_inferred, Option<bool>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let source = Wallet::parse_named("source", source, network)?;
        let target = source.parse_other("target", target)?;
        let k = required("k", k)?;
        let weight = parse_weight(weight, until)?;
        let scope = ScopeArguments { asset, since, until, min_value, include_failed, max_time };
        let arguments = TraversalArguments { scope, max_depth, direction, min_strength, max_nodes };
        let in_time = InTimeArguments { in_time, max_gap }.parse(&arguments)?;
        if in_time.is_some() {
            check_in_time(weight, k)?;
        }
        let traversal = Traversal::parse(source.network.clone(), arguments)?;
        let rows = PathRequest { traversal, source, target, weight, k, in_time }.rows()?;
        Ok(TableIterator::new(rows.into_iter().map(PathRow::into_row)))
    })
}

/// Recency counts back from `until`, or from the current time.
fn parse_weight(name: Option<&str>, until: Option<TimestampWithTimeZone>) -> Result<Weight, SqlError> {
    let name = required("weight", name)?;
    match name.to_ascii_lowercase().as_str() {
        "hops" => Ok(Weight::Hops),
        "value" => Ok(Weight::Value),
        "recency" => Ok(Weight::Recency { now: until.map_or_else(now_micros, TimestampWithTimeZone::into_inner) }),
        _ => Err(SqlError::argument(format!("weight must be hops, value or recency, not \"{name}\""))),
    }
}

/// A path in time has the fewest hops, and arrives first.
fn check_in_time(weight: Weight, k: i32) -> Result<(), SqlError> {
    if weight != Weight::Hops {
        return Err(SqlError::argument("weight must be hops with in_time"));
    }
    if k != 1 {
        return Err(SqlError::argument(format!("k must be 1 with in_time, not {k}"))
            .hint("match_paths() returns many paths in time."));
    }
    Ok(())
}

struct PathRequest {
    traversal: Traversal,
    source: Wallet,
    target: Wallet,
    weight: Weight,
    /// Number of paths.
    k: i32,
    in_time: Option<InTime>,
}

impl PathRequest {
    fn rows(&self) -> Result<Vec<PathRow>, SqlError> {
        let Traversal { scope, direction, limits } = &self.traversal;
        let no_path =
            |complete, reason: String| Ok(vec![PathRow { complete, reason: Some(reason), ..PathRow::default() }]);
        let (Some(from), Some(to)) = (scope.resolve(&self.source)?, scope.resolve(&self.target)?) else {
            return no_path(true, NO_TRANSACTION.to_owned());
        };
        if let Some(in_time) = self.in_time {
            return self.rows_in_time(in_time, from, to);
        }
        let (graph, mut deadline) = (scope.handle.graph(), scope.deadline);
        let (filter, weight) = (&scope.filter, self.weight);
        let answer = shortest_paths(&graph, from, to, *direction, filter, weight, self.k, limits, &mut deadline)?;
        if answer.paths.is_empty() {
            return match reason(answer.halted) {
                Some(reason) => no_path(false, reason),
                None => no_path(true, format!("not connected within {} hops", limits.max_depth)),
            };
        }
        self.path_rows(&answer)
    }

    fn rows_in_time(&self, in_time: InTime, from: WalletId, to: WalletId) -> Result<Vec<PathRow>, SqlError> {
        let Traversal { scope, limits, .. } = &self.traversal;
        let (graph, mut deadline) = (scope.handle.graph(), scope.deadline);
        let InTime { side, max_gap } = in_time;
        let answer = in_time::path(&graph, from, to, side, &scope.filter, max_gap, limits, &mut deadline)?;
        let TimedPath { hops, order_inferred, halted } = answer;
        let reason = reason(halted);
        let Some(hops) = hops else {
            let complete = reason.is_none();
            let none = format!("not connected in time within {} hops", limits.max_depth);
            let row = PathRow { complete, reason: reason.or(Some(none)), ..PathRow::default() };
            return Ok(vec![PathRow { order_inferred: Some(false), ..row }]);
        };
        if hops.is_empty() {
            let itself = Path { wallets: vec![from], steps: Vec::new(), cost: 0.0 };
            return Ok(vec![PathRow { order_inferred: Some(false), ..self.path_to_itself(1, &itself) }]);
        }
        let keys = hops.iter().map(|hop| TransferKey::sent(&graph, hop.from.some(), &hop.transfer));
        let hashes = transfer_hashes(&scope.network, &keys.collect::<Result<Vec<_>, _>>()?)?;
        let mut rows = Vec::with_capacity(hops.len());
        for ((index, hop), hash) in (1..).zip(&hops).zip(hashes) {
            let transfer = &hop.transfer;
            let value = if transfer.status == Status::Failed { U256::ZERO } else { transfer.value };
            let asset = if scope.filter.assets.is_single() { Some(transfer.asset) } else { None };
            let to = transfer.peer.unwrap_or(WalletId::NONE);
            let (transfers, first, last) = (1, transfer.time, transfer.time);
            let step = PathStep { from: hop.from, to, transfers, value, first, last, asset, cost: 1.0 };
            rows.push(PathRow {
                path: Some(1),
                step: Some(index),
                tx_hashes: Some(hash.into_iter().collect()),
                path_cost: Some(hops.len() as f64),
                // A path has at most 32 hops.
                hops: Some(hops.len() as i32),
                complete: reason.is_none(),
                reason: reason.clone(),
                order_inferred: Some(order_inferred),
                ..self.step_row(&step)?
            });
        }
        Ok(rows)
    }

    fn path_rows(&self, answer: &Paths) -> Result<Vec<PathRow>, SqlError> {
        let mut hashes = self.transactions(&answer.paths)?.into_iter();
        let reason = reason(answer.halted);
        let mut rows = Vec::new();
        for (number, path) in (1..).zip(&answer.paths) {
            if path.steps.is_empty() {
                rows.push(self.path_to_itself(number, path));
            }
            for (index, step) in (1..).zip(&path.steps) {
                rows.push(PathRow {
                    path: Some(number),
                    step: Some(index),
                    tx_hashes: hashes.next(),
                    path_cost: Some(path.cost),
                    // A path has at most 32 hops.
                    hops: Some(path.steps.len() as i32),
                    complete: reason.is_none(),
                    reason: reason.clone(),
                    ..self.step_row(step)?
                });
            }
        }
        Ok(rows)
    }

    /// The row of a path from a wallet to itself.
    fn path_to_itself(&self, number: i32, path: &Path) -> PathRow {
        let address = Some(self.source.address.as_str().to_owned());
        PathRow {
            path: Some(number),
            step: Some(0),
            from_address: address.clone(),
            to_address: address,
            path_cost: Some(path.cost),
            hops: Some(0),
            complete: true,
            ..PathRow::default()
        }
    }

    /// The columns that describe one step.
    fn step_row(&self, step: &PathStep) -> Result<PathRow, SqlError> {
        let scope = &self.traversal.scope;
        let graph = scope.handle.graph();
        Ok(PathRow {
            from_address: Some(graph.address(step.from)?.to_owned()),
            to_address: Some(graph.address(step.to)?.to_owned()),
            transfers: Some(step.transfers.cast_signed()),
            total_value: scope.value(step.value),
            first_seen: Some(from_micros(step.first)?),
            last_seen: Some(from_micros(step.last)?),
            step_cost: Some(step.cost),
            ..PathRow::default()
        })
    }

    /// Returns the hashes of the latest transactions of every step of every path.
    fn transactions(&self, paths: &[Path]) -> Result<Vec<Vec<String>>, SqlError> {
        let scope = &self.traversal.scope;
        let graph = scope.handle.graph();
        let mut steps = Vec::new();
        for step in paths.iter().flat_map(|path| &path.steps) {
            // The latest ones; transfers of one time are looked up together.
            let (mut times, mut count) = (VecDeque::<(i64, usize)>::new(), 0_usize);
            graph.transfers_between(step.from, step.to, &scope.filter, |transfer| -> Result<(), Damaged> {
                count += 1;
                if count.is_multiple_of(TRANSFERS_PER_CHECK) {
                    check_for_failures();
                }
                match times.back_mut().filter(|(time, _)| *time == transfer.time) {
                    Some((_, transfers)) => *transfers += 1,
                    None => times.push_back((transfer.time, 1)),
                }
                if times.len() > TRANSACTIONS_PER_STEP {
                    times.pop_front();
                }
                Ok(())
            })?;
            let (from, to) = (graph.address(step.from)?.to_owned(), graph.address(step.to)?.to_owned());
            steps.push(StepTimes { from, to, times: times.into() });
        }
        let mut hashes = step_transactions(&scope.network, &steps, &scope.sources())?;
        for of_step in &mut hashes {
            of_step.truncate(TRANSACTIONS_PER_STEP);
        }
        Ok(hashes)
    }
}
