//! Rows of a table that an index finds by equal keys, read without a query.
//!
//! A query costs 15 µs to start, and one over partitions locks each of them. This runs no code of a
//! table's owner: keys and columns have built-in types, and the index has their built-in order.
//! Whatever is not as expected is left to a query. No rights are checked: rows may be passed on to
//! those callers only who may read all of them.

#![allow(unsafe_code, reason = "calls the server's access methods")]

use std::ffi::{CStr, c_char, c_int};

use pgrx::prelude::*;

use super::stream::{ColumnType, Layout, Slot, with_memory_context};
use crate::error::SqlError;
use crate::versions::{attributes, index_beginscan};

const LOCK: c_int = pg_sys::AccessShareLock as c_int;
/// Locks are kept until the end of the transaction, as those of a query are.
const KEPT: c_int = pg_sys::NoLock as c_int;

/// Mark of a table that is partitioned by range. The name of the constant differs between versions.
const BY_RANGE: u8 = b'r';

/// Columns of a table, and the type of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    pub(super) names: &'static [&'static CStr],
    pub(super) types: Layout,
}

/// A table that is open until it is dropped, and locked.
pub(super) struct OpenTable(pg_sys::Relation);

/// The partition of a value.
pub(super) enum PartitionAt {
    Table(OpenTable),
    None,
    /// The table is partitioned in another way.
    Unknown,
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

impl Drop for OpenTable {
    fn drop(&mut self) {
        // After an error of the server, the end of the (sub)transaction closes it.
        if !std::thread::panicking() {
            // SAFETY: Opened in `open`.
            unsafe { pg_sys::relation_close(self.0, KEPT) };
        }
    }
}

/// A column of keys: its number, its collation, and the function that compares its values.
#[derive(Debug, Clone, Copy)]
struct Key {
    number: i16,
    collation: pg_sys::Oid,
    type_oid: pg_sys::Oid,
    equal: pg_sys::RegProcedure,
}

impl OpenTable {
    /// Returns `None` for a relation that does not exist.
    pub(super) fn open(table: pg_sys::Oid) -> Option<Self> {
        // SAFETY: The relation is closed when the result is dropped.
        let opened = unsafe { pg_sys::try_relation_open(table, LOCK) };
        (!opened.is_null()).then_some(Self(opened))
    }

    fn kind(&self) -> u8 {
        // SAFETY: An open relation has a row of pg_class.
        unsafe { (*(*self.0).rd_rel).relkind as u8 }
    }

    /// Returns the table itself, or its partition by ranges of a column alone, which has values of
    /// eight bytes.
    pub(super) fn partition_at(self, column: &CStr, value: i64) -> PartitionAt {
        if self.kind() != pg_sys::RELKIND_PARTITIONED_TABLE {
            return PartitionAt::Table(self);
        }
        // SAFETY: The table is open. Its descriptor lives as long. Bounds by range have a value and
        // its kind for each column of the key, of which there is one, and there is an index for the
        // values before each bound and after the last one.
        let partition = unsafe {
            if !self.is_by_ranges_of(column) {
                return PartitionAt::Unknown;
            }
            let descriptor = &*pg_sys::RelationGetPartitionDesc(self.0, true);
            let Some(bounds) = descriptor.boundinfo.as_ref() else { return PartitionAt::None };
            let count = usize::try_from(bounds.ndatums).unwrap_or(0);
            let is_at_or_before = |index: usize| match **bounds.kind.add(index) {
                pg_sys::PartitionRangeDatumKind::PARTITION_RANGE_DATUM_MINVALUE => true,
                pg_sys::PartitionRangeDatumKind::PARTITION_RANGE_DATUM_MAXVALUE => false,
                _ => (**bounds.datums.add(index)).value() as i64 <= value,
            };
            let (mut low, mut high) = (0, count);
            while low < high {
                let middle = usize::midpoint(low, high);
                (low, high) = if is_at_or_before(middle) { (middle + 1, high) } else { (low, middle) };
            }
            let of_range = if count == 0 { -1 } else { *bounds.indexes.add(low) };
            match usize::try_from(if of_range < 0 { bounds.default_index } else { of_range }) {
                Ok(index) => *descriptor.oids.add(index),
                Err(_) => return PartitionAt::None,
            }
        };
        Self::open(partition).map_or(PartitionAt::Unknown, PartitionAt::Table)
    }

