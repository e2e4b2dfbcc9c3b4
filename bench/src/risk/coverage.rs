//! `risk.quality.*_estimated.vs_stated`: quality of scores of histories whose coverage is
//! estimated, compared with the same histories stated to be complete.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use arx_core::risk::fit::measure as measures_of;
use arx_stack::process::run;
use arx_stack::programs;

use crate::data::DataSource;
use crate::report::Measurement;

/// Area under the curve over all labelled wallets.
pub const AUC: &str = "risk.quality.auc_estimated.vs_stated";

/// Average precision among wallets first seen in 2017.
pub const AP: &str = "risk.quality.ap_2017_estimated.vs_stated";

/// Classes of wallets by address: illicit, and first seen in 2017.
type Classes = HashMap<String, (bool, bool)>;

/// Measures of the scores in a file.
#[derive(Debug, Clone, Copy)]
struct Quality {
    wallets: u64,
    partial: usize,
    auc: f64,
    average_precision: f64,
}

/// Scores the data set twice, without the labels of any wallet, and measures both.
///
/// # Errors
/// When scoring fails, or the two runs score different wallets.
pub fn measure(source: &DataSource, folder: &Path) -> Result<[Measurement; 2]> {
    let DataSource::Graph { transactions, nodes } = source else { anyhow::bail!("the sample has no labelled wallets") };
    let classes = read_classes(&source.cases().context("the data set has no labelled wallets")?)?;
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let score = |name: &str, flags: &[&str]| -> Result<Quality> {
        let out = folder.join(name);
        let mut command = Command::new(programs::sidecar()?);
        command.arg("risk-score").arg("--transactions").arg(transactions).arg("--nodes").arg(nodes);
        run(command.args(flags).arg("--out").arg(&out))?;
        quality(&out, &classes)
    };
    let (estimated, stated) = (score("estimated.csv", &[])?, score("stated.csv", &["--complete-network"])?);
    ensure!(estimated.wallets == stated.wallets, "the runs score different wallets: {estimated:?}, {stated:?}");
    let setting = format!(
        "{} labelled wallets of {}, scored by the shipped scorecard, which was fitted to them, without labels of other \
         wallets. Ours estimates which histories are covered, and {} scores are partial; the peer is the same with \
         `--complete-network`, where every history counts as complete. At 1.00, the estimate costs no quality.",
        estimated.wallets,
        source.name(),
        estimated.partial,
    );
    let measurement = |case, ours, peer, unit| {
        Measurement::new(case, (ours, peer), unit, true).against("stated coverage", setting.clone())
    };
    Ok([
        measurement(AUC, estimated.auc, stated.auc, "AUC"),
        measurement(AP, estimated.average_precision, stated.average_precision, "average precision"),
    ])
}

fn read_classes(path: &Path) -> Result<Classes> {
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("read {}", path.display()))?;
    let mut classes = Classes::new();
    for row in reader.deserialize::<HashMap<String, String>>() {
        let row = row.context("read a labelled wallet")?;
        let column = |name: &str| row.get(name).with_context(|| format!("{} has no column {name}", path.display()));
        classes.insert(
            column("address")?.to_ascii_lowercase(),
            (column("is_illicit")? == "1", column("first_seen_year")? == "2017"),
        );
    }
    Ok(classes)
}

fn quality(path: &Path, classes: &Classes) -> Result<Quality> {
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("read {}", path.display()))?;
    let (mut all, mut of_2017) = (Vec::new(), Vec::new());
    let mut partial = 0;
    for row in reader.deserialize::<HashMap<String, String>>() {
        let row = row.context("read a score")?;
        let column = |name: &str| row.get(name).map_or("", String::as_str);
        // Only the scorecard's own scores have a probability.
        let (Some((illicit, is_of_2017)), Ok(_)) =
            (classes.get(&column("address").to_ascii_lowercase()), column("probability").parse::<f64>())
        else {
            continue;
        };
        let score: f64 = column("score").parse().context("read a score")?;
        all.push((score, *illicit));
        if *is_of_2017 {
            of_2017.push((score, *illicit));
        }
        partial += usize::from(column("state") == "partial");
    }
    let measured = |rows: &[(f64, bool)]| {
        let (scores, illicit): (Vec<f64>, Vec<bool>) = rows.iter().copied().unzip();
        let probabilities: Vec<f64> = scores.iter().map(|score| score / 100.0).collect();
        measures_of(&scores, &probabilities, &illicit, &vec![1.0; scores.len()])
    };
    let (whole, stratum) = (measured(&all)?, measured(&of_2017)?);
    Ok(Quality { wallets: whole.rows, partial, auc: whole.auc, average_precision: stratum.average_precision })
}
