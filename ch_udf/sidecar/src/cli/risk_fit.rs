//! `arx-sidecar risk-fit`: fits the scorecard that ships.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::CommandError;
use super::output::print_line;
use crate::escape::Lines;
use crate::models::{Fitting, GraphFiles, RiskError, Stratum, output};

/// Arguments of `arx-sidecar risk-fit`.
#[derive(Debug, Args)]
pub(super) struct FitArgs {
    #[command(flatten)]
    graph: GraphFiles,
    /// CSV of wallets with the columns address and is_illicit (0 or 1)
    #[arg(long, value_name = "FILE")]
    cases: PathBuf,
    /// Also measure the cases with this value in this column separately; they are fitted like all
    /// others
    #[arg(long, value_name = "COLUMN=VALUE")]
    stratum: Option<Stratum>,
    /// Folds of the cross-validation
    #[arg(long, default_value_t = 5)]
    folds: u32,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Name of the scorecard
    #[arg(long)]
    version: String,
    /// Description of the scorecard
    #[arg(long, default_value = "")]
    description: String,
    /// File for the scorecard
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Folder for the samples, one CSV for each fold
    #[arg(long, value_name = "DIR")]
    samples: Option<PathBuf>,
}

impl FitArgs {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        print_line(Lines(self.fit()?))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Fits, writes the scorecard, and returns its measures as text.
    ///
    /// # Errors
    /// See [`Fitting::run`].
    fn fit(self) -> Result<String, RiskError> {
        let offline = self.graph.read()?;
        let fitting = Fitting {
            cases: self.cases,
            labels: self.graph.labels,
            stratum: self.stratum,
            folds: self.folds,
            seed: self.seed,
            version: self.version,
            description: self.description,
            samples: self.samples,
        };
        let fitted = fitting.run(&offline)?;
        let document = fitted.scorecard.to_json()?;
        output::write(&self.out, |file| Ok(file.write_all(document.as_bytes())?))?;
        let mut lines = vec![format!(
            "{}: {} factors, {} wallets of which {} illicit, {} without a transaction left out",
            fitted.scorecard.version(),
            fitted.scorecard.factors().len(),
            fitted.all.rows,
            fitted.all.illicit,
            fitted.unknown
        )];
        let measured = [
            ("all", Some(&fitted.all)),
            ("stratum", fitted.stratum.as_ref()),
            ("without labelled counterparties", Some(&fitted.unlabelled)),
        ];
        for (name, measures) in measured.into_iter().filter_map(|(name, measures)| Some((name, measures?))) {
            lines.push(format!(
                "out of fold, {name}: AUC {:.4}, average precision {:.4}, log loss {:.4}, Brier score {:.4} ({} wallets)",
                measures.auc, measures.average_precision, measures.log_loss, measures.brier, measures.rows
            ));
        }
        lines.push(format!("written to {}", self.out.display()));
        Ok(lines.join("\n"))
    }
}
