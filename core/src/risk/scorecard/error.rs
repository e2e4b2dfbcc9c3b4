//! What can be wrong with a scorecard.

use thiserror::Error;

use super::FORMAT;

/// What is wrong with a scorecard.
#[derive(Debug, Error)]
pub enum ScorecardError {
    /// Not the JSON document expected.
    #[error("scorecard is not readable")]
    Json(#[from] serde_json::Error),
    /// Written for another version of this code.
    #[error("scorecard has format {found}, this version reads format {FORMAT}")]
    Format {
        /// Format of the document.
        found: u32,
    },
    /// A version that is no name.
    #[error(
        "version of a scorecard must be 1 to 63 characters of a to z, 0 to 9, \".\", \"_\" and \"-\", not {version:?}"
    )]
    Version {
        /// The version of the document.
        version: String,
    },
    /// Readable, but not a scorecard.
    #[error("scorecard {version:?}: {problem}")]
    Invalid {
        /// Version of the scorecard.
        version: String,
        /// What is wrong, with the value.
        problem: String,
    },
    /// A factor reads what nobody computes.
    #[error("factor {factor:?} reads feature {feature:?}, which there is not; there are {}", known.join(", "))]
    UnknownFeature {
        /// Name of the factor.
        factor: String,
        /// Name of the feature.
        feature: String,
        /// Features there are.
        known: Vec<String>,
    },
}
