//! The command line of what is done about risk outside the database.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use arx_core::address::Network;
use clap::Args;

use super::{FileLabels, Fitting, Offline, RiskError, Stratum, output};

/// A graph in files.
#[derive(Debug, Clone, Args)]
pub struct GraphFiles {
    /// Transactions, as `import graph` takes them, or, without --nodes, as `import transactions` does
    #[arg(long, value_name = "FILE")]
    pub transactions: PathBuf,
    /// The addresses of their nodes
    #[arg(long, value_name = "FILE")]
    pub nodes: Option<PathBuf>,
    /// Their network
    #[arg(long, default_value = "ethereum")]
    pub network: String,
    /// Decimals of its coin
    #[arg(long, default_value_t = 18)]
    pub decimals: u32,
    /// Label list, as `import labels` takes it
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
}

impl GraphFiles {
    /// Reads the graph.
    ///
    /// # Errors
    /// [`RiskError::Network`], and those of [`Offline::read`].
    pub fn read(&self) -> Result<Offline, RiskError> {
        let network =
            Network::parse(&self.network).map_err(|error| RiskError::Network { message: error.to_string() })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let offline = Offline::read(&self.transactions, self.nodes.as_deref(), &network, self.decimals, now)?;
        if offline.rejected > 0 {
            tracing::warn!(lines = offline.rejected, file = %self.transactions.display(), "lines were left out that an import would reject");
        }
        Ok(offline)
    }

    /// Reads the labels of the graph's wallets; none without a label list.
    ///
    /// # Errors
    /// Those of [`Offline::labels`].
    pub fn read_labels(&self, offline: &Offline) -> Result<FileLabels, RiskError> {
        let Some(path) = &self.labels else { return Ok(FileLabels::default()) };
        let labels = offline.labels(path)?;
        if labels.rejected > 0 {
            tracing::warn!(lines = labels.rejected, file = %path.display(), "lines were left out that an import would reject");
        }
        Ok(labels)
    }
}

/// What a scorecard is fitted on.
#[derive(Debug, Args)]
pub struct FitArgs {
    /// The graph
    #[command(flatten)]
    pub graph: GraphFiles,
    /// CSV of wallets with the columns address and is_illicit (0 or 1)
    #[arg(long, value_name = "FILE")]
    pub cases: PathBuf,
    /// Measure the cases with this value in this column apart; they are fitted like all others
    #[arg(long, value_name = "COLUMN=VALUE")]
    pub stratum: Option<Stratum>,
    /// Folds of the cross-validation
    #[arg(long, default_value_t = 5)]
    pub folds: u32,
    /// What chance there is comes from this number
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Name of the scorecard
    #[arg(long)]
    pub version: String,
    /// What it is, in words
    #[arg(long, default_value = "")]
    pub description: String,
    /// Where the scorecard goes
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Where the samples go, one CSV a fold
    #[arg(long, value_name = "DIR")]
    pub samples: Option<PathBuf>,
}

impl FitArgs {
    /// Fits, writes the scorecard, and says what it is worth.
    ///
    /// # Errors
    /// See [`Fitting::run`].
    pub fn run(self) -> Result<String, RiskError> {
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
            ("where nobody else is labelled", Some(&fitted.unlabelled)),
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
