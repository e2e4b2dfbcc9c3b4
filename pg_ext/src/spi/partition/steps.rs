//! Carrying out the steps of a plan.

use arx_core::partition::{Action, Bounds, PlanStep, is_expired, latest, quarantine_name};
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::super::{for_each_row, is_true, run, value};
use super::rows::{Copied, any, copy_rows, every_column, move_rows, replace_copied, require_moved, stored_columns};
use super::{Parent, PartitionState, partitions, relation_name, require_create, require_same_owner};
use crate::error::SqlError;
use crate::moving::{move_rows as move_without_trace, without_user_triggers};
use crate::owner::{as_owner_of, lock_against_changes, lock_exclusively};
use crate::snapshot::require_table;
use crate::subtransaction::attempt;

const CREATE: &str = "
SELECT format('CREATE TABLE %I.%I PARTITION OF %s FOR VALUES FROM (%s) TO (%s) %s', $1, $2, $3::regclass, $4, $5, $6)";
/// The constraint spares ATTACH a scan of the table, which is in the tablespace of its parent.
const CREATE_APART: &str = "
SELECT format('CREATE TABLE %I.%I (LIKE %s INCLUDING ALL EXCLUDING COMMENTS EXCLUDING IDENTITY EXCLUDING STATISTICS, '
              'CONSTRAINT arx_range CHECK %s) %s %s', $1, $2, $3::regclass, $4, $5, 'TABLESPACE ' || quote_ident(s.spcname))
  FROM pg_class AS c LEFT JOIN pg_tablespace AS s ON s.oid = c.reltablespace
 WHERE c.oid = $3";
const CREATE_PART: &str = "
SELECT format('CREATE TABLE %I.%I PARTITION OF %s FOR VALUES WITH (MODULUS %s, REMAINDER %s)', $1, $2, $3::regclass, $4,
              $5)";
const ATTACH: &str = "
SELECT format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)', $1::regclass, $2::regclass, $3, $4)";
const DROP_RANGE: &str = "SELECT format('ALTER TABLE %s DROP CONSTRAINT arx_range', $1::regclass)";
const CREATED: &str = "SELECT to_regclass(format('%I.%I', $1, $2))::oid";
const DETACH: &str = "SELECT format('ALTER TABLE %s DETACH PARTITION %s', $1::regclass, $2::regclass)";
const FINALIZE: &str = "SELECT format('ALTER TABLE %s DETACH PARTITION %s FINALIZE', $1::regclass, $2::regclass)";
const ATTACH_DEFAULT: &str = "SELECT format('ALTER TABLE %s ATTACH PARTITION %s DEFAULT', $1::regclass, $2::regclass)";
const SET_SCHEMA: &str = "SELECT format('ALTER TABLE %s SET SCHEMA %I', $1::regclass, $2)";
const DROP: &str = "
SELECT format('DROP %s %s', CASE WHEN c.relkind = 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, c.oid::regclass)
  FROM pg_class AS c
 WHERE c.oid = $1";

/// Statements that give a partition and its parts the replica identity of their parent, unless they
/// have one of their own: without it, rows of a published table can be neither updated nor moved.
const REPLICA_IDENTITY: &str = "
SELECT format('ALTER TABLE %s REPLICA IDENTITY %s', t.relid,
              CASE p.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING'
                                  ELSE 'USING INDEX ' || quote_ident(i.relname) END)
  FROM pg_class AS p
 CROSS JOIN pg_partition_tree($2::regclass) AS t
  JOIN pg_class AS c ON c.oid = t.relid AND c.relreplident = 'd'
  LEFT JOIN pg_index AS own ON own.indrelid = p.oid AND own.indisreplident
  LEFT JOIN pg_index AS x ON x.indrelid = t.relid
        AND own.indexrelid IN (SELECT a.relid FROM pg_partition_ancestors(x.indexrelid) AS a)
  LEFT JOIN pg_class AS i ON i.oid = x.indexrelid
 WHERE p.oid = $1 AND (p.relreplident IN ('f', 'n') OR p.relreplident = 'i' AND i.oid IS NOT NULL)
 ORDER BY t.level, t.relid";

