//! Upkeep of the graph's files: building, status, comparison with the tables.

use std::time::Duration;

use arx_core::amount::COIN_SCALE;
use arx_core::graph::CHANGE_BYTES;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::required;
use crate::error::SqlError;
use crate::graph_store::{self, Facts};
use crate::numeric::SqlNumeric;
use crate::time::{from_micros, now_micros};

sql_row! {
    struct RefreshRow {
        outcome: String,
        generation: i64,
        merged_rows: i64,
        transfers: i64,
        wallets: i64,
        file_bytes: i64,
        took: Interval,
    }
}

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
    call(|| {
        let refreshed = graph_store::refresh(required("rebuild", rebuild)?)?;
        let facts = refreshed.facts;
        let row = RefreshRow {
            outcome: refreshed.outcome.name().to_owned(),
            generation: facts.provenance.generation.cast_signed(),
            merged_rows: count(refreshed.merged_rows),
            transfers: facts.transfers.cast_signed(),
            wallets: i64::from(facts.wallets),
            file_bytes: count(facts.file_bytes),
            took: interval(refreshed.took),
        };
        Ok(TableIterator::once(row.into_row()))
    })
}

sql_row! {
    #[derive(Default)]
    struct StatusRow {
        state: String,
        generation: Option<i64>,
        built_at: Option<TimestampWithTimeZone>,
        build_time: Option<Interval>,
        snapshot: Option<String>,
        snapshot_age: Option<Interval>,
        epoch: Option<i64>,
        delta_rows: Option<i64>,
        transfers: Option<i64>,
        native_transfers: Option<i64>,
        wallets: Option<i64>,
        wallet_pairs: Option<i64>,
        file_bytes: Option<i64>,
        dictionary_bytes: Option<i64>,
        bytes_per_transfer: Option<f64>,
        segments: Option<i32>,
        segment_rows: Option<i64>,
        segment_bytes: Option<i64>,
        written_bytes: Option<i64>,
        write_amplification: Option<f64>,
    }
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
            name!(segments, Option<i32>),
            name!(segment_rows, Option<i64>),
            name!(segment_bytes, Option<i64>),
            name!(written_bytes, Option<i64>),
            name!(write_amplification, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    call(|| Ok(TableIterator::once(status()?.into_row())))
}

fn status() -> Result<StatusRow, SqlError> {
    let Some(facts) = graph_store::facts()? else {
        return Ok(StatusRow { state: "none: the next call builds it".to_owned(), ..StatusRow::default() });
    };
    let age = now_micros().saturating_sub(facts.provenance.built_at).max(0);
    Ok(StatusRow {
        state: state(&facts).to_owned(),
        generation: Some(facts.provenance.generation.cast_signed()),
        built_at: Some(from_micros(facts.provenance.built_at)?),
        build_time: Some(interval(Duration::from_millis(facts.provenance.build_millis))),
        snapshot: Some(facts.provenance.snapshot.clone()),
        snapshot_age: Some(Interval::from_micros(age)),
        epoch: Some(facts.provenance.epoch),
        delta_rows: facts.delta_rows.map(count),
        transfers: Some(facts.transfers.cast_signed()),
        native_transfers: Some(facts.native_transfers.cast_signed()),
        wallets: Some(i64::from(facts.wallets)),
        wallet_pairs: Some(facts.pairs.cast_signed()),
        file_bytes: Some(count(facts.file_bytes)),
        dictionary_bytes: Some(count(facts.dictionary_bytes)),
        bytes_per_transfer: bytes_per_transfer(&facts),
        segments: Some(i32::from(facts.segment_rows > 0)),
        segment_rows: Some(count(facts.segment_rows)),
        segment_bytes: Some(count(facts.segment_bytes)),
        written_bytes: Some(facts.upkeep.written.cast_signed()),
        write_amplification: write_amplification(&facts),
    })
}

/// Returns the bytes that were written for each byte of a change since the graph was built, to one
/// decimal.
fn write_amplification(facts: &Facts) -> Option<f64> {
    let changed = facts.upkeep.changes.saturating_mul(CHANGE_BYTES as u64);
    (changed > 0).then(|| (facts.upkeep.written as f64 / changed as f64 * 10.0).round() / 10.0)
}

const fn state(facts: &Facts) -> &'static str {
    match facts.delta_rows {
        Some(0) => "current",
        Some(_) => "behind: the overlay holds the rest",
        None => "outdated: the next call rebuilds it",
    }
}

/// Returns the bytes that a transfer takes, without the dictionary, to one decimal.
fn bytes_per_transfer(facts: &Facts) -> Option<f64> {
    let bytes = facts.file_bytes.saturating_sub(facts.dictionary_bytes);
    (facts.transfers > 0).then(|| (bytes as f64 / facts.transfers as f64 * 10.0).round() / 10.0)
}

sql_row! {
    struct VerificationRow {
        network: String,
        asset: String,
        equal: bool,
        table_transfers: i64,
        graph_transfers: i64,
        table_value: Option<SqlNumeric>,
        graph_value: Option<SqlNumeric>,
    }
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
    call(|| Ok(TableIterator::new(verification()?.into_iter().map(VerificationRow::into_row))))
}

fn verification() -> Result<Vec<VerificationRow>, SqlError> {
    let Some(compared) = graph_store::verify()? else {
        notice!("there is no graph yet: the next call that needs one builds it");
        return Ok(Vec::new());
    };
    let rows = compared.into_iter().map(|compared| {
        let native = !compared.group.tokens;
        let value = |value| native.then_some(SqlNumeric { value, scale: COIN_SCALE });
        VerificationRow {
            network: compared.group.network,
            asset: if native { "native" } else { "tokens" }.to_owned(),
            equal: compared.graph == compared.table,
            table_transfers: compared.table.transfers.cast_signed(),
            graph_transfers: compared.graph.transfers.cast_signed(),
            table_value: value(compared.table.value),
            graph_value: value(compared.graph.value),
        }
    });
    Ok(rows.collect())
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn interval(duration: Duration) -> Interval {
    Interval::from_micros(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}
