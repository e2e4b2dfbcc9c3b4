//! Weakly and strongly connected components of the transfer graph.

use super::ClusterScope;
use super::sets::DisjointSets;
use crate::graph::budget::{Halt, Interrupt, MemoryBudget, Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::query::adjacency::{Links, reserve, step};
use crate::graph::types::WalletId;

/// Components, as a label for each wallet.
pub(super) struct Labelled {
    pub labels: Vec<WalletId>,
    /// Number of transfers that count from each wallet, if all of them stay in its component.
    pub sent: Option<Vec<u32>>,
    pub halted: Option<Halt>,
}

/// Weakly connected components: a union-find over what the network's wallets sent. O(wallets +
/// transfers), nearly, with eight bytes a wallet.
pub(super) fn weak<W: Interrupt>(
    scope: &ClusterScope<'_, '_>,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<Labelled, SearchError> {
    let graph = scope.graph;
    let wallets = graph.wallets();
    reserve(memory, 8 * wallets as usize, wallets as usize)?;
    let mut sets = DisjointSets::new(wallets);
    let mut sent = vec![0_u32; wallets as usize];
    let mut halted = None;
    for (wallet, sent) in graph.wallet_ids().zip(&mut sent) {
        if !graph.is_of(wallet, scope.network) {
            continue;
        }
        let mut own = sets.find(wallet);
        let scan = graph.receivers(wallet, &scope.filter, |peer| -> Result<(), Stop> {
            if let Some(peer) = peer {
                *sent += 1;
                let other = sets.find(peer);
                if other != own {
                    own = sets.join(own, other);
                }
            }
            step(pace)
        });
        halted = Stop::halt(scan)?.or(pace.step(0));
        if halted.is_some() {
            break;
        }
    }
    Ok(Labelled { labels: into_roots(sets, pace), sent: Some(sent), halted })
}

/// Flattens sets, so that every wallet points at its root.
pub(super) fn into_roots<W: Interrupt>(mut sets: DisjointSets, pace: &mut Pace<'_, W>) -> Vec<WalletId> {
    for wallet in sets.wallet_ids() {
        let root = sets.find(wallet);
        sets.hang(wallet, root);
        // Only checks for cancellation: a partial result is still completed.
        let _ = pace.step(0);
    }
    sets.into_parents()
}

/// Not visited yet.
const NEW: u32 = u32::MAX;

/// Strongly connected components: the algorithm of R. Tarjan, "Depth-First Search and Linear Graph
/// Algorithms", SIAM J. Comput. 1(2), 1972, with an explicit stack instead of recursion. O(nodes +
/// pairs), with 21 bytes a node in addition to the pairs.
pub(super) fn strong<W: Interrupt>(
    scope: &ClusterScope<'_, '_>,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<Labelled, SearchError> {
    let graph = scope.graph;
    let wallets = graph.wallets();
    reserve(memory, 4 * wallets as usize, wallets as usize)?;
    let mut labels: Vec<WalletId> = graph.wallet_ids().collect();
    let links = match Links::new(graph, scope.network, &scope.filter, memory, pace) {
        Ok(links) => links,
        Err(stop) => return Ok(Labelled { labels, sent: None, halted: Some(stop.into_halt()?) }),
    };
    let nodes = links.wallets.len();
    reserve(memory, 21 * nodes, nodes)?;
    let mut search = Tarjan {
        links: &links,
        numbers: vec![NEW; nodes],
        lowest: vec![NEW; nodes],
        waiting: vec![false; nodes],
        stack: Vec::new(),
        walk: Vec::new(),
        next: 0,
    };
    for node in 0..nodes as u32 {
        if search.numbers.get(node as usize) == Some(&NEW)
            && let Some(halt) = search.walk_from(node, &mut labels, pace)
        {
            return Ok(Labelled { labels, sent: None, halted: Some(halt) });
        }
    }
    Ok(Labelled { labels, sent: None, halted: None })
}

struct Tarjan<'l> {
    links: &'l Links,
    /// Numbers in the order of the visit.
    numbers: Vec<u32>,
    /// Lowest number on the stack that can be reached.
    lowest: Vec<u32>,
    /// Nodes that are on the stack.
    waiting: Vec<bool>,
    stack: Vec<u32>,
    /// Path to the current node: nodes, and the number of their peers visited.
    walk: Vec<(u32, u32)>,
    next: u32,
}

impl Tarjan<'_> {
    fn enter(&mut self, node: u32) {
        self.numbers[node as usize] = self.next;
        self.lowest[node as usize] = self.next;
        self.waiting[node as usize] = true;
        self.next += 1;
        self.stack.push(node);
        self.walk.push((node, 0));
    }

    /// Finds the components that can be reached from a node and have not been found. Nodes are
    /// numbered as in the links.
    fn walk_from<W: Interrupt>(&mut self, start: u32, labels: &mut [WalletId], pace: &mut Pace<'_, W>) -> Option<Halt> {
        self.enter(start);
        while let Some((node, visited)) = self.walk.last_mut() {
            if let Some(halt) = pace.step(0) {
                return Some(halt);
            }
            let node = *node;
            if let Some(peer) = self.links.out.of(node as usize).0.get(*visited as usize).copied() {
                *visited += 1;
                if self.numbers[peer as usize] == NEW {
                    self.enter(peer);
                } else if self.waiting[peer as usize] {
                    let lowest = self.lowest[node as usize].min(self.numbers[peer as usize]);
                    self.lowest[node as usize] = lowest;
                }
                continue;
            }
            self.walk.pop();
            let lowest = self.lowest[node as usize];
            if let Some((before, _)) = self.walk.last() {
                let lowest_before = &mut self.lowest[*before as usize];
                *lowest_before = lowest.min(*lowest_before);
            }
            if lowest == self.numbers[node as usize] {
                self.close(node, labels, pace);
            }
        }
        None
    }

    /// Removes a component from the stack.
    fn close<W: Interrupt>(&mut self, root: u32, labels: &mut [WalletId], pace: &mut Pace<'_, W>) {
        let name = self.links.wallets[root as usize];
        while let Some(node) = self.stack.pop() {
            self.waiting[node as usize] = false;
            if let Some(label) = labels.get_mut(self.links.wallets[node as usize].index()) {
                *label = name;
            }
            let _ = pace.step(0);
            if node == root {
                return;
            }
        }
    }
}
