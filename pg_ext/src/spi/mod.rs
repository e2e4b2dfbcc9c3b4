//! All SQL text that Rust runs, and the reading of its rows. Statements are constants; what varies is a parameter.
//!
//! Statements run in the caller's snapshot and with the caller's rights.

mod alert;
mod clusters;
mod evidence;
mod graph;
mod graph_facts;
mod labels;
mod named;
mod partition;
mod risk;
mod stream;

pub use alert::{alert_rules, performance_facts};
pub use clusters::{ClusterLabel, Exclusion, cluster_labels, exclusions, services};
pub use evidence::{Sought, transfer_hashes};
pub use graph::{
    Table, database_exists, estimated_rows, every_row, foreign_changes, former_rows, latest_epoch, mark_log,
    native_asset, new_rows,
};
pub use graph_facts::{StepTimes, TransactionSources, describe_wallets, step_transactions};
pub use labels::{WalletLabel, labels_of, labels_that_stop};
pub use named::transfers_of;
pub use partition::{PartitionState, partition_state};
pub use risk::{
    Stored, active_scorecard, label_cases, labels_changed, networks, now_and_next_label_change, own_labels,
    require_categories, risk_labels, risk_overrides, scorecard_document, store_risk_model,
};
pub use stream::varlena;

use arx_core::address::Network;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, SpiError, SpiHeapTupleData};

use crate::error::SqlError;

/// Rows in memory at a time while a large result is read.
const ROWS_PER_FETCH: i64 = 10_000;

/// One row of a result.
pub struct Row<'a, 'conn>(&'a SpiHeapTupleData<'conn>);

impl Row<'_, '_> {
    /// A column that may be NULL, counted from 1.
    pub fn optional<T: FromDatum + IntoDatum>(&self, column: usize) -> Result<Option<T>, SqlError> {
        Ok(self.0.get(column)?)
    }

    /// A column that the statement never leaves NULL.
    pub fn required<T: FromDatum + IntoDatum>(&self, column: usize) -> Result<T, SqlError> {
        self.optional(column)?.ok_or_else(|| SqlError::corrupt(format!("column {column} of an internal query is null")))
    }
}

/// Runs a query through a cursor and hands on its rows, few of them in memory at a time. Each fetch has an SPI session of its
/// own, because pgrx frees what was fetched only when a session ends.
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
                // keeps the cursor open; dropping it closes it
                cursor.detach_into_name();
            }
            Ok::<_, SqlError>(fetched)
        })?;
        if fetched == 0 {
            return Ok(());
        }
    }
}

/// Whether a question is answered by true. It reads only, so it may be asked on a standby and in a parallel query, where
/// `Spi::get_one` would fail: that one takes a transaction id.
fn is_true(query: &str, arguments: &[DatumWithOid<'_>]) -> Result<bool, SqlError> {
    let answer = Spi::connect(|client| client.select(query, Some(1), arguments)?.first().get_one::<bool>())?;
    Ok(answer.unwrap_or(false))
}

const REGISTERED: &str = "SELECT EXISTS (SELECT FROM arx.networks AS n WHERE n.network = $1)";

/// A network of `arx.networks`, by its canonical name or an alias.
pub fn registered_network(name: &str) -> Result<Network, SqlError> {
    let network = Network::parse(name)?;
    if is_true(REGISTERED, &[network.name().into()])? { Ok(network) } else { Err(SqlError::unregistered_network(name)) }
}
