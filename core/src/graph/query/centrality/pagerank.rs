//! PageRank: L. Page, S. Brin, R. Motwani, T. Winograd, "The PageRank Citation Ranking", Stanford
//! 1999, as networkx computes it: scores add up to 1, and a wallet that sends to no one sends to
//! all wallets equally.

use super::measure::PageRankOptions;
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::error::SearchError;
use crate::graph::query::adjacency::{Adjacency, CHUNK, reserve};

/// Scores after the rounds done so far.
pub(super) struct Ranked {
    pub scores: Vec<f64>,
    pub rounds: u32,
    /// Sum of the changes in the last round.
    pub change: f64,
    pub halted: Option<Halt>,
}

/// Runs the power iteration. O(nodes + pairs) a round, with 40 bytes a node; a round reads eight
/// bytes a pair sequentially, and the sender's score.
pub(super) fn pagerank<W: Interrupt>(
    senders: &Adjacency,
    options: &PageRankOptions,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<Ranked, SearchError> {
    let nodes = senders.nodes();
    reserve(memory, 40 * nodes, nodes)?;
    let count = nodes as f64;
    let sent = totals(senders, options.weighted, pace);
    let change = if nodes == 0 { 0.0 } else { f64::INFINITY };
    let mut ranked = Ranked { scores: vec![1.0 / count; nodes], rounds: 0, change, halted: None };
    let (mut next, mut handed) = (vec![0.0; nodes], vec![0.0; nodes]);
    while ranked.rounds < options.iterations && ranked.change > options.tolerance {
        // Score of the nodes that send to no one.
        let mut dangling = 0.0;
        let chunks = handed.chunks_mut(CHUNK).zip(ranked.scores.chunks(CHUNK)).zip(sent.chunks(CHUNK));
        for ((handed, scores), sent) in chunks {
            if let Some(halt) = pace.step(scores.len()) {
                ranked.halted = Some(halt);
                return Ok(ranked);
            }
            for ((handed, score), sent) in handed.iter_mut().zip(scores).zip(sent) {
                if *sent > 0.0 {
                    *handed = score / sent;
                } else {
                    dangling += score;
                }
            }
        }
        let base = (1.0 - options.damping + options.damping * dangling) / count;
        let mut change = 0.0;
        for (node, next) in next.iter_mut().enumerate() {
            let (peers, transfers) = senders.of(node);
            if peers.is_empty()
                && let Some(halt) = pace.step(0)
            {
                ranked.halted = Some(halt);
                return Ok(ranked);
            }
            let mut sum = 0.0;
            for (peers, transfers) in peers.chunks(CHUNK).zip(transfers.chunks(CHUNK)) {
                if let Some(halt) = pace.step(peers.len()) {
                    ranked.halted = Some(halt);
                    return Ok(ranked);
                }
                sum += if options.weighted {
                    peers
                        .iter()
                        .zip(transfers)
                        .map(|(peer, count)| handed[*peer as usize] * f64::from(*count))
                        .sum::<f64>()
                } else {
                    peers.iter().map(|peer| handed[*peer as usize]).sum::<f64>()
                };
            }
            *next = base + options.damping * sum;
        }
        for (old, new) in ranked.scores.chunks(CHUNK).zip(next.chunks(CHUNK)) {
            let _ = pace.step(new.len());
            for (old, new) in old.iter().zip(new) {
                change += (new - old).abs();
            }
        }
        std::mem::swap(&mut ranked.scores, &mut next);
        ranked.rounds += 1;
        ranked.change = change;
    }
    Ok(ranked)
}

/// Sums the weights that each node sends.
fn totals<W: Interrupt>(senders: &Adjacency, weighted: bool, pace: &mut Pace<'_, W>) -> Vec<f64> {
    let mut sent = vec![0.0; senders.nodes()];
    for node in 0..senders.nodes() {
        let (peers, transfers) = senders.of(node);
        for (peers, transfers) in peers.chunks(CHUNK).zip(transfers.chunks(CHUNK)) {
            let _ = pace.step(peers.len());
            for (peer, count) in peers.iter().zip(transfers) {
                sent[*peer as usize] += if weighted { f64::from(*count) } else { 1.0 };
            }
        }
    }
    sent
}
