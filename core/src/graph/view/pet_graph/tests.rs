use petgraph::algo::{astar, dijkstra, k_shortest_path, kosaraju_scc, page_rank, tarjan_scc};
use petgraph::graph::{DiGraph, NodeIndex};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::graph::file::format::HEADER_BYTES;
use crate::graph::test_graph::{Sent, TestGraph, name};
use crate::graph::*;

fn rows() -> impl Strategy<Value = Vec<Sent>> {
    let row = (0..12_u32, 0..12_u32, 0..2_u32, 0..9_i64, 0..50_u128);
    let row = row.prop_map(|(from, to, token, time, value)| Sent { from, to, token, time, value });
    prop::collection::vec(row, 1..60)
}

/// Builds the same graph from the rows, with the graph's wallet ids as indexes.
fn peer_of(test: &TestGraph, rows: &[Sent]) -> DiGraph<(), u64> {
    let mut edges: BTreeMap<(WalletId, WalletId, u32), u64> = BTreeMap::new();
    for row in rows {
        *edges.entry((test.wallet(row.from), test.wallet(row.to), row.token)).or_default() += 1;
    }
    let mut peer = DiGraph::new();
    for _ in 1..test.graph().wallets() {
        peer.add_node(());
    }
    for ((from, to, _), transfers) in edges {
        peer.add_edge(node(from), node(to), transfers);
    }
    peer
}

/// Number 0 stands for a missing sender, and is no node.
fn node(wallet: WalletId) -> NodeIndex {
    NodeIndex::new(wallet.index() - 1)
}

fn sorted(parts: Vec<Vec<usize>>) -> BTreeSet<BTreeSet<usize>> {
    parts.into_iter().map(|part| part.into_iter().collect()).collect()
}

fn by_index(costs: impl IntoIterator<Item = (WalletId, u64)>) -> BTreeMap<usize, u64> {
    costs.into_iter().map(|(wallet, cost)| (node(wallet).index(), cost)).collect()
}

fn by_node(costs: impl IntoIterator<Item = (NodeIndex, u64)>) -> BTreeMap<usize, u64> {
    costs.into_iter().map(|(node, cost)| (node.index(), cost)).collect()
}

proptest! {
    #[test]
    fn algorithms_agree_with_petgraphs_own_graph(rows in rows(), overlay_rows in 0_usize..30, goal in 0..12_u32) {
        let test = TestGraph::new(&rows, overlay_rows);
        let graph = test.graph();
        let filter = EdgeFilter { assets: AssetSelection::All, ..EdgeFilter::default() };
        let damage = DamageFlag::new();
        let pet = PetGraph::new(&graph, &filter, &damage);
        let peer = peer_of(&test, &rows);
        let start = test.wallet(rows[0].from);
        let transfers = |edge: Transferred| edge.weight().transfers;

        prop_assert_eq!((pet.node_count(), pet.edge_count()), (peer.node_count(), peer.edge_count()));
        prop_assert_eq!(
            by_index(dijkstra(pet, start, None, transfers)),
            by_node(dijkstra(&peer, node(start), None, |edge| *edge.weight()))
        );
        let goal = test.wallet(goal);
        let way = astar(pet, start, |one| one == goal, transfers, |_| 0);
        let expected = astar(&peer, node(start), |one| one == node(goal), |edge| *edge.weight(), |_| 0);
        prop_assert_eq!(way.as_ref().map(|way| way.0), expected.as_ref().map(|way| way.0));
        if let Some((_, wallets)) = way {
            prop_assert!(wallets.windows(2).all(|pair| peer.contains_edge(node(pair[0]), node(pair[1]))));
        }
        prop_assert_eq!(
            by_index(k_shortest_path(pet, start, None, 3, transfers)),
            by_node(k_shortest_path(&peer, node(start), None, 3, |edge| *edge.weight()))
        );
        let parts = |parts: Vec<Vec<WalletId>>| {
            sorted(parts.into_iter().map(|part| part.into_iter().map(|one| node(one).index()).collect()).collect())
        };
        let expected = sorted(kosaraju_scc(&peer).into_iter().map(|part| part.iter().map(|one| one.index()).collect()).collect());
        prop_assert_eq!(parts(kosaraju_scc(pet)), expected.clone());
        prop_assert_eq!(parts(tarjan_scc(pet)), expected);
        prop_assert_eq!(page_rank(pet, 0.85_f64, 7), page_rank(&peer, 0.85_f64, 7));
        prop_assert_eq!(damage.check(), Ok(()));
    }

    #[test]
    fn edges_are_the_same_from_both_ends(rows in rows(), overlay_rows in 0_usize..30) {
        let test = TestGraph::new(&rows, overlay_rows);
        let graph = test.graph();
        let (filter, damage) = (EdgeFilter::default(), DamageFlag::new());
        let pet = PetGraph::new(&graph, &filter, &damage);
        prop_assert!(pet.is_directed());
        let ids = |direction| -> Vec<_> {
            let mut ids: Vec<_> =
                pet.node_identifiers().flat_map(|wallet| pet.edges_directed(wallet, direction)).map(|edge| edge.id()).collect();
            ids.sort_unstable();
            ids
        };
        let all: Vec<_> = pet.edge_references().map(|edge| edge.id()).collect();
        prop_assert_eq!(ids(petgraph::Direction::Outgoing), all.clone());
        prop_assert_eq!(ids(petgraph::Direction::Incoming), all.clone());
        prop_assert!(all.iter().all(|id| id.2 == AssetId::NATIVE));
        for (wallet, ()) in pet.node_references() {
            prop_assert!(pet.neighbors(wallet).eq(pet.edges(wallet).map(|edge| edge.target())));
            let payers = pet.neighbors_directed(wallet, petgraph::Direction::Incoming);
            prop_assert!(payers.eq(pet.edges_directed(wallet, petgraph::Direction::Incoming).map(|edge| edge.source())));
        }
    }
}

