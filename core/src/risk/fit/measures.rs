//! Measures of the quality of scores.

use serde::{Deserialize, Deserializer, Serialize};

use super::error::FitError;

/// Bins of equal width for predicted probabilities.
const CALIBRATION_BINS: usize = 10;

/// Largest number of points of a curve.
const CURVE_POINTS: usize = 200;

/// Smallest distance of probabilities from 0 and 1 in the logarithmic loss.
const EDGE: f64 = 1e-15;

/// Measures of scores and probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// Number of rows.
    pub rows: u64,
    /// Number of illicit rows.
    pub illicit: u64,
    /// Area under the receiver operating characteristic: the share of pairs of an illicit and a
    /// licit row in which the illicit one scores higher; ties count half.
    pub auc: f64,
    /// Average precision: the precision at each score, weighted by the increase of recall there.
    pub average_precision: f64,
    /// Mean logarithmic loss of the probabilities.
    pub log_loss: f64,
    /// Mean squared error of the probabilities.
    pub brier: f64,
    /// Predicted and observed probabilities, without empty bins.
    pub calibration: Vec<CalibrationBin>,
}

/// Rows with similar predicted probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Mean predicted probability.
    pub predicted: f64,
    /// Share of illicit rows.
    pub observed: f64,
    /// Number of rows.
    pub rows: u64,
}

/// Curves for a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// `x`: share of the licit rows at or above the threshold; `y`: share of the illicit rows.
    pub roc: Vec<CurvePoint>,
    /// `x`: share of the illicit rows at or above the threshold; `y`: share of illicit rows among
    /// those at or above it.
    pub precision_recall: Vec<CurvePoint>,
}

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Rows with at least this score are classified as illicit. Infinity is null in JSON.
    #[serde(deserialize_with = "infinite_if_null")]
    pub threshold: f64,
    /// Abscissa, see [`Curves`].
    pub x: f64,
    /// Ordinate, see [`Curves`].
    pub y: f64,
}

fn infinite_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}

/// Weight of the rows with at least a score.
#[derive(Debug, Clone, Copy)]
struct CumulativeWeight {
    score: f64,
    illicit: f64,
    others: f64,
}

/// Measures scores, where a higher one is more likely illicit, and probabilities. O(n log n).
///
/// # Errors
/// [`FitError`] when the slices differ in length, or all rows are of one class.
pub fn measure(scores: &[f64], probabilities: &[f64], illicit: &[bool], weight: &[f64]) -> Result<Measures, FitError> {
    let reached = reached(scores, illicit, weight)?;
    if probabilities.len() != scores.len() {
        let (expected, found) = (scores.len(), probabilities.len());
        return Err(FitError::Shape { what: "probabilities".to_owned(), expected, found });
    }
    let (positive, negative) = reached.last().map_or((0.0, 0.0), |all| (all.illicit, all.others));
    let mut before = CumulativeWeight { score: f64::INFINITY, illicit: 0.0, others: 0.0 };
    let (mut auc, mut average_precision) = (0.0, 0.0);
    for now in &reached {
        auc += (now.others - before.others) * (before.illicit + now.illicit) / 2.0;
        let precision = now.illicit / (now.illicit + now.others);
        average_precision += (now.illicit - before.illicit) * precision;
        before = *now;
    }
    let total = positive + negative;
    let (mut log_loss, mut brier) = (0.0, 0.0);
    let mut bins = vec![(0.0, 0.0, 0.0, 0_u64); CALIBRATION_BINS];
    for ((p, illicit), weight) in probabilities.iter().zip(illicit).zip(weight) {
        let outcome = f64::from(u8::from(*illicit));
        let right = (if *illicit { *p } else { 1.0 - p }).clamp(EDGE, 1.0);
        log_loss -= weight * libm::log(right);
        brier += weight * (p - outcome) * (p - outcome);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let bin = ((p * CALIBRATION_BINS as f64) as usize).min(CALIBRATION_BINS - 1);
        if let Some(bin) = bins.get_mut(bin) {
            *bin = (bin.0 + weight * p, bin.1 + weight * outcome, bin.2 + weight, bin.3 + 1);
        }
    }
    let calibration = bins.into_iter().filter(|bin| bin.2 > 0.0).map(|(predicted, observed, weight, rows)| {
        CalibrationBin { predicted: predicted / weight, observed: observed / weight, rows }
    });
    Ok(Measures {
        rows: illicit.len() as u64,
        illicit: illicit.iter().filter(|illicit| **illicit).count() as u64,
        auc: auc / (positive * negative),
        average_precision: average_precision / positive,
        log_loss: log_loss / total,
        brier: brier / total,
        calibration: calibration.collect(),
    })
}

