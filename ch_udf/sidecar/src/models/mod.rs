//! Risk scores outside the database: fitting the shipped scorecard, scoring a graph read from
//! files, and reporting on scorecards in use.
//!
//! Owns files and pages. Features, scorecards and fitting belong to [`arx_core::risk`].

mod files;
mod fitting;
pub(crate) mod output;
pub(crate) mod report;
mod scoring;

use std::path::Path;

use arx_core::address::AddressError;
use arx_core::graph::{BuildError, Damaged, OutOfMemory};
use arx_core::risk::scorecard::Scorecard;
use thiserror::Error;

use crate::error::{DoingTo, SidecarError};

pub(crate) use files::{FileGraph, FileLabels, GraphFiles, Stratum};
pub(crate) use fitting::Fitting;
pub(crate) use scoring::{ScoreWriter, Scoring, wallets};

/// Bytes for features and samples: enough for some ten million wallets.
const MEMORY: usize = 4 << 30;

#[derive(Debug, Error)]
pub(crate) enum RiskError {
    #[error(transparent)]
    Import(#[from] crate::import::ImportError),
    #[error("{file}, line {line}: not a row of the expected columns")]
    Csv {
        file: String,
        line: usize,
        #[source]
        source: csv::Error,
    },
    #[error("{file}, line {line}: is_illicit must be 0 or 1, not {value:?}")]
    Label { file: String, line: usize, value: String },
    #[error("{file} has no column {column:?}")]
    Column { file: String, column: String },
    #[error("write {file}")]
    Write {
        file: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{file} is a directory; name a file in it")]
    Folder { file: String },
    #[error("{file} does not contain a scorecard")]
    Document {
        file: String,
        #[source]
        source: arx_core::risk::scorecard::ScorecardError,
    },
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    #[error("no risk model is active; SELECT arx.activate_risk_model(version) makes one of arx.risk_models active")]
    NoActiveModel,
    #[error("there is no risk model {version:?}; there are: {versions}")]
    UnknownModel {
        version: String,
        /// Versions of all models, separated by commas.
        versions: String,
    },
    #[error(transparent)]
    Training(#[from] arx_core::risk::training::TrainingError),
    #[error(transparent)]
    Scorecard(#[from] arx_core::risk::scorecard::ScorecardError),
    #[error(transparent)]
    Network(#[from] AddressError),
    #[error("{file}, line {line}")]
    Address {
        file: String,
        line: usize,
        #[source]
        source: Box<AddressError>,
    },
    #[error(transparent)]
    Calibration(#[from] arx_core::risk::CalibrationError),
    #[error("{0}")]
    Thresholds(String),
    #[error("graph")]
    Build(#[from] BuildError<OutOfMemory>),
    #[error("graph")]
    Damaged(#[from] Damaged),
}

impl RiskError {
    fn csv(path: &Path, number: usize, source: csv::Error) -> Self {
        // The header is line 1.
        Self::Csv { file: path.display().to_string(), line: number + 2, source }
    }
}

/// Reads a scorecard from a file, or returns the one compiled in. All features that it reads exist.
pub(crate) fn scorecard(file: Option<&Path>) -> Result<Scorecard, RiskError> {
    let Some(path) = file else { return Ok(arx_core::risk::default_scorecard()?) };
    let text = std::fs::read_to_string(path).doing_to("read", path)?;
    let scorecard = Scorecard::from_json(&text).and_then(|scorecard| {
        scorecard.bind(&arx_core::risk::features::NAMES)?;
        Ok(scorecard)
    });
    scorecard.map_err(|source| RiskError::Document { file: path.display().to_string(), source })
}

impl From<arx_core::risk::features::ExtractError> for RiskError {
    fn from(error: arx_core::risk::features::ExtractError) -> Self {
        Self::Training(error.into())
    }
}

impl From<arx_core::risk::study::StudyError> for RiskError {
    fn from(error: arx_core::risk::study::StudyError) -> Self {
        match error {
            arx_core::risk::study::StudyError::Training(error) => Self::Training(error),
            arx_core::risk::study::StudyError::Scorecard(error) => Self::Scorecard(error),
        }
    }
}

impl From<arx_core::risk::fit::FitError> for RiskError {
    fn from(error: arx_core::risk::fit::FitError) -> Self {
        Self::Training(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Chain;

    #[test]
    fn an_error_names_its_cause_once() {
        let damaged = RiskError::from(Damaged { what: "no transfers" });
        assert_eq!(Chain(&damaged).to_string(), "graph: graph file is damaged: no transfers");
        let full = RiskError::from(BuildError::TooMany { what: "tokens", limit: 3 });
        assert_eq!(Chain(&full).to_string(), "graph: the graph can hold at most 3 tokens");
        let missing = scorecard(Some(Path::new("/nonexistent/scorecard.json"))).unwrap_err();
        let message = "read /nonexistent/scorecard.json: No such file or directory (os error 2)";
        assert_eq!(Chain(&missing).to_string(), message);
    }
}
