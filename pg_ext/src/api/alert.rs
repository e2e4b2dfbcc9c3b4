//! Alerts about the server.

use arx_core::alert::{AlertSeverity, MissingCause, evaluate};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::call::call;
use super::row::sql_row;
use crate::error::SqlError;
use crate::spi;

sql_row! {
    struct AlertRow {
        alert_type: String,
        message: String,
        severity: String,
        value: Option<f64>,
        threshold: Option<f64>,
    }
}

/// Returns the rules that fired, then the rules whose metric does not exist, with value and
/// threshold NULL. A metric that exists but has no value at present gives no row.
#[pg_extern(stable, parallel_restricted)]
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
    let evaluation = evaluate(&spi::alert_rules()?, &spi::performance_facts()?)?;
    let fired = evaluation.alerts.into_iter().map(|alert| AlertRow {
        alert_type: alert.rule,
        message: alert.message,
        severity: alert.severity.as_str().to_owned(),
        value: Some(alert.value),
        threshold: Some(alert.threshold),
    });
    let missing = evaluation.missing.into_iter().filter(|missing| missing.cause == MissingCause::UnknownMetric);
    let unknown = missing.map(|missing| AlertRow {
        message: missing.to_string(),
        alert_type: missing.rule,
        severity: AlertSeverity::Warning.as_str().to_owned(),
        value: None,
        threshold: None,
    });
    Ok(fired.chain(unknown).collect())
}
