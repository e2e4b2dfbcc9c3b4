//! Arguments of type `jsonb`.
//!
//! pgrx parses them by a call that panics for a document that is valid in the server and not in
//! Rust: one that is nested too deeply, or has a number that no double can hold.

#![allow(unsafe_code, reason = "reads the datum of an argument")]

use std::marker::PhantomData;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use serde_json::Value;

use super::datum::raw_datum;
use crate::error::SqlError;

/// Largest size of a document, as the server stores it and as text. Parsed, one takes up to 70
/// times its size.
const MAX_BYTES: usize = 1 << 20;

/// Levels of arrays and objects that the parser follows.
const MAX_LEVELS: u32 = 127;

/// An argument of type `jsonb`, alive until the function returns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JsonArgument<'fcx>(*mut pg_sys::Jsonb, PhantomData<&'fcx ()>);

impl JsonArgument<'_> {
    /// Parses the document. `name` is the argument's.
    pub(crate) fn parse(self, name: &str) -> Result<Value, SqlError> {
        // SAFETY: A document that is complete. The server allocates its text, which ends with NUL,
        // in the memory of this call.
        let text = unsafe {
            let bytes = pgrx::varsize_any(self.0.cast_const().cast());
            check_size(name, bytes)?;
            let root = &raw mut (*self.0).root;
            std::ffi::CStr::from_ptr(pg_sys::JsonbToCString(std::ptr::null_mut(), root, bytes as i32))
        };
        check_size(name, text.count_bytes())?;
        let text = text.to_str().map_err(|_| SqlError::argument(format!("{name} is not UTF-8")))?;
        serde_json::from_str(text).map_err(|error| {
            // The error has no kind for these two.
            let message = error.to_string();
            if message.starts_with("recursion limit") {
                SqlError::argument(format!("{name} is nested deeper than {MAX_LEVELS} levels"))
            } else if message.starts_with("number out of range") {
                SqlError::out_of_range(format!("{name} has a number out of the range of double precision"))
            } else {
                SqlError::argument(format!("{name} is not readable as JSON: {message}"))
            }
        })
    }
}

fn check_size(name: &str, bytes: usize) -> Result<(), SqlError> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(SqlError::limit(format!("{name} has {bytes} bytes, and at most {MAX_BYTES} are allowed")))
}

// SAFETY: The datum is that of a `jsonb`, as the SQL signature says.
unsafe impl<'fcx> ArgAbi<'fcx> for JsonArgument<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: An argument that is not NULL is a pointer; unpacking it gives one to a document.
        unsafe { Self(pg_sys::pg_detoast_datum(raw_datum(arg).cast_mut_ptr()).cast(), PhantomData) }
    }
}

// SAFETY: Arguments of this type are documents.
unsafe impl SqlTranslatable for JsonArgument<'_> {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(JsonArgument);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}
