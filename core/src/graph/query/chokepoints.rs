//! Chokepoints: wallets that every path from a wallet to others must cross.
//!
//! Owns the selection of the paths; the dominators are petgraph's (K. D. Cooper, T. J. Harvey, K.
//! Kennedy, "A Simple, Fast Dominance Algorithm", 2001). Selected are the pairs of wallets on a
//! path of at most `max_depth` hops from the source to a target. A chokepoint of a target is on
//! every path along selected pairs, so on every path of at most `max_depth` hops.

use petgraph::algo::dominators::simple_fast;
use petgraph::csr::Csr;

use crate::graph::budget::{Halt, Interrupt, MemoryBudget, Pace, SearchLimits, Stop};
use crate::graph::error::{Damaged, SearchError};
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

/// Bytes of a pair in a list and in petgraph's graph, and those of a wallet there and in the maps
/// of its search for dominators.
const PAIR: usize = 24;
const NODE: usize = 160;

/// A wallet that paths must cross.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chokepoint {
    /// The wallet.
    pub wallet: WalletId,
    /// Smallest number of hops from the source.
    pub depth: u32,
    /// Number of the targets that cannot be reached without it.
    pub targets: u64,
}

/// Result of [`chokepoints`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chokepoints {
    /// Wallets with the most targets behind them first, then by depth and address. The source is
    /// not among them; a target is, if others are behind it.
    pub found: Vec<Chokepoint>,
    /// Number of the targets that a path leads to.
    pub reached: u64,
    /// Limit at which the search stopped, if it did. Nothing is known then, because a path that was
    /// not found may lead around a wallet.
    pub halted: Option<Halt>,
}

/// A wallet that was met.
struct Met {
    wallet: WalletId,
    /// Smallest number of hops from the source.
    depth: u32,
    /// Smallest number of hops to a target; `u32::MAX` if it is not known.
    left: u32,
}

struct ChokepointSearch<'s, W> {
    graph: &'s Graph<'s>,
    filter: &'s EdgeFilter,
    max_depth: u32,
    max_wallets: u64,
    places: Visited,
    met: Vec<Met>,
    memory: MemoryBudget,
    pace: Pace<'s, W>,
}

/// Finds the wallets that every path along transfers from the source to a target crosses, in the
/// direction of a side. O(edges) of the wallets within reach, and nearly so for the dominators.
///
/// # Errors
/// [`SearchError::Depth`], [`SearchError::Memory`], [`SearchError::Damaged`].
pub fn chokepoints<W: Interrupt>(
    graph: &Graph<'_>,
    source: WalletId,
    targets: &[WalletId],
    side: Side,
    filter: &EdgeFilter,
    limits: &SearchLimits,
    interrupt: &mut W,
) -> Result<Chokepoints, SearchError> {
    let max_depth = limits.depth()?;
    let mut memory = limits.memory;
    let mut search = ChokepointSearch {
        graph,
        filter,
        max_depth,
        max_wallets: limits.max_wallets.unwrap_or(u64::MAX),
        places: Visited::new(graph.wallets(), &mut memory),
        met: Vec::new(),
        memory,
        pace: Pace::new(interrupt),
    };
    match search.find(source, targets, side) {
        Ok(answer) => Ok(answer),
        Err(stop) => Ok(Chokepoints { found: Vec::new(), reached: 0, halted: Some(stop.into_halt()?) }),
    }
}

