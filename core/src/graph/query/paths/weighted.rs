//! The cheapest path within a number of hops: Dijkstra's algorithm with labels of cost and hops
//! (Hansen: Bicriterion path problems, 1980).
//!
//! A wallet keeps a label for every path to it that no other dominates: a more expensive path with
//! fewer hops may be the only one that still reaches the target within the limit. Labels are
//! settled by the lower bound of the cost of a whole path (see `potential`), then by hops. All
//! paths to a wallet with equal cost and hops are known before its label is settled, so the first
//! one by addresses is known, too.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::cost::{Total, of_age, of_share};
use super::potential::Potential;
use super::ranking::RankingTerms;
use super::{Length, PathOutcome, PathSearch, PathTask, PathTerms, Route, Stop, Weight};
use crate::graph::budget::{Halt, Interrupt, MemoryBudget, Pace};
use crate::graph::error::SearchError;
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::WalletId;
use crate::graph::view::graph::Graph;

const NONE: u32 = u32::MAX;

/// Edges that lower bounds may cost before a search for one path. With 2 million transfers among
/// 200,000 wallets a path takes 4 to 7 ms with bounds, and 100 to 170 ms without.
const BOUND_EDGES: usize = if cfg!(test) { 8 } else { 1 << 16 };

/// Factor for several paths, which all use the same bounds.
const BOUND_FACTOR: usize = 2;

/// A path to a wallet.
#[derive(Debug, Clone, Copy)]
struct Label {
    wallet: WalletId,
    length: Length,
    /// Label of the wallet before.
    previous: u32,
    /// Another label of the same wallet.
    sibling: u32,
    /// Another label dominates this one.
    dominated: bool,
}

/// An edge that leaves a wallet.
#[derive(Debug, Clone, Copy)]
struct ValueArc {
    peer: WalletId,
    last: i64,
    value: f64,
}

type LabelQueue = BinaryHeap<Reverse<(Length, u32)>>;

/// The labels of one search.
struct Labels {
    /// First label of each wallet. Keeps entries of earlier searches: their index holds another
    /// wallet.
    visited: Visited,
    all: Vec<Label>,
    queue: LabelQueue,
    wallets: u64,
    /// Best label at the target.
    best: Option<u32>,
    max_wallets: u64,
    potential: Potential,
}

/// The search by labels, reused for several paths.
pub(super) struct Labelling<'g> {
    terms: PathTerms<'g>,
    weight: Weight,
    labels: Labels,
    arcs: Vec<ValueArc>,
}

impl<'g> Labelling<'g> {
    pub(super) fn new(terms: PathTerms<'g>, weight: Weight, memory: &mut MemoryBudget) -> Self {
        let visited = Visited::new(terms.graph.wallets(), memory);
        let potential = Potential::new(terms.graph.wallets(), memory);
        let max_wallets = terms.max_wallets;
        let labels = Labels {
            visited,
            all: Vec::new(),
            queue: LabelQueue::new(),
            wallets: 0,
            best: None,
            max_wallets,
            potential,
        };
        Self { terms, weight, labels, arcs: Vec::new() }
    }

