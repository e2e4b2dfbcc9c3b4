//! All SQL text that Rust runs, and the reading of its rows. Statements are constants; values are
//! parameters.
//!
//! Statements run in the caller's snapshot and with the caller's rights.

mod alert;
mod clusters;
mod evidence;
mod graph;
mod graph_facts;
mod labels;
mod partition;
mod risk;
mod statistics;
mod stream;
mod tables;
mod transfers_by_hash;

pub(crate) use alert::{alert_rules, performance_facts};
pub(crate) use clusters::{ClusterLabel, Exclusion, cluster_labels, exclusions, services};
pub(crate) use evidence::{TransferKey, transfer_hashes};
pub(crate) use graph::{
    Table, database_exists, estimated_rows, every_row, foreign_changes, former_rows, latest_epoch, mark_log,
    native_asset, new_rows,
};
pub(crate) use graph_facts::{StepTimes, TransactionSources, describe_wallets, step_transactions};
pub(crate) use labels::{WalletLabel, labels_of, labels_that_stop};
pub(crate) use partition::{
    MonthlyTable, PartitionState, Split, Waiting, create_month, lock_holders, lock_partitions, partition_state,
    relation_name, retire, split_by_hash, waiting,
};
pub(crate) use risk::{
    StoredScorecard, active_scorecard, label_cases, labels_changed, networks, now_and_next_label_change, own_labels,
    require_categories, risk_labels, risk_overrides, scorecard_document, store_risk_model,
};
pub(crate) use statistics::analyze_stale_tables;
pub(crate) use stream::varlena;
pub(crate) use tables::{create_tables, has_trigger, restamp, restamping};
pub(crate) use transfers_by_hash::transfers_of;

use arx_core::address::Network;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, SpiError, SpiHeapTupleData};

use crate::error::SqlError;

/// Rows in memory at a time while a result is read.
const ROWS_PER_FETCH: i64 = 10_000;

/// One row of a result.
pub(crate) struct Row<'a, 'conn>(&'a SpiHeapTupleData<'conn>);

impl Row<'_, '_> {
    /// Reads a column that may be NULL, counted from 1.
    pub(crate) fn optional<T: FromDatum + IntoDatum>(&self, column: usize) -> Result<Option<T>, SqlError> {
        Ok(self.0.get(column)?)
    }

    /// Reads a column that is never NULL.
    pub(crate) fn required<T: FromDatum + IntoDatum>(&self, column: usize) -> Result<T, SqlError> {
        self.optional(column)?.ok_or_else(|| SqlError::corrupt(format!("column {column} of an internal query is null")))
    }
}

/// Runs a query through a cursor and calls `each` with its rows. Each fetch has a separate SPI
/// session, because pgrx frees fetched rows only when a session ends.
fn for_each_row(
    query: &str,
    arguments: &[DatumWithOid<'_>],
    mut each: impl FnMut(Row<'_, '_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let cursor =
        Spi::connect(|client| Ok::<_, SpiError>(client.try_open_cursor(query, arguments)?.detach_into_name()))?;
    loop {
        let fetched = Spi::connect(|client: &SpiClient<'_>| {
            let mut cursor = client.find_cursor(&cursor)?;
            let rows = cursor.fetch(ROWS_PER_FETCH)?;
            let fetched = rows.len();
            for row in rows {
                check_for_interrupts!();
                each(Row(&row))?;
            }
            if fetched > 0 {
                // Keeps the cursor open: dropping it would close it.
                cursor.detach_into_name();
            }
            Ok::<_, SqlError>(fetched)
        })?;
        if fetched == 0 {
            return Ok(());
        }
    }
}

/// Runs a query for one boolean. It reads only, so that it works on a standby and in a parallel
/// query, where `Spi::get_one` fails because it assigns a transaction id.
fn is_true(query: &str, arguments: &[DatumWithOid<'_>]) -> Result<bool, SqlError> {
    let answer = Spi::connect(|client| client.select(query, Some(1), arguments)?.first().get_one::<bool>())?;
    Ok(answer.unwrap_or(false))
}

/// Runs a query for one value, or `None` if it gives no row or NULL.
fn value<T: FromDatum + IntoDatum>(query: &str, arguments: &[DatumWithOid<'_>]) -> Result<Option<T>, SqlError> {
    Spi::connect(|client| {
        let rows = client.select(query, Some(1), arguments)?;
        if rows.is_empty() { Ok(None) } else { Ok(rows.first().get_one()?) }
    })
}

/// Runs a statement that changes something, and returns the number of its rows.
fn run(statement: &str, arguments: &[DatumWithOid<'_>]) -> Result<usize, SqlError> {
    Ok(Spi::connect_mut(|client| client.update(statement, None, arguments).map(|rows| rows.len()))?)
}

const REGISTERED: &str = "SELECT EXISTS (SELECT FROM arx.networks AS n WHERE n.network = $1)";

/// Returns a network of `arx.networks` by its canonical name or an alias.
pub(crate) fn registered_network(name: &str) -> Result<Network, SqlError> {
    let network = Network::parse(name)?;
    if is_true(REGISTERED, &[network.name().into()])? { Ok(network) } else { Err(SqlError::unregistered_network(name)) }
}
