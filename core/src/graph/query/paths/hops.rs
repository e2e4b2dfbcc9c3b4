//! Fewest hops: breadth-first search from both ends, always on where fewer edges are to be looked at (Pohl: Bi-directional
//! search, 1971).
//!
//! Both sides grow by whole levels, so every shortest path crosses from one to the other at the same place. Of all of them the
//! first by addresses is found without looking at each: wallets of the forward side are expanded in the order of the first path
//! to them, so that whoever finds a wallet first is on the first path to it; and from where the sides meet, the nearest wallet
//! that is one hop closer to the target is taken, the first by address.

use super::{Outcome, Route, Search, Stop, Task, Terms, degree, reversed};
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::error::SearchError;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::{Direction, WalletId};

/// From how many wallets on sorting looks at the interrupt.
const MANY: usize = 1 << 14;

/// A wallet within some hops of one end.
#[derive(Debug, Clone, Copy)]
struct Found {
    wallet: WalletId,
    /// Place of the wallet that it was found from.
    parent: u32,
}

/// The wallets within some hops of one end.
struct Ball {
    /// Entries of earlier searches are left in it: one is valid if its place holds the wallet it is of (Briggs, Torczon: An
    /// efficient representation for sparse sets, 1993).
    visited: Visited,
    /// By level.
    found: Vec<Found>,
    /// Where levels start.
    levels: Vec<usize>,
}

impl Ball {
    fn new(visited: Visited) -> Self {
        Self { visited, found: Vec::new(), levels: Vec::new() }
    }

    fn reset(&mut self, wallet: WalletId) {
        if let Visited::Sparse(places) = &mut self.visited {
            places.clear();
        }
        self.found.clear();
        self.levels.clear();
        self.levels.push(0);
        self.add(wallet, 0);
    }

    #[inline]
    fn add(&mut self, wallet: WalletId, parent: u32) {
        self.visited.insert(wallet, self.found.len() as u32);
        self.found.push(Found { wallet, parent });
    }

    #[inline]
    fn place(&self, wallet: WalletId) -> Option<u32> {
        let place = self.visited.get(wallet)?;
        self.found.get(place as usize).is_some_and(|found| found.wallet == wallet).then_some(place)
    }

    fn wallet(&self, place: u32) -> Option<WalletId> {
        self.found.get(place as usize).map(|found| found.wallet)
    }

    /// Where the level of that depth starts and ends.
    fn level(&self, depth: usize) -> std::ops::Range<usize> {
        let start = self.levels.get(depth).copied().unwrap_or(self.found.len());
        start..self.levels.get(depth + 1).copied().unwrap_or(self.found.len())
    }

    fn depth(&self) -> usize {
        self.levels.len() - 1
    }
}

/// Where the two sides meet: a wallet of the one that was found from the other.
#[derive(Debug, Clone, Copy)]
struct Meeting {
    wallet: WalletId,
    order: u64,
    /// Place, on the forward side, of the wallet before it.
    parent: u32,
    /// Orders wallets with different parents.
    place: u32,
}

impl Meeting {
    /// Whether the first path to it comes before the other's.
    const fn precedes(&self, other: &Self) -> bool {
        if self.parent == other.parent { self.order < other.order } else { self.place < other.place }
    }
}

/// The search from both ends, to be used again and again.
pub(super) struct Bidirectional<'g> {
    terms: Terms<'g>,
    forward: Ball,
    backward: Ball,
}

impl<'g> Bidirectional<'g> {
    pub(super) fn new(terms: Terms<'g>, memory: &mut MemoryBudget) -> Self {
        let wallets = terms.graph.wallets();
        let forward = Ball::new(Visited::new(wallets, memory));
        Self { terms, forward, backward: Ball::new(Visited::new(wallets, memory)) }
    }

    /// What looking at a side's last level costs; nothing is left to look at where it is empty.
    fn frontier_cost(&self, is_forward: bool) -> Option<usize> {
        let ball = if is_forward { &self.forward } else { &self.backward };
        let direction = self.towards(is_forward);
        let level = ball.found.get(ball.level(ball.depth())).filter(|level| !level.is_empty())?;
        Some(level.iter().map(|found| 1 + degree(self.terms.graph, found.wallet, direction)).sum())
    }

    const fn towards(&self, is_forward: bool) -> Direction {
        if is_forward { self.terms.direction } else { reversed(self.terms.direction) }
    }

    /// The last level of the forward side, by the first paths to its wallets: a wallet's children lie together.
    fn sorted_frontier<W: Interrupt>(&self, pace: &mut Pace<'_, W>) -> Vec<u32> {
        let (graph, ball) = (self.terms.graph, &self.forward);
        let level = ball.level(ball.depth());
        let found = level.clone().filter_map(|place| Some((place as u32, ball.found.get(place)?)));
        let mut keyed: Vec<(u32, u64, u32)> =
            found.map(|(place, found)| (found.parent, graph.order(found.wallet), place)).collect();
        for siblings in keyed.chunk_by_mut(|a, b| a.0 == b.0) {
            if siblings.len() > MANY {
                sort_with_room(siblings, pace.interrupt(), |a, b| a.1.cmp(&b.1));
            } else {
                siblings.sort_unstable_by_key(|sibling| sibling.1);
            }
        }
        keyed.into_iter().map(|(_, _, place)| place).collect()
    }

