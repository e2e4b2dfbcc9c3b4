//! Partition plans, as rows. Nothing here carries one out: that is `sql/postgres/70_partitions.sql`.

use arx_core::partition::{Step, cover, plan};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::convert;
use crate::error::SqlError;
use crate::spi::{self, PartitionState};

type StepRow = (String, String, TimestampWithTimeZone, TimestampWithTimeZone, String);

fn rows(steps: Vec<Step>) -> Result<Vec<StepRow>, SqlError> {
    let row = |step: Step| {
        let (from, to) = (convert::timestamp(step.from)?, convert::timestamp(step.to)?);
        Ok((step.action.as_str().to_owned(), step.partition, from, to, step.reason))
    };
    steps.into_iter().map(row).collect()
}

fn state(relation: Option<&str>) -> Result<PartitionState, SqlError> {
    spi::partition_state(relation.ok_or_else(|| SqlError::null_argument("relation"))?)
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
    let state = state(relation)?;
    let steps = plan(&state.policy, &state.existing, state.now, &state.waiting).map_err(SqlError::from)?;
    Ok(TableIterator::new(rows(steps)?))
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
    let from = range_from.ok_or_else(|| SqlError::null_argument("range_from"))?;
    let to = range_to.ok_or_else(|| SqlError::null_argument("range_to"))?;
    let state = state(relation)?;
    let steps = cover(&state.policy, &state.existing, convert::instant(from)?, convert::instant(to)?);
    Ok(TableIterator::new(rows(steps.map_err(SqlError::from)?)?))
}
