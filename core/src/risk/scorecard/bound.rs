//! A scorecard bound to columns: rows of features become scores.

use std::sync::Arc;

use super::document::{Factor, Scorecard};
use super::error::ScorecardError;
use super::points::{Points, Score};
use super::steps::{BoundFactor, bin, value};
use super::tables::{FactorTables, PartialScore};

/// A scorecard whose features are resolved to columns of a row.
#[derive(Debug, Clone)]
pub struct BoundScorecard {
    scorecard: Arc<Scorecard>,
    steps: Vec<BoundFactor>,
    tables: FactorTables,
}

/// How a score came about, in short: base, points of factors and cap add up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreTotal {
    /// The score.
    pub score: Score,
    /// What keeps it within 0 and 100: nothing, as a rule.
    pub cap: Points,
}

impl ScoreTotal {
    #[inline]
    fn of(sum: i64) -> Self {
        let sum = sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        let score = Score::nearest(sum);
        Self { score, cap: Points::from_tenths(score.points().tenths().saturating_sub(sum)) }
    }
}

/// How a score came about: base, points of lines and cap add up to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation<'s> {
    /// The score.
    pub score: Score,
    /// Where every score starts.
    pub base: Points,
    /// One line for each factor, in the scorecard's order.
    pub lines: Vec<FactorLine<'s>>,
    /// What keeps the score within 0 and 100.
    pub cap: Points,
}

/// What one factor adds to a score, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct FactorLine<'s> {
    /// The factor.
    pub factor: &'s Factor,
    /// What it adds.
    pub points: Points,
    /// The features' values; NaN is undefined.
    pub values: Vec<f64>,
    /// The bins that the values fall into, one a feature; none if one of the values is undefined.
    pub bounds: Vec<BinBounds>,
    /// Share of the training rows that had the same points for the same reason.
    pub share: Option<f64>,
}

/// BinBounds of a bin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinBounds {
    /// Values above this.
    pub from: Option<f64>,
    /// Values up to and including this.
    pub to: Option<f64>,
}

impl Scorecard {
    /// Resolves the factors' features to columns.
    ///
    /// # Errors
    /// [`ScorecardError::UnknownFeature`].
    pub fn bind(&self, columns: &[&str]) -> Result<BoundScorecard, ScorecardError> {
        Arc::new(self.clone()).into_bound(columns)
    }

    /// The same, without a copy.
    ///
    /// # Errors
    /// [`ScorecardError::UnknownFeature`].
    pub fn into_bound(self: Arc<Self>, columns: &[&str]) -> Result<BoundScorecard, ScorecardError> {
        let steps =
            self.factors().iter().map(|f| BoundFactor::new(f, columns)).collect::<Result<Vec<BoundFactor>, _>>()?;
        let tables = FactorTables::new(&steps);
        Ok(BoundScorecard { scorecard: self, steps, tables })
    }
}

impl BoundScorecard {
    /// The scorecard.
    #[must_use]
    pub fn scorecard(&self) -> &Scorecard {
        &self.scorecard
    }

    /// The score of a row; what the row does not have is undefined. Takes no memory. O(factors).
    #[must_use]
    pub fn score(&self, row: &[f64]) -> ScoreTotal {
        ScoreTotal::of(i64::from(self.scorecard.base().tenths()) + self.tables.sum(row))
    }

    /// Begins a row that comes value by value: everything is undefined. Its room is used again.
    #[inline]
    pub fn begin(&self, row: &mut PartialScore) {
        self.tables.begin(row);
    }

    /// A value of such a row that is not NaN, each column at most once.
    #[inline]
    pub fn put(&self, row: &mut PartialScore, column: usize, value: f64) {
        self.tables.put(row, column, value);
    }

    /// The score of such a row, the same as [`Self::score`] of all its values.
    #[inline]
    #[must_use]
    pub fn end(&self, row: &PartialScore) -> ScoreTotal {
        ScoreTotal::of(i64::from(self.scorecard.base().tenths()) + self.tables.end(row))
    }

    /// Calls `each` with the number of every factor, in order, and what it adds.
    pub fn each_points(&self, row: &[f64], mut each: impl FnMut(usize, Points)) {
        for (factor, steps) in self.steps.iter().enumerate() {
            each(factor, steps.points(row));
        }
    }

    /// How the score of a row comes about.
    #[must_use]
    pub fn explain(&self, row: &[f64]) -> Explanation<'_> {
        let ScoreTotal { score, cap } = self.score(row);
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
        Some(bins) => factor.shares.as_ref().and_then(|shares| shares.get(bins)).copied(),
        None => factor.undefined_share,
    };
    let bounds = read().zip(bins.unwrap_or_default()).map(|((_, cuts), bin)| BinBounds {
        from: bin.checked_sub(1).and_then(|before| cuts.get(before)).copied(),
        to: cuts.get(bin).copied(),
    });
    FactorLine { factor, points: steps.points(row), bounds: bounds.collect(), values, share }
}