/// Returns a bound as SQL has it.
fn bound(text: &str) -> String {
    if matches!(text, "MINVALUE" | "MAXVALUE") { text.to_owned() } else { spi::quote_literal(text) }
}

/// Runs the statement that a query composes.
pub(super) fn run_composed(query: &str, arguments: &[DatumWithOid<'_>]) -> Result<(), SqlError> {
    let statement: Option<String> = value(query, arguments)?;
    run(&statement.ok_or_else(|| SqlError::state("a relation does not exist any more"))?, &[])?;
    Ok(())
}

pub(super) fn detach(parent: &Parent, partition: pg_sys::Oid) -> Result<(), SqlError> {
    run_composed(DETACH, &[parent.oid.into(), partition.into()])
}

pub(super) fn attach_default(parent: &Parent, partition: pg_sys::Oid) -> Result<(), SqlError> {
    run_composed(ATTACH_DEFAULT, &[parent.oid.into(), partition.into()])
}

/// Returns the relation that has been created with a name in the parent's schema.
pub(super) fn created(parent: &Parent, name: &str) -> Result<pg_sys::Oid, SqlError> {
    let oid = value(CREATED, &[parent.schema.as_str().into(), name.into()])?;
    oid.ok_or_else(|| SqlError::corrupt(format!("{} does not exist after its creation", parent.qualified(name))))
}

/// A partition that is to be created.
struct Planned<'a> {
    step: &'a PlanStep,
    /// Bounds, as SQL has them.
    from: String,
    to: String,
    /// Condition for its rows.
    condition: String,
    /// The table that is to be attached.
    apart: Option<Apart>,
}

/// A table that others do not see yet, and the rows of the default partition that it has copies of.
struct Apart {
    table: pg_sys::Oid,
    copied: Option<Copied>,
}

/// Creates the partitions of a plan. Rows that wait in the default partition are copied to a table
/// of their own first, which others do not see. Under a lock, they are then deleted from the
/// default partition, and the table is attached: they are never missing and never there twice. They
/// keep their `ingest_xid`, so they do not count as changed. Rows are not locked before the parent
/// is, or a writer that waits for a row would keep the parent. A partition with parts is made
/// before the lock, too.
pub(crate) fn create_partitions(state: &PartitionState, steps: &[&PlanStep]) -> Result<(), SqlError> {
    let (parent, grid) = (&state.parent, &state.policy.grid);
    let mut planned = Vec::new();
    for &step in steps {
        let (Some(from), Some(to)) = (step.from, step.to) else { continue };
        let condition = state.key.condition(grid, from, to);
        let (from, to) = (bound(&grid.print_bound(from)), bound(&grid.print_bound(to)));
        planned.push(Planned { step, from, to, condition, apart: None });
    }
    if planned.is_empty() {
        return Ok(());
    }
    as_owner_of(parent.oid, || {
        move_without_trace(|| {
            require_create(parent)?;
            if let Some(default) = parent.default {
                require_same_owner(parent, default)?;
                let name = relation_name(default)?;
                for planned in planned.iter_mut().filter(|planned| planned.step.has_rows) {
                    if any(&name, &planned.condition, &[])? {
                        require_unpublished(parent, default)?;
                        planned.copy(state, &name)?;
                    }
                }
            }
            for planned in planned.iter_mut().filter(|_| state.hash.is_some()) {
                planned.make_apart(state)?;
            }
            lock_exclusively(&parent.with_default(None))?;
            if let Some(default) = parent.default {
                take_replica_identity(parent, default)?;
            }
            planned.into_iter().try_for_each(|planned| planned.complete(state))
        })
    })
}

const PUBLICATION: &str = "
SELECT p.pubname::text FROM pg_catalog.pg_publication AS p
 WHERE p.pubdelete
   AND EXISTS (SELECT FROM pg_catalog.pg_get_publication_tables(p.pubname) AS t WHERE t.relid IN ($1, $2)) LIMIT 1";

/// Rejects a table whose changes are published: a publication sends that rows are deleted from the
/// default partition, and not that a table with the same rows is attached.
fn require_unpublished(parent: &Parent, default: pg_sys::Oid) -> Result<(), SqlError> {
    let Some(publication): Option<String> = value(PUBLICATION, &[parent.oid.into(), default.into()])? else {
        return Ok(());
    };
    Err(SqlError::state(format!(
        "rows wait in the default partition of {}, and publication {} sends their move as deletions",
        parent.name,
        spi::quote_identifier(&publication)
    ))
    .hint("Take the table out of the publication, run the maintenance, and add it again."))
}

