//! The scorecard, calibrations and thresholds that the functions apply.

use std::fs;
use std::path::Path;

use arx_core::risk::scorecard::Points;
use arx_core::risk::{Calibration, Calibrations};
use arx_udf::{Models, UdfError};
use serde::Serialize;
use tokio_postgres::Client;

use super::{InstallOptions, input};
use crate::error::{Doing, DoingTo, SidecarError};
use crate::servers::postgres;
use crate::settings::Settings;
use crate::write_back::RuleBook;

const ACTIVE_SCORECARD: &str = "SELECT document::text FROM arx.risk_models WHERE state = 'active'";

const CALIBRATIONS: &str = "SELECT network, prevalence, (medium_from * 10)::int4, (high_from * 10)::int4, \
    (severe_from * 10)::int4 FROM arx.risk_calibration";

/// The documents as text. They are kept as they are: another spelling of a number could be another
/// number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Documents {
    pub(super) scorecard: String,
    pub(super) calibration: String,
    pub(super) thresholds: String,
}

impl Documents {
    /// Reads the given files, and takes the others from the database or from the compiled-in
    /// defaults.
    pub(super) async fn read(options: &InstallOptions, settings: &Settings) -> Result<Self, SidecarError> {
        let scorecard = options.scorecard.as_deref().map(read_text).transpose()?;
        let thresholds = options.thresholds.as_deref().map(read_text).transpose()?;
        let calibration = options.calibration.as_deref().map(read_text).transpose()?;
        match (scorecard, calibration, thresholds) {
            (Some(scorecard), Some(calibration), Some(thresholds)) => Ok(Self { scorecard, calibration, thresholds }),
            (scorecard, calibration, thresholds) => {
                let others =
                    if options.compiled_in { Self::compiled_in()? } else { Self::of_database(settings).await? };
                Ok(Self {
                    scorecard: scorecard.unwrap_or(others.scorecard),
                    calibration: calibration.unwrap_or(others.calibration),
                    thresholds: thresholds.unwrap_or(others.thresholds),
                })
            }
        }
    }

    fn compiled_in() -> Result<Self, SidecarError> {
        let models = Models::compiled_in().map_err(|error| input(&error))?;
        let scorecard = models.scorecard.to_json().map_err(|error| input(&error.into()))?;
        Ok(Self { scorecard, calibration: json(&models.calibrations)?, thresholds: json(&models.thresholds)? })
    }

    /// Reads the documents of the database.
    pub(super) async fn of_database(settings: &Settings) -> Result<Self, SidecarError> {
        let client = postgres::connect(settings).await?.client;
        let row = client.query_one(ACTIVE_SCORECARD, &[]).await;
        let scorecard = row.and_then(|row| row.try_get(0)).doing("read the active risk model")?;
        let calibration = json(&calibrations(&client).await?)?;
        let thresholds = json(&RuleBook::read(&client).await?.default_rules().thresholds)?;
        Ok(Self { scorecard, calibration, thresholds })
    }
}

/// Reads the calibrations of all networks.
async fn calibrations(client: &Client) -> Result<Calibrations, SidecarError> {
    const DOING: &str = "read the calibrations of networks";
    let mut calibrations = Vec::new();
    for row in client.query(CALIBRATIONS, &[]).await.doing(DOING)? {
        let network: String = row.try_get(0).doing(DOING)?;
        let prevalence: f64 = row.try_get(1).doing(DOING)?;
        let mut thresholds = [Points::default(); 3];
        for (column, threshold) in (2..).zip(&mut thresholds) {
            *threshold = Points::from_tenths(row.try_get(column).doing(DOING)?);
        }
        let calibration = Calibration::new(prevalence, Some(thresholds))
            .map_err(|error| SidecarError::Input { detail: format!("network {network}: {error}") })?;
        calibrations.push((network, calibration));
    }
    Ok(calibrations.into_iter().collect())
}

fn json(document: &impl Serialize) -> Result<String, SidecarError> {
    serde_json::to_string(document).map_err(|error| input(&UdfError::from(error)))
}

fn read_text(path: &Path) -> Result<String, SidecarError> {
    fs::read_to_string(path).doing_to("read", path)
}
