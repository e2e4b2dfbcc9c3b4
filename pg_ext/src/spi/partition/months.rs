//! Months: creating and retiring their partitions.

use arx_core::partition::{Action, PlanStep};
use pgrx::prelude::*;

use super::super::{for_each_row, run, value};
use super::rows::{IN_RANGE, any, move_rows};
use super::{Parent, bound, relation_name, require_create, require_same_owner};
use crate::error::SqlError;
use crate::moving::move_rows as move_without_trace;
use crate::owner::{as_owner_of, lock_exclusively};
use crate::time::from_instant;

const CREATE: &str = "
SELECT format('CREATE TABLE %I.%I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)', $1, $2, $3::regclass, $4, $5)";
const CREATED: &str = "SELECT to_regclass(format('%I.%I', $1, $2))::oid";
const DETACH: &str = "SELECT format('ALTER TABLE %s DETACH PARTITION %s', $1::regclass, $2::regclass)";
const ATTACH_DEFAULT: &str = "SELECT format('ALTER TABLE %s ATTACH PARTITION %s DEFAULT', $1::regclass, $2::regclass)";
const DROP: &str = "
SELECT format('DROP %s %s', CASE WHEN c.relkind = 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, c.oid::regclass)
  FROM pg_class AS c
 WHERE c.oid = $1";

/// Runs the statement that a query composes.
pub(super) fn run_composed(query: &str, arguments: &[pgrx::datum::DatumWithOid<'_>]) -> Result<(), SqlError> {
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

/// Creates the partition of a month and returns it. A month with rows in the default partition is
/// created while the default partition is detached. The rows move within the transaction, so they
/// are never missing, and keep their `ingest_xid`, so they do not count as changed.
pub(crate) fn create_month(parent: &Parent, step: &PlanStep) -> Result<pg_sys::Oid, SqlError> {
    let (from, to) = (from_instant(step.from)?, from_instant(step.to)?);
    // CREATE TABLE ... PARTITION OF takes both locks, too. The parent comes first, in the order of
    // readers; then no row can be added after the check.
    lock_exclusively(parent.oid)?;
    if let Some(default) = parent.default {
        lock_exclusively(default)?;
    }
    as_owner_of(parent.oid, || {
        move_without_trace(|| {
            require_create(parent)?;
            let mut source = None;
            if let Some(default) = parent.default {
                require_same_owner(parent, default)?;
                let name = relation_name(default)?;
                if any(&name, IN_RANGE, &[from.into(), to.into()])? {
                    detach(parent, default)?;
                    source = Some((default, name));
                }
            }
            let arguments = [
                parent.schema.as_str().into(),
                step.partition.as_str().into(),
                parent.oid.into(),
                from.into(),
                to.into(),
            ];
            run_composed(CREATE, &arguments)?;
            let partition = created(parent, &step.partition)?;
            if let Some((default, name)) = source {
                let target = relation_name(partition)?;
                move_rows(parent.oid, (default, &name), (partition, &target), IN_RANGE, &[from.into(), to.into()])?;
                attach_default(parent, default)?;
            }
            Ok(partition)
        })
    })
}

const PARTITION: &str = "
SELECT r.range_from, r.range_to
  FROM pg_catalog.pg_inherits AS i
 CROSS JOIN LATERAL arx.partition_range(i.inhrelid) AS r
 WHERE i.inhrelid = $1 AND i.inhparent = $2 AND NOT r.is_default";

/// Detaches or drops a partition. One that is not a partition of the parent with the bounds of the
/// plan any more is left alone, which is an error.
pub(crate) fn retire(parent: &Parent, step: &PlanStep, partition: pg_sys::Oid) -> Result<(), SqlError> {
    lock_exclusively(parent.oid)?;
    lock_exclusively(partition)?;
    let mut is_planned = false;
    for_each_row(PARTITION, &[partition.into(), parent.oid.into()], |row| {
        let bounds = (bound(row.required(1)?), bound(row.required(2)?));
        is_planned = bounds == (Some(step.from), Some(step.to));
        Ok(())
    })?;
    if !is_planned {
        let (table, month) = (relation_name(parent.oid)?, &step.partition);
        let message = format!("{month} is no longer the partition of {table} from {} to {}", step.from, step.to);
        return Err(SqlError::state(message).hint("Call the function again: it makes a new plan."));
    }
    as_owner_of(parent.oid, || match step.action {
        Action::Detach => detach(parent, partition),
        Action::Drop => run_composed(DROP, &[partition.into()]),
        Action::Create => Err(SqlError::corrupt("a step that creates a partition cannot retire one")),
    })
}