    /// Returns true for a table whose partitions are ranges of a column alone.
    ///
    /// # Safety
    /// The table is open.
    unsafe fn is_by_ranges_of(&self, column: &CStr) -> bool {
        // SAFETY: A row of the catalog, which the cache holds until it is released. A key has at
        // least one column.
        unsafe {
            let table = pg_sys::Datum::from((*self.0).rd_id);
            let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PARTRELID as c_int, table);
            if row.is_null() {
                return false;
            }
            let key = pg_sys::GETSTRUCT(row).cast::<PartitionKey>();
            let is_suitable = (*key).strategy as u8 == BY_RANGE
                && (*key).columns == 1
                && self.column(column, ColumnType::Time).map(|found| found.attnum)
                    == (*key).attributes.values.as_slice(1).first().copied();
            pg_sys::ReleaseSysCache(row);
            is_suitable
        }
    }

    /// Calls `each` with the columns of every row whose keys have the given values, in the active
    /// snapshot. Returns false if no index finds them: nothing has been read then.
    pub(super) fn rows_with(
        &self,
        keys: Columns,
        values: &[pg_sys::Datum],
        columns: Columns,
        each: impl FnMut(Slot<'_>) -> Result<(), SqlError>,
    ) -> Result<bool, SqlError> {
        if self.kind() != pg_sys::RELKIND_RELATION {
            return Ok(false);
        }
        // SAFETY: The table is open and locked, and there is an active snapshot.
        with_memory_context(|| unsafe {
            let Some(numbers) = self.numbers(columns) else { return Ok(false) };
            let Some(keys) = self.keys(keys) else { return Ok(false) };
            let Some(index) = self.index(&keys) else { return Ok(false) };
            let read = scan(self.0, index, &keys, values, &numbers, columns.types, each);
            pg_sys::index_close(index, KEPT);
            read.map(|()| true)
        })
    }

    /// Returns a column of a type, if texts of it are equal only if their bytes are.
    ///
    /// # Safety
    /// The table is open.
    unsafe fn column(&self, name: &CStr, column_type: ColumnType) -> Option<&pg_sys::FormData_pg_attribute> {
        // SAFETY: As the caller promises; names end with NUL.
        unsafe {
            let found = attributes((*self.0).rd_att)
                .iter()
                .find(|attribute| !attribute.attisdropped && CStr::from_ptr(attribute.attname.data.as_ptr()) == name)?;
            let has_bytewise_equality = [pg_sys::InvalidOid, pg_sys::DEFAULT_COLLATION_OID, pg_sys::C_COLLATION_OID]
                .contains(&found.attcollation);
            let is_plain = found.attgenerated == 0 && has_bytewise_equality;
            (is_plain && column_type.is(found.atttypid)).then_some(found)
        }
    }

    /// # Safety
    /// The table is open.
    unsafe fn numbers(&self, columns: Columns) -> Option<Vec<usize>> {
        let number = |(name, column_type): (&&CStr, &ColumnType)| {
            // SAFETY: As the caller promises.
            let column = unsafe { self.column(name, *column_type) }?;
            usize::try_from(column.attnum - 1).ok()
        };
        columns.names.iter().zip(columns.types).map(number).collect()
    }

    /// # Safety
    /// The table is open.
    unsafe fn keys(&self, keys: Columns) -> Option<Vec<Key>> {
        let key = |(name, column_type): (&&CStr, &ColumnType)| {
            let (type_oid, equal) = match column_type {
                ColumnType::Text => (pg_sys::TEXTOID, pg_sys::F_TEXTEQ),
                ColumnType::Time => (pg_sys::TIMESTAMPTZOID, pg_sys::F_TIMESTAMPTZ_EQ),
                _ => return None,
            };
            // SAFETY: As the caller promises.
            let column = unsafe { self.column(name, *column_type) }?;
            Some(Key { number: column.attnum, collation: column.attcollation, type_oid, equal: equal.into() })
        };
        keys.names.iter().zip(keys.types).map(key).collect()
    }

    /// Opens an index that begins with the keys.
    ///
    /// # Safety
    /// The table is open and locked, so that its indexes stay.
    unsafe fn index(&self, keys: &[Key]) -> Option<pg_sys::Relation> {
        // SAFETY: The list has as many OIDs as it says, and lives in the current memory context.
        unsafe {
            let list = pg_sys::RelationGetIndexList(self.0).as_ref()?;
            let indexes = std::slice::from_raw_parts(list.elements, usize::try_from(list.length).unwrap_or(0));
            let index = indexes.iter().map(|cell| cell.oid_value).find(|index| begins_with(*index, keys))?;
            let opened = pg_sys::index_open(index, LOCK);
            if has_built_in_order(opened, keys) {
                return Some(opened);
            }
            pg_sys::index_close(opened, KEPT);
            None
        }
    }
}

/// Returns true for an index of all rows, or of some, whose first columns are the keys.
///
/// # Safety
/// The index exists.
unsafe fn begins_with(index: pg_sys::Oid, keys: &[Key]) -> bool {
    // SAFETY: As the caller promises. The cache holds the row until it is released; an index has as
    // many columns as the row says.
    unsafe {
        let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::INDEXRELID as c_int, pg_sys::Datum::from(index));
        if row.is_null() {
            return false;
        }
        let form = pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_index>();
        let count = usize::try_from((*form).indnkeyatts).unwrap_or(0);
        let numbers = (*form).indkey.values.as_slice(count);
        // Rows of an index with the last mark may be missing for a snapshot before it.
        let suits = (*form).indisvalid
            && !(*form).indcheckxmin
            && numbers.len() >= keys.len()
            && keys.iter().zip(numbers).all(|(key, number)| key.number == *number);
        pg_sys::ReleaseSysCache(row);
        suits
    }
}

