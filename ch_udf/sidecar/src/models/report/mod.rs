//! `arx-sidecar risk-report`: a page about the model in use and a draft, for whoever has to answer for them.
//!
//! Owns what is read for it (`database`, `offline`) and how it looks (`page`, `measures`, `factors`, `charts`). What the numbers mean is
//! [`arx_core::risk`]'s. The page is one file that loads nothing and runs nothing.

mod charts;
mod content;
mod database;
mod factors;
mod measures;
mod numbers;
mod offline;
mod page;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};

pub use content::{BARS, Histogram, Measured, Model, Report, Sample};
pub use page::page;

use super::{GraphFiles, RiskError, Stratum, output};
use crate::settings::ServerUrl;

/// When models are judged on labels, and all wallets scored, for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Evaluate {
    /// Where it is not stored with the draft
    #[default]
    Auto,
    /// On the labels of now, whatever is stored
    Always,
    /// Not at all: only what is stored
    Never,
}

/// What is reported on.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Where the page goes
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The draft: its version in the database [default: the newest, if there is one], or with --transactions a scorecard as JSON
    #[arg(long, value_name = "VERSION|FILE")]
    pub draft: Option<String>,
    /// When to judge the models on labels, and score all wallets
    #[arg(long, value_enum, default_value_t)]
    pub evaluate: Evaluate,
    /// The network [default: the one that the draft or the model in use was fitted on, else ethereum]
    #[arg(long)]
    pub network: Option<String>,
    /// Report on files instead of the database: transactions, as for risk-score
    #[arg(long, value_name = "FILE")]
    pub transactions: Option<PathBuf>,
    /// The addresses of their nodes
    #[arg(long, value_name = "FILE", requires = "transactions")]
    pub nodes: Option<PathBuf>,
    /// Decimals of the network's coin
    #[arg(long, default_value_t = 18, requires = "transactions")]
    pub decimals: u32,
    /// CSV of wallets with the columns address and is_illicit (0 or 1) to judge the models on
    #[arg(long, value_name = "FILE", requires = "transactions")]
    pub cases: Option<PathBuf>,
    /// Label list, as `import labels` takes it
    #[arg(long, value_name = "FILE", requires = "transactions")]
    pub labels: Option<PathBuf>,
    /// Measure the cases with this value in this column apart, too
    #[arg(long, value_name = "COLUMN=VALUE", requires = "cases")]
    pub stratum: Option<Stratum>,
    /// Scorecard in use, as JSON [default: the one that ARX ships]
    #[arg(long, value_name = "FILE", requires = "transactions")]
    pub scorecard: Option<PathBuf>,
    /// Categories of labels that mean illicit [default: every one of that kind]
    #[arg(long, value_name = "CATEGORY", value_delimiter = ',', conflicts_with = "transactions")]
    pub illicit: Option<Vec<String>>,
    /// Categories of labels that mean licit
    #[arg(
        long,
        value_name = "CATEGORY",
        value_delimiter = ',',
        default_value = "licit",
        conflicts_with = "transactions"
    )]
    pub licit: Vec<String>,
    /// Folds in which labels of others are hidden
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=20))]
    pub folds: u32,
    /// What chance there is in dealing out the folds comes from this number
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl ReportArgs {
    /// Makes the page and says where it is.
    ///
    /// # Errors
    /// Those of reading and of writing; [`RiskError::Folder`] before anything is read.
    pub async fn run(self, postgres: &ServerUrl) -> Result<String, RiskError> {
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
                let asked = offline::Asked {
                    graph,
                    cases: self.cases.filter(|_| self.evaluate != Evaluate::Never),
                    stratum: self.stratum,
                    scorecard: self.scorecard,
                    draft: self.draft.map(PathBuf::from),
                    split: arx_core::risk::training::Split { folds: self.folds, seed: self.seed },
                    scores: self.evaluate != Evaluate::Never,
                };
                asked.report(now())?
            }
            None => {
                let asked = database::Asked {
                    draft: self.draft,
                    network: self.network,
                    evaluate: self.evaluate,
                    illicit: self.illicit,
                    licit: self.licit,
                    folds: self.folds,
                    seed: self.seed,
                };
                asked.report(postgres, now()).await?
            }
        };
        let page = page(&report);
        output::write(&out, |file| Ok(file.write_all(page.as_bytes())?))?;
        let models: Vec<&str> = report.models().map(|(_, model)| model.scorecard.version()).collect();
        let notes: String = report.notes.iter().map(|note| format!("note: {note}\n")).collect();
        Ok(format!("{notes}report on {} written to {}", models.join(" and "), out.display()))
    }
}

/// The time that a page bears.
fn now() -> String {
    DateTime::<Utc>::from(std::time::SystemTime::now()).format("%Y-%m-%d %H:%M UTC").to_string()
}
