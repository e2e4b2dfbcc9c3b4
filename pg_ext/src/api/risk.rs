//! Risk scores.

use arx_core::risk::{Assessment, Model};
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::convert::Wallet;
use crate::error::SqlError;
use crate::spi;

fn assess(address: Option<&str>, network: Option<&str>) -> Result<(Wallet, Model, Assessment), SqlError> {
    let wallet = Wallet::parse(address, network)?;
    let model = Model::compiled_in()?;
    let assessment = model.assess(&spi::wallet_facts(&wallet)?)?;
    Ok((wallet, model, assessment))
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn wallet_risk(
    address: Option<&str>,
    network: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(address, String),
            name!(network, String),
            name!(score, i32),
            name!(band, String),
            name!(state, String),
            name!(model_version, String),
            name!(factors, JsonB),
        ),
    >,
    ErrorReport,
> {
    let (wallet, model, assessment) = assess(address, network)?;
    let factors = serde_json::to_value(&assessment.factors)
        .map_err(|error| SqlError::corrupt(format!("factors cannot be written as JSON: {error}")))?;
    Ok(TableIterator::once((
        wallet.address.into_string(),
        wallet.network.name().to_owned(),
        i32::from(assessment.score.points()),
        assessment.band,
        assessment.state.as_str().to_owned(),
        model.version().to_owned(),
        JsonB(factors),
    )))
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn risk_factors(
    address: Option<&str>,
    network: Option<&str>,
) -> Result<
    TableIterator<'static, (name!(factor, String), name!(points, i32), name!(value, String), name!(detail, String))>,
    ErrorReport,
> {
    let (_, _, assessment) = assess(address, network)?;
    Ok(TableIterator::new(assessment.factors.into_iter().map(|f| (f.factor, f.points, f.value, f.detail))))
}

#[pg_extern(volatile, parallel_unsafe)]
fn refresh_risk_scores() -> Result<i64, ErrorReport> {
    let model = Model::compiled_in().map_err(SqlError::from)?;
    Ok(spi::refresh_scores(|facts| Ok(model.assess(facts)?))?)
}
