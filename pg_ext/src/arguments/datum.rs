//! Datums of arguments whose types are defined here.

#![allow(unsafe_code, reason = "pgrx declares its conversion traits unsafe")]

use pgrx::callconv::Arg;
use pgrx::{FromDatum, pg_sys};

struct RawDatum(pg_sys::Datum);

impl FromDatum for RawDatum {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        (!is_null).then_some(Self(datum))
    }
}

/// Returns the datum of an argument; null if the argument is NULL.
pub(super) fn raw_datum(argument: Arg<'_, '_>) -> pg_sys::Datum {
    // SAFETY: Any datum is a raw datum.
    unsafe { argument.unbox_arg_using_from_datum::<RawDatum>() }.map_or(pg_sys::Datum::null(), |raw| raw.0)
}
