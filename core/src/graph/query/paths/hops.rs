//! Fewest hops: breadth-first search from both ends, which always expands the side with fewer edges
//! (Pohl: Bi-directional search, 1971).
//!
//! Both sides grow by whole levels, so every shortest path crosses between them at the same depth.
//! The first one by addresses is found without visiting all of them: wallets of the forward side
//! are expanded in the order of the first path to them, so the first wallet to reach another is on
//! the first path to it; and from the meeting on, the search always takes the wallet one hop closer
//! to the target that is first by address.

use super::{PathOutcome, PathSearch, PathTask, PathTerms, Route, Stop, degree, reversed};
use crate::graph::budget::{Halt, Interrupt, MemoryBudget, Pace};
use crate::graph::error::SearchError;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::{Direction, WalletId};

/// Wallets from which on a sort checks for cancellation.
const MANY: usize = 1 << 14;

/// A wallet within some hops of one end.
#[derive(Debug, Clone, Copy)]
struct BallEntry {
    wallet: WalletId,
    /// Index of the wallet that it was reached from.
    parent: u32,
}

/// The wallets within some hops of one end.
struct Ball {
    /// Keeps entries of earlier searches: an entry is valid if its index holds the same wallet
    /// (Briggs, Torczon: An efficient representation for sparse sets, 1993).
    visited: Visited,
    /// Wallets by level.
    entries: Vec<BallEntry>,
    /// Index of the first wallet of each level.
    levels: Vec<usize>,
}

impl Ball {
    fn new(visited: Visited) -> Self {
        Self { visited, entries: Vec::new(), levels: Vec::new() }
    }

    fn reset(&mut self, wallet: WalletId) {
        self.visited.begin_search();
        self.entries.clear();
        self.levels.clear();
        self.levels.push(0);
        self.add(wallet, 0);
    }

    #[inline]
    fn add(&mut self, wallet: WalletId, parent: u32) {
        self.visited.insert(wallet, self.entries.len() as u32);
        self.entries.push(BallEntry { wallet, parent });
    }

    #[inline]
    fn index(&self, wallet: WalletId) -> Option<u32> {
        let index = self.visited.get(wallet)?;
        self.entries.get(index as usize).is_some_and(|entry| entry.wallet == wallet).then_some(index)
    }

    fn wallet(&self, index: u32) -> Option<WalletId> {
        self.entries.get(index as usize).map(|entry| entry.wallet)
    }

    /// Returns the indexes of the wallets of a level.
    fn level(&self, depth: usize) -> std::ops::Range<usize> {
        let start = self.levels.get(depth).copied().unwrap_or(self.entries.len());
        start..self.levels.get(depth + 1).copied().unwrap_or(self.entries.len())
    }

    fn depth(&self) -> usize {
        self.levels.len() - 1
    }
}

/// Meeting of the two sides: a wallet of one side that was reached from the other.
#[derive(Debug, Clone, Copy)]
struct Meeting {
    wallet: WalletId,
    order: u64,
    /// Index, on the forward side, of the wallet before it.
    parent: u32,
    /// Orders wallets with different parents.
    index: u32,
}

impl Meeting {
    /// Returns whether the first path to this wallet precedes the first path to the other one.
    const fn precedes(&self, other: &Self) -> bool {
        if self.parent == other.parent { self.order < other.order } else { self.index < other.index }
    }
}

/// The search from both ends, reused for several paths.
pub(super) struct Bidirectional<'g> {
    terms: PathTerms<'g>,
    forward: Ball,
    backward: Ball,
}

impl<'g> Bidirectional<'g> {
    pub(super) fn new(terms: PathTerms<'g>, memory: &mut MemoryBudget) -> Self {
        let wallets = terms.graph.wallets();
        let forward = Ball::new(Visited::new(wallets, memory));
        Self { terms, forward, backward: Ball::new(Visited::new(wallets, memory)) }
    }

    /// Returns the cost of expanding the last level of a side; `None` if the level is empty.
    fn frontier_cost(&self, is_forward: bool) -> Option<usize> {
        let ball = if is_forward { &self.forward } else { &self.backward };
        let direction = self.towards(is_forward);
        let level = ball.entries.get(ball.level(ball.depth())).filter(|level| !level.is_empty())?;
        Some(level.iter().map(|entry| 1 + degree(self.terms.graph, entry.wallet, direction)).sum())
    }

