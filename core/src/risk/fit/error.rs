//! What can stop a fit.

use thiserror::Error;

use crate::risk::scorecard::ScorecardError;

/// What stopped a fit.
#[derive(Debug, Error)]
pub enum FitError {
    /// Too little to learn from.
    #[error("a fit needs at least {needed} {what}, not {found}")]
    TooFew {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many it takes.
        needed: usize,
    },
    /// Nothing to tell apart.
    #[error("all {rows} rows are {}", if *illicit { "illicit" } else { "not illicit" })]
    OneClass {
        /// BoostRows.
        rows: usize,
        /// What all of them are.
        illicit: bool,
    },
    /// A column, a weight or a fold for each row, and a name for each column.
    #[error("{what} must be {expected}, not {found}")]
    Shape {
        /// Of what there is not the right number.
        what: String,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// Two columns of one name.
    #[error("two columns are called {name:?}")]
    SameName {
        /// The name.
        name: String,
    },
    /// A value that is neither finite nor undefined.
    #[error("value {value} of {column:?} in row {row} is not finite")]
    Value {
        /// Name of the column.
        column: String,
        /// The row, from 0.
        row: usize,
        /// The value.
        value: f64,
    },
    /// A weight that is none.
    #[error("weight of row {row} must be a finite number from 0, not {weight}")]
    Weight {
        /// The row, from 0.
        row: usize,
        /// The weight.
        weight: f64,
    },
    /// An option out of range.
    #[error("{name} must be {range}, not {value}")]
    Option {
        /// Name of the option.
        name: &'static str,
        /// What would be right.
        range: &'static str,
        /// What it is.
        value: f64,
    },
    /// An option names a feature that there is not.
    #[error("{option} names feature {feature:?}, which the sample does not have")]
    UnknownFeature {
        /// Name of the option.
        option: &'static str,
        /// Name of the feature.
        feature: String,
    },
    /// The fit does not fit into the memory allowed.
    #[error("a fit to {rows} rows of {features} features needs more than {budget} bytes of memory")]
    Memory {
        /// Bytes allowed.
        budget: usize,
        /// BoostRows.
        rows: usize,
        /// Features.
        features: usize,
    },
    /// The time allowed was used up.
    #[error("fit stopped before it was done")]
    Stopped,
    /// What was fitted is no scorecard.
    #[error(transparent)]
    Scorecard(#[from] ScorecardError),
}
