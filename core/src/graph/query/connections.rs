//! Breadth-first search from a wallet that returns the wallets it finds.

use std::cmp::Reverse;

use crate::graph::budget::{Halt, Interrupt, Pace, SearchLimits, Stop};
use crate::graph::error::SearchError;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::in_time::Reached;
use crate::graph::query::reach::add;
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::{Direction, U256, WalletId};
use crate::graph::view::filter::{Edge, EdgeFilter};
use crate::graph::view::graph::Graph;

/// A wallet that the source is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectedWallet {
    /// The wallet.
    pub wallet: WalletId,
    /// Smallest number of hops from the source, from 1 up.
    pub depth: u32,
    /// Counted transfers between this wallet and the wallets one hop nearer to the source.
    pub transfers: u64,
    /// Sum of their values; zero for several assets.
    pub value: U256,
    /// Time of the first transfer.
    pub first: i64,
    /// Time of the last transfer.
    pub last: i64,
    /// The wallet one hop nearer with the most of these transfers; among equals the first by
    /// address.
    pub predecessor: WalletId,
    /// Rank by transfers among the wallets at this depth: equal counts share a rank, and the next
    /// rank skips.
    pub rank: i64,
    /// Number of transfers with the predecessor.
    from_predecessor: u64,
    /// Way in which funds reach the wallet, if they are followed in time.
    pub in_time: Option<Reached>,
}

impl ConnectedWallet {
    /// Makes the entry of a wallet without transfers yet, met at a time by its predecessor.
    pub(super) const fn found(wallet: WalletId, depth: u32, time: i64, predecessor: WalletId) -> Self {
        Self {
            wallet,
            depth,
            transfers: 0,
            value: U256::ZERO,
            first: time,
            last: time,
            predecessor,
            rank: 0,
            from_predecessor: 0,
            in_time: None,
        }
    }

    /// Adds a transfer of a wallet one hop nearer, which has sent that many so far.
    pub(super) fn add(
        &mut self,
        graph: &Graph<'_>,
        time: i64,
        value: U256,
        (from, transfers): (WalletId, u64),
    ) -> Result<(), SearchError> {
        self.transfers += 1;
        self.value = add(self.value, value)?;
        (self.first, self.last) = (self.first.min(time), self.last.max(time));
        self.compare_predecessor(graph, from, transfers);
        Ok(())
    }

    /// Makes a wallet the predecessor if it has the most transfers with this one; among equals the
    /// first by address.
    #[inline]
    fn compare_predecessor(&mut self, graph: &Graph<'_>, from: WalletId, transfers: u64) {
        if self.predecessor == from {
            self.from_predecessor = self.from_predecessor.max(transfers);
        } else if transfers > self.from_predecessor
            || (transfers == self.from_predecessor && graph.order(from) < graph.order(self.predecessor))
        {
            (self.predecessor, self.from_predecessor) = (from, transfers);
        }
    }
}

/// Result of [`connections`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connections {
    /// Wallets by depth, then by transfers (most first), then by address.
    pub wallets: Vec<ConnectedWallet>,
    /// Limit at which the search stopped, if it did.
    pub halted: Option<Halt>,
}

/// Returns the wallets that `source` is connected to, each once at its smallest depth; of each
/// depth the `top` wallets with the most transfers. The source itself is not returned. O(wallets +
/// edges), and a sort of each depth.
///
/// # Errors
/// [`SearchError::Depth`], [`SearchError::Memory`], [`SearchError::ValueOverflow`],
/// [`SearchError::Damaged`].
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
    let mut search = ConnectionSearch { graph, direction, filter, limits, visited, level, found_wallets: 1, pace };
    let mut wallets = Vec::new();
    let mut halted = None;
    let mut frontier = vec![source];
    for depth in 1..=max_depth {
        halted = search.expand(&frontier, depth)?;
        if search.level.is_empty() {
            break;
        }
        let level = std::mem::take(&mut search.level);
        frontier = level.iter().map(|connection| connection.wallet).collect();
        let kept = ranked(graph, level, top, search.pace.interrupt());
        wallets.extend(kept);
        if halted.is_some() {
            break;
        }
    }
    Ok(Connections { wallets, halted })
}

struct ConnectionSearch<'s, W> {
    graph: &'s Graph<'s>,
    direction: Direction,
    filter: &'s EdgeFilter,
    limits: SearchLimits,
    /// Index of each wallet in the `level` of the depth at which it was found.
    visited: Visited,
    level: Vec<ConnectedWallet>,
    found_wallets: u64,
    pace: Pace<'s, W>,
}

