//! Number of wallets within reach of a wallet, by depth.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::graph::budget::{Halt, Interrupt, MemoryBudget, Pace, SearchLimits, Stop};
use crate::graph::error::SearchError;
use crate::graph::file::sorting::sort_with_room;
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
    /// In time: some of the wallets are reached only by an order of transfers that is unknown.
    pub order_inferred: bool,
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
/// O(wallets + edges), with four bytes per wallet found, and a byte per wallet of the graph where
/// the memory allows, otherwise 28 bytes per wallet found. Without totals it reads four bytes per
/// edge.
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
    let mut depths = Depths::new(graph.wallets(), &mut memory);
    if source.get() < graph.wallets() {
        depths.set(source, 1);
    }
    let max_wallets = limits.max_wallets.unwrap_or(u64::MAX);
    let pace = Pace::new(interrupt);
    let mut search = ReachSearch { graph, filter, totals, depths, max_wallets, wallets: 1, memory, pace };
    let level = |depth, wallets, transfers, value| Level { depth, wallets, transfers, value, order_inferred: false };
    let mut reach = Reach { levels: vec![level(0, 1, 0, U256::ZERO)], halted: None };
    let mut frontier = vec![source];
    for depth in 1..=max_depth {
        let mut next = NextLevel {
            mark: (depth + 1) as u8,
            wallets: Vec::new(),
            fresh: [WalletId::NONE; BATCH],
            transfers: 0,
            low: 0,
            value: U256::ZERO,
        };
        for wallet in &frontier {
            reach.halted = Stop::halt(search.expand(*wallet, direction, &mut next))?;
            if reach.halted.is_some() {
                break;
            }
        }
        let wallets = next.wallets.len();
        if wallets > 0 {
            let value = add(next.value, U256::new(next.low))?;
            reach.levels.push(level(depth, wallets as u64, next.transfers, value));
        }
        if wallets == 0 || reach.halted.is_some() {
            break;
        }
        search.memory.give(frontier.capacity() * size_of::<WalletId>());
        frontier = search.in_memory_order(next)?;
    }
    Ok(reach)
}

/// Depth of each wallet plus one; 0 for a wallet that was not found yet.
enum Depths {
    /// A byte per wallet of the graph. The operating system provides zeroed memory on first touch,
    /// so a small search costs little.
    Dense(Vec<u8>),
    /// For graphs too large for that.
    Sparse { wallets: u32, depths: HashMap<WalletId, u8, FxBuildHasher> },
}

/// Bytes of an entry of a hash table that grows: an eighth of its room is free, and while it grows
/// there are two tables.
const SPARSE_ENTRY: usize = 28;

/// The dense table may take at most the budget divided by this.
const DENSE_SHARE: usize = 2;

impl Depths {
    fn new(wallets: u32, memory: &mut MemoryBudget) -> Self {
        let bytes = wallets as usize;
        if bytes <= memory.left() / DENSE_SHARE && memory.take(bytes) {
            Self::Dense(vec![0; bytes])
        } else {
            Self::Sparse { wallets, depths: HashMap::default() }
        }
    }

    #[inline]
    fn get(&self, wallet: WalletId) -> Option<u8> {
        match self {
            Self::Dense(depths) => depths.get(wallet.index()).copied(),
            Self::Sparse { wallets, depths } => {
                (wallet.get() < *wallets).then(|| depths.get(&wallet).copied().unwrap_or(0))
            }
        }
    }

    #[inline]
    fn set(&mut self, wallet: WalletId, depth: u8) {
        match self {
            Self::Dense(depths) => {
                if let Some(own) = depths.get_mut(wallet.index()) {
                    *own = depth;
                }
            }
            Self::Sparse { depths, .. } => {
                depths.insert(wallet, depth);
            }
        }
    }
}

