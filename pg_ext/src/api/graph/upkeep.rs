//! The files behind the answers: made, looked at, held against the tables.

use std::time::Duration;

use arx_core::amount::COIN_SCALE;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::question::time;
use crate::error::SqlError;
use crate::graph_store::{self, Facts};
use crate::numeric::SqlNumeric;

#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
fn refresh_graph(
    rebuild: default!(Option<bool>, false),
) -> Result<
    TableIterator<
        'static,
        (
            name!(outcome, String),
            name!(generation, i64),
            name!(merged_rows, i64),
            name!(transfers, i64),
            name!(wallets, i64),
            name!(file_bytes, i64),
            name!(took, Interval),
        ),
    >,
    ErrorReport,
> {
    let rebuild = rebuild.ok_or_else(|| SqlError::null_argument("rebuild"))?;
    let refreshed = graph_store::refresh(rebuild)?;
    let facts = refreshed.facts;
    Ok(TableIterator::once((
        refreshed.outcome.name().to_owned(),
        facts.provenance.generation.cast_signed(),
        count(refreshed.merged_rows),
        facts.transfers.cast_signed(),
        i64::from(facts.wallets),
        count(facts.file_bytes),
        interval(refreshed.took),
    )))
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn graph_status() -> Result<
    TableIterator<
        'static,
        (
            name!(state, String),
            name!(generation, Option<i64>),
            name!(built_at, Option<TimestampWithTimeZone>),
            name!(build_time, Option<Interval>),
            name!(snapshot, Option<String>),
            name!(snapshot_age, Option<Interval>),
            name!(epoch, Option<i64>),
            name!(delta_rows, Option<i64>),
            name!(transfers, Option<i64>),
            name!(native_transfers, Option<i64>),
            name!(wallets, Option<i64>),
            name!(wallet_pairs, Option<i64>),
            name!(file_bytes, Option<i64>),
            name!(dictionary_bytes, Option<i64>),
            name!(bytes_per_transfer, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    let Some(facts) = graph_store::facts()? else {
        let state = "none: the next call builds it".to_owned();
        let none = (state, None, None, None, None, None, None, None, None, None, None, None, None, None, None);
        return Ok(TableIterator::once(none));
    };
    let built_at = time(facts.provenance.built_at)?;
    let age = graph_store::now_micros().saturating_sub(facts.provenance.built_at).max(0);
    Ok(TableIterator::once((
        state(&facts).to_owned(),
        Some(facts.provenance.generation.cast_signed()),
        Some(built_at),
        Some(interval(Duration::from_millis(facts.provenance.build_millis))),
        Some(facts.provenance.snapshot.clone()),
        Some(Interval::from_micros(age)),
        Some(facts.provenance.epoch),
        facts.delta_rows.map(count),
        Some(facts.transfers.cast_signed()),
        Some(facts.native_transfers.cast_signed()),
        Some(i64::from(facts.wallets)),
        Some(facts.pairs.cast_signed()),
        Some(count(facts.file_bytes)),
        Some(count(facts.dictionary_bytes)),
        bytes_per_transfer(&facts),
    )))
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn verify_graph() -> Result<
    TableIterator<
        'static,
        (
            name!(network, String),
            name!(asset, String),
            name!(equal, bool),
            name!(table_transfers, i64),
            name!(graph_transfers, i64),
            name!(table_value, Option<SqlNumeric>),
            name!(graph_value, Option<SqlNumeric>),
        ),
    >,
    ErrorReport,
> {
    let Some(compared) = graph_store::verify()? else {
        notice!("there is no graph yet: the next call that needs one builds it");
        return Ok(TableIterator::empty());
    };
    Ok(TableIterator::new(compared.into_iter().map(|one| {
        let native = !one.group.tokens;
        let value = |value| native.then_some(SqlNumeric { value, scale: COIN_SCALE });
        (
            one.group.network,
            if native { "native" } else { "tokens" }.to_owned(),
            one.graph == one.table,
            one.table.transfers.cast_signed(),
            one.graph.transfers.cast_signed(),
            value(one.table.value),
            value(one.graph.value),
        )
    })))
}

const fn state(facts: &Facts) -> &'static str {
    match facts.delta_rows {
        Some(0) => "current",
        Some(_) => "behind: the rest is laid over",
        None => "outdated: the next call builds it anew",
    }
}

/// The dictionary apart.
fn bytes_per_transfer(facts: &Facts) -> Option<f64> {
    let bytes = facts.file_bytes.saturating_sub(facts.dictionary_bytes);
    (facts.transfers > 0).then(|| (bytes as f64 / facts.transfers as f64 * 10.0).round() / 10.0)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn interval(time: Duration) -> Interval {
    Interval::from_micros(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}
