//! How many wallets are within so many hops.

use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, SearchLimits, Stop};
use crate::graph::error::SearchError;
use crate::graph::query::visited::book;
use crate::graph::types::U256;
use crate::graph::types::{Direction, Side, WalletId};
use crate::graph::view::filter::{Edge, EdgeFilter, PlainTotals};
use crate::graph::view::graph::Graph;

/// What is at one depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Hops from the source.
    pub depth: u32,
    /// Wallets whose smallest number of hops this is.
    pub wallets: u64,
    /// Transfers that count between the wallets of the depth before and these; zero without totals.
    pub transfers: u64,
    /// Their sum; zero for several assets, and without totals.
    pub value: U256,
}

/// The wallets within reach, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// From the source, depth 0, to the deepest depth that has wallets.
    pub levels: Vec<Level>,
    /// Why the search stopped early, if it did: the last level is not complete then.
    pub halted: Option<Halt>,
}

/// Counts wallets, and with `totals` transfers and value, by depth: a breadth-first search. O(wallets + edges looked at), with a
/// byte a wallet of the graph and four for each that is found. Without totals, it reads four bytes an edge.
///
/// # Errors
/// [`SearchError::Depth`], [`SearchError::Memory`], [`SearchError::ValueOverflow`], [`SearchError::Damaged`].
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
    let most = limits.max_wallets.unwrap_or(u64::MAX);
    let mut search = Search { graph, filter, totals, depths: vec![0; graph.wallets() as usize], most, found: 1 };
    if let Some(own) = search.depths.get_mut(source.index()) {
        *own = 1;
    }
    let mut reach =
        Reach { levels: vec![Level { depth: 0, wallets: 1, transfers: 0, value: U256::ZERO }], halted: None };
    let mut frontier = vec![source];
    let mut pace = Pace::new(interrupt);
    for depth in 1..=max_depth {
        let mut next = Next {
            mark: (depth + 1) as u8,
            wallets: Vec::new(),
            fresh: [WalletId::NONE; FRESH],
            transfers: 0,
            low: 0,
            value: U256::ZERO,
        };
        'wallets: for wallet in frontier {
            for side in direction.sides() {
                let halted = match search.look(wallet, *side, &mut next) {
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
        book(&mut memory, wallets * size_of::<WalletId>(), depth, search.found as usize)?;
        if wallets > 0 {
            let value = add(next.value, U256::new(next.low))?;
            reach.levels.push(Level { depth, wallets: wallets as u64, transfers: next.transfers, value });
        }
        if wallets == 0 || reach.halted.is_some() {
            break;
        }
        frontier = search.in_order(next);
    }
    Ok(reach)
}

struct Search<'s> {
    graph: &'s Graph<'s>,
    filter: &'s EdgeFilter,
    totals: bool,
    /// The depth at which a wallet was found, plus one.
    depths: Vec<u8>,
    most: u64,
    found: u64,
}

/// Wallets noted before they are added to those found; a power of two.
const FRESH: usize = 64;

/// One wallet in so many is many: then going through all is cheap beside looking at their edges.
const MANY: usize = 16;

/// A depth that is being filled.
struct Next {
    mark: u8,
    fresh: [WalletId; FRESH],
    wallets: Vec<WalletId>,
    transfers: u64,
    /// Most sums fit into 128 bits, where adding is cheap: the rest is in `value`.
    low: u128,
    value: U256,
}

impl Next {
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

impl Search<'_> {
    /// The wallets of a depth, to be looked at next: where they are many, in the order of their numbers, in which their edges stand
    /// in memory.
    fn in_order(&self, mut next: Next) -> Vec<WalletId> {
        if next.wallets.len() < self.depths.len() / MANY {
            return next.wallets;
        }
        next.wallets.clear();
        let mut first = 0;
        for depths in self.depths.chunks(FRESH) {
            let mut count = 0;
            for (wallet, depth) in (first..).map(WalletId::new).zip(depths) {
                next.fresh[count % FRESH] = wallet;
                count += usize::from(*depth == next.mark);
            }
            next.wallets.extend_from_slice(&next.fresh[..count]);
            first += FRESH as u32;
        }
        next.wallets
    }

