//! Lower bounds of the cost from a wallet to the target, which direct a search by weight towards
//! it.
//!
//! A search backwards from the target settles wallets by their cost to the target, without limits
//! and bans, up to some radius; all other wallets cost at least the radius. Such a bound is
//! consistent: along a step it falls by no more than the cost of the step, so a search guided by it
//! (Hart, Nilsson, Raphael: A formal basis for the heuristic determination of minimum cost paths,
//! 1968) finds the same paths in the same order. Work is divided between the two directions as in
//! bidirectional search.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cost::{Total, of_age, of_share};
use super::{PathTerms, Weight, degree, reversed};
use crate::graph::budget::{Halt, Interrupt, MemoryBudget, Pace};
use crate::graph::error::SearchError;
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::{Direction, WalletId};

/// Largest bound, so that sums with it stay within 64 bits.
const MAX_BOUND: u64 = 1 << 62;

#[derive(Debug, Clone, Copy)]
struct BoundEntry {
    wallet: WalletId,
    /// Cost to the target.
    cost: u64,
    /// Value of which its steps are shares.
    total: f64,
    settled: bool,
}

/// Edges that are summed up in the time in which one is relaxed.
const SUMMED_PER_EDGE: usize = 4;

/// Upper bound of the bytes of a wallet in the table of visited wallets.
const ENTRY: usize = 16;

type BoundQueue = BinaryHeap<Reverse<(u64, u32)>>;

/// Lower bounds for one target.
pub(super) struct Potential {
    visited: Visited,
    entries: Vec<BoundEntry>,
    queue: BoundQueue,
    /// Bound of wallets that are not settled; `None` once every wallet that leads to the target is.
    radius: Option<u64>,
}

impl Potential {
    /// Starts with the bound zero for every wallet.
    pub(super) fn new(wallets: u32, memory: &mut MemoryBudget) -> Self {
        Self { visited: Visited::new(wallets, memory), entries: Vec::new(), queue: BoundQueue::new(), radius: Some(0) }
    }

    /// Returns the number of wallets that were visited.
    pub(super) const fn wallets(&self) -> usize {
        self.entries.len()
    }

    /// Returns the bound of a wallet; `None` if no path leads from it to the target.
    #[inline]
    pub(super) fn at(&self, wallet: WalletId) -> Option<u64> {
        let entry = self.visited.get(wallet).and_then(|index| self.entries.get(index as usize));
        entry.filter(|entry| entry.settled).map(|entry| entry.cost).or(self.radius)
    }

    /// Searches backwards from the target until the source is settled, about `max_edges` edges were
    /// read, or half of the allowed wallets or memory is used up.
    pub(super) fn grow<W: Interrupt>(
        &mut self,
        terms: &PathTerms<'_>,
        weight: Weight,
        (source, target): (WalletId, WalletId),
        max_edges: usize,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<Halt>, SearchError> {
        self.visited.insert(target, 0);
        self.entries.push(BoundEntry { wallet: target, cost: 0, total: 0.0, settled: false });
        self.queue.push(Reverse((0, 0)));
        let back = reversed(terms.direction);
        let max_wallets = terms.max_wallets / 2;
        let min_left = memory.left() / 2;
        let mut back = BackwardSearch { terms, weight, back, edges_left: max_edges, memory, pace, steps: Vec::new() };
        loop {
            let Some(Reverse((cost, index))) = self.queue.pop() else {
                self.radius = None;
                return Ok(None);
            };
            let Some(next) = self.entries.get(index as usize).filter(|next| !next.settled).copied() else { continue };
            self.radius = Some(cost.min(MAX_BOUND));
            let enough = cost >= MAX_BOUND
                || next.wallet == source
                || self.entries.len() as u64 > max_wallets
                || back.memory.left().saturating_sub(back.bytes(next.wallet)) < min_left;
            if enough {
                return Ok(None);
            }
            match back.expand(self, next.wallet, cost) {
                Ok(()) => {}
                Err(BoundStop::Enough) => return Ok(None),
                Err(BoundStop::Halt(halt)) => return Ok(Some(halt)),
                Err(BoundStop::Error(error)) => return Err(error),
            }
            if let Some(next) = self.entries.get_mut(index as usize) {
                next.settled = true;
            }
        }
    }
}

enum BoundStop {
    /// The bounds are good enough.
    Enough,
    Halt(Halt),
    Error(SearchError),
}

impl<E: Into<SearchError>> From<E> for BoundStop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

struct BackwardSearch<'b, 'g, 'w, W> {
    terms: &'b PathTerms<'g>,
    weight: Weight,
    back: Direction,
    edges_left: usize,
    memory: &'b mut MemoryBudget,
    pace: &'b mut Pace<'w, W>,
    /// Indexes of the wallets with a step to the current one, and their cost to the target through
    /// it.
    steps: Vec<(u32, u64)>,
}

