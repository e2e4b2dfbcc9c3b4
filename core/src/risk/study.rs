//! How good scorecards are on labelled wallets: measures, curves, the worst mistakes, and what a new one changes.

use serde::{Deserialize, Serialize};

use super::features::{ExtractError, NAMES, Row};
use super::fit::{CrossValidated, Curves, FitError, Measures, curves, measure};
use super::scorecard::{Points, Score, Scorecard, ScorecardError};
use super::training::{Cases, TrainingError};
use crate::graph::{Graph, Interrupt, MemoryBudget};

/// Mistakes of each kind that are told.
const MOST_MISTAKES: usize = 10;

/// Factors that are told of a mistake.
const MOST_FACTORS: usize = 3;

/// How good a scorecard is, and where it is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// The scorecard.
    pub version: String,
    /// Whether each wallet was scored by a scorecard that was fitted without it.
    pub out_of_fold: bool,
    /// See [`Measures`].
    pub auc: f64,
    /// See [`Measures`].
    pub average_precision: f64,
    /// See [`Measures`].
    pub log_loss: f64,
    /// See [`Measures`].
    pub brier: f64,
    /// See [`Measures`].
    pub calibration: Vec<super::fit::CalibrationBin>,
    /// See [`Curves`].
    pub roc: Vec<super::fit::CurvePoint>,
    /// See [`Curves`].
    pub precision_recall: Vec<super::fit::CurvePoint>,
    /// The illicit wallets with the lowest scores, then the others with the highest.
    pub mistakes: Vec<Mistake>,
}

/// A wallet that scores as it should not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Its address.
    pub address: String,
    /// What it is.
    pub illicit: bool,
    /// What it scores.
    pub score: Score,
    /// The factors that weigh most in the scorecard.
    pub factors: Vec<FactorWeight>,
}

/// A factor and its points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactorWeight {
    /// Name of the factor.
    pub factor: String,
    /// What it adds.
    pub points: Points,
}

/// What stopped a study.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// Features, or fitting.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// A scorecard.
    #[error(transparent)]
    Scorecard(#[from] ScorecardError),
}

impl From<FitError> for StudyError {
    fn from(error: FitError) -> Self {
        Self::Training(error.into())
    }
}

impl From<ExtractError> for StudyError {
    fn from(error: ExtractError) -> Self {
        Self::Training(error.into())
    }
}

/// The features of each case, as they are without the labels of the cases of its fold.
///
/// # Errors
/// [`ExtractError`].
pub fn judged_rows(
    graph: &Graph<'_>,
    cases: &Cases,
    memory: MemoryBudget,
    interrupt: &mut impl Interrupt,
) -> Result<Vec<Row>, ExtractError> {
    let mut rows = vec![[f64::NAN; NAMES.len()]; cases.list().len()];
    let mut folds: Vec<u32> = cases.list().iter().map(|case| case.fold).collect();
    folds.sort_unstable();
    folds.dedup();
    for fold in folds {
        let of_fold = cases.rows(graph, Some(fold), memory, interrupt)?;
        for ((row, found), case) in rows.iter_mut().zip(of_fold).zip(cases.list()) {
            if case.fold == fold {
                *row = found;
            }
        }
    }
    Ok(rows)
}

/// A scorecard as it is, on labelled wallets.
///
/// # Errors
/// [`StudyError`].
pub fn evaluate(
    graph: &Graph<'_>,
    cases: &Cases,
    rows: &[Row],
    scorecard: &Scorecard,
) -> Result<ModelReport, StudyError> {
    let bound = scorecard.bind(&NAMES)?;
    let scores: Vec<Score> = rows.iter().map(|row| bound.score(row).score).collect();
    let probabilities: Vec<f64> = scores.iter().map(|score| scorecard.probability(*score)).collect();
    let numbers: Vec<f64> = scores.iter().map(|score| score.as_f64()).collect();
    let illicit: Vec<bool> = cases.list().iter().map(|case| case.illicit).collect();
    let weight = vec![1.0; illicit.len()];
    let measures = measure(&numbers, &probabilities, &illicit, &weight)?;
    let curves = curves(&numbers, &illicit, &weight)?;
    report(graph, cases, rows, scorecard, &scores, (measures, curves), false)
}

/// A scorecard that was fitted to labelled wallets, by scores that each wallet had no part in.
///
/// # Errors
/// [`StudyError`].
pub fn report_on_fit(
    graph: &Graph<'_>,
    cases: &Cases,
    rows: &[Row],
    scorecard: &Scorecard,
    fitted: &CrossValidated,
) -> Result<ModelReport, StudyError> {
    let judged = cases.list().len();
    let measured = (fitted.measures(|row| row < judged)?, fitted.curves(|row| row < judged)?);
    report(graph, cases, rows, scorecard, &fitted.scores, measured, true)
}

fn report(
    graph: &Graph<'_>,
    cases: &Cases,
    rows: &[Row],
    scorecard: &Scorecard,
    scores: &[Score],
    (measures, curves): (Measures, Curves),
    out_of_fold: bool,
) -> Result<ModelReport, StudyError> {
    Ok(ModelReport {
        version: scorecard.version().to_owned(),
        out_of_fold,
        auc: measures.auc,
        average_precision: measures.average_precision,
        log_loss: measures.log_loss,
        brier: measures.brier,
        calibration: measures.calibration,
        roc: curves.roc,
        precision_recall: curves.precision_recall,
        mistakes: mistakes(graph, cases, rows, scorecard, scores)?,
    })
}

fn mistakes(
    graph: &Graph<'_>,
    cases: &Cases,
    rows: &[Row],
    scorecard: &Scorecard,
    scores: &[Score],
) -> Result<Vec<Mistake>, StudyError> {
    let bound = scorecard.bind(&NAMES)?;
    let mut told = Vec::new();
    for illicit in [true, false] {
        let mut wrong: Vec<(usize, Score)> = (0..).zip(scores.iter().copied()).take(cases.list().len()).collect();
        wrong.retain(|(place, _)| cases.list().get(*place).is_some_and(|case| case.illicit == illicit));
        // cases are in the order of addresses
        wrong.sort_by_key(|(place, score)| (if illicit { score.tenths() } else { 1000 - score.tenths() }, *place));
        for (place, score) in wrong.into_iter().take(MOST_MISTAKES) {
            let (Some(case), Some(row)) = (cases.list().get(place), rows.get(place)) else { continue };
            let mut factors = Vec::new();
            bound.each_points(row, |factor, points| {
                if let Some(factor) = scorecard.factors().get(factor) {
                    factors.push(FactorWeight { factor: factor.name.clone(), points });
                }
            });
            factors.sort_by_key(|one| std::cmp::Reverse(one.points.tenths().unsigned_abs()));
            factors.truncate(MOST_FACTORS);
            let address = graph.address(case.wallet).map_err(ExtractError::from)?.to_owned();
            told.push(Mistake { address, illicit, score, factors });
        }
    }
    Ok(told)
}
