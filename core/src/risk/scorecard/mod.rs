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

/// An undefined value of a feature that depends on histories which are not covered. Any other NaN
/// is undefined, and covered.
pub const NOT_COVERED: f64 = f64::from_bits(0x7ff8_0000_0000_0a12);

/// Factors that read a value which is not covered give one of this many parts of their points: what
/// is here of the histories is evidence, but it may be the smaller part of it. On the labelled
/// wallets of the shipped scorecard, a quarter ranks better than all points and than none
/// (`risk.quality.auc_estimated.vs_stated` of the benchmarks).
const PARTS: u32 = 4;

/// A value of zero or more that is not covered is marked as `-MARK * (1 + value)`, which no feature
/// reaches: a power of two, so that the mark itself loses nothing.
const MARK: f64 = (1_u64 << 60) as f64;

/// A negative value is marked as `-NEGATIVE_MARK * (1 - value)`.
const NEGATIVE_MARK: f64 = MARK * MARK * MARK;

/// Marks a value as one that is not covered.
#[must_use]
pub fn not_covered(value: f64) -> f64 {
    if value.is_nan() {
        NOT_COVERED
    } else if value < 0.0 {
        -NEGATIVE_MARK * (1.0 - value)
    } else {
        -MARK * (1.0 + value)
    }
}

/// Returns `true` for a value that is marked as not covered.
#[inline]
#[must_use]
pub const fn is_not_covered(value: f64) -> bool {
    value <= -MARK || value.to_bits() == NOT_COVERED.to_bits()
}

/// Returns the value itself, without the mark; NaN for an undefined value.
#[inline]
#[must_use]
pub fn without_mark(value: f64) -> f64 {
    if value <= -NEGATIVE_MARK {
        1.0 + value / NEGATIVE_MARK
    } else if value <= -MARK {
        value / -MARK - 1.0
    } else {
        value
    }
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
