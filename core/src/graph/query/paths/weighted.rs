//! Cheapest within a number of hops: Dijkstra's algorithm with labels of cost and hops (Hansen: Bicriterion path problems, 1980).
//!
//! A wallet keeps a label for every way to it that no other beats in both: a dearer way with fewer hops may be the only one that
//! still reaches the target within the limit. Labels are settled by what a whole path with them costs at least (see `potential`), then hops. All ways to a wallet that are equal in both
//! are known before its label is settled, so the first of them by addresses is known, too.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::cost::{Total, of_age, of_share};
use super::potential::Potential;
use super::ranking::Ends;
use super::{Length, Outcome, Route, Search, Stop, Task, Terms, Weight};
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::error::SearchError;
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::WalletId;
use crate::graph::view::graph::Graph;

const NONE: u32 = u32::MAX;

/// Edges to look at from the target's side before a search for one path, and how many times that before a search for several, where
/// what is learnt serves again and again. Measured with 2 million transfers among 200,000 wallets: 4 to 7 ms for a path, where a search
/// without looking back takes 100 to 170.
const LOOK_BACK: usize = if cfg!(test) { 8 } else { 1 << 16 };
const FOR_SEVERAL: usize = 2;

/// A way to a wallet.
#[derive(Debug, Clone, Copy)]
struct Label {
    wallet: WalletId,
    length: Length,
    /// Label of the wallet before it.
    previous: u32,
    /// Another label of the same wallet.
    sibling: u32,
    /// Another label beats it.
    beaten: bool,
}

/// An edge to be walked.
#[derive(Debug, Clone, Copy)]
struct Arc {
    peer: WalletId,
    last: i64,
    value: f64,
}

type Queue = BinaryHeap<Reverse<(Length, u32)>>;

/// The labels of one search.
struct Labels {
    /// One label of each wallet that has any; entries of earlier searches are told by their place holding another wallet.
    visited: Visited,
    all: Vec<Label>,
    queue: Queue,
    wallets: u64,
    /// The best at the target.
    best: Option<u32>,
    max_wallets: u64,
    potential: Potential,
}

/// The search by labels, to be used again and again.
pub(super) struct Labelling<'g> {
    terms: Terms<'g>,
    weight: Weight,
    labels: Labels,
    arcs: Vec<Arc>,
}

impl<'g> Labelling<'g> {
    pub(super) fn new(terms: Terms<'g>, weight: Weight, memory: &mut MemoryBudget) -> Self {
        let visited = Visited::new(terms.graph.wallets(), memory);
        let potential = Potential::new(terms.graph.wallets(), memory);
        let max_wallets = terms.max_wallets;
        let labels =
            Labels { visited, all: Vec::new(), queue: Queue::new(), wallets: 0, best: None, max_wallets, potential };
        Self { terms, weight, labels, arcs: Vec::new() }
    }

