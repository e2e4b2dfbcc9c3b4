//! Partitions: plans as rows, and carrying them out.
//!
//! A role that may call a function may change the partitions of ARX's tables by it, but never
//! chooses the statements: `spi` runs them as the owner of the table.

use std::ffi::CStr;

use arx_core::partition::{Action, Bounds, PlanStep, cover, plan};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::call::call;
use super::row::sql_row;
use crate::arguments::{registered_network, required};
use crate::error::SqlError;
use crate::owner::{with_lock_timeout, with_read_timeout};
use crate::snapshot::require_table;
use crate::spi;
use crate::spi::{
    PartitionState, attach, create_partitions, lock_partitions, quarantine, retire, set_tablespace, split_by_hash,
};
use crate::time::{from_instant, instant};

sql_row! {
    struct StepRow {
        action: String,
        partition: String,
        range_from: Option<TimestampWithTimeZone>,
        range_to: Option<TimestampWithTimeZone>,
        reason: String,
        bounds: String,
        name: String,
        partition_oid: Option<pg_sys::Oid>,
        key_from: Option<i64>,
        key_to: Option<i64>,
        has_rows: bool,
        tablespace: Option<String>,
    }
}

impl StepRow {
    fn of(state: &PartitionState, step: PlanStep) -> Result<Self, SqlError> {
        let grid = &state.policy.grid;
        let existing = step.existing.and_then(|partition| state.name_of(partition)).map(str::to_owned);
        let default = || state.default_name().unwrap_or_default().to_owned();
        let partition = match step.action {
            Action::Leave if step.existing.is_none() => default(),
            _ => existing.unwrap_or_else(|| state.parent.qualified(&step.partition)),
        };
        let time = |key: Option<i64>| key.and_then(|key| grid.time(key)).map(from_instant).transpose();
        let bounds = Bounds::range(step.from, step.to);
        let is_range = step.from.is_some() || step.to.is_some();
        Ok(Self {
            action: step.action.as_str().to_owned(),
            partition,
            range_from: time(step.from)?,
            range_to: time(step.to)?,
            reason: step.reason,
            bounds: if is_range { bounds.print(grid) } else { Bounds::Default.print(grid) },
            name: step.partition,
            partition_oid: step.existing.map(pg_sys::Oid::from_u32),
            key_from: step.from,
            key_to: step.to,
            has_rows: step.has_rows,
            tablespace: step.tablespace,
        })
    }
}

#[pg_extern(sql = r#"
CREATE FUNCTION planned_steps(parent regclass)
    RETURNS TABLE (action text, partition text, range_from timestamptz, range_to timestamptz, reason text, bounds text,
                   name text, partition_oid oid, key_from bigint, key_to bigint, has_rows boolean, tablespace text)
    LANGUAGE c STABLE PARALLEL RESTRICTED
    AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
#[allow(clippy::type_complexity)]
pub(crate) fn planned_steps(
    parent: Option<pg_sys::Oid>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(action, String),
            name!(partition, String),
            name!(range_from, Option<TimestampWithTimeZone>),
            name!(range_to, Option<TimestampWithTimeZone>),
            name!(reason, String),
            name!(bounds, String),
            name!(name, String),
            name!(partition_oid, Option<pg_sys::Oid>),
            name!(key_from, Option<i64>),
            name!(key_to, Option<i64>),
            name!(has_rows, bool),
            name!(tablespace, Option<String>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let parent = required_relation("parent", parent, c"transactions")?;
        let rows = with_read_timeout(|| {
            let state = PartitionState::required(parent)?;
            let steps = plan(&state.policy, &state.inventory, state.now, &state.waiting()?)?;
            steps.into_iter().map(|step| StepRow::of(&state, step)).collect::<Result<Vec<_>, _>>()
        })?;
        Ok(TableIterator::new(rows.into_iter().map(StepRow::into_row)))
    })
}

#[pg_extern(sql = r#"
CREATE FUNCTION partition_cover(parent regclass, range_from timestamptz, range_to timestamptz)
    RETURNS TABLE (action text, partition text, range_from timestamptz, range_to timestamptz, reason text)
    LANGUAGE c STABLE PARALLEL RESTRICTED
    AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
#[allow(clippy::type_complexity)]
pub(crate) fn partition_cover(
    parent: Option<pg_sys::Oid>,
    range_from: Option<TimestampWithTimeZone>,
    range_to: Option<TimestampWithTimeZone>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(action, String),
            name!(partition, String),
            name!(range_from, Option<TimestampWithTimeZone>),
            name!(range_to, Option<TimestampWithTimeZone>),
            name!(reason, String),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let parent = required_relation("parent", parent, c"transactions")?;
        let rows = with_read_timeout(|| {
            let state = PartitionState::required(parent)?;
            let steps = covering(&state, Range::Times(range_from, range_to))?;
            steps.into_iter().map(|step| StepRow::of(&state, step)).collect::<Result<Vec<_>, _>>()
        })?;
        Ok(TableIterator::new(rows.into_iter().map(
            |StepRow { action, partition, range_from, range_to, reason, .. }| {
                (action, partition, range_from, range_to, reason)
            },
        )))
    })
}

