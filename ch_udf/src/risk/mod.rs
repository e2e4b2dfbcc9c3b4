//! Risk scores outside the database: fitting the scorecard that ships, scoring a graph in files, and reporting on scorecards in use.
//!
//! Owns files and pages; features, scorecards and fitting are [`arx_core::risk`]'s.

mod args;
mod files;
mod fitting;

use std::path::Path;

use thiserror::Error;

pub use args::{FitArgs, GraphFiles};
pub use files::{NamedCase, Offline, Stratum};
pub use fitting::{FittedScorecard, Fitting};

/// What can go wrong.
#[derive(Debug, Error)]
pub enum RiskError {
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

impl From<arx_core::risk::features::ExtractError> for RiskError {
    fn from(error: arx_core::risk::features::ExtractError) -> Self {
        Self::Training(error.into())
    }
}

impl From<arx_core::risk::fit::FitError> for RiskError {
    fn from(error: arx_core::risk::fit::FitError) -> Self {
        Self::Training(error.into())
    }
}