/// Returns the curves, thinned to at most 200 points each. O(n log n).
///
/// # Errors
/// The errors of [`measure`].
pub fn curves(scores: &[f64], illicit: &[bool], weight: &[f64]) -> Result<Curves, FitError> {
    let reached = reached(scores, illicit, weight)?;
    let (positive, negative) = reached.last().map_or((1.0, 1.0), |all| (all.illicit, all.others));
    let start = CumulativeWeight { score: f64::INFINITY, illicit: 0.0, others: 0.0 };
    let roc = std::iter::once(&start).chain(&reached).map(|r| (r.score, r.others / negative, r.illicit / positive));
    let precision_recall = reached.iter().map(|r| (r.score, r.illicit / positive, r.illicit / (r.illicit + r.others)));
    Ok(Curves { roc: thinned(roc), precision_recall: thinned(precision_recall) })
}

/// Selects points of a curve at about equal distances, including the first and the last.
fn thinned(points: impl Iterator<Item = (f64, f64, f64)>) -> Vec<CurvePoint> {
    let points: Vec<CurvePoint> = points.map(|(threshold, x, y)| CurvePoint { threshold, x, y }).collect();
    let steps = || points.iter().zip(points.iter().skip(1)).map(|(a, b)| (b.x - a.x).abs() + (b.y - a.y).abs());
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    // The first and the last point are always kept.
    let apart = steps().sum::<f64>() / (CURVE_POINTS - 2) as f64;
    let mut kept: Vec<CurvePoint> = points.first().copied().into_iter().collect();
    let mut since = 0.0;
    for (point, step) in points.iter().skip(1).zip(steps()) {
        since += step;
        if since >= apart && kept.len() + 1 < CURVE_POINTS {
            kept.push(*point);
            since = 0.0;
        }
    }
    if kept.last() != points.last() {
        kept.extend(points.last());
    }
    kept
}

/// Returns the weight of the rows with at least each score, in descending order of scores.
fn reached(scores: &[f64], illicit: &[bool], weight: &[f64]) -> Result<Vec<CumulativeWeight>, FitError> {
    for (what, found) in [("classes", illicit.len()), ("weights", weight.len())] {
        if found != scores.len() {
            return Err(FitError::Shape { what: what.to_owned(), expected: scores.len(), found });
        }
    }
    let mut rows: Vec<(f64, bool, f64)> =
        scores.iter().zip(illicit).zip(weight).map(|((s, i), w)| (*s, *i, *w)).filter(|row| row.2 > 0.0).collect();
    let found = rows.iter().filter(|row| row.1).count();
    if rows.is_empty() {
        return Err(FitError::TooFew { what: "rows", found: 0, needed: 2 });
    }
    if found == 0 || found == rows.len() {
        return Err(FitError::OneClass { rows: rows.len(), illicit: found > 0 });
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut sum = CumulativeWeight { score: f64::INFINITY, illicit: 0.0, others: 0.0 };
    let reached = rows.chunk_by(|a, b| a.0 == b.0).map(|same| {
        for (score, illicit, weight) in same {
            sum.score = *score;
            *(if *illicit { &mut sum.illicit } else { &mut sum.others }) += weight;
        }
        sum
    });
    Ok(reached.collect())
}
