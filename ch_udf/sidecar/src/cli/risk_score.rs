//! `arx-sidecar risk-score`: scores every wallet of a graph in files.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use arx_core::risk::features::{HistoryCoverage, NAMES, Period};
use arx_core::risk::scorecard::Points;
use arx_core::risk::{Calibration, DEFAULT_PREVALENCE};
use clap::Args;

use super::CommandError;
use super::output::{buffered, print_line};
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
    /// The transactions are the whole history of every wallet
    #[arg(long)]
    complete_network: bool,
    /// The transactions are the whole history of the addresses in this file, one a line
    #[arg(long, value_name = "FILE")]
    complete_for: Option<PathBuf>,
    /// Share of the network's wallets that is illicit, between 0 and 1
    #[arg(long, value_name = "SHARE", default_value_t = DEFAULT_PREVALENCE)]
    prevalence: f64,
    /// Lowest scores of the bands medium, high and severe [default: those of the scorecard]
    #[arg(long, value_name = "SCORES", value_delimiter = ',')]
    thresholds: Option<Vec<f64>>,
    /// Also write the features that scorecards read; the field of an undefined one is empty, NaN if
    /// its histories are not covered; a value v that is not covered is written as -2^60 (1 + v)
    #[arg(long)]
    features: bool,
    /// File for the CSV: address,score,probability,band,state,coverage,reason; - is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

impl ScoreArgs {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        if let Some(message) = self.score()? {
            print_line(Lines(message))?;
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
        let calibration = Calibration::new(self.prevalence, thresholds(self.thresholds.as_deref())?)?;
        let scorecard = scorecard(self.scorecard.as_deref())?;
        let bound = scorecard.bind(&NAMES)?;
        let offline = self.graph.read()?;
        let labels = self.graph.read_labels(&offline)?;
        let graph = offline.graph();
        let wallets = wallets(&graph)?;
        let mut histories = HistoryCoverage::default();
        if self.complete_network {
            histories.state(None, Period::ALWAYS);
        }
        if let Some(path) = &self.complete_for {
            offline.complete_for(path, &mut histories)?;
        }
        let mut scoring = Scoring::new(graph, &labels.kinds, histories)?;
        let writer = ScoreWriter { scorecard: &bound, labels: &labels, calibration, with_features: self.features };
        if to_stdout {
            let mut out = buffered();
            let written = writer.write(&mut scoring, &wallets, &mut out).and_then(|()| Ok(out.flush()?));
            written.map_err(|error| error.into_risk_error("standard output".to_owned()))?;
            return Ok(None);
        }
        output::write(&self.out, |out| writer.write(&mut scoring, &wallets, out))?;
        let (wallets, version) = (wallets.len(), scorecard.version());
        Ok(Some(format!("{wallets} wallets scored by {version}, written to {}", self.out.display())))
    }
}

