//! The tables of transfers and their partitions, as the server's caches have them: where rows are
//! read without a query, and whether every writer is noted in the register.
//!
//! The list is read once and kept. An invalidation of a partition makes it read that partition
//! again, one of a partitioned table the whole list. A list that is read again ends all positions
//! in the register: writers may have gone unnoted meanwhile.

#![allow(unsafe_code, reason = "reads the server's caches")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, c_int};
use std::rc::Rc;

use arx_core::graph::Snapshot;
use pgrx::prelude::*;

use crate::error::SqlError;
use crate::snapshot::{latest_snapshot, relation, require_table};
use crate::spi::{Table, is_subscriber, note_writer_function};
use crate::table_owner::inheritors;
use crate::versions::attributes;

/// Invalidated relations that are kept apart. More are as all of them.
const MAX_INVALIDATED: usize = 1 << 10;

/// Rounds in which the list is read again because it changed meanwhile.
const MAX_ROUNDS: usize = 4;

/// The tables and their partitions.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    /// Distinguishes this list from all others of the backend.
    pub(super) serial: u64,
    leaves: BTreeMap<u32, Leaf>,
    /// Partitioned tables, with the roots.
    parents: BTreeMap<u32, bool>,
    /// The log of former versions, by the ids of the transactions that changed them.
    log: pg_sys::Oid,
    log_place: Option<Place>,
    /// Indexes of the leaves and the log.
    indexes: BTreeSet<u32>,
    note_writer: pg_sys::Oid,
    /// Some relation was locked by another session, or dropped, and could not be read.
    has_gaps: bool,
    /// Everything that this saw had its writers noted. `None` if some writer is not noted.
    noted_since: Option<Snapshot>,
}

/// A table with rows.
#[derive(Debug, Clone)]
struct Leaf {
    table: Table,
    place: Option<Place>,
    notes_writers: bool,
}

/// The place where the rows of a table are found.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) relation: pg_sys::Oid,
    /// A B-tree of stamps.
    pub(super) index: pg_sys::Oid,
    /// Numbers of the columns that [`columns`] lists.
    pub(super) columns: Vec<i16>,
}

/// Type of a column that is read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Time,
    Numeric,
    Long,
    Integer,
    Bool,
    Enum,
    Xid,
}

const SHARED: [(&CStr, Kind); 4] =
    [(c"network", Kind::Text), (c"from_address", Kind::Text), (c"to_address", Kind::Text), (c"timestamp", Kind::Time)];

/// Returns the columns of a table that are read, in order. The stamp is the last one.
fn columns(table: Table) -> impl Iterator<Item = (&'static CStr, Kind)> {
    let more: &[(&CStr, Kind)] = match table {
        Table::Transactions => &[
            (c"value", Kind::Numeric),
            (c"block_number", Kind::Long),
            (c"transaction_index", Kind::Integer),
            (c"status", Kind::Enum),
        ],
        Table::InternalTransfers => &[
            (c"value", Kind::Numeric),
            (c"block_number", Kind::Long),
            (c"transaction_index", Kind::Integer),
            (c"succeeded", Kind::Bool),
            (c"is_ordered", Kind::Bool),
            (c"position", Kind::Integer),
        ],
        Table::TokenTransfers => &[
            (c"amount", Kind::Numeric),
            (c"block_number", Kind::Long),
            (c"log_index", Kind::Integer),
            (c"token_address", Kind::Text),
        ],
    };
    SHARED.into_iter().chain(more.iter().copied()).chain([(c"ingest_xid", Kind::Xid)])
}

/// Invalidations since the last check.
#[derive(Debug, Default)]
enum Invalidated {
    #[default]
    Nothing,
    Relations(BTreeSet<u32>),
    All,
}

