//! Partitioned tables: what a plan needs to know, and carrying plans out.
//!
//! Catalogs are read as the caller; tables of users are read and changed as their owner. Relations
//! are addressed by OID: a name may belong to another one meanwhile.

mod networks;
mod rows;
mod steps;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arx_core::partition::{Axis, Bounds, Existing, Grid, Interval, Inventory, Key, Misfits, Policy, Waiting, latest};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::{Table, for_each_row, is_true, run, value};
use crate::error::SqlError;
use crate::owner::as_owner_of;
use crate::snapshot;
use crate::time::instant;

pub(crate) use networks::{Split, split_by_hash};
pub(crate) use steps::{attach, create_partitions, lock_for_archive, quarantine, restore_rows, retire, set_tablespace};

const POLICY: &str = "
SELECT p.\"interval\", p.time_zone, p.epoch, p.premake, coalesce(p.retention, p.retention_months || ' months'),
       p.retention_mode, p.retention_schema, p.tablespace_ages::pg_catalog.text, p.hash_column, p.hash_partitions,
       p.quarantine, p.earliest, now()
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

const KEY: &str = "
SELECT p.partstrat::pg_catalog.text, p.partnatts::pg_catalog.int4, pg_catalog.quote_ident(a.attname),
       pg_catalog.format_type(a.atttypid, NULL), a.attnotnull
  FROM pg_catalog.pg_partitioned_table AS p
  LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] AND p.partattrs[0] > 0
 WHERE p.partrelid = $1";

/// Bounds as integers: microseconds since 1970, or with `$2` the integers of the key. They are
/// printed and read in the same style and time zone, those of [`as_owner_of`]. An infinite bound
/// becomes NULL, and one beyond 64 bits the last integer. `OFFSET 0` keeps expressions from being
/// evaluated once for each use. That of `arx.printed_bounds()` is repeated, because the owner of a
/// table may lack the right to call it.
const PARTITIONS: &str = "
SELECT c.oid, c.relname::text, format('%I.%I', n.nspname, c.relname), e.bounds = 'DEFAULT',
       CASE WHEN b.bound[1] IN ('MINVALUE', '-infinity', 'infinity') THEN NULL
            WHEN $2 THEN least(greatest(b.bound[1]::numeric, -9223372036854775808), 9223372036854775807)::bigint
            ELSE (extract(epoch FROM b.bound[1]::timestamptz) * 1000000)::bigint END,
       CASE WHEN b.bound[2] IN ('MAXVALUE', '-infinity', 'infinity') THEN NULL
            WHEN $2 THEN least(greatest(b.bound[2]::numeric, -9223372036854775808), 9223372036854775807)::bigint
            ELSE (extract(epoch FROM b.bound[2]::timestamptz) * 1000000)::bigint END,
       s.spcname::text, i.inhdetachpending
  FROM pg_inherits AS i
  JOIN pg_class AS c ON c.oid = i.inhrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_tablespace AS s ON s.oid = c.reltablespace
 CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, 0) OFFSET 0) AS e (bounds)
 CROSS JOIN LATERAL (
    SELECT CASE WHEN e.bounds LIKE 'FOR VALUES FROM (%) TO (%)' AND e.bounds NOT LIKE '%,%'
                THEN string_to_array(translate(substr(e.bounds, 17), '()''', ''), ' TO ') END
    OFFSET 0
 ) AS b (bound)
 WHERE i.inhparent = $1 AND ($3 IS NULL OR i.inhrelid = $3)";

