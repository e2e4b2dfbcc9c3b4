//! Series of values over time.

use lttb::{DataPoint, lttb};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::arguments::required;
use crate::error::{SqlError, or_report};
use crate::memory::reserve;
use crate::time::from_micros;

/// The points of a series that keep its shape in a plot, by Largest Triangle Three Buckets
/// (Steinarsson, "Downsampling Time Series for Visual Representation", 2013). O(n).
#[pg_extern(immutable, parallel_safe)]
fn downsample(
    times: Option<Array<'_, TimestampWithTimeZone>>,
    values: Option<Array<'_, f64>>,
    points: Option<i32>,
) -> Result<TableIterator<'static, (name!(at, TimestampWithTimeZone), name!(value, f64))>, ErrorReport> {
    let kept = or_report(kept_points(times, values, points));
    let rows: Vec<_> = kept.into_iter().map(|(micros, value)| (or_report(from_micros(micros)), value)).collect();
    Ok(TableIterator::new(rows))
}

fn kept_points(
    times: Option<Array<'_, TimestampWithTimeZone>>,
    values: Option<Array<'_, f64>>,
    points: Option<i32>,
) -> Result<Vec<(i64, f64)>, SqlError> {
    let (times, values, points) = (required("times", times)?, required("values", values)?, required("points", points)?);
    // The algorithm keeps the first and the last point, and one of each group between.
    let points = usize::try_from(points)
        .ok()
        .filter(|points| *points >= 3)
        .ok_or_else(|| SqlError::argument(format!("points must be at least 3, not {points}")))?;
    if times.len() != values.len() {
        let (times, values) = (times.len(), values.len());
        return Err(SqlError::argument(format!(
            "there are {times} times and {values} values: pass one of each a point"
        )));
    }
    let mut all: Vec<(i64, f64)> = Vec::new();
    reserve(&mut all, times.len())?;
    for (index, (time, value)) in times.iter().zip(values.iter()).enumerate() {
        let (Some(time), Some(value)) = (time, value) else {
            return Err(SqlError::null_argument(&format!("point {}", index + 1)));
        };
        let micros = time.into_inner();
        if !value.is_finite() || time.is_infinity() || time.is_neg_infinity() {
            return Err(SqlError::argument(format!("point {} is not finite", index + 1)));
        }
        if all.last().is_some_and(|(last, _)| *last >= micros) {
            return Err(SqlError::argument(format!("the time of point {} is not after the one before", index + 1)));
        }
        all.push((micros, value));
    }
    let Some((first, _)) = all.first().copied() else { return Ok(Vec::new()) };
    let mut plotted = Vec::new();
    reserve(&mut plotted, all.len())?;
    plotted.extend(all.iter().map(|(micros, value)| DataPoint::new((micros - first) as f64, *value)));
    // What is kept is in order: each point is found after the one before.
    let mut rest = all.into_iter();
    let kept = lttb(plotted, points);
    Ok(kept.iter().filter_map(|point| rest.find(|(micros, _)| (micros - first) as f64 == point.x)).collect())
}
