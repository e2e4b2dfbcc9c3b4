//! Exact amounts from and to PostgreSQL's `numeric`.

#![allow(unsafe_code, reason = "pgrx declares its conversion traits unsafe, and a datum is read")]

use arx_core::alert::wide_sum::WideSum;
use arx_core::graph::U256;
use arx_pgwire::PgWireError;
use arx_pgwire::numeric::{MAX_DATUM_BYTES, decode_datum, encode_datum};
use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::prelude::*;

use crate::spi::varlena;

/// Converts an argument to units of 10^-`scale`. It is rejected if it is negative, not finite, too
/// large, or finer than the unit.
pub(crate) fn units(number: AnyNumeric, scale: u32) -> Result<U256, PgWireError> {
    let datum = number.into_datum().ok_or(PgWireError::MalformedNumeric)?;
    // SAFETY: A numeric that was allocated just now; the bytes are read at once.
    decode_datum(unsafe { varlena(datum) }, scale)
}

/// Converts a sum in units of 10^-`scale`.
pub(crate) fn sum(sum: WideSum, scale: u32) -> AnyNumeric {
    let number = |value: U256| {
        let datum = SqlNumeric { value, scale }.into_datum().unwrap_or(pg_sys::Datum::null());
        // SAFETY: A numeric that was allocated just now.
        unsafe { AnyNumeric::from_datum(datum, datum.is_null()) }.unwrap_or_default()
    };
    match sum.parts() {
        (low, 0) => number(low),
        (low, high) => number(low) + (number(U256::MAX) + number(U256::ONE)) * AnyNumeric::from(high),
    }
}

/// An amount in units of 10^-`scale`, to be returned as `numeric`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SqlNumeric {
    pub(crate) value: U256,
    pub(crate) scale: u32,
}

impl IntoDatum for SqlNumeric {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let mut body = [0; MAX_DATUM_BYTES];
        let length = encode_datum(self.value, self.scale, &mut body);
        // A numeric is a varlena like a bytea; only the contents differ.
        body[..length].into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::NUMERICOID
    }
}

// SAFETY: The datum made above is a numeric.
unsafe impl SqlTranslatable for SqlNumeric {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(SqlNumeric);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("numeric"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("numeric")));
}

// SAFETY: The datum made above is a numeric, and never NULL.
unsafe impl BoxRet for SqlNumeric {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: The caller returns it.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}