    /// Adds one more level to a side, until the other is met.
    fn expand<W: Interrupt>(
        &mut self,
        task: &Task<'_>,
        is_forward: bool,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<(Option<Meeting>, Option<Halt>), SearchError> {
        let direction = self.towards(is_forward);
        let frontier = if is_forward {
            self.sorted_frontier(pace)
        } else {
            self.backward.level(self.backward.depth()).map(|place| place as u32).collect()
        };
        let Terms { graph, filter, max_wallets, .. } = self.terms;
        let (near, far) =
            if is_forward { (&mut self.forward, &self.backward) } else { (&mut self.backward, &self.forward) };
        let depth = near.depth() as u32 + 1;
        book(memory, frontier.len() * size_of::<(u32, u64, u32)>(), depth, near.found.len())?;
        near.levels.push(near.found.len());
        let cost = size_of::<Found>() + near.visited.cost();
        let mut meeting: Option<Meeting> = None;
        for parent in frontier {
            let Some(wallet) = near.wallet(parent) else { continue };
            for side in direction.sides() {
                let looked = graph.edges(wallet, *side, filter, |edge| -> Result<(), Stop> {
                    let peer = edge.peer;
                    if near.place(peer).is_some() {
                        return Ok(());
                    }
                    if let Some(place) = far.place(peer) {
                        let (first, second) = if is_forward { (wallet, peer) } else { (peer, wallet) };
                        if first == task.source && task.not_first.contains(&second) {
                            return Ok(());
                        }
                        let order = graph.order(peer);
                        let this = if is_forward {
                            // the first wallet of the frontier that meets anybody is on the first path
                            Meeting { wallet: peer, order, parent, place: 0 }
                        } else {
                            let parent = far.found.get(place as usize).map_or(0, |found| found.parent);
                            Meeting { wallet: peer, order, parent, place }
                        };
                        if meeting.is_none_or(|known| this.precedes(&known)) {
                            meeting = Some(this);
                        }
                    } else if meeting.is_none()
                        && !task.banned.contains(&peer)
                        && !(is_forward && wallet == task.source && task.not_first.contains(&peer))
                    {
                        let known = near.found.len() + far.found.len();
                        if known as u64 >= max_wallets {
                            return Err(Stop::Halt(Halt::Wallets));
                        }
                        book(memory, cost, depth, known)?;
                        near.add(peer, parent);
                    }
                    Ok(())
                });
                let halted = match looked {
                    Ok(()) => pace.step(graph.degree(wallet, *side)),
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

    /// The wallets of the forward side up to the meeting.
    fn head(&self, task: &Task<'_>, meeting: &Meeting) -> Vec<WalletId> {
        let mut wallets = vec![meeting.wallet];
        if meeting.wallet != task.source {
            let mut place = meeting.parent;
            while let Some(found) = self.forward.found.get(place as usize) {
                wallets.push(found.wallet);
                if place == 0 {
                    break;
                }
                place = found.parent;
            }
        }
        wallets.reverse();
        wallets
    }

    /// Of the wallets at that depth of the backward side, the first by address that a wallet one hop away leads to.
    fn nearer<W: Interrupt>(
        &self,
        task: &Task<'_>,
        at: WalletId,
        depth: usize,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<WalletId>, SearchError> {
        let Terms { graph, direction, filter, .. } = self.terms;
        let range = self.backward.level(depth);
        let level = self.backward.found.get(range.clone()).unwrap_or_default();
        if let [only] = level {
            return Ok(Some(only.wallet));
        }
        let not_next = if at == task.source { task.not_first } else { &[] };
        let mut first: Option<(u64, WalletId)> = None;
        let mut take = |wallet: WalletId| {
            let order = graph.order(wallet);
            if first.is_none_or(|known| order < known.0) && !not_next.contains(&wallet) {
                first = Some((order, wallet));
            }
        };
        let cost = degree(graph, at, direction);
        let back = reversed(direction);
        let mut cost_back = 0;
        // a hub has more peers than its peers have
        if level.iter().all(|found| {
            cost_back += 1 + degree(graph, found.wallet, back);
            cost_back < cost
        }) {
            for found in level {
                let mut leads_here = false;
                for side in back.sides() {
                    graph.edges(found.wallet, *side, filter, |edge| -> Result<(), SearchError> {
                        leads_here |= edge.peer == at;
                        Ok(())
                    })?;
                    pace.step(graph.degree(found.wallet, *side));
                }
                if leads_here {
                    take(found.wallet);
                }
            }
        } else {
            for side in direction.sides() {
                graph.edges(at, *side, filter, |edge| -> Result<(), SearchError> {
                    if self.backward.place(edge.peer).is_some_and(|place| range.contains(&(place as usize))) {
                        take(edge.peer);
                    }
                    Ok(())
                })?;
                pace.step(graph.degree(at, *side));
            }
        }
        Ok(first.map(|(_, wallet)| wallet))
    }
}

impl Search for Bidirectional<'_> {
    fn search<W: Interrupt>(
        &mut self,
        task: &Task<'_>,
        mut memory: MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Outcome, SearchError> {
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
                // a last level on the backward side was not finished: those before it lead on from the meeting
                let mut depth = self.backward.depth();
                let mut at = meeting.wallet;
                while depth > 0 {
                    depth -= 1;
                    let Some(next) = self.nearer(task, at, depth, pace)? else { break };
                    wallets.push(next);
                    at = next;
                }
                let costs = (task.start.cost..).take(wallets.len()).collect();
                return Ok(Outcome { route: Some(Route { wallets, costs }), halted });
            }
            if halted.is_some() {
                return Ok(Outcome { route: None, halted });
            }
        }
        Ok(Outcome { route: None, halted: None })
    }
}
