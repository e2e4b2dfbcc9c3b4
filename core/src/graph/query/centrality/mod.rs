//! Centrality of wallets in a network, by the pairs that transfers connect.
//!
//! Owns the measures ([`Measure`]) and the ranking. Failed transactions move no value and connect
//! no wallets, regardless of the filter's `include_failed`. Results are identical to the last bit
//! for every file of the same graph.

mod betweenness;
mod measure;
mod pagerank;

use std::cmp::Reverse;

use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::error::SearchError;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::adjacency::{CHUNK, Links, reserve};
use crate::graph::types::{Direction, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

pub use measure::{BetweennessOptions, Measure, PageRankOptions};

/// Selection of wallets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The wallets with the highest scores.
    Top(usize),
    /// A single wallet.
    Wallet(WalletId),
}

/// Scope and limits of a ranking.
#[derive(Debug, Clone, Copy)]
pub struct CentralityQuestion<'a> {
    /// Network of the wallets.
    pub network: &'a str,
    /// Measure of the scores.
    pub measure: Measure,
    /// Transfers that count.
    pub filter: EdgeFilter,
    /// Wallets to report.
    pub wanted: Wanted,
    /// Memory for the search and its result.
    pub memory: MemoryBudget,
}

/// Score of a wallet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The wallet.
    pub wallet: WalletId,
    /// The score.
    pub score: f64,
    /// Rank among all wallets. Equal scores share a rank, and the next rank is skipped.
    pub rank: u64,
    /// Number of other wallets that sent to it.
    pub in_degree: u32,
    /// Number of other wallets that it sent to.
    pub out_degree: u32,
}

/// Result of a ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct Centrality {
    /// Wallets, highest score first, then by address.
    pub found: Vec<Scored>,
    /// Number of wallets compared: those with a transfer that counts.
    pub wallets: u64,
    /// Number of directed pairs of wallets.
    pub pairs: u64,
    /// Work behind the scores.
    pub effort: Effort,
    /// Limit that cut the computation short, if any.
    pub halted: Option<Halt>,
}

impl Centrality {
    /// Returns the reason why more time or rounds would change the scores, if any.
    #[must_use]
    pub const fn shortfall(&self) -> Option<&'static str> {
        match (self.halted, self.effort) {
            (Some(halt), _) => Some(halt.name()),
            (None, Effort::Iterated { converged: false, .. }) => Some("iterations reached before tolerance"),
            _ => None,
        }
    }
}

/// Work behind the scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effort {
    /// An exact count.
    Counted,
    /// Rounds of an iteration.
    Iterated {
        /// Number of rounds.
        rounds: u32,
        /// Sum of the changes of scores in the last round.
        change: f64,
        /// The change is within the tolerance.
        converged: bool,
    },
    /// Shortest paths from a sample of wallets.
    Sampled {
        /// Number of wallets in the sample.
        pivots: u32,
    },
}

/// Scores the wallets of a network. The time limit ends the computation early, with the scores of
/// the rounds or pivots done so far, or without scores if the pairs have not been read.
///
/// # Errors
/// [`SearchError::WholeGraph`], [`SearchError::Damaged`].
pub fn centrality<W: Interrupt>(
    graph: &Graph<'_>,
    question: &CentralityQuestion<'_>,
    interrupt: &mut W,
) -> Result<Centrality, SearchError> {
    let mut answer = Centrality { found: Vec::new(), wallets: 0, pairs: 0, effort: Effort::Counted, halted: None };
    let Some(network) = graph.network_id(question.network) else { return Ok(answer) };
    let filter = EdgeFilter { include_failed: false, min_transfers: 1, ..question.filter };
    let mut memory = question.memory;
    let memory = &mut memory;
    let mut pace = Pace::new(interrupt);
    let mut links = match Links::new(graph, network, &filter, memory, &mut pace) {
        Ok(links) => links,
        Err(stop) => return Ok(Centrality { halted: Some(stop.into_halt()?), ..answer }),
    };
    answer.wallets = links.wallets.len() as u64;
    answer.pairs = links.out.pairs() as u64;
    let senders = match links.out.reversed(memory, &mut pace) {
        Ok(senders) => senders,
        Err(stop) => return Ok(Centrality { halted: Some(stop.into_halt()?), ..answer }),
    };
    let nodes = links.wallets.len();
    reserve(memory, 8 * nodes, nodes)?;
    let (mut in_degrees, mut out_degrees) = (vec![0_u32; nodes], vec![0_u32; nodes]);
    for (adjacency, degrees) in [(&senders, &mut in_degrees), (&links.out, &mut out_degrees)] {
        for (node, degree) in degrees.iter_mut().enumerate() {
            for peers in adjacency.of(node).0.chunks(CHUNK) {
                let _ = pace.step(peers.len());
                *degree += peers.iter().filter(|peer| **peer as usize != node).count() as u32;
            }
        }
    }
    reserve(memory, 8 * nodes, nodes)?;
    let scores = match &question.measure {
        Measure::Degree(Direction::Both) => total_degrees(&links, &senders, &mut pace),
        Measure::Degree(Direction::In) => in_degrees.iter().map(|degree| f64::from(*degree)).collect(),
        Measure::Degree(Direction::Out) => out_degrees.iter().map(|degree| f64::from(*degree)).collect(),
        Measure::PageRank(options) => {
            let ranked = pagerank::pagerank(&senders, options, memory, &mut pace)?;
            answer.halted = ranked.halted;
            answer.effort = Effort::Iterated {
                rounds: ranked.rounds,
                change: ranked.change,
                converged: ranked.change <= options.tolerance,
            };
            ranked.scores
        }
        Measure::Betweenness(options) => {
            // Peers are ordered by number, so that the order of float additions does not depend on
            // the file.
            links.out = match senders.reversed(memory, &mut pace) {
                Ok(out) => out,
                Err(stop) => return Ok(Centrality { halted: Some(stop.into_halt()?), ..answer }),
            };
            let pivots = betweenness::pivots(graph, &links, options, memory, &mut pace)?;
            let sampled = betweenness::betweenness(&links.out, &pivots, options, memory, &mut pace)?;
            answer.halted = sampled.halted;
            answer.effort = Effort::Sampled { pivots: sampled.pivots };
            sampled.scores
        }
    };
    let ranking = Ranking { links: &links, scores: &scores, in_degrees: &in_degrees, out_degrees: &out_degrees };
    answer.found = ranking.wanted(question.wanted, memory, &mut pace)?;
    Ok(answer)
}

