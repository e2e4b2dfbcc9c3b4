//! Studies of scorecards on labelled wallets: fits of drafts, measures, curves, the worst mistakes,
//! and the comparison of a draft with the scorecard in use.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::features::{ExtractError, FeatureRow, NAMES};
use super::fit::{
    CalibrationBin, CrossValidated, CurvePoint, Curves, FitError, FitOptions, Measures, Publication, cross_validate,
    curves, measure,
};
use super::scorecard::{Points, Score, Scorecard, ScorecardError, Training};
use super::training::{Cases, TrainingError, fit_options};
use crate::graph::{Graph, Interrupt, MemoryBudget, WalletId};

/// Mistakes of each class in a report.
const MAX_MISTAKES: usize = 10;

/// Factors shown for a mistake.
const MAX_FACTORS: usize = 3;

/// Measures of a scorecard, and its worst mistakes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// Version of the scorecard.
    pub version: String,
    /// `true` when each wallet was scored by a scorecard that was fitted without it.
    pub out_of_fold: bool,
    /// See [`Measures::auc`].
    pub auc: f64,
    /// See [`Measures::average_precision`].
    pub average_precision: f64,
    /// See [`Measures::log_loss`].
    pub log_loss: f64,
    /// See [`Measures::brier`].
    pub brier: f64,
    /// See [`Measures::calibration`].
    pub calibration: Vec<CalibrationBin>,
    /// See [`Curves::roc`].
    pub roc: Vec<CurvePoint>,
    /// See [`Curves::precision_recall`].
    pub precision_recall: Vec<CurvePoint>,
    /// The illicit wallets with the lowest scores, then the others with the highest.
    pub mistakes: Vec<Mistake>,
}

/// A wallet whose score contradicts its class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Address of the wallet.
    pub address: String,
    /// Class of the wallet.
    pub illicit: bool,
    /// Score of the wallet.
    pub score: Score,
    /// The factors with the most points, either way.
    pub factors: Vec<FactorWeight>,
}

/// A factor and the points that it adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactorWeight {
    /// Name of the factor.
    pub factor: String,
    /// Points that it adds.
    pub points: Points,
}

/// Reason why a study could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// Features could not be extracted, or a fit failed.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// A scorecard is invalid.
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

/// Name and description of a draft, and the cases to measure separately.
#[derive(Debug, Clone, Copy)]
pub struct DraftRequest<'r> {
    /// Version of the scorecard.
    pub version: &'r str,
    /// Description of the scorecard.
    pub description: &'r str,
    /// Name and wallets of a subset of the cases that is measured separately.
    pub subset: Option<(&'r str, &'r HashSet<WalletId>)>,
}

/// A scorecard fitted to labelled wallets, with its out-of-fold measures.
#[derive(Debug)]
pub struct ModelDraft {
    /// The scorecard, fitted to all cases.
    pub scorecard: Scorecard,
    /// Measures over all cases.
    pub measures: Measures,
    /// Measures over the subset of the request.
    pub subset: Option<Measures>,
    cross_validated: CrossValidated,
    /// Rows of the sample before those that repeat a case without labels.
    cases: usize,
}

/// Reports on a draft and on the scorecard in use, over the same cases.
#[derive(Debug)]
pub struct DraftComparison {
    /// Report on the draft, by out-of-fold scores.
    pub draft: ModelReport,
    /// Report on the scorecard in use.
    pub current: ModelReport,
}

/// Fits a scorecard to labelled wallets and measures it out of fold. Deterministic: the same graph,
/// cases and request give the same scorecard, bit for bit.
///
/// # Errors
/// [`StudyError`].
pub fn fit_draft(
    graph: &Graph<'_>,
    cases: &Cases,
    request: &DraftRequest<'_>,
    memory: MemoryBudget,
    interrupt: &mut impl Interrupt,
) -> Result<ModelDraft, StudyError> {
    fit_draft_with(&fit_options(cases.split().seed, memory), graph, cases, request, memory, interrupt)
}