#[test]
fn a_visit_map_remembers_visits() {
    let test = TestGraph::new(&[Sent::coins(0, 1, 1)], 0);
    let graph = test.graph();
    let (filter, damage) = (EdgeFilter::default(), DamageFlag::new());
    let pet = PetGraph::new(&graph, &filter, &damage);
    let [a, b] = [0, 1].map(WalletId::new);
    let mut map = pet.visit_map();
    assert_eq!((map.visit(b), map.visit(b), map.is_visited(&b), map.is_visited(&a)), (true, false, true, false));
    assert_eq!((map.unvisit(b), map.unvisit(b), map.is_visited(&b)), (true, false, false));
    map.visit(a);
    pet.reset_map(&mut map);
    assert!(!map.is_visited(&a));
}

/// Returns a base in which the edges of wallet 0 can be read and those of wallet 1 cannot.
fn damaged_base() -> Base<HeapBuffer> {
    let intact = TestGraph::new(&[Sent::coins(0, 1, 1), Sent::coins(1, 2, 1)], 0);
    let bytes = intact.base_bytes();
    let readable = |graph: &Graph<'_>, number| {
        let wallet = intact.wallet(number);
        graph.edges(wallet, Side::Out, &EdgeFilter::default(), |_| Ok::<_, Damaged>(())).is_ok()
    };
    (HEADER_BYTES..bytes.len())
        .find_map(|position| {
            let mut copy = HeapScratch.allocate(bytes.len()).unwrap();
            copy[..bytes.len()].copy_from_slice(bytes);
            copy[position] = 0xff;
            let base = Base::open(copy).ok()?;
            let overlay = Overlay::new();
            let graph = Graph::new(&base, &overlay);
            let found = readable(&graph, 0) && !readable(&graph, 1);
            drop(overlay);
            found.then_some(base)
        })
        .unwrap()
}

#[test]
fn damage_removes_edges_and_is_reported() {
    let (filter, damage) = (EdgeFilter::default(), DamageFlag::new());
    let (base, overlay) = (damaged_base(), Overlay::new());
    let graph = Graph::new(&base, &overlay);
    let pet = PetGraph::new(&graph, &filter, &damage);
    let source = graph.wallet("testnet", &name(0)).unwrap().unwrap();
    assert_eq!(dijkstra(pet, source, None, |_| 1).len(), 2);
    assert!(damage.check().is_err());
}
