//! Scorecards: the shipped one, the check of any, and the features that they may use.

use arx_core::risk::features::{FEATURES, NAMES};
use arx_core::risk::scorecard::Scorecard;
use arx_core::risk::{Monotone, default_scorecard};
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::api::row::sql_row;
use crate::arguments::{JsonArgument, required};
use crate::error::SqlError;

#[pg_extern(immutable, parallel_safe)]
fn default_risk_model() -> Result<JsonB, ErrorReport> {
    Ok(shipped_document()?)
}

fn shipped_document() -> Result<JsonB, SqlError> {
    let document = default_scorecard()?.to_json()?;
    Ok(JsonB(serde_json::from_str(&document).map_err(|error| SqlError::corrupt(error.to_string()))?))
}

#[pg_extern(immutable, parallel_safe)]
fn check_risk_model(document: Option<JsonArgument<'_>>) -> Result<String, ErrorReport> {
    Ok(checked_version(required("document", document)?)?)
}

/// Checks a scorecard and returns its version.
fn checked_version(document: JsonArgument<'_>) -> Result<String, SqlError> {
    let scorecard = Scorecard::from_json(&document.parse("document")?.to_string())?;
    scorecard.bind(&NAMES)?;
    Ok(scorecard.version().to_owned())
}

sql_row! {
    struct FeatureDescriptionRow {
        position: i32,
        feature: String,
        unit: String,
        expected: String,
        by_labels: bool,
        formula: String,
        family: String,
    }
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
    let rows = (1..).zip(FEATURES).map(|(position, feature)| FeatureDescriptionRow {
        position,
        feature: feature.name.to_owned(),
        unit: feature.unit.name().to_owned(),
        expected: match feature.expected {
            Monotone::Free => "any",
            Monotone::Rising => "raises risk",
            Monotone::Falling => "lowers risk",
        }
        .to_owned(),
        by_labels: feature.uses_labels,
        formula: feature.formula.to_owned(),
        family: feature.family.name().to_owned(),
    });
    TableIterator::new(rows.map(FeatureDescriptionRow::into_row))
}
