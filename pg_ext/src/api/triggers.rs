//! Triggers of the tables of users: they stamp rows, and log what changes.
//!
//! A table belongs to a role that may alter it, and a trigger function can be put on any table. So
//! the functions here accept ARX's own tables alone, check the type of each column by its OID, and
//! coerce nothing: a cast is code of the role that made it. A row of a log is written as the owner
//! of the log, and nothing else is.

#![allow(unsafe_code, reason = "reads the columns of a row as the server passes it")]

use std::ffi::{CStr, CString};

use pgrx::heap_tuple::PgHeapTupleError;
use pgrx::pg_sys::BuiltinOid;
use pgrx::prelude::*;

use crate::error::{SqlError, or_report};
use crate::graph_store::{self, Entry};
use crate::moving::{is_moving_rows, move_rows};
use crate::owner::as_owner_of;
use crate::snapshot::relation;
use crate::spi::{self, LogValue, Table};

/// A row of a trigger, as the table has it.
struct TriggerRow {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    table: pg_sys::Oid,
}

impl TriggerRow {
    fn old(trigger: &PgTrigger<'_>) -> Result<Self, SqlError> {
        Self::new(trigger, trigger.trigger_data().tg_trigtuple)
    }

    /// Returns the row that an INSERT or UPDATE leaves.
    fn current(trigger: &PgTrigger<'_>) -> Result<Self, SqlError> {
        let data = trigger.trigger_data();
        Self::new(trigger, if data.tg_newtuple.is_null() { data.tg_trigtuple } else { data.tg_newtuple })
    }

    fn new(trigger: &PgTrigger<'_>, tuple: pg_sys::HeapTuple) -> Result<Self, SqlError> {
        let relation = trigger.trigger_data().tg_relation;
        if tuple.is_null() || relation.is_null() {
            return Err(SqlError::state("the trigger function works on rows"));
        }
        // SAFETY: The server passes an open relation.
        let (descriptor, table) = unsafe { ((*relation).rd_att, (*relation).rd_id) };
        Ok(Self { tuple, descriptor, table })
    }

    /// Returns a column of one of some types.
    fn column(&self, name: &str, types: &[BuiltinOid]) -> Result<LogValue, SqlError> {
        let c_name = CString::new(name).map_err(|_| SqlError::corrupt("a column's name contains a NUL byte"))?;
        // SAFETY: Row and descriptor belong together, and live as long as the trigger runs.
        unsafe {
            let number = pg_sys::SPI_fnumber(self.descriptor, c_name.as_ptr());
            if number <= 0 {
                return Err(self.mismatch(name, None, types));
            }
            // A domain has the values of its base type.
            let type_oid = pg_sys::getBaseType(pg_sys::SPI_gettypeid(self.descriptor, number));
            let mut is_null = false;
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, number, &raw mut is_null);
            if types.iter().any(|known| known.value() == type_oid) {
                return Ok(LogValue { datum: (!is_null).then_some(datum), type_oid });
            }
            // An enum prints its label without code of a user.
            let is_enum = pg_sys::get_typtype(type_oid) as u8 == pg_sys::TYPTYPE_ENUM;
            if is_enum && types.contains(&BuiltinOid::TEXTOID) {
                let label = (!is_null).then(|| pgrx::direct_function_call::<&CStr>(pg_sys::enum_out, &[Some(datum)]));
                let text = label.flatten().and_then(|label| label.to_string_lossy().into_owned().into_datum());
                return Ok(LogValue { datum: text, type_oid: pg_sys::TEXTOID });
            }
            Err(self.mismatch(name, Some(type_oid), types))
        }
    }

    fn mismatch(&self, name: &str, actual: Option<pg_sys::Oid>, types: &[BuiltinOid]) -> SqlError {
        let column = format!("{}.{name}", table_name(self.table));
        let expected = types.first().map_or(pg_sys::TEXTOID, |known| known.value());
        let actual = actual.map_or_else(|| "no column".to_owned(), spi::type_name);
        SqlError::column_type(&column, &actual, &spi::type_name(expected))
    }
}

/// Returns the name of a table for a message.
fn table_name(table: pg_sys::Oid) -> String {
    spi::relation_name(table).unwrap_or_else(|_| table.to_u32().to_string())
}

const TEXT: &[BuiltinOid] = &[BuiltinOid::TEXTOID, BuiltinOid::VARCHAROID];

/// Notes that the current transaction writes rows into a table of transfers, or raises the epoch:
/// the trigger of statements of each table and partition, and of `graph_epoch`.
#[pg_trigger]
fn note_writer<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, PgHeapTupleError> {
    let is_event = trigger.relid().is_ok_and(|table| table == relation(c"graph_epoch"));
    or_report(graph_store::note(if is_event { Entry::Event } else { Entry::Rows }));
    Ok(None)
}

/// Stamps an updated row with the current transaction.
#[pg_trigger]
fn stamp_row<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, PgHeapTupleError> {
    let Some(row) = trigger.new() else { return Ok(None) };
    let mut row = row.into_owned();
    if !is_moving_rows() {
        // SAFETY: A backend that writes a row is in a transaction.
        let stamp = unsafe { pg_sys::GetTopFullTransactionId() }.value;
        or_report(
            row.set_by_name("ingest_xid", Stamp(stamp))
                .map_err(|error| SqlError::state(format!("column ingest_xid cannot be stamped: {error}"))),
        );
    }
    Ok(Some(row))
}

/// A stamp: the id of a transaction.
struct Stamp(u64);

impl IntoDatum for Stamp {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(pg_sys::Datum::from(self.0))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::XID8OID
    }
}

