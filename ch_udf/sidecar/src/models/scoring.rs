//! Scores of every wallet of a graph in files: what `arx.score_wallets` says where a database holds the same, bit for bit.

use std::io::{self, Write};
use std::path::PathBuf;

use arx_core::graph::{Graph, MemoryBudget, Uninterrupted, WalletId};
use arx_core::label::LabelKind;
use arx_core::risk::features::{Coverage, Enough, ExtractError, Extractor, Labelled, NAMES, Row, Scene, Surroundings};
use arx_core::risk::scorecard::BoundScorecard;
use arx_core::risk::{Known, judge};
use clap::Args;

use super::{FileLabels, GraphFiles, MEMORY, RiskError, output, scorecard};

/// What is scored, and where the scores go.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// The graph
    #[command(flatten)]
    pub graph: GraphFiles,
    /// Scorecard as JSON [default: the one that ARX ships]
    #[arg(long, value_name = "FILE")]
    pub scorecard: Option<PathBuf>,
    /// Write the features that scorecards look at, too; where one is undefined its field is empty
    #[arg(long)]
    pub features: bool,
    /// Where the CSV goes: address,score,probability,band,state,coverage; - is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub out: PathBuf,
}

impl ScoreArgs {
    /// Scores, and says how many wallets, unless the scores went to standard output.
    ///
    /// # Errors
    /// Those of reading files, of features, and of writing.
    pub fn run(self) -> Result<Option<String>, RiskError> {
        let to_stdout = self.out.as_os_str() == "-";
        if !to_stdout {
            output::check(&self.out)?;
        }
        let card = scorecard(self.scorecard.as_deref())?;
        let bound = card.bind(&NAMES)?;
        let offline = self.graph.read()?;
        let labels = self.graph.read_labels(&offline)?;
        let graph = offline.graph();
        let wallets = wallets(&graph)?;
        let mut scoring = Scoring::new(graph, &labels.kinds)?;
        let lines = Lines { bound: &bound, labels: &labels, features: self.features };
        if to_stdout {
            let mut out = io::BufWriter::new(io::stdout().lock());
            let written = lines.write(&mut scoring, &wallets, &mut out).and_then(|()| Ok(out.flush()?));
            written.map_err(|stop| stop.of("standard output".to_owned()))?;
            return Ok(None);
        }
        output::write(&self.out, |out| lines.write(&mut scoring, &wallets, out))?;
        let (wallets, version) = (wallets.len(), card.version());
        Ok(Some(format!("{wallets} wallets scored by {version}, written to {}", self.out.display())))
    }
}

/// What a line is made of.
struct Lines<'a> {
    bound: &'a BoundScorecard,
    labels: &'a FileLabels,
    features: bool,
}

impl Lines<'_> {
    fn write(
        &self,
        scoring: &mut Scoring<'_>,
        wallets: &[(&str, WalletId)],
        out: &mut dyn Write,
    ) -> Result<(), output::Stop> {
        write!(out, "address,score,probability,band,state,coverage")?;
        for name in NAMES.iter().filter(|_| self.features) {
            write!(out, ",{name}")?;
        }
        writeln!(out)?;
        for (address, wallet) in wallets {
            let seen = scoring.look(*wallet)?;
            self.line(address, *wallet, seen.as_ref(), out)?;
        }
        Ok(())
    }

    fn line(
        &self,
        address: &str,
        wallet: WalletId,
        seen: Option<&(Row, Coverage)>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let label = self.labels.own.get(&wallet);
        let known = Known { label, decided: None, seen: seen.map(|(row, coverage)| (row, *coverage)) };
        let judged = judge(self.bound, &known);
        write!(out, "{},{},", output::field(address), judged.score)?;
        if let Some(probability) = judged.probability {
            write!(out, "{probability}")?;
        }
        write!(out, ",{},{},{}", judged.band, judged.state.as_str(), judged.coverage)?;
        for place in (0..NAMES.len()).filter(|_| self.features) {
            match seen.and_then(|(row, _)| row.get(place)).filter(|value| !value.is_nan()) {
                Some(value) => write!(out, ",{value}")?,
                None => write!(out, ",")?,
            }
        }
        writeln!(out)
    }
}

/// The wallets that have a transaction, with their addresses, in the order of those.
///
/// # Errors
/// [`RiskError::Graph`].
pub(super) fn wallets<'g>(graph: &'g Graph<'_>) -> Result<Vec<(&'g str, WalletId)>, RiskError> {
    let mut wallets = Vec::new();
    for wallet in graph.wallet_ids().filter(|wallet| graph.is_active(*wallet)) {
        let address = graph.address(wallet).map_err(|error| RiskError::Graph { message: error.to_string() })?;
        wallets.push((address, wallet));
    }
    wallets.sort_unstable();
    Ok(wallets)
}