    /// Looks at a wallet's edges, and says what that cost.
    fn look(&mut self, wallet: WalletId, side: Side, next: &mut Next) -> Result<usize, Stop> {
        let (graph, filter) = (self.graph, self.filter);
        if let Some(plain) = graph.plain_edges(wallet, side, filter, self.totals)
            // no need to count along
            && self.found + plain.peers.len() as u64 <= self.most
        {
            let before = next.wallets.len();
            match plain.totals {
                Some(totals) => self.meet_with_totals(wallet, side, plain.peers, &totals, next)?,
                None => self.meet_all(plain.peers, next),
            }
            self.found += (next.wallets.len() - before) as u64;
            return Ok(plain.peers.len());
        }
        graph.edges(wallet, side, filter, |edge| -> Result<(), Stop> {
            if self.meet(edge.peer, next)? && self.totals {
                match u128::try_from(edge.value) {
                    Ok(value) => next.add(edge.transfers, value)?,
                    Err(_) => next.add_edge(&edge)?,
                }
            }
            Ok(())
        })?;
        Ok(graph.degree(wallet, side))
    }

    /// Whether a wallet is new nobody can foretell, so there is no branch on it: each is noted, and the next one takes its place
    /// unless it was.
    fn meet_all(&mut self, peers: &[WalletId], next: &mut Next) {
        let (depths, fresh) = (&mut self.depths[..], &mut next.fresh);
        for peers in peers.chunks(FRESH) {
            let mut count = 0;
            for peer in peers {
                if let Some(depth) = depths.get_mut(peer.index()) {
                    let is_new = *depth == 0;
                    fresh[count % FRESH] = *peer;
                    count += usize::from(is_new);
                    *depth = if is_new { next.mark } else { *depth };
                }
            }
            next.wallets.extend_from_slice(&fresh[..count]);
        }
    }

    /// The same with what the edges to wallets of this depth sum up to. Few values are not written as themselves: those are
    /// noted, too, and added afterwards.
    fn meet_with_totals(
        &mut self,
        wallet: WalletId,
        side: Side,
        peers: &[WalletId],
        totals: &PlainTotals<'_>,
        next: &mut Next,
    ) -> Result<(), Stop> {
        let depths = &mut self.depths[..];
        let mut packed = [0; FRESH];
        let edges = totals.transfers.chunks(FRESH).zip(totals.values.chunks(FRESH));
        for (chunk, (peers, (transfers, values))) in peers.chunks(FRESH).zip(edges).enumerate() {
            let (mut count, mut packed_count, mut sum, mut low) = (0, 0, 0, 0_u128);
            for (edge, ((peer, transfers), value)) in peers.iter().zip(transfers).zip(values).enumerate() {
                let Some(depth) = depths.get_mut(peer.index()) else { continue };
                let is_new = *depth == 0;
                next.fresh[count % FRESH] = *peer;
                count += usize::from(is_new);
                *depth = if is_new { next.mark } else { *depth };
                let counts = *depth == next.mark;
                sum += u64::from(*transfers) * u64::from(counts);
                let plain = PlainTotals::is_plain(*value);
                low += u128::from(*value * u64::from(counts & plain));
                packed[packed_count % FRESH] = edge;
                packed_count += usize::from(counts & !plain);
            }
            next.wallets.extend_from_slice(&next.fresh[..count]);
            next.add(sum, low)?;
            for edge in &packed[..packed_count] {
                let edge = chunk * FRESH + edge;
                match totals.value(edge) {
                    Some(value) => next.add(0, value)?,
                    // its transfers are counted already
                    None => self.graph.edges(wallet, side, self.filter, |one| -> Result<(), Stop> {
                        if peers.get(edge % FRESH) == Some(&one.peer) {
                            Ok(next.add_edge(&Edge { transfers: 0, ..one })?)
                        } else {
                            Ok(())
                        }
                    })?,
                }
            }
        }
        Ok(())
    }

    /// Whether a wallet is of the depth that is being filled: found now, or before on it.
    #[inline]
    fn meet(&mut self, peer: WalletId, next: &mut Next) -> Result<bool, Stop> {
        match self.depths.get_mut(peer.index()) {
            Some(depth) if *depth == 0 => {
                if self.found >= self.most {
                    return Err(Stop::Halt(Halt::Wallets));
                }
                *depth = next.mark;
                self.found += 1;
                next.wallets.push(peer);
                Ok(true)
            }
            Some(depth) => Ok(*depth == next.mark),
            None => Ok(false),
        }
    }
}

pub(in crate::graph) fn add(sum: U256, value: U256) -> Result<U256, SearchError> {
    sum.checked_add(value).ok_or(SearchError::ValueOverflow)
}
