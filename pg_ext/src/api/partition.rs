//! Partitions: plans as rows, and carrying them out.
//!
//! A role that may call a function may change the partitions of ARX's tables by it, but never
//! chooses the statements: `spi` runs them as the owner of the table.

use std::collections::HashMap;
use std::ffi::CStr;

use arx_core::partition::{Action, PlanStep, cover, plan};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::call::call;
use super::row::sql_row;
use crate::arguments::{registered_network, required};
use crate::error::SqlError;
use crate::owner::with_lock_timeout;
use crate::snapshot::require_table;
use crate::spi::{
    PartitionState, Table, Waiting, create_month, lock_partitions, partition_state, retire, split_by_hash, waiting,
};
use crate::time::{from_instant, instant};

sql_row! {
    struct StepRow {
        action: String,
        partition: String,
        range_from: TimestampWithTimeZone,
        range_to: TimestampWithTimeZone,
        reason: String,
    }
}

sql_row! {
    struct ManagedRow {
        action: String,
        partition: String,
        range_from: TimestampWithTimeZone,
        range_to: TimestampWithTimeZone,
        reason: String,
        done: bool,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
pub(crate) fn partition_plan(
    relation: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(action, String),
            name!(partition, String),
            name!(range_from, TimestampWithTimeZone),
            name!(range_to, TimestampWithTimeZone),
            name!(reason, String),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let rows = with_lock_timeout(|| Plan::of(Table::named(required("relation", relation)?)?)?.rows())?;
        Ok(TableIterator::new(rows.into_iter().map(StepRow::into_row)))
    })
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
pub(crate) fn partition_cover(
    relation: Option<&str>,
    range_from: Option<TimestampWithTimeZone>,
    range_to: Option<TimestampWithTimeZone>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(action, String),
            name!(partition, String),
            name!(range_from, TimestampWithTimeZone),
            name!(range_to, TimestampWithTimeZone),
            name!(reason, String),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let rows = with_lock_timeout(|| {
            Plan::covering(Table::named(required("relation", relation)?)?, range_from, range_to)?.rows()
        })?;
        Ok(TableIterator::new(rows.into_iter().map(StepRow::into_row)))
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
    let table = Table::of(required_relation(relation, c"transactions")?)?;
    // A concurrent call waits, and then has nothing left to do.
    lock_partitions()?;
    let plan = with_lock_timeout(|| {
        let plan = Plan::covering(table, range_from, range_to)?;
        plan.carry_out()?;
        Ok(plan)
    })?;
    // A plan has at most a few thousand steps.
    Ok(plan.steps.len() as i32)
}

#[pg_extern(sql = r#"
CREATE FUNCTION manage_partitions(relation regclass DEFAULT to_regclass('arx.transactions'), dry_run boolean DEFAULT false)
    RETURNS TABLE (action text, partition text, range_from timestamptz, range_to timestamptz, reason text, done boolean)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
#[allow(clippy::type_complexity)]
pub(crate) fn manage_partitions(
    relation: Option<pg_sys::Oid>,
    dry_run: Option<bool>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(action, String),
            name!(partition, String),
            name!(range_from, TimestampWithTimeZone),
            name!(range_to, TimestampWithTimeZone),
            name!(reason, String),
            name!(done, bool),
        ),
    >,
    ErrorReport,
> {
    let table = Table::of(required_relation(relation, c"transactions")?)?;
    let dry_run = required("dry_run", dry_run)?;
    let rows = managed(table, dry_run)?.ok_or_else(|| SqlError::no_policy(table.name()))?;
    Ok(TableIterator::new(rows.into_iter().map(ManagedRow::into_row)))
}

#[pg_extern]
#[allow(clippy::type_complexity)]
pub(crate) fn run_partition_maintenance(
    dry_run: default!(Option<bool>, false),
) -> Result<
    TableIterator<
        'static,
        (
            name!(relation, String),
            name!(action, String),
            name!(partition, String),
            name!(range_from, TimestampWithTimeZone),
            name!(range_to, TimestampWithTimeZone),
            name!(reason, String),
            name!(done, bool),
        ),
    >,
    ErrorReport,
> {
    let dry_run = required("dry_run", dry_run)?;
    let mut all = Vec::new();
    for table in Table::ALL {
        all.extend(managed(table, dry_run)?.unwrap_or_default().into_iter().map(|row| {
            let (action, partition, range_from, range_to, reason, done) = row.into_row();
            (table.name().to_owned(), action, partition, range_from, range_to, reason, done)
        }));
    }
    Ok(TableIterator::new(all))
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
    TableIterator<'static, (name!(network_type, String), name!(partition, String), name!(moved_rows, i64))>,
    ErrorReport,
> {
    let relation = required_relation(relation, c"wallet_profiles")?;
    let partitions = required("partitions", partitions)?;
    let parts = u32::try_from(partitions).ok().filter(|parts| (1..=1024).contains(parts)).ok_or_else(|| {
        SqlError::argument(format!("number of partitions must be between 1 and 1024, not {partitions}"))
    })?;
    let network = network.map(|network| registered_network(Some(network))).transpose()?;
    let splits = split_by_hash(relation, network.as_ref(), parts)?;
    let row = |split: crate::spi::Split| (split.network, split.partition, split.moved_rows as i64);
    Ok(TableIterator::new(splits.into_iter().map(row)))
}

/// Returns the argument. It is null by default where the table does not exist.
fn required_relation(relation: Option<pg_sys::Oid>, default: &CStr) -> Result<pg_sys::Oid, SqlError> {
    if relation.is_none() {
        require_table(default)?;
    }
    required("relation", relation)
}

/// Steps for a table, and rows that are left where they are.
struct Plan {
    state: PartitionState,
    steps: Vec<PlanStep>,
    waiting: Waiting,
}

impl Plan {
    fn of(table: Table) -> Result<Self, SqlError> {
        Self::if_managed(table)?.ok_or_else(|| SqlError::no_policy(table.name()))
    }

    /// Plans by the policy of a table, or returns `None` if it has none.
    fn if_managed(table: Table) -> Result<Option<Self>, SqlError> {
        let Some(state) = partition_state(table)? else { return Ok(None) };
        let waiting = waiting(table, &state.parent)?;
        let steps = plan(&state.policy, &state.inventory, state.now, &waiting.months)?;
        Ok(Some(Self { state, steps, waiting }))
    }

    fn covering(
        table: Table,
        from: Option<TimestampWithTimeZone>,
        to: Option<TimestampWithTimeZone>,
    ) -> Result<Self, SqlError> {
        let (from, to) = (required("range_from", from)?, required("range_to", to)?);
        let state = partition_state(table)?.ok_or_else(|| SqlError::no_policy(table.name()))?;
        let steps = cover(&state.policy, &state.inventory, instant(from)?, instant(to)?)?;
        Ok(Self { state, steps, waiting: Waiting::default() })
    }

    fn carry_out(&self) -> Result<(), SqlError> {
        let mut created = HashMap::new();
        for step in &self.steps {
            if step.action == Action::Create {
                created.insert(step.partition.as_str(), create_month(&self.state.parent, step)?);
                continue;
            }
            let partition = step.existing.map(pg_sys::Oid::from_u32);
            let partition = partition.or_else(|| created.get(step.partition.as_str()).copied());
            let partition =
                partition.ok_or_else(|| SqlError::corrupt("a plan retires a partition it does not know"))?;
            retire(&self.state.parent, step, partition)?;
        }
        Ok(())
    }

    fn rows(&self) -> Result<Vec<StepRow>, SqlError> {
        let mut rows = Vec::with_capacity(self.steps.len() + 1);
        for step in &self.steps {
            let existing = step.existing.and_then(|partition| self.state.name_of(partition)).map(str::to_owned);
            rows.push(StepRow {
                action: step.action.as_str().to_owned(),
                partition: existing.unwrap_or_else(|| self.state.parent.qualified(&step.partition)),
                range_from: from_instant(step.from)?,
                range_to: from_instant(step.to)?,
                reason: step.reason.clone(),
            });
        }
        if let Some(misfits) = &self.waiting.misfits {
            rows.push(StepRow {
                action: "leave".to_owned(),
                partition: self.state.default_name().unwrap_or_default().to_owned(),
                range_from: TimestampWithTimeZone::negative_infinity(),
                range_to: TimestampWithTimeZone::positive_infinity(),
                reason: misfits.to_string(),
            });
        }
        Ok(rows)
    }
}

/// Plans for a table, and carries the plan out unless it is only to be shown. A table without a
/// policy is left alone.
fn managed(table: Table, dry_run: bool) -> Result<Option<Vec<ManagedRow>>, SqlError> {
    if !dry_run {
        lock_partitions()?;
    }
    with_lock_timeout(|| {
        let Some(plan) = Plan::if_managed(table)? else { return Ok(None) };
        if !dry_run {
            plan.carry_out()?;
        }
        let steps = plan.steps.len();
        let row = |(index, StepRow { action, partition, range_from, range_to, reason }): (usize, StepRow)| {
            // What follows the steps is left as it is.
            ManagedRow { action, partition, range_from, range_to, reason, done: !dry_run && index < steps }
        };
        Ok(Some(plan.rows()?.into_iter().enumerate().map(row).collect()))
    })
}