    const fn towards(&self, is_forward: bool) -> Direction {
        if is_forward { self.terms.direction } else { reversed(self.terms.direction) }
    }

    /// Returns the last level of the forward side in the order of the first paths to its wallets.
    /// The children of a wallet are adjacent.
    fn sorted_frontier<W: Interrupt>(&self, pace: &mut Pace<'_, W>) -> Vec<u32> {
        let (graph, ball) = (self.terms.graph, &self.forward);
        let level = ball.level(ball.depth());
        let entries = level.clone().filter_map(|index| Some((index as u32, ball.entries.get(index)?)));
        let mut keyed: Vec<(u32, u64, u32)> =
            entries.map(|(index, entry)| (entry.parent, graph.order(entry.wallet), index)).collect();
        for siblings in keyed.chunk_by_mut(|a, b| a.0 == b.0) {
            if siblings.len() > MANY {
                sort_with_room(siblings, pace.interrupt(), |a, b| a.1.cmp(&b.1));
            } else {
                siblings.sort_unstable_by_key(|sibling| sibling.1);
            }
        }
        keyed.into_iter().map(|(_, _, index)| index).collect()
    }

    /// Adds one level to a side, until it meets the other.
    fn expand<W: Interrupt>(
        &mut self,
        task: &PathTask<'_>,
        is_forward: bool,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<(Option<Meeting>, Option<Halt>), SearchError> {
        let direction = self.towards(is_forward);
        let frontier = if is_forward {
            self.sorted_frontier(pace)
        } else {
            self.backward.level(self.backward.depth()).map(|index| index as u32).collect()
        };
        let PathTerms { graph, filter, max_wallets, .. } = self.terms;
        let (near, far) =
            if is_forward { (&mut self.forward, &self.backward) } else { (&mut self.backward, &self.forward) };
        let depth = near.depth() as u32 + 1;
        book(memory, frontier.len() * size_of::<(u32, u64, u32)>(), depth, near.entries.len())?;
        near.levels.push(near.entries.len());
        let cost = size_of::<BallEntry>() + near.visited.cost();
        let mut meeting: Option<Meeting> = None;
        for parent in frontier {
            let Some(wallet) = near.wallet(parent) else { continue };
            for side in direction.sides() {
                let result = graph.edges(wallet, *side, filter, |edge| -> Result<(), Stop> {
                    let peer = edge.peer;
                    if let Some(halt) = pace.step(0) {
                        return Err(Stop::Halt(halt));
                    }
                    if near.index(peer).is_some() {
                        return Ok(());
                    }
                    if let Some(index) = far.index(peer) {
                        let (first, second) = if is_forward { (wallet, peer) } else { (peer, wallet) };
                        if first == task.source && task.not_first.contains(&second) {
                            return Ok(());
                        }
                        let order = graph.order(peer);
                        let candidate = if is_forward {
                            // The first wallet of the frontier that meets the other side is on the
                            // first path.
                            Meeting { wallet: peer, order, parent, index: 0 }
                        } else {
                            let parent = far.entries.get(index as usize).map_or(0, |entry| entry.parent);
                            Meeting { wallet: peer, order, parent, index }
                        };
                        if meeting.is_none_or(|first| candidate.precedes(&first)) {
                            meeting = Some(candidate);
                        }
                    } else if meeting.is_none()
                        && !task.banned.contains(&peer)
                        && !(is_forward && wallet == task.source && task.not_first.contains(&peer))
                    {
                        let wallets = near.entries.len() + far.entries.len();
                        if wallets as u64 >= max_wallets {
                            return Err(Stop::Halt(Halt::Wallets));
                        }
                        book(memory, cost, depth, wallets)?;
                        near.add(peer, parent);
                    }
                    Ok(())
                });
                let halted = match result {
                    Ok(()) => pace.step(0),
                    Err(Stop::Halt(halt)) => Some(halt),
                    Err(Stop::Error(error)) => return Err(error),
                };
                if halted.is_some() {
                    return Ok((meeting, halted));
                }
            }
            if is_forward && meeting.is_some() {
                break;
            }
        }
        Ok((meeting, None))
    }

    /// Returns the wallets of the path from the source to the meeting.
    fn head(&self, task: &PathTask<'_>, meeting: &Meeting) -> Vec<WalletId> {
        let mut wallets = vec![meeting.wallet];
        if meeting.wallet != task.source {
            let mut index = meeting.parent;
            while let Some(entry) = self.forward.entries.get(index as usize) {
                wallets.push(entry.wallet);
                if index == 0 {
                    break;
                }
                index = entry.parent;
            }
        }
        wallets.reverse();
        wallets
    }

    /// Returns the first wallet by address, among those of a level of the backward side, that `at`
    /// has a step to.
    fn nearer<W: Interrupt>(
        &self,
        task: &PathTask<'_>,
        at: WalletId,
        depth: usize,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<WalletId>, SearchError> {
        let PathTerms { graph, direction, filter, .. } = self.terms;
        let range = self.backward.level(depth);
        let level = self.backward.entries.get(range.clone()).unwrap_or_default();
        if let [only] = level {
            return Ok(Some(only.wallet));
        }
        let not_next = if at == task.source { task.not_first } else { &[] };
        let mut first: Option<(u64, WalletId)> = None;
        let mut take = |wallet: WalletId| {
            let order = graph.order(wallet);
            if first.is_none_or(|(first_order, _)| order < first_order) && !not_next.contains(&wallet) {
                first = Some((order, wallet));
            }
        };
        let cost = degree(graph, at, direction);
        let back = reversed(direction);
        let mut cost_back = 0;
        // Reading the level is cheaper if `at` is a hub.
        if level.iter().all(|entry| {
            cost_back += 1 + degree(graph, entry.wallet, back);
            cost_back < cost
        }) {
            for entry in level {
                let mut leads_here = false;
                for side in back.sides() {
                    graph.edges(entry.wallet, *side, filter, |edge| -> Result<(), SearchError> {
                        leads_here |= edge.peer == at;
                        pace.step(0);
                        Ok(())
                    })?;
                    pace.step(0);
                }
                if leads_here {
                    take(entry.wallet);
                }
            }
        } else {
            for side in direction.sides() {
                graph.edges(at, *side, filter, |edge| -> Result<(), SearchError> {
                    if self.backward.index(edge.peer).is_some_and(|index| range.contains(&(index as usize))) {
                        take(edge.peer);
                    }
                    pace.step(0);
                    Ok(())
                })?;
            }
        }
        Ok(first.map(|(_, wallet)| wallet))
    }
}

impl PathSearch for Bidirectional<'_> {
    fn search<W: Interrupt>(
        &mut self,
        task: &PathTask<'_>,
        mut memory: MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<PathOutcome, SearchError> {
        self.forward.reset(task.source);
        self.backward.reset(task.target);
        let max_hops = task.longest.map_or(task.max_hops, |longest| longest.hops.min(task.max_hops));
        let hops_left = max_hops.saturating_sub(task.start.hops) as usize;
        while self.forward.depth() + self.backward.depth() < hops_left {
            let (Some(ahead), Some(behind)) = (self.frontier_cost(true), self.frontier_cost(false)) else { break };
            let is_forward = ahead <= behind;
            let (meeting, halted) = self.expand(task, is_forward, &mut memory, pace)?;
            if let Some(meeting) = meeting {
                let mut wallets = self.head(task, &meeting);
                // The last level of the backward side may be unfinished; the path goes on through
                // the levels before.
                let mut depth = self.backward.depth();
                let mut at = meeting.wallet;
                while depth > 0 {
                    depth -= 1;
                    let Some(next) = self.nearer(task, at, depth, pace)? else { break };
                    wallets.push(next);
                    at = next;
                }
                let costs = (task.start.cost..).take(wallets.len()).collect();
                return Ok(PathOutcome { route: Some(Route { wallets, costs }), halted });
            }
            if halted.is_some() {
                return Ok(PathOutcome { route: None, halted });
            }
        }
        Ok(PathOutcome { route: None, halted: None })
    }
}
