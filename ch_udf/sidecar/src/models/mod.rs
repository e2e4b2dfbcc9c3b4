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

use arx_core::risk::scorecard::Scorecard;

use thiserror::Error;

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
    #[error("read {file}")]
    Read {
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
    Database(#[from] crate::error::SidecarError),
    #[error("{message}")]
    NoModel { message: String },
    #[error(transparent)]
    Training(#[from] arx_core::risk::training::TrainingError),
    #[error(transparent)]
    Scorecard(#[from] arx_core::risk::scorecard::ScorecardError),
    #[error("{message}")]
    Network { message: String },
    #[error("graph: {message}")]
    Graph { message: String },
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
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| RiskError::Read { file: file.clone(), source })?;
    let scorecard = Scorecard::from_json(&text).and_then(|scorecard| {
        scorecard.bind(&arx_core::risk::features::NAMES)?;
        Ok(scorecard)
    });
    scorecard.map_err(|source| RiskError::Document { file, source })
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
