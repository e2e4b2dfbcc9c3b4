//! Health of the server and of ARX.

use arx_core::alert::{HealthFinding, HealthSeverity, judge_health};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use rustix::fs::statvfs;

use super::call::call;
use super::row::sql_row;
use crate::error::SqlError;
use crate::spi;

sql_row! {
    struct HealthRow {
        name: String,
        object: Option<String>,
        value: Option<f64>,
        threshold: Option<f64>,
        severity: String,
        cause: String,
        statement: Option<String>,
    }
}

/// Returns one row a check, worst first; of a check with several objects, those that are not well.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
pub(crate) fn health_check() -> Result<
    TableIterator<
        'static,
        (
            name!(name, String),
            name!(object, Option<String>),
            name!(value, Option<f64>),
            name!(threshold, Option<f64>),
            name!(severity, String),
            name!(cause, String),
            name!(statement, Option<String>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let rows = judge_health(&spi::health_readings()?).into_iter().map(|finding| {
            let HealthFinding { name, object, value, threshold, severity, cause, statement, is_misnamed: _ } = finding;
            let severity = severity.as_str().to_owned();
            HealthRow { name, object, value, threshold, severity, cause, statement }.into_row()
        });
        Ok(TableIterator::new(rows))
    })
}

sql_row! {
    struct AlertRow {
        alert_type: String,
        message: String,
        severity: String,
        value: Option<f64>,
        threshold: Option<f64>,
    }
}

/// Returns what is wrong now, worst first; then the rules whose metric does not exist, with value
/// and threshold NULL. A metric that exists but has no value at present gives no row.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
pub(crate) fn check_performance_alerts() -> Result<
    TableIterator<
        'static,
        (
            name!(alert_type, String),
            name!(message, String),
            name!(severity, String),
            name!(value, Option<f64>),
            name!(threshold, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    call(|| Ok(TableIterator::new(alerts()?.into_iter().map(AlertRow::into_row))))
}

fn alerts() -> Result<Vec<AlertRow>, SqlError> {
    let readings = spi::health_readings()?;
    let alerts = judge_health(&readings).into_iter().filter_map(|finding| {
        let severity = match finding.severity {
            HealthSeverity::Critical | HealthSeverity::Warning => finding.severity,
            HealthSeverity::Unknown if finding.is_misnamed => HealthSeverity::Warning,
            HealthSeverity::Unknown | HealthSeverity::Info | HealthSeverity::Ok => return None,
        };
        Some(AlertRow {
            alert_type: finding.name,
            message: finding.cause,
            severity: severity.as_str().to_owned(),
            value: finding.value,
            threshold: finding.threshold,
        })
    });
    Ok(alerts.collect())
}

/// Returns the used share and the free bytes of the file system that holds a path, or the reason
/// why they are unknown.
#[pg_extern(volatile, parallel_safe)]
#[allow(clippy::type_complexity)]
pub(crate) fn disk_usage(
    path: &str,
) -> TableIterator<
    'static,
    (name!(used_pct, Option<f64>), name!(free_bytes, Option<f64>), name!(problem, Option<String>)),
> {
    TableIterator::once(match statvfs(path) {
        // As df computes it: blocks that only root may use count neither as used nor as free.
        Ok(disk) => {
            let used = disk.f_blocks.saturating_sub(disk.f_bfree) as f64;
            let free = disk.f_bavail as f64;
            let share = (used + free > 0.0).then(|| 100.0 * used / (used + free));
            (share, Some(free * disk.f_frsize as f64), None)
        }
        Err(error) => (None, None, Some(error.to_string())),
    })
}