/// Looks at the wallets of a graph, one after the other.
pub struct Scoring<'g> {
    graph: Graph<'g>,
    labelled: Labelled,
    enough: Enough,
    surroundings: Surroundings,
    extractor: Extractor,
}

impl<'g> Scoring<'g> {
    /// With these labels known. O(pairs of wallets).
    ///
    /// # Errors
    /// [`RiskError::Training`].
    pub fn new(graph: Graph<'g>, labels: &[(WalletId, LabelKind)]) -> Result<Self, RiskError> {
        let mut memory = MemoryBudget::new(MEMORY);
        let mut labelled =
            Labelled::new(graph.wallets(), &mut memory).ok_or(ExtractError::Memory { budget: MEMORY })?;
        for (wallet, kind) in labels {
            labelled.mark(*wallet, *kind);
        }
        let scene = Scene::new(&graph, None, &labelled, &mut Uninterrupted)?;
        let enough = scene.enough;
        let surroundings = Surroundings::of_all(&scene, &mut memory, &mut Uninterrupted)?;
        Ok(Self { graph, labelled, enough, surroundings, extractor: Extractor::default() })
    }

    /// The features of a wallet, if it dealt with anybody.
    ///
    /// # Errors
    /// [`RiskError::Training`].
    pub fn look(&mut self, wallet: WalletId) -> Result<Option<(Row, Coverage)>, RiskError> {
        let scene = Scene { graph: &self.graph, until: None, labelled: &self.labelled, enough: self.enough };
        Ok(self.extractor.look(&scene, wallet, &self.surroundings, &mut Uninterrupted)?)
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

    /// What is written for these transactions and labels.
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
        ScoreArgs { graph, scorecard: None, features: true, out: path("out.csv") }.run().unwrap();
        let text = std::fs::read_to_string(path("out.csv")).unwrap();
        text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
    }

    #[test]
    fn every_wallet_has_a_line_in_the_order_of_addresses() {
        let rows: String =
            [(0, 3, 1), (1, 1, 2), (2, 2, 3)].map(|(number, from, to)| transaction(number, from, to)).concat();
        // to itself: a wallet that dealt with nobody
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
    fn a_transaction_that_is_there_twice_counts_once() {
        let rows: String =
            [(0, 3, 1), (1, 1, 2), (2, 2, 3)].map(|(number, from, to)| transaction(number, from, to)).concat();
        assert_eq!(scored(&rows, ""), scored(&(rows.clone() + &transaction(1, 1, 2)), ""));
        assert_ne!(scored(&rows, ""), scored(&(rows.clone() + &transaction(4, 1, 2)), ""));
    }

    #[test]
    fn of_several_labels_the_one_that_weighs_most_decides() {
        let rows = transaction(0, 1, 2) + &transaction(1, 2, 1);
        let label = |network: &str, category: &str, rest: &str| format!("{network},{},{category},{rest}\n", address(1));
        let score = |labels: &str| scored(&rows, labels)[1][1..5].to_vec();
        let labelled = |score: &str, band: &str| [score, "", band, "labelled"].map(str::to_owned).to_vec();
        assert_eq!(score(&label("ETH", "exchange", ",K,x,,")), labelled("10.0", "low"));
        let several = label("ETH", "exchange", ",K,x,,") + &label("ETH", "phishing", ",K,x,,");
        assert_eq!(score(&several), labelled("95.0", "severe"), "illicit before a service");
        let several = several + &label("ETH", "scam", ",K,x,severe,0.1");
        assert_eq!(score(&several), labelled("100.0", "severe"), "the gravest of illicit ones");
        let several = label("ETH", "scam", ",K,x,low,1") + &label("ETH", "scam", ",K,x,severe,1");
        assert_eq!(score(&several), labelled("40.0", "medium"), "a label that is there twice is the first");
        assert_eq!(score(&label("ETH", "miner", ",K,x,,"))[3], "scored", "neutral labels decide nothing");
        assert_eq!(score(&label("BTC", "phishing", ",K,x,,"))[3], "scored", "of another network");
    }

    #[test]
    fn a_folder_or_a_broken_scorecard_is_refused_before_anything_is_read() {
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
        let refused = arguments(folder.path(), None).run();
        assert!(matches!(refused, Err(RiskError::Folder { .. })), "{refused:?}");
        let broken = folder.path().join("card.json");
        std::fs::write(&broken, "{}").unwrap();
        let refused = arguments(&folder.path().join("out.csv"), Some(broken)).run();
        assert!(matches!(refused, Err(RiskError::Document { .. })), "{refused:?}");
    }
}
