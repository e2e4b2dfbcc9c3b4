//! The family of a network, read from `arx.networks` by its primary key without a query.
//!
//! Nearly every call asks for one network. A query takes 15 µs of a call that takes 100, and pins
//! settings, which takes as long again. This reads no code of the table's owner: the index has the
//! built-in order of text. Whatever is not as expected is left to the query.

#![allow(unsafe_code, reason = "calls the server's access methods")]

use std::ffi::{CStr, c_int};

use pgrx::prelude::*;

use super::stream::{varlena, with_memory_context};
use crate::snapshot::relation;
use crate::versions::{ACL_SELECT, attributes, index_beginscan, primary_key_index};

const LOCK: c_int = pg_sys::AccessShareLock as c_int;

/// Result of a search without a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The family that the table states.
    Family(String),
    NoRow,
    /// A query must tell.
    Unknown,
}

/// Looks a network up in the active snapshot.
pub(super) fn family_of(network: &str) -> Found {
    // SAFETY: The relation is locked and open while it is read, and there is an active snapshot.
    unsafe {
        let table = relation(c"networks");
        if table == pg_sys::InvalidOid || !may_read(table) {
            return Found::Unknown;
        }
        let opened = pg_sys::try_relation_open(table, LOCK);
        if opened.is_null() {
            return Found::Unknown;
        }
        let found = with_memory_context(|| search(opened, network));
        pg_sys::relation_close(opened, LOCK);
        found
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

/// # Safety
/// The relation is open and locked.
unsafe fn search(opened: pg_sys::Relation, network: &str) -> Found {
    // SAFETY: As the caller promises. An index has at least one column; a slot has as many values
    // as it says.
    unsafe {
        let columns = attributes((*opened).rd_att);
        let column = |name: &CStr| {
            let is_named = |attribute: &&pg_sys::FormData_pg_attribute| {
                !attribute.attisdropped && CStr::from_ptr(attribute.attname.data.as_ptr()) == name
            };
            columns.iter().find(is_named).filter(|found| found.atttypid == pg_sys::TEXTOID).map(|found| found.attnum)
        };
        let (Some(key_column), Some(family)) = (column(c"network"), column(c"family")) else { return Found::Unknown };
        let index = primary_key_index(opened);
        if index == pg_sys::InvalidOid || (*(*opened).rd_rel).relkind as u8 != pg_sys::RELKIND_RELATION {
            return Found::Unknown;
        }
        let index = pg_sys::index_open(index, LOCK);
        let found = match (is_by_text(index, key_column), network.into_datum()) {
            (true, Some(key)) => scan(opened, index, key, family),
            _ => Found::Unknown,
        };
        pg_sys::index_close(index, LOCK);
        found
    }
}

/// # Safety
/// The index is open.
unsafe fn is_by_text(index: pg_sys::Relation, column: i16) -> bool {
    const EQUAL: i16 = pg_sys::BTEqualStrategyNumber as i16;
    // SAFETY: As the caller promises.
    unsafe {
        let form = (*index).rd_index;
        let family = *(*index).rd_opfamily;
        (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
            && (*form).indisvalid
            && (*form).indnkeyatts == 1
            && (*form).indkey.values.as_slice(1)[0] == column
            && pg_sys::get_opcode(pg_sys::get_opfamily_member(family, pg_sys::TEXTOID, pg_sys::TEXTOID, EQUAL))
                == pg_sys::F_TEXTEQ.into()
    }
}

/// # Safety
/// Both relations are open and locked, and the key is a text.
unsafe fn scan(opened: pg_sys::Relation, index: pg_sys::Relation, key: pg_sys::Datum, family: i16) -> Found {
    // SAFETY: As the caller promises.
    unsafe {
        let mut entry = std::mem::MaybeUninit::<pg_sys::ScanKeyData>::zeroed();
        let collation = *(*index).rd_indcollation;
        pg_sys::ScanKeyInit(entry.as_mut_ptr(), 1, pg_sys::BTEqualStrategyNumber as u16, pg_sys::F_TEXTEQ.into(), key);
        (*entry.as_mut_ptr()).sk_collation = collation;
        let scan = index_beginscan(opened, index, pg_sys::GetActiveSnapshot(), 1);
        pg_sys::index_rescan(scan, entry.as_mut_ptr(), 1, std::ptr::null_mut(), 0);
        let slot = pg_sys::table_slot_create(opened, std::ptr::null_mut());
        let mut found = Found::NoRow;
        if pg_sys::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
            pg_sys::slot_getallattrs(slot);
            let number = usize::try_from(family - 1).unwrap_or(0);
            let count = (*slot).tts_nvalid as usize;
            let is_null = std::slice::from_raw_parts((*slot).tts_isnull, count).get(number).copied().unwrap_or(true);
            let value = std::slice::from_raw_parts((*slot).tts_values, count).get(number).copied();
            found = match value.filter(|_| !is_null).map(|value| std::str::from_utf8(varlena(value))) {
                Some(Ok(text)) => Found::Family(text.to_owned()),
                _ => Found::Unknown,
            };
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::index_endscan(scan);
        found
    }
}
