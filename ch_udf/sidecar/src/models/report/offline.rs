//! A report out of files: scorecards judged on cases in a graph, without a database.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use arx_core::graph::{MemoryBudget, Uninterrupted, WalletId};
use arx_core::label::LabelKind;
use arx_core::risk::features::{NAMES, Row};
use arx_core::risk::fit::{Measures, drift, measure};
use arx_core::risk::scorecard::{Score, Scorecard};
use arx_core::risk::study::{evaluate, out_of_fold_rows};
use arx_core::risk::training::{Cases, Split};

use super::super::files::NamedCase;
use super::super::scoring::{Scoring, wallets};
use super::super::{FileLabels, GraphFiles, MEMORY, Offline, RiskError, Stratum, scorecard};
use super::content::{Histogram, Measured, Model, Report, Sample};

/// What is reported on.
pub(crate) struct Request {
    pub(crate) graph: GraphFiles,
    pub(crate) cases: Option<PathBuf>,
    pub(crate) stratum: Option<Stratum>,
    /// The one in use; none is the one compiled in.
    pub(crate) scorecard: Option<PathBuf>,
    pub(crate) draft: Option<PathBuf>,
    pub(crate) split: Split,
    /// Whether all wallets are scored.
    pub(crate) scores: bool,
}

/// Cases with their features.
struct Judged {
    cases: Cases,
    rows: Vec<Row>,
    sample: Sample,
    in_stratum: HashSet<WalletId>,
}

impl Request {
    /// Reads, judges and scores.
    ///
    /// # Errors
    /// Those of reading files, of features and of measuring.
    pub(crate) fn report(&self, made: String) -> Result<Report, RiskError> {
        let active = scorecard(self.scorecard.as_deref())?;
        let draft = self.draft.as_deref().map(|path| scorecard(Some(path))).transpose()?;
        let offline = self.graph.read()?;
        let labels = self.graph.read_labels(&offline)?;
        let named = match &self.cases {
            Some(path) => offline.cases(path, self.stratum.as_ref())?,
            None => Vec::new(),
        };
        let judged = if named.is_empty() { None } else { Some(self.judge(&offline, &labels, &named)?) };
        let state = |file: Option<&PathBuf>| {
            file.map_or("shipped with ARX".to_owned(), |file| format!("read from {}", file.display()))
        };
        let mut report = Report {
            made,
            source: format!("from {}", self.graph.transactions.display()),
            network: offline.network().name().to_owned(),
            active: self.model(
                &offline,
                active,
                format!("in use, {}", state(self.scorecard.as_ref())),
                judged.as_ref(),
            )?,
            draft: match draft {
                Some(draft) => Some(self.model(
                    &offline,
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
            // as PostgreSQL knows labels: the cases are labelled there, too
            let illicit = named.iter().filter(|case| case.illicit).map(|case| (case.wallet, LabelKind::Illicit));
            let known: Vec<_> = labels.kinds.iter().copied().chain(illicit).collect();
            score_all(&offline, &known, &mut report)?;
        }
        report.labels = told_labels(&offline, &labels, &report)?;
        Ok(report)
    }

    fn judge(&self, offline: &Offline, labels: &FileLabels, named: &[NamedCase]) -> Result<Judged, RiskError> {
        let graph = offline.graph();
        let wallets: Vec<_> = named.iter().map(|case| (case.wallet, case.illicit)).collect();
        let network = offline.network().name();
        let cases = Cases::new(&graph, network, &wallets, &labels.kinds, None, self.split, &mut Uninterrupted)?;
        let rows = out_of_fold_rows(&graph, &cases, MemoryBudget::new(MEMORY), &mut Uninterrupted)?;
        let sample = Sample {
            wallets: cases.list().len() as u64,
            illicit: cases.list().iter().filter(|case| case.illicit).count() as u64,
            unknown: (named.len() - cases.list().len()) as u64,
            conflicting: 0,
            folds: self.split.folds,
        };
        let in_stratum = named.iter().filter(|case| case.in_stratum).map(|case| case.wallet).collect();
        Ok(Judged { cases, rows, sample, in_stratum })
    }

    fn model(
        &self,
        offline: &Offline,
        scorecard: Scorecard,
        state: String,
        judged: Option<&Judged>,
    ) -> Result<Model, RiskError> {
        let measured = match judged {
            None => None,
            Some(judged) => {
                let stratum = match &self.stratum {
                    Some(stratum) => judged.of_stratum(&scorecard)?.map(|measures| (stratum.to_string(), measures)),
                    None => None,
                };
                Some(Measured {
                    report: evaluate(&offline.graph(), &judged.cases, &judged.rows, &scorecard)?,
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
    /// Measures on the cases of the stratum; none where they are of one class.
    fn of_stratum(&self, scorecard: &Scorecard) -> Result<Option<Measures>, RiskError> {
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
        if illicit.iter().all(|one| *one) || !illicit.contains(&true) {
            return Ok(None);
        }
        Ok(Some(measure(&numbers, &probabilities, &illicit, &vec![1.0; numbers.len()])?))
    }
}

/// Scores every wallet with each model.
fn score_all(offline: &Offline, labels: &[(WalletId, LabelKind)], report: &mut Report) -> Result<(), RiskError> {
    let graph = offline.graph();
    let wallets = wallets(&graph)?;
    let mut scoring = Scoring::new(graph, labels)?;
    let mut scores = AllScores::default();
    let bound = report.active.scorecard.bind(&NAMES)?;
    let of_draft = report.draft.as_ref().map(|draft| draft.scorecard.bind(&NAMES)).transpose()?;
    for (_, wallet) in wallets {
        if let Some((row, _)) = scoring.extract(wallet)? {
            scores.active.push(bound.score(&row).score);
            scores.draft.extend(of_draft.as_ref().map(|draft| draft.score(&row).score));
        }
    }
    scores.tell(report)
}

/// The scores of all wallets by each model.
#[derive(Default)]
pub(super) struct AllScores {
    pub(super) active: Vec<Score>,
    pub(super) draft: Vec<Score>,
}

impl AllScores {
    /// Puts histograms and drift into a report.
    pub(super) fn tell(&self, report: &mut Report) -> Result<(), RiskError> {
        report.active.histogram = Some(Histogram::new(&report.active.scorecard, &self.active));
        if let Some(draft) = &mut report.draft {
            draft.histogram = Some(Histogram::new(&draft.scorecard, &self.draft));
            report.drift = Some(drift((&report.active.scorecard, &self.active), (&draft.scorecard, &self.draft))?);
        }
        Ok(())
    }
}

/// What the label list says of the wallets that are told as mistakes.
fn told_labels(offline: &Offline, labels: &FileLabels, report: &Report) -> Result<BTreeMap<String, String>, RiskError> {
    let mut told = BTreeMap::new();
    for address in report.mistaken() {
        if let Some(label) = offline.wallet(address)?.and_then(|wallet| labels.own.get(&wallet)) {
            told.insert(address.to_owned(), format!("{} ({})", label.category, label.source));
        }
    }
    Ok(told)
}
