//! Alerts about the server.

use arx_core::alert::evaluate;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::SqlError;
use crate::spi;

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
pub(crate) fn check_performance_alerts() -> Result<
    TableIterator<
        'static,
        (
            name!(alert_type, String),
            name!(message, String),
            name!(severity, String),
            name!(value, f64),
            name!(threshold, f64),
        ),
    >,
    ErrorReport,
> {
    let evaluation = evaluate(&spi::alert_rules()?, &spi::performance_facts()?).map_err(SqlError::from)?;
    Ok(TableIterator::new(
        evaluation
            .alerts
            .into_iter()
            .map(|a| (a.rule, a.message, a.severity.as_str().to_owned(), a.value, a.threshold)),
    ))
}