impl<W: Interrupt> ChokepointSearch<'_, W> {
    fn find(&mut self, source: WalletId, targets: &[WalletId], side: Side) -> Result<Chokepoints, Stop> {
        self.meet(source, 0)?;
        self.spread(side)?;
        let reached = self.look_back(source, targets, side)?;
        let mut answer = Chokepoints { found: Vec::new(), reached: reached.len() as u64, halted: None };
        if reached.is_empty() {
            return Ok(answer);
        }
        let (pairs, nodes) = self.selected(side)?;
        book(&mut self.memory, (PAIR * pairs.len() + NODE * nodes) / 2, self.max_depth, self.met.len())?;
        let selected: Csr<(), ()> =
            Csr::from_sorted_edges(&pairs).map_err(|_| Damaged { what: "pairs of wallets are not in order" })?;
        let dominators = simple_fast(&selected, 0);
        let mut behind = vec![0_u64; self.met.len()];
        for target in reached {
            for wallet in dominators.strict_dominators(target).into_iter().flatten() {
                self.step()?;
                behind[wallet as usize] += 1;
            }
        }
        for (met, targets) in self.met.iter().zip(behind).skip(1).filter(|(_, targets)| *targets > 0) {
            answer.found.push(Chokepoint { wallet: met.wallet, depth: met.depth, targets });
        }
        let graph = self.graph;
        answer.found.sort_by_key(|one| (std::cmp::Reverse(one.targets), one.depth, graph.order(one.wallet)));
        Ok(answer)
    }

    fn step(&mut self) -> Result<(), Stop> {
        self.pace.step(0).map_or(Ok(()), |halt| Err(Stop::Halt(halt)))
    }

    fn meet(&mut self, wallet: WalletId, depth: u32) -> Result<(), Stop> {
        if self.places.get(wallet).is_none() {
            if self.met.len() as u64 >= self.max_wallets {
                return Err(Stop::Halt(Halt::Wallets));
            }
            let bytes = size_of::<Met>() + self.places.cost();
            book(&mut self.memory, bytes, depth, self.met.len())?;
            self.places.insert(wallet, self.met.len() as u32);
            self.met.push(Met { wallet, depth, left: u32::MAX });
        }
        Ok(())
    }

    /// Meets the wallets within reach of the source, by levels.
    fn spread(&mut self, side: Side) -> Result<(), Stop> {
        let mut next = 0;
        while let Some((wallet, depth)) = self.met.get(next).map(|met| (met.wallet, met.depth)) {
            next += 1;
            if depth == self.max_depth {
                break;
            }
            self.edges(wallet, side, |search, peer| search.meet(peer, depth + 1))?;
        }
        Ok(())
    }

    fn edges(
        &mut self,
        wallet: WalletId,
        side: Side,
        mut each: impl FnMut(&mut Self, WalletId) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let (graph, filter) = (self.graph, self.filter);
        graph.edges(wallet, side, filter, |edge| -> Result<(), Stop> {
            self.step()?;
            each(self, edge.peer)
        })
    }

    /// Finds the smallest number of hops to a target. Returns the numbers of the targets within
    /// reach; the source is no target.
    fn look_back(&mut self, source: WalletId, targets: &[WalletId], side: Side) -> Result<Vec<u32>, Stop> {
        let mut reached: Vec<u32> =
            targets.iter().filter(|target| **target != source).filter_map(|target| self.places.get(*target)).collect();
        reached.sort_unstable();
        reached.dedup();
        let mut level = reached.clone();
        for target in &level {
            self.met[*target as usize].left = 0;
        }
        let back = if side == Side::Out { Side::In } else { Side::Out };
        let mut left = 0;
        while !level.is_empty() {
            left += 1;
            let mut next = Vec::new();
            for index in level {
                let wallet = self.met[index as usize].wallet;
                self.edges(wallet, back, |search, peer| {
                    let Some(place) = search.places.get(peer) else { return Ok(()) };
                    let met = &mut search.met[place as usize];
                    if met.left == u32::MAX && met.depth + left <= search.max_depth {
                        met.left = left;
                        next.push(place);
                        let wallets = search.met.len();
                        book(&mut search.memory, size_of::<u32>(), left, wallets)?;
                    }
                    Ok(())
                })?;
            }
            level = next;
        }
        Ok(reached)
    }

    /// Returns the pairs on a path within the hops, by numbers, and the end of the numbers.
    fn selected(&mut self, side: Side) -> Result<(Vec<(u32, u32)>, usize), Stop> {
        let (mut pairs, mut nodes) = (Vec::new(), 1);
        for index in 0..self.met.len() {
            let Met { wallet, depth, left } = self.met[index];
            if left == u32::MAX || depth >= self.max_depth {
                continue;
            }
            let start = pairs.len();
            self.edges(wallet, side, |search, peer| {
                let Some(place) = search.places.get(peer) else { return Ok(()) };
                let left = search.met[place as usize].left;
                if left != u32::MAX && depth + 1 + left <= search.max_depth && place as usize != index {
                    let wallets = search.met.len();
                    if pairs.len() == pairs.capacity() {
                        book(&mut search.memory, size_of::<(u32, u32)>() * pairs.len().max(8), depth, wallets)?;
                    }
                    pairs.push((index as u32, place));
                    nodes = nodes.max(place as usize + 1).max(index + 1);
                }
                Ok(())
            })?;
            sort_with_room(&mut pairs[start..], self.pace.interrupt(), Ord::cmp);
            // Pairs of several assets.
            let mut kept = start;
            for pair in start..pairs.len() {
                if pair == start || pairs[pair] != pairs[kept - 1] {
                    pairs[kept] = pairs[pair];
                    kept += 1;
                }
            }
            pairs.truncate(kept);
        }
        Ok((pairs, nodes))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::graph::test_graph::{Patience, Sent, TestGraph, limits};
    use crate::graph::{MemoryBudget, Uninterrupted};

    /// Hops from a wallet along pairs, without those of a wallet.
    fn hops(pairs: &BTreeSet<(u32, u32)>, from: u32, without: Option<u32>) -> BTreeMap<u32, u32> {
        let mut hops = BTreeMap::from([(from, 0)]);
        for depth in 0..20 {
            for (one, other) in pairs {
                if hops.get(one) == Some(&depth) && Some(*other) != without && Some(*one) != without {
                    hops.entry(*other).or_insert(depth + 1);
                }
            }
        }
        hops
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn a_chokepoint_separates_the_source_from_its_targets(
            rows in prop::collection::vec((0..10_u32, 0..10_u32), 1..30),
            overlaid in 0..10_usize,
            source in 0..10_u32,
            targets in prop::collection::btree_set(0..10_u32, 1..4),
            is_back: bool,
            depth in 1..8_i32,
        ) {
            let sent: Vec<Sent> = rows.iter().map(|(from, to)| Sent::coins(*from, *to, 1)).collect();
            let test = TestGraph::new(&sent, overlaid);
            let graph = test.graph();
            prop_assume!(test.wallet(source).get() < graph.wallets());
            let side = if is_back { Side::In } else { Side::Out };
            let ids: Vec<WalletId> = targets.iter().map(|target| test.wallet(*target)).filter(|id| id.get() < graph.wallets()).collect();
            let found = chokepoints(&graph, test.wallet(source), &ids, side, &EdgeFilter::default(), &limits(depth), &mut Uninterrupted).unwrap();
            prop_assert_eq!(found.halted, None);

            // Pairs on a path within the hops, by distances from both ends.
            let walk = |pair: &(u32, u32)| if is_back { (pair.1, pair.0) } else { *pair };
            let pairs: BTreeSet<(u32, u32)> = rows.iter().map(walk).collect();
            let reversed: BTreeSet<(u32, u32)> = pairs.iter().map(|pair| (pair.1, pair.0)).collect();
            let depth = depth.unsigned_abs();
            let from_source = hops(&pairs, source, None);
            let reached: Vec<u32> = targets.iter().copied().filter(|target| *target != source && from_source.get(target).is_some_and(|hops| *hops <= depth)).collect();
            prop_assert_eq!(found.reached, reached.len() as u64);
            let left = |wallet: u32| reached.iter().filter_map(|target| hops(&reversed, *target, None).get(&wallet).copied()).min();
            let selected: BTreeSet<(u32, u32)> = pairs
                .iter()
                .filter(|pair| from_source.get(&pair.0).zip(left(pair.1)).is_some_and(|(before, after)| before + 1 + after <= depth))
                .copied()
                .collect();
            let mut expected = BTreeMap::new();
            for wallet in (0..10).filter(|wallet| *wallet != source) {
                let around = hops(&selected, source, Some(wallet));
                let behind = reached.iter().filter(|target| **target != wallet && !around.contains_key(target)).count() as u64;
                if behind > 0 {
                    expected.insert(wallet, (from_source[&wallet], behind));
                }
            }
            let got: BTreeMap<u32, (u32, u64)> = found.found.iter().map(|one| (test.number(one.wallet), (one.depth, one.targets))).collect();
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn limits_leave_the_question_open() {
        // Two ways from 0 to 9, which a limit of wallets would cut to one.
        let rows: Vec<Sent> = [(0, 1), (1, 9), (0, 2), (2, 9)].map(|(from, to)| Sent::coins(from, to, 1)).to_vec();
        let test = TestGraph::new(&rows, 0);
        let graph = test.graph();
        let ask = |limits: &SearchLimits, interrupt: &mut Patience| {
            let targets = [test.wallet(9)];
            chokepoints(&graph, test.wallet(0), &targets, Side::Out, &EdgeFilter::default(), limits, interrupt)
        };
        let all = ask(&limits(6), &mut Patience(u32::MAX)).unwrap();
        assert_eq!((all.found.len(), all.reached, all.halted), (0, 1, None));
        for wallets in 1..4 {
            let few = SearchLimits { max_wallets: Some(wallets), ..limits(6) };
            let halted = ask(&few, &mut Patience(u32::MAX)).unwrap();
            assert_eq!((halted.found.len(), halted.halted), (0, Some(Halt::Wallets)));
        }
        assert_eq!(ask(&limits(6), &mut Patience(1)).unwrap().halted, Some(Halt::Time));
        let little = SearchLimits { memory: MemoryBudget::new(150), ..limits(6) };
        assert!(matches!(ask(&little, &mut Patience(u32::MAX)).unwrap_err(), SearchError::Memory { budget: 150, .. }));
    }
}