impl<W: Interrupt> ConnectionSearch<'_, W> {
    fn expand(&mut self, frontier: &[WalletId], depth: u32) -> Result<Option<Halt>, SearchError> {
        // Edges of the same pair (two assets, two sides) are added up before predecessors are
        // compared.
        let gather = self.direction == Direction::Both || !self.filter.assets.is_single();
        for wallet in frontier {
            let result = if gather { self.visit_gathered(*wallet, depth) } else { self.visit_edges(*wallet, depth) };
            if let Some(halt) = Stop::halt(result)? {
                return Ok(Some(halt));
            }
        }
        Ok(None)
    }

    /// Visits the peers of a wallet that has one edge with each.
    fn visit_edges(&mut self, wallet: WalletId, depth: u32) -> Result<(), Stop> {
        let (graph, direction, filter) = (self.graph, self.direction, self.filter);
        for side in direction.sides() {
            graph.edges(wallet, *side, filter, |edge| -> Result<(), Stop> {
                self.visit(wallet, &edge, depth)?;
                self.pace(0)
            })?;
            self.pace(0)?;
        }
        Ok(())
    }

    /// Visits the peers of a wallet that may have several edges with each, in the order of ids, so
    /// that a limit always cuts the search at the same wallet. O(n log n) in the edges.
    fn visit_gathered(&mut self, wallet: WalletId, depth: u32) -> Result<(), Stop> {
        let (graph, filter) = (self.graph, self.filter);
        let degree = self.direction.sides().iter().map(|side| graph.degree(wallet, *side)).sum::<usize>();
        // The edges, and room to sort them.
        let bytes = degree * size_of::<Edge>();
        book(&mut self.limits.memory, bytes, depth, self.found_wallets as usize)?;
        let mut edges: Vec<Edge> = Vec::with_capacity(degree);
        for side in self.direction.sides() {
            graph.edges(wallet, *side, filter, |edge| -> Result<(), Stop> {
                edges.push(edge);
                self.pace(0)
            })?;
        }
        // An edge of more than 2^256 - 1 units is two edges, which are few.
        sort_with_room(&mut edges, self.pace.interrupt(), |a, b| a.peer.cmp(&b.peer));
        for of_peer in edges.chunk_by(|a, b| a.peer == b.peer) {
            let mut sum = of_peer[0];
            for edge in &of_peer[1..] {
                self.pace(0)?;
                sum.transfers += edge.transfers;
                sum.value = add(sum.value, edge.value)?;
                sum.first = sum.first.min(edge.first);
                sum.last = sum.last.max(edge.last);
            }
            self.visit(wallet, &sum, depth)?;
            self.pace(0)?;
        }
        self.limits.memory.give(2 * bytes);
        Ok(())
    }

    /// Counts edges, and ends the search when the time is used up.
    #[inline]
    fn pace(&mut self, edges: usize) -> Result<(), Stop> {
        self.pace.step(edges).map_or(Ok(()), |halt| Err(Stop::Halt(halt)))
    }

    #[inline]
    fn visit(&mut self, from: WalletId, edge: &Edge, depth: u32) -> Result<(), Stop> {
        match self.visited.get(edge.peer) {
            None => {
                if self.limits.max_wallets.is_some_and(|max_wallets| self.found_wallets >= max_wallets) {
                    return Err(Stop::Halt(Halt::Wallets));
                }
                let cost = size_of::<ConnectedWallet>() + size_of::<WalletId>() + self.visited.cost();
                book(&mut self.limits.memory, cost, depth, self.found_wallets as usize)?;
                self.found_wallets += 1;
                let index = self.level.len() as u32;
                self.visited.insert(edge.peer, index);
                self.level.push(ConnectedWallet {
                    wallet: edge.peer,
                    depth,
                    transfers: edge.transfers,
                    value: edge.value,
                    first: edge.first,
                    last: edge.last,
                    predecessor: from,
                    rank: 0,
                    from_predecessor: edge.transfers,
                    in_time: None,
                });
            }
            Some(index) => {
                // The index belongs to another wallet if this one was found at an earlier depth.
                let connection = self.level.get_mut(index as usize).filter(|connection| connection.wallet == edge.peer);
                let Some(connection) = connection else { return Ok(()) };
                connection.transfers += edge.transfers;
                connection.value = add(connection.value, edge.value)?;
                connection.first = connection.first.min(edge.first);
                connection.last = connection.last.max(edge.last);
                if connection.predecessor != from {
                    connection.compare_predecessor(self.graph, from, edge.transfers);
                }
            }
        }
        Ok(())
    }
}

/// Ranks the wallets of a depth by transfers, and keeps the first `top`.
pub(super) fn ranked(
    graph: &Graph<'_>,
    mut level: Vec<ConnectedWallet>,
    top: Option<usize>,
    interrupt: &mut impl Interrupt,
) -> Vec<ConnectedWallet> {
    let key = |connection: &ConnectedWallet| (Reverse(connection.transfers), graph.order(connection.wallet));
    if let Some(top) = top
        && top < level.len()
    {
        if top > 0 {
            level.select_nth_unstable_by_key(top - 1, key);
        }
        level.truncate(top);
    }
    let mut keyed: Vec<((Reverse<u64>, u64), ConnectedWallet)> =
        level.into_iter().map(|connection| (key(&connection), connection)).collect();
    sort_with_room(&mut keyed, interrupt, |a, b| a.0.cmp(&b.0));
    let mut ranked: Vec<ConnectedWallet> = Vec::with_capacity(keyed.len());
    for (position, (_, connection)) in (1_i64..).zip(keyed) {
        let rank = match ranked.last() {
            Some(last) if last.transfers == connection.transfers => last.rank,
            _ => position,
        };
        ranked.push(ConnectedWallet { rank, ..connection });
    }
    ranked
}
