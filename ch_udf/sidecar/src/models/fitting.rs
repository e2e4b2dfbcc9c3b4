//! Fits the scorecard that ships, out of files alone, the same bit for bit every time.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arx_core::graph::{MemoryBudget, Uninterrupted};
use arx_core::risk::features::NAMES;
use arx_core::risk::fit::{Measures, Publication, cross_validate};
use arx_core::risk::scorecard::{Scorecard, Training};
use arx_core::risk::training::{Cases, Split, TrainingError, fit_options};

use super::{MEMORY, Offline, RiskError, Stratum, output};

/// What a scorecard is fitted on, and what becomes of it.
#[derive(Debug, Clone)]
pub struct Fitting {
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
pub struct FittedScorecard {
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
    pub fn run(&self, offline: &Offline) -> Result<FittedScorecard, RiskError> {
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
        let in_stratum: HashSet<u32> = named.iter().filter(|case| case.in_stratum).map(|case| case.wallet).collect();
        if let Some(folder) = &self.samples {
            self.write_samples(folder, offline, &cases, &in_stratum)?;
        }
        let judged = cases.list().len();
        let options = fit_options(self.seed, MemoryBudget::new(MEMORY));
        let sample = |fold| cases.sample(&graph, fold, MemoryBudget::new(MEMORY), &mut Uninterrupted);
        let fitted =
            cross_validate::<TrainingError, _>(cases.folds(), self.folds, &options, sample, &mut Uninterrupted)?;
        let all = fitted.measures(|row| row < judged)?;
        let unlabelled = fitted.measures(|row| row >= judged)?;
        let within = |row: usize| cases.list().get(row).is_some_and(|case| in_stratum.contains(&case.wallet));
        let stratum = if in_stratum.is_empty() { None } else { Some(fitted.measures(within)?) };
        let training = Training {
            rows: all.rows,
            illicit: all.illicit,
            folds: self.folds,
            auc: all.auc,
            average_precision: all.average_precision,
            log_loss: all.log_loss,
            brier: all.brier,
            notes: self.notes(stratum.as_ref()),
        };
        let publication = Publication {
            version: self.version.clone(),
            description: self.description.clone(),
            calibration: fitted.calibration.clone(),
            training: Some(training),
            ..Publication::default()
        };
        let scorecard = fitted.fitted.scorecard(&publication)?;
        Ok(FittedScorecard { scorecard, all, unlabelled, stratum, unknown: named.len() - judged })
    }

    fn notes(&self, stratum: Option<&Measures>) -> BTreeMap<String, String> {
        let mut notes = BTreeMap::from([("seed".to_owned(), self.seed.to_string())]);
        if let Some(measures) = stratum {
            let name = self.stratum.as_ref().map_or_else(String::new, Stratum::to_string);
            notes.insert("stratum".to_owned(), name);
            notes.insert("stratum_rows".to_owned(), measures.rows.to_string());
            notes.insert("stratum_illicit".to_owned(), measures.illicit.to_string());
            notes.insert("stratum_auc".to_owned(), format!("{:.4}", measures.auc));
            notes.insert("stratum_average_precision".to_owned(), format!("{:.4}", measures.average_precision));
        }
        notes
    }

    /// One CSV a fold with what is known in it: address, is_illicit, whether it is of the stratum, its fold, and the features.
    fn write_samples(
        &self,
        folder: &Path,
        offline: &Offline,
        cases: &Cases,
        in_stratum: &HashSet<u32>,
    ) -> Result<(), RiskError> {
        let graph = offline.graph();
        let failed = |source| RiskError::Write { file: folder.display().to_string(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        for fold in (0..self.folds).map(Some).chain([None]) {
            let name = fold.map_or_else(|| "all".to_owned(), |fold| format!("fold{fold}"));
            let rows = cases.rows(&graph, fold, MemoryBudget::new(MEMORY), &mut Uninterrupted)?;
            let mut file = BufWriter::new(File::create(folder.join(format!("{name}.csv"))).map_err(failed)?);
            writeln!(file, "address,is_illicit,in_stratum,fold,{}", NAMES.join(",")).map_err(failed)?;
            for (case, row) in cases.list().iter().zip(&rows) {
                let address =
                    graph.address(case.wallet).map_err(|error| RiskError::Graph { message: error.to_string() })?;
                let stratum = u8::from(in_stratum.contains(&case.wallet));
                let (address, illicit) = (output::field(address), u8::from(case.illicit));
                write!(file, "{address},{illicit},{stratum},{}", case.fold).map_err(failed)?;
                for value in row {
                    // an undefined value is an empty field
                    if value.is_nan() { write!(file, ",") } else { write!(file, ",{value}") }.map_err(failed)?;
                }
                writeln!(file).map_err(failed)?;
            }
            file.flush().map_err(failed)?;
        }
        Ok(())
    }
}
