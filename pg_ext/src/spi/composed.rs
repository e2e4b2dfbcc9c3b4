//! Statements that are composed at run time, and rare ones. pgrx checks the types of their columns
//! when they are read.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use super::session::{Access, connected, connected_as_any_role};
use crate::error::SqlError;

/// Rows in memory at a time while a result is read.
const ROWS_PER_FETCH: i64 = 10_000;

/// One row of a result.
pub(super) struct Row<'a, 'conn>(&'a SpiHeapTupleData<'conn>);

impl Row<'_, '_> {
    /// Reads a column that may be NULL, counted from 1.
    pub(super) fn optional<T: FromDatum + IntoDatum>(&self, column: usize) -> Result<Option<T>, SqlError> {
        Ok(self.0.get(column)?)
    }

    /// Reads a column that is never NULL.
    pub(super) fn required<T: FromDatum + IntoDatum>(&self, column: usize) -> Result<T, SqlError> {
        self.optional(column)?.ok_or_else(|| SqlError::corrupt(format!("column {column} of an internal query is null")))
    }
}

/// Runs a query through a cursor and calls `each` with its rows. Each fetch has a separate SPI
/// session, because pgrx frees fetched rows only when a session ends.
pub(super) fn for_each_row(
    query: &str,
    arguments: &[DatumWithOid<'_>],
    mut each: impl FnMut(Row<'_, '_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let cursor =
        connected_as_any_role(Access::Any, |client| Ok(client.try_open_cursor(query, arguments)?.detach_into_name()))?;
    loop {
        let fetched = connected(Access::Any, |client| {
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
            Ok(fetched)
        })?;
        if fetched == 0 {
            return Ok(());
        }
    }
}

/// Runs a query for one boolean. It reads only, so that it works on a standby and in a parallel
/// query, where `Spi::get_one` fails because it assigns a transaction id.
pub(super) fn is_true(query: &str, arguments: &[DatumWithOid<'_>]) -> Result<bool, SqlError> {
    Ok(value(query, arguments)?.unwrap_or(false))
}

/// Runs a query for one value, or `None` if it gives no row or NULL.
pub(super) fn value<T: FromDatum + IntoDatum>(
    query: &str,
    arguments: &[DatumWithOid<'_>],
) -> Result<Option<T>, SqlError> {
    connected_as_any_role(Access::Any, |client| {
        let rows = client.select(query, Some(1), arguments)?;
        if rows.is_empty() { Ok(None) } else { Ok(rows.first().get_one()?) }
    })
}

/// Runs a statement that changes something, and returns the number of its rows.
pub(super) fn run(statement: &str, arguments: &[DatumWithOid<'_>]) -> Result<usize, SqlError> {
    connected(Access::Any, |client| Ok(client.update(statement, None, arguments)?.len()))
}

/// Runs a statement that changes something, and calls `each` with the rows that it returns, which
/// are few.
pub(super) fn read_changed(
    statement: &str,
    arguments: &[DatumWithOid<'_>],
    mut each: impl FnMut(Row<'_, '_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    connected(Access::Any, |client| {
        for row in client.update(statement, None, arguments)? {
            each(Row(&row))?;
        }
        Ok(())
    })
}