thread_local! {
    static INVALIDATED: RefCell<Invalidated> = const { RefCell::new(Invalidated::Nothing) };
    static MEMBERS: RefCell<Option<Rc<Members>>> = const { RefCell::new(None) };
    static SERIAL: Cell<u64> = const { Cell::new(0) };
    static IS_WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Returns the tables and their partitions as they are now.
pub(super) fn members() -> Result<Rc<Members>, SqlError> {
    watch();
    // SAFETY: A backend in a transaction may process invalidations at any time.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    // A lock that kept a relation from being read may be gone without an invalidation.
    let mut known = MEMBERS.take().filter(|members| !members.has_gaps);
    for _ in 0..MAX_ROUNDS {
        let invalidated = INVALIDATED.take();
        let members = match (known.take(), invalidated) {
            (Some(members), Invalidated::Nothing) => {
                MEMBERS.set(Some(Rc::clone(&members)));
                return Ok(members);
            }
            (Some(members), Invalidated::Relations(relations)) if !members.is_changed(&relations) => members,
            (Some(members), Invalidated::Relations(relations)) if !members.is_parent(&relations) => {
                Rc::new(members.with_changed(&relations)?)
            }
            _ => Rc::new(Members::read()?),
        };
        known = Some(members);
    }
    // It changes while it is read. The caller asks by queries.
    Ok(Rc::new(Members { serial: next_serial(), ..Members::default() }))
}

fn next_serial() -> u64 {
    SERIAL.set(SERIAL.get() + 1);
    SERIAL.get()
}

impl Members {
    /// Returns true if the register holds every writer that a snapshot does not see.
    pub(super) fn notes_writers_since(&self, snapshot: &Snapshot) -> bool {
        self.noted_since.as_ref().is_some_and(|since| snapshot.covers(since))
    }

    /// Returns the places of a table's rows, or `None` if a query must read them.
    pub(super) fn places(&self, table: Table) -> Option<Vec<&Place>> {
        let leaves: Vec<&Leaf> = self.leaves.values().filter(|leaf| leaf.table == table).collect();
        if leaves.is_empty() {
            return None;
        }
        leaves.into_iter().map(|leaf| leaf.place.as_ref()).collect()
    }

    /// Returns the place of the log of former versions, which has no other columns than the stamp.
    pub(super) const fn log(&self) -> Option<&Place> {
        self.log_place.as_ref()
    }

    fn is_changed(&self, relations: &BTreeSet<u32>) -> bool {
        let is_member = |relation: &u32| {
            self.leaves.contains_key(relation) || self.indexes.contains(relation) || *relation == self.log.to_u32()
        };
        self.is_parent(relations) || relations.iter().any(is_member)
    }

    fn is_parent(&self, relations: &BTreeSet<u32>) -> bool {
        relations.iter().any(|relation| self.parents.contains_key(relation))
    }

    fn read() -> Result<Self, SqlError> {
        let mut members = Self {
            log: relation(c"transaction_change_log"),
            note_writer: note_writer_function()?.into(),
            ..Self::default()
        };
        for table in Table::ALL {
            let root = require_table(table.bare_name())?;
            for member in inheritors(root) {
                let inspected = Inspected::of(member, columns(table), members.note_writer);
                members.has_gaps |= inspected.is_none();
                if inspected.as_ref().is_some_and(|inspected| inspected.is_partitioned) {
                    let notes_writers = inspected.is_some_and(|inspected| inspected.notes_writers);
                    members.parents.insert(member.to_u32(), notes_writers);
                } else {
                    members.leaves.insert(member.to_u32(), Leaf::of(table, inspected));
                }
            }
        }
        members.completed()
    }

    /// Reads some leaves again.
    fn with_changed(&self, relations: &BTreeSet<u32>) -> Result<Self, SqlError> {
        let mut members = self.clone();
        for (relation, leaf) in &mut members.leaves {
            let index = leaf.place.as_ref().map(|place| place.index.to_u32());
            if relations.contains(relation) || index.is_some_and(|index| relations.contains(&index)) {
                let inspected = Inspected::of((*relation).into(), columns(leaf.table), self.note_writer);
                members.has_gaps |= inspected.is_none();
                *leaf = Leaf::of(leaf.table, inspected);
            }
        }
        members.completed()
    }

    fn completed(mut self) -> Result<Self, SqlError> {
        let log = Inspected::of(self.log, [(c"changed_xid", Kind::Xid)].into_iter(), self.note_writer);
        self.has_gaps |= log.is_none();
        self.log_place = log.and_then(|log| log.place);
        let places = self.leaves.values().map(|leaf| &leaf.place).chain([&self.log_place]);
        self.indexes = places.filter_map(|place| Some(place.as_ref()?.index.to_u32())).collect();
        self.serial = next_serial();
        self.noted_since = None;
        let all_note = self.leaves.values().all(|leaf| leaf.notes_writers) && self.parents.values().all(|notes| *notes);
        // Rows that a subscription applies fire no trigger of statements.
        if all_note && !is_subscriber()? {
            self.noted_since = Some(latest_snapshot());
        }
        Ok(self)
    }
}

impl Leaf {
    fn of(table: Table, inspected: Option<Inspected>) -> Self {
        match inspected {
            Some(Inspected { place, notes_writers, .. }) => Self { table, place, notes_writers },
            None => Self { table, place: None, notes_writers: false },
        }
    }
}

/// Properties of a relation in the server's caches.
struct Inspected {
    is_partitioned: bool,
    notes_writers: bool,
    place: Option<Place>,
}

impl Inspected {
    /// Returns `None` for a relation that was dropped, or that another session has locked.
    fn of(
        relation: pg_sys::Oid,
        columns: impl Iterator<Item = (&'static CStr, Kind)>,
        note_writer: pg_sys::Oid,
    ) -> Option<Self> {
        const LOCK: c_int = pg_sys::AccessShareLock as c_int;
        // SAFETY: A relation that is locked and exists has an entry in the cache until it is
        // closed. The trigger descriptor has as many triggers as it says.
        unsafe {
            if !pg_sys::ConditionalLockRelationOid(relation, LOCK) {
                return None;
            }
            let opened = pg_sys::try_relation_open(relation, pg_sys::NoLock as c_int);
            let Some(entry) = opened.as_ref() else {
                pg_sys::UnlockRelationOid(relation, LOCK);
                return None;
            };
            let is_partitioned = (*entry.rd_rel).relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE;
            let notes_writers = notes_writers(entry.trigdesc, note_writer);
            let place = if is_partitioned { None } else { place(opened, relation, columns) };
            pg_sys::relation_close(opened, LOCK);
            Some(Self { is_partitioned, notes_writers, place })
        }
    }
}

/// # Safety
/// The descriptor is null or valid.
unsafe fn notes_writers(descriptor: *const pg_sys::TriggerDesc, note_writer: pg_sys::Oid) -> bool {
    const EVENTS: i16 =
        (pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE | pg_sys::TRIGGER_TYPE_DELETE) as i16;
    const OTHERS: i16 = (pg_sys::TRIGGER_TYPE_ROW | pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_INSTEAD) as i16;
    // SAFETY: As the caller promises.
    let Some(descriptor) = (unsafe { descriptor.as_ref() }) else { return false };
    let count = usize::try_from(descriptor.numtriggers).unwrap_or(0);
    // SAFETY: The descriptor has this many triggers.
    let triggers = unsafe { std::slice::from_raw_parts(descriptor.triggers, count) };
    triggers.iter().any(|trigger| {
        trigger.tgfoid == note_writer
            && note_writer != pg_sys::InvalidOid
            && trigger.tgenabled as u8 == pg_sys::TRIGGER_FIRES_ALWAYS
            && trigger.tgtype & EVENTS == EVENTS
            && trigger.tgtype & OTHERS == 0
            && trigger.tgnattr == 0
            && trigger.tgqual.is_null()
    })
}

/// Returns where the rows of a table are found, if its columns and an index are as expected.
///
/// # Safety
/// The relation is open.
unsafe fn place(
    opened: pg_sys::Relation,
    relation: pg_sys::Oid,
    columns: impl Iterator<Item = (&'static CStr, Kind)>,
) -> Option<Place> {
    // SAFETY: The relation is open.
    let attributes = unsafe { attributes((*opened).rd_att) };
    let mut numbers = Vec::new();
    for (name, kind) in columns {
        let attribute = attributes.iter().find(|attribute| {
            // SAFETY: The name of an attribute ends with NUL.
            !attribute.attisdropped && unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) } == name
        })?;
        if !kind.is(attribute.atttypid) || attribute.attgenerated != 0 {
            return None;
        }
        numbers.push(attribute.attnum);
    }
    let stamp = *numbers.last()?;
    // SAFETY: The list has as many elements as it says, and lives in the current memory context.
    let indexes = unsafe {
        match pg_sys::RelationGetIndexList(opened).as_ref() {
            Some(list) => std::slice::from_raw_parts(list.elements, usize::try_from(list.length).unwrap_or(0)),
            None => &[],
        }
    };
    // SAFETY: Elements of a list of indexes are OIDs.
    let mut indexes = indexes.iter().map(|cell| unsafe { cell.oid_value });
    // SAFETY: The table is locked, so that its indexes stay.
    let index = indexes.find(|index| unsafe { is_index_of(*index, stamp) })?;
    Some(Place { relation, index, columns: numbers })
}

/// Returns true for a B-tree of all rows whose first column is the stamp.
///
/// # Safety
/// The index exists.
unsafe fn is_index_of(index: pg_sys::Oid, stamp: i16) -> bool {
    const LOCK: c_int = pg_sys::AccessShareLock as c_int;
    // SAFETY: As the caller promises. An index has at least one column, and a row of pg_index,
    // which the cache holds until it is released.
    unsafe {
        // Opening an index for the first time takes longer than everything else here.
        let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::INDEXRELID as c_int, pg_sys::Datum::from(index));
        if row.is_null() {
            return false;
        }
        let form = pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_index>();
        let may_suit = (*form).indisvalid && (*form).indkey.values.as_slice(1)[0] == stamp;
        pg_sys::ReleaseSysCache(row);
        if !may_suit {
            return false;
        }
        let opened = pg_sys::index_open(index, LOCK);
        let form = (*opened).rd_index;
        let is_suitable = (*(*opened).rd_rel).relam == pg_sys::BTREE_AM_OID
            && (*form).indisvalid
            && (*form).indkey.values.as_slice(1)[0] == stamp
            && pg_sys::heap_attisnull(
                (*opened).rd_indextuple,
                pg_sys::Anum_pg_index_indpred as c_int,
                std::ptr::null_mut(),
            )
            && at_least(*(*opened).rd_opfamily) == pg_sys::F_XID8GE.into();
        pg_sys::index_close(opened, LOCK);
        is_suitable
    }
}

