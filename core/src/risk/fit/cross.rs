//! Cross-validation: every row is scored by a scorecard that was fitted without it.

use std::collections::BTreeMap;

use super::calibrate::calibrate;
use super::error::FitError;
use super::factors::{FittedModel, Publication};
use super::fitting::fit;
use super::measures::{Curves, Measures, curves, measure};
use super::options::FitOptions;
use super::pace::RowPace;
use super::sample::TrainingSample;
use crate::graph::Interrupt;
use crate::risk::scorecard::{Knot, Score, Training, probability_at};

/// The outcome of a cross-validation.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossValidated {
    /// Model fitted to all rows: the one to publish.
    pub fitted: FittedModel,
    /// Score of each row, by the scorecard of its fold.
    pub scores: Vec<Score>,
    /// Probability of each row, calibrated without the scores of its fold.
    pub probabilities: Vec<f64>,
    /// Calibration over all rows: the one to publish.
    pub calibration: Vec<Knot>,
    /// Class of each row.
    pub illicit: Vec<bool>,
    /// Weight of each row.
    pub weight: Vec<f64>,
    /// Number of folds.
    pub folds: u32,
}

/// Fits a model to all rows, and for each fold one to the rows of the other folds, which scores it.
/// `folds` has the fold of each row, below `k`.
///
/// `columns_for(Some(f), interrupt)` returns the sample whose columns do not depend on the classes
/// of fold `f`; with `None`, the sample for the fit to all rows. Rows, features and their order are
/// the same in all. Every fit uses the points per unit of log odds of the fit to all rows, so that
/// scores of different folds are comparable.
///
/// # Errors
/// Errors of `columns_for`, and [`FitError`].
pub fn cross_validate<E: From<FitError>, W: Interrupt>(
    folds: &[u32],
    k: u32,
    options: &FitOptions,
    mut columns_for: impl FnMut(Option<u32>, &mut W) -> Result<TrainingSample, E>,
    interrupt: &mut W,
) -> Result<CrossValidated, E> {
    if k < 2 {
        return Err(FitError::Option { name: "folds", range: "at least 2", value: f64::from(k) }.into());
    }
    if let Some(fold) = folds.iter().find(|fold| **fold >= k) {
        return Err(FitError::Option { name: "fold", range: "less than folds", value: f64::from(*fold) }.into());
    }
    let all = columns_for(None, interrupt)?;
    check_length("folds", all.rows(), folds.len())?;
    let fitted = fit(&all, options, interrupt)?;
    let (illicit, weight) = (all.illicit().to_vec(), all.weight().to_vec());
    drop(all);
    let options = FitOptions { points_per_logit: Some(fitted.points_per_logit()), ..options.clone() };
    let mut scores = vec![Score::UNKNOWN; folds.len()];
    for fold in 0..k {
        if !folds.contains(&fold) {
            continue;
        }
        let sample = columns_for(Some(fold), interrupt)?;
        check_length("rows of a fold's sample", folds.len(), sample.rows())?;
        let is_judged = |row: usize| folds.get(row) == Some(&fold);
        let others = sample.only(|row| !is_judged(row), &mut RowPace::new(interrupt))?;
        let learned = fit(&others, &options, interrupt)?;
        drop(others);
        judge(&learned, &sample, is_judged, &mut scores, interrupt)?;
    }
    let probabilities = held_out_probabilities(folds, k, &scores, &illicit, &weight)?;
    let calibration = calibrate(&scores, &illicit, &weight)?;
    Ok(CrossValidated { fitted, scores, probabilities, calibration, illicit, weight, folds: k })
}

fn check_length(what: &str, expected: usize, found: usize) -> Result<(), FitError> {
    if expected == found { Ok(()) } else { Err(FitError::Shape { what: what.to_owned(), expected, found }) }
}

fn judge<W: Interrupt>(
    learned: &FittedModel,
    sample: &TrainingSample,
    is_judged: impl Fn(usize) -> bool,
    scores: &mut [Score],
    interrupt: &mut W,
) -> Result<(), FitError> {
    let scorecard = learned.scorecard(&Publication::default())?;
    let names: Vec<&str> = sample.names().iter().map(String::as_str).collect();
    let bound = scorecard.bind(&names)?;
    let mut pace = RowPace::new(interrupt);
    let mut values = Vec::new();
    for (row, score) in scores.iter_mut().enumerate().filter(|(row, _)| is_judged(*row)) {
        pace.step(names.len())?;
        sample.read_row(row, &mut values);
        *score = bound.score(&values).score;
    }
    Ok(())
}

/// Returns the probability of each row by a calibration on the scores of the other folds.
fn held_out_probabilities(
    folds: &[u32],
    k: u32,
    scores: &[Score],
    illicit: &[bool],
    weight: &[f64],
) -> Result<Vec<f64>, FitError> {
    let mut probabilities = vec![0.5; scores.len()];
    for fold in (0..k).filter(|fold| folds.contains(fold)) {
        let others: Vec<f64> = weight.iter().zip(folds).map(|(w, f)| if *f == fold { 0.0 } else { *w }).collect();
        let knots = calibrate(scores, illicit, &others)?;
        for ((probability, score), row_fold) in probabilities.iter_mut().zip(scores).zip(folds) {
            if *row_fold == fold {
                *probability = probability_at(&knots, *score);
            }
        }
    }
    Ok(probabilities)
}

impl CrossValidated {
    /// Returns the measures of the rows for which `within` holds.
    ///
    /// # Errors
    /// [`FitError`] when there are no such rows, or all are of one class.
    pub fn measures(&self, within: impl Fn(usize) -> bool) -> Result<Measures, FitError> {
        let (scores, illicit, weight) = self.rows(&within);
        let probabilities = self.probabilities.iter().enumerate().filter(|(row, _)| within(*row)).map(|(_, p)| *p);
        measure(&scores, &probabilities.collect::<Vec<f64>>(), &illicit, &weight)
    }

    /// Returns the curves of the rows for which `within` holds.
    ///
    /// # Errors
    /// The errors of [`CrossValidated::measures`].
    pub fn curves(&self, within: impl Fn(usize) -> bool) -> Result<Curves, FitError> {
        let (scores, illicit, weight) = self.rows(&within);
        curves(&scores, &illicit, &weight)
    }

    /// Returns the training notes of a published scorecard.
    ///
    /// # Errors
    /// The errors of [`CrossValidated::measures`].
    pub fn training(&self) -> Result<Training, FitError> {
        let measures = self.measures(|_| true)?;
        let short = |number: f64| (number * 1e4).round() / 1e4;
        Ok(Training {
            rows: measures.rows,
            illicit: measures.illicit,
            folds: self.folds,
            auc: short(measures.auc),
            average_precision: short(measures.average_precision),
            log_loss: short(measures.log_loss),
            brier: short(measures.brier),
            notes: BTreeMap::new(),
        })
    }

    fn rows(&self, within: &impl Fn(usize) -> bool) -> (Vec<f64>, Vec<bool>, Vec<f64>) {
        let rows = self.scores.iter().zip(&self.illicit).zip(&self.weight).enumerate();
        let rows = rows.filter(|(row, _)| within(*row)).map(|(_, ((s, i), w))| ((s.as_f64(), *i), *w));
        let (scored, weight): (Vec<(f64, bool)>, Vec<f64>) = rows.unzip();
        let (scores, illicit) = scored.into_iter().unzip();
        (scores, illicit, weight)
    }
}
