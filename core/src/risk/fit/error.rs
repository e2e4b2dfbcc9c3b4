//! Errors of fits.

use thiserror::Error;

use crate::risk::scorecard::ScorecardError;

/// Reason why a fit failed.
#[derive(Debug, Error)]
pub enum FitError {
    /// There are too few rows.
    #[error("a fit needs at least {needed} {what}, not {found}")]
    TooFew {
        /// Kind of the missing rows.
        what: &'static str,
        /// Number of such rows.
        found: usize,
        /// Number that is needed.
        needed: usize,
    },
    /// All rows are of one class.
    #[error("all {rows} rows are {}", if *illicit { "illicit" } else { "not illicit" })]
    OneClass {
        /// Number of rows.
        rows: usize,
        /// Class of the rows.
        illicit: bool,
    },
    /// Parts of the input differ in length.
    #[error("{what} must be {expected}, not {found}")]
    Shape {
        /// The part with the wrong length.
        what: String,
        /// Length that is needed.
        expected: usize,
        /// Number of such rows.
        found: usize,
    },
    /// Two columns have one name.
    #[error("two columns are called {name:?}")]
    SameName {
        /// The name.
        name: String,
    },
    /// A value is neither finite nor NaN.
    #[error("value {value} of {column:?} in row {row} is not finite")]
    Value {
        /// Name of the column.
        column: String,
        /// Index of the row.
        row: usize,
        /// The value.
        value: f64,
    },
    /// A weight is negative or not finite.
    #[error("weight of row {row} must be a finite number from 0, not {weight}")]
    Weight {
        /// Index of the row.
        row: usize,
        /// The weight.
        weight: f64,
    },
    /// An option is out of range.
    #[error("{name} must be {range}, not {value}")]
    Option {
        /// Name of the option.
        name: &'static str,
        /// Range of valid values.
        range: &'static str,
        /// Value that was given.
        value: f64,
    },
    /// An option names a feature that does not exist.
    #[error("{option} names feature {feature:?}, which the sample does not have")]
    UnknownFeature {
        /// Name of the option.
        option: &'static str,
        /// Name of the feature.
        feature: String,
    },
    /// The fit needs more memory than allowed.
    #[error("a fit to {rows} rows of {features} features needs more than {budget} bytes of memory")]
    Memory {
        /// Bytes allowed.
        budget: usize,
        /// Number of rows.
        rows: usize,
        /// Number of features.
        features: usize,
    },
    /// The caller cancelled, or the time allowed was used up.
    #[error("fit stopped before it was done")]
    Stopped,
    /// The fitted model is not a valid scorecard.
    #[error(transparent)]
    Scorecard(#[from] ScorecardError),
}
