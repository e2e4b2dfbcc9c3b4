//! Rows as the executor makes them, without copying or collecting.
//!
//! SPI passes each row to a receiver that runs inside the executor. An error of the receiver ends
//! the query in order, and is returned afterwards.

#![allow(unsafe_code, reason = "calls SPI and the executor")]

use std::cell::Cell;
use std::ffi::{CStr, CString};

use arx_core::graph::{Snapshot, U256};
use arx_pgwire::numeric::decode_datum;
use pgrx::memcxt::PgMemoryContexts;
use pgrx::prelude::*;
use pgrx::{pg_guard, pg_sys};

use crate::error::SqlError;
use crate::snapshot::snapshot_text;

/// A row in the executor, valid until the receiver returns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a> {
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
}

impl<'a> Slot<'a> {
    fn datum(&self, column: usize) -> Result<Option<pg_sys::Datum>, SqlError> {
        match (self.values.get(column), self.nulls.get(column)) {
            (Some(value), Some(null)) => Ok((!null).then_some(*value)),
            _ => Err(SqlError::corrupt(format!("an internal query has no column {column}"))),
        }
    }

    fn required(&self, column: usize) -> Result<pg_sys::Datum, SqlError> {
        self.datum(column)?.ok_or_else(|| SqlError::corrupt(format!("column {column} of an internal query is null")))
    }

    /// Reads a column of type `bigint`, `timestamptz` or `xid8`, counted from 0.
    pub(crate) fn long(&self, column: usize) -> Result<i64, SqlError> {
        Ok(self.required(column)?.value() as i64)
    }

    /// Reads a column of type `integer` that may be NULL.
    pub(crate) fn integer(&self, column: usize) -> Result<Option<i32>, SqlError> {
        Ok(self.datum(column)?.map(|datum| datum.value() as i32))
    }

    /// Reads a column of type `text` that may be NULL.
    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<&'a str>, SqlError> {
        self.datum(column)?.map(|datum| text(varlena(datum), column)).transpose()
    }

    /// Reads a column of type `text`.
    pub(crate) fn text(&self, column: usize) -> Result<&'a str, SqlError> {
        text(varlena(self.required(column)?), column)
    }

    /// Reads a column of type `numeric` in units of 10^-`scale`.
    pub(crate) fn amount(&self, column: usize, scale: u32) -> Result<U256, SqlError> {
        Ok(decode_datum(varlena(self.required(column)?), scale)?)
    }
}

fn text(bytes: &[u8], column: usize) -> Result<&str, SqlError> {
    std::str::from_utf8(bytes)
        .map_err(|_| SqlError::corrupt(format!("column {column} of an internal query is not UTF-8")))
}

/// Returns the bytes of a value of variable length. They live as long as the row: a toasted value
/// is unpacked into the query's memory.
pub(crate) fn varlena<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: Callers pass values of a type of variable length that are not NULL.
    unsafe {
        let unpacked = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
        pgrx::varlena_to_byte_slice(unpacked)
    }
}

/// An argument of a query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Argument {
    type_oid: pg_sys::Oid,
    value: Option<pg_sys::Datum>,
}

impl Argument {
    /// Allocates a value in the current memory context.
    pub(crate) fn of<T: IntoDatum>(value: T) -> Self {
        Self { type_oid: T::type_oid(), value: value.into_datum() }
    }

    pub(crate) fn null<T: IntoDatum>() -> Self {
        Self { type_oid: T::type_oid(), value: None }
    }

    pub(crate) fn snapshot(snapshot: &Snapshot) -> Result<Self, SqlError> {
        let text =
            CString::new(snapshot_text(snapshot)).map_err(|_| SqlError::corrupt("a snapshot contains a NUL byte"))?;
        // SAFETY: The function reads a text that ends with NUL.
        let value = unsafe {
            pgrx::direct_function_call_as_datum(pg_sys::pg_snapshot_in, &[Some(pg_sys::Datum::from(text.as_ptr()))])
        };
        Ok(Self { type_oid: pg_sys::PG_SNAPSHOTOID, value })
    }
}

/// A query whose generic plan is kept for the session.
#[derive(Debug)]
pub(crate) struct PreparedQuery {
    text: &'static CStr,
    plan: Cell<pg_sys::SPIPlanPtr>,
}

impl PreparedQuery {
    pub(crate) const fn new(text: &'static CStr) -> Self {
        Self { text, plan: Cell::new(std::ptr::null_mut()) }
    }

