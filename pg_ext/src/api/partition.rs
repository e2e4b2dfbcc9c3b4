//! Partition plans as rows. `sql/postgres/70_partitions.sql` carries them out.

use arx_core::partition::{PlanStep, cover, plan};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::row::sql_row;
use crate::arguments::required;
use crate::error::SqlError;
use crate::spi::{PartitionState, partition_state};
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
    Ok(TableIterator::new(planned(relation)?.into_iter().map(StepRow::into_row)))
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
    Ok(TableIterator::new(covering(relation, range_from, range_to)?.into_iter().map(StepRow::into_row)))
}

fn planned(relation: Option<&str>) -> Result<Vec<StepRow>, SqlError> {
    let PartitionState { policy, existing, now, waiting } = state(relation)?;
    rows(plan(&policy, &existing, now, &waiting)?)
}

fn covering(
    relation: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
) -> Result<Vec<StepRow>, SqlError> {
    let (from, to) = (required("range_from", from)?, required("range_to", to)?);
    let PartitionState { policy, existing, .. } = state(relation)?;
    rows(cover(&policy, &existing, instant(from)?, instant(to)?)?)
}

fn state(relation: Option<&str>) -> Result<PartitionState, SqlError> {
    partition_state(required("relation", relation)?)
}

fn rows(steps: Vec<PlanStep>) -> Result<Vec<StepRow>, SqlError> {
    let row = |step: PlanStep| {
        Ok(StepRow {
            action: step.action.as_str().to_owned(),
            partition: step.partition,
            range_from: from_instant(step.from)?,
            range_to: from_instant(step.to)?,
            reason: step.reason,
        })
    };
    steps.into_iter().map(row).collect()
}
