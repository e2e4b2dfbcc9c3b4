//! Number of wallets within reach of a wallet, by depth.

use crate::graph::budget::{Halt, Interrupt, Pace, SearchLimits, Stop};
use crate::graph::error::SearchError;
use crate::graph::query::visited::book;
use crate::graph::types::{Direction, Side, U256, WalletId};
use crate::graph::view::filter::{Edge, EdgeFilter, PlainTotals};
use crate::graph::view::graph::Graph;

/// Totals of one depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Hops from the source.
    pub depth: u32,
    /// Wallets whose smallest number of hops this is.
    pub wallets: u64,
    /// Counted transfers between the wallets of the previous depth and these; zero without totals.
    pub transfers: u64,
    /// Sum of their values; zero for several assets, and without totals.
    pub value: U256,
}

/// Result of [`reach`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Levels from the source, at depth 0, to the deepest one that has wallets.
    pub levels: Vec<Level>,
    /// Limit at which the search stopped, if it did; the last level is incomplete then.
    pub halted: Option<Halt>,
}

/// Counts wallets by depth, and with `totals` transfers and value: a breadth-first search.
/// O(wallets + edges), with a byte per wallet of the graph and four per wallet found. Without
/// totals it reads four bytes per edge.
///
/// # Errors
/// [`SearchError::Depth`], [`SearchError::Memory`], [`SearchError::ValueOverflow`],
/// [`SearchError::Damaged`].
pub fn reach<W: Interrupt>(
    graph: &Graph<'_>,
    source: WalletId,
    direction: Direction,
    filter: &EdgeFilter,
    totals: bool,
    limits: &SearchLimits,
    interrupt: &mut W,
) -> Result<Reach, SearchError> {
    let max_depth = limits.depth()?;
    let mut memory = limits.memory;
    book(&mut memory, graph.wallets() as usize / 2, 0, 1)?;
    let max_wallets = limits.max_wallets.unwrap_or(u64::MAX);
    let depths = vec![0; graph.wallets() as usize];
    let mut search = ReachSearch { graph, filter, totals, depths, max_wallets, wallets: 1 };
    if let Some(depth) = search.depths.get_mut(source.index()) {
        *depth = 1;
    }
    let mut reach =
        Reach { levels: vec![Level { depth: 0, wallets: 1, transfers: 0, value: U256::ZERO }], halted: None };
    let mut frontier = vec![source];
    let mut pace = Pace::new(interrupt);
    for depth in 1..=max_depth {
        let mut next = NextLevel {
            mark: (depth + 1) as u8,
            wallets: Vec::new(),
            fresh: [WalletId::NONE; BATCH],
            transfers: 0,
            low: 0,
            value: U256::ZERO,
        };
        'wallets: for wallet in frontier {
            for side in direction.sides() {
                let halted = match search.expand(wallet, *side, &mut next) {
                    Ok(edges) => pace.step(edges),
                    Err(Stop::Halt(halt)) => Some(halt),
                    Err(Stop::Error(error)) => return Err(error),
                };
                if halted.is_some() {
                    reach.halted = halted;
                    break 'wallets;
                }
            }
        }
        let wallets = next.wallets.len();
        book(&mut memory, wallets * size_of::<WalletId>(), depth, search.wallets as usize)?;
        if wallets > 0 {
            let value = add(next.value, U256::new(next.low))?;
            reach.levels.push(Level { depth, wallets: wallets as u64, transfers: next.transfers, value });
        }
        if wallets == 0 || reach.halted.is_some() {
            break;
        }
        frontier = search.in_memory_order(next);
    }
    Ok(reach)
}

struct ReachSearch<'s> {
    graph: &'s Graph<'s>,
    filter: &'s EdgeFilter,
    totals: bool,
    /// Depth of each wallet plus one; 0 for a wallet that was not found yet.
    depths: Vec<u8>,
    max_wallets: u64,
    /// Wallets found so far, including the source.
    wallets: u64,
}

/// Wallets that are gathered before they are appended to the level; a power of two.
const BATCH: usize = 64;

/// From one wallet in this many on, a scan of all wallets is cheap compared with reading the edges
/// of a level.
const DENSE_LEVEL: usize = 16;

/// The level that is being filled.
struct NextLevel {
    mark: u8,
    fresh: [WalletId; BATCH],
    wallets: Vec<WalletId>,
    transfers: u64,
    /// Sum of values that fit into 128 bits, where adding is cheap; the rest is in `value`.
    low: u128,
    value: U256,
}

impl NextLevel {
    #[inline]
    fn add(&mut self, transfers: u64, value: u128) -> Result<(), SearchError> {
        self.transfers += transfers;
        match self.low.checked_add(value) {
            Some(sum) => self.low = sum,
            None => self.value = add(self.value, U256::new(value))?,
        }
        Ok(())
    }

    fn add_edge(&mut self, edge: &Edge) -> Result<(), SearchError> {
        self.transfers += edge.transfers;
        self.value = add(self.value, edge.value)?;
        Ok(())
    }
}

