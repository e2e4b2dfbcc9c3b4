//! Risk scores outside the database: fitting the scorecard that ships, scoring a graph in files,
//! and reporting on scorecards in use.
//!
//! Owns files and pages; features, scorecards and fitting are [`arx_core::risk`]'s.

mod files;
mod fitting;
pub(crate) mod output;
pub(crate) mod report;
mod scoring;

use std::path::Path;

use arx_core::risk::scorecard::Scorecard;

use thiserror::Error;

pub(crate) use files::{FileLabels, GraphFiles, Offline, Stratum};
pub(crate) use fitting::Fitting;
pub(crate) use scoring::{ScoreWriter, Scoring, wallets};

/// Bytes for features and samples: plenty for some ten million wallets.
const MEMORY: usize = 4 << 30;

/// What can go wrong.
#[derive(Debug, Error)]
pub(crate) enum RiskError {
    /// A file of transactions or nodes.
    #[error(transparent)]
    Import(#[from] crate::import::ImportError),
    /// A CSV of labels.
    #[error("{file}, line {line}: not a row of the expected columns")]
    Csv {
        /// Which file.
        file: String,
        /// Which line.
        line: usize,
        /// What was wrong.
        #[source]
        source: csv::Error,
    },
    /// A label that is neither yes nor no.
    #[error("{file}, line {line}: is_illicit must be 0 or 1, not {found:?}")]
    Label {
        /// Which file.
        file: String,
        /// Which line.
        line: usize,
        /// What was found.
        found: String,
    },
    /// A CSV without a column that is needed.
    #[error("{file} has no column {column:?}")]
    Column {
        /// Which file.
        file: String,
        /// Which column.
        column: String,
    },
    /// A file that cannot be written.
    #[error("write {file}")]
    Write {
        /// Which file.
        file: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// A file that cannot be read.
    #[error("read {file}")]
    Read {
        /// Which file.
        file: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// A folder where a file is to be written.
    #[error("{file} is a folder; name a file in it")]
    Folder {
        /// Which one.
        file: String,
    },
    /// A file that should hold a scorecard and does not.
    #[error("{file} holds no scorecard")]
    Document {
        /// Which file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: arx_core::risk::scorecard::ScorecardError,
    },
    /// A database.
    #[error(transparent)]
    Database(#[from] crate::error::SidecarError),
    /// A database without the model that is asked for.
    #[error("{message}")]
    NoModel {
        /// Which one, and what to do.
        message: String,
    },
    /// Features or fitting.
    #[error(transparent)]
    Training(#[from] arx_core::risk::training::TrainingError),
    /// A scorecard.
    #[error(transparent)]
    Scorecard(#[from] arx_core::risk::scorecard::ScorecardError),
    /// Not a network.
    #[error("{message}")]
    Network {
        /// What is wrong with it.
        message: String,
    },
    /// A graph that cannot be built or read.
    #[error("graph: {message}")]
    Graph {
        /// What happened.
        message: String,
    },
}

impl RiskError {
    fn csv(path: &Path, number: usize, source: csv::Error) -> Self {
        // the header is line 1
        Self::Csv { file: path.display().to_string(), line: number + 2, source }
    }
}

/// The scorecard in a file, or the one compiled in; it reads features that there are.
pub(crate) fn scorecard(file: Option<&Path>) -> Result<Scorecard, RiskError> {
    let Some(path) = file else { return Ok(arx_core::risk::compiled_in()?) };
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
