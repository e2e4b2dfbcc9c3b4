//! A transaction by its key, read through the primary key of its partition without a query.
//!
//! A trigger asks for the transaction of every token transfer. A query over a hundred partitions
//! locks all of them each time, and its settings are pinned and reset: COPY took twice as long as
//! without the trigger. This runs no code of the table's owner: the columns have built-in types,
//! and the index and the partitions have their built-in order. Everything else is left to the
//! query.

#![allow(unsafe_code, reason = "calls the server's access methods")]

use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;

use pgrx::prelude::*;

use super::outcomes::{StoredTransaction, TransactionKey};
use crate::snapshot::relation;
use crate::versions::{attributes, index_beginscan, primary_key_index};

const LOCK: c_int = pg_sys::AccessShareLock as c_int;
/// Locks are kept until the end of the transaction, as those of a query are.
const KEPT: c_int = pg_sys::NoLock as c_int;

/// Types of the columns that a search reads.
const TEXTS: &[pg_sys::Oid] = &[pg_sys::TEXTOID, pg_sys::VARCHAROID];
const TIMES: &[pg_sys::Oid] = &[pg_sys::TIMESTAMPTZOID];

/// Columns of the key in the order of [`TransactionKey`], their types, the type that the index
/// compares, and its function for equality.
const KEY: [(&CStr, &[pg_sys::Oid], pg_sys::Oid, u32); 3] = [
    (c"network", TEXTS, pg_sys::TEXTOID, pg_sys::F_TEXTEQ),
    (c"tx_hash", TEXTS, pg_sys::TEXTOID, pg_sys::F_TEXTEQ),
    (c"timestamp", TIMES, pg_sys::TIMESTAMPTZOID, pg_sys::F_TIMESTAMPTZ_EQ),
];

/// Result of a search without a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoundTransaction {
    Stored(StoredTransaction),
    NoRow,
    /// A query must tell.
    Unknown,
}

/// Looks a transaction up in a snapshot taken now, which sees what this command has written. Needs
/// no rights, so what it returns must not be passed on to the caller.
pub(crate) fn find_transaction(key: &TransactionKey) -> FoundTransaction {
    // A column that is NULL equals none.
    let [Some(network), Some(hash), Some(time)] = key.map(|value| value.datum) else { return FoundTransaction::NoRow };
    // SAFETY: A trigger runs in a transaction. The snapshot is popped below; after an error, the
    // end of the (sub)transaction pops it, and closes what is open.
    unsafe {
        let opened = pg_sys::try_relation_open(relation(c"transactions"), LOCK);
        if opened.is_null() {
            return FoundTransaction::Unknown;
        }
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        pg_sys::CommandCounterIncrement();
        pg_sys::UpdateActiveSnapshotCommandId();
        let found = match leaf_at(opened, time.value() as i64) {
            Leaf::Table(leaf) => find_in(leaf, [network, hash, time]),
            Leaf::None => FoundTransaction::NoRow,
            Leaf::Unknown => FoundTransaction::Unknown,
        };
        pg_sys::PopActiveSnapshot();
        pg_sys::relation_close(opened, KEPT);
        found
    }
}

/// The partition of a time.
enum Leaf {
    Table(pg_sys::Oid),
    None,
    Unknown,
}

/// Returns the partition of a table that has the rows of a time.
///
/// # Safety
/// The relation is open and locked, and a snapshot is active.
unsafe fn leaf_at(opened: pg_sys::Relation, time: i64) -> Leaf {
    // SAFETY: The descriptor of a partitioned table lives as long as the relation is open. Bounds
    // by range have a value and its kind for each column of the key, of which there is one, and
    // one index more than there are bounds.
    unsafe {
        if (*(*opened).rd_rel).relkind as u8 != pg_sys::RELKIND_PARTITIONED_TABLE || !is_by_time(opened) {
            return Leaf::Unknown;
        }
        let partitions = pg_sys::RelationGetPartitionDesc(opened, true);
        let count = usize::try_from((*partitions).nparts).unwrap_or(0);
        if count == 0 {
            return Leaf::None;
        }
        let bounds = (*partitions).boundinfo;
        let length = usize::try_from((*bounds).ndatums).unwrap_or(0);
        let is_before = |number: usize| match *(*(*bounds).kind.add(number)) {
            pg_sys::PartitionRangeDatumKind::PARTITION_RANGE_DATUM_VALUE => {
                (*(*(*bounds).datums.add(number))).value() as i64 <= time
            }
            kind => kind == pg_sys::PartitionRangeDatumKind::PARTITION_RANGE_DATUM_MINVALUE,
        };
        let (mut before, mut after) = (0, length);
        while before < after {
            let middle = usize::midpoint(before, after);
            if is_before(middle) { before = middle + 1 } else { after = middle }
        }
        let index = if length > 0 { *(*bounds).indexes.add(before) } else { -1 };
        let index = if index < 0 { (*bounds).default_index } else { index };
        match usize::try_from(index) {
            Err(_) => Leaf::None,
            Ok(index) if index < count && *(*partitions).is_leaf.add(index) => {
                Leaf::Table(*(*partitions).oids.add(index))
            }
            Ok(_) => Leaf::Unknown,
        }
    }
}

