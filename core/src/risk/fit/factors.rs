//! Factors of a scorecard from fitted functions: few steps, short numbers, whole tenths of points.

use super::boost::{CELLS, Term};
use super::error::FitError;
use super::merge::merge_bins;
use super::options::FitOptions;
use super::pace::RowPace;
use super::sample::TrainingSample;
use super::step::TermShape;
use crate::graph::Interrupt;
use crate::graph::sorting::sort_with_room;
use crate::risk::monotone::Monotone;
use crate::risk::scorecard::{
    Band, Cells, Factor, Knot, LabelPoints, Points, Scorecard, ScorecardDocument, ScorecardError, Training,
};

/// Share of the rows whose scores shall be within 2 and 98.
const WITHIN: f64 = 0.98;

/// Distance of these scores from 50.
const REACH: f64 = 48.0;

/// Upper bound of the points per unit of log odds; with more, one step spans a band.
const MAX_POINTS_PER_LOGIT: f64 = 25.0;

/// Root mean square by which merged steps may differ from the function, in tenths: no more than the
/// effect of rounding.
const TOLERANCE: f64 = 0.5;

/// A fitted function of one or two features.
#[derive(Debug)]
pub(super) struct FittedFunction {
    /// Indices of its features.
    pub features: Vec<usize>,
    pub cuts: Vec<Vec<f64>>,
    pub term: Term,
    /// Log odds of each cell; the last cell is for undefined values.
    pub function: Vec<f64>,
}

/// Fitted functions before they are rounded.
pub(super) struct FittedFunctions<'s> {
    pub sample: &'s TrainingSample,
    pub options: &'s FitOptions,
    pub tables: Vec<FittedFunction>,
    /// Direction of the points of each feature.
    pub directions: Vec<Monotone>,
}

/// The fitted part of a scorecard.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedModel {
    base: Points,
    factors: Vec<Factor>,
    points_per_logit: f64,
}

/// The part of a scorecard that is not fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// Version of the scorecard.
    pub version: String,
    /// Description of the scorecard.
    pub description: String,
    /// Probabilities at scores.
    pub calibration: Vec<Knot>,
    /// Names of ranges of scores.
    pub bands: Vec<Band>,
    /// Points of labels on the wallet itself.
    pub label_points: LabelPoints,
    /// Training of the scorecard.
    pub training: Option<Training>,
}

impl Default for Publication {
    /// Returns bands with undecided wallets in the middle (from 60 on nearly all wallets of a
    /// sample are illicit, below 40 hardly any), and a linear calibration.
    fn default() -> Self {
        let bands = [(0, "low"), (400, "medium"), (600, "high"), (750, "severe")];
        let bands = bands.map(|(from, band)| Band { from: Points::from_tenths(from), band: band.to_owned() });
        let ends = [(0, 0.0), (1000, 1.0)];
        let ends = ends.map(|(score, probability)| Knot { score: Points::from_tenths(score), probability });
        Self {
            version: "unpublished".to_owned(),
            description: String::new(),
            calibration: ends.to_vec(),
            bands: bands.to_vec(),
            label_points: LabelPoints::default(),
            training: None,
        }
    }
}

impl FittedModel {
    /// Returns the points that every score starts from: a wallet with the odds of the whole sample
    /// scores 50.
    #[must_use]
    pub const fn base(&self) -> Points {
        self.base
    }

    /// Returns the factors, the most important one first.
    #[must_use]
    pub fn factors(&self) -> &[Factor] {
        &self.factors
    }

    /// Returns the points per unit of log odds.
    #[must_use]
    pub const fn points_per_logit(&self) -> f64 {
        self.points_per_logit
    }

    /// Makes a scorecard.
    ///
    /// # Errors
    /// [`ScorecardError`] when the publication is invalid.
    pub fn scorecard(&self, publication: &Publication) -> Result<Scorecard, ScorecardError> {
        let publication = publication.clone();
        Scorecard::checked(ScorecardDocument {
            format: 0,
            version: publication.version,
            description: publication.description,
            base: self.base,
            bands: publication.bands,
            label_points: publication.label_points,
            calibration: publication.calibration,
            training: publication.training,
            factors: self.factors.clone(),
        })
    }
}