impl Planned<'_> {
    /// Makes the table, unless it is there.
    fn make_apart(&mut self, state: &PartitionState) -> Result<(), SqlError> {
        if self.apart.is_none() {
            self.create(state, CREATE_APART, &[&self.condition])?;
            self.apart = Some(Apart { table: created(&state.parent, &self.step.partition)?, copied: None });
        }
        Ok(())
    }

    /// Makes the table, and copies its rows there.
    fn copy(&mut self, state: &PartitionState, default: &str) -> Result<(), SqlError> {
        self.make_apart(state)?;
        if let Some(apart) = &mut self.apart {
            apart.copied = Some(copy_rows(state.parent.oid, default, &relation_name(apart.table)?, &self.condition)?);
        }
        Ok(())
    }

    /// Makes the table by a statement with the given bounds.
    fn create(&self, state: &PartitionState, statement: &str, bounds: &[&str]) -> Result<(), SqlError> {
        let parent = &state.parent;
        let hash = state.hash.as_ref();
        let by_hash = hash.map(|hash| format!("PARTITION BY HASH ({})", spi::quote_identifier(&hash.column)));
        let mut arguments: Vec<DatumWithOid<'_>> =
            vec![parent.schema.as_str().into(), self.step.partition.as_str().into(), parent.oid.into()];
        arguments.extend(bounds.iter().map(|bound| DatumWithOid::from(*bound)));
        arguments.push(by_hash.unwrap_or_default().into());
        run_composed(statement, &arguments)?;
        let Some(hash) = hash else { return Ok(()) };
        let partition = created(parent, &self.step.partition)?;
        create_parts(parent, partition, &self.step.partition, hash.parts)
    }

    /// Makes the partition, or attaches the table that holds its rows. The parent is locked, so
    /// writers wait for every scan of the default partition: besides the one that deletes the rows,
    /// there is only PostgreSQL's own, which shows that no row of the range is left.
    fn complete(mut self, state: &PartitionState) -> Result<(), SqlError> {
        let parent = &state.parent;
        if self.apart.is_none() {
            let create = || self.create(state, CREATE, &[&self.from, &self.to]).map(Some);
            if attempt(PgSqlErrorCode::ERRCODE_CHECK_VIOLATION, create)?.is_some() {
                return take_replica_identity(parent, created(parent, &self.step.partition)?);
            }
            // Rows of the range have come meanwhile.
            self.make_apart(state)?;
        }
        let Some(Apart { table, copied }) = self.apart.take() else {
            return Err(SqlError::corrupt("the table of a partition was not made"));
        };
        if let (Some(default), Some(copied)) = (parent.default, &copied) {
            self.delete_copied(state, default, table, copied)?;
        }
        let attach = || self.attach(parent, table).map(Some);
        if attempt(PgSqlErrorCode::ERRCODE_CHECK_VIOLATION, attach)?.is_none() {
            self.move_rest(parent, table)?;
            self.attach(parent, table)?;
        }
        run_composed(DROP_RANGE, &[table.into()])?;
        take_replica_identity(parent, table)
    }

    /// Deletes the rows that were copied. If some have changed since, all are moved later.
    fn delete_copied(
        &self,
        state: &PartitionState,
        default: pg_sys::Oid,
        table: pg_sys::Oid,
        copied: &Copied,
    ) -> Result<(), SqlError> {
        let name = relation_name(default)?;
        let replaced =
            attempt(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, || replace_copied(&name, &self.condition, copied))?;
        if replaced.is_none() {
            run(&format!("TRUNCATE {}", relation_name(table)?), &[])?;
            self.move_rest(&state.parent, table)?;
        }
        Ok(())
    }

    /// Moves the rows of the range that are in the default partition.
    fn move_rest(&self, parent: &Parent, table: pg_sys::Oid) -> Result<(), SqlError> {
        let Some(default) = parent.default else { return Ok(()) };
        require_unpublished(parent, default)?;
        let (source, target) = (relation_name(default)?, relation_name(table)?);
        move_rows(parent.oid, (default, &source), (table, &target), &self.condition, &[])?;
        require_moved(&source, &self.condition, &[])
    }

    fn attach(&self, parent: &Parent, table: pg_sys::Oid) -> Result<(), SqlError> {
        let (from, to) = (self.from.as_str(), self.to.as_str());
        run_composed(ATTACH, &[parent.oid.into(), table.into(), from.into(), to.into()])
    }
}

