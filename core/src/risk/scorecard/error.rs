//! Errors of scorecards.

use thiserror::Error;

use super::FORMAT;

/// Reason why a document is not a valid scorecard.
#[derive(Debug, Error)]
pub enum ScorecardError {
    /// The document is not JSON, or not of the expected structure.
    #[error("scorecard is not readable")]
    Json(#[from] serde_json::Error),
    /// The document has another format.
    #[error("scorecard has format {found}, this version reads format {FORMAT}")]
    Format {
        /// Format of the document.
        found: u32,
    },
    /// The version is not a valid name.
    #[error(
        "version of a scorecard must be 1 to 63 characters of a to z, 0 to 9, \".\", \"_\" and \"-\", not {version:?}"
    )]
    Version {
        /// Version of the document.
        version: String,
    },
    /// The document is readable, but not a scorecard.
    #[error("scorecard {version:?}: {problem}")]
    Invalid {
        /// Version of the scorecard.
        version: String,
        /// Problem, with the value.
        problem: String,
    },
    /// A factor reads a feature that does not exist.
    #[error("factor {factor:?} reads feature {feature:?}, which does not exist; features are {}", known.join(", "))]
    UnknownFeature {
        /// Name of the factor.
        factor: String,
        /// Name of the feature.
        feature: String,
        /// Features that exist.
        known: Vec<String>,
    },
}
