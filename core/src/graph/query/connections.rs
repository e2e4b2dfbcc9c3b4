//! Breadth-first search outwards from one wallet, with who was found.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, SearchLimits, Stop};
use crate::graph::error::SearchError;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::reach::add;
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::U256;
use crate::graph::types::{Direction, WalletId};
use crate::graph::view::filter::{Edge, EdgeFilter};
use crate::graph::view::graph::Graph;

/// A wallet that the source is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Which one.
    pub wallet: WalletId,
    /// Its smallest number of hops from the source, from 1 up.
    pub depth: u32,
    /// Transfers that count between the wallets one hop nearer to the source and it.
    pub transfers: u64,
    /// Their sum; zero for several assets.
    pub value: U256,
    /// Time of the first.
    pub first: i64,
    /// Time of the last.
    pub last: i64,
    /// The wallet one hop nearer with the most of them; of several the first by address.
    pub predecessor: WalletId,
    /// Its rank by transfers among the wallets at this depth: equal counts share a rank, and the next one skips.
    pub rank: i64,
    /// Transfers with the predecessor.
    from_predecessor: u64,
}

/// Who was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connections {
    /// By depth, then transfers (most first), then address.
    pub found: Vec<Connection>,
    /// Why the search stopped early, if it did.
    pub halted: Option<Halt>,
}

/// The wallets that `source` is connected to, each once at its smallest depth; of each depth the `top` with the most transfers.
/// The source itself is not among them, so cycles end. O(wallets + edges looked at), and a sort of each depth.
///
/// # Errors
/// [`SearchError::Depth`], [`SearchError::Memory`], [`SearchError::ValueOverflow`], [`SearchError::Damaged`].
pub fn connections<W: Interrupt>(
    graph: &Graph<'_>,
    source: WalletId,
    direction: Direction,
    filter: &EdgeFilter,
    top: Option<usize>,
    limits: &SearchLimits,
    interrupt: &mut W,
) -> Result<Connections, SearchError> {
    let max_depth = limits.depth()?;
    let mut limits = *limits;
    let mut visited = Visited::new(graph.wallets(), &mut limits.memory);
    visited.insert(source, 0);
    let (level, pace) = (Vec::new(), Pace::new(interrupt));
    let mut search = Search { graph, direction, filter, limits, visited, level, found_wallets: 1, pace };
    let mut found = Vec::new();
    let mut halted = None;
    let mut frontier = vec![source];
    for depth in 1..=max_depth {
        halted = search.expand(&frontier, depth)?;
        if search.level.is_empty() {
            break;
        }
        let level = std::mem::take(&mut search.level);
        frontier = level.iter().map(|one| one.wallet).collect();
        let kept = ranked(graph, level, top, search.pace.interrupt());
        found.extend(kept);
        if halted.is_some() {
            break;
        }
    }
    Ok(Connections { found, halted })
}

struct Search<'s, W> {
    graph: &'s Graph<'s>,
    direction: Direction,
    filter: &'s EdgeFilter,
    limits: SearchLimits,
    /// Places in the `level` of the depth where a wallet was found.
    visited: Visited,
    level: Vec<Connection>,
    found_wallets: u64,
    pace: Pace<'s, W>,
}

impl<W: Interrupt> Search<'_, W> {
    fn expand(&mut self, frontier: &[WalletId], depth: u32) -> Result<Option<Halt>, SearchError> {
        // several edges of one pair (two assets, two sides) are added up before predecessors are compared
        let gather = self.direction == Direction::Both || !self.filter.assets.is_single();
        let mut gathered: HashMap<WalletId, Edge> = HashMap::new();
        let mut halted = None;
        for wallet in frontier {
            let mut edges = 0;
            for side in self.direction.sides() {
                edges += self.graph.degree(*wallet, *side);
                let looked = if gather {
                    self.graph.edges(*wallet, *side, self.filter, |edge| -> Result<(), Stop> {
                        let sum = gathered.entry(edge.peer).or_insert(Edge { transfers: 0, value: U256::ZERO, ..edge });
                        sum.transfers += edge.transfers;
                        sum.value = add(sum.value, edge.value)?;
                        sum.first = sum.first.min(edge.first);
                        sum.last = sum.last.max(edge.last);
                        Ok(())
                    })
                } else {
                    let (graph, filter) = (self.graph, self.filter);
                    graph.edges(*wallet, *side, filter, |edge| self.take(*wallet, &edge, depth))
                };
                halted = Stop::halt(looked)?.or(halted);
            }
            for (_, edge) in gathered.drain() {
                halted = Stop::halt(self.take(*wallet, &edge, depth))?.or(halted);
            }
            halted = halted.or(self.pace.step(edges));
            if halted.is_some() {
                break;
            }
        }
        Ok(halted)
    }

    #[inline]
    fn take(&mut self, from: WalletId, edge: &Edge, depth: u32) -> Result<(), Stop> {
        match self.visited.get(edge.peer) {
            None => {
                if self.limits.max_wallets.is_some_and(|most| self.found_wallets >= most) {
                    return Err(Stop::Halt(Halt::Wallets));
                }
                let cost = size_of::<Connection>() + size_of::<WalletId>() + self.visited.cost();
                book(&mut self.limits.memory, cost, depth, self.found_wallets as usize)?;
                self.found_wallets += 1;
                let place = self.level.len() as u32;
                self.visited.insert(edge.peer, place);
                self.level.push(Connection {
                    wallet: edge.peer,
                    depth,
                    transfers: edge.transfers,
                    value: edge.value,
                    first: edge.first,
                    last: edge.last,
                    predecessor: from,
                    rank: 0,
                    from_predecessor: edge.transfers,
                });
            }
            Some(place) => {
                // somebody else is at that place if the wallet was found at an earlier depth
                let known = self.level.get_mut(place as usize).filter(|known| known.wallet == edge.peer);
                let Some(known) = known else { return Ok(()) };
                known.transfers += edge.transfers;
                known.value = add(known.value, edge.value)?;
                known.first = known.first.min(edge.first);
                known.last = known.last.max(edge.last);
                let nearer = known.predecessor != from
                    && (edge.transfers > known.from_predecessor
                        || (edge.transfers == known.from_predecessor
                            && self.graph.order(from) < self.graph.order(known.predecessor)));
                if nearer {
                    known.predecessor = from;
                    known.from_predecessor = edge.transfers;
                }
            }
        }
        Ok(())
    }
}

/// Ranks a depth's wallets by transfers, and keeps the first.
fn ranked(
    graph: &Graph<'_>,
    mut level: Vec<Connection>,
    top: Option<usize>,
    interrupt: &mut impl Interrupt,
) -> Vec<Connection> {
    let key = |one: &Connection| (Reverse(one.transfers), graph.order(one.wallet));
    if let Some(top) = top
        && top < level.len()
    {
        if top > 0 {
            level.select_nth_unstable_by_key(top - 1, key);
        }
        level.truncate(top);
    }
    let mut keyed: Vec<((Reverse<u64>, u64), Connection)> = level.into_iter().map(|one| (key(&one), one)).collect();
    sort_with_room(&mut keyed, interrupt, |a, b| a.0.cmp(&b.0));
    let mut ranked: Vec<Connection> = Vec::with_capacity(keyed.len());
    for (position, (_, one)) in (1_i64..).zip(keyed) {
        let rank = match ranked.last() {
            Some(last) if last.transfers == one.transfers => last.rank,
            _ => position,
        };
        ranked.push(Connection { rank, ..one });
    }
    ranked
}
