//! Fits the shipped scorecard from files. The result is reproducible bit for bit.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use arx_core::graph::{MemoryBudget, Uninterrupted, WalletId};
use arx_core::risk::features::NAMES;
use arx_core::risk::fit::Measures;
use arx_core::risk::scorecard::Scorecard;
use arx_core::risk::study::{DraftRequest, ModelDraft, fit_draft};
use arx_core::risk::training::{Cases, Split};

use super::{FileGraph, MEMORY, RiskError, Stratum, output};
use crate::error::DoingTo;

/// Inputs, parameters and outputs of a fit.
#[derive(Debug, Clone)]
pub(crate) struct Fitting {
    /// CSV of illicit and licit wallets.
    pub cases: PathBuf,
    /// Label list for exposure to other wallets.
    pub labels: Option<PathBuf>,
    /// Cases that are measured separately as well.
    pub stratum: Option<Stratum>,
    pub folds: u32,
    /// Seed of the random generator.
    pub seed: u64,
    pub version: String,
    /// Description of the scorecard.
    pub description: String,
    /// Folder for the samples, one file per fold.
    pub samples: Option<PathBuf>,
}

/// A scorecard with its measures, all of them out of fold.
#[derive(Debug)]
pub(crate) struct FittedScorecard {
    pub scorecard: Scorecard,
    /// Measures on all cases.
    pub all: Measures,
    /// Measures on the copies of the cases from which all other labels were removed.
    pub unlabelled: Measures,
    /// Measures on the stratum.
    pub stratum: Option<Measures>,
    /// Cases without a transaction.
    pub unknown: usize,
}

impl Fitting {
    pub(crate) fn run(&self, file_graph: &FileGraph) -> Result<FittedScorecard, RiskError> {
        let graph = file_graph.graph();
        let file_cases = file_graph.cases(&self.cases, self.stratum.as_ref())?;
        let other_labels = match &self.labels {
            Some(path) => file_graph.labels(path)?.kinds,
            None => Vec::new(),
        };
        let wallets: Vec<_> = file_cases.iter().map(|case| (case.wallet, case.illicit)).collect();
        let network = file_graph.network().name();
        let split = Split { folds: self.folds, seed: self.seed };
        let cases = Cases::new(&graph, network, &wallets, &other_labels, None, split, &mut Uninterrupted)?;
        let in_stratum: HashSet<WalletId> =
            file_cases.iter().filter(|case| case.in_stratum).map(|case| case.wallet).collect();
        if let Some(folder) = &self.samples {
            self.write_samples(folder, file_graph, &cases, &in_stratum)?;
        }
        let stratum = self.stratum.as_ref().map(Stratum::to_string);
        let request = DraftRequest {
            version: &self.version,
            description: &self.description,
            subset: stratum.as_deref().filter(|_| !in_stratum.is_empty()).map(|name| (name, &in_stratum)),
        };
        let draft = fit_draft(&graph, &cases, &request, MemoryBudget::new(MEMORY), &mut Uninterrupted)?;
        let unlabelled = draft.measures_without_labels()?;
        let ModelDraft { scorecard, measures: all, subset: stratum, .. } = draft;
        Ok(FittedScorecard { scorecard, all, unlabelled, stratum, unknown: file_cases.len() - cases.list().len() })
    }

    /// Writes one CSV per fold: address, is_illicit, in_stratum, fold, and the features as they are
    /// with only the labels known in that fold.
    fn write_samples(
        &self,
        folder: &Path,
        file_graph: &FileGraph,
        cases: &Cases,
        in_stratum: &HashSet<WalletId>,
    ) -> Result<(), RiskError> {
        let graph = file_graph.graph();
        std::fs::create_dir_all(folder).doing_to("write", folder)?;
        for fold in (0..self.folds).map(Some).chain([None]) {
            let name = fold.map_or_else(|| "all".to_owned(), |fold| format!("fold{fold}"));
            let rows = cases.rows(&graph, fold, MemoryBudget::new(MEMORY), &mut Uninterrupted)?;
            output::write(&folder.join(format!("{name}.csv")), |out| {
                let mut csv = csv::Writer::from_writer(out);
                csv.write_record(["address", "is_illicit", "in_stratum", "fold"].iter().chain(&NAMES))?;
                for (case, row) in cases.list().iter().zip(&rows) {
                    let address = graph.address(case.wallet).map_err(RiskError::from)?;
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
