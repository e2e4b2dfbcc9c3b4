//! Rows of the tables of transfers that became visible since a snapshot, read through their index
//! without planning or executing a query.
//!
//! A query over a hundred partitions costs some 80 ms to plan and half a millisecond to start, even
//! if nothing is new. Here a partition without news costs one descent of its index, a microsecond.
//! It runs no code of the tables' owners: the columns have built-in types, and the index has the
//! built-in order. The caller must hold the right to read every row.

#![allow(unsafe_code, reason = "calls the server's access methods")]

use std::collections::HashMap;
use std::ffi::{CStr, c_int};

use arx_core::amount::COIN_SCALE;
use arx_core::graph::{Position, Snapshot, Status, TransferRow, U256};
use arx_pgwire::numeric::decode_datum;
use pgrx::prelude::*;

use super::members::{Members, Place};
use crate::error::SqlError;
use crate::spi::{Table, varlena, with_memory_context};
use crate::versions::index_beginscan;

/// Rows between two cancellation checks.
const ROWS_PER_CHECK: usize = 1 << 12;

/// Calls `each` for every row of a table that became visible since a snapshot. Returns false if the
/// table cannot be read like this: nothing has been read then.
pub(super) fn new_rows(
    members: &Members,
    table: Table,
    since: &Snapshot,
    mut each: impl FnMut(&TransferRow<'_>) -> Result<(), SqlError>,
) -> Result<bool, SqlError> {
    let Some(places) = members.places(table) else { return Ok(false) };
    let mut labels = HashMap::new();
    let mut rows = 0_usize;
    // What is unpacked lives until the table has been read.
    with_memory_context(|| {
        for place in places {
            let Some(mut scan) = Scan::begin(place, since) else { continue };
            while let Some(row) = scan.next() {
                rows += 1;
                if rows.is_multiple_of(ROWS_PER_CHECK) {
                    check_for_interrupts!();
                }
                if !since.sees(row.stamp()?) {
                    each(&row.transfer(table, &mut labels)?)?;
                }
            }
        }
        Ok(true)
    })
}

/// Returns false if the log has no row that became visible since a snapshot.
pub(super) fn may_have_former_rows(members: &Members, since: &Snapshot) -> Result<bool, SqlError> {
    let Some(place) = members.log() else { return Ok(true) };
    with_memory_context(|| {
        let Some(mut scan) = Scan::begin(place, since) else { return Ok(true) };
        while let Some(row) = scan.next() {
            if !since.sees(row.stamp()?) {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

/// A scan of the rows whose stamps a snapshot need not have seen.
struct Scan<'p> {
    place: &'p Place,
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
}

const LOCK: c_int = pg_sys::AccessShareLock as c_int;

impl<'p> Scan<'p> {
    /// Returns `None` if the relation was dropped, which is an event that the caller finds.
    fn begin(place: &'p Place, since: &Snapshot) -> Option<Self> {
        // SAFETY: The relations are locked and open until the scan is dropped, and there is an
        // active snapshot. After an error, the end of the (sub)transaction releases everything.
        unsafe {
            let relation = pg_sys::try_relation_open(place.relation, LOCK);
            if relation.is_null() {
                return None;
            }
            let index = pg_sys::index_open(place.index, LOCK);
            let scan = begin_scan(relation, index);
            let mut key = std::mem::MaybeUninit::<pg_sys::ScanKeyData>::zeroed();
            pg_sys::ScanKeyInit(
                key.as_mut_ptr(),
                1,
                pg_sys::BTGreaterEqualStrategyNumber as u16,
                pg_sys::F_XID8GE.into(),
                pg_sys::Datum::from(since.xmin()),
            );
            pg_sys::index_rescan(scan, key.as_mut_ptr(), 1, std::ptr::null_mut(), 0);
            Some(Self { place, relation, index, scan, slot: std::ptr::null_mut() })
        }
    }

    /// Returns the next row, which is valid until the one after it.
    fn next(&mut self) -> Option<Row<'_>> {
        // SAFETY: The scan is open. A slot is only made once there is an entry.
        unsafe {
            loop {
                if pg_sys::index_getnext_tid(self.scan, pg_sys::ScanDirection::ForwardScanDirection).is_null() {
                    return None;
                }
                if self.slot.is_null() {
                    self.slot = pg_sys::table_slot_create(self.relation, std::ptr::null_mut());
                }
                if pg_sys::index_fetch_heap(self.scan, self.slot) {
                    break;
                }
            }
            pg_sys::slot_getallattrs(self.slot);
            let count = (*self.slot).tts_nvalid as usize;
            Some(Row {
                columns: &self.place.columns,
                values: std::slice::from_raw_parts((*self.slot).tts_values, count),
                nulls: std::slice::from_raw_parts((*self.slot).tts_isnull, count),
            })
        }
    }
}

/// # Safety
/// Both relations are open and locked.
unsafe fn begin_scan(relation: pg_sys::Relation, index: pg_sys::Relation) -> pg_sys::IndexScanDesc {
    // SAFETY: As the caller promises; the active snapshot lives until the function returns.
    unsafe {
        let snapshot = pg_sys::GetActiveSnapshot();
        index_beginscan(relation, index, snapshot, 1)
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        // An error that unwinds is one of the server, which releases everything itself, or one of
        // ARX that becomes one of the server.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: Opened in `begin`.
        unsafe {
            if !self.slot.is_null() {
                pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            }
            pg_sys::index_endscan(self.scan);
            pg_sys::index_close(self.index, LOCK);
            pg_sys::relation_close(self.relation, LOCK);
        }
    }
}

/// A row of a place, with its columns in the order of the place.
struct Row<'a> {
    columns: &'a [i16],
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
}

impl<'a> Row<'a> {
    fn datum(&self, column: usize) -> Result<Option<pg_sys::Datum>, SqlError> {
        let number = self.columns.get(column).and_then(|number| usize::try_from(*number - 1).ok());
        match number.and_then(|number| Some((self.values.get(number)?, self.nulls.get(number)?))) {
            Some((value, is_null)) => Ok((!is_null).then_some(*value)),
            None => Err(SqlError::corrupt(format!("a row has no column {column}"))),
        }
    }

    fn required(&self, column: usize) -> Result<pg_sys::Datum, SqlError> {
        self.datum(column)?.ok_or_else(|| SqlError::corrupt(format!("column {column} of a transfer is null")))
    }

    fn stamp(&self) -> Result<u64, SqlError> {
        Ok(self.required(self.columns.len().saturating_sub(1))?.value() as u64)
    }

    fn optional_text(&self, column: usize) -> Result<Option<&'a str>, SqlError> {
        let Some(datum) = self.datum(column)? else { return Ok(None) };
        // SAFETY: A text that is not NULL. What is unpacked lives as long as the row.
        let bytes: &'a [u8] = unsafe { varlena(datum) };
        let text = std::str::from_utf8(bytes);
        text.map(Some).map_err(|_| SqlError::corrupt(format!("column {column} of a transfer is not UTF-8")))
    }

    fn text(&self, column: usize) -> Result<&'a str, SqlError> {
        self.optional_text(column)?.ok_or_else(|| SqlError::corrupt(format!("column {column} of a transfer is null")))
    }

    fn amount(&self, column: usize, scale: u32) -> Result<U256, SqlError> {
        // SAFETY: A numeric that is not NULL; the bytes are read at once.
        Ok(decode_datum(unsafe { varlena(self.required(column)?) }, scale)?)
    }

    fn integer(&self, column: usize) -> Result<Option<u32>, SqlError> {
        Ok(self.datum(column)?.map(|datum| datum.value() as u32))
    }

    fn is_true(&self, column: usize) -> Result<Option<bool>, SqlError> {
        Ok(self.datum(column)?.map(|datum| datum.value() as u8 != 0))
    }

    /// Reads the row as the queries of `spi::graph` select it.
    fn transfer(&self, table: Table, labels: &mut HashMap<u32, Status>) -> Result<TransferRow<'a>, SqlError> {
        let block = self.datum(5)?.map_or(Position::UNKNOWN_BLOCK, |datum| datum.value() as u64);
        let index = self.integer(6)?;
        let (scale, position, token, status) = match table {
            Table::Transactions => {
                let position = Position { block, transaction_index: index, log_index: None };
                (COIN_SCALE, position, None, status(self.required(7)?, labels))
            }
            Table::InternalTransfers => {
                let log_index = if self.is_true(8)? == Some(true) { self.integer(9)? } else { None };
                let position = Position { block, transaction_index: index, log_index };
                let status = match self.is_true(7)? {
                    Some(true) => Status::Confirmed,
                    Some(false) => Status::Failed,
                    None => Status::Unknown,
                };
                (COIN_SCALE, position, None, status)
            }
            Table::TokenTransfers => {
                let position = Position { block, transaction_index: None, log_index: index };
                (0, position, Some(self.text(7)?), Status::Confirmed)
            }
        };
        Ok(TransferRow {
            network: self.text(0)?,
            from: self.optional_text(1)?,
            to: self.optional_text(2)?,
            token,
            time: self.required(3)?.value() as i64,
            value: self.amount(4, scale)?,
            position,
            status,
        })
    }
}

/// Returns the status that a value of an enum names.
fn status(value: pg_sys::Datum, labels: &mut HashMap<u32, Status>) -> Status {
    let oid = value.value() as u32;
    *labels.entry(oid).or_insert_with(|| {
        // SAFETY: The value is of an enum.
        let label = unsafe { pgrx::direct_function_call::<&CStr>(pg_sys::enum_out, &[Some(value)]) };
        match label.map(CStr::to_bytes) {
            Some(b"pending") => Status::Pending,
            Some(b"confirmed") => Status::Confirmed,
            Some(b"unknown") => Status::Unknown,
            _ => Status::Failed,
        }
    })
}
