//! A factor with its features resolved to columns.

use super::cells::Cells;
use super::document::Factor;
use super::error::ScorecardError;
use super::points::Points;
use super::{is_not_covered, without_mark};

/// A factor whose features are resolved to columns, as it is read while scoring.
#[derive(Debug, Clone)]
pub(super) struct BoundFactor {
    /// Column and cuts of the first feature.
    pub first: (usize, Vec<f64>),
    /// Column and cuts of the second, if there is one.
    pub second: Option<(usize, Vec<f64>)>,
    /// Points by the bin of the first feature, then of the second.
    pub points: Vec<Points>,
    pub undefined: Points,
    /// Thousandths of the mean absolute points over the training rows; 1 if that is not known.
    pub weight: u64,
}

impl BoundFactor {
    pub(super) fn new(factor: &Factor, columns: &[&str]) -> Result<Self, ScorecardError> {
        let mut read = factor.features.iter().zip(&factor.cuts).map(|(feature, cuts)| {
            let column = columns.iter().position(|c| c == feature);
            let column = column.ok_or_else(|| ScorecardError::UnknownFeature {
                factor: factor.name.clone(),
                feature: feature.clone(),
                known: columns.iter().map(|c| (*c).to_owned()).collect(),
            });
            column.map(|column| (column, cuts.clone()))
        });
        // A valid factor has a first feature. A column that no row has would read as undefined.
        let first = read.next().transpose()?.unwrap_or((usize::MAX, Vec::new()));
        let second = read.next().transpose()?;
        let points = match &factor.points {
            Cells::Line(line) => line.clone(),
            Cells::Table(table) => table.concat(),
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "points are within -100 and 100")]
        let weight = factor.importance.map_or(1, |importance| (importance.min(100.0) * 1000.0).round() as u64);
        Ok(Self { first, second, points, undefined: factor.undefined, weight })
    }

    /// Returns `false` when a value that the factor reads is not covered.
    pub(super) fn is_covered(&self, row: &[f64]) -> bool {
        let columns = [Some(&self.first), self.second.as_ref()].into_iter().flatten();
        columns.into_iter().all(|(column, _)| !is_not_covered(value(row, *column)))
    }

    /// Returns the points for a row; a part of them where a value is not covered.
    #[inline]
    pub(super) fn points(&self, row: &[f64]) -> Points {
        let points = self.whole_points(row);
        if self.is_covered(row) { points } else { points.uncovered_part() }
    }

    fn whole_points(&self, row: &[f64]) -> Points {
        let (column, cuts) = &self.first;
        let Some(mut index) = bin(cuts, value(row, *column)) else { return self.undefined };
        if let Some((column, cuts)) = &self.second {
            let Some(bin) = bin(cuts, value(row, *column)) else { return self.undefined };
            index = index * (cuts.len() + 1) + bin;
        }
        self.points.get(index).copied().unwrap_or(self.undefined)
    }
}

#[inline]
pub(super) fn value(row: &[f64], column: usize) -> f64 {
    row.get(column).copied().unwrap_or(f64::NAN)
}

/// Returns the bin of a value, covered or not: the number of cuts below it; `None` if it is
/// undefined. To count all of a few cuts is faster than a binary search, because no branch depends
/// on a comparison.
#[inline]
pub(super) fn bin(cuts: &[f64], value: f64) -> Option<usize> {
    let value = without_mark(value);
    if value.is_nan() { None } else { Some(cuts.iter().map(|cut| usize::from(*cut < value)).sum()) }
}
