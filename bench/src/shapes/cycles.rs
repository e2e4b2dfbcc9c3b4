//! `patterns.cycles.*`: money that goes round.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Row;

use super::amlsim::{AmlSim, Cycle, rotated};
use super::python::{Timed, timed};
use crate::graph::side::{Question, Side, session};
use crate::graph::{CALLS, Runs};
use crate::report::Measurement;
use crate::timing::median;

/// Against networkx.
pub const CASE: &str = "patterns.cycles.vs_networkx";

/// Against the truth.
pub const F1: &str = "patterns.cycles.f1_amlsim";

/// What F1 is to be at least.
const TARGET: f64 = 0.9;

/// Steps of the window: networkx takes seconds over twenty, minutes over thirty, and more than ten minutes over all 149.
const STEPS: std::ops::Range<u32> = 40..60;

/// Steps 40 to 59 as days.
const IN_WINDOW: &str = "SELECT wallets, complete FROM arx.detect_patterns('cycle', '20 days', 'amlsim', since => '2019-02-10', \
     until => '2019-03-02', options => '{\"tolerance\": 1, \"min_length\": 2, \"max_length\": 6}', max_findings => 1000000)";

/// With defaults over all steps.
const BY_DEFAULT: &str = "SELECT wallets, complete FROM arx.detect_patterns('cycle', '150 days', 'amlsim')";

fn finding(row: &Row) -> Result<Cycle> {
    ensure!(row.try_get::<_, bool>(1)?, "the search was cut short");
    Ok(rotated(row.try_get(0)?))
}

/// `patterns.cycles.vs_networkx`.
///
/// # Errors
/// When a call fails, or when the two sides disagree.
pub async fn vs_networkx(set: &AmlSim<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&set.database, "SET timezone = 'UTC'").await?;
    let ours = Side::prepare(&client, IN_WINDOW, vec![Question::new()], CALLS).await?;
    let found: Vec<Cycle> = ours.answers(finding).await?.into_iter().flatten().collect();

    let within = || set.transfers.iter().filter(|one| STEPS.contains(&one.time) && one.source != one.target);
    let pairs: BTreeSet<(&str, &str)> = within().map(|one| (one.source.as_str(), one.target.as_str())).collect();
    let mut edges = String::new();
    for (source, target) in &pairs {
        writeln!(edges, "{source}\t{target}")?;
    }
    let file = set.folder.join("edges");
    std::fs::write(&file, edges).with_context(|| format!("write {}", file.display()))?;
    let peer: Timed<Vec<Vec<String>>> = timed(include_str!("cycles.py"), &file, runs.slow)?;

    let distinct: BTreeSet<Cycle> = found.iter().cloned().collect();
    ensure!(distinct.len() == found.len(), "{} findings are of {} cycles", found.len(), distinct.len());
    let of_peer: BTreeSet<Cycle> = peer.answer.into_iter().map(rotated).collect();
    ensure!(distinct == of_peer, "ours found {} cycles, networkx {}, and not the same", distinct.len(), of_peer.len());

    let mut of_ours = Vec::new();
    for _ in 0..runs.slow {
        of_ours.push(ours.run().await?);
    }
    let setting = format!(
        "{}; all simple cycles of 2 to 6 accounts along transfers of steps {} to {}, a step as a day, in one window, any amounts: {} \
         transfers, {} pairs, the same {} cycles on both sides. networkx {} is given a DiGraph of the pairs in a process of its own, which \
         times itself; ours is asked in SQL and names accounts, transactions and amounts. {} runs, {CALLS} calls of ours a run.",
        set.name,
        STEPS.start,
        STEPS.end - 1,
        within().count(),
        pairs.len(),
        found.len(),
        peer.version,
        runs.slow,
    );
    Ok(Measurement::new(CASE, (median(&of_ours)?, median(&peer.milliseconds)?), "ms a call", false)
        .against("networkx's `simple_cycles(length_bound=6)`", setting))
}

/// `patterns.cycles.f1_amlsim`: how well cycles found by default are those that were planted.
///
/// # Errors
/// When a call fails.
pub async fn f1(set: &AmlSim<'_>) -> Result<Measurement> {
    let client = session(&set.database, "").await?;
    let ours = Side::prepare(&client, BY_DEFAULT, vec![Question::new()], 1).await?;
    let found: BTreeSet<Cycle> = ours.answers(finding).await?.into_iter().flatten().collect();
    let planted = set.planted();
    let right = found.intersection(&planted).count() as f64;
    ensure!(!planted.is_empty() && !found.is_empty(), "{} cycles were planted, {} found", planted.len(), found.len());
    let (precision, recall) = (right / found.len() as f64, right / planted.len() as f64);
    let score = if right > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
    let setting = format!(
        "{}, all steps in one window, a step as a day, `detect_patterns('cycle')` with its defaults: precision {precision:.3}, recall \
         {recall:.3}, F1 {score:.3} ({} found, {} planted, {right} of them the same). The truth is made of nodes.csv and transactions.csv \
         alone: simple cycles of three or more accounts that are all marked isFraud, along transfers of exactly the same amount. 200 cycles \
         were planned; those that are not among these do not close within the 149 steps. The peer is no program but the target.",
        set.name,
        found.len(),
        planted.len(),
    );
    println!("{F1}: precision {precision:.3}, recall {recall:.3}, F1 {score:.3}");
    Ok(Measurement::new(F1, (score, TARGET), "F1", true).against("the target of 0.9", setting))
}