const HAS_CONSENT: &str = "
SELECT pg_catalog.pg_has_role(p.relowner, c.relowner, 'USAGE')
    OR EXISTS (SELECT FROM arx.partition_consents AS a WHERE a.relation = c.oid AND a.owner = c.relowner)
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_class AS p ON p.oid = pg_catalog.to_regclass('arx.partition_policies')
 WHERE c.oid = $1";

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

    /// Rejects a table of another role than the owner of the policies, who may write any policy,
    /// unless a member of that role has agreed.
    fn require_consent(&self) -> Result<(), SqlError> {
        if is_true(HAS_CONSENT, &[self.oid.into()])? {
            return Ok(());
        }
        let table = self.qualified(&self.name);
        Err(SqlError::privilege(format!("the owner of table {table} has not agreed to its policy"))
            .hint("A member of that role calls arx.manage_partitions()."))
    }

    /// Returns the qualified name of a partition that is to be created.
    pub(crate) fn qualified(&self, partition: &str) -> String {
        spi::quote_qualified_identifier(self.schema.as_str(), partition)
    }

    /// Returns the relations to lock for a change of partitions, in the order of readers.
    fn with_default(&self, partition: Option<pg_sys::Oid>) -> Vec<pg_sys::Oid> {
        [Some(self.oid), self.default, partition].into_iter().flatten().collect()
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

/// The column by which a table is partitioned.
pub(crate) struct RangeKey {
    /// Quoted name.
    column: String,
    /// Type of the column, as SQL names it.
    kind: String,
    axis: Axis,
    may_be_null: bool,
}

impl RangeKey {
    /// Reads the key of a table. `epoch` is the unit of an integer that is a time.
    fn of(parent: &Parent, epoch: Option<&str>) -> Result<Self, SqlError> {
        let table = parent.qualified(&parent.name);
        let mut key = None;
        for_each_row(KEY, &[parent.oid.into()], |row| {
            let (strategy, columns): (String, i32) = (row.required(1)?, row.required(2)?);
            if strategy != "r" {
                return Err(SqlError::argument(format!("table {table} is not partitioned by range")).hint(
                    "arx.create_hash_partitions() creates the partitions of a table that is partitioned by hash.",
                ));
            }
            let (name, kind): (Option<String>, Option<String>) = (row.optional(3)?, row.optional(4)?);
            let (1, Some(column), Some(kind)) = (columns, name, kind) else {
                return Err(SqlError::argument(format!("table {table} is not partitioned by one column"))
                    .hint("Expressions and several columns are not supported."));
            };
            let is_integer = matches!(kind.as_str(), "smallint" | "integer" | "bigint" | "numeric");
            let axis = match (kind.as_str(), epoch) {
                ("timestamp with time zone", None) => Axis::Timestamp,
                ("timestamp without time zone", None) => Axis::Local,
                ("date", None) => Axis::Date,
                (_, None) if is_integer => Axis::Number,
                (_, Some("seconds")) if is_integer => Axis::Seconds,
                (_, Some("milliseconds")) if is_integer => Axis::Milliseconds,
                (_, Some(epoch)) => {
                    return Err(SqlError::argument(format!(
                        "column {column} of {table} cannot count {epoch}: it is a {kind}"
                    )));
                }
                _ => {
                    return Err(SqlError::argument(format!("column {column} of {table} is a {kind}")).hint(
                        "Keys may be of type timestamptz, timestamp, date, smallint, integer, bigint or numeric.",
                    ));
                }
            };
            key = Some(Self { column, kind, axis, may_be_null: !row.required::<bool>(5)? });
            Ok(())
        })?;
        key.ok_or_else(|| SqlError::state(format!("{table} is not a partitioned table")))
    }

    /// Returns true if bounds are printed as integers.
    pub(crate) fn is_number(&self) -> bool {
        !matches!(self.axis, Axis::Timestamp | Axis::Local | Axis::Date)
    }

    /// Returns the condition for keys of a range. An end beyond the column's type is no condition.
    fn condition(&self, grid: &Grid, from: Key, to: Key) -> String {
        let (column, kind) = (&self.column, &self.kind);
        let literal = |key: Key| format!("{}::{kind}", spi::quote_literal(grid.print(key)));
        let (least, greatest) = grid.extent();
        // Numbers of any size have keys that no integer is.
        let is_wider = kind == "numeric";
        let mut condition = format!("({column} IS NOT NULL");
        if from > least || is_wider {
            condition.push_str(&format!(" AND {column} >= {}", literal(from)));
        }
        if to <= greatest && (to != Key::MAX || is_wider) {
            condition.push_str(&format!(" AND {column} < {}", literal(to)));
        }
        condition.push(')');
        condition
    }

    /// Returns the condition for keys that are there, but not in a range.
    fn condition_outside(&self, grid: &Grid, from: Key, to: Key) -> String {
        format!("({} IS NOT NULL AND NOT {})", self.column, self.condition(grid, from, to))
    }

    /// Returns the expression for a key as an integer.
    fn expression(&self) -> String {
        let column = &self.column;
        match (self.axis, self.kind.as_str()) {
            (Axis::Date, _) => format!("({column} - date '1970-01-01')::bigint * 86400000000"),
            (Axis::Timestamp | Axis::Local, _) => format!("(extract(epoch FROM {column}) * 1000000)::bigint"),
            (_, "numeric") => format!("floor({column})::bigint"),
            _ => format!("{column}::bigint"),
        }
    }

    /// Returns the first key that a plan can compute with, and the first one behind the last.
    fn limits(&self) -> (Key, Key) {
        const FIRST_SECOND: Key = -62_135_596_800;
        const LAST_MONTH: Key = 253_399_622_400;
        let unit = match self.axis {
            Axis::Timestamp | Axis::Local | Axis::Date => 1_000_000,
            Axis::Milliseconds => 1_000,
            Axis::Seconds => 1,
            Axis::Number => return (Key::MIN, Key::MAX),
        };
        (FIRST_SECOND * unit, LAST_MONTH * unit)
    }

    /// Limits a grid to what the column can hold.
    fn limit(&self, grid: Grid) -> Grid {
        match self.kind.as_str() {
            "smallint" => grid.within(i16::MIN.into(), i16::MAX.into()),
            "integer" => grid.within(i32::MIN.into(), i32::MAX.into()),
            _ => grid,
        }
    }

    /// Returns the width of bins that no cell begins within, in units of the key.
    fn bin(&self, grid: &Grid) -> i64 {
        const QUARTER: i64 = 15 * 60;
        match (self.axis, grid.interval()) {
            (_, Interval::Number(width)) => width,
            // Hours and minutes begin at any minute, days of a zone at a quarter of an hour.
            (Axis::Timestamp | Axis::Local | Axis::Date, Interval::Minutes(_)) => 60_000_000,
            (Axis::Milliseconds, Interval::Minutes(_)) => 60_000,
            (_, Interval::Minutes(_)) => 60,
            (Axis::Timestamp | Axis::Local | Axis::Date, _) => QUARTER * 1_000_000,
            (Axis::Milliseconds, _) => QUARTER * 1_000,
            _ => QUARTER,
        }
    }
}

/// Sub-partitions by hash.
pub(crate) struct HashParts {
    pub(crate) column: String,
    pub(crate) parts: u32,
}

/// A table, its policy and its partitions, as a plan needs them.
pub(crate) struct PartitionState {
    pub(crate) parent: Parent,
    pub(crate) key: RangeKey,
    pub(crate) policy: Policy,
    pub(crate) inventory: Inventory,
    /// Sub-partitions of new partitions.
    pub(crate) hash: Option<HashParts>,
    /// Schema to which the retention moves partitions.
    pub(crate) retention_schema: Option<String>,
    /// The current time, or the greatest integer.
    pub(crate) now: Option<Key>,
    /// Qualified names of partitions by OID.
    names: HashMap<u32, String>,
}

impl PartitionState {
    /// Reads the policy and the partitions of a table, or returns `None` if it has no policy.
    pub(crate) fn of(relation: pg_sys::Oid) -> Result<Option<Self>, SqlError> {
        let parent = Parent::of(relation)?;
        let mut state = None;
        as_owner_of(snapshot::require_table(c"partition_policies")?, || {
            for_each_row(POLICY, &[relation.into()], |row| {
                let epoch: Option<String> = row.optional(3)?;
                let key = RangeKey::of(&parent, epoch.as_deref())?;
                let grid = Grid::parse(key.axis, &row.required::<String>(1)?, &row.required::<String>(2)?)?;
                let grid = key.limit(grid);
                let retention: Option<String> = row.optional(5)?;
                let ages: Option<String> = row.optional(8)?;
                let policy = Policy {
                    premake: row.required::<i32>(4)?.unsigned_abs(),
                    retention: retention.map(|age| grid.age(&age)).transpose()?,
                    retention_mode: row.required::<String>(6)?.parse()?,
                    tablespaces: tablespaces(&grid, ages.as_deref())?,
                    quarantine: row.required(11)?,
                    earliest: match row.optional::<TimestampWithTimeZone>(12)? {
                        Some(earliest) => grid.key(instant(earliest)?),
                        None => None,
                    },
                    ..Policy::new(parent.name.clone(), grid)
                };
                let parts: Option<i32> = row.optional(10)?;
                let hash = row.optional::<String>(9)?.zip(parts);
                let hash = hash.map(|(column, parts)| HashParts { column, parts: parts.unsigned_abs() });
                let now = grid.key(instant(row.required(13)?)?);
                state = Some((key, policy, hash, row.optional::<String>(7)?, now));
                Ok(())
            })
        })?;
        let Some((key, policy, hash, retention_schema, now)) = state else { return Ok(None) };
        parent.require_consent()?;
        let (inventory, names) = inventory(&parent, &key)?;
        let now = if key.axis == Axis::Number { greatest(&parent, &key, &policy.grid)? } else { now };
        Ok(Some(Self { parent, key, policy, inventory, hash, retention_schema, now, names }))
    }

    /// Does the same as [`Self::of`]; a table without policy is an error.
    pub(crate) fn required(relation: pg_sys::Oid) -> Result<Self, SqlError> {
        match Self::of(relation)? {
            Some(state) => Ok(state),
            None => Err(SqlError::no_policy(&relation_name(relation)?)),
        }
    }

    /// Returns the qualified name of an existing partition.
    pub(crate) fn name_of(&self, partition: u32) -> Option<&str> {
        self.names.get(&partition).map(String::as_str)
    }

    /// Returns the qualified name of the default partition.
    pub(crate) fn default_name(&self) -> Option<&str> {
        self.parent.default.and_then(|default| self.name_of(default.to_u32()))
    }

    /// Reads which cells have rows in the default partition, and how many rows fit into none.
    pub(crate) fn waiting(&self) -> Result<Waiting, SqlError> {
        let Some(default) = self.parent.default else { return Ok(Waiting::default()) };
        let open_table = Table::ALL.into_iter().find(|table| snapshot::relation(table.bare_name()) == self.parent.oid);
        let is_open = open_table.is_some_and(|table| snapshot::require_whole(table.bare_name()).is_ok());
        let grid = &self.policy.grid;
        let (mut first, mut end) = self.key.limits();
        if self.policy.quarantine {
            first = self.policy.earliest.unwrap_or(first);
            end = latest(&self.policy, self.now)?;
        }
        let (inside, outside) = (self.key.condition(grid, first, end), self.key.condition_outside(grid, first, end));
        let (key, bin) = (self.key.expression(), self.key.bin(grid));
        as_owner_of(self.parent.oid, || {
            require_same_owner(&self.parent, default)?;
            let default = relation_name(default)?;
            let mut waiting = Waiting::default();
            // Division of integers truncates, so keys before 1970 are moved down by one bin.
            let bins = format!(
                "SELECT DISTINCT k.key / {bin} - (k.key < 0 AND k.key % {bin} <> 0)::integer \
                   FROM (SELECT {key} AS key FROM {default} WHERE {inside}) AS k"
            );
            for_each_row(&bins, &[], |row| {
                waiting.keys.push(row.required::<i64>(1)?.saturating_mul(bin).max(grid.extent().0));
                Ok(())
            })?;
            let first = if is_open { "network::text, tx_hash::text" } else { "NULL::text, NULL::text" };
            let misfits = format!(
                "SELECT count(*) OVER (), {first} FROM {default} WHERE {outside} ORDER BY {} LIMIT 1",
                if is_open { format!("{}, network, tx_hash", self.key.column) } else { self.key.column.clone() }
            );
            for_each_row(&misfits, &[], |row| {
                let count = row.required::<i64>(1)?.unsigned_abs();
                let first = row.optional::<String>(2)?.zip(row.optional::<String>(3)?);
                waiting.misfits = Some(Misfits { count, first });
                Ok(())
            })?;
            if self.key.may_be_null {
                let column = &self.key.column;
                let count: Option<i64> = value(&format!("SELECT count(*) FROM {default} WHERE {column} IS NULL"), &[])?;
                waiting.without_key = count.unwrap_or(0).unsigned_abs();
            }
            Ok(waiting)
        })
    }
}

/// Parses ages with their tablespaces: `{"6 months": "cold"}`.
fn tablespaces(grid: &Grid, ages: Option<&str>) -> Result<Vec<(Interval, String)>, SqlError> {
    let Some(text) = ages else { return Ok(Vec::new()) };
    let ages: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|error| SqlError::argument(format!("tablespace_ages must be an object of texts: {error}")))?;
    ages.into_iter().map(|(age, tablespace)| Ok((grid.age(&age)?, tablespace))).collect()
}