/// Returns the function of `>=` of a family of operators for `xid8`.
///
/// # Safety
/// In a transaction.
unsafe fn at_least(family: pg_sys::Oid) -> pg_sys::Oid {
    const STRATEGY: i16 = pg_sys::BTGreaterEqualStrategyNumber as i16;
    // SAFETY: Looks up the catalog.
    unsafe { pg_sys::get_opcode(pg_sys::get_opfamily_member(family, pg_sys::XID8OID, pg_sys::XID8OID, STRATEGY)) }
}

impl Kind {
    fn is(self, type_oid: pg_sys::Oid) -> bool {
        match self {
            Self::Text => matches!(type_oid, pg_sys::TEXTOID | pg_sys::VARCHAROID),
            Self::Time => type_oid == pg_sys::TIMESTAMPTZOID,
            Self::Numeric => type_oid == pg_sys::NUMERICOID,
            Self::Long => type_oid == pg_sys::INT8OID,
            Self::Integer => type_oid == pg_sys::INT4OID,
            Self::Bool => type_oid == pg_sys::BOOLOID,
            Self::Xid => type_oid == pg_sys::XID8OID,
            // SAFETY: Looks up the catalog.
            Self::Enum => unsafe { pg_sys::get_typtype(type_oid) as u8 == pg_sys::TYPTYPE_ENUM },
        }
    }
}

