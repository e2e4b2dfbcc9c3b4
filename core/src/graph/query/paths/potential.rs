//! What a path from a wallet to the target costs at least: how a search by weight knows where the target lies.
//!
//! A search backwards from the target settles wallets by what they cost to the target, limits and bans left aside, up to some
//! radius; all others cost no less than the radius. Such a bound is consistent: along a step it falls by no more than the step
//! costs, so a search that is led by it (Hart, Nilsson, Raphael: A formal basis for the heuristic determination of minimum cost
//! paths, 1968) finds the same paths in the same order. The backward part and what is left to the forward one are as in
//! bidirectional search.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cost::{Total, of_age, of_share};
use super::{Terms, Weight, degree, reversed};
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::error::SearchError;
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::{Direction, WalletId};

/// No bound is larger, so that sums with it stay within 64 bits.
const LARGEST: u64 = 1 << 62;

#[derive(Debug, Clone, Copy)]
struct Found {
    wallet: WalletId,
    /// To the target.
    cost: u64,
    /// What its steps are shares of.
    total: f64,
    settled: bool,
}

/// Edges that are added up in the time that one is walked.
const ADDED: usize = 4;

/// Bytes for a wallet in a table of those visited, at most.
const ENTRY: usize = 16;

type Queue = BinaryHeap<Reverse<(u64, u32)>>;

/// Lower bounds for one target.
pub(super) struct Potential {
    visited: Visited,
    found: Vec<Found>,
    queue: Queue,
    /// Of wallets that are not settled; `None` once all that lead to the target are.
    radius: Option<u64>,
}

impl Potential {
    /// Zero for all wallets.
    pub(super) fn new(wallets: u32, memory: &mut MemoryBudget) -> Self {
        Self { visited: Visited::new(wallets, memory), found: Vec::new(), queue: Queue::new(), radius: Some(0) }
    }

    /// Wallets that it knows of.
    pub(super) const fn wallets(&self) -> usize {
        self.found.len()
    }

    /// What a path from the wallet to the target costs at least; `None` if there is none.
    #[inline]
    pub(super) fn at(&self, wallet: WalletId) -> Option<u64> {
        let found = self.visited.get(wallet).and_then(|place| self.found.get(place as usize));
        found.filter(|found| found.settled).map(|found| found.cost).or(self.radius)
    }

    /// Searches backwards from the target until the source is settled, or about `most` edges were looked at, or half of the
    /// wallets or memory allowed are used up.
    pub(super) fn grow<W: Interrupt>(
        &mut self,
        terms: &Terms<'_>,
        weight: Weight,
        (source, target): (WalletId, WalletId),
        most: usize,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<Halt>, SearchError> {
        self.visited.insert(target, 0);
        self.found.push(Found { wallet: target, cost: 0, total: 0.0, settled: false });
        self.queue.push(Reverse((0, 0)));
        let back = reversed(terms.direction);
        let most_wallets = terms.max_wallets / 2;
        let least_left = memory.left() / 2;
        let mut back = Back { terms, weight, back, left: most, memory, pace, steps: Vec::new() };
        loop {
            let Some(Reverse((cost, place))) = self.queue.pop() else {
                self.radius = None;
                return Ok(None);
            };
            let Some(next) = self.found.get(place as usize).filter(|next| !next.settled).copied() else { continue };
            self.radius = Some(cost.min(LARGEST));
            let enough = cost >= LARGEST
                || next.wallet == source
                || self.found.len() as u64 > most_wallets
                || back.memory.left().saturating_sub(back.room(next.wallet)) < least_left;
            if enough {
                return Ok(None);
            }
            match back.expand(self, next.wallet, cost) {
                Ok(()) => {}
                Err(Stop::Enough) => return Ok(None),
                Err(Stop::Halt(halt)) => return Ok(Some(halt)),
                Err(Stop::Error(error)) => return Err(error),
            }
            if let Some(next) = self.found.get_mut(place as usize) {
                next.settled = true;
            }
        }
    }
}

enum Stop {
    /// As much as was wanted.
    Enough,
    Halt(Halt),
    Error(SearchError),
}

impl<E: Into<SearchError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// A search backwards.
struct Back<'b, 'g, 'w, W> {
    terms: &'b Terms<'g>,
    weight: Weight,
    back: Direction,
    /// Edges that may still be looked at.
    left: usize,
    memory: &'b mut MemoryBudget,
    pace: &'b mut Pace<'w, W>,
    /// Of one wallet: places it can be reached from, and what they cost to the target that way.
    steps: Vec<(u32, u64)>,
}

impl<W: Interrupt> Back<'_, '_, '_, W> {
    /// Bytes that a wallet's peers may take, as they are booked.
    fn room(&self, wallet: WalletId) -> usize {
        let each = size_of::<Found>() + size_of::<Reverse<(u64, u32)>>() + ENTRY + size_of::<(u32, u64)>();
        2 * each * degree(self.terms.graph, wallet, self.back)
    }

    fn expand(&mut self, known: &mut Potential, wallet: WalletId, cost: u64) -> Result<(), Stop> {
        let Terms { graph, filter, .. } = *self.terms;
        self.steps.clear();
        for side in self.back.sides() {
            self.look(graph.degree(wallet, *side))?;
            graph.edges(wallet, *side, filter, |edge| -> Result<(), Stop> {
                let place = match known.visited.get(edge.peer) {
                    Some(place) => place,
                    None => self.find(known, edge.peer)?,
                };
                let Some(peer) = known.found.get(place as usize) else { return Ok(()) };
                let step = match self.weight {
                    Weight::Hops => Some(1),
                    Weight::Value => of_share(edge.value.as_f64(), peer.total),
                    Weight::Recency { now } => Some(of_age(edge.last, now)),
                };
                if let Some(step) = step {
                    self.steps.push((place, cost + step));
                }
                Ok(())
            })?;
        }
        for (place, cost) in self.steps.drain(..) {
            if let Some(peer) = known.found.get_mut(place as usize).filter(|peer| cost < peer.cost) {
                peer.cost = cost;
                book(self.memory, size_of::<Reverse<(u64, u32)>>(), 0, known.found.len())?;
                known.queue.push(Reverse((cost, place)));
            }
        }
        Ok(())
    }

    fn find(&mut self, known: &mut Potential, wallet: WalletId) -> Result<u32, Stop> {
        book(self.memory, size_of::<Found>() + known.visited.cost(), 0, known.found.len())?;
        let total = if self.weight == Weight::Value { self.total(wallet)? } else { 0.0 };
        let place = known.found.len() as u32;
        known.visited.insert(wallet, place);
        known.found.push(Found { wallet, cost: u64::MAX, total, settled: false });
        Ok(place)
    }

    /// All that counts of what a wallet sent or received, as the direction says.
    fn total(&mut self, wallet: WalletId) -> Result<f64, Stop> {
        let mut total = Total::ZERO;
        for side in self.terms.direction.sides() {
            // an edge that is but added up costs a fraction of one that is walked
            self.look(self.terms.graph.degree(wallet, *side) / ADDED)?;
            self.terms.graph.edges(wallet, *side, self.terms.filter, |edge| -> Result<(), SearchError> {
                total.add(edge.value);
                Ok(())
            })?;
        }
        Ok(total.sum().ok_or(SearchError::ValueOverflow)?.as_f64())
    }

    /// Before so many edges are looked at.
    fn look(&mut self, edges: usize) -> Result<(), Stop> {
        self.left = self.left.checked_sub(edges).ok_or(Stop::Enough)?;
        self.pace.step(edges).map_or(Ok(()), |halt| Err(Stop::Halt(halt)))
    }
}