/// Stamps a row that was written with another stamp than that of its transaction.
#[pg_trigger]
fn restamp_row<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, PgHeapTupleError> {
    if !is_moving_rows() {
        or_report(restamp(trigger));
    }
    Ok(None)
}

fn restamp(trigger: &PgTrigger<'_>) -> Result<(), SqlError> {
    let row = TriggerRow::current(trigger)?;
    // SAFETY: The server passes a row that it has stored.
    let place = unsafe { (*row.tuple).t_self };
    if as_owner_of(row.table, || move_rows(|| spi::restamp_row(row.table, place)))? {
        return Ok(());
    }
    Err(SqlError::state(format!("a row of {} keeps the stamp of another transaction", table_name(row.table)))
        .hint("A trigger of the table sets ingest_xid, or prevents the update of it."))
}

/// Logs the former version of a changed transaction, internal transfer or token transfer.
#[pg_trigger]
fn log_transaction_change<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, PgHeapTupleError> {
    if !is_moving_rows() {
        or_report(log_transaction(trigger));
    }
    Ok(None)
}

fn log_transaction(trigger: &PgTrigger<'_>) -> Result<(), SqlError> {
    let failed = |error: PgTriggerError| SqlError::state(error.to_string());
    let is_update = matches!(trigger.op().map_err(failed)?, PgTriggerOperation::Update);
    let arguments = trigger.extra_args().map_err(failed)?;
    let named = arguments.first().map(String::as_bytes);
    let table = Table::ALL.into_iter().find(|table| named == Some(table.bare_name().to_bytes()));
    let table = table.unwrap_or(Table::Transactions);
    let row = TriggerRow::old(trigger)?;
    let column_of = |tables: &[Table], name: &str, types: &[BuiltinOid]| {
        if tables.contains(&table) { row.column(name, types) } else { Ok(LogValue::null(types)) }
    };
    let is_internal = table == Table::InternalTransfers;
    let (index, amount) = match table {
        Table::Transactions => (LogValue::null(&[BuiltinOid::INT4OID]), "value"),
        Table::InternalTransfers => (row.column("position", &[BuiltinOid::INT4OID])?, "value"),
        Table::TokenTransfers => (row.column("log_index", &[BuiltinOid::INT4OID])?, "amount"),
    };
    let status = if is_internal {
        let succeeded = row.column("succeeded", &[BuiltinOid::BOOLOID])?.datum;
        LogValue::text(match succeeded.map(|datum| datum.value() != 0) {
            Some(true) => "confirmed",
            Some(false) => "failed",
            None => "unknown",
        })
    } else {
        column_of(&[Table::Transactions], "status", TEXT)?
    };
    let values = [
        LogValue::text(&table.bare_name().to_string_lossy()),
        LogValue::text(if is_update { "UPDATE" } else { "DELETE" }),
        row.column("network", TEXT)?,
        row.column("tx_hash", TEXT)?,
        index,
        row.column("timestamp", &[BuiltinOid::TIMESTAMPTZOID])?,
        row.column("block_number", &[BuiltinOid::INT8OID])?,
        column_of(&[Table::Transactions, Table::InternalTransfers], "transaction_index", &[BuiltinOid::INT4OID])?,
        column_of(&[Table::TokenTransfers], "token_address", TEXT)?,
        row.column("from_address", TEXT)?,
        row.column("to_address", TEXT)?,
        row.column(amount, &[BuiltinOid::NUMERICOID])?,
        status,
        row.column("ingest_xid", &[BuiltinOid::XID8OID])?,
        column_of(&[Table::InternalTransfers], "is_ordered", &[BuiltinOid::BOOLOID])?,
        LogValue::oid(row.table),
    ];
    log(c"transaction_change_log", row.table, || spi::log_transaction(&values))
}

/// Logs the address of a changed label or override.
#[pg_trigger]
fn log_label_change<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, PgHeapTupleError> {
    if !is_moving_rows() {
        or_report(log_label(trigger));
    }
    Ok(None)
}

fn log_label(trigger: &PgTrigger<'_>) -> Result<(), SqlError> {
    let row = TriggerRow::old(trigger)?;
    let values = [row.column("network", TEXT)?, row.column("address", TEXT)?, LogValue::oid(row.table)];
    log(c"label_change_log", row.table, || spi::log_label(&values))
}

/// Logs that the labels of many addresses changed their meaning or were removed.
#[pg_trigger]
fn log_label_meaning<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, PgHeapTupleError> {
    or_report(log_meaning(trigger));
    Ok(None)
}

fn log_meaning(trigger: &PgTrigger<'_>) -> Result<(), SqlError> {
    let table = trigger.relid().map_err(|error| SqlError::state(error.to_string()))?;
    // Rows stored for a network count only once it is registered.
    let network = if table == relation(c"networks") {
        TriggerRow::current(trigger)?.column("network", TEXT)?
    } else {
        LogValue::null(TEXT)
    };
    log(c"label_change_log", table, || spi::log_label(&[network, LogValue::null(TEXT), LogValue::oid(table)]))
}

fn foreign(table: pg_sys::Oid) -> SqlError {
    SqlError::state(format!("the trigger function works on the tables of arx alone, not on {}", table_name(table)))
}

/// Writes a row of a log as its owner. A statement that writes none found a table that is not one
/// of ARX's.
fn log(
    log: &'static CStr,
    table: pg_sys::Oid,
    write: impl FnOnce() -> Result<usize, SqlError>,
) -> Result<(), SqlError> {
    match as_owner_of(relation(log), write)? {
        0 => Err(foreign(table)),
        _ => Ok(()),
    }
}
