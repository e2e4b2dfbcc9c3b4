//! Who is reached from a wallet, and how many.

use arx_core::graph::{Connection, U256, connections, reach};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::question::{Arguments, Question, Scope, ScopeArguments, or_report, reason, time};
use crate::convert::Wallet;
use crate::error::SqlError;
use crate::numeric::SqlNumeric;

/// Rows made at a time.
const ROWS: usize = 1_000;

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn wallet_connections(
    address: Option<&str>,
    network: Option<&str>,
    max_depth: default!(Option<i32>, 3),
    direction: default!(Option<&str>, "'out'"),
    asset: default!(Option<&str>, "'native'"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    min_strength: default!(Option<i64>, 1),
    top: default!(Option<i32>, "NULL"),
    include_failed: default!(Option<bool>, true),
    max_nodes: default!(Option<i64>, "NULL"),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(source, String),
            name!(target, String),
            name!(connection_strength, i64),
            name!(depth, i32),
            name!(strength_rank, i64),
            name!(total_value, Option<SqlNumeric>),
            name!(first_seen, TimestampWithTimeZone),
            name!(last_seen, TimestampWithTimeZone),
            name!(predecessor, String),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let wallet = Wallet::parse(address, network)?;
    let top = match top {
        Some(top) => Some(
            usize::try_from(top)
                .ok()
                .filter(|top| *top >= 1)
                .ok_or_else(|| SqlError::argument(format!("top must be at least 1, not {top}")))?,
        ),
        None => None,
    };
    let scope = ScopeArguments { asset, since, until, min_value, include_failed, max_time };
    let arguments = Arguments { scope, max_depth, direction, min_strength, max_nodes };
    let mut question = Question::parse(wallet.network.clone(), arguments)?;
    let (found, halted) = match question.scope.known(&wallet)? {
        Some(source) => {
            let Question { scope: Scope { ready, filter, deadline, .. }, direction, limits } = &mut question;
            let answer = connections(&ready.graph(), source, *direction, filter, top, limits, deadline);
            let answer = answer.map_err(SqlError::from)?;
            (answer.found, answer.halted)
        }
        None => (Vec::new(), None),
    };
    if let Some(halt) = halted.filter(|_| found.is_empty()) {
        notice!("the search stopped early: {}", halt.name());
    }
    let (source, reason) = (wallet.address.into_string(), reason(halted));
    let rows = (0..found.len()).step_by(ROWS).flat_map(move |start| {
        let graph = question.scope.ready.graph();
        let end = found.len().min(start + ROWS);
        let row = |one: &Connection| -> Result<_, SqlError> {
            Ok((
                source.clone(),
                graph.address(one.wallet)?.to_owned(),
                // counts of rows and depths up to 32
                one.transfers.cast_signed(),
                one.depth.cast_signed(),
                one.rank,
                question.scope.value(one.value),
                time(one.first)?,
                time(one.last)?,
                graph.address(one.predecessor)?.to_owned(),
                reason.is_none(),
                reason.clone(),
            ))
        };
        or_report(found[start..end].iter().map(row).collect::<Result<Vec<_>, _>>())
    });
    Ok(TableIterator::new(rows))
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn wallet_reach(
    address: Option<&str>,
    network: Option<&str>,
    max_depth: default!(Option<i32>, 3),
    direction: default!(Option<&str>, "'out'"),
    asset: default!(Option<&str>, "'native'"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    min_strength: default!(Option<i64>, 1),
    include_failed: default!(Option<bool>, true),
    max_nodes: default!(Option<i64>, "NULL"),
    max_time: default!(Option<Interval>, "NULL"),
    totals: default!(Option<bool>, true),
) -> Result<
    TableIterator<
        'static,
        (
            name!(depth, i32),
            name!(wallets, i64),
            name!(transfers, Option<i64>),
            name!(total_value, Option<SqlNumeric>),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let wallet = Wallet::parse(address, network)?;
    let scope = ScopeArguments { asset, since, until, min_value, include_failed, max_time };
    let arguments = Arguments { scope, max_depth, direction, min_strength, max_nodes };
    let totals = totals.ok_or_else(|| SqlError::null_argument("totals"))?;
    let mut question = Question::parse(wallet.network.clone(), arguments)?;
    let Some(source) = question.scope.known(&wallet)? else {
        let zero = totals.then_some(0);
        let nothing = (
            0,
            0,
            zero,
            zero.and_then(|_| question.scope.value(U256::ZERO)),
            true,
            Some("wallet has no transaction".to_owned()),
        );
        return Ok(TableIterator::once(nothing));
    };
    let answer = {
        let Question { scope: Scope { ready, filter, deadline, .. }, direction, limits } = &mut question;
        reach(&ready.graph(), source, *direction, filter, totals, limits, deadline).map_err(SqlError::from)?
    };
    let reason = reason(answer.halted);
    Ok(TableIterator::new(answer.levels.into_iter().map(move |level| {
        let transfers = totals.then_some(level.transfers.cast_signed());
        let value = transfers.and_then(|_| question.scope.value(level.value));
        (level.depth.cast_signed(), level.wallets.cast_signed(), transfers, value, reason.is_none(), reason.clone())
    })))
}
