//! The model document: an additive scorecard, read from JSON and checked once, then bound to
//! columns of features and applied.
//!
//! This module owns the definition of a scorecard, its JSON form, and the scoring of a row of
//! features, whose points add up to the score. It knows no feature: names of features are text
//! until [`Scorecard::bind`] resolves them to columns. It fits nothing.
//!
//! A factor is a step function of one feature, or a table over two (a generalized additive model
//! with pairwise interactions: Lou, Caruana, Gehrke, Hooker 2013, "Accurate intelligible models
//! with pairwise interactions"). Points are whole tenths, so sums are exact and do not depend on
//! the order of factors.

/// Format of the document that this version reads and writes.
const FORMAT: u32 = 2;

/// The value of a feature that depends on histories which are not covered: factors that read it
/// give no points. Any other NaN is undefined, which has points of its own.
pub const NOT_COVERED: f64 = f64::from_bits(0x7ff8_0000_0000_0a12);

/// Returns `true` for [`NOT_COVERED`].
#[inline]
#[must_use]
pub const fn is_not_covered(value: f64) -> bool {
    value.to_bits() == NOT_COVERED.to_bits()
}

mod bound;
mod cells;
mod document;
mod error;
mod layout;
mod points;
mod steps;
mod tables;
#[cfg(test)]
mod tests;

pub use bound::{BinBounds, BoundScorecard, Explanation, FactorLine, ScoreTotal};
pub use cells::Cells;
pub use document::{Band, Factor, Knot, LabelPoints, Scorecard, Training};
pub(super) use document::{ScorecardDocument, probability_at};
pub use error::ScorecardError;
pub use points::{Points, Score};
pub use tables::PartialScore;
