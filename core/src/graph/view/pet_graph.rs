//! Petgraph's traits on a [`Graph`], so that its algorithms run on the mapped file without a copy.
//!
//! Frequent questions about large graphs have their own kernels
//! ([`connections`](crate::graph::connections()), [`reach`](crate::graph::reach()),
//! [`shortest_paths`](crate::graph::shortest_paths())), which respect limits, check for
//! cancellation and build no list of edges. Petgraph's algorithms do none of that. For `n` wallets
//! and `e` edges, each of which costs a read of the graph:
//!
//! | algorithm | time | use |
//! |---|---|---|
//! | `dijkstra`, `astar` | O((n + e) log n) | distances to all wallets, custom costs, a heuristic |
//! | `k_shortest_path` | O(k e log(k e)) | cost of the k-th walk to each wallet; loops allowed |
//! | `kosaraju_scc` | O(n + e), twice | cycles of funds, in graphs of any size |
//! | `tarjan_scc` | O(n + e) | the same in small graphs: it recurses once per wallet of a chain |
//! | `page_rank` | O(n e) a round | thousands of wallets; it counts edges, not their value |

use std::cell::Cell;
use std::fmt;
use std::vec::IntoIter;

use petgraph::Directed;
use petgraph::visit::{
    Data, EdgeCount, EdgeRef, GraphBase, GraphProp, GraphRef, IntoEdgeReferences, IntoEdges, IntoEdgesDirected,
    IntoNeighbors, IntoNeighborsDirected, IntoNodeIdentifiers, IntoNodeReferences, NodeCompactIndexable, NodeCount,
    NodeIndexable, VisitMap, Visitable,
};

use crate::graph::error::Damaged;
use crate::graph::types::{AssetId, Side, WalletId, WalletIds};
use crate::graph::view::filter::{Edge, EdgeFilter};
use crate::graph::view::graph::Graph;

/// Damage met while an algorithm ran: petgraph cannot report errors.
#[derive(Debug, Default)]
pub struct DamageFlag(Cell<Option<Damaged>>);

impl DamageFlag {
    /// No damage.
    #[must_use]
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// Returns an error if the result of an algorithm must not be used.
    ///
    /// # Errors
    /// The first damage: edges of some wallets were missing.
    pub fn check(&self) -> Result<(), Damaged> {
        self.0.get().map_or(Ok(()), Err)
    }
}

/// Wallets and the edges that count, from sender to receiver, one per asset. A handle to copy.
pub struct PetGraph<'g> {
    graph: &'g Graph<'g>,
    filter: &'g EdgeFilter,
    damage: &'g DamageFlag,
}

impl<'g> PetGraph<'g> {
    /// Edges of the transfers that `filter` counts. A wallet whose edges cannot be read has none,
    /// and `damage` records the error.
    #[must_use]
    pub const fn new(graph: &'g Graph<'g>, filter: &'g EdgeFilter, damage: &'g DamageFlag) -> Self {
        Self { graph, filter, damage }
    }

    /// Returns the edges of a wallet on one side, by peer and asset.
    fn on_side(&self, wallet: WalletId, side: Side) -> Vec<Transferred> {
        let mut edges = Vec::with_capacity(self.graph.degree(wallet, side));
        let read = self.graph.edges(wallet, side, self.filter, |edge| -> Result<(), Damaged> {
            let (source, target) = if side == Side::Out { (wallet, edge.peer) } else { (edge.peer, wallet) };
            // The second part of a sum beyond 256 bits is not an edge: the first part has the
            // maximum value.
            if edge.transfers > 0 {
                edges.push(Transferred { source, target, edge });
            }
            Ok(())
        });
        if let Err(damaged) = read {
            self.damage.0.set(self.damage.0.get().or(Some(damaged)));
            return Vec::new();
        }
        let key = |transferred: &Transferred| (transferred.edge.peer, transferred.edge.asset);
        if !edges.is_sorted_by_key(key) {
            edges.sort_unstable_by_key(key);
        }
        edges
    }

    fn towards(&self, wallet: WalletId, direction: petgraph::Direction) -> Vec<Transferred> {
        match direction {
            petgraph::Direction::Outgoing => self.on_side(wallet, Side::Out),
            petgraph::Direction::Incoming => self.on_side(wallet, Side::In),
        }
    }
}

impl Clone for PetGraph<'_> {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for PetGraph<'_> {}

impl fmt::Debug for PetGraph<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PetGraph").field("filter", self.filter).field("damage", self.damage).finish_non_exhaustive()
    }
}

/// Transfers of one asset from one wallet to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transferred {
    source: WalletId,
    target: WalletId,
    edge: Edge,
}

impl EdgeRef for Transferred {
    type NodeId = WalletId;
    type EdgeId = (WalletId, WalletId, AssetId);
    type Weight = Edge;

    fn source(&self) -> WalletId {
        self.source
    }

    fn target(&self) -> WalletId {
        self.target
    }

    /// Its peer is the wallet at the other end from the one that the edge was asked of.
    fn weight(&self) -> &Edge {
        &self.edge
    }

    fn id(&self) -> (WalletId, WalletId, AssetId) {
        (self.source, self.target, self.edge.asset)
    }
}

/// Edges of one wallet.
#[derive(Debug, Clone)]
pub struct WalletEdges(IntoIter<Transferred>);

