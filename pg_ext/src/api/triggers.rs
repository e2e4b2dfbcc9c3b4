//! Triggers of the tables of users: they stamp rows, and log what changes.
//!
//! A table belongs to a role that may alter it, and a trigger function can be put on any table. So
//! the functions here accept ARX's own tables alone, check the type of each column by its OID, and
//! coerce nothing: a cast is code of the role that made it. A row of a log is written as the owner
//! of the log, and nothing else is.

#![allow(unsafe_code, reason = "reads the columns of a row as the server passes it")]

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString};

use pgrx::datum::TryFromDatumError;
use pgrx::heap_tuple::PgHeapTupleError;
use pgrx::pg_sys::BuiltinOid;
use pgrx::prelude::*;

use crate::error::{SqlError, or_report};
use crate::graph_store::{self, Entry};
use crate::moving::{is_moving_rows, move_rows};
use crate::owner::as_owner_of;
use crate::snapshot::{keeps_snapshot, relation};
use crate::spi::{self, FoundTransaction, LogValue, StoredTransaction, Table, TransactionKey};

// Of catalog/partition.h, which pgrx does not bind.
unsafe extern "C-unwind" {
    fn get_partition_parent(partition: pg_sys::Oid, even_if_detached: bool) -> pg_sys::Oid;
}

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

    fn boolean(&self, name: &str) -> Result<Option<bool>, SqlError> {
        Ok(self.column(name, &[BuiltinOid::BOOLOID])?.datum.map(|datum| datum.value() != 0))
    }

    fn text(&self, name: &str) -> Result<Option<String>, SqlError> {
        // SAFETY: The value is a text, and lives as long as the trigger runs.
        let text = |datum| String::from_utf8_lossy(unsafe { spi::varlena(datum) }).into_owned();
        Ok(self.column(name, TEXT)?.datum.map(text))
    }

    /// Returns the values that identify the transaction of a row.
    fn transaction_key(&self) -> Result<TransactionKey, SqlError> {
        let text = |name| Ok::<_, SqlError>(LogValue { type_oid: pg_sys::TEXTOID, ..self.column(name, TEXT)? });
        Ok([text("network")?, text("tx_hash")?, self.column("timestamp", &[BuiltinOid::TIMESTAMPTZOID])?])
    }

    /// Reports whether a row is one of a transaction.
    fn has_key(&self, key: &TransactionKey) -> bool {
        // SAFETY: The first two values of a key are texts.
        let bytes = |value: &LogValue| value.datum.map(|datum| unsafe { spi::varlena(datum) }.to_vec());
        let time = |value: &LogValue| value.datum.map(|datum| datum.value());
        self.transaction_key().is_ok_and(|own| {
            let [network, hash, at] = &own;
            bytes(network) == bytes(&key[0]) && bytes(hash) == bytes(&key[1]) && time(at) == time(&key[2])
        })
    }

    fn require_part_of(&self, name: &CStr) -> Result<(), SqlError> {
        require_part(self.table, name)
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

/// Gives an internal transfer that lacks outcome or block those of its transaction, and one of a
/// failed transaction its failure. A value that was taken from the transaction earlier is taken
/// again, unless the writer changes it.
#[pg_trigger]
fn complete_internal_transfer<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, PgHeapTupleError> {
    let Some(row) = trigger.new() else { return Ok(None) };
    let mut row = row.into_owned();
    if !is_moving_rows() {
        or_report(complete_transfer(trigger, &mut row));
    }
    Ok(Some(row))
}

fn complete_transfer(trigger: &PgTrigger<'_>, row: &mut PgHeapTuple<'_, AllocatedByRust>) -> Result<(), SqlError> {
    let is_update = !trigger.trigger_data().tg_newtuple.is_null();
    let present = TriggerRow::current(trigger)?;
    let former = if is_update { Some(TriggerRow::old(trigger)?) } else { None };
    let flag = |row: &TriggerRow, name| Ok::<_, SqlError>(row.boolean(name)? == Some(true));
    let is_kept = |name: &str, types: &[BuiltinOid]| -> Result<bool, SqlError> {
        let Some(former) = &former else { return Ok(true) };
        Ok(former.column(name, types)?.datum.map(|datum| datum.value())
            == present.column(name, types)?.datum.map(|datum| datum.value()))
    };
    let has_own_outcome = !(flag(&present, "outcome_inherited")? && is_kept("succeeded", &[BuiltinOid::BOOLOID])?);
    let has_own_block = !(flag(&present, "block_inherited")? && is_kept("block_number", &[BuiltinOid::INT8OID])?);
    let own_outcome = if has_own_outcome { present.boolean("succeeded")? } else { None };
    let block = present.column("block_number", &[BuiltinOid::INT8OID])?.datum.map(|datum| datum.value() as i64);
    let own_block = block.filter(|_| has_own_block);
    let index = present.column("transaction_index", &[BuiltinOid::INT4OID])?.datum.map(|datum| datum.value() as i32);
    let own_index = index.filter(|_| has_own_block);
    let is_complete = own_outcome.is_some() && own_block.is_some();
    let stored = if is_complete && own_outcome == Some(false) {
        None
    } else {
        transaction_of(&present, c"internal_transfers", is_complete)?
    };
    // A transfer of a failed transaction moves nothing, whatever it states.
    let failed = own_outcome != Some(false) && stored.is_some_and(|stored| stored.failed);
    let has_inherited = |name| Ok::<_, SqlError>(present.boolean(name)? != Some(false));
    if is_complete && !failed && !has_inherited("outcome_inherited")? && !has_inherited("block_inherited")? {
        return Ok(());
    }
    let outcome = if failed { Some(false) } else { own_outcome };
    let inherited_block = stored.filter(|_| own_block.is_none());
    let set = |changed: Result<(), TryFromDatumError>| {
        changed.map_err(|error| SqlError::state(format!("an internal transfer cannot be completed: {error}")))
    };
    set(row.set_by_name("succeeded", outcome))?;
    set(row.set_by_name("outcome_inherited", failed))?;
    set(row.set_by_name("block_number", own_block.or(inherited_block.map(|stored| stored.block_number))))?;
    let index = inherited_block.and_then(|stored| stored.transaction_index).or(own_index);
    set(row.set_by_name("transaction_index", index))?;
    set(row.set_by_name("block_inherited", inherited_block.is_some()))
}

/// The transaction of a transfer, as this command has found it.
struct Lookup {
    transaction: u64,
    subtransaction: u32,
    command: u32,
    /// The table of ARX, and its partition that is written into.
    root: &'static CStr,
    table: pg_sys::Oid,
    network: Vec<u8>,
    hash: Vec<u8>,
    time: Option<usize>,
    stored: Option<StoredTransaction>,
    /// The transfers follow changes of the transaction, or its arrival.
    is_followed: bool,
}

/// Looks for the transaction of a transfer, a row of a partition of `root`. The transfers of a
/// transaction come together, so the last answer within a command serves the next row.
///
/// A transfer that lacks outcome or block follows its transaction: one that is stored is locked,
/// and one that is not is awaited. A complete one costs one lookup; where its session does not see
/// a failure that another one is storing, `settle_awaited_transactions()` finds the transfer.
fn transaction_of(
    row: &TriggerRow,
    root: &'static CStr,
    is_complete: bool,
) -> Result<Option<StoredTransaction>, SqlError> {
    thread_local! {
        static LAST: RefCell<Option<Lookup>> = const { RefCell::new(None) };
    }
    // SAFETY: A backend that writes a row is in a transaction. Its id is older than what the lookup
    // does not see: settle_awaited_transactions() waits for the end of such transactions.
    let (transaction, subtransaction, command) = unsafe {
        (
            pg_sys::GetTopFullTransactionId().value,
            pg_sys::GetCurrentSubTransactionId(),
            pg_sys::GetCurrentCommandId(false),
        )
    };
    let key = row.transaction_key()?;
    // SAFETY: The first two values of a key are texts, and live as long as the trigger runs.
    let bytes = |value: &LogValue| value.datum.map_or(&[][..], |datum| unsafe { spi::varlena(datum) });
    let (network, hash) = (bytes(&key[0]), bytes(&key[1]));
    let time = key[2].datum.map(|datum| datum.value());
    let is_of_command = |last: &Lookup| {
        (last.transaction, last.subtransaction, last.command) == (transaction, subtransaction, command)
            && (last.root, last.table) == (root, row.table)
    };
    let last = LAST.with_borrow(|last| {
        let last = last.as_ref().filter(|last| {
            is_of_command(last)
                && last.time == time
                && last.network == network
                && last.hash == hash
                && (is_complete || last.is_followed)
        })?;
        Some(last.stored)
    });
    if let Some(stored) = last {
        return Ok(stored);
    }
    // A table that the command writes into stays where it is.
    if !LAST.with_borrow(|last| last.as_ref().is_some_and(is_of_command)) {
        row.require_part_of(root)?;
    }
    let transactions = relation(c"transactions");
    if transactions == pg_sys::InvalidOid {
        return Ok(None);
    }
    let stored = match if is_complete { spi::find_transaction(&key)? } else { FoundTransaction::Unknown } {
        FoundTransaction::Stored(stored) => Some(stored),
        FoundTransaction::NoRow => None,
        FoundTransaction::Unknown => {
            let find = if is_complete { spi::present_transaction } else { spi::stored_transaction };
            as_owner_of(transactions, || find(&key))?
        }
    };
    let awaited = relation(c"awaited_transactions");
    // The snapshot of a transaction that keeps one may be older than its id.
    let is_awaited = if is_complete { keeps_snapshot() } else { stored.is_none() };
    if is_awaited && awaited != pg_sys::InvalidOid {
        as_owner_of(awaited, || spi::await_transaction(&key))?;
    }
    let (network, hash) = (network.to_vec(), hash.to_vec());
    let is_followed = !is_complete;
    let lookup = Lookup {
        transaction,
        subtransaction,
        command,
        root,
        table: row.table,
        network,
        hash,
        time,
        stored,
        is_followed,
    };
    LAST.set(Some(lookup));
    Ok(stored)
}

/// Keeps a token transfer of a failed transaction out of its table.
#[pg_trigger]
fn void_token_transfer<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, PgHeapTupleError> {
    let is_void = !is_moving_rows() && or_report(set_aside(trigger));
    Ok(if is_void { None } else { trigger.new() })
}

/// Returns true if a token transfer is one of a failed transaction, and is kept apart.
fn set_aside(trigger: &PgTrigger<'_>) -> Result<bool, SqlError> {
    let row = TriggerRow::current(trigger)?;
    if !transaction_of(&row, c"token_transfers", true)?.is_some_and(|stored| stored.failed) {
        return Ok(false);
    }
    let void = relation(c"void_token_transfers");
    if void == pg_sys::InvalidOid {
        return Ok(false);
    }
    let (key, index) = (row.transaction_key()?, row.column("log_index", &[BuiltinOid::INT4OID])?);
    // SAFETY: Row and descriptor belong together.
    let value = unsafe {
        let datum = pg_sys::heap_copy_tuple_as_datum(row.tuple, row.descriptor);
        LogValue { datum: Some(datum), type_oid: (*row.descriptor).tdtypeid }
    };
    as_owner_of(void, || spi::set_token_transfer_aside(&key, index, value))?;
    Ok(true)
}

/// Passes outcome and block of a transaction on to its internal transfers that lack them, and its
/// failure to its token transfers.
#[pg_trigger]
fn complete_internal_transfers<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, PgHeapTupleError> {
    if !is_moving_rows() {
        or_report(complete_transfers(trigger));
    }
    Ok(None)
}

fn complete_transfers(trigger: &PgTrigger<'_>) -> Result<(), SqlError> {
    let operation = trigger.op().map_err(|error| SqlError::state(error.to_string()))?;
    let is_insert = matches!(operation, PgTriggerOperation::Insert);
    if matches!(operation, PgTriggerOperation::Update) && passes_on_the_same(trigger)? {
        return Ok(());
    }
    // Nearly always nothing is awaited, and a new row that has not failed costs no query.
    let is_awaiting = any_awaited()?;
    let has_failed = |row: &TriggerRow| Ok::<_, SqlError>(row.text("status")?.as_deref() == Some("failed"));
    if is_insert && !is_awaiting && !has_failed(&TriggerRow::current(trigger)?)? {
        return Ok(());
    }
    let former = if is_insert { None } else { Some(TriggerRow::old(trigger)?.transaction_key()?) };
    let present = match operation {
        PgTriggerOperation::Delete => None,
        _ => Some(TriggerRow::current(trigger)?),
    };
    let (awaited, transfers) = (relation(c"awaited_transactions"), relation(c"internal_transfers"));
    if awaited == pg_sys::InvalidOid || transfers == pg_sys::InvalidOid {
        return Ok(());
    }
    let table = trigger.relid().map_err(|error| SqlError::state(error.to_string()))?;
    require_part(table, c"transactions")?;
    let had_failed = !is_insert && has_failed(&TriggerRow::old(trigger)?)?;
    let void = relation(c"void_token_transfers");
    if let Some(former) = former {
        if had_failed && void != pg_sys::InvalidOid {
            match &present {
                None => as_owner_of(void, || spi::discard_void_transfers(&former))?,
                Some(row) if !has_failed(row)? => as_owner_of(void, || spi::restore_token_transfers(&former))?,
                Some(_) => {}
            }
        }
        // An updated row may have become another transaction.
        let is_same = present.as_ref().is_some_and(|row| row.has_key(&former));
        if !is_same {
            as_owner_of(transfers, || spi::complete_internal_transfers(&former, None))?;
        }
    }
    let Some(row) = present else { return Ok(()) };
    let key = row.transaction_key()?;
    let was_awaited = is_awaiting && as_owner_of(awaited, || spi::stop_awaiting(&key))?;
    let failed = has_failed(&row)?;
    if is_insert && !was_awaited && !failed {
        return Ok(());
    }
    if failed {
        as_owner_of(awaited, || spi::note_failure(&key))?;
        if void != pg_sys::InvalidOid {
            as_owner_of(void, || spi::void_token_transfers(&key))?;
        }
    }
    let stored = StoredTransaction {
        failed,
        block_number: row.column("block_number", &[BuiltinOid::INT8OID])?.datum.map_or(0, |datum| datum.value() as i64),
        transaction_index: row
            .column("transaction_index", &[BuiltinOid::INT4OID])?
            .datum
            .map(|datum| datum.value() as i32),
    };
    as_owner_of(transfers, || spi::complete_internal_transfers(&key, Some(stored)))
}

/// Returns true if an updated transaction has the key, outcome and block that it had before.
fn passes_on_the_same(trigger: &PgTrigger<'_>) -> Result<bool, SqlError> {
    let (former, present) = (TriggerRow::old(trigger)?, TriggerRow::current(trigger)?);
    let is_same = |name: &str, types: &[BuiltinOid]| -> Result<bool, SqlError> {
        let value = |row: &TriggerRow| Ok::<_, SqlError>(row.column(name, types)?.datum.map(|datum| datum.value()));
        Ok(value(&former)? == value(&present)?)
    };
    Ok(present.has_key(&former.transaction_key()?)
        && former.text("status")? == present.text("status")?
        && is_same("block_number", &[BuiltinOid::INT8OID])?
        && is_same("transaction_index", &[BuiltinOid::INT4OID])?)
}

/// Returns true if internal transfers wait for a transaction. The answer is kept for a command.
fn any_awaited() -> Result<bool, SqlError> {
    thread_local! {
        static KNOWN: Cell<Option<(u64, u32, bool)>> = const { Cell::new(None) };
    }
    // SAFETY: A backend that writes a row is in a transaction.
    let (transaction, command) =
        unsafe { (pg_sys::GetTopFullTransactionId().value, pg_sys::GetCurrentCommandId(false)) };
    if let Some((of_transaction, of_command, any)) = KNOWN.get()
        && (of_transaction, of_command) == (transaction, command)
    {
        return Ok(any);
    }
    let awaited = relation(c"awaited_transactions");
    let any = awaited != pg_sys::InvalidOid && as_owner_of(awaited, spi::any_awaited)?;
    KNOWN.set(Some((transaction, command, any)));
    Ok(any)
}

/// Rejects a table that is neither a table of ARX nor a partition of it.
fn require_part(table: pg_sys::Oid, name: &CStr) -> Result<(), SqlError> {
    let (root, mut part) = (relation(name), table);
    while part != root {
        // SAFETY: Reads the catalog; a partition has a parent.
        part = unsafe {
            if !pg_sys::get_rel_relispartition(part) {
                return Err(foreign(table));
            }
            pg_sys::ffi::pg_guard_ffi_boundary(|| get_partition_parent(part, true))
        };
    }
    Ok(())
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