impl ReachSearch<'_> {
    /// Returns the wallets of a level for expansion. A large level is sorted by id, because edges
    /// lie in memory in that order.
    fn in_memory_order(&self, mut next: NextLevel) -> Vec<WalletId> {
        if next.wallets.len() < self.depths.len() / DENSE_LEVEL {
            return next.wallets;
        }
        next.wallets.clear();
        let mut first = 0;
        for depths in self.depths.chunks(BATCH) {
            let mut count = 0;
            for (wallet, depth) in (first..).map(WalletId::new).zip(depths) {
                next.fresh[count % BATCH] = wallet;
                count += usize::from(*depth == next.mark);
            }
            next.wallets.extend_from_slice(&next.fresh[..count]);
            first += BATCH as u32;
        }
        next.wallets
    }

    /// Adds the peers of a wallet to the level, and returns the number of edges that it read.
    fn expand(&mut self, wallet: WalletId, side: Side, next: &mut NextLevel) -> Result<usize, Stop> {
        let (graph, filter) = (self.graph, self.filter);
        if let Some(plain) = graph.plain_edges(wallet, side, filter, self.totals)
            // The limit cannot be reached, so wallets need not be counted one by one.
            && self.wallets + plain.peers.len() as u64 <= self.max_wallets
        {
            let before = next.wallets.len();
            match plain.totals {
                Some(totals) => self.visit_with_totals(wallet, side, plain.peers, &totals, next)?,
                None => self.visit_all(plain.peers, next),
            }
            self.wallets += (next.wallets.len() - before) as u64;
            return Ok(plain.peers.len());
        }
        graph.edges(wallet, side, filter, |edge| -> Result<(), Stop> {
            if self.visit(edge.peer, next)? && self.totals {
                match u128::try_from(edge.value) {
                    Ok(value) => next.add(edge.transfers, value)?,
                    Err(_) => next.add_edge(&edge)?,
                }
            }
            Ok(())
        })?;
        Ok(graph.degree(wallet, side))
    }

    /// "Already visited" is unpredictable, so this is branchless: every peer is written to `fresh`,
    /// and the cursor advances only for new ones.
    fn visit_all(&mut self, peers: &[WalletId], next: &mut NextLevel) {
        let (depths, fresh) = (&mut self.depths[..], &mut next.fresh);
        for peers in peers.chunks(BATCH) {
            let mut count = 0;
            for peer in peers {
                if let Some(depth) = depths.get_mut(peer.index()) {
                    let is_new = *depth == 0;
                    fresh[count % BATCH] = *peer;
                    count += usize::from(is_new);
                    *depth = if is_new { next.mark } else { *depth };
                }
            }
            next.wallets.extend_from_slice(&fresh[..count]);
        }
    }

    /// Visits like [`Self::visit_all`] and adds up the edges to wallets of this level. The few
    /// values that are not stored as themselves are gathered in `packed` and added afterwards.
    fn visit_with_totals(
        &mut self,
        wallet: WalletId,
        side: Side,
        peers: &[WalletId],
        totals: &PlainTotals<'_>,
        next: &mut NextLevel,
    ) -> Result<(), Stop> {
        let depths = &mut self.depths[..];
        let mut packed = [0; BATCH];
        let edges = totals.transfers.chunks(BATCH).zip(totals.values.chunks(BATCH));
        for (chunk, (peers, (transfers, values))) in peers.chunks(BATCH).zip(edges).enumerate() {
            let (mut count, mut packed_count, mut sum, mut low) = (0, 0, 0, 0_u128);
            for (edge, ((peer, transfers), value)) in peers.iter().zip(transfers).zip(values).enumerate() {
                let Some(depth) = depths.get_mut(peer.index()) else { continue };
                let is_new = *depth == 0;
                next.fresh[count % BATCH] = *peer;
                count += usize::from(is_new);
                *depth = if is_new { next.mark } else { *depth };
                let counts = *depth == next.mark;
                sum += u64::from(*transfers) * u64::from(counts);
                let plain = PlainTotals::is_plain(*value);
                low += u128::from(*value * u64::from(counts & plain));
                packed[packed_count % BATCH] = edge;
                packed_count += usize::from(counts & !plain);
            }
            next.wallets.extend_from_slice(&next.fresh[..count]);
            next.add(sum, low)?;
            for edge in &packed[..packed_count] {
                let edge = chunk * BATCH + edge;
                match totals.value(edge) {
                    Some(value) => next.add(0, value)?,
                    // Its transfers are counted already.
                    None => self.graph.edges(wallet, side, self.filter, |wide| -> Result<(), Stop> {
                        if peers.get(edge % BATCH) == Some(&wide.peer) {
                            Ok(next.add_edge(&Edge { transfers: 0, ..wide })?)
                        } else {
                            Ok(())
                        }
                    })?,
                }
            }
        }
        Ok(())
    }

    /// Visits a wallet, and returns whether it belongs to the level that is being filled.
    #[inline]
    fn visit(&mut self, peer: WalletId, next: &mut NextLevel) -> Result<bool, Stop> {
        match self.depths.get_mut(peer.index()) {
            Some(depth) if *depth == 0 => {
                if self.wallets >= self.max_wallets {
                    return Err(Stop::Halt(Halt::Wallets));
                }
                *depth = next.mark;
                self.wallets += 1;
                next.wallets.push(peer);
                Ok(true)
            }
            Some(depth) => Ok(*depth == next.mark),
            None => Ok(false),
        }
    }
}

pub(crate) fn add(sum: U256, value: U256) -> Result<U256, SearchError> {
    sum.checked_add(value).ok_or(SearchError::ValueOverflow)
}
