//! Scorecards: the one compiled in, the check of any, and what they may look at.

use arx_core::risk::features::{FEATURES, NAMES};
use arx_core::risk::scorecard::Scorecard;
use arx_core::risk::{Monotone, compiled_in};
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::SqlError;

#[pg_extern(immutable, parallel_safe)]
fn default_risk_model() -> Result<JsonB, ErrorReport> {
    let scorecard = compiled_in().map_err(SqlError::from)?;
    let document = scorecard.to_json().map_err(SqlError::from)?;
    Ok(JsonB(serde_json::from_str(&document).map_err(|error| SqlError::corrupt(error.to_string()))?))
}

#[pg_extern(immutable, parallel_safe)]
fn check_risk_model(document: Option<JsonB>) -> Result<String, ErrorReport> {
    let document = document.ok_or_else(|| SqlError::null_argument("document"))?;
    let scorecard = Scorecard::from_json(&document.0.to_string()).map_err(SqlError::from)?;
    scorecard.bind(&NAMES).map_err(SqlError::from)?;
    Ok(scorecard.version().to_owned())
}

#[pg_extern(immutable, parallel_safe)]
#[allow(clippy::type_complexity)]
fn risk_features() -> TableIterator<
    'static,
    (
        name!(position, i32),
        name!(feature, String),
        name!(unit, String),
        name!(expected, String),
        name!(by_labels, bool),
        name!(formula, String),
        name!(family, String),
    ),
> {
    TableIterator::new((1..).zip(FEATURES).map(|(position, feature)| {
        let expected = match feature.expected {
            Monotone::Free => "any",
            Monotone::Rising => "raises risk",
            Monotone::Falling => "lowers risk",
        };
        let (name, unit) = (feature.name.to_owned(), feature.unit.name().to_owned());
        let (formula, family) = (feature.formula.to_owned(), feature.family.name().to_owned());
        (position, name, unit, expected.to_owned(), feature.by_labels, formula, family)
    }))
}