    /// Runs the query in the active snapshot and calls `each` with its rows.
    pub(crate) fn stream(
        &self,
        arguments: &[Argument],
        each: impl FnMut(Slot<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        // Forces index scans of partitions: the planner would estimate that an unknown snapshot
        // selects a third of the table.
        with_settings(&[(c"enable_seqscan", c"off"), (c"jit", c"off")], || {
            Spi::connect(|_| {
                // SAFETY: Within an SPI connection. The parameter list has room for the arguments.
                unsafe {
                    let mut types: Vec<pg_sys::Oid> = arguments.iter().map(|argument| argument.type_oid).collect();
                    let plan = self.plan(&mut types)?;
                    let list = pg_sys::makeParamList(arguments.len() as i32);
                    for (index, argument) in arguments.iter().enumerate() {
                        let parameter = (*list).params.as_mut_ptr().add(index);
                        (*parameter).value = argument.value.unwrap_or(pg_sys::Datum::null());
                        (*parameter).isnull = argument.value.is_none();
                        (*parameter).pflags = pg_sys::PARAM_FLAG_CONST as u16;
                        (*parameter).ptype = argument.type_oid;
                    }
                    receive(list, each, |options| pg_sys::SPI_execute_plan_extended(plan, options))
                }
            })
        })
    }

    /// # Safety
    /// Within an SPI connection.
    unsafe fn plan(&self, types: &mut [pg_sys::Oid]) -> Result<pg_sys::SPIPlanPtr, SqlError> {
        if self.plan.get().is_null() {
            let (count, options) = (types.len() as i32, pg_sys::CURSOR_OPT_GENERIC_PLAN.cast_signed());
            // SAFETY: The text ends with NUL, `count` is the number of types, and a prepared plan
            // may be kept.
            unsafe {
                let plan = pg_sys::SPI_prepare_cursor(self.text.as_ptr(), count, types.as_mut_ptr(), options);
                if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
                    return Err(SqlError::corrupt("an internal query cannot be prepared"));
                }
                self.plan.set(plan);
            }
        }
        Ok(self.plan.get())
    }
}

/// Runs a function in a memory context that is freed afterwards. The result must not point into it.
pub(crate) fn with_memory_context<R>(run: impl FnOnce() -> R) -> R {
    let mut memory = PgMemoryContexts::new("arx query");
    // SAFETY: Results are in Rust's memory. The context is freed when `memory` is dropped, or with
    // the transaction.
    unsafe { memory.switch_to(|_| run()) }
}

/// Runs a query without parameters in the active snapshot, in one process, and calls `each` with
/// its rows.
pub(crate) fn stream_once(
    query: &'static CStr,
    each: impl FnMut(Slot<'_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    with_settings(&[(c"jit", c"off"), (c"max_parallel_workers_per_gather", c"0")], || {
        Spi::connect(|_| {
            // SAFETY: Within an SPI connection.
            unsafe {
                receive(std::ptr::null_mut(), each, |options| pg_sys::SPI_execute_extended(query.as_ptr(), options))
            }
        })
    })
}

#[repr(C)]
struct Receiver<'a> {
    /// Must be the first field: the executor knows the receiver by a pointer to it.
    destination: pg_sys::DestReceiver,
    each: &'a mut dyn FnMut(Slot<'_>) -> Result<(), SqlError>,
    error: Option<SqlError>,
}

/// # Safety
/// Within an SPI connection; `run` executes with the options that it is given.
unsafe fn receive(
    params: pg_sys::ParamListInfo,
    mut each: impl FnMut(Slot<'_>) -> Result<(), SqlError>,
    run: impl FnOnce(*const pg_sys::SPIExecuteOptions) -> i32,
) -> Result<(), SqlError> {
    let mut receiver = Receiver {
        destination: pg_sys::DestReceiver {
            receiveSlot: Some(receive_slot),
            rStartup: Some(start),
            rShutdown: Some(nothing),
            rDestroy: Some(nothing),
            mydest: pg_sys::CommandDest::DestNone,
        },
        each: &mut each,
        error: None,
    };
    let options =
        pg_sys::SPIExecuteOptions { params, read_only: true, dest: (&raw mut receiver).cast(), ..Default::default() };
    let code = run(&raw const options);
    match receiver.error {
        Some(error) => Err(error),
        None if code < 0 => Err(SqlError::corrupt(format!("an internal query ended with code {code}"))),
        None => Ok(()),
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn receive_slot(
    slot: *mut pg_sys::TupleTableSlot,
    receiver: *mut pg_sys::DestReceiver,
) -> bool {
    // SAFETY: The executor passes the receiver of `receive`, which is alive, and a slot with a row.
    unsafe {
        let receiver = &mut *receiver.cast::<Receiver<'_>>();
        pg_sys::slot_getallattrs(slot);
        let columns = (*slot).tts_nvalid as usize;
        let row = Slot {
            values: std::slice::from_raw_parts((*slot).tts_values, columns),
            nulls: std::slice::from_raw_parts((*slot).tts_isnull, columns),
        };
        match (receiver.each)(row) {
            Ok(()) => true,
            Err(error) => {
                receiver.error = Some(error);
                false
            }
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn start(_receiver: *mut pg_sys::DestReceiver, _operation: i32, _columns: pg_sys::TupleDesc) {}

#[pg_guard]
unsafe extern "C-unwind" fn nothing(_receiver: *mut pg_sys::DestReceiver) {}

/// Runs a function with settings that are reset afterwards.
fn with_settings<R>(
    settings: &[(&'static CStr, &'static CStr)],
    run: impl FnOnce() -> Result<R, SqlError>,
) -> Result<R, SqlError> {
    // SAFETY: Settings of this nesting level are reset below; after an error, the end of the
    // transaction resets them.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in settings {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        let result = run();
        pg_sys::AtEOXact_GUC(true, level);
        result
    }
}
