//! The scorecard and the thresholds that the functions apply.

use std::fs;
use std::path::Path;

use arx_core::behaviour::Thresholds;
use arx_udf::{Models, UdfError};

use super::{InstallOptions, input};
use crate::error::{Doing, DoingTo, SidecarError};
use crate::servers::postgres;
use crate::settings::Settings;
use crate::write_back::RuleBook;

const ACTIVE_SCORECARD: &str = "SELECT document::text FROM arx.risk_models WHERE state = 'active'";

/// The documents as text. They are kept as they are: another spelling of a number could be another
/// number.
pub(super) struct Documents {
    pub(super) scorecard: String,
    pub(super) thresholds: String,
}

impl Documents {
    /// Reads the given files, and takes the others from the database or from the compiled-in
    /// defaults.
    pub(super) async fn read(options: &InstallOptions, settings: &Settings) -> Result<Self, SidecarError> {
        let scorecard = options.scorecard.as_deref().map(read_text).transpose()?;
        let thresholds = options.thresholds.as_deref().map(read_text).transpose()?;
        let (scorecard, thresholds) = match (scorecard, thresholds) {
            (Some(scorecard), Some(thresholds)) => (scorecard, thresholds),
            (scorecard, thresholds) => {
                let others =
                    if options.compiled_in { Self::compiled_in()? } else { Self::of_database(settings).await? };
                (scorecard.unwrap_or(others.scorecard), thresholds.unwrap_or(others.thresholds))
            }
        };
        Ok(Self { scorecard, thresholds })
    }

    fn compiled_in() -> Result<Self, SidecarError> {
        let models = Models::compiled_in().map_err(|error| input(&error))?;
        let scorecard = models.scorecard.to_json().map_err(|error| input(&error.into()))?;
        Ok(Self { scorecard, thresholds: json(&models.thresholds)? })
    }

    async fn of_database(settings: &Settings) -> Result<Self, SidecarError> {
        let client = postgres::connect(settings).await?.client;
        let row = client.query_one(ACTIVE_SCORECARD, &[]).await;
        let scorecard = row.and_then(|row| row.try_get(0)).doing("read the active risk model")?;
        Ok(Self { scorecard, thresholds: json(&RuleBook::read(&client).await?.default_rules().thresholds)? })
    }
}

fn json(thresholds: &Thresholds) -> Result<String, SidecarError> {
    serde_json::to_string(thresholds).map_err(|error| input(&UdfError::from(error)))
}

fn read_text(path: &Path) -> Result<String, SidecarError> {
    fs::read_to_string(path).doing_to("read", path)
}