    /// Computes lower bounds from the side of the target.
    pub(super) fn compute_bounds<W: Interrupt>(
        &mut self,
        ends: &RankingTerms,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<Halt>, SearchError> {
        let max_edges = if ends.paths == 1 { BOUND_EDGES } else { BOUND_FACTOR * BOUND_EDGES };
        let between = (ends.source, ends.target);
        self.labels.potential.grow(&self.terms, self.weight, between, max_edges, memory, pace)
    }

    /// Relaxes the edges that leave a label's wallet.
    fn expand<W: Interrupt>(
        &mut self,
        task: &PathTask<'_>,
        number: u32,
        label: &Label,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<(), Stop> {
        let PathTerms { graph, direction, filter, .. } = self.terms;
        let Self { arcs, weight, .. } = self;
        arcs.clear();
        let mut total = Total::ZERO;
        let mut halted = None;
        for side in direction.sides() {
            let edges = graph.degree(label.wallet, *side);
            let length = arcs.len() + edges;
            if length > arcs.capacity() {
                book(
                    memory,
                    (length - arcs.capacity()) * size_of::<ValueArc>(),
                    label.length.hops,
                    self.labels.all.len(),
                )?;
                arcs.reserve_exact(edges);
            }
            graph.edges(label.wallet, *side, filter, |edge| -> Result<(), SearchError> {
                let value = if *weight == Weight::Value {
                    total.add(edge.value);
                    edge.value.as_f64()
                } else {
                    0.0
                };
                arcs.push(ValueArc { peer: edge.peer, last: edge.last, value });
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
    fn reset(&mut self, task: &PathTask<'_>) {
        self.visited.begin_search();
        self.all.clear();
        self.queue.clear();
        self.best = None;
        self.wallets = 1;
        self.push(task.source, task.start, NONE, NONE);
    }

    fn push(&mut self, wallet: WalletId, length: Length, previous: u32, sibling: u32) -> u32 {
        let number = self.all.len() as u32;
        self.visited.insert(wallet, number);
        self.all.push(Label { wallet, length, previous, sibling, dominated: false });
        let rest = self.potential.at(wallet).unwrap_or(0);
        self.queue.push(Reverse((Length { cost: length.cost + rest, ..length }, number)));
        number
    }

    #[inline]
    fn get(&self, number: u32) -> Option<&Label> {
        self.all.get(number as usize)
    }

    /// Returns whether a path of this length to a wallet can still be part of the result.
    fn is_of_use(&self, task: &PathTask<'_>, wallet: WalletId, length: Length) -> bool {
        let Some(rest) = self.potential.at(wallet) else { return false };
        let whole = Length { cost: length.cost + rest, hops: length.hops + u32::from(wallet != task.target) };
        let best = self.best.and_then(|best| self.get(best)).map(|best| best.length);
        whole.hops <= task.max_hops && [best, task.longest].into_iter().flatten().all(|longest| whole <= longest)
    }

    /// Adds a label for a path to a wallet, unless another one dominates it.
    fn relax(
        &mut self,
        graph: &Graph<'_>,
        task: &PathTask<'_>,
        previous: u32,
        wallet: WalletId,
        length: Length,
        memory: &mut MemoryBudget,
    ) -> Result<(), Stop> {
        if !self.is_of_use(task, wallet, length) {
            return Ok(());
        }
        let is_own = |label: &u32| self.get(*label).is_some_and(|label| label.wallet == wallet);
        let head = self.visited.get(wallet).filter(is_own).unwrap_or(NONE);
        let mut at = head;
        while let Some(other) = self.get(at).copied() {
            if other.length == length {
                if self.precedes(graph, previous, other.previous)
                    && let Some(other) = self.all.get_mut(at as usize)
                {
                    other.previous = previous;
                }
                return Ok(());
            }
            if other.length.cost <= length.cost && other.length.hops <= length.hops {
                return Ok(());
            }
            at = other.sibling;
        }
        if head == NONE {
            if task.banned.contains(&wallet) {
                return Ok(());
            }
            // The bounds count the target already.
            if wallet != task.target && self.wallets + self.potential.wallets() as u64 >= self.max_wallets {
                return Err(Stop::Halt(Halt::Wallets));
            }
            self.wallets += 1;
        }
        let bytes = size_of::<Label>() + size_of::<Reverse<(Length, u32)>>() + self.visited.cost();
        book(memory, bytes, length.hops, self.wallets as usize)?;
        let sibling = self.undominated(head, length);
        let number = self.push(wallet, length, previous, sibling);
        if wallet == task.target {
            self.best = Some(number);
        }
        Ok(())
    }

    /// Relinks the labels of a wallet without those that a label of this length dominates; returns
    /// the first.
    fn undominated(&mut self, head: u32, length: Length) -> u32 {
        let (mut first, mut last, mut at) = (NONE, NONE, head);
        while let Some(other) = self.all.get_mut(at as usize) {
            let number = at;
            at = other.sibling;
            other.sibling = NONE;
            if length.cost <= other.length.cost && length.hops <= other.length.hops {
                other.dominated = true;
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

    /// Returns whether the addresses along the path to a label precede those of another one with
    /// equal hops.
    fn precedes(&self, graph: &Graph<'_>, mut label: u32, mut other: u32) -> bool {
        let mut order = Ordering::Equal;
        while label != other {
            let (Some(left), Some(right)) = (self.get(label), self.get(other)) else { break };
            order = graph.order(left.wallet).cmp(&graph.order(right.wallet));
            (label, other) = (left.previous, right.previous);
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

impl PathSearch for Labelling<'_> {
    fn search<W: Interrupt>(
        &mut self,
        task: &PathTask<'_>,
        mut memory: MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<PathOutcome, SearchError> {
        self.labels.reset(task);
        // Each search books the buffer that is reused between searches.
        book(&mut memory, self.arcs.capacity() * size_of::<ValueArc>() / 2, 0, 1)?;
        let mut halted = None;
        while let Some(Reverse((_, number))) = self.labels.queue.pop() {
            let Some(label) = self.labels.get(number).copied().filter(|label| !label.dominated) else { continue };
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
        Ok(PathOutcome { route: self.labels.best.map(|best| self.labels.route(best)), halted })
    }
}