#[pg_extern(sql = r#"
CREATE FUNCTION ensure_partitions(relation regclass, range_from timestamptz, range_to timestamptz) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
pub(crate) fn ensure_partitions(
    relation: Option<pg_sys::Oid>,
    range_from: Option<TimestampWithTimeZone>,
    range_to: Option<TimestampWithTimeZone>,
) -> Result<i32, ErrorReport> {
    ensure(relation, Range::Times(range_from, range_to))
}

#[pg_extern(sql = r#"
CREATE FUNCTION ensure_integer_partitions(relation regclass, range_from bigint, range_to bigint) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
pub(crate) fn ensure_integer_partitions(
    relation: Option<pg_sys::Oid>,
    range_from: Option<i64>,
    range_to: Option<i64>,
) -> Result<i32, ErrorReport> {
    ensure(relation, Range::Keys(range_from, range_to))
}

#[pg_extern(sql = r#"
CREATE FUNCTION partition_step(
    parent regclass, action text, name text, partition_oid oid, key_from bigint, key_to bigint, tablespace text
) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
pub(crate) fn partition_step(
    parent: Option<pg_sys::Oid>,
    action: Option<&str>,
    name: Option<&str>,
    partition_oid: Option<pg_sys::Oid>,
    key_from: Option<i64>,
    key_to: Option<i64>,
    tablespace: Option<String>,
) -> Result<i64, ErrorReport> {
    let parent = required_relation("parent", parent, c"transactions")?;
    let (action, name) = (required("action", action)?, required("name", name)?);
    let action = Action::ALL
        .into_iter()
        .find(|known| known.as_str() == action)
        .ok_or_else(|| SqlError::argument(format!("action \"{action}\" of a partition plan does not exist")))?;
    lock_partitions()?;
    let state = with_read_timeout(|| PartitionState::required(parent))?;
    let rows = with_lock_timeout(|| {
        let step = PlanStep {
            action,
            partition: name.to_owned(),
            existing: partition_oid.map(pg_sys::Oid::to_u32),
            from: key_from,
            to: key_to,
            has_rows: true,
            tablespace,
            reason: String::new(),
        };
        carry_out(&state, step)
    })?;
    Ok(rows)
}

#[pg_extern(sql = r#"
CREATE FUNCTION lock_for_archive(parent regclass, partition regclass) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
pub(crate) fn lock_for_archive(
    parent: Option<pg_sys::Oid>,
    partition: Option<pg_sys::Oid>,
) -> Result<String, ErrorReport> {
    let (parent, partition) = (required("parent", parent)?, required("partition", partition)?);
    lock_partitions()?;
    let fingerprint = with_lock_timeout(|| spi::lock_for_archive(&PartitionState::required(parent)?, partition))?;
    Ok(fingerprint)
}

#[pg_extern(sql = r#"
CREATE FUNCTION restore_archived_rows(parent regclass, rows text[]) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
pub(crate) fn restore_archived_rows(
    parent: Option<pg_sys::Oid>,
    rows: Option<Vec<Option<String>>>,
) -> Result<i64, ErrorReport> {
    let (parent, rows) = (required("parent", parent)?, required("rows", rows)?);
    let restored = spi::restore_rows(&PartitionState::required(parent)?, rows)?;
    Ok(i64::try_from(restored).unwrap_or(i64::MAX))
}