/// The start of a row of `pg_partitioned_table`, which pgrx does not bind.
#[repr(C)]
struct PartitionKey {
    relation: pg_sys::Oid,
    strategy: c_char,
    columns: i16,
    default: pg_sys::Oid,
    attributes: pg_sys::int2vector,
}

/// Returns true for a table whose partitions are ranges of its time alone.
///
/// # Safety
/// The relation is open.
unsafe fn is_by_time(opened: pg_sys::Relation) -> bool {
    // SAFETY: A row of the catalog, which the cache holds until it is released. A key has at least
    // one column.
    unsafe {
        let table = pg_sys::Datum::from((*opened).rd_id);
        let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PARTRELID as c_int, table);
        if row.is_null() {
            return false;
        }
        let key = pg_sys::GETSTRUCT(row).cast::<PartitionKey>();
        let is_suitable = (*key).strategy as u8 == b'r'
            && (*key).columns == 1
            && column(attributes((*opened).rd_att), c"timestamp", TIMES)
                == Some((*key).attributes.values.as_slice(1)[0]);
        pg_sys::ReleaseSysCache(row);
        is_suitable
    }
}

/// Returns the number of a column of one of some types.
fn column(columns: &[pg_sys::FormData_pg_attribute], name: &CStr, types: &[pg_sys::Oid]) -> Option<i16> {
    // SAFETY: The name of an attribute ends with NUL.
    let is_named = |attribute: &&pg_sys::FormData_pg_attribute| unsafe {
        !attribute.attisdropped && CStr::from_ptr(attribute.attname.data.as_ptr()) == name
    };
    columns.iter().find(is_named).filter(|found| types.contains(&found.atttypid)).map(|found| found.attnum)
}

/// Looks a key up in a table without partitions.
///
/// # Safety
/// A snapshot is active, and the values of the key are of its types.
unsafe fn find_in(table: pg_sys::Oid, key: [pg_sys::Datum; 3]) -> FoundTransaction {
    // SAFETY: The relations are locked and open while they are read.
    unsafe {
        let opened = pg_sys::try_relation_open(table, LOCK);
        if opened.is_null() {
            return FoundTransaction::Unknown;
        }
        let primary = primary_key_index(opened);
        let found = match Columns::of(opened) {
            Some(columns) if primary != pg_sys::InvalidOid => {
                let index = pg_sys::index_open(primary, LOCK);
                let found = match order_of(index, columns.key) {
                    Some(order) => scan(opened, index, order, key, &columns),
                    None => FoundTransaction::Unknown,
                };
                pg_sys::index_close(index, KEPT);
                found
            }
            _ => FoundTransaction::Unknown,
        };
        pg_sys::relation_close(opened, KEPT);
        found
    }
}

/// Numbers of the columns of a table.
struct Columns {
    key: [i16; 3],
    status: i16,
    block_number: i16,
    transaction_index: i16,
}

impl Columns {
    /// Returns `None` if one of them has another type.
    ///
    /// # Safety
    /// The relation is open.
    unsafe fn of(opened: pg_sys::Relation) -> Option<Self> {
        // SAFETY: The relation is open. The type of a column is looked up in the catalog.
        unsafe {
            if (*(*opened).rd_rel).relkind as u8 != pg_sys::RELKIND_RELATION {
                return None;
            }
            let columns = attributes((*opened).rd_att);
            let key = KEY.map(|(name, types, ..)| column(columns, name, types));
            let [Some(network), Some(hash), Some(time)] = key else { return None };
            let status = columns.iter().find(|attribute| {
                !attribute.attisdropped && CStr::from_ptr(attribute.attname.data.as_ptr()) == c"status"
            })?;
            if pg_sys::get_typtype(status.atttypid) as u8 != pg_sys::TYPTYPE_ENUM {
                return None;
            }
            Some(Self {
                key: [network, hash, time],
                status: status.attnum,
                block_number: column(columns, c"block_number", &[pg_sys::INT8OID])?,
                transaction_index: column(columns, c"transaction_index", &[pg_sys::INT4OID])?,
            })
        }
    }
}