    /// Looks from the target's side, before searches for so many paths.
    pub(super) fn look_back<W: Interrupt>(
        &mut self,
        ends: &Ends,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<Halt>, SearchError> {
        let most = if ends.paths == 1 { LOOK_BACK } else { FOR_SEVERAL * LOOK_BACK };
        let between = (ends.source, ends.target);
        self.labels.potential.grow(&self.terms, self.weight, between, most, memory, pace)
    }

    /// Walks on from a label.
    fn expand<W: Interrupt>(
        &mut self,
        task: &Task<'_>,
        number: u32,
        label: &Label,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<(), Stop> {
        let Terms { graph, direction, filter, .. } = self.terms;
        let Self { arcs, weight, .. } = self;
        arcs.clear();
        let mut total = Total::ZERO;
        let mut halted = None;
        for side in direction.sides() {
            let edges = graph.degree(label.wallet, *side);
            let room = arcs.len() + edges;
            if room > arcs.capacity() {
                book(memory, (room - arcs.capacity()) * size_of::<Arc>(), label.length.hops, self.labels.all.len())?;
                arcs.reserve_exact(edges);
            }
            graph.edges(label.wallet, *side, filter, |edge| -> Result<(), SearchError> {
                let value = if *weight == Weight::Value {
                    total.add(edge.value);
                    edge.value.as_f64()
                } else {
                    0.0
                };
                arcs.push(Arc { peer: edge.peer, last: edge.last, value });
                Ok(())
            })?;
            halted = halted.or(pace.step(edges));
        }
        let total = total.sum().ok_or(SearchError::ValueOverflow)?.as_f64();
        let not_next = if label.wallet == task.source { task.not_first } else { &[] };
        for arc in arcs.iter() {
            let cost = match *weight {
                Weight::Hops => Some(1),
                Weight::Value => of_share(arc.value, total),
                Weight::Recency { now } => Some(of_age(arc.last, now)),
            };
            let Some(cost) = cost.filter(|_| !not_next.contains(&arc.peer)) else { continue };
            let length = Length { cost: label.length.cost + cost, hops: label.length.hops + 1 };
            self.labels.relax(graph, task, number, arc.peer, length, memory)?;
        }
        halted.map_or(Ok(()), |halt| Err(Stop::Halt(halt)))
    }
}

impl Labels {
    fn reset(&mut self, task: &Task<'_>) {
        if let Visited::Sparse(places) = &mut self.visited {
            places.clear();
        }
        self.all.clear();
        self.queue.clear();
        self.best = None;
        self.wallets = 1;
        self.push(task.source, task.start, NONE, NONE);
    }

    fn push(&mut self, wallet: WalletId, length: Length, previous: u32, sibling: u32) -> u32 {
        let number = self.all.len() as u32;
        self.visited.insert(wallet, number);
        self.all.push(Label { wallet, length, previous, sibling, beaten: false });
        let rest = self.potential.at(wallet).unwrap_or(0);
        self.queue.push(Reverse((Length { cost: length.cost + rest, ..length }, number)));
        number
    }

    #[inline]
    fn get(&self, number: u32) -> Option<&Label> {
        self.all.get(number as usize)
    }

    /// Whether a path of that length to that wallet can still be part of the answer.
    fn is_of_use(&self, task: &Task<'_>, wallet: WalletId, length: Length) -> bool {
        let Some(rest) = self.potential.at(wallet) else { return false };
        let whole = Length { cost: length.cost + rest, hops: length.hops + u32::from(wallet != task.target) };
        let best = self.best.and_then(|best| self.get(best)).map(|best| best.length);
        whole.hops <= task.max_hops && [best, task.longest].into_iter().flatten().all(|longest| whole <= longest)
    }

    /// Takes a way to a wallet into account.
    fn relax(
        &mut self,
        graph: &Graph<'_>,
        task: &Task<'_>,
        previous: u32,
        wallet: WalletId,
        length: Length,
        memory: &mut MemoryBudget,
    ) -> Result<(), Stop> {
        if !self.is_of_use(task, wallet, length) {
            return Ok(());
        }
        let place = self.visited.get(wallet).filter(|place| self.get(*place).is_some_and(|one| one.wallet == wallet));
        let head = place.unwrap_or(NONE);
        let mut at = head;
        while let Some(known) = self.get(at).copied() {
            if known.length == length {
                if self.precedes(graph, previous, known.previous)
                    && let Some(known) = self.all.get_mut(at as usize)
                {
                    known.previous = previous;
                }
                return Ok(());
            }
            if known.length.cost <= length.cost && known.length.hops <= length.hops {
                return Ok(());
            }
            at = known.sibling;
        }
        if head == NONE {
            if task.banned.contains(&wallet) {
                return Ok(());
            }
            // the target is known from the other side
            if wallet != task.target && self.wallets + self.potential.wallets() as u64 >= self.max_wallets {
                return Err(Stop::Halt(Halt::Wallets));
            }
            self.wallets += 1;
        }
        let bytes = size_of::<Label>() + size_of::<Reverse<(Length, u32)>>() + self.visited.cost();
        book(memory, bytes, length.hops, self.wallets as usize)?;
        let sibling = self.unbeaten(head, length);
        let number = self.push(wallet, length, previous, sibling);
        if wallet == task.target {
            self.best = Some(number);
        }
        Ok(())
    }

    /// The labels of a wallet, from the first on, that one of that length does not beat.
    fn unbeaten(&mut self, head: u32, length: Length) -> u32 {
        let (mut first, mut last, mut at) = (NONE, NONE, head);
        while let Some(known) = self.all.get_mut(at as usize) {
            let number = at;
            at = known.sibling;
            known.sibling = NONE;
            if length.cost <= known.length.cost && length.hops <= known.length.hops {
                known.beaten = true;
                continue;
            }
            match self.all.get_mut(last as usize) {
                Some(last) => last.sibling = number,
                None => first = number,
            }
            last = number;
        }
        first
    }

    /// Whether the addresses along the path to one label come before those to another with as many hops.
    fn precedes(&self, graph: &Graph<'_>, mut one: u32, mut other: u32) -> bool {
        let mut order = Ordering::Equal;
        while one != other {
            let (Some(left), Some(right)) = (self.get(one), self.get(other)) else { break };
            order = graph.order(left.wallet).cmp(&graph.order(right.wallet));
            (one, other) = (left.previous, right.previous);
        }
        order == Ordering::Less
    }

    fn route(&self, number: u32) -> Route {
        let (mut wallets, mut costs) = (Vec::new(), Vec::new());
        let mut at = number;
        while let Some(label) = self.get(at) {
            wallets.push(label.wallet);
            costs.push(label.length.cost);
            at = label.previous;
        }
        wallets.reverse();
        costs.reverse();
        Route { wallets, costs }
    }
}

impl Search for Labelling<'_> {
    fn search<W: Interrupt>(
        &mut self,
        task: &Task<'_>,
        mut memory: MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Outcome, SearchError> {
        self.labels.reset(task);
        // what is kept from search to search is booked by each
        book(&mut memory, self.arcs.capacity() * size_of::<Arc>() / 2, 0, 1)?;
        let mut halted = None;
        while let Some(Reverse((_, number))) = self.labels.queue.pop() {
            let Some(label) = self.labels.get(number).copied().filter(|label| !label.beaten) else { continue };
            if label.wallet == task.target {
                break;
            }
            if !self.labels.is_of_use(task, label.wallet, label.length) {
                continue;
            }
            match self.expand(task, number, &label, &mut memory, pace) {
                Ok(()) => {}
                Err(Stop::Halt(halt)) => {
                    halted = Some(halt);
                    break;
                }
                Err(Stop::Error(error)) => return Err(error),
            }
        }
        Ok(Outcome { route: self.labels.best.map(|best| self.labels.route(best)), halted })
    }
}
