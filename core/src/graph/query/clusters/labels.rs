//! Inheritance of labels within clusters, with confidence that decreases with every merge on the
//! path.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::MergeEvidence;
use crate::graph::budget::Interrupt;
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::error::SearchError;
use crate::graph::query::adjacency::{reserve, step};
use crate::graph::types::WalletId;
use crate::graph::view::graph::Graph;

/// A label of a wallet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SourceLabel {
    /// The wallet.
    pub wallet: WalletId,
    /// Category, as a number assigned by the caller.
    pub category: u32,
    /// Confidence, up to 1.
    pub confidence: f64,
}

/// A label that a wallet inherits from another.
#[derive(Debug, Clone, PartialEq)]
pub struct Inherited {
    /// The wallet.
    pub wallet: WalletId,
    /// Index of the label among the given ones.
    pub label: usize,
    /// Confidence that is left.
    pub confidence: f64,
    /// Path from the wallet that has the label to this one.
    pub path: Vec<WalletId>,
}

/// Passes labels on along accepted merges. Each merge multiplies the confidence by `decay` and by
/// its own confidence. Of the paths of a category to a wallet, the one with the highest confidence
/// counts, then the shortest, then the one from the first wallet by address. Nothing below
/// `min_confidence` is passed on, and no category to a wallet that has it itself. Returns labels by
/// address of the wallet, then category. O(m log m) for each category that occurs, with m merges of
/// its clusters: Dijkstra's search over products.
///
/// # Errors
/// [`SearchError::WholeGraph`].
pub fn inherit<W: Interrupt>(
    graph: &Graph<'_>,
    merges: &[MergeEvidence],
    labels: &[SourceLabel],
    decay: f64,
    min_confidence: f64,
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
    for (index, label) in labels.iter().enumerate().filter(|(_, label)| ties.contains_key(&label.wallet)) {
        by_category.entry(label.category).or_default().push(index);
    }
    let mut categories: Vec<(u32, Vec<usize>)> = by_category.into_iter().collect();
    categories.sort_unstable();
    let mut inherited = Vec::new();
    for (_, places) in categories {
        let mut search = LabelSearch {
            graph,
            ties: &ties,
            labels,
            settled: HashMap::new(),
            heap: BinaryHeap::new(),
            min_confidence,
        };
        search.run(&places, &mut memory, &mut pace)?;
        search.collect(&places, &mut inherited, &mut memory, &mut pace)?;
    }
    inherited.sort_unstable_by_key(|entry: &Inherited| {
        (graph.order(entry.wallet), labels.get(entry.label).map(|label| label.category))
    });
    Ok(inherited)
}

/// Bytes of an entry of `ties` or of `settled`.
const ENTRY: usize = 64;

struct LabelSearch<'a, 'g> {
    graph: &'a Graph<'g>,
    ties: &'a HashMap<WalletId, Vec<(WalletId, f64)>>,
    labels: &'a [SourceLabel],
    settled: HashMap<WalletId, LabelPath>,
    heap: BinaryHeap<LabelPath>,
    min_confidence: f64,
}

/// Path of a label to a wallet.
#[derive(Debug, Clone, Copy)]
struct LabelPath {
    confidence: f64,
    hops: Reverse<u32>,
    /// The order of the wallet with the label.
    origin: Reverse<u64>,
    label: usize,
    wallet: WalletId,
    before: Option<WalletId>,
}

impl LabelPath {
    /// Compares two paths; the better one is greater.
    fn rank(&self, other: &Self) -> Ordering {
        self.confidence
            .total_cmp(&other.confidence)
            .then_with(|| (self.hops, self.origin).cmp(&(other.hops, other.origin)))
            .then_with(|| (other.label, other.wallet, other.before).cmp(&(self.label, self.wallet, self.before)))
    }
}

impl PartialEq for LabelPath {
    fn eq(&self, other: &Self) -> bool {
        self.rank(other) == Ordering::Equal
    }
}

impl Eq for LabelPath {}

impl PartialOrd for LabelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LabelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank(other)
    }
}

impl LabelSearch<'_, '_> {
    fn run<W: Interrupt>(
        &mut self,
        places: &[usize],
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<(), SearchError> {
        for index in places {
            let Some(label) = self.labels.get(*index) else { continue };
            self.heap.push(LabelPath {
                confidence: label.confidence,
                hops: Reverse(0),
                origin: Reverse(self.graph.order(label.wallet)),
                label: *index,
                wallet: label.wallet,
                before: None,
            });
        }
        while let Some(path) = self.heap.pop() {
            let _ = step(pace);
            if self.settled.contains_key(&path.wallet) {
                continue;
            }
            reserve(memory, ENTRY, self.settled.len())?;
            self.settled.insert(path.wallet, path);
            for (peer, factor) in self.ties.get(&path.wallet).map_or(&[][..], Vec::as_slice) {
                let _ = step(pace);
                let confidence = path.confidence * factor;
                if confidence >= self.min_confidence && !self.settled.contains_key(peer) {
                    let hops = Reverse(path.hops.0 + 1);
                    self.heap.push(LabelPath { confidence, hops, wallet: *peer, before: Some(path.wallet), ..path });
                }
            }
        }
        Ok(())
    }

    /// Collects the labels of wallets that do not have the category themselves.
    fn collect<W: Interrupt>(
        self,
        places: &[usize],
        inherited: &mut Vec<Inherited>,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<(), SearchError> {
        let labelled = places.iter().filter_map(|index| self.labels.get(*index));
        let labelled: HashSet<WalletId> = labelled.map(|label| label.wallet).collect();
        for way in self.settled.values().filter(|way| !labelled.contains(&way.wallet)) {
            let hops = way.hops.0 as usize;
            reserve(memory, 2 * size_of::<Inherited>() + size_of::<WalletId>() * (hops + 1), inherited.len())?;
            let mut path = Vec::with_capacity(hops + 1);
            path.push(way.wallet);
            let mut before = way.before;
            while let Some(wallet) = before {
                let _ = step(pace);
                path.push(wallet);
                before = self.settled.get(&wallet).and_then(|way| way.before);
            }
            path.reverse();
            inherited.push(Inherited { wallet: way.wallet, label: way.label, confidence: way.confidence, path });
        }
        Ok(())
    }
}