impl<W: Interrupt> BackwardSearch<'_, '_, '_, W> {
    /// Upper bound of the bytes that the peers of a wallet book.
    fn bytes(&self, wallet: WalletId) -> usize {
        let each = size_of::<BoundEntry>() + size_of::<Reverse<(u64, u32)>>() + ENTRY + size_of::<(u32, u64)>();
        2 * each * degree(self.terms.graph, wallet, self.back)
    }

    fn expand(&mut self, potential: &mut Potential, wallet: WalletId, cost: u64) -> Result<(), BoundStop> {
        let PathTerms { graph, filter, .. } = *self.terms;
        self.steps.clear();
        for side in self.back.sides() {
            self.spend(graph.degree(wallet, *side))?;
            graph.edges(wallet, *side, filter, |edge| -> Result<(), BoundStop> {
                let index = match potential.visited.get(edge.peer) {
                    Some(index) => index,
                    None => self.visit(potential, edge.peer)?,
                };
                let Some(peer) = potential.entries.get(index as usize) else { return Ok(()) };
                let step = match self.weight {
                    Weight::Hops => Some(1),
                    Weight::Value => of_share(edge.value.as_f64(), peer.total),
                    Weight::Recency { now } => Some(of_age(edge.last, now)),
                };
                if let Some(step) = step {
                    self.steps.push((index, cost + step));
                }
                Ok(())
            })?;
        }
        for (index, cost) in self.steps.drain(..) {
            if let Some(peer) = potential.entries.get_mut(index as usize).filter(|peer| cost < peer.cost) {
                peer.cost = cost;
                book(self.memory, size_of::<Reverse<(u64, u32)>>(), 0, potential.entries.len())?;
                potential.queue.push(Reverse((cost, index)));
            }
        }
        Ok(())
    }

    fn visit(&mut self, potential: &mut Potential, wallet: WalletId) -> Result<u32, BoundStop> {
        book(self.memory, size_of::<BoundEntry>() + potential.visited.cost(), 0, potential.entries.len())?;
        let total = if self.weight == Weight::Value { self.total(wallet)? } else { 0.0 };
        let index = potential.entries.len() as u32;
        potential.visited.insert(wallet, index);
        potential.entries.push(BoundEntry { wallet, cost: u64::MAX, total, settled: false });
        Ok(index)
    }

    /// Returns the value of all counted transfers of a wallet in the direction of the search.
    fn total(&mut self, wallet: WalletId) -> Result<f64, BoundStop> {
        let mut total = Total::ZERO;
        for side in self.terms.direction.sides() {
            // Summing up an edge costs a fraction of relaxing it.
            self.spend(self.terms.graph.degree(wallet, *side) / SUMMED_PER_EDGE)?;
            self.terms.graph.edges(wallet, *side, self.terms.filter, |edge| -> Result<(), SearchError> {
                total.add(edge.value);
                Ok(())
            })?;
        }
        Ok(total.sum().ok_or(SearchError::ValueOverflow)?.as_f64())
    }

    /// Takes the cost of reading edges from the budget, before they are read.
    fn spend(&mut self, edges: usize) -> Result<(), BoundStop> {
        self.edges_left = self.edges_left.checked_sub(edges).ok_or(BoundStop::Enough)?;
        self.pace.step(edges).map_or(Ok(()), |halt| Err(BoundStop::Halt(halt)))
    }
}
