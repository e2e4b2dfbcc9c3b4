//! What is known of one member of a cluster, passed on to the others, less surely with every merge on the way.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::Merge;
use crate::graph::budget::Interrupt;
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::error::SearchError;
use crate::graph::query::adjacency::{reserve, step};
use crate::graph::types::WalletId;
use crate::graph::view::graph::Graph;

/// A label on a wallet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// Whose.
    pub wallet: WalletId,
    /// Its category, by a number of the caller's.
    pub category: u32,
    /// How sure it is, up to 1.
    pub confidence: f64,
}

/// A label that a wallet has from another.
#[derive(Debug, Clone, PartialEq)]
pub struct Inherited {
    /// Whose.
    pub wallet: WalletId,
    /// Which of the labels that were given, by its place.
    pub label: usize,
    /// How sure it is still.
    pub confidence: f64,
    /// From the wallet that has the label to this one.
    pub path: Vec<WalletId>,
}

/// Passes labels on along accepted merges. A merge costs `decay` and its own confidence; of the ways a category comes to a wallet the
/// surest counts, then the shortest, then the one from the first wallet by address. Nothing below `least` is passed on, and
/// no category to a wallet that has it itself. Returns by wallet's address, then category. O(m log m) a category that occurs,
/// with m merges of its clusters: a search in the manner of Dijkstra over products.
///
/// # Errors
/// [`SearchError::WholeGraph`].
pub fn inherit<W: Interrupt>(
    graph: &Graph<'_>,
    merges: &[Merge],
    labels: &[Known],
    decay: f64,
    least: f64,
    memory: MemoryBudget,
    interrupt: &mut W,
) -> Result<Vec<Inherited>, SearchError> {
    let mut memory = memory;
    let mut pace = Pace::new(interrupt);
    let accepted = merges.iter().filter(|merge| merge.verdict.is_accepted());
    reserve(&mut memory, ENTRY * 2 * accepted.clone().count(), 0)?;
    let mut ties: HashMap<WalletId, Vec<(WalletId, f64)>> = HashMap::new();
    for merge in accepted {
        let _ = step(&mut pace);
        ties.entry(merge.wallet).or_default().push((merge.merged_with, merge.confidence * decay));
        ties.entry(merge.merged_with).or_default().push((merge.wallet, merge.confidence * decay));
    }
    let mut by_category: HashMap<u32, Vec<usize>> = HashMap::new();
    for (place, label) in labels.iter().enumerate().filter(|(_, label)| ties.contains_key(&label.wallet)) {
        by_category.entry(label.category).or_default().push(place);
    }
    let mut categories: Vec<(u32, Vec<usize>)> = by_category.into_iter().collect();
    categories.sort_unstable();
    let mut found = Vec::new();
    for (_, places) in categories {
        let mut search = Search { graph, ties: &ties, labels, settled: HashMap::new(), heap: BinaryHeap::new(), least };
        search.run(&places, &mut memory, &mut pace)?;
        search.collect(&places, &mut found, &mut memory, &mut pace)?;
    }
    found.sort_unstable_by_key(|one: &Inherited| {
        (graph.order(one.wallet), labels.get(one.label).map(|label| label.category))
    });
    Ok(found)
}

/// Bytes of a tie, or of what is known of a wallet, in its table.
const ENTRY: usize = 64;

struct Search<'a, 'g> {
    graph: &'a Graph<'g>,
    ties: &'a HashMap<WalletId, Vec<(WalletId, f64)>>,
    labels: &'a [Known],
    settled: HashMap<WalletId, Way>,
    heap: BinaryHeap<Way>,
    least: f64,
}

/// How a label comes to a wallet.
#[derive(Debug, Clone, Copy)]
struct Way {
    confidence: f64,
    hops: Reverse<u32>,
    /// The order of the wallet with the label.
    origin: Reverse<u64>,
    label: usize,
    wallet: WalletId,
    before: Option<WalletId>,
}

impl Way {
    /// Better is greater.
    fn rank(&self, other: &Self) -> Ordering {
        self.confidence
            .total_cmp(&other.confidence)
            .then_with(|| (self.hops, self.origin).cmp(&(other.hops, other.origin)))
            .then_with(|| (other.label, other.wallet, other.before).cmp(&(self.label, self.wallet, self.before)))
    }
}

impl PartialEq for Way {
    fn eq(&self, other: &Self) -> bool {
        self.rank(other) == Ordering::Equal
    }
}

impl Eq for Way {}

impl PartialOrd for Way {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Way {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank(other)
    }
}

impl Search<'_, '_> {
    fn run<W: Interrupt>(
        &mut self,
        places: &[usize],
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<(), SearchError> {
        for place in places {
            let Some(label) = self.labels.get(*place) else { continue };
            self.heap.push(Way {
                confidence: label.confidence,
                hops: Reverse(0),
                origin: Reverse(self.graph.order(label.wallet)),
                label: *place,
                wallet: label.wallet,
                before: None,
            });
        }
        while let Some(way) = self.heap.pop() {
            let _ = step(pace);
            if self.settled.contains_key(&way.wallet) {
                continue;
            }
            reserve(memory, ENTRY, self.settled.len())?;
            self.settled.insert(way.wallet, way);
            for (peer, factor) in self.ties.get(&way.wallet).map_or(&[][..], Vec::as_slice) {
                let _ = step(pace);
                let confidence = way.confidence * factor;
                if confidence >= self.least && !self.settled.contains_key(peer) {
                    let hops = Reverse(way.hops.0 + 1);
                    self.heap.push(Way { confidence, hops, wallet: *peer, before: Some(way.wallet), ..way });
                }
            }
        }
        Ok(())
    }

    /// What came to wallets that have no such label themselves.
    fn collect<W: Interrupt>(
        self,
        places: &[usize],
        found: &mut Vec<Inherited>,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<(), SearchError> {
        let labelled = places.iter().filter_map(|place| self.labels.get(*place));
        let labelled: HashSet<WalletId> = labelled.map(|label| label.wallet).collect();
        for way in self.settled.values().filter(|way| !labelled.contains(&way.wallet)) {
            let hops = way.hops.0 as usize;
            reserve(memory, 2 * size_of::<Inherited>() + size_of::<WalletId>() * (hops + 1), found.len())?;
            let mut path = Vec::with_capacity(hops + 1);
            path.push(way.wallet);
            let mut before = way.before;
            while let Some(wallet) = before {
                let _ = step(pace);
                path.push(wallet);
                before = self.settled.get(&wallet).and_then(|way| way.before);
            }
            path.reverse();
            found.push(Inherited { wallet: way.wallet, label: way.label, confidence: way.confidence, path });
        }
        Ok(())
    }
}