/// Reads the partitions of a table, and their qualified names by OID.
fn inventory(parent: &Parent, key: &RangeKey) -> Result<(Inventory, HashMap<u32, String>), SqlError> {
    let (partitions, names) = partitions(parent, key, None)?;
    Ok((Inventory { partitions, taken: parent.taken_names()? }, names))
}

/// Reads the partitions of a table, or one of them.
fn partitions(
    parent: &Parent,
    key: &RangeKey,
    only: Option<pg_sys::Oid>,
) -> Result<(Vec<Existing>, HashMap<u32, String>), SqlError> {
    let (mut partitions, mut names) = (Vec::new(), HashMap::new());
    as_owner_of(parent.oid, || {
        for_each_row(PARTITIONS, &[parent.oid.into(), key.is_number().into(), only.into()], |row| {
            let id = row.required::<pg_sys::Oid>(1)?.to_u32();
            names.insert(id, row.required(3)?);
            let bounds = if row.required::<bool>(4)? {
                Bounds::Default
            } else {
                Bounds::Range { from: row.optional(5)?, to: row.optional(6)? }
            };
            let (tablespace, is_pending) = (row.optional(7)?, row.required(8)?);
            partitions.push(Existing { id, name: row.required(2)?, bounds, tablespace, is_pending });
            Ok(())
        })
    })?;
    Ok((partitions, names))
}

/// Returns the greatest key of a table that a plan can compute with.
fn greatest(parent: &Parent, key: &RangeKey, grid: &Grid) -> Result<Option<Key>, SqlError> {
    as_owner_of(parent.oid, || {
        let (table, column) = (relation_name(parent.oid)?, &key.column);
        let (first, end) = key.limits();
        let inside = key.condition(grid, first, end);
        // Of a bigint, floor() gives a double.
        let greatest = if key.kind == "numeric" { format!("floor(max({column}))") } else { format!("max({column})") };
        value(&format!("SELECT {greatest}::bigint FROM {table} WHERE {inside}"), &[])
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
