//! The tables of users, and what their triggers call.

#![allow(unsafe_code, reason = "pgrx's macros and the creation of an internal trigger")]

use std::ffi::CStr;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::row::sql_row;
use crate::error::SqlError;
use crate::moving::{is_moving_rows as moving_rows, move_rows};
use crate::owner::as_owner_of;
use crate::spi;
use crate::table_owner::{caller_name, is_in_job as in_job};

sql_row! {
    struct CreatedRow {
        object_type: String,
        object_name: String,
    }
}

/// Implements `arx.create_tables()`.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
fn create_tables()
-> Result<TableIterator<'static, (name!(object_type, String), name!(object_name, String))>, ErrorReport> {
    let created = spi::create_tables()?;
    Ok(TableIterator::new(
        created
            .into_iter()
            .map(|object| CreatedRow { object_type: object.kind().to_owned(), object_name: object.name() }.into_row()),
    ))
}

/// Implements `arx.is_moving_rows()`.
#[pg_extern(volatile, parallel_safe)]
fn is_moving_rows() -> bool {
    moving_rows()
}

/// Implements `arx.current_command()`. It differs from that of an earlier call if a command has
/// written since, and stays the same while commands only read.
#[pg_extern(volatile, parallel_unsafe)]
fn current_command() -> i64 {
    // SAFETY: Reads a counter of this backend.
    i64::from(unsafe { pg_sys::GetCurrentCommandId(false) })
}

/// Implements `arx.calling_user()`.
#[pg_extern(stable, parallel_restricted)]
fn calling_user() -> String {
    caller_name()
}

/// Implements `arx.is_in_job()`.
#[pg_extern(volatile, parallel_restricted)]
fn is_in_job() -> bool {
    in_job()
}

/// Creates the TRUNCATE trigger of a partition, unless it has one.
#[pg_extern(volatile, parallel_unsafe)]
fn watch_truncate(partition: pg_sys::Oid, function: pg_sys::Oid) -> Result<(), ErrorReport> {
    const EVENTS: u32 = pg_sys::TRIGGER_TYPE_TRUNCATE;
    Ok(watch(partition, function, c"arx_raise_epoch", "arx.raise_graph_epoch()", EVENTS)?)
}

/// Creates the trigger of a partition that notes its writers, unless it has one.
#[pg_extern(volatile, parallel_unsafe)]
fn watch_writers(partition: pg_sys::Oid) -> Result<(), ErrorReport> {
    const EVENTS: u32 = pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE | pg_sys::TRIGGER_TYPE_DELETE;
    let function = spi::note_writer_function()?.into();
    Ok(watch(partition, function, c"arx_note_writer", "arx.note_writer()", EVENTS)?)
}

/// Creates an AFTER trigger of statements, unless the table has it. It is an internal trigger:
/// pg_dump leaves it out, and `DISABLE TRIGGER USER` does not reach it.
fn watch(
    partition: pg_sys::Oid,
    function: pg_sys::Oid,
    name: &'static CStr,
    expected: &str,
    events: u32,
) -> Result<(), SqlError> {
    if spi::has_statement_trigger(partition, function, expected, events)? {
        return Ok(());
    }
    // SAFETY: The statement lives in the current memory context, and its strings are static. The
    // server locks the relation and checks it.
    unsafe {
        let mut statement = PgBox::<pg_sys::CreateTrigStmt>::alloc_node(pg_sys::NodeTag::T_CreateTrigStmt);
        statement.trigname = name.as_ptr().cast_mut();
        statement.events = events as i16;
        pg_sys::CreateTriggerFiringOn(
            statement.as_ptr(),
            std::ptr::null(),
            partition,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            function,
            pg_sys::InvalidOid,
            std::ptr::null_mut(),
            true,
            false,
            pg_sys::TRIGGER_FIRES_ALWAYS as std::ffi::c_char,
        );
    }
    Ok(())
}

/// Stamps the rows of a partition that bear stamps which this cluster has not assigned yet, as the
/// rows of a restored dump do. The rows are changed with the rights of the partition's owner,
/// because they run the owner's triggers.
#[pg_extern(volatile, parallel_unsafe)]
fn restamp_future_rows(partition: pg_sys::Oid) -> Result<i64, ErrorReport> {
    // The search, too: a plan evaluates functions in the predicates of the owner's indexes.
    Ok(as_owner_of(partition, || {
        move_rows(|| match spi::restamping(partition)? {
            Some(statement) => spi::restamp(&statement),
            None => Ok(0),
        })
    })?)
}