/// # Safety
/// The index is open, and begins with the keys.
unsafe fn has_built_in_order(index: pg_sys::Relation, keys: &[Key]) -> bool {
    const EQUAL: i16 = pg_sys::BTEqualStrategyNumber as i16;
    // SAFETY: As the caller promises.
    unsafe {
        (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
            && pg_sys::heap_attisnull(
                (*index).rd_indextuple,
                pg_sys::Anum_pg_index_indpred as c_int,
                std::ptr::null_mut(),
            )
            && keys.iter().enumerate().all(|(place, key)| {
                let family = *(*index).rd_opfamily.add(place);
                let operator = pg_sys::get_opfamily_member(family, key.type_oid, key.type_oid, EQUAL);
                pg_sys::get_opcode(operator) == key.equal && *(*index).rd_indcollation.add(place) == key.collation
            })
    }
}

/// # Safety
/// Table and index are open and locked; the values have the types of the keys.
unsafe fn scan(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    keys: &[Key],
    values: &[pg_sys::Datum],
    numbers: &[usize],
    layout: Layout,
    mut each: impl FnMut(Slot<'_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    // SAFETY: As the caller promises. A slot has as many values as it says.
    unsafe {
        let mut entries: Vec<pg_sys::ScanKeyData> = Vec::with_capacity(keys.len());
        for ((number, key), value) in (1..).zip(keys).zip(values) {
            let mut entry = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyInit(&raw mut entry, number, pg_sys::BTEqualStrategyNumber as u16, key.equal, *value);
            entry.sk_collation = key.collation;
            entries.push(entry);
        }
        let count = entries.len() as c_int;
        let scan = index_beginscan(table, index, pg_sys::GetActiveSnapshot(), count);
        pg_sys::index_rescan(scan, entries.as_mut_ptr(), count, std::ptr::null_mut(), 0);
        let slot = pg_sys::table_slot_create(table, std::ptr::null_mut());
        let mut read = Ok(());
        let (mut of_row, mut nulls) = (vec![pg_sys::Datum::null(); numbers.len()], vec![true; numbers.len()]);
        while read.is_ok() && pg_sys::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
            check_for_interrupts!();
            pg_sys::slot_getallattrs(slot);
            let count = (*slot).tts_nvalid as usize;
            let all_values = std::slice::from_raw_parts((*slot).tts_values, count);
            let all_nulls = std::slice::from_raw_parts((*slot).tts_isnull, count);
            for (place, number) in numbers.iter().enumerate() {
                of_row[place] = all_values.get(*number).copied().unwrap_or(pg_sys::Datum::null());
                nulls[place] = all_nulls.get(*number).copied().unwrap_or(true);
            }
            read = each(Slot::new(layout, &of_row, &nulls));
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::index_endscan(scan);
        read
    }
}