fn fit_draft_with(
    options: &FitOptions,
    graph: &Graph<'_>,
    cases: &Cases,
    request: &DraftRequest<'_>,
    memory: MemoryBudget,
    interrupt: &mut impl Interrupt,
) -> Result<ModelDraft, StudyError> {
    let cross_validated = cross_validate::<TrainingError, _>(
        cases.folds(),
        cases.split().folds,
        options,
        |fold, interrupt| cases.sample(graph, fold, memory, interrupt),
        interrupt,
    )?;
    let count = cases.list().len();
    let measures = cross_validated.measures(|row| row < count)?;
    let subset = match request.subset {
        Some((_, wallets)) => {
            let is_member = |row: usize| cases.list().get(row).is_some_and(|case| wallets.contains(&case.wallet));
            Some(cross_validated.measures(is_member)?)
        }
        None => None,
    };
    let named_subset = request.subset.map(|(name, _)| name).zip(subset.as_ref());
    let training = Training {
        rows: measures.rows,
        illicit: measures.illicit,
        folds: cases.split().folds,
        auc: measures.auc,
        average_precision: measures.average_precision,
        log_loss: measures.log_loss,
        brier: measures.brier,
        notes: training_notes(cases.split().seed, named_subset),
    };
    let scorecard = cross_validated.fitted.scorecard(&Publication {
        version: request.version.to_owned(),
        description: request.description.to_owned(),
        calibration: cross_validated.calibration.clone(),
        training: Some(training),
        ..Publication::default()
    })?;
    Ok(ModelDraft { scorecard, measures, subset, cross_validated, cases: count })
}

fn training_notes(seed: u64, subset: Option<(&str, &Measures)>) -> BTreeMap<String, String> {
    let mut notes = BTreeMap::from([("seed".to_owned(), seed.to_string())]);
    if let Some((name, measures)) = subset {
        notes.insert("stratum".to_owned(), name.to_owned());
        notes.insert("stratum_rows".to_owned(), measures.rows.to_string());
        notes.insert("stratum_illicit".to_owned(), measures.illicit.to_string());
        notes.insert("stratum_auc".to_owned(), format!("{:.4}", measures.auc));
        notes.insert("stratum_average_precision".to_owned(), format!("{:.4}", measures.average_precision));
    }
    notes
}

impl ModelDraft {
    /// Returns the measures over the cases that are repeated as if no other wallet were labelled.
    ///
    /// # Errors
    /// [`FitError`] when there are too few of either class.
    pub fn measures_without_labels(&self) -> Result<Measures, FitError> {
        self.cross_validated.measures(|row| row >= self.cases)
    }

    /// Reports on the draft and on the scorecard in use, over the cases of the draft.
    ///
    /// # Errors
    /// [`StudyError`].
    pub fn compare(
        &self,
        current: &Scorecard,
        graph: &Graph<'_>,
        cases: &Cases,
        memory: MemoryBudget,
        interrupt: &mut impl Interrupt,
    ) -> Result<DraftComparison, StudyError> {
        let rows = out_of_fold_rows(graph, cases, memory, interrupt)?;
        let is_case = |row: usize| row < self.cases;
        let measured = (self.cross_validated.measures(is_case)?, self.cross_validated.curves(is_case)?);
        let judged = JudgedCases { graph, cases, rows: &rows };
        let draft = judged.report(&self.scorecard, &self.cross_validated.scores, measured, true)?;
        Ok(DraftComparison { draft, current: evaluate(graph, cases, &rows, current)? })
    }
}

/// Returns the features of each case without the labels of the cases in its fold.
///
/// # Errors
/// [`ExtractError`].
pub fn out_of_fold_rows(
    graph: &Graph<'_>,
    cases: &Cases,
    memory: MemoryBudget,
    interrupt: &mut impl Interrupt,
) -> Result<Vec<FeatureRow>, ExtractError> {
    let mut rows = vec![[f64::NAN; NAMES.len()]; cases.list().len()];
    let mut folds: Vec<u32> = cases.list().iter().map(|case| case.fold).collect();
    folds.sort_unstable();
    folds.dedup();
    for fold in folds {
        let rows_without_fold = cases.rows(graph, Some(fold), memory, interrupt)?;
        for ((row, row_without_fold), case) in rows.iter_mut().zip(rows_without_fold).zip(cases.list()) {
            if case.fold == fold {
                *row = row_without_fold;
            }
        }
    }
    Ok(rows)
}

