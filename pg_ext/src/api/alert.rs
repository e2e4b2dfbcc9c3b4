//! Alerts about the server.

use arx_core::alert::{MissingCause, Severity, evaluate};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::SqlError;
use crate::spi;

/// Returns the rules that fired, then the rules whose metric does not exist, with value and threshold
/// NULL. A metric that exists but has no value at present gives no row.
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
    let evaluation = evaluate(&spi::alert_rules()?, &spi::performance_facts()?).map_err(SqlError::from)?;
    let fired = evaluation
        .alerts
        .into_iter()
        .map(|a| (a.rule, a.message, a.severity.as_str().to_owned(), Some(a.value), Some(a.threshold)));
    let unknown = evaluation.missing.into_iter().filter(|m| m.cause == MissingCause::UnknownMetric).map(|m| {
        let message = m.to_string();
        (m.rule, message, Severity::Warning.as_str().to_owned(), None, None)
    });
    Ok(TableIterator::new(fired.chain(unknown)))
}