/// Reads the lowest scores of the three upper bands.
fn thresholds(given: Option<&[f64]>) -> Result<Option<[Points; 3]>, RiskError> {
    let Some(given) = given else { return Ok(None) };
    let points = given.iter().map(|score| Points::try_from(*score)).collect::<Result<Vec<Points>, String>>();
    let points: Vec<Points> = points.map_err(|error| RiskError::Thresholds(format!("thresholds: {error}")))?;
    let three = <[Points; 3]>::try_from(points);
    three
        .map(Some)
        .map_err(|points| RiskError::Thresholds(format!("thresholds must be three scores, not {}", points.len())))
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

    fn arguments(graph: GraphFiles, out: PathBuf) -> ScoreArgs {
        ScoreArgs {
            graph,
            scorecard: None,
            complete_network: false,
            complete_for: None,
            prevalence: DEFAULT_PREVALENCE,
            thresholds: None,
            features: true,
            out,
        }
    }

    /// Returns the rows that are written for these transactions and labels.
    fn scored(transactions: &str, labels: &str) -> Vec<Vec<String>> {
        scored_with(transactions, labels, None)
    }

    fn scored_with(transactions: &str, labels: &str, complete_for: Option<&str>) -> Vec<Vec<String>> {
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
        let complete_for = complete_for.map(|list| {
            std::fs::write(path("complete.txt"), list).unwrap();
            path("complete.txt")
        });
        ScoreArgs { complete_for, ..arguments(graph, path("out.csv")) }.score().unwrap();
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
        assert_eq!(lines[0][6..6 + NAMES.len()], NAMES);
        assert_eq!(lines[0][6 + NAMES.len()..], ["reason"]);
        let addresses: Vec<&str> = lines[1..].iter().map(|line| &*line[0]).collect();
        assert_eq!(addresses, [1, 2, 3, 9].map(address));
        assert_eq!(lines[1][4..6], ["scored", "1"]);
        assert!(lines.iter().all(|line| line.len() == 7 + NAMES.len()));
        assert_eq!(lines[4][1..6], ["50.0", "", "medium", "unknown", "0"]);
        assert!(lines[4][6..6 + NAMES.len()].iter().all(String::is_empty));
        assert!(lines[4][6 + NAMES.len()].starts_with("no transfer"), "{:?}", lines[4].last());
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
        assert_eq!(score(&label("ETH", "miner", ",K,x,,"))[3], "partial", "neutral labels decide nothing");
        assert_eq!(score(&label("BTC", "phishing", ",K,x,,"))[3], "partial", "a label of another network");
    }

    #[test]
    fn a_folder_or_a_broken_scorecard_is_rejected_before_reading() {
        let folder = tempfile::tempdir().unwrap();
        let with = |out: &Path, scorecard: Option<PathBuf>| {
            let graph = GraphFiles {
                transactions: folder.path().join("missing.csv"),
                nodes: None,
                network: "ethereum".to_owned(),
                decimals: 18,
                labels: None,
            };
            ScoreArgs { scorecard, ..arguments(graph, out.to_owned()) }
        };
        let rejected = with(folder.path(), None).score();
        assert!(matches!(rejected, Err(RiskError::Folder { .. })), "{rejected:?}");
        let broken = folder.path().join("card.json");
        std::fs::write(&broken, "{}").unwrap();
        let out = folder.path().join("out.csv");
        let rejected = with(&out, Some(broken)).score();
        assert!(matches!(rejected, Err(RiskError::Document { .. })), "{rejected:?}");
        for prevalence in [0.0, 1.0, f64::NAN] {
            let rejected = ScoreArgs { prevalence, ..with(&out, None) }.score();
            assert!(matches!(rejected, Err(RiskError::Calibration(_))), "{prevalence}: {rejected:?}");
        }
        for (given, message) in [
            (vec![40.0, 40.0, 75.0], "thresholds must rise within 0 and 100, not 40.0, 40.0, 75.0"),
            (vec![40.0, f64::NAN, 75.0], "thresholds: points must be within -100.0 and 100.0, not NaN"),
            (vec![40.0], "thresholds must be three scores, not 1"),
        ] {
            let rejected = ScoreArgs { thresholds: Some(given), ..with(&out, None) }.score().unwrap_err();
            assert_eq!(rejected.to_string(), message);
        }
    }

    #[test]
    fn the_rows_of_one_wallet_are_not_taken_for_its_counterparties_histories() {
        // Wallet 1 receives from 2 and 3 and pays 4 and 5; its rows are here, theirs are not.
        let rows: String = [(0, 2, 1), (1, 3, 1), (2, 1, 4), (3, 1, 5)]
            .map(|(number, from, to)| transaction(number, from, to))
            .concat();
        let of_wallet = |lines: Vec<Vec<String>>| lines[1].clone();
        let alone = of_wallet(scored(&rows, ""));
        assert_eq!(alone[4], "partial");
        assert_eq!(
            alone.last().unwrap(),
            "the histories of its senders are not covered; the histories of its receivers are not covered"
        );
        let column = 6 + NAMES.iter().position(|name| *name == "receivers_single_share").unwrap();
        // The mark of a value that is not covered: all receivers have one sender here.
        assert_eq!(alone[column].parse::<f64>().unwrap(), -(2_f64.powi(60)) * 2.0);
        let list: String = (1..=5).map(|wallet| address(wallet) + "\n").collect();
        let stated = of_wallet(scored_with(&rows, "", Some(&list)));
        assert_eq!((&*stated[4], &*stated[5], &*stated[column]), ("scored", "1", "1"));
        assert!(stated.last().unwrap().is_empty());
        // Of a wallet without a known history, its dealings with labelled wallets alone count: the
        // probability stays near the prevalence.
        let lines = scored(&rows, "");
        let probability: f64 = lines[2][2].parse().unwrap();
        assert!((probability - DEFAULT_PREVALENCE).abs() < 0.0005, "{probability}");
        assert_eq!(lines[2][4], "partial");
    }
}
