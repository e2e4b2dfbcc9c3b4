//! Partitioned tables: what a plan needs to know, and carrying plans out.
//!
//! Catalogs are read as the caller; tables of users are read and changed as their owner. Relations
//! are addressed by OID: a name may belong to another one meanwhile.

mod months;
mod networks;
mod rows;

use std::collections::{BTreeSet, HashMap};

use arx_core::partition::{Bounds, Existing, Inventory, Misfits, Month, Policy};
use chrono::{DateTime, Utc};
use pgrx::prelude::*;

use super::{Table, for_each_row, is_true, run, value};
use crate::error::SqlError;
use crate::owner::as_owner_of;
use crate::snapshot;
use crate::time::{from_instant, instant};

pub(crate) use months::{create_month, retire};
pub(crate) use networks::{Split, split_by_hash};

const POLICY: &str = "
SELECT p.premake, p.retention_months, p.retention_mode::text, now()
  FROM arx.partition_policies AS p
 WHERE p.relation = $1
 ORDER BY p.builtin
 LIMIT 1";

const TABLE: &str = "
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, p.partdefid
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = c.oid
 WHERE c.oid = $1";

const PARTITIONS: &str = "
SELECT c.oid, c.relname::pg_catalog.text, pg_catalog.format('%I.%I', n.nspname, c.relname), r.is_default, r.range_from,
       r.range_to
  FROM pg_catalog.pg_inherits AS i
  JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL arx.partition_range(c.oid) AS r
 WHERE i.inhparent = $1";

/// Names that a new relation cannot have: each table has a type of its name. Those that begin like
/// the table are enough.
const TAKEN: &str = "
SELECT c.relname::pg_catalog.text
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = $1::pg_catalog.name AND pg_catalog.starts_with(c.relname::pg_catalog.text, pg_catalog.left($2, 12))
UNION
SELECT t.typname::pg_catalog.text
  FROM pg_catalog.pg_type AS t
  JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
 WHERE n.nspname = $1::pg_catalog.name AND pg_catalog.starts_with(t.typname::pg_catalog.text, pg_catalog.left($2, 12))";

/// The tables are partitioned by month.
impl Table {
    /// Returns the name by which `arx.partition_policies` knows the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Transactions => "arx.transactions",
            Self::InternalTransfers => "arx.internal_transfers",
            Self::TokenTransfers => "arx.token_transfers",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self, SqlError> {
        Self::ALL.into_iter().find(|table| table.name() == name).ok_or_else(|| SqlError::no_policy(name))
    }

    pub(crate) fn of(relation: pg_sys::Oid) -> Result<Self, SqlError> {
        match Self::ALL.into_iter().find(|table| table.oid() == relation) {
            Some(table) => Ok(table),
            None => Err(SqlError::no_policy(&relation_name(relation)?)),
        }
    }

    fn oid(self) -> pg_sys::Oid {
        snapshot::relation(self.bare_name())
    }

    /// Returns true if the caller may read every row.
    fn is_open_to_caller(self) -> bool {
        snapshot::require_whole(self.bare_name()).is_ok()
    }
}

/// A partitioned table.
pub(crate) struct Parent {
    oid: pg_sys::Oid,
    /// Schema of the table and of its new partitions.
    schema: String,
    name: String,
    default: Option<pg_sys::Oid>,
}

impl Parent {
    fn of(oid: pg_sys::Oid) -> Result<Self, SqlError> {
        let mut parent = None;
        for_each_row(TABLE, &[oid.into()], |row| {
            let default = row.required::<pg_sys::Oid>(3)?;
            let default = (default != pg_sys::InvalidOid).then_some(default);
            parent = Some(Self { oid, schema: row.required(1)?, name: row.required(2)?, default });
            Ok(())
        })?;
        match parent {
            Some(parent) => Ok(parent),
            None => Err(SqlError::state(format!("{} is not a partitioned table", relation_name(oid)?))),
        }
    }

    /// Returns the qualified name of a partition that is to be created.
    pub(crate) fn qualified(&self, partition: &str) -> String {
        spi::quote_qualified_identifier(self.schema.as_str(), partition)
    }

    fn taken_names(&self) -> Result<BTreeSet<String>, SqlError> {
        let mut taken = BTreeSet::new();
        for_each_row(TAKEN, &[self.schema.as_str().into(), self.name.as_str().into()], |row| {
            taken.insert(row.required(1)?);
            Ok(())
        })?;
        Ok(taken)
    }
}

/// A table and its partitions, as a plan needs them.
pub(crate) struct PartitionState {
    pub(crate) parent: Parent,
    pub(crate) policy: Policy,
    pub(crate) inventory: Inventory,
    pub(crate) now: DateTime<Utc>,
    /// Qualified names of partitions by OID.
    names: HashMap<u32, String>,
}

impl PartitionState {
    /// Returns the qualified name of an existing partition.
    pub(crate) fn name_of(&self, partition: u32) -> Option<&str> {
        self.names.get(&partition).map(String::as_str)
    }

    /// Returns the qualified name of the default partition.
    pub(crate) fn default_name(&self) -> Option<&str> {
        self.parent.default.and_then(|default| self.name_of(default.to_u32()))
    }
}

/// Rows in a default partition.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) months: Vec<Month>,
    pub(crate) misfits: Option<Misfits>,
}

