//! Wallets that a wallet reaches, and their number by depth.

use arx_core::graph::{Connections, U256, connections, in_time, reach};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::request::{
    InTime, InTimeArguments, NO_TRANSACTION, ScopeArguments, Traversal, TraversalArguments, notice_if_stopped, reason,
};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{Wallet, optional_limit, required};
use crate::error::{SqlError, or_report};
use crate::numeric::SqlNumeric;
use crate::time::from_micros;

/// Rows made at a time.
const ROWS_PER_BATCH: usize = 1_000;

sql_row! {
    struct ConnectionRow {
        source: String,
        target: String,
        connection_strength: i64,
        depth: i32,
        strength_rank: i64,
        total_value: Option<SqlNumeric>,
        first_seen: TimestampWithTimeZone,
        last_seen: TimestampWithTimeZone,
        predecessor: String,
        complete: bool,
        reason: Option<String>,
        reached_at: Option<TimestampWithTimeZone>,
        order_inferred: Option<bool>,
    }
}

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
    include_failed: default!(Option<bool>, false),
    max_nodes: default!(Option<i64>, "NULL"),
    max_time: default!(Option<Interval>, "NULL"),
    in_time: default!(Option<bool>, false),
    max_gap: default!(Option<Interval>, "NULL"),
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
            name!(reached_at, Option<TimestampWithTimeZone>),
            name!(order_inferred, Option<bool>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let wallet = Wallet::parse(address, network)?;
        let top = optional_limit("top", top)?;
        let scope = ScopeArguments { asset, since, until, min_value, include_failed, max_time };
        let arguments = TraversalArguments { scope, max_depth, direction, min_strength, max_nodes };
        let in_time = InTimeArguments { in_time, max_gap }.parse(&arguments)?;
        let traversal = Traversal::parse(wallet.network.clone(), arguments)?;
        let answer = traversal.connections(&wallet, top, in_time)?;
        let source = wallet.address.into_string();
        let rows = (0..answer.wallets.len()).step_by(ROWS_PER_BATCH).flat_map(move |start| {
            let end = answer.wallets.len().min(start + ROWS_PER_BATCH);
            or_report(traversal.connection_rows(&source, &answer, start..end)).into_iter().map(ConnectionRow::into_row)
        });
        Ok(TableIterator::new(rows))
    })
}

impl Traversal {
    fn connections(&self, wallet: &Wallet, top: Option<u64>, in_time: Option<InTime>) -> Result<Connections, SqlError> {
        let Some(source) = self.scope.resolve(wallet)? else {
            return Ok(Connections { wallets: Vec::new(), halted: None });
        };
        let top = top.map(|top| usize::try_from(top).unwrap_or(usize::MAX));
        let (graph, mut deadline) = (self.scope.handle.graph(), self.scope.deadline);
        let filter = &self.scope.filter;
        let (limits, deadline) = (&self.limits, &mut deadline);
        let answer = match in_time {
            Some(InTime { side, max_gap }) => {
                in_time::connections(&graph, source, side, filter, max_gap, top, limits, deadline)?
            }
            None => connections(&graph, source, self.direction, filter, top, limits, deadline)?,
        };
        notice_if_stopped(answer.halted, answer.wallets.is_empty());
        Ok(answer)
    }

    fn connection_rows(
        &self,
        source: &str,
        answer: &Connections,
        range: std::ops::Range<usize>,
    ) -> Result<Vec<ConnectionRow>, SqlError> {
        let graph = self.scope.handle.graph();
        let reason = reason(answer.halted);
        let mut rows = Vec::with_capacity(range.len());
        for connection in answer.wallets.get(range).unwrap_or_default() {
            rows.push(ConnectionRow {
                source: source.to_owned(),
                target: graph.address(connection.wallet)?.to_owned(),
                // Counts of rows, and depths up to 32.
                connection_strength: connection.transfers.cast_signed(),
                depth: connection.depth.cast_signed(),
                strength_rank: connection.rank,
                total_value: self.scope.value(connection.value),
                first_seen: from_micros(connection.first)?,
                last_seen: from_micros(connection.last)?,
                predecessor: graph.address(connection.predecessor)?.to_owned(),
                complete: reason.is_none(),
                reason: reason.clone(),
                reached_at: connection.in_time.map(|reached| from_micros(reached.at)).transpose()?,
                order_inferred: connection.in_time.map(|reached| reached.order_inferred),
            });
        }
        Ok(rows)
    }
}

sql_row! {
    struct ReachRow {
        depth: i32,
        wallets: i64,
        transfers: Option<i64>,
        total_value: Option<SqlNumeric>,
        complete: bool,
        reason: Option<String>,
        order_inferred: Option<bool>,
    }
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
    include_failed: default!(Option<bool>, false),
    max_nodes: default!(Option<i64>, "NULL"),
    max_time: default!(Option<Interval>, "NULL"),
    totals: default!(Option<bool>, true),
    in_time: default!(Option<bool>, false),
    max_gap: default!(Option<Interval>, "NULL"),
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
            name!(order_inferred, Option<bool>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let wallet = Wallet::parse(address, network)?;
        let scope = ScopeArguments { asset, since, until, min_value, include_failed, max_time };
        let arguments = TraversalArguments { scope, max_depth, direction, min_strength, max_nodes };
        let totals = required("totals", totals)?;
        let in_time = InTimeArguments { in_time, max_gap }.parse(&arguments)?;
        let traversal = Traversal::parse(wallet.network.clone(), arguments)?;
        Ok(TableIterator::new(traversal.reach(&wallet, totals, in_time)?.into_iter().map(ReachRow::into_row)))
    })
}

impl Traversal {
    fn reach(&self, wallet: &Wallet, totals: bool, in_time: Option<InTime>) -> Result<Vec<ReachRow>, SqlError> {
        let value = |value: U256| if totals { self.scope.value(value) } else { None };
        let Some(source) = self.scope.resolve(wallet)? else {
            return Ok(vec![ReachRow {
                depth: 0,
                wallets: 0,
                transfers: totals.then_some(0),
                total_value: value(U256::ZERO),
                complete: true,
                reason: Some(NO_TRANSACTION.to_owned()),
                order_inferred: in_time.map(|_| false),
            }]);
        };
        let (graph, mut deadline) = (self.scope.handle.graph(), self.scope.deadline);
        let filter = &self.scope.filter;
        let (limits, deadline) = (&self.limits, &mut deadline);
        let answer = match in_time {
            Some(InTime { side, max_gap }) => in_time::reach(&graph, source, side, filter, max_gap, limits, deadline)?,
            None => reach(&graph, source, self.direction, filter, totals, limits, deadline)?,
        };
        let reason = reason(answer.halted);
        let rows = answer.levels.into_iter().map(|level| ReachRow {
            depth: level.depth.cast_signed(),
            wallets: level.wallets.cast_signed(),
            transfers: totals.then_some(level.transfers.cast_signed()),
            total_value: value(level.value),
            complete: reason.is_none(),
            reason: reason.clone(),
            order_inferred: in_time.map(|_| level.order_inferred),
        });
        Ok(rows.collect())
    }
}
