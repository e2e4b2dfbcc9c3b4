//! `arx-sidecar risk-score`: scores every wallet of a graph in files.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use arx_core::risk::features::NAMES;
use clap::Args;

use super::CommandError;
use crate::escape::Lines;
use crate::models::{GraphFiles, RiskError, ScoreWriter, Scoring, output, scorecard, wallets};

/// Arguments of `arx-sidecar risk-score`.
#[derive(Debug, Args)]
pub(super) struct ScoreArgs {
    #[command(flatten)]
    graph: GraphFiles,
    /// Scorecard as JSON [default: the one that ARX ships]
    #[arg(long, value_name = "FILE")]
    scorecard: Option<PathBuf>,
    /// Also write the features that scorecards read; the field of an undefined one is empty
    #[arg(long)]
    features: bool,
    /// File for the CSV: address,score,probability,band,state,coverage; - is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

impl ScoreArgs {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        if let Some(message) = self.score()? {
            println!("{}", Lines(message));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Scores, and returns a message unless the scores went to standard output.
    ///
    /// # Errors
    /// Errors of reading files, of extracting features, and of writing.
    fn score(self) -> Result<Option<String>, RiskError> {
        let to_stdout = self.out.as_os_str() == "-";
        if !to_stdout {
            output::check(&self.out)?;
        }
        let scorecard = scorecard(self.scorecard.as_deref())?;
        let bound = scorecard.bind(&NAMES)?;
        let offline = self.graph.read()?;
        let labels = self.graph.read_labels(&offline)?;
        let graph = offline.graph();
        let wallets = wallets(&graph)?;
        let mut scoring = Scoring::new(graph, &labels.kinds)?;
        let writer = ScoreWriter { scorecard: &bound, labels: &labels, with_features: self.features };
        if to_stdout {
            let mut out = io::BufWriter::new(io::stdout().lock());
            let written = writer.write(&mut scoring, &wallets, &mut out).and_then(|()| Ok(out.flush()?));
            written.map_err(|error| error.into_risk_error("standard output".to_owned()))?;
            return Ok(None);
        }
        output::write(&self.out, |out| writer.write(&mut scoring, &wallets, out))?;
        let (wallets, version) = (wallets.len(), scorecard.version());
        Ok(Some(format!("{wallets} wallets scored by {version}, written to {}", self.out.display())))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const HEADER: &str = "hash,block_number,from_address,to_address,value,block_timestamp\n";

    fn address(number: u32) -> String {
        format!("0x{number:040x}")
    }

    fn transaction(number: u32, from: u32, to: u32) -> String {
        let (from, to, time) = (address(from), address(to), 1_500_000_000 + number * 600);
        format!("tx:{number},{number},{from},{to},{}000000000000000000,{time}\n", number + 1)
    }

    /// Returns the rows that are written for these transactions and labels.
    fn scored(transactions: &str, labels: &str) -> Vec<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("t.csv"), format!("{HEADER}{transactions}")).unwrap();
        std::fs::write(
            path("l.csv"),
            format!("network,address,category,abuse,label,source,severity,confidence\n{labels}"),
        )
        .unwrap();
        let graph = GraphFiles {
            transactions: path("t.csv"),
            nodes: None,
            network: "ethereum".to_owned(),
            decimals: 18,
            labels: Some(path("l.csv")),
        };
        ScoreArgs { graph, scorecard: None, features: true, out: path("out.csv") }.score().unwrap();
        let text = std::fs::read_to_string(path("out.csv")).unwrap();
        text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
    }

    #[test]
    fn every_wallet_has_a_line_ordered_by_address() {
        let rows: String =
            [(0, 3, 1), (1, 1, 2), (2, 2, 3)].map(|(number, from, to)| transaction(number, from, to)).concat();
        // A transfer to itself: the wallet has no counterparty.
        let rows = rows + &transaction(3, 9, 9);
        let lines = scored(&rows, "");
        assert_eq!(lines[0][..6], ["address", "score", "probability", "band", "state", "coverage"]);
        assert_eq!(lines[0][6..], NAMES);
        let addresses: Vec<&str> = lines[1..].iter().map(|line| &*line[0]).collect();
        assert_eq!(addresses, [1, 2, 3, 9].map(address));
        assert_eq!(lines[1][4..6], ["scored", "1"]);
        assert!(lines.iter().all(|line| line.len() == 6 + NAMES.len()));
        assert_eq!(lines[4][1..6], ["50.0", "", "medium", "unknown", "0"]);
        assert!(lines[4][6..].iter().all(String::is_empty));
    }

    #[test]
    fn a_repeated_transaction_counts_once() {
        let rows: String =
            [(0, 3, 1), (1, 1, 2), (2, 2, 3)].map(|(number, from, to)| transaction(number, from, to)).concat();
        assert_eq!(scored(&rows, ""), scored(&(rows.clone() + &transaction(1, 1, 2)), ""));
        assert_ne!(scored(&rows, ""), scored(&(rows.clone() + &transaction(4, 1, 2)), ""));
    }

    #[test]
    fn the_heaviest_of_several_labels_decides() {
        let rows = transaction(0, 1, 2) + &transaction(1, 2, 1);
        let label = |network: &str, category: &str, rest: &str| format!("{network},{},{category},{rest}\n", address(1));
        let score = |labels: &str| scored(&rows, labels)[1][1..5].to_vec();
        let labelled = |score: &str, band: &str| [score, "", band, "labelled"].map(str::to_owned).to_vec();
        assert_eq!(score(&label("ETH", "exchange", ",K,x,,")), labelled("10.0", "low"));
        let several = label("ETH", "exchange", ",K,x,,") + &label("ETH", "phishing", ",K,x,,");
        assert_eq!(score(&several), labelled("95.0", "severe"), "illicit before a service");
        let several = several + &label("ETH", "scam", ",K,x,severe,0.1");
        assert_eq!(score(&several), labelled("100.0", "severe"), "the most severe illicit label");
        let several = label("ETH", "scam", ",K,x,low,1") + &label("ETH", "scam", ",K,x,severe,1");
        assert_eq!(score(&several), labelled("40.0", "medium"), "the first of two equal labels");
        assert_eq!(score(&label("ETH", "miner", ",K,x,,"))[3], "scored", "neutral labels decide nothing");
        assert_eq!(score(&label("BTC", "phishing", ",K,x,,"))[3], "scored", "a label of another network");
    }

    #[test]
    fn a_folder_or_a_broken_scorecard_is_rejected_before_reading() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = |out: &Path, scorecard: Option<PathBuf>| ScoreArgs {
            graph: GraphFiles {
                transactions: folder.path().join("missing.csv"),
                nodes: None,
                network: "ethereum".to_owned(),
                decimals: 18,
                labels: None,
            },
            scorecard,
            features: false,
            out: out.to_owned(),
        };
        let rejected = arguments(folder.path(), None).score();
        assert!(matches!(rejected, Err(RiskError::Folder { .. })), "{rejected:?}");
        let broken = folder.path().join("card.json");
        std::fs::write(&broken, "{}").unwrap();
        let rejected = arguments(&folder.path().join("out.csv"), Some(broken)).score();
        assert!(matches!(rejected, Err(RiskError::Document { .. })), "{rejected:?}");
    }
}