/// Reads the policy and the partitions of a table, or `None` if it has no policy.
pub(crate) fn partition_state(table: Table) -> Result<Option<PartitionState>, SqlError> {
    let oid = snapshot::require_table(table.bare_name())?;
    let parent = Parent::of(oid)?;
    let Some((policy, now)) = policy(table, &parent)? else { return Ok(None) };
    let mut inventory = Inventory { partitions: Vec::new(), taken: parent.taken_names()? };
    let mut names = HashMap::new();
    for_each_row(PARTITIONS, &[parent.oid.into()], |row| {
        let id = row.required::<pg_sys::Oid>(1)?.to_u32();
        names.insert(id, row.required(3)?);
        let bounds = if row.required::<bool>(4)? {
            Bounds::Default
        } else {
            Bounds::Range { from: bound(row.required(5)?), to: bound(row.required(6)?) }
        };
        inventory.partitions.push(Existing { id, name: row.required(2)?, bounds });
        Ok(())
    })?;
    Ok(Some(PartitionState { parent, policy, inventory, now, names }))
}

fn policy(table: Table, parent: &Parent) -> Result<Option<(Policy, DateTime<Utc>)>, SqlError> {
    let mut policy = None;
    as_owner_of(snapshot::relation(c"partition_policies"), || {
        for_each_row(POLICY, &[table.name().into()], |row| {
            let read = Policy {
                relation: parent.name.clone(),
                premake: row.required::<i32>(1)?.unsigned_abs(),
                retention: row.optional::<i32>(2)?.map(i32::unsigned_abs),
                retention_mode: row.required::<String>(3)?.parse()?,
            };
            policy = Some((read, instant(row.required(4)?)?));
            Ok(())
        })
    })?;
    Ok(policy)
}

/// Converts a bound; `None` is no bound. One beyond the times that can be computed with becomes
/// the nearest of them.
fn bound(at: TimestampWithTimeZone) -> Option<DateTime<Utc>> {
    if at.is_infinity() || at.is_neg_infinity() {
        return None;
    }
    let nearest = if at.into_inner() < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    Some(instant(at).unwrap_or(nearest))
}

/// Reads which months have rows in the default partition, and how many rows fit into none.
pub(crate) fn waiting(table: Table, parent: &Parent) -> Result<Waiting, SqlError> {
    let Some(default) = parent.default else { return Ok(Waiting::default()) };
    let is_open = table.is_open_to_caller();
    let (first, end) = Month::all()?;
    let (first, end) = (from_instant(first)?, from_instant(end)?);
    as_owner_of(parent.oid, || {
        require_same_owner(parent, default)?;
        let default = relation_name(default)?;
        let mut waiting = Waiting::default();
        for_each_row(&rows::months(&default), &[first.into(), end.into()], |row| {
            waiting.months.push(Month::of(instant(row.required(1)?)?)?);
            Ok(())
        })?;
        for_each_row(&rows::misfits(&default), &[first.into(), end.into()], |row| {
            let count = row.required::<i64>(1)?.unsigned_abs();
            let first = if is_open { Some((row.required(2)?, row.required(3)?)) } else { None };
            waiting.misfits = Some(Misfits { count, first });
            Ok(())
        })?;
        Ok(waiting)
    })
}

const NAME: &str = "
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.oid = $1";

/// Returns the qualified name of a relation, quoted as SQL needs it.
pub(crate) fn relation_name(relation: pg_sys::Oid) -> Result<String, SqlError> {
    let name = value(NAME, &[relation.into()])?;
    name.ok_or_else(|| SqlError::state(format!("relation with OID {} does not exist any more", relation.to_u32())))
}

const HOLDERS: &str = "
SELECT l.pid
  FROM pg_catalog.pg_locks AS l
  JOIN pg_catalog.pg_database AS d ON d.oid = l.database
 WHERE l.locktype = 'relation' AND d.datname = pg_catalog.current_database() AND l.relation = $1 AND l.granted
   AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()";

/// Returns who holds a lock on a relation.
pub(crate) fn lock_holders(relation: pg_sys::Oid) -> Result<Vec<String>, SqlError> {
    let mut holders = BTreeSet::new();
    for_each_row(HOLDERS, &[relation.into()], |row| {
        holders.insert(row.optional::<i32>(1)?);
        Ok(())
    })?;
    let name = |pid| match pid {
        Some(pid) => format!("process {pid}"),
        None => "a prepared transaction".to_owned(),
    };
    Ok(holders.into_iter().map(name).collect())
}

/// Waits until no other transaction changes partitions.
pub(crate) fn lock_partitions() -> Result<(), SqlError> {
    run("SELECT arx.lock_job('partitions')", &[])?;
    Ok(())
}

const OWNS: &str = "SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = $1";

/// Rejects a partition that does not belong to the current user, the owner of its parent: no role
/// moves rows of another.
fn require_same_owner(parent: &Parent, partition: pg_sys::Oid) -> Result<(), SqlError> {
    if is_true(OWNS, &[partition.into()])? {
        return Ok(());
    }
    let (partition, parent) = (relation_name(partition)?, relation_name(parent.oid)?);
    Err(SqlError::privilege(format!("{partition} does not belong to the owner of its parent {parent}"))
        .hint(format!("Run ALTER TABLE {partition} OWNER TO the owner of {parent}.")))
}

const MAY_CREATE: &str = "SELECT has_schema_privilege($1, 'CREATE')";

/// Rejects an owner who may not create partitions next to their parent.
fn require_create(parent: &Parent) -> Result<(), SqlError> {
    if is_true(MAY_CREATE, &[parent.schema.as_str().into()])? {
        return Ok(());
    }
    let schema = spi::quote_identifier(&parent.schema);
    let table = relation_name(parent.oid)?;
    Err(SqlError::privilege(format!("the owner of {table} may not create tables in schema {schema}"))
        .hint(format!("Run GRANT CREATE ON SCHEMA {schema} TO the owner of {table}.")))
}
