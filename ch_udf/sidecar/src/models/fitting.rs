//! Fits the scorecard that ships, out of files alone, the same bit for bit every time.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use arx_core::graph::{MemoryBudget, Uninterrupted, WalletId};
use arx_core::risk::features::NAMES;
use arx_core::risk::fit::Measures;
use arx_core::risk::scorecard::Scorecard;
use arx_core::risk::study::{Draft, DraftRequest, fit_draft};
use arx_core::risk::training::{Cases, Split};

use super::{MEMORY, Offline, RiskError, Stratum, output};

/// What a scorecard is fitted on, and what becomes of it.
#[derive(Debug, Clone)]
pub(crate) struct Fitting {
    /// CSV of wallets and whether they are illicit.
    pub cases: PathBuf,
    /// Label list for exposure to others, if any.
    pub labels: Option<PathBuf>,
    /// Cases that are measured apart, if any are.
    pub stratum: Option<Stratum>,
    /// Folds of the cross-validation.
    pub folds: u32,
    /// What chance there is comes from this.
    pub seed: u64,
    /// Name of the scorecard.
    pub version: String,
    /// What it is, in words.
    pub description: String,
    /// Where the samples go, a file a fold, if they are wanted.
    pub samples: Option<PathBuf>,
}

/// A scorecard with its measures.
#[derive(Debug)]
pub(crate) struct FittedScorecard {
    /// The scorecard.
    pub scorecard: Scorecard,
    /// Over all cases, out of fold.
    pub all: Measures,
    /// Over the cases that are shown again as they look where nobody else is labelled, out of fold.
    pub unlabelled: Measures,
    /// Over those of the stratum, out of fold.
    pub stratum: Option<Measures>,
    /// Cases without a transaction.
    pub unknown: usize,
}

impl Fitting {
    /// Fits.
    ///
    /// # Errors
    /// Those of reading files, of features and of fitting.
    pub(crate) fn run(&self, offline: &Offline) -> Result<FittedScorecard, RiskError> {
        let graph = offline.graph();
        let named = offline.cases(&self.cases, self.stratum.as_ref())?;
        let others = match &self.labels {
            Some(path) => offline.labels(path)?.kinds,
            None => Vec::new(),
        };
        let wallets: Vec<_> = named.iter().map(|case| (case.wallet, case.illicit)).collect();
        let network = offline.network().name();
        let split = Split { folds: self.folds, seed: self.seed };
        let cases = Cases::new(&graph, network, &wallets, &others, None, split, &mut Uninterrupted)?;
        let in_stratum: HashSet<WalletId> =
            named.iter().filter(|case| case.in_stratum).map(|case| case.wallet).collect();
        if let Some(folder) = &self.samples {
            self.write_samples(folder, offline, &cases, &in_stratum)?;
        }
        let stratum = self.stratum.as_ref().map(Stratum::to_string);
        let request = DraftRequest {
            version: &self.version,
            description: &self.description,
            subset: stratum.as_deref().filter(|_| !in_stratum.is_empty()).map(|name| (name, &in_stratum)),
        };
        let draft = fit_draft(&graph, &cases, &request, MemoryBudget::new(MEMORY), &mut Uninterrupted)?;
        let unlabelled = draft.measures_without_labels()?;
        let Draft { scorecard, measures: all, subset: stratum, .. } = draft;
        Ok(FittedScorecard { scorecard, all, unlabelled, stratum, unknown: named.len() - cases.list().len() })
    }

    /// One CSV a fold with what is known in it: address, is_illicit, whether it is of the stratum,
    /// its fold, and the features.
    fn write_samples(
        &self,
        folder: &Path,
        offline: &Offline,
        cases: &Cases,
        in_stratum: &HashSet<WalletId>,
    ) -> Result<(), RiskError> {
        let graph = offline.graph();
        let failed = |source| RiskError::Write { file: folder.display().to_string(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        for fold in (0..self.folds).map(Some).chain([None]) {
            let name = fold.map_or_else(|| "all".to_owned(), |fold| format!("fold{fold}"));
            let rows = cases.rows(&graph, fold, MemoryBudget::new(MEMORY), &mut Uninterrupted)?;
            output::write(&folder.join(format!("{name}.csv")), |out| {
                let mut csv = csv::Writer::from_writer(out);
                csv.write_record(["address", "is_illicit", "in_stratum", "fold"].iter().chain(&NAMES))?;
                for (case, row) in cases.list().iter().zip(&rows) {
                    let address =
                        graph.address(case.wallet).map_err(|error| RiskError::Graph { message: error.to_string() })?;
                    let stratum = u8::from(in_stratum.contains(&case.wallet));
                    let mut record = vec![
                        address.to_owned(),
                        u8::from(case.illicit).to_string(),
                        stratum.to_string(),
                        case.fold.to_string(),
                    ];
                    // An undefined value is an empty field.
                    record.extend(row.iter().map(
                        |value| {
                            if value.is_nan() { String::new() } else { value.to_string() }
                        },
                    ));
                    csv.write_record(record)?;
                }
                Ok(csv.flush()?)
            })?;
        }
        Ok(())
    }
}