/// Returns for each column of an index which one of the key it is, if the index is a B-tree of the
/// key with the built-in order.
///
/// # Safety
/// The index is open.
unsafe fn order_of(index: pg_sys::Relation, key: [i16; 3]) -> Option<[usize; 3]> {
    const EQUAL: i16 = pg_sys::BTEqualStrategyNumber as i16;
    // SAFETY: As the caller promises. The arrays have an element for each column of the key.
    unsafe {
        let form = (*index).rd_index;
        let is_of_key = (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
            && (*form).indisvalid
            && usize::try_from((*form).indnkeyatts) == Ok(KEY.len());
        if !is_of_key {
            return None;
        }
        let numbers = (*form).indkey.values.as_slice(KEY.len());
        let mut order = [0; KEY.len()];
        for (place, slot) in order.iter_mut().enumerate() {
            *slot = key.iter().position(|number| Some(number) == numbers.get(place))?;
            let (_, _, compared, equal) = *KEY.get(*slot)?;
            let family = *(*index).rd_opfamily.add(place);
            let operator = pg_sys::get_opfamily_member(family, compared, compared, EQUAL);
            if pg_sys::get_opcode(operator) != equal.into() {
                return None;
            }
        }
        Some(order)
    }
}

/// # Safety
/// Both relations are open and locked, a snapshot is active, and the index and the key suit each
/// other.
unsafe fn scan(
    opened: pg_sys::Relation,
    index: pg_sys::Relation,
    order: [usize; 3],
    key: [pg_sys::Datum; 3],
    columns: &Columns,
) -> FoundTransaction {
    // SAFETY: As the caller promises. A slot has as many values as it says.
    unsafe {
        let mut entries = [const { MaybeUninit::<pg_sys::ScanKeyData>::zeroed() }; KEY.len()];
        for (place, (entry, of_key)) in entries.iter_mut().zip(order).enumerate() {
            let (Some((.., equal)), Some(value)) = (KEY.get(of_key), key.get(of_key)) else {
                return FoundTransaction::Unknown;
            };
            let entry = entry.as_mut_ptr();
            let number = place as pg_sys::AttrNumber + 1;
            pg_sys::ScanKeyInit(entry, number, pg_sys::BTEqualStrategyNumber as u16, (*equal).into(), *value);
            (*entry).sk_collation = *(*index).rd_indcollation.add(place);
        }
        let scan = index_beginscan(opened, index, pg_sys::GetActiveSnapshot(), KEY.len() as c_int);
        pg_sys::index_rescan(scan, entries.as_mut_ptr().cast(), KEY.len() as c_int, std::ptr::null_mut(), 0);
        let slot = pg_sys::table_slot_create(opened, std::ptr::null_mut());
        let found = if pg_sys::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
            read(slot, columns)
        } else {
            FoundTransaction::NoRow
        };
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::index_endscan(scan);
        found
    }
}

/// # Safety
/// The slot has a row of the table with these columns.
unsafe fn read(slot: *mut pg_sys::TupleTableSlot, columns: &Columns) -> FoundTransaction {
    // SAFETY: As the caller promises. The status is of an enum.
    unsafe {
        pg_sys::slot_getallattrs(slot);
        let count = (*slot).tts_nvalid as usize;
        let values = std::slice::from_raw_parts((*slot).tts_values, count);
        let nulls = std::slice::from_raw_parts((*slot).tts_isnull, count);
        let value = |number: i16| {
            let place = usize::try_from(number - 1).ok()?;
            values.get(place).copied().filter(|_| nulls.get(place) == Some(&false))
        };
        let (Some(status), Some(block_number)) = (value(columns.status), value(columns.block_number)) else {
            return FoundTransaction::Unknown;
        };
        let label = pgrx::direct_function_call::<&CStr>(pg_sys::enum_out, &[Some(status)]);
        FoundTransaction::Stored(StoredTransaction {
            failed: label == Some(c"failed"),
            block_number: block_number.value() as i64,
            transaction_index: value(columns.transaction_index).map(|index| index.value() as i32),
        })
    }
}