/// Counts the other wallets of each node, in either direction.
fn total_degrees<W: Interrupt>(
    links: &Links,
    senders: &super::adjacency::Adjacency,
    pace: &mut Pace<'_, W>,
) -> Vec<f64> {
    let mut marks = vec![u32::MAX; links.wallets.len()];
    (0..links.wallets.len())
        .map(|node| {
            let mut count = 0_u32;
            for adjacency in [&links.out, senders] {
                for peers in adjacency.of(node).0.chunks(CHUNK) {
                    let _ = pace.step(peers.len());
                    for peer in peers.iter().filter(|peer| **peer as usize != node) {
                        if let Some(mark) = marks.get_mut(*peer as usize).filter(|mark| **mark as usize != node) {
                            *mark = node as u32;
                            count += 1;
                        }
                    }
                }
            }
            f64::from(count)
        })
        .collect()
}

struct Ranking<'a> {
    links: &'a Links,
    scores: &'a [f64],
    in_degrees: &'a [u32],
    out_degrees: &'a [u32],
}

impl Ranking<'_> {
    fn wanted<W: Interrupt>(
        &self,
        wanted: Wanted,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Vec<Scored>, SearchError> {
        match wanted {
            Wanted::Wallet(wallet) => {
                let node = self.links.wallets.iter().position(|linked| *linked == wallet);
                Ok(node.and_then(|node| self.scored(node, self.rank(node)?)).into_iter().collect())
            }
            Wanted::Top(limit) => self.top(limit, memory, pace),
        }
    }

    /// Returns the rank of a node: one more than the number of higher scores.
    fn rank(&self, node: usize) -> Option<u64> {
        let own = self.scores.get(node)?;
        Some(1 + self.scores.iter().filter(|score| *score > own).count() as u64)
    }

    fn scored(&self, node: usize, rank: u64) -> Option<Scored> {
        Some(Scored {
            wallet: *self.links.wallets.get(node)?,
            score: *self.scores.get(node)?,
            rank,
            in_degree: *self.in_degrees.get(node)?,
            out_degree: *self.out_degrees.get(node)?,
        })
    }

    fn top<W: Interrupt>(
        &self,
        limit: usize,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Vec<Scored>, SearchError> {
        type Keyed = (Reverse<OrderedScore>, u32);
        let nodes = self.scores.len();
        reserve(memory, 2 * size_of::<Keyed>() * nodes + size_of::<Scored>() * limit.min(nodes), nodes)?;
        // Nodes are numbered by address.
        let mut keyed: Vec<Keyed> = self.scores.iter().map(|score| Reverse(OrderedScore(*score))).zip(0..).collect();
        sort_with_room(&mut keyed, pace.interrupt(), Ord::cmp);
        keyed.truncate(limit);
        let mut top: Vec<Scored> = Vec::with_capacity(keyed.len());
        for (position, (_, node)) in (1..).zip(keyed) {
            let score = self.scores.get(node as usize);
            let rank = top.last().filter(|last| Some(&last.score) == score).map_or(position, |last| last.rank);
            top.extend(self.scored(node as usize, rank));
        }
        Ok(top)
    }
}

/// A score; scores are finite and totally ordered.
#[derive(Debug, Clone, Copy)]
struct OrderedScore(f64);

impl PartialEq for OrderedScore {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for OrderedScore {}

impl PartialOrd for OrderedScore {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedScore {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests;
