//! Who matters in a network, by the pairs that transfers connect.
//!
//! Owns the measures ([`Measure`]) and the ranking. Failed transactions moved no value and connect nobody: the filter's
//! `include_failed` is not looked at. What is computed comes out the same to the last bit, whatever file the graph is read from.

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

/// Whose scores are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The first by score.
    Top(usize),
    /// One wallet.
    Wallet(WalletId),
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct CentralityQuestion<'a> {
    /// Of which network.
    pub network: &'a str,
    /// What is measured.
    pub measure: Measure,
    /// By which transfers.
    pub filter: EdgeFilter,
    /// Of whom.
    pub wanted: Wanted,
    /// Memory for it.
    pub memory: MemoryBudget,
}

/// A wallet's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Whose.
    pub wallet: WalletId,
    /// How much.
    pub score: f64,
    /// Its rank among all: equal scores share one, and the next one skips.
    pub rank: u64,
    /// Other wallets that sent to it.
    pub in_degree: u32,
    /// Other wallets that it sent to.
    pub out_degree: u32,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Centrality {
    /// Highest score first, then by address.
    pub found: Vec<Scored>,
    /// Wallets that were compared: those with a transfer that counts to or from a wallet.
    pub wallets: u64,
    /// Pairs of them, by direction.
    pub pairs: u64,
    /// How the scores came about.
    pub effort: Effort,
    /// Why it is not all, if it is not.
    pub halted: Option<Halt>,
}

impl Centrality {
    /// Why the scores are not what they would be with more time or rounds, if they are not.
    #[must_use]
    pub const fn shortfall(&self) -> Option<&'static str> {
        match (self.halted, self.effort) {
            (Some(halt), _) => Some(halt.name()),
            (None, Effort::Iterated { converged: false, .. }) => Some("iterations reached before tolerance"),
            _ => None,
        }
    }
}

/// How much work is behind the scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effort {
    /// Everything was counted.
    Counted,
    /// Rounds of an iteration.
    Iterated {
        /// How many.
        rounds: u32,
        /// By how much the scores changed in the last one, added up.
        change: f64,
        /// Whether that is below the tolerance.
        converged: bool,
    },
    /// Shortest paths from some wallets.
    Sampled {
        /// From how many.
        pivots: u32,
    },
}

/// Scores the wallets of a network. Time that is used up ends it early: with the scores of the rounds or pivots until then, without any
/// if the pairs are not read by then.
///
/// # Errors
/// [`SearchError::WholeGraph`], [`SearchError::Damaged`].
pub fn centrality<W: Interrupt>(
    graph: &Graph<'_>,
    question: &CentralityQuestion<'_>,
    interrupt: &mut W,
) -> Result<Centrality, SearchError> {
    let mut answer = Centrality { found: Vec::new(), wallets: 0, pairs: 0, effort: Effort::Counted, halted: None };
    let Some(network) = graph.network_number(question.network) else { return Ok(answer) };
    let filter = EdgeFilter { include_failed: false, min_transfers: 1, ..question.filter };
    let mut memory = question.memory;
    let memory = &mut memory;
    let mut pace = Pace::new(interrupt);
    let mut links = match Links::new(graph, network, &filter, memory, &mut pace)? {
        Ok(links) => links,
        Err(halt) => return Ok(Centrality { halted: Some(halt), ..answer }),
    };
    answer.wallets = links.wallets.len() as u64;
    answer.pairs = links.out.pairs() as u64;
    let senders = match links.out.reversed(memory, &mut pace)? {
        Ok(senders) => senders,
        Err(halt) => return Ok(Centrality { halted: Some(halt), ..answer }),
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
        Measure::Degree(Direction::Both) => either_way(&links, &senders, &mut pace),
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
            // peers by number: the order in which floats are added does not depend on the file
            links.out = match senders.reversed(memory, &mut pace)? {
                Ok(out) => out,
                Err(halt) => return Ok(Centrality { halted: Some(halt), ..answer }),
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

/// Other wallets at either end.
fn either_way<W: Interrupt>(links: &Links, senders: &super::adjacency::Adjacency, pace: &mut Pace<'_, W>) -> Vec<f64> {
    let mut seen = vec![u32::MAX; links.wallets.len()];
    (0..links.wallets.len())
        .map(|node| {
            let mut count = 0_u32;
            for adjacency in [&links.out, senders] {
                for peers in adjacency.of(node).0.chunks(CHUNK) {
                    let _ = pace.step(peers.len());
                    for peer in peers.iter().filter(|peer| **peer as usize != node) {
                        if let Some(mark) = seen.get_mut(*peer as usize).filter(|mark| **mark as usize != node) {
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
                let node = self.links.wallets.iter().position(|one| *one == wallet);
                Ok(node.and_then(|node| self.scored(node, self.rank(node)?)).into_iter().collect())
            }
            Wanted::Top(most) => self.top(most, memory, pace),
        }
    }

    /// One more than there are with a higher score.
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
        most: usize,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Vec<Scored>, SearchError> {
        type Keyed = (Reverse<Score>, u32);
        let nodes = self.scores.len();
        reserve(memory, 2 * size_of::<Keyed>() * nodes + size_of::<Scored>() * most.min(nodes), nodes)?;
        // nodes are numbered by address
        let mut keyed: Vec<Keyed> = self.scores.iter().map(|score| Reverse(Score(*score))).zip(0..).collect();
        sort_with_room(&mut keyed, pace.interrupt(), Ord::cmp);
        keyed.truncate(most);
        let mut found: Vec<Scored> = Vec::with_capacity(keyed.len());
        for (place, (_, node)) in (1..).zip(keyed) {
            let score = self.scores.get(node as usize);
            let rank = found.last().filter(|last| Some(&last.score) == score).map_or(place, |last| last.rank);
            found.extend(self.scored(node as usize, rank));
        }
        Ok(found)
    }
}

/// Scores are finite, and so have an order.
#[derive(Debug, Clone, Copy)]
struct Score(f64);

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests;