impl Iterator for WalletEdges {
    type Item = Transferred;

    fn next(&mut self) -> Option<Transferred> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// Wallets at the other ends of one wallet's edges: once an edge, as petgraph's own graphs have it.
#[derive(Debug, Clone)]
pub struct Peers(IntoIter<Transferred>);

impl Iterator for Peers {
    type Item = WalletId;

    fn next(&mut self) -> Option<WalletId> {
        self.0.next().map(|transferred| transferred.edge.peer)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// All edges of a graph, wallet by wallet.
pub struct AllEdges<'g> {
    graph: PetGraph<'g>,
    wallets: WalletIds,
    edges: IntoIter<Transferred>,
}

impl Iterator for AllEdges<'_> {
    type Item = Transferred;

    fn next(&mut self) -> Option<Transferred> {
        loop {
            if let Some(edge) = self.edges.next() {
                return Some(edge);
            }
            self.edges = self.graph.on_side(self.wallets.next()?, Side::Out).into_iter();
        }
    }
}

/// Wallets as nodes without a weight.
#[derive(Debug, Clone)]
pub struct Wallets(WalletIds);

impl Iterator for Wallets {
    type Item = (WalletId, &'static ());

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|wallet| (wallet, &()))
    }
}

/// Wallets that an algorithm has visited.
#[derive(Debug, Clone, Default)]
pub struct WalletSet(Vec<bool>);

impl VisitMap<WalletId> for WalletSet {
    fn visit(&mut self, wallet: WalletId) -> bool {
        self.0.get_mut(wallet.index()).is_some_and(|visited| !std::mem::replace(visited, true))
    }

    fn is_visited(&self, wallet: &WalletId) -> bool {
        self.0.get(wallet.index()).copied().unwrap_or(false)
    }

    fn unvisit(&mut self, wallet: WalletId) -> bool {
        self.0.get_mut(wallet.index()).is_some_and(std::mem::take)
    }
}

impl GraphBase for PetGraph<'_> {
    type NodeId = WalletId;
    type EdgeId = (WalletId, WalletId, AssetId);
}

impl GraphRef for PetGraph<'_> {}

impl GraphProp for PetGraph<'_> {
    type EdgeType = Directed;
}

impl Data for PetGraph<'_> {
    type NodeWeight = ();
    type EdgeWeight = Edge;
}

impl NodeCount for PetGraph<'_> {
    fn node_count(&self) -> usize {
        self.node_identifiers().len()
    }
}

impl NodeIndexable for PetGraph<'_> {
    fn node_bound(&self) -> usize {
        self.node_count()
    }

    // Ids of wallets begin at 1.
    fn to_index(&self, wallet: WalletId) -> usize {
        wallet.index().saturating_sub(1)
    }

    fn from_index(&self, index: usize) -> WalletId {
        WalletId::new(index as u32 + 1)
    }
}

impl NodeCompactIndexable for PetGraph<'_> {}

impl EdgeCount for PetGraph<'_> {
    /// Reads every edge, because only reading shows which of them count.
    fn edge_count(&self) -> usize {
        self.edge_references().count()
    }
}

impl Visitable for PetGraph<'_> {
    type Map = WalletSet;

    fn visit_map(&self) -> WalletSet {
        WalletSet(vec![false; self.graph.wallets() as usize])
    }

    fn reset_map(&self, map: &mut WalletSet) {
        map.0.clear();
        map.0.resize(self.graph.wallets() as usize, false);
    }
}

impl IntoNodeIdentifiers for PetGraph<'_> {
    type NodeIdentifiers = WalletIds;

    fn node_identifiers(self) -> WalletIds {
        // Without the missing sender.
        WalletIds::new(1, self.graph.wallets())
    }
}

impl IntoNodeReferences for PetGraph<'_> {
    type NodeRef = (WalletId, &'static ());
    type NodeReferences = Wallets;

    fn node_references(self) -> Wallets {
        Wallets(self.node_identifiers())
    }
}

impl IntoNeighbors for PetGraph<'_> {
    type Neighbors = Peers;

    fn neighbors(self, wallet: WalletId) -> Peers {
        Peers(self.on_side(wallet, Side::Out).into_iter())
    }
}

impl IntoNeighborsDirected for PetGraph<'_> {
    type NeighborsDirected = Peers;

    fn neighbors_directed(self, wallet: WalletId, direction: petgraph::Direction) -> Peers {
        Peers(self.towards(wallet, direction).into_iter())
    }
}

impl<'g> IntoEdgeReferences for PetGraph<'g> {
    type EdgeRef = Transferred;
    type EdgeReferences = AllEdges<'g>;

    fn edge_references(self) -> AllEdges<'g> {
        AllEdges { graph: self, wallets: self.node_identifiers(), edges: Vec::new().into_iter() }
    }
}

impl IntoEdges for PetGraph<'_> {
    type Edges = WalletEdges;

    fn edges(self, wallet: WalletId) -> WalletEdges {
        WalletEdges(self.on_side(wallet, Side::Out).into_iter())
    }
}

impl IntoEdgesDirected for PetGraph<'_> {
    type EdgesDirected = WalletEdges;

    fn edges_directed(self, wallet: WalletId, direction: petgraph::Direction) -> WalletEdges {
        WalletEdges(self.towards(wallet, direction).into_iter())
    }
}

#[cfg(test)]
mod tests;
