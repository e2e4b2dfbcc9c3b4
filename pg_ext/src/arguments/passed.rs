//! Arguments that are passed on to queries as they are.

#![allow(unsafe_code, reason = "pgrx declares its conversion traits unsafe")]

use std::marker::PhantomData;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};

use super::datum::raw_datum;
use crate::spi::LogValue;

macro_rules! passed_argument {
    ($(#[$attribute:meta])* $name:ident, $oid:ident, $sql:literal) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name<'fcx>(pg_sys::Datum, PhantomData<&'fcx ()>);

        impl $name<'_> {
            pub(crate) const fn value(self) -> LogValue {
                LogValue { datum: Some(self.0), type_oid: pg_sys::$oid }
            }
        }

        // SAFETY: The datum is of the type, as the SQL signature says.
        unsafe impl<'fcx> ArgAbi<'fcx> for $name<'fcx> {
            unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
                Self(raw_datum(arg), PhantomData)
            }
        }

        // SAFETY: Arguments of this type have the SQL type.
        unsafe impl SqlTranslatable for $name<'_> {
            const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!($name);
            const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
            const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal($sql));
            const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal($sql)));
        }
    };
}

passed_argument!(
    /// An argument of type `pg_snapshot`, alive until the function returns.
    SnapshotArgument,
    PG_SNAPSHOTOID,
    "pg_snapshot"
);
impl SnapshotArgument<'_> {
    pub(crate) const fn null() -> LogValue {
        LogValue { datum: None, type_oid: pg_sys::PG_SNAPSHOTOID }
    }
}

passed_argument!(
    /// An argument of type `tstzmultirange`, alive until the function returns.
    TimesArgument,
    TSTZMULTIRANGEOID,
    "tstzmultirange"
);