struct ReachSearch<'s, W> {
    graph: &'s Graph<'s>,
    filter: &'s EdgeFilter,
    totals: bool,
    depths: Depths,
    max_wallets: u64,
    /// Wallets found so far, including the source.
    wallets: u64,
    memory: MemoryBudget,
    pace: Pace<'s, W>,
}

/// Wallets that are gathered before they are appended to the level; a power of two.
const BATCH: usize = 64;

/// Edges read between two cancellation checks.
const EDGES_PER_CHECK: usize = 1 << 13;

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

impl<W: Interrupt> ReachSearch<'_, W> {
    /// Returns the wallets of a level for expansion. A large level is sorted by id, because edges
    /// lie in memory in that order.
    fn in_memory_order(&mut self, mut next: NextLevel) -> Result<Vec<WalletId>, SearchError> {
        if next.wallets.len() < self.graph.wallets() as usize / DENSE_LEVEL {
            return Ok(next.wallets);
        }
        let Depths::Dense(depths) = &self.depths else {
            let bytes = next.wallets.len() * size_of::<WalletId>();
            book(&mut self.memory, bytes / 2, u32::from(next.mark), self.wallets as usize)?;
            sort_with_room(&mut next.wallets, self.pace.interrupt(), Ord::cmp);
            self.memory.give(bytes);
            return Ok(next.wallets);
        };
        next.wallets.clear();
        let mut first = 0;
        for depths in depths.chunks(BATCH) {
            let _ = self.pace.step(BATCH);
            let mut count = 0;
            for (wallet, depth) in (first..).map(WalletId::new).zip(depths) {
                next.fresh[count % BATCH] = wallet;
                count += usize::from(*depth == next.mark);
            }
            next.wallets.extend_from_slice(&next.fresh[..count]);
            first += BATCH as u32;
        }
        Ok(next.wallets)
    }

    /// Counts edges, and ends the search when the time is used up.
    #[inline]
    fn pace(&mut self, edges: usize) -> Result<(), Stop> {
        self.pace.step(edges).map_or(Ok(()), |halt| Err(Stop::Halt(halt)))
    }

    /// Books and reserves room for wallets of the level.
    #[inline]
    fn reserve(&mut self, next: &mut NextLevel, count: usize) -> Result<(), SearchError> {
        let (length, capacity) = (next.wallets.len(), next.wallets.capacity());
        if length + count <= capacity {
            return Ok(());
        }
        let grown = (length + count).max(2 * capacity).max(BATCH);
        let bytes = (grown - capacity) * size_of::<WalletId>();
        if !self.memory.take(bytes) {
            let (budget, wallets) = (self.memory.limit(), self.wallets as usize);
            return Err(SearchError::Memory { budget, depth: u32::from(next.mark) - 1, wallets });
        }
        next.wallets.reserve_exact(grown - length);
        Ok(())
    }

    /// Adds the peers of a wallet to the level.
    fn expand(&mut self, wallet: WalletId, direction: Direction, next: &mut NextLevel) -> Result<(), Stop> {
        for side in direction.sides() {
            self.expand_side(wallet, *side, next)?;
            self.pace(0)?;
        }
        Ok(())
    }

    fn expand_side(&mut self, wallet: WalletId, side: Side, next: &mut NextLevel) -> Result<(), Stop> {
        let (graph, filter) = (self.graph, self.filter);
        if matches!(self.depths, Depths::Dense(_))
            && let Some(plain) = graph.plain_edges(wallet, side, filter, self.totals)
            // The limit cannot be reached, so wallets need not be counted one by one.
            && self.wallets + plain.peers.len() as u64 <= self.max_wallets
        {
            let mut is_wide = false;
            for (index, peers) in (0..).step_by(EDGES_PER_CHECK).zip(plain.peers.chunks(EDGES_PER_CHECK)) {
                let before = next.wallets.len();
                match plain.totals {
                    Some(totals) => {
                        let edges = index..index + peers.len();
                        is_wide |= self.visit_with_totals(peers, &totals.within(edges), next)?;
                    }
                    None => self.visit_all(peers, next)?,
                }
                self.wallets += (next.wallets.len() - before) as u64;
                self.pace(peers.len())?;
            }
            return if is_wide { self.add_wide(wallet, side, next) } else { Ok(()) };
        }
        graph.edges(wallet, side, filter, |edge| -> Result<(), Stop> {
            if self.visit(edge.peer, next)? && self.totals {
                match u128::try_from(edge.value) {
                    Ok(value) => next.add(edge.transfers, value)?,
                    Err(_) => next.add_edge(&edge)?,
                }
            }
            self.pace(0)
        })
    }

    /// "Already visited" is unpredictable, so this is branchless: every peer is written to `fresh`,
    /// and the cursor advances only for new ones.
    fn visit_all(&mut self, peers: &[WalletId], next: &mut NextLevel) -> Result<(), SearchError> {
        for peers in peers.chunks(BATCH) {
            self.reserve(next, BATCH)?;
            let Depths::Dense(depths) = &mut self.depths else { continue };
            let (depths, fresh) = (&mut depths[..], &mut next.fresh);
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
        Ok(())
    }

    /// Visits like [`Self::visit_all`] and adds up the edges to wallets of this level. The few
    /// values that are not stored as themselves are gathered in `packed` and added afterwards.
    /// Returns whether a value of 2^128 or more is left out.
    fn visit_with_totals(
        &mut self,
        peers: &[WalletId],
        totals: &PlainTotals<'_>,
        next: &mut NextLevel,
    ) -> Result<bool, Stop> {
        let mut packed = [0; BATCH];
        let mut is_wide = false;
        let edges = totals.transfers.chunks(BATCH).zip(totals.values.chunks(BATCH));
        for (chunk, (peers, (transfers, values))) in peers.chunks(BATCH).zip(edges).enumerate() {
            self.reserve(next, BATCH)?;
            let Depths::Dense(depths) = &mut self.depths else { continue };
            let depths = &mut depths[..];
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
                match totals.value(chunk * BATCH + edge) {
                    Some(value) => next.add(0, value)?,
                    None => is_wide = true,
                }
            }
        }
        Ok(is_wide)
    }

    /// Adds the values of 2^128 or more that a wallet, whose peers have been visited, moved to this
    /// level. The transfers are counted already.
    fn add_wide(&mut self, wallet: WalletId, side: Side, next: &mut NextLevel) -> Result<(), Stop> {
        let (graph, filter) = (self.graph, self.filter);
        graph.edges(wallet, side, filter, |edge| -> Result<(), Stop> {
            self.pace(0)?;
            if u128::try_from(edge.value).is_err() && self.depths.get(edge.peer) == Some(next.mark) {
                next.add_edge(&Edge { transfers: 0, ..edge })?;
            }
            Ok(())
        })
    }

    /// Visits a wallet, and returns whether it belongs to the level that is being filled.
    #[inline]
    fn visit(&mut self, peer: WalletId, next: &mut NextLevel) -> Result<bool, Stop> {
        match self.depths.get(peer) {
            Some(0) => {
                if self.wallets >= self.max_wallets {
                    return Err(Stop::Halt(Halt::Wallets));
                }
                self.reserve(next, 1)?;
                if matches!(self.depths, Depths::Sparse { .. }) {
                    let depth = u32::from(next.mark) - 1;
                    book(&mut self.memory, SPARSE_ENTRY / 2, depth, self.wallets as usize)?;
                }
                self.depths.set(peer, next.mark);
                self.wallets += 1;
                next.wallets.push(peer);
                Ok(true)
            }
            Some(depth) => Ok(depth == next.mark),
            None => Ok(false),
        }
    }
}

pub(crate) fn add(sum: U256, value: U256) -> Result<U256, SearchError> {
    sum.checked_add(value).ok_or(SearchError::ValueOverflow)
}
