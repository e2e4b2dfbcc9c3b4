//! The family of a network, read from `arx.networks` by its primary key without a query.
//!
//! Nearly every call asks for one network. A query takes 15 µs of a call that takes 100, and pins
//! settings, which takes as long again.

#![allow(unsafe_code, reason = "reads the catalog")]

use std::ffi::c_int;

use pgrx::prelude::*;

use super::keyed_rows::{Columns, OpenTable};
use super::stream::ColumnType;
use crate::snapshot::relation;
use crate::versions::ACL_SELECT;

/// Result of a search without a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The family that the table states.
    Family(String),
    NoRow,
    /// A query must tell.
    Unknown,
}

const NETWORK: Columns = Columns { names: &[c"network"], types: &[ColumnType::Text] };
const FAMILY: Columns = Columns { names: &[c"family"], types: &[ColumnType::Text] };

/// Looks a network up in the active snapshot.
pub(super) fn family_of(network: &str) -> Found {
    let table = relation(c"networks");
    // SAFETY: In a transaction.
    if table == pg_sys::InvalidOid || !unsafe { may_read(table) } {
        return Found::Unknown;
    }
    let (Some(opened), Some(key)) = (OpenTable::open(table), network.into_datum()) else { return Found::Unknown };
    let mut family = None;
    let read = opened.rows_with(NETWORK, &[key], FAMILY, |slot| {
        family = Some(slot.text(0)?.to_owned());
        Ok(())
    });
    match (read, family) {
        (Ok(true), Some(family)) => Found::Family(family),
        (Ok(true), None) => Found::NoRow,
        _ => Found::Unknown,
    }
}

/// # Safety
/// In a transaction.
unsafe fn may_read(table: pg_sys::Oid) -> bool {
    const RLS_NONE: c_int = 0;
    // SAFETY: Reads the catalog.
    unsafe {
        pg_sys::pg_class_aclcheck(table, pg_sys::GetUserId(), ACL_SELECT) == pg_sys::AclResult::ACLCHECK_OK
            && pg_sys::check_enable_rls(table, pg_sys::InvalidOid, true) == RLS_NONE
    }
}
