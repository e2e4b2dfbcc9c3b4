//! Builds a report from files: scorecards judged on cases in a graph, without a database.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use arx_core::graph::{MemoryBudget, Uninterrupted, WalletId};
use arx_core::label::LabelKind;
use arx_core::risk::features::{FeatureRow, HistoryCoverage, NAMES};
use arx_core::risk::fit::{Measures, drift, measure};
use arx_core::risk::scorecard::{Score, Scorecard};
use arx_core::risk::study::{evaluate, out_of_fold_rows};
use arx_core::risk::training::{Cases, Split};

use super::super::files::FileCase;
use super::super::scoring::{Scoring, wallets};
use super::super::{FileGraph, FileLabels, GraphFiles, MEMORY, RiskError, Stratum, scorecard};
use super::content::{Histogram, Measured, Model, Report, Sample};

/// Options of the report.
pub(crate) struct OfflineRequest {
    pub(crate) graph: GraphFiles,
    pub(crate) cases: Option<PathBuf>,
    pub(crate) stratum: Option<Stratum>,
    /// The scorecard in use; the one compiled in if not given.
    pub(crate) scorecard: Option<PathBuf>,
    pub(crate) draft: Option<PathBuf>,
    pub(crate) split: Split,
    /// Score all wallets.
    pub(crate) scores: bool,
}

/// Cases with their features.
struct Judged {
    cases: Cases,
    rows: Vec<FeatureRow>,
    sample: Sample,
    in_stratum: HashSet<WalletId>,
}

impl OfflineRequest {
    /// Reads, judges and scores.
    ///
    /// # Errors
    /// Errors of reading files, of features and of measuring.
    pub(crate) fn report(&self, created_at: String) -> Result<Report, RiskError> {
        let active = scorecard(self.scorecard.as_deref())?;
        let draft = self.draft.as_deref().map(|path| scorecard(Some(path))).transpose()?;
        let file_graph = self.graph.read()?;
        let labels = self.graph.read_labels(&file_graph)?;
        let file_cases = match &self.cases {
            Some(path) => file_graph.cases(path, self.stratum.as_ref())?,
            None => Vec::new(),
        };
        let judged = if file_cases.is_empty() { None } else { Some(self.judge(&file_graph, &labels, &file_cases)?) };
        let state = |file: Option<&PathBuf>| {
            file.map_or("shipped with ARX".to_owned(), |file| format!("read from {}", file.display()))
        };
        let mut report = Report {
            created_at,
            source: format!("from {}", self.graph.transactions.display()),
            network: file_graph.network().name().to_owned(),
            active: self.model(
                &file_graph,
                active,
                format!("in use, {}", state(self.scorecard.as_ref())),
                judged.as_ref(),
            )?,
            draft: match draft {
                Some(draft) => Some(self.model(
                    &file_graph,
                    draft,
                    format!("draft, {}", state(self.draft.as_ref())),
                    judged.as_ref(),
                )?),
                None => None,
            },
            drift: None,
            labels: BTreeMap::new(),
            notes: Vec::new(),
        };
        match (&judged, &self.cases) {
            (Some(_), _) => {}
            (None, Some(path)) => report.notes.push(format!(
                "The models were not measured: no wallet of {} has a transaction in {}.",
                path.display(),
                self.graph.transactions.display()
            )),
            (None, None) => report
                .notes
                .push("The models were not measured: give --cases to judge them on labelled wallets.".to_owned()),
        }
        if self.scores {
            // In PostgreSQL the cases are labelled as well.
            let illicit = file_cases.iter().filter(|case| case.illicit).map(|case| (case.wallet, LabelKind::Illicit));
            let labels_and_cases: Vec<_> = labels.kinds.iter().copied().chain(illicit).collect();
            score_all(&file_graph, &labels_and_cases, &mut report)?;
        }
        report.labels = misclassified_labels(&file_graph, &labels, &report)?;
        Ok(report)
    }

