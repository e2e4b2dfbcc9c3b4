//! A scorecard bound to columns, which scores rows of features.

use std::sync::Arc;

use super::document::{Factor, Scorecard};
use super::error::ScorecardError;
use super::points::{Points, Score};
use super::steps::{BoundFactor, bin, value};
use super::tables::{FactorTables, PartialScore, RowSum};

/// A scorecard whose features are resolved to columns of a row.
#[derive(Debug, Clone)]
pub struct BoundScorecard {
    scorecard: Arc<Scorecard>,
    steps: Vec<BoundFactor>,
    tables: FactorTables,
    /// Sum of the weights of all factors.
    weight: u64,
}

/// A score and its cap: base, points of factors and cap add up to the score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreTotal {
    /// The score.
    pub score: Score,
    /// Points that keep the score within 0 and 100; usually zero.
    pub cap: Points,
    /// Weight of the factors that give a part of their points, because a value is not covered.
    pub(in crate::risk) uncovered: u64,
}

/// Explanation of a score: base, points of lines and cap add up to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation<'s> {
    /// The score.
    pub score: Score,
    /// Points that every score starts from.
    pub base: Points,
    /// A line for each factor, in the order of the scorecard.
    pub lines: Vec<FactorLine<'s>>,
    /// Points that keep the score within 0 and 100.
    pub cap: Points,
}

/// Points that a factor adds to a score, and the reason.
#[derive(Debug, Clone, PartialEq)]
pub struct FactorLine<'s> {
    /// The factor.
    pub factor: &'s Factor,
    /// Points that it adds.
    pub points: Points,
    /// Values of the features, marked where they are not covered; NaN if undefined.
    pub values: Vec<f64>,
    /// Bin that the value of each feature falls into; empty if a value is undefined.
    pub bounds: Vec<BinBounds>,
    /// Share of the training rows in the same bins.
    pub share: Option<f64>,
}

/// Bounds of a bin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinBounds {
    /// The bin holds values above this.
    pub from: Option<f64>,
    /// The bin holds values up to and including this.
    pub to: Option<f64>,
}

impl Scorecard {
    /// Resolves the features of the factors to columns.
    ///
    /// # Errors
    /// [`ScorecardError::UnknownFeature`].
    pub fn bind(&self, columns: &[&str]) -> Result<BoundScorecard, ScorecardError> {
        Arc::new(self.clone()).into_bound(columns)
    }

    /// Resolves the features of the factors to columns, without a copy of the scorecard.
    ///
    /// # Errors
    /// [`ScorecardError::UnknownFeature`].
    pub fn into_bound(self: Arc<Self>, columns: &[&str]) -> Result<BoundScorecard, ScorecardError> {
        let steps =
            self.factors().iter().map(|f| BoundFactor::new(f, columns)).collect::<Result<Vec<BoundFactor>, _>>()?;
        let tables = FactorTables::new(&steps);
        let weight = steps.iter().map(|factor| factor.weight).sum();
        Ok(BoundScorecard { scorecard: self, steps, tables, weight })
    }
}

impl BoundScorecard {
    /// Returns the scorecard.
    #[must_use]
    pub fn scorecard(&self) -> &Scorecard {
        &self.scorecard
    }

    /// Scores a row; columns that it does not have are undefined. Allocates nothing. O(factors).
    #[must_use]
    pub fn score(&self, row: &[f64]) -> ScoreTotal {
        self.total(self.tables.sum(row))
    }

    #[inline]
    fn total(&self, sum: RowSum) -> ScoreTotal {
        let tenths = i64::from(self.scorecard.base().tenths()) + sum.tenths;
        let tenths = tenths.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        let score = Score::nearest(tenths);
        let cap = Points::from_tenths(score.points().tenths().saturating_sub(tenths));
        ScoreTotal { score, cap, uncovered: sum.uncovered }
    }

    /// Returns the share of the scorecard's weight whose values are covered, 0 to 1. The weight of
    /// a factor is its importance.
    #[must_use]
    pub fn covered_share(&self, total: &ScoreTotal) -> f64 {
        if self.weight == 0 { 1.0 } else { 1.0 - total.uncovered as f64 / self.weight as f64 }
    }

    /// Returns the mean of `share` over the features of the factors, by the weight of the factors;
    /// a factor of two features has the smaller share. 1 for a scorecard without weight.
    pub fn weighted_share(&self, share: impl Fn(usize) -> f64) -> f64 {
        let of = |factor: &BoundFactor| {
            let second = factor.second.as_ref().map_or(1.0, |(column, _)| share(*column));
            share(factor.first.0).min(second)
        };
        if self.weight == 0 {
            return 1.0;
        }
        // Weights that are not covered are summed, so that full coverage is exactly 1.
        let missing: f64 = self.steps.iter().map(|factor| (1.0 - of(factor)) * factor.weight as f64).sum();
        1.0 - missing / self.weight as f64
    }

    /// Starts to score a row value by value: every column is undefined. The buffer is reused.
    #[inline]
    pub fn begin(&self, row: &mut PartialScore) {
        self.tables.begin(row);
    }

    /// Adds a value that is defined or not covered; each column at most once.
    #[inline]
    pub fn put(&self, row: &mut PartialScore, column: usize, value: f64) {
        self.tables.put(row, column, value);
    }

    /// Returns the score of the values so far, the same as [`Self::score`].
    #[inline]
    #[must_use]
    pub fn end(&self, row: &PartialScore) -> ScoreTotal {
        self.total(self.tables.end(row))
    }

    /// Calls `each` with the index of every factor, in order, and the points that it adds.
    pub fn each_points(&self, row: &[f64], mut each: impl FnMut(usize, Points)) {
        for (factor, steps) in self.steps.iter().enumerate() {
            each(factor, steps.points(row));
        }
    }

    /// Explains the score of a row.
    #[must_use]
    pub fn explain(&self, row: &[f64]) -> Explanation<'_> {
        let ScoreTotal { score, cap, .. } = self.score(row);
        let factors = self.scorecard.factors().iter().zip(&self.steps);
        let lines = factors.map(|(factor, steps)| line(factor, steps, row)).collect();
        Explanation { score, base: self.scorecard.base(), lines, cap }
    }
}

fn line<'s>(factor: &'s Factor, steps: &BoundFactor, row: &[f64]) -> FactorLine<'s> {
    let read = || [Some(&steps.first), steps.second.as_ref()].into_iter().flatten();
    let values: Vec<f64> = read().map(|(column, _)| value(row, *column)).collect();
    let bins: Option<Vec<usize>> = read().zip(&values).map(|((_, cuts), value)| bin(cuts, *value)).collect();
    let share = match &bins {
        _ if !steps.is_covered(row) => None,
        Some(bins) => factor.shares.as_ref().and_then(|shares| shares.get(bins)).copied(),
        None => factor.undefined_share,
    };
    let bounds = read().zip(bins.unwrap_or_default()).map(|((_, cuts), bin)| BinBounds {
        from: bin.checked_sub(1).and_then(|before| cuts.get(before)).copied(),
        to: cuts.get(bin).copied(),
    });
    FactorLine { factor, points: steps.points(row), bounds: bounds.collect(), values, share }
}