impl FittedFunctions<'_> {
    /// Rounds the functions to factors. Points are log odds relative to the whole sample, times the
    /// points per unit: at 50, a wallet is as likely illicit as any in the sample.
    pub(super) fn rounded<W: Interrupt>(mut self, pace: &mut RowPace<'_, W>) -> Result<FittedModel, FitError> {
        let total: f64 = self.sample.weight().iter().sum();
        let mut weights = Vec::new();
        let mut middle = 0.0;
        for table in &mut self.tables {
            pace.step(self.sample.rows())?;
            let of_cells = cell_weights(&table.term, self.sample.weight());
            let mean = table.function.iter().zip(&of_cells).map(|(value, weight)| value * weight).sum::<f64>() / total;
            table.function.iter_mut().for_each(|value| *value -= mean);
            middle += mean;
            weights.push(of_cells);
        }
        let points_per_logit = match self.options.points_per_logit {
            Some(points) => points,
            None => self.points_per_logit(middle, total, pace)?,
        };
        let mut tenths = 500.0 + 10.0 * points_per_logit * middle;
        let mut factors = Vec::new();
        for (table, weights) in self.tables.iter().zip(&weights) {
            let (factor, mean) = self.factor(table, weights, points_per_logit, total);
            if factor.importance.is_some_and(|i| i >= self.options.min_importance) {
                // The mean shift of all rows by rounding.
                tenths -= mean;
                factors.push(factor);
            }
        }
        factors.sort_by(|a, b| {
            let importance = |factor: &Factor| factor.importance.unwrap_or_default();
            importance(b).total_cmp(&importance(a)).then_with(|| a.name.cmp(&b.name))
        });
        let base = Points::from_tenths(whole(tenths).clamp(0, 1000));
        Ok(FittedModel { base, factors, points_per_logit })
    }

    fn points_per_logit<W: Interrupt>(
        &self,
        middle: f64,
        total: f64,
        pace: &mut RowPace<'_, W>,
    ) -> Result<f64, FitError> {
        let mut rows: Vec<(f64, f64)> = self.sample.weight().iter().map(|weight| (middle, *weight)).collect();
        for table in &self.tables {
            pace.step(rows.len())?;
            for (row, cell) in rows.iter_mut().zip(&table.term.cells) {
                row.0 += table.function.get(usize::from(*cell)).copied().unwrap_or_default();
            }
        }
        rows.iter_mut().for_each(|row| row.0 = row.0.abs());
        sort_with_room(&mut rows, pace.interrupt(), |a, b| a.0.total_cmp(&b.0));
        let mut below = 0.0;
        let at = rows.iter().find(|row| {
            below += row.1;
            below >= WITHIN * total
        });
        let reach = at.map_or(0.0, |row| row.0);
        // Four digits, because the number is shown.
        let points = if reach > 0.0 { (REACH / reach).min(MAX_POINTS_PER_LOGIT) } else { MAX_POINTS_PER_LOGIT };
        Ok(((points * 1000.0).round() / 1000.0).max(0.001))
    }

    /// Returns the factor of a function, and the mean of its points over all rows, in tenths.
    fn factor(
        &self,
        table: &FittedFunction,
        weights: &[f64; CELLS],
        points_per_logit: f64,
        total: f64,
    ) -> (Factor, f64) {
        let tenths: Vec<f64> = table.function.iter().map(|value| value * points_per_logit * 10.0).collect();
        let undefined_at = tenths.len().saturating_sub(1);
        let undefined = Points::from_tenths(whole(tenths.last().copied().unwrap_or_default()));
        let undefined_weight = weights.get(undefined_at).copied().unwrap_or_default();
        let (defined, weights) =
            (tenths.get(..undefined_at).unwrap_or_default(), weights.get(..undefined_at).unwrap_or_default());
        let (cuts, points, shares) = match table.term.shape {
            TermShape::Line { .. } => self.line(table.cuts.first().map_or(&[], Vec::as_slice), defined, weights),
            TermShape::Table { columns, .. } => table_steps(&table.cuts, columns, defined, weights),
        };
        let cells = || points.iter().chain([&undefined]).zip(shares.iter().chain([&undefined_weight]));
        let weighed = |measure: fn(i32) -> i32| -> f64 {
            cells().map(|(p, w)| f64::from(measure(p.tenths())) * w).sum::<f64>() / total
        };
        let (importance, mean) = (weighed(i32::abs) / 10.0, weighed(|tenths| tenths));
        let share = |weight: f64| thousandths(weight / total).min(1.0);
        let shares = match shares {
            Cells::Line(line) => Cells::Line(line.into_iter().map(share).collect()),
            Cells::Table(rows) => {
                Cells::Table(rows.into_iter().map(|row| row.into_iter().map(share).collect()).collect())
            }
        };
        let named =
            |list: &[(String, String)], name: &str| list.iter().find(|(n, _)| n == name).map(|(_, text)| text.clone());
        let features: Vec<String> =
            table.features.iter().filter_map(|at| self.sample.names().get(*at)).cloned().collect();
        let described: Option<Vec<String>> = features.iter().map(|f| named(&self.options.descriptions, f)).collect();
        let monotone = match (table.features.as_slice(), table.term.shape) {
            ([at], TermShape::Line { .. }) => self.directions.get(*at).copied().unwrap_or_default(),
            _ => Monotone::Free,
        };
        let factor = Factor {
            name: features.join(" & "),
            description: described.map(|texts| texts.join(", together with ")),
            features,
            monotone,
            cuts,
            points,
            undefined,
            shares: Some(shares),
            undefined_share: Some(share(undefined_weight)),
            importance: Some(thousandths(importance)),
        };
        (factor, mean)
    }

    /// Returns the steps of a function of one feature: cuts, points and weights.
    fn line(&self, cuts: &[f64], tenths: &[f64], weights: &[f64]) -> (Vec<Vec<f64>>, Cells<Points>, Cells<f64>) {
        let (mut kept, mut points, mut shares): (Vec<f64>, Vec<Points>, Vec<f64>) =
            (Vec::new(), Vec::new(), Vec::new());
        let mut from = 0;
        for to in merge_bins(tenths, weights, self.options.steps, TOLERANCE) {
            let bins = || tenths.iter().zip(weights).take(to).skip(from);
            let weight: f64 = bins().map(|(_, w)| w).sum();
            let sum: f64 = bins().map(|(t, w)| t * w).sum();
            let value = if weight > 0.0 { sum / weight } else { tenths.get(from).copied().unwrap_or_default() };
            let rounded = Points::from_tenths(whole(value));
            match (points.last(), shares.last_mut()) {
                // Two steps of equal height become one.
                (Some(before), Some(share)) if *before == rounded => {
                    *share += weight;
                    kept.pop();
                }
                _ => {
                    points.push(rounded);
                    shares.push(weight);
                }
            }
            kept.extend(cuts.get(to.saturating_sub(1)));
            from = to;
        }
        kept.truncate(points.len().saturating_sub(1));
        (vec![kept], Cells::Line(points), Cells::Line(shares))
    }
}