#[pg_extern(sql = r#"
CREATE FUNCTION attach_range(parent regclass, partition regclass, range_from text, range_to text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
pub(crate) fn attach_range(
    parent: Option<pg_sys::Oid>,
    partition: Option<pg_sys::Oid>,
    range_from: Option<&str>,
    range_to: Option<&str>,
) -> Result<(), ErrorReport> {
    let (parent, partition) = (required("parent", parent)?, required("partition", partition)?);
    let (from, to) = (required("range_from", range_from)?, required("range_to", range_to)?);
    lock_partitions()?;
    with_lock_timeout(|| attach(&PartitionState::required(parent)?, partition, from, to))?;
    Ok(())
}

#[pg_extern(sql = r#"
CREATE FUNCTION create_hash_partitions(
    relation regclass DEFAULT to_regclass('arx.wallet_profiles'), partitions integer DEFAULT 8, network text DEFAULT NULL
) RETURNS TABLE (network_type text, partition text, moved_rows bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
#[allow(clippy::type_complexity)]
pub(crate) fn create_hash_partitions(
    relation: Option<pg_sys::Oid>,
    partitions: Option<i32>,
    network: Option<&str>,
) -> Result<
    TableIterator<'static, (name!(network_type, Option<String>), name!(partition, String), name!(moved_rows, i64))>,
    ErrorReport,
> {
    let relation = required_relation("relation", relation, c"wallet_profiles")?;
    let partitions = required("partitions", partitions)?;
    let parts = u32::try_from(partitions).ok().filter(|parts| (1..=1024).contains(parts)).ok_or_else(|| {
        SqlError::argument(format!("number of partitions must be between 1 and 1024, not {partitions}"))
    })?;
    let network = network.map(|network| registered_network(Some(network))).transpose()?;
    let splits = split_by_hash(relation, network.as_ref(), parts)?;
    let row = |split: spi::Split| (split.network, split.partition, split.moved_rows);
    Ok(TableIterator::new(splits.into_iter().map(row)))
}

/// Returns true inside a transaction block, where a procedure cannot commit.
#[pg_extern(stable, parallel_restricted)]
#[allow(unsafe_code, reason = "reads the state of the transaction")]
pub(crate) fn in_transaction_block() -> bool {
    // SAFETY: Reads the state of this backend's transaction.
    unsafe { pg_sys::IsTransactionBlock() }
}

/// Returns the argument. It is null by default where the table does not exist.
fn required_relation(name: &str, relation: Option<pg_sys::Oid>, default: &CStr) -> Result<pg_sys::Oid, SqlError> {
    if relation.is_none() {
        require_table(default)?;
    }
    required(name, relation)
}

/// A range that is asked for.
enum Range {
    Times(Option<TimestampWithTimeZone>, Option<TimestampWithTimeZone>),
    Keys(Option<i64>, Option<i64>),
}

fn covering(state: &PartitionState, range: Range) -> Result<Vec<PlanStep>, SqlError> {
    let grid = &state.policy.grid;
    let (from, to) = match range {
        Range::Times(from, to) => {
            let (from, to) = (required("range_from", from)?, required("range_to", to)?);
            match (grid.key(instant(from)?), grid.key(instant(to)?)) {
                (Some(from), Some(to)) => (from, to),
                _ => {
                    return Err(SqlError::argument("the table is partitioned by integers, not by time")
                        .hint("arx.ensure_integer_partitions() takes integers."));
                }
            }
        }
        Range::Keys(from, to) if state.key.is_number() => (required("range_from", from)?, required("range_to", to)?),
        Range::Keys(..) => {
            return Err(SqlError::argument("the table is partitioned by time, not by integers")
                .hint("arx.ensure_partitions() takes timestamps."));
        }
    };
    Ok(cover(&state.policy, &state.inventory, from, to)?)
}

fn ensure(relation: Option<pg_sys::Oid>, range: Range) -> Result<i32, ErrorReport> {
    let relation = required_relation("relation", relation, c"transactions")?;
    // A concurrent call waits, and then has nothing left to do.
    lock_partitions()?;
    let state = with_read_timeout(|| PartitionState::required(relation))?;
    let created = with_lock_timeout(|| {
        let steps = covering(&state, range)?;
        create_partitions(&state, &steps.iter().collect::<Vec<_>>())?;
        Ok(steps.len())
    })?;
    // A plan has at most a few thousand steps.
    Ok(created as i32)
}

/// Carries out a step that the policy still requires, and returns the number of rows that it has
/// quarantined.
fn carry_out(state: &PartitionState, step: PlanStep) -> Result<i64, SqlError> {
    match step.action {
        Action::Create => {
            let (Some(from), Some(to)) = (step.from, step.to) else {
                return Err(SqlError::argument("a partition that is created needs both bounds"));
            };
            if !state.policy.grid.is_cell(from, to) {
                return Err(SqlError::argument(format!("{from} to {to} is no range of the policy")));
            }
            // Another call may have created it meanwhile, or taken its name.
            let first = from.max(state.policy.grid.extent().0);
            for missing in cover(&state.policy, &state.inventory, first, first)? {
                create_partitions(state, &[&missing])?;
            }
            Ok(0)
        }
        Action::Quarantine => Ok(i64::try_from(quarantine(state)?).unwrap_or(i64::MAX)),
        Action::SetTablespace => set_tablespace(state, &step).map(|()| 0),
        Action::Detach | Action::Drop | Action::Move | Action::Archive | Action::Finalize => {
            retire(state, &step).map(|()| 0)
        }
        Action::Leave | Action::Blocked => {
            Err(SqlError::argument(format!("action \"{}\" of a partition plan cannot be carried out", step.action)))
        }
    }
}
