//! `arx-sidecar risk-report`: writes a page about the model in use and a draft.

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Args;

use super::CommandError;
use super::output::print_line;
use crate::escape::Lines;
use crate::models::report::{Evaluate, database, offline, page};
use crate::models::{GraphFiles, RiskError, Stratum, output};
use crate::settings::Settings;

/// Arguments of `arx-sidecar risk-report`.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// File for the page
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The draft: its version in the database [default: the newest, if there is one], or with
    /// --transactions a scorecard as JSON
    #[arg(long, value_name = "VERSION|FILE")]
    draft: Option<String>,
    /// When to judge the models on labels, and score all wallets
    #[arg(long, value_enum, default_value_t)]
    evaluate: Evaluate,
    /// The network [default: the one that the draft or the model in use was fitted on, else
    /// ethereum]
    #[arg(long)]
    network: Option<String>,
    /// Report on files instead of the database: transactions, as for risk-score
    #[arg(long, value_name = "FILE")]
    transactions: Option<PathBuf>,
    /// The addresses of their nodes
    #[arg(long, value_name = "FILE", requires = "transactions")]
    nodes: Option<PathBuf>,
    /// Decimals of the network's coin
    #[arg(long, default_value_t = 18, requires = "transactions")]
    decimals: u32,
    /// CSV of wallets with the columns address and is_illicit (0 or 1) to judge the models on
    #[arg(long, value_name = "FILE", requires = "transactions")]
    cases: Option<PathBuf>,
    /// Label list, as `import labels` takes it
    #[arg(long, value_name = "FILE", requires = "transactions")]
    labels: Option<PathBuf>,
    /// Also measure the cases with this value in this column separately
    #[arg(long, value_name = "COLUMN=VALUE", requires = "cases")]
    stratum: Option<Stratum>,
    /// Scorecard in use, as JSON [default: the one that ARX ships]
    #[arg(long, value_name = "FILE", requires = "transactions")]
    scorecard: Option<PathBuf>,
    /// Categories of labels that mean illicit [default: every one of that kind]
    #[arg(long, value_name = "CATEGORY", value_delimiter = ',', conflicts_with = "transactions")]
    illicit: Option<Vec<String>>,
    /// Categories of labels that mean licit
    #[arg(
        long,
        value_name = "CATEGORY",
        value_delimiter = ',',
        default_value = "licit",
        conflicts_with = "transactions"
    )]
    licit: Vec<String>,
    /// Folds whose labels are hidden from each other
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=20))]
    folds: u32,
    /// Seed of the assignment of cases to folds
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl ReportArgs {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let message = self.report(settings).await?;
        print_line(Lines(message))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Writes the page, and returns a message with its path.
    ///
    /// # Errors
    /// Errors of reading and writing; [`RiskError::Folder`] before anything is read.
    async fn report(self, settings: &Settings) -> Result<String, RiskError> {
        output::check(&self.out)?;
        let out = self.out.clone();
        let report = match self.transactions.clone() {
            Some(transactions) => {
                let graph = GraphFiles {
                    transactions,
                    nodes: self.nodes,
                    network: self.network.unwrap_or_else(|| "ethereum".to_owned()),
                    decimals: self.decimals,
                    labels: self.labels,
                };
                let request = offline::OfflineRequest {
                    graph,
                    cases: self.cases.filter(|_| self.evaluate != Evaluate::Never),
                    stratum: self.stratum,
                    scorecard: self.scorecard,
                    draft: self.draft.map(PathBuf::from),
                    split: arx_core::risk::training::Split { folds: self.folds, seed: self.seed },
                    scores: self.evaluate != Evaluate::Never,
                };
                request.report(now())?
            }
            None => {
                let request = database::DatabaseRequest {
                    draft: self.draft,
                    network: self.network,
                    evaluate: self.evaluate,
                    illicit: self.illicit,
                    licit: self.licit,
                    folds: self.folds,
                    seed: self.seed,
                };
                request.report(settings, now()).await?
            }
        };
        let page = page(&report);
        output::write(&out, |file| Ok(file.write_all(page.as_bytes())?))?;
        let models: Vec<&str> = report.models().map(|(_, model)| model.scorecard.version()).collect();
        let notes: String = report.notes.iter().map(|note| format!("note: {note}\n")).collect();
        Ok(format!("{notes}report on {} written to {}", models.join(" and "), out.display()))
    }
}

/// Returns the time that is printed on the page.
fn now() -> String {
    DateTime::<Utc>::from(std::time::SystemTime::now()).format("%Y-%m-%d %H:%M UTC").to_string()
}
