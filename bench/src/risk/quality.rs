//! `risk.quality.*`: quality of the shipped scorecard on unseen wallets, compared with gradient
//! boosting.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use arx_core::risk::scorecard::Scorecard;
use arx_stack::process::run;
use arx_stack::programs;
use serde::Deserialize;

use crate::data::DataSource;
use crate::report::Measurement;
use crate::shapes::python::{Timed, timed};

/// Average precision among wallets first seen in 2017, where the calendar helps least.
pub const AP: &str = "risk.quality.ap_2017_cv";

/// Area under the curve over all labelled wallets.
pub const AUC: &str = "risk.quality.auc_all_cv";

const FOLDS: usize = 5;

/// Quality of a peer's model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct PeerQuality {
    model: String,
    auc: f64,
    stratum_average_precision: f64,
}

/// Runs both measurements. The scorecard is fitted again, and must equal the shipped one.
///
/// # Errors
/// When fitting fails, or the scorecards differ.
pub fn measure(source: &DataSource, folder: &Path) -> Result<[Measurement; 2]> {
    let DataSource::Graph { transactions, nodes } = source else { anyhow::bail!("the sample has no labelled wallets") };
    let cases = source.cases().context("the data set has no labelled wallets")?;
    let labels = source.labels().context("the data set has no labels")?;
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let (samples, out) = (folder.join("samples"), folder.join("scorecard.json"));
    let shipped = arx_core::risk::default_scorecard().context("read the shipped scorecard")?;
    let mut command = Command::new(programs::sidecar()?);
    command.arg("risk-fit").arg("--transactions").arg(transactions).arg("--nodes").arg(nodes);
    command.arg("--cases").arg(cases).arg("--labels").arg(labels).args(["--stratum", "first_seen_year=2017"]);
    command.args(["--version", shipped.version(), "--description", shipped.description()]);
    run(command.arg("--samples").arg(&samples).arg("--out").arg(&out))?;
    let text = std::fs::read_to_string(&out).with_context(|| format!("read {}", out.display()))?;
    let ours = Scorecard::from_json(&text).context("read the scorecard")?;
    ensure!(ours == shipped, "the fitted scorecard differs from the shipped one");
    let training = ours.training().context("the scorecard has no record of its training")?;
    let ap: f64 = training.notes.get("stratum_average_precision").context("no stratum was measured")?.parse()?;
    let peers: Timed<Vec<PeerQuality>> = timed(include_str!("quality.py"), &samples, FOLDS)?;
    let qualities: Vec<String> = peers
        .answer
        .iter()
        .map(|peer| format!("`{}` {:.4} and {:.4}", peer.model, peer.stratum_average_precision, peer.auc))
        .collect();
    let best = |quality: fn(&PeerQuality) -> f64| peers.answer.iter().map(quality).fold(f64::NAN, f64::max);
    let setting = format!(
        "{} labelled wallets of {}, {} of them illicit, {FOLDS} folds; the features of a fold use no label of its wallets. \
         The shipped scorecard, with rounded points and merged steps, compared with scikit-learn {} on the same features \
         and folds, the best of: {} (average precision among wallets first seen in 2017, and AUC over all).",
        training.rows,
        source.name(),
        training.illicit,
        peers.version,
        qualities.join("; "),
    );
    let measurement = |case, ours, peer, unit| {
        Measurement::new(case, (ours, peer), unit, true).against("gradient boosting (scikit-learn)", setting.clone())
    };
    Ok([
        measurement(AP, ap, best(|peer| peer.stratum_average_precision), "average precision"),
        measurement(AUC, training.auc, best(|peer| peer.auc), "AUC"),
    ])
}
