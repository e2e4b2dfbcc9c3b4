//! Betweenness from a sample of shortest paths.
//!
//! Sources: U. Brandes, "A Faster Algorithm for Betweenness Centrality", J. Math. Sociol. 25(2),
//! 2001; U. Brandes, C. Pich, "Centrality Estimation in Large Networks", Int. J. Bifurcation and
//! Chaos 17(7), 2007: the sum over `k` pivots of `n` wallets is scaled by `n / k`. With all wallets
//! as pivots, it is exact.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::measure::BetweennessOptions;
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::error::SearchError;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::adjacency::{Adjacency, CHUNK, Links, reserve};
use crate::graph::view::graph::Graph;

/// Scores by the pivots processed so far.
pub(super) struct Sampled {
    pub scores: Vec<f64>,
    pub pivots: u32,
    pub halted: Option<Halt>,
}

/// Returns the nodes that paths are followed from: those whose addresses have the smallest hashes
/// under the seed. The sample is uniform and the same for every file of the graph.
pub(super) fn pivots<W: Interrupt>(
    graph: &Graph<'_>,
    links: &Links,
    options: &BetweennessOptions,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<Vec<u32>, SearchError> {
    let nodes = links.wallets.len();
    reserve(memory, 2 * size_of::<(u64, u32)>() * nodes, nodes)?;
    let mut hashed = Vec::with_capacity(nodes);
    for (node, wallet) in (0_u32..).zip(&links.wallets) {
        let _ = pace.step(0);
        hashed.push((xxh3_64_with_seed(graph.address(*wallet)?.as_bytes(), options.seed), node));
    }
    sort_with_room(&mut hashed, pace.interrupt(), Ord::cmp);
    hashed.truncate(options.samples as usize);
    Ok(hashed.into_iter().map(|(_, node)| node).collect())
}

/// Depth of a node that was not reached.
const UNREACHED: u32 = u32::MAX;

/// Number of paths from which on it is stored as a multiple of this number, 2^512.
const LARGE: f64 = f64::from_bits((1023 + 512) << 52);

/// Follows shortest paths by hops from each pivot. O(pairs) a pivot, with 36 bytes a node.
///
/// The number of shortest paths grows exponentially with the distance, so each is a float times a
/// power of [`LARGE`]. Scores need only ratios of the numbers of neighbouring nodes.
pub(super) fn betweenness<W: Interrupt>(
    receivers: &Adjacency,
    pivots: &[u32],
    options: &BetweennessOptions,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<Sampled, SearchError> {
    let nodes = receivers.nodes();
    reserve(memory, 36 * nodes, nodes)?;
    let mut sampled = Sampled { scores: vec![0.0; nodes], pivots: 0, halted: None };
    let mut walk = PivotSearch {
        receivers,
        depths: vec![UNREACHED; nodes],
        paths: vec![0.0; nodes],
        powers: vec![0; nodes],
        shares: vec![0.0; nodes],
        order: Vec::with_capacity(nodes),
    };
    for pivot in pivots {
        if let Some(halt) = walk.spread(*pivot, pace) {
            sampled.halted = Some(halt);
            break;
        }
        // A pivot that was begun is completed: gathering takes no longer than spreading.
        walk.gather(*pivot, &mut sampled.scores, pace);
        sampled.pivots += 1;
    }
    let (count, done) = (nodes as f64, f64::from(sampled.pivots.max(1)));
    let pairs = if options.normalized && nodes > 2 { (count - 1.0) * (count - 2.0) } else { 1.0 };
    for score in &mut sampled.scores {
        *score = *score * count / done / pairs;
    }
    Ok(sampled)
}

struct PivotSearch<'a> {
    receivers: &'a Adjacency,
    depths: Vec<u32>,
    /// Number of shortest paths from the pivot, below [`LARGE`], and the power of [`LARGE`] that it
    /// is multiplied by.
    paths: Vec<f64>,
    powers: Vec<u32>,
    /// Share of the shortest paths to other nodes that pass through the node.
    shares: Vec<f64>,
    /// Nodes in the order in which they were reached.
    order: Vec<u32>,
}

impl PivotSearch<'_> {
    fn spread<W: Interrupt>(&mut self, pivot: u32, pace: &mut Pace<'_, W>) -> Option<Halt> {
        for node in self.order.drain(..) {
            self.depths[node as usize] = UNREACHED;
            self.paths[node as usize] = 0.0;
            self.powers[node as usize] = 0;
            self.shares[node as usize] = 0.0;
        }
        self.depths[pivot as usize] = 0;
        self.paths[pivot as usize] = 1.0;
        self.order.push(pivot);
        let mut next = 0;
        while let Some(node) = self.order.get(next).copied() {
            next += 1;
            let (depth, paths) = (self.depths[node as usize] + 1, self.paths[node as usize]);
            let power = self.powers[node as usize];
            for peers in self.receivers.of(node as usize).0.chunks(CHUNK) {
                if let Some(halt) = pace.step(peers.len()) {
                    return Some(halt);
                }
                for peer in peers {
                    let peer_depth = &mut self.depths[*peer as usize];
                    if *peer_depth == UNREACHED {
                        *peer_depth = depth;
                        self.order.push(*peer);
                    }
                    if *peer_depth == depth {
                        self.add(*peer as usize, paths, power);
                    }
                }
            }
        }
        None
    }

    /// Adds `paths` times a power of [`LARGE`] to the number of paths to a node.
    #[inline]
    fn add(&mut self, node: usize, paths: f64, power: u32) {
        let (sum, own) = (&mut self.paths[node], &mut self.powers[node]);
        if *own == power {
            *sum += paths;
        } else if power > *own {
            *sum = *sum * shrunk(power - *own) + paths;
            *own = power;
        } else {
            *sum += paths * shrunk(*own - power);
        }
        if *sum >= LARGE {
            *sum /= LARGE;
            *own += 1;
        }
    }

    fn gather<W: Interrupt>(&mut self, pivot: u32, scores: &mut [f64], pace: &mut Pace<'_, W>) {
        for node in self.order.iter().rev() {
            let next = self.depths[*node as usize] + 1;
            let power = self.powers[*node as usize];
            let mut share = 0.0;
            for peers in self.receivers.of(*node as usize).0.chunks(CHUNK) {
                let _ = pace.step(peers.len());
                for peer in peers.iter().filter(|peer| self.depths[**peer as usize] == next) {
                    let one = (1.0 + self.shares[*peer as usize]) / self.paths[*peer as usize];
                    // All paths to the node go on to its peer, which has at least as many.
                    let more = self.powers[*peer as usize].saturating_sub(power);
                    share += if more == 0 { one } else { one * shrunk(more) };
                }
            }
            share *= self.paths[*node as usize];
            self.shares[*node as usize] = share;
            if *node != pivot {
                scores[*node as usize] += share;
            }
        }
    }
}

/// Returns [`LARGE`] to the power of `-powers`; 0 from the second on, which is all that remains of
/// one number of paths in the sum with another.
const fn shrunk(powers: u32) -> f64 {
    match powers {
        0 => 1.0,
        1 => 1.0 / LARGE,
        _ => 0.0,
    }
}