    fn judge(&self, file_graph: &FileGraph, labels: &FileLabels, file_cases: &[FileCase]) -> Result<Judged, RiskError> {
        let graph = file_graph.graph();
        let wallets: Vec<_> = file_cases.iter().map(|case| (case.wallet, case.illicit)).collect();
        let network = file_graph.network().name();
        let cases = Cases::new(&graph, network, &wallets, &labels.kinds, None, self.split, &mut Uninterrupted)?;
        let rows = out_of_fold_rows(&graph, &cases, MemoryBudget::new(MEMORY), &mut Uninterrupted)?;
        let sample = Sample {
            wallets: cases.list().len() as u64,
            illicit: cases.list().iter().filter(|case| case.illicit).count() as u64,
            unknown: (file_cases.len() - cases.list().len()) as u64,
            conflicting: 0,
            folds: self.split.folds,
        };
        let in_stratum = file_cases.iter().filter(|case| case.in_stratum).map(|case| case.wallet).collect();
        Ok(Judged { cases, rows, sample, in_stratum })
    }

    fn model(
        &self,
        file_graph: &FileGraph,
        scorecard: Scorecard,
        state: String,
        judged: Option<&Judged>,
    ) -> Result<Model, RiskError> {
        let measured = match judged {
            None => None,
            Some(judged) => {
                let stratum = match &self.stratum {
                    Some(stratum) => {
                        judged.stratum_measures(&scorecard)?.map(|measures| (stratum.to_string(), measures))
                    }
                    None => None,
                };
                Some(Measured {
                    report: evaluate(&file_graph.graph(), &judged.cases, &judged.rows, &scorecard)?,
                    sample: judged.sample.clone(),
                    when: "read for this page".to_owned(),
                    stratum,
                })
            }
        };
        Ok(Model { scorecard, state, stored: None, measured, histogram: None })
    }
}

impl Judged {
    /// Measures a scorecard on the stratum. Returns `None` if all its cases are of one class.
    fn stratum_measures(&self, scorecard: &Scorecard) -> Result<Option<Measures>, RiskError> {
        let bound = scorecard.bind(&NAMES)?;
        let (mut numbers, mut probabilities, mut illicit) = (Vec::new(), Vec::new(), Vec::new());
        for (case, row) in self.cases.list().iter().zip(&self.rows) {
            if self.in_stratum.contains(&case.wallet) {
                let score = bound.score(row).score;
                numbers.push(score.as_f64());
                probabilities.push(scorecard.probability(score));
                illicit.push(case.illicit);
            }
        }
        if !illicit.contains(&false) || !illicit.contains(&true) {
            return Ok(None);
        }
        Ok(Some(measure(&numbers, &probabilities, &illicit, &vec![1.0; numbers.len()])?))
    }
}

/// Scores every wallet with each model.
fn score_all(file_graph: &FileGraph, labels: &[(WalletId, LabelKind)], report: &mut Report) -> Result<(), RiskError> {
    let graph = file_graph.graph();
    let wallets = wallets(&graph)?;
    let mut scoring = Scoring::new(graph, labels, HistoryCoverage::default())?;
    let mut scores = AllScores::default();
    let bound = report.active.scorecard.bind(&NAMES)?;
    let bound_draft = report.draft.as_ref().map(|draft| draft.scorecard.bind(&NAMES)).transpose()?;
    for (_, wallet) in wallets {
        if let Some((row, _)) = scoring.extract(wallet)? {
            scores.active.push(bound.score(&row).score);
            scores.draft.extend(bound_draft.as_ref().map(|draft| draft.score(&row).score));
        }
    }
    scores.add_to(report)
}

/// The scores of all wallets by each model.
#[derive(Default)]
pub(super) struct AllScores {
    pub(super) active: Vec<Score>,
    pub(super) draft: Vec<Score>,
}

impl AllScores {
    /// Adds histograms and drift to a report.
    pub(super) fn add_to(&self, report: &mut Report) -> Result<(), RiskError> {
        report.active.histogram = Some(Histogram::new(&report.active.scorecard, &self.active));
        if let Some(draft) = &mut report.draft {
            draft.histogram = Some(Histogram::new(&draft.scorecard, &self.draft));
            report.drift = Some(drift((&report.active.scorecard, &self.active), (&draft.scorecard, &self.draft))?);
        }
        Ok(())
    }
}

/// Returns the label text of the misclassified wallets.
fn misclassified_labels(
    file_graph: &FileGraph,
    labels: &FileLabels,
    report: &Report,
) -> Result<BTreeMap<String, String>, RiskError> {
    let mut texts = BTreeMap::new();
    for address in report.misclassified() {
        if let Some(label) = file_graph.wallet(address)?.and_then(|wallet| labels.own.get(&wallet)) {
            texts.insert(address.to_owned(), format!("{} ({})", label.category, label.source));
        }
    }
    Ok(texts)
}