/// Gives a partition the replica identity of its parent.
pub(super) fn take_replica_identity(parent: &Parent, partition: pg_sys::Oid) -> Result<(), SqlError> {
    run_all(REPLICA_IDENTITY, &[parent.oid.into(), partition.into()])
}

/// Runs each of the statements that a query composes.
fn run_all(query: &str, arguments: &[DatumWithOid<'_>]) -> Result<(), SqlError> {
    let mut statements: Vec<String> = Vec::new();
    for_each_row(query, arguments, |row| {
        statements.push(row.required(1)?);
        Ok(())
    })?;
    statements.iter().try_for_each(|statement| run(statement, &[]).map(drop))
}

/// Creates the parts of a partition that is partitioned by hash.
pub(super) fn create_parts(parent: &Parent, partition: pg_sys::Oid, name: &str, parts: u32) -> Result<(), SqlError> {
    let mut taken = parent.taken_names()?;
    for remainder in 0..parts {
        let part = arx_core::partition::free_name(&arx_core::partition::part_name(name, remainder), &taken);
        let arguments = [
            parent.schema.as_str().into(),
            part.as_str().into(),
            partition.into(),
            i64::from(parts).into(),
            i64::from(remainder).into(),
        ];
        run_composed(CREATE_PART, &arguments)?;
        taken.insert(part);
    }
    Ok(())
}

/// Finds the partition of a step: the one that the plan knew, or the one with the planned bounds.
/// One that has other bounds meanwhile, or belongs to another table, is not it.
fn partition_of(state: &PartitionState, step: &PlanStep) -> Result<pg_sys::Oid, SqlError> {
    let planned = Bounds::range(step.from, step.to);
    let (found, _) = partitions(&state.parent, &state.key, step.existing.map(pg_sys::Oid::from_u32))?;
    let found = found
        .into_iter()
        .find(|partition| partition.bounds == planned && partition.is_pending == (step.action == Action::Finalize));
    found.map(|partition| pg_sys::Oid::from_u32(partition.id)).ok_or_else(|| {
        let table = state.parent.qualified(&state.parent.name);
        let bounds = planned.print(&state.policy.grid);
        SqlError::state(format!("{} is no longer the partition of {table} {bounds}", step.partition))
            .hint("Call the function again: it makes a new plan.")
    })
}

/// Detaches, drops or moves a partition that the retention retires.
pub(crate) fn retire(state: &PartitionState, step: &PlanStep) -> Result<(), SqlError> {
    let parent = &state.parent;
    let is_retired = match step.to {
        Some(to) => step.action == state.policy.retention_mode.action() && is_expired(&state.policy, state.now, to)?,
        None => false,
    };
    if !is_retired && step.action != Action::Finalize {
        return Err(SqlError::state(format!("the policy does not retire partition {}", step.partition))
            .hint("Call the function again: it makes a new plan."));
    }
    let partition = partition_of(state, step)?;
    if step.action == Action::Archive {
        require_archived(partition)?;
    }
    lock_exclusively(&parent.with_default(Some(partition)))?;
    // It may have changed before it was locked.
    partition_of(state, step)?;
    as_owner_of(parent.oid, || {
        require_same_owner(parent, partition)?;
        match step.action {
            Action::Detach | Action::Archive => detach(parent, partition),
            Action::Finalize => run_composed(FINALIZE, &[parent.oid.into(), partition.into()]),
            Action::Drop => {
                // A constraint of a table that refers to the parent depends on each partition.
                if is_true(IS_REFERENCED, &[parent.oid.into()])? {
                    detach(parent, partition)?;
                }
                run_composed(DROP, &[partition.into()])
            }
            Action::Move => {
                detach(parent, partition)?;
                let schema = state.retention_schema.as_deref();
                let schema =
                    schema.ok_or_else(|| SqlError::state("the policy names no schema to move partitions to"))?;
                run_composed(SET_SCHEMA, &[partition.into(), schema.into()])
            }
            Action::Create | Action::Quarantine | Action::SetTablespace | Action::Leave | Action::Blocked => {
                Err(SqlError::corrupt("a step that retires no partition cannot retire one"))
            }
        }
    })
}

const IS_REFERENCED: &str = "SELECT EXISTS (SELECT FROM pg_constraint AS f WHERE f.contype = 'f' AND f.confrelid = $1)";

/// True within the transaction that has listed the archive of a partition.
const IS_ARCHIVED: &str = "
SELECT EXISTS (SELECT FROM arx.archived_ranges AS r WHERE r.partition_oid = $1 AND r.archived_at = pg_catalog.now())";

/// Rejects a partition whose archive this transaction has not listed.
fn require_archived(partition: pg_sys::Oid) -> Result<(), SqlError> {
    let table = require_table(c"archived_ranges")?;
    if as_owner_of(table, || is_true(IS_ARCHIVED, &[partition.into()]))? {
        return Ok(());
    }
    Err(SqlError::state(format!("{} is not archived yet", relation_name(partition)?))
        .hint("arx-sidecar maintain archives partitions."))
}

const FINGERPRINT: &str = "SELECT q.fingerprint FROM arx.archive_queries($1) AS q";
const LEAVES: &str = "SELECT t.relid::oid FROM pg_catalog.pg_partition_tree($1) AS t ORDER BY t.level, 1";

/// Keeps others from changing the rows of a partition until the end of the transaction, and returns
/// a text that differs as soon as a row differs from what it was. Readers go on.
pub(crate) fn lock_for_archive(state: &PartitionState, partition: pg_sys::Oid) -> Result<String, SqlError> {
    let parent = &state.parent;
    if !state.inventory.partitions.iter().any(|known| known.id == partition.to_u32()) {
        let partition = relation_name(partition)?;
        return Err(SqlError::state(format!("{partition} is not a partition of {}", parent.name)));
    }
    let mut leaves = Vec::new();
    for_each_row(LEAVES, &[partition.into()], |row| {
        leaves.push(row.required::<pg_sys::Oid>(1)?);
        Ok(())
    })?;
    lock_against_changes(&leaves)?;
    let query: Option<String> = value(FINGERPRINT, &[partition.into()])?;
    let query = query.ok_or_else(|| SqlError::corrupt("a partition has no fingerprint"))?;
    as_owner_of(parent.oid, || {
        let fingerprint: Option<String> = value(&query, &[])?;
        Ok(fingerprint.unwrap_or_default())
    })
}

const SET_TABLESPACE: &str = "
SELECT format('ALTER TABLE %s SET TABLESPACE %I', t.relid, $2)
  FROM pg_partition_tree($1::regclass) AS t
 ORDER BY t.level, t.relid";
const SET_INDEX_TABLESPACE: &str = "
SELECT format('ALTER INDEX %s SET TABLESPACE %I', i.indexrelid::regclass, $2)
  FROM pg_partition_tree($1::regclass) AS t
  JOIN pg_index AS i ON i.indrelid = t.relid
 ORDER BY t.level, i.indexrelid";

/// Moves a partition with its parts and indexes to a tablespace. Its readers wait meanwhile, other
/// partitions are not locked.
pub(crate) fn set_tablespace(state: &PartitionState, step: &PlanStep) -> Result<(), SqlError> {
    let tablespace = step.tablespace.as_deref().unwrap_or_default();
    if !state.policy.tablespaces.iter().any(|(_, named)| named == tablespace) {
        return Err(SqlError::state(format!("the policy names no tablespace \"{tablespace}\"")));
    }
    let partition = partition_of(state, step)?;
    lock_exclusively(&[partition])?;
    as_owner_of(state.parent.oid, || {
        require_same_owner(&state.parent, partition)?;
        let arguments = [partition.into(), tablespace.into()];
        [SET_TABLESPACE, SET_INDEX_TABLESPACE].into_iter().try_for_each(|query| run_all(query, &arguments))
    })
}

const CREATE_QUARANTINE: &str = "
SELECT format('CREATE TABLE IF NOT EXISTS %I.%I (LIKE %s, quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp())',
              $1, $2, $3::regclass)";
const IS_QUARANTINE: &str = "
SELECT EXISTS (SELECT FROM pg_attribute AS a
                WHERE a.attrelid = to_regclass(format('%I.%I', $1, $2)) AND a.attname = 'quarantined_at')";

/// Moves the rows of the default partition whose time cannot be true to a table that is named after
/// the parent, and returns their number. They are deleted from the parent, as by DELETE.
pub(crate) fn quarantine(state: &PartitionState) -> Result<usize, SqlError> {
    let parent = &state.parent;
    let latest = latest(&state.policy, state.now)?;
    let Some(default) = parent.default else { return Ok(0) };
    if !state.policy.quarantine {
        return Err(SqlError::state(format!("the policy of {} quarantines no rows", parent.name)));
    }
    as_owner_of(parent.oid, || {
        require_create(parent)?;
        require_same_owner(parent, default)?;
        let name = quarantine_name(&parent.name);
        let table = [parent.schema.as_str().into(), name.as_str().into(), parent.oid.into()];
        run_composed(CREATE_QUARANTINE, &table)?;
        if !is_true(IS_QUARANTINE, &table[..2])? {
            let name = parent.qualified(&name);
            return Err(SqlError::state(format!("{name} is not a table of quarantined rows")).hint("Rename it."));
        }
        let (source, target) = (relation_name(default)?, parent.qualified(&name));
        let columns = every_column(parent.oid)?;
        let earliest = state.policy.earliest.unwrap_or_else(|| state.key.limits().0);
        let outside = state.key.condition_outside(&state.policy.grid, earliest, latest);
        // Generated columns are copied: LIKE makes ordinary ones of them.
        let moved = run(
            &format!(
                "WITH absurd AS (DELETE FROM {source} WHERE {outside} RETURNING *) \
                 INSERT INTO {target} ({columns}) SELECT {columns} FROM absurd"
            ),
            &[],
        )?;
        Ok(moved)
    })
}

const MAY_INSERT: &str = "SELECT has_table_privilege($1, 'INSERT')";

/// Inserts rows of an archive, as JSON, and returns their number. Generated columns are computed
/// again.
pub(crate) fn restore_rows(state: &PartitionState, rows: Vec<Option<String>>) -> Result<usize, SqlError> {
    let parent = state.parent.oid;
    let table = relation_name(parent)?;
    if !is_true(MAY_INSERT, &[parent.into()])? {
        return Err(SqlError::privilege(format!("no privilege to insert rows into {table}")));
    }
    as_owner_of(parent, || {
        let columns = stored_columns(parent)?;
        let insert = format!(
            "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} \
               FROM unnest($1) AS r (row), json_populate_record(NULL::{table}, r.row::json)"
        );
        run(&insert, &[rows.into()])
    })
}

/// A caller may attach tables of a role that it is a member of, and those that maintenance has
/// detached from this parent.
const MAY_ATTACH: &str = "
SELECT pg_has_role(c.relowner, 'USAGE')
    OR EXISTS (SELECT FROM arx.partition_events AS e
                WHERE e.parent = $1 AND e.partition_oid = c.oid AND e.action IN ('detach', 'move', 'archive') AND e.outcome = 'done')
  FROM pg_class AS c
 WHERE c.oid = $2";

/// Attaches a table as the partition of a range.
pub(crate) fn attach(state: &PartitionState, table: pg_sys::Oid, from: &str, to: &str) -> Result<(), SqlError> {
    let parent = &state.parent;
    if !is_true(MAY_ATTACH, &[parent.oid.into(), table.into()])? {
        let name = relation_name(table)?;
        return Err(SqlError::privilege(format!("{name} was not detached from {} by maintenance", parent.name))
            .hint("Only a member of the role that owns a table may attach it otherwise."));
    }
    as_owner_of(parent.oid, || {
        require_same_owner(parent, table)?;
        lock_exclusively(&parent.with_default(Some(table)))?;
        let (from, to) = (bound(from), bound(to));
        let bounds = [parent.oid.into(), table.into(), from.as_str().into(), to.as_str().into()];
        without_user_triggers(|| run_composed(ATTACH, &bounds))?;
        take_replica_identity(parent, table)
    })
}
