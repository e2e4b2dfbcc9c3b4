//! Rows as the executor makes them, without copying or collecting.
//!
//! SPI passes each row to a receiver that runs inside the executor. An error of the receiver ends
//! the query in order, and is returned afterwards.
//!
//! A query is declared with the types of its columns. The receiver compares them with those that
//! the executor delivers before it takes a row, and a row is read by the declared types only. So a
//! column that its table's owner has given another type is an error, and never bytes of that type
//! read as another.

#![allow(unsafe_code, reason = "calls SPI and the executor")]

use std::cell::Cell;
use std::ffi::{CStr, CString};

use arx_core::graph::{Snapshot, U256};
use arx_pgwire::PgWireError;
use arx_pgwire::numeric::decode_datum;
use pgrx::memcxt::PgMemoryContexts;
use pgrx::prelude::*;
use pgrx::{pg_guard, pg_sys};

use super::logs::LogValue;
use super::session::{Access, connected_to_tables};
use crate::error::SqlError;
use crate::snapshot::snapshot_text;
use crate::versions::attributes;

/// Type of a column, as a query declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Bool,
    Integer,
    Long,
    Double,
    /// `timestamptz`, read as its microseconds.
    Time,
    /// `xid8`.
    Xid,
    /// `text`, or `varchar`, whose values have the same bytes.
    Text,
    Numeric,
    /// Any enum, read as its label.
    Enum,
}

impl ColumnType {
    /// Returns true for the types that are read as this one.
    pub(super) fn is(self, type_oid: pg_sys::Oid) -> bool {
        match self {
            // SAFETY: Looks a type up in the catalog.
            Self::Enum => unsafe { pg_sys::get_typtype(type_oid) as u8 == pg_sys::TYPTYPE_ENUM },
            _ => self.oids().contains(&type_oid),
        }
    }

    const fn oids(self) -> &'static [pg_sys::Oid] {
        match self {
            Self::Bool => &[pg_sys::BOOLOID],
            Self::Integer => &[pg_sys::INT4OID],
            Self::Long => &[pg_sys::INT8OID],
            Self::Double => &[pg_sys::FLOAT8OID],
            Self::Time => &[pg_sys::TIMESTAMPTZOID],
            Self::Xid => &[pg_sys::XID8OID],
            Self::Text => &[pg_sys::TEXTOID, pg_sys::VARCHAROID],
            Self::Numeric => &[pg_sys::NUMERICOID],
            Self::Enum => &[],
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Integer => "integer",
            Self::Long => "bigint",
            Self::Double => "double precision",
            Self::Time => "timestamp with time zone",
            Self::Xid => "xid8",
            Self::Text => "text",
            Self::Numeric => "numeric",
            Self::Enum => "an enum",
        }
    }
}

/// Types of the columns of a query, in order.
pub(crate) type Layout = &'static [ColumnType];

/// A row in the executor, valid until the receiver returns. Its columns have the types of its
/// layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a> {
    layout: Layout,
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
}

impl<'a> Slot<'a> {
    /// Makes a row of values, which have the types of the layout.
    ///
    /// # Safety
    /// They do, and live for `'a`.
    pub(super) const unsafe fn new(layout: Layout, values: &'a [pg_sys::Datum], nulls: &'a [bool]) -> Self {
        Self { layout, values, nulls }
    }

    fn datum(&self, column: usize, types: &[ColumnType]) -> Result<Option<pg_sys::Datum>, SqlError> {
        match (self.layout.get(column), self.values.get(column), self.nulls.get(column)) {
            (Some(declared), Some(value), Some(null)) if types.contains(declared) => Ok((!null).then_some(*value)),
            _ => Err(SqlError::corrupt(format!("an internal query has no column {column} of type {types:?}"))),
        }
    }

    fn required(&self, column: usize, types: &[ColumnType]) -> Result<pg_sys::Datum, SqlError> {
        self.datum(column, types)?
            .ok_or_else(|| SqlError::corrupt(format!("column {column} of an internal query is null")))
    }

