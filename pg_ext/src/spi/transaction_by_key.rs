//! A transaction by its key, read through the index of its partition without a query.
//!
//! A trigger asks for the transaction of every token transfer. A query of a hundred partitions
//! locks all of them each time, and its settings are pinned and reset.

#![allow(unsafe_code, reason = "takes a snapshot")]

use pgrx::pg_sys;

use super::graph::Table;
use super::keyed_rows::{Columns, OpenTable, PartitionAt};
use super::outcomes::{StoredTransaction, TransactionKey};
use super::stream::ColumnType::{Enum, Integer, Long, Text, Time};
use crate::error::SqlError;
use crate::snapshot::relation;

/// Columns of the primary key, and those that are read.
const KEY: Columns = Columns { names: &[c"network", c"tx_hash", c"timestamp"], types: &[Text, Text, Time] };
const READ: Columns =
    Columns { names: &[c"status", c"block_number", c"transaction_index"], types: &[Enum, Long, Integer] };

/// Result of a search without a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoundTransaction {
    Stored(StoredTransaction),
    NoRow,
    /// A query must tell.
    Unknown,
}

/// Looks a transaction up in a snapshot taken now, which sees what this command has written. Needs
/// no rights, so what it returns must not be passed on to the caller.
pub(crate) fn find_transaction(key: &TransactionKey) -> Result<FoundTransaction, SqlError> {
    // A column that is NULL equals none.
    let [Some(network), Some(hash), Some(time)] = key.map(|value| value.datum) else {
        return Ok(FoundTransaction::NoRow);
    };
    let Some(table) = OpenTable::open(relation(Table::Transactions.bare_name())) else {
        return Ok(FoundTransaction::Unknown);
    };
    match table.partition_at(c"timestamp", time.value() as i64) {
        PartitionAt::Table(partition) => with_latest_snapshot(|| find_in(&partition, &[network, hash, time])),
        PartitionAt::None => Ok(FoundTransaction::NoRow),
        PartitionAt::Unknown => Ok(FoundTransaction::Unknown),
    }
}

fn find_in(partition: &OpenTable, key: &[pg_sys::Datum]) -> Result<FoundTransaction, SqlError> {
    let mut found = FoundTransaction::NoRow;
    let was_read = partition.rows_with(KEY, key, READ, |row| {
        found = match row.optional_long(1)? {
            None => FoundTransaction::Unknown,
            Some(block_number) => FoundTransaction::Stored(StoredTransaction {
                failed: row.label(0)?.to_bytes() == b"failed",
                block_number,
                transaction_index: row.integer(2)?,
            }),
        };
        Ok(())
    })?;
    Ok(if was_read { found } else { FoundTransaction::Unknown })
}

fn with_latest_snapshot<R>(run: impl FnOnce() -> R) -> R {
    // SAFETY: In a transaction. After an error, the end of the (sub)transaction pops the snapshot.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        pg_sys::CommandCounterIncrement();
        pg_sys::UpdateActiveSnapshotCommandId();
        let result = run();
        pg_sys::PopActiveSnapshot();
        result
    }
}