/// Returns cuts, points and weights of a table, without the cuts that separate equal cells.
fn table_steps(
    cuts: &[Vec<f64>],
    columns: usize,
    tenths: &[f64],
    weights: &[f64],
) -> (Vec<Vec<f64>>, Cells<Points>, Cells<f64>) {
    let mut points: Vec<Vec<Points>> =
        tenths.chunks(columns).map(|row| row.iter().map(|t| Points::from_tenths(whole(*t))).collect()).collect();
    let mut shares: Vec<Vec<f64>> = weights.chunks(columns).map(<[f64]>::to_vec).collect();
    let mut kept = Vec::new();
    // Rows first, then columns as rows of the transposed table; the second transposition restores
    // it.
    for cuts in cuts {
        let (mut cuts_kept, mut points_kept, mut shares_kept): (Vec<f64>, Vec<Vec<Points>>, Vec<Vec<f64>>) =
            Default::default();
        for (at, (row, share)) in points.into_iter().zip(shares).enumerate() {
            match (points_kept.last(), shares_kept.last_mut()) {
                (Some(before), Some(sums)) if *before == row => {
                    cuts_kept.pop();
                    sums.iter_mut().zip(share).for_each(|(sum, share)| *sum += share);
                }
                _ => {
                    points_kept.push(row);
                    shares_kept.push(share);
                }
            }
            cuts_kept.extend(cuts.get(at));
        }
        kept.push(cuts_kept);
        (points, shares) = (transposed(&points_kept), transposed(&shares_kept));
    }
    (kept, Cells::Table(points), Cells::Table(shares))
}

/// Transposes a table.
fn transposed<T: Copy>(rows: &[Vec<T>]) -> Vec<Vec<T>> {
    let columns = rows.first().map_or(0, Vec::len);
    (0..columns).map(|column| rows.iter().filter_map(|row| row.get(column)).copied().collect()).collect()
}

fn cell_weights(term: &Term, weight: &[f64]) -> [f64; CELLS] {
    let mut weights = [0.0; CELLS];
    for (cell, weight) in term.cells.iter().zip(weight) {
        weights[usize::from(*cell)] += weight;
    }
    weights
}

/// Returns the nearest whole number of tenths within the limit of points.
fn whole(tenths: f64) -> i32 {
    let limit = f64::from(Points::LIMIT.tenths());
    #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 1000")]
    let whole = tenths.round().clamp(-limit, limit) as i32;
    whole
}

fn thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