    /// Reads a column of eight bytes, counted from 0.
    pub(crate) fn long(&self, column: usize) -> Result<i64, SqlError> {
        Ok(self.required(column, &[ColumnType::Long, ColumnType::Time, ColumnType::Xid])?.value() as i64)
    }

    /// Does the same for one that may be NULL.
    pub(crate) fn optional_long(&self, column: usize) -> Result<Option<i64>, SqlError> {
        let datum = self.datum(column, &[ColumnType::Long, ColumnType::Time, ColumnType::Xid])?;
        Ok(datum.map(|datum| datum.value() as i64))
    }

    /// Reads a column of type `integer` that may be NULL.
    pub(crate) fn integer(&self, column: usize) -> Result<Option<i32>, SqlError> {
        Ok(self.datum(column, &[ColumnType::Integer])?.map(|datum| datum.value() as i32))
    }

    /// Reads a column of type `boolean`; NULL is false.
    pub(crate) fn is_true(&self, column: usize) -> Result<bool, SqlError> {
        Ok(self.datum(column, &[ColumnType::Bool])?.is_some_and(|datum| datum.value() != 0))
    }

    /// Reads a column of type `double precision` that may be NULL.
    pub(crate) fn double(&self, column: usize) -> Result<Option<f64>, SqlError> {
        Ok(self.datum(column, &[ColumnType::Double])?.map(|datum| f64::from_bits(datum.value() as u64)))
    }

    /// Reads a column of type `text` that may be NULL.
    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<&'a str>, SqlError> {
        self.datum(column, &[ColumnType::Text])?.map(|datum| self.text_of(datum, column)).transpose()
    }

    /// Reads a column of type `text`.
    pub(crate) fn text(&self, column: usize) -> Result<&'a str, SqlError> {
        self.text_of(self.required(column, &[ColumnType::Text])?, column)
    }

    fn text_of(&self, datum: pg_sys::Datum, column: usize) -> Result<&'a str, SqlError> {
        // SAFETY: A text that is not NULL. A toasted value is unpacked into the query's memory,
        // which the receiver does not free.
        let bytes: &'a [u8] = unsafe { varlena(datum) };
        std::str::from_utf8(bytes)
            .map_err(|_| SqlError::corrupt(format!("column {column} of an internal query is not UTF-8")))
    }

    /// Reads a column of an enum.
    pub(crate) fn label(&self, column: usize) -> Result<&'a CStr, SqlError> {
        let value = self.required(column, &[ColumnType::Enum])?;
        // SAFETY: The value is of an enum; its label is allocated in the query's memory.
        let label = unsafe { pgrx::direct_function_call::<&CStr>(pg_sys::enum_out, &[Some(value)]) };
        label.ok_or_else(|| SqlError::corrupt("a value of an enum has no label"))
    }

    /// Reads a column of type `numeric` in units of 10^-`scale`.
    pub(crate) fn amount(&self, column: usize, scale: u32) -> Result<U256, SqlError> {
        let datum = self.required(column, &[ColumnType::Numeric])?;
        // SAFETY: A numeric that is not NULL; the bytes are read at once.
        Ok(decode_datum(unsafe { varlena(datum) }, scale)?)
    }

    /// Reads a column of type `numeric` that may be NULL, in units of 10^-`scale`. The inner error
    /// says that the value is not such an amount.
    pub(crate) fn stated_amount(
        &self,
        column: usize,
        scale: u32,
    ) -> Result<Result<Option<U256>, PgWireError>, SqlError> {
        let datum = self.datum(column, &[ColumnType::Numeric])?;
        // SAFETY: As above.
        Ok(datum.map(|datum| decode_datum(unsafe { varlena(datum) }, scale)).transpose())
    }
}

