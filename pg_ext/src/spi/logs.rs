//! Rows of the logs of changes, and stamps of single rows.

#![allow(unsafe_code, reason = "passes values of a row on as they are")]

use std::cell::RefCell;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::BuiltinOid;
use pgrx::prelude::*;
use pgrx::spi::OwnedPreparedStatement;

use super::relation_name;
use super::session::{Access, connected};
use crate::error::SqlError;
use crate::moving::without_user_triggers;

/// A value of a log, valid while the trigger runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogValue {
    pub(crate) datum: Option<pg_sys::Datum>,
    pub(crate) type_oid: pg_sys::Oid,
}

impl LogValue {
    pub(crate) fn text(text: &str) -> Self {
        Self { datum: text.into_datum(), type_oid: pg_sys::TEXTOID }
    }

    pub(crate) fn oid(oid: pg_sys::Oid) -> Self {
        Self { datum: oid.into_datum(), type_oid: pg_sys::OIDOID }
    }

    /// NULL of the first of some types.
    pub(crate) fn null(types: &[BuiltinOid]) -> Self {
        Self { datum: None, type_oid: types.first().map_or(pg_sys::TEXTOID, |known| known.value()) }
    }

    pub(super) fn argument(self) -> DatumWithOid<'static> {
        match self.datum {
            // SAFETY: The value has the type, and lives as long as the trigger runs.
            Some(datum) => unsafe { DatumWithOid::new(datum, self.type_oid) },
            None => DatumWithOid::null_oid(self.type_oid),
        }
    }
}

/// A statement whose plan is kept for the session.
struct KeptStatement {
    text: &'static str,
    types: &'static [BuiltinOid],
    plan: RefCell<Option<OwnedPreparedStatement>>,
}

impl KeptStatement {
    const fn new(text: &'static str, types: &'static [BuiltinOid]) -> Self {
        Self { text, types, plan: RefCell::new(None) }
    }

    /// Runs the statement and returns the number of its rows.
    fn run(&self, values: &[LogValue]) -> Result<usize, SqlError> {
        let arguments: Vec<DatumWithOid<'_>> = values.iter().map(|value| value.argument()).collect();
        connected(Access::Any, |client| {
            // Taken while it runs, so that a statement within it prepares one of its own.
            let plan = match self.plan.take() {
                Some(plan) => plan,
                None => {
                    let types: Vec<PgOid> = self.types.iter().map(|known| PgOid::BuiltIn(*known)).collect();
                    client.prepare_mut(self.text, &types)?.keep()
                }
            };
            let rows = client.update(&plan, None, &arguments)?.len();
            self.plan.replace(Some(plan));
            Ok(rows)
        })
    }
}

thread_local! {
    static LOG_TRANSACTION: KeptStatement = const { KeptStatement::new(
        "INSERT INTO arx.transaction_change_log
             (relation, operation, network, tx_hash, log_index, \"timestamp\", block_number, transaction_index, asset,
              from_address, to_address, value, status, former_xid, is_ordered)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
          WHERE EXISTS (SELECT FROM arx.tracked_partitions AS t WHERE t.relid = $16 AND t.topic = 'transfers')",
        &[
            BuiltinOid::TEXTOID, BuiltinOid::TEXTOID, BuiltinOid::TEXTOID, BuiltinOid::TEXTOID, BuiltinOid::INT4OID,
            BuiltinOid::TIMESTAMPTZOID, BuiltinOid::INT8OID, BuiltinOid::INT4OID, BuiltinOid::TEXTOID,
            BuiltinOid::TEXTOID, BuiltinOid::TEXTOID, BuiltinOid::NUMERICOID, BuiltinOid::TEXTOID,
            BuiltinOid::XID8OID, BuiltinOid::BOOLOID, BuiltinOid::OIDOID,
        ],
    ) };

    static LOG_LABEL: KeptStatement = const { KeptStatement::new(
        "INSERT INTO arx.label_change_log (network, address)
         SELECT $1, $2
          WHERE EXISTS (SELECT FROM arx.tracked_partitions AS t WHERE t.relid = $3 AND t.topic = 'labels')",
        &[BuiltinOid::TEXTOID, BuiltinOid::TEXTOID, BuiltinOid::OIDOID],
    ) };
}

/// Logs the former version of a row, unless its table, the last value, does not belong to ARX.
/// Returns the number of rows logged.
pub(crate) fn log_transaction(values: &[LogValue; 16]) -> Result<usize, SqlError> {
    LOG_TRANSACTION.with(|statement| statement.run(values))
}

/// Logs a network and an address, unless their table, the last value, does not belong to ARX.
/// Returns the number of rows logged.
pub(crate) fn log_label(values: &[LogValue; 3]) -> Result<usize, SqlError> {
    LOG_LABEL.with(|statement| statement.run(values))
}

/// Stamps the row at a place of a table. Returns true if it then bears the stamp of the current
/// transaction.
pub(crate) fn restamp_row(table: pg_sys::Oid, place: pg_sys::ItemPointerData) -> Result<bool, SqlError> {
    let table = relation_name(table)?;
    let statement = format!(
        "UPDATE ONLY {table} AS t SET ingest_xid = pg_catalog.pg_current_xact_id() WHERE t.ctid = $1 \
         RETURNING t.ingest_xid = pg_catalog.pg_current_xact_id()"
    );
    without_user_triggers(|| {
        connected(Access::Any, |client| {
            let rows = client.update(statement.as_str(), None, &[place.into()])?;
            if rows.is_empty() { Ok(false) } else { Ok(rows.first().get_one()? == Some(true)) }
        })
    })
}