/// Reports on a scorecard as it is, on labelled wallets with these features.
///
/// # Errors
/// [`StudyError`].
pub fn evaluate(
    graph: &Graph<'_>,
    cases: &Cases,
    rows: &[FeatureRow],
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
    JudgedCases { graph, cases, rows }.report(scorecard, &scores, (measures, curves), false)
}

/// Labelled wallets with their features.
#[derive(Clone, Copy)]
struct JudgedCases<'j> {
    graph: &'j Graph<'j>,
    cases: &'j Cases,
    rows: &'j [FeatureRow],
}

impl JudgedCases<'_> {
    fn report(
        &self,
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
            mistakes: self.mistakes(scorecard, scores)?,
        })
    }

    fn mistakes(&self, scorecard: &Scorecard, scores: &[Score]) -> Result<Vec<Mistake>, StudyError> {
        let bound = scorecard.bind(&NAMES)?;
        let mut mistakes = Vec::new();
        for illicit in [true, false] {
            let cases = self.cases.list().iter().zip(self.rows).zip(scores);
            let mut of_class: Vec<_> = cases.filter(|((case, _), _)| case.illicit == illicit).collect();
            // The sort is stable, and cases are in the order of their addresses.
            of_class.sort_by_key(|(_, score)| if illicit { score.tenths() } else { 1000 - score.tenths() });
            for ((case, row), score) in of_class.into_iter().take(MAX_MISTAKES) {
                let mut factors = Vec::new();
                bound.each_points(row, |factor, points| {
                    if let Some(factor) = scorecard.factors().get(factor) {
                        factors.push(FactorWeight { factor: factor.name.clone(), points });
                    }
                });
                factors.sort_by_key(|weight| std::cmp::Reverse(weight.points.tenths().unsigned_abs()));
                factors.truncate(MAX_FACTORS);
                let address = self.graph.address(case.wallet).map_err(ExtractError::from)?.to_owned();
                mistakes.push(Mistake { address, illicit, score: *score, factors });
            }
        }
        Ok(mistakes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::assessment::default_scorecard;
    use super::super::training::Split;
    use super::*;
    use crate::graph::Uninterrupted;
    use crate::graph::test_graph::{Sent, TestGraph};

    const MEMORY: MemoryBudget = MemoryBudget::new(1 << 26);
    const SPLIT: Split = Split { folds: 3, seed: 7 };

    /// Labelled wallets, by number; the even ones are illicit.
    const LABELLED: u32 = 120;

    /// Illicit wallets mostly pay on what they receive at once, the others mostly keep a part of it
    /// for a day.
    fn graph() -> TestGraph {
        let payer_and_receiver = |wallet: u32| (200 + wallet, 400 + wallet % 7);
        let rows = (0..LABELLED).flat_map(|wallet| {
            let (payer, receiver) = payer_and_receiver(wallet);
            let acts_illicit = (wallet % 2 == 0) != (wallet % 12 == 5);
            let (wait, value) = if acts_illicit { (60, 1_000) } else { (86_400, 300) };
            let start = i64::from(wallet) * 1_000_000_000;
            [
                Sent { time: start, ..Sent::coins(payer, wallet, 1_000) },
                Sent { time: start + wait * 1_000_000, ..Sent::coins(wallet, receiver, value) },
            ]
        });
        TestGraph::new(&rows.collect::<Vec<_>>(), 10)
    }

    fn cases(graph: &TestGraph) -> Cases {
        let wallets: Vec<(WalletId, bool)> =
            (0..LABELLED).map(|wallet| (graph.wallet(wallet), wallet % 2 == 0)).collect();
        Cases::new(&graph.graph(), "testnet", &wallets, &[], None, SPLIT, &mut Uninterrupted).unwrap()
    }

    fn draft(graph: &TestGraph, cases: &Cases, subset: Option<(&str, &HashSet<WalletId>)>) -> ModelDraft {
        let options = FitOptions { bags: 2, bins: 8, rounds: 60, max_pairs: 0, ..fit_options(SPLIT.seed, MEMORY) };
        let request = DraftRequest { version: "draft-1", description: "a draft", subset };
        fit_draft_with(&options, &graph.graph(), cases, &request, MEMORY, &mut Uninterrupted).unwrap()
    }

    #[test]
    fn a_draft_states_how_it_was_trained() {
        let graph = graph();
        let cases = cases(&graph);
        let subset: HashSet<WalletId> = (0..60).map(|wallet| graph.wallet(wallet)).collect();
        let draft = draft(&graph, &cases, Some(("first half", &subset)));
        assert_eq!((draft.scorecard.version(), draft.scorecard.description()), ("draft-1", "a draft"));
        let training = draft.scorecard.training().unwrap();
        assert_eq!((training.rows, training.illicit, training.folds), (120, 60, 3));
        assert_eq!((training.auc, training.brier), (draft.measures.auc, draft.measures.brier));
        assert!((0.8..1.0).contains(&training.auc), "one licit wallet in six acts like an illicit one: {training:?}");
        let subset = draft.subset.unwrap();
        assert_eq!((subset.rows, subset.illicit), (60, 30));
        let note = |name: &str| training.notes.get(name).map(String::as_str);
        assert_eq!((note("seed"), note("stratum")), (Some("7"), Some("first half")));
        assert_eq!((note("stratum_rows"), note("stratum_illicit")), (Some("60"), Some("30")));
        assert_eq!(note("stratum_auc"), Some(&*format!("{:.4}", subset.auc)));
        // Every third case or so is repeated without labels.
        let repeated = draft.cross_validated.scores.len() - cases.list().len();
        assert_eq!(draft.cross_validated.measures(|row| row >= 120).unwrap().rows, repeated as u64);
    }

    #[test]
    fn the_same_cases_give_the_same_draft() {
        let graph = graph();
        let json = || draft(&graph, &cases(&graph), None).scorecard.to_json().unwrap();
        let first = json();
        assert_eq!(first, json());
        assert!(first.contains("\"seed\": \"7\"") && !first.contains("stratum"));
    }

    #[test]
    fn a_draft_is_compared_with_the_scorecard_in_use() {
        let graph = graph();
        let cases = cases(&graph);
        let draft = draft(&graph, &cases, None);
        let current = default_scorecard().unwrap();
        let comparison = draft.compare(&current, &graph.graph(), &cases, MEMORY, &mut Uninterrupted).unwrap();
        let DraftComparison { draft: report, current: current_report } = comparison;
        assert_eq!((report.version.as_str(), report.out_of_fold), ("draft-1", true));
        assert_eq!((current_report.version.as_str(), current_report.out_of_fold), (current.version(), false));
        assert_eq!((report.auc, report.log_loss), (draft.measures.auc, draft.measures.log_loss));
        let rows = out_of_fold_rows(&graph.graph(), &cases, MEMORY, &mut Uninterrupted).unwrap();
        assert_eq!(current_report, evaluate(&graph.graph(), &cases, &rows, &current).unwrap());
        // Illicit wallets with the lowest scores come first, then the others with the highest.
        assert_eq!(report.mistakes.len(), 2 * MAX_MISTAKES);
        let (illicit, others) = report.mistakes.split_at(MAX_MISTAKES);
        assert!(illicit.iter().all(|mistake| mistake.illicit) && illicit.is_sorted_by_key(|mistake| mistake.score));
        assert!(others.iter().all(|mistake| !mistake.illicit));
        assert!(others.is_sorted_by_key(|mistake| std::cmp::Reverse(mistake.score)));
        assert!(report.mistakes.iter().all(|mistake| mistake.factors.len() <= MAX_FACTORS));
    }
}
