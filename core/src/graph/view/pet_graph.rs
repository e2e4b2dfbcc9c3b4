//! The graph as petgraph sees it.
//!
//! Owns petgraph's traits on a [`TransferGraph`], so that its algorithms run on the mapped file, without a copy of the graph. What
//! is asked often and of large graphs has kernels of its own ([`connections`](super::connections()), [`reach`](super::reach()),
//! [`shortest_paths`](super::shortest_paths)): they know limits, look at a watch and build no list of edges. Petgraph's
//! algorithms do none of that. For `n` wallets and `e` edges, of which each costs a look at the graph here:
//!
//! | algorithm | time | fits |
//! |---|---|---|
//! | `dijkstra`, `astar` | O((n + e) log n) | distances to everybody, costs of one's own, a heuristic |
//! | `k_shortest_path` | O(k e log(k e)) | costs of the k-th walk to everybody; walks may have loops |
//! | `kosaraju_scc` | O(n + e), twice | cycles of funds, in graphs of any size |
//! | `tarjan_scc` | O(n + e) | the same, in small graphs: it recurses as deep as there are wallets in a row, which ends on the stack |
//! | `page_rank` | O(n e) a round | a neighbourhood of some thousand wallets; it counts edges, not their value |

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

/// What was found to be wrong while an algorithm ran, which petgraph has no way to say.
#[derive(Debug, Default)]
pub struct Damage(Cell<Option<Damaged>>);

impl Damage {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// Says whether the result of what ran may be used.
    ///
    /// # Errors
    /// The first damage that was met: some wallets had fewer edges than they should have.
    pub fn check(&self) -> Result<(), Damaged> {
        self.0.get().map_or(Ok(()), Err)
    }
}

/// A graph's wallets and the edges that count, from sender to receiver: one an asset. A handle, to be copied.
pub struct PetGraph<'g> {
    graph: &'g Graph<'g>,
    filter: &'g EdgeFilter,
    damage: &'g Damage,
}

impl<'g> PetGraph<'g> {
    /// Of the transfers that count. A wallet whose edges cannot be read has none, and `damage` says so.
    #[must_use]
    pub const fn new(graph: &'g Graph<'g>, filter: &'g EdgeFilter, damage: &'g Damage) -> Self {
        Self { graph, filter, damage }
    }

    /// The edges of a wallet on one side, by peer and asset.
    fn on_side(&self, wallet: WalletId, side: Side) -> Vec<Transferred> {
        let mut edges = Vec::with_capacity(self.graph.degree(wallet, side));
        let read = self.graph.edges(wallet, side, self.filter, |edge| -> Result<(), Damaged> {
            let (source, target) = if side == Side::Out { (wallet, edge.peer) } else { (edge.peer, wallet) };
            // the second piece of a sum beyond 256 bits is no edge: the first piece has the largest value there is
            if edge.transfers > 0 {
                edges.push(Transferred { source, target, edge });
            }
            Ok(())
        });
        if let Err(damaged) = read {
            self.damage.0.set(self.damage.0.get().or(Some(damaged)));
            return Vec::new();
        }
        let key = |one: &Transferred| (one.edge.peer, one.edge.asset);
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

/// What one wallet sent another in one asset.
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
        self.0.next().map(|one| one.edge.peer)
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

/// Which wallets an algorithm has visited.
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
        self.graph.wallets() as usize
    }
}

impl NodeIndexable for PetGraph<'_> {
    fn node_bound(&self) -> usize {
        self.graph.wallets() as usize
    }

    fn to_index(&self, wallet: WalletId) -> usize {
        wallet.index()
    }

    fn from_index(&self, index: usize) -> WalletId {
        WalletId::new(index as u32)
    }
}

impl NodeCompactIndexable for PetGraph<'_> {}

impl EdgeCount for PetGraph<'_> {
    /// Looks at every edge: which of them count is known only then.
    fn edge_count(&self) -> usize {
        self.edge_references().count()
    }
}

impl Visitable for PetGraph<'_> {
    type Map = WalletSet;

    fn visit_map(&self) -> WalletSet {
        WalletSet(vec![false; self.node_bound()])
    }

    fn reset_map(&self, map: &mut WalletSet) {
        map.0.clear();
        map.0.resize(self.node_bound(), false);
    }
}

impl IntoNodeIdentifiers for PetGraph<'_> {
    type NodeIdentifiers = WalletIds;

    fn node_identifiers(self) -> WalletIds {
        self.graph.wallet_ids()
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