/// Returns the bytes of a value of variable length. A toasted value is unpacked into the current
/// memory context.
///
/// # Safety
/// The datum is a value of a type of variable length and not NULL, and neither it nor the current
/// memory context is freed as long as the result is used.
pub(crate) unsafe fn varlena<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: As the caller promises.
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

    pub(crate) const fn null_snapshot() -> Self {
        Self { type_oid: pg_sys::PG_SNAPSHOTOID, value: None }
    }

    /// A `timestamptz` by its microseconds.
    pub(crate) fn time(micros: i64) -> Self {
        Self { type_oid: pg_sys::TIMESTAMPTZOID, value: Some(pg_sys::Datum::from(micros)) }
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

impl From<LogValue> for Argument {
    fn from(LogValue { datum, type_oid }: LogValue) -> Self {
        Self { type_oid, value: datum }
    }
}

/// A query whose generic plan is kept for the session.
#[derive(Debug)]
pub(crate) struct PreparedQuery {
    text: &'static CStr,
    layout: Layout,
    access: Access,
    plan: Cell<pg_sys::SPIPlanPtr>,
}

impl PreparedQuery {
    /// Declares a query that reads its tables by indexes.
    pub(crate) const fn new(text: &'static CStr, layout: Layout) -> Self {
        Self { text, layout, access: Access::Index, plan: Cell::new(std::ptr::null_mut()) }
    }

    /// Declares a query with any plan.
    pub(crate) const fn with_any_plan(text: &'static CStr, layout: Layout) -> Self {
        Self { text, layout, access: Access::Any, plan: Cell::new(std::ptr::null_mut()) }
    }

    /// Runs the query in the active snapshot and calls `each` with its rows.
    pub(crate) fn stream(
        &self,
        arguments: &[Argument],
        each: impl FnMut(Slot<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        self.run(arguments, true, each)
    }

    /// Does the same in a snapshot taken now, which sees what this command has written.
    pub(crate) fn stream_latest(
        &self,
        arguments: &[Argument],
        each: impl FnMut(Slot<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        self.run(arguments, false, each)
    }

    /// Runs a statement that writes and returns no rows.
    pub(crate) fn execute(&self, arguments: &[Argument]) -> Result<(), SqlError> {
        self.run(arguments, false, |_| Ok(()))
    }

    /// Returns true if the query, of one boolean column, has a row that is true.
    pub(crate) fn is_true(&self, arguments: &[Argument]) -> Result<bool, SqlError> {
        let mut answer = false;
        self.stream(arguments, |slot| {
            answer |= slot.is_true(0)?;
            Ok(())
        })?;
        Ok(answer)
    }

    fn run(
        &self,
        arguments: &[Argument],
        read_only: bool,
        each: impl FnMut(Slot<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        connected_to_tables(self.access, |_| {
            // SAFETY: Within an SPI connection. The parameter list has room for the arguments.
            unsafe {
                let mut types: Vec<pg_sys::Oid> = arguments.iter().map(|argument| argument.type_oid).collect();
                let plan = self.plan(&mut types)?;
                let params = parameters(arguments);
                let options = pg_sys::SPIExecuteOptions { params, read_only, ..Default::default() };
                receive(options, self.layout, each, |options| pg_sys::SPI_execute_plan_extended(plan, options))
            }
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
    layout: Layout,
    each: impl FnMut(Slot<'_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    connected_to_tables(Access::Any, |_| {
        let options = pg_sys::SPIExecuteOptions { read_only: true, ..Default::default() };
        // SAFETY: Within an SPI connection.
        unsafe { receive(options, layout, each, |options| pg_sys::SPI_execute_extended(query.as_ptr(), options)) }
    })
}

/// Does the same with parameters. The plan is made for their values, so that partitions that they
/// exclude cost nothing.
pub(crate) fn stream_once_with(
    query: &'static CStr,
    layout: Layout,
    arguments: &[Argument],
    each: impl FnMut(Slot<'_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    connected_to_tables(Access::Any, |_| {
        let mut types: Vec<pg_sys::Oid> = arguments.iter().map(|argument| argument.type_oid).collect();
        // SAFETY: Within an SPI connection. The text ends with NUL, and the plan is freed with the
        // connection.
        unsafe {
            let options = pg_sys::CURSOR_OPT_CUSTOM_PLAN.cast_signed();
            let count = types.len() as i32;
            let plan = pg_sys::SPI_prepare_cursor(query.as_ptr(), count, types.as_mut_ptr(), options);
            if plan.is_null() {
                return Err(SqlError::corrupt("an internal query cannot be prepared"));
            }
            let options =
                pg_sys::SPIExecuteOptions { params: parameters(arguments), read_only: true, ..Default::default() };
            receive(options, layout, each, |options| pg_sys::SPI_execute_plan_extended(plan, options))
        }
    })
}

/// Returns arguments as the executor takes them, in the current memory context.
///
/// # Safety
/// In a backend.
unsafe fn parameters(arguments: &[Argument]) -> pg_sys::ParamListInfo {
    // SAFETY: The list has room for the arguments.
    unsafe {
        let params = pg_sys::makeParamList(arguments.len() as i32);
        for (index, argument) in arguments.iter().enumerate() {
            let parameter = (*params).params.as_mut_ptr().add(index);
            (*parameter).value = argument.value.unwrap_or(pg_sys::Datum::null());
            (*parameter).isnull = argument.value.is_none();
            (*parameter).pflags = pg_sys::PARAM_FLAG_CONST as u16;
            (*parameter).ptype = argument.type_oid;
        }
        params
    }
}

#[repr(C)]
struct Receiver<'a> {
    /// Must be the first field: the executor knows the receiver by a pointer to it.
    destination: pg_sys::DestReceiver,
    layout: Layout,
    each: &'a mut dyn FnMut(Slot<'_>) -> Result<(), SqlError>,
    error: Option<SqlError>,
}

/// # Safety
/// Within an SPI connection; `run` executes with the options that it is given.
unsafe fn receive(
    mut options: pg_sys::SPIExecuteOptions,
    layout: Layout,
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
        layout,
        each: &mut each,
        error: None,
    };
    options.dest = (&raw mut receiver).cast();
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
        if receiver.error.is_some() {
            // `start` has found a column of another type.
            return false;
        }
        pg_sys::slot_getallattrs(slot);
        let columns = (*slot).tts_nvalid as usize;
        let row = Slot {
            layout: receiver.layout,
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

/// Compares the columns of a query with its layout, before the first row.
#[pg_guard]
unsafe extern "C-unwind" fn start(receiver: *mut pg_sys::DestReceiver, _operation: i32, columns: pg_sys::TupleDesc) {
    // SAFETY: The executor passes the receiver of `receive`, which is alive, and the columns of its
    // rows.
    unsafe {
        let receiver = &mut *receiver.cast::<Receiver<'_>>();
        receiver.error = mismatch(receiver.layout, attributes(columns));
    }
}

/// # Safety
/// The attributes are those of a tuple descriptor.
unsafe fn mismatch(layout: Layout, attributes: &[pg_sys::FormData_pg_attribute]) -> Option<SqlError> {
    if layout.len() != attributes.len() {
        return Some(SqlError::corrupt(format!(
            "an internal query has {} columns, not {}",
            attributes.len(),
            layout.len()
        )));
    }
    let (expected, attribute) = layout.iter().zip(attributes).find(|(expected, attribute)| {
        if expected.is(attribute.atttypid) {
            return false;
        }
        // SAFETY: Looks a type up in the catalog. A domain has the values of its base type.
        let base = unsafe { pg_sys::getBaseType(attribute.atttypid) };
        !expected.is(base)
    })?;
    // SAFETY: The name of an attribute ends with NUL.
    let name = unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) }.to_string_lossy();
    Some(SqlError::column_type(&name, &type_name(attribute.atttypid), expected.name()))
}

/// Returns the name of a type for a message.
pub(crate) fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: The server returns an allocated string that ends with NUL.
    unsafe { CStr::from_ptr(pg_sys::format_type_be(type_oid)) }.to_string_lossy().into_owned()
}

#[pg_guard]
unsafe extern "C-unwind" fn nothing(_receiver: *mut pg_sys::DestReceiver) {}