/// Follows the server's invalidations, from before the first look on.
fn watch() {
    if IS_WATCHING.replace(true) {
        return;
    }
    let nothing = pg_sys::Datum::from(0_usize);
    // Another extension that applies rows of other servers comes with a schema.
    // SAFETY: The functions live as long as the backend.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(invalidate_relation), nothing);
        for cache in [pg_sys::SysCacheIdentifier::SUBSCRIPTIONOID, pg_sys::SysCacheIdentifier::NAMESPACEOID] {
            pg_sys::CacheRegisterSyscacheCallback(cache as c_int, Some(invalidate_all), nothing);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn invalidate_relation(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    INVALIDATED.with_borrow_mut(|invalidated| match invalidated {
        _ if relation == pg_sys::InvalidOid => *invalidated = Invalidated::All,
        Invalidated::All => {}
        Invalidated::Nothing => *invalidated = Invalidated::Relations(BTreeSet::from([relation.to_u32()])),
        Invalidated::Relations(relations) if relations.len() < MAX_INVALIDATED => {
            relations.insert(relation.to_u32());
        }
        Invalidated::Relations(_) => *invalidated = Invalidated::All,
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn invalidate_all(_argument: pg_sys::Datum, _cache: c_int, _hash: u32) {
    INVALIDATED.set(Invalidated::All);
}
