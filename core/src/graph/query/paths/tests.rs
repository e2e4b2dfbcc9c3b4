use std::collections::{BTreeMap, BTreeSet};

use petgraph::graph::{DiGraph, NodeIndex};
use proptest::prelude::*;

use crate::graph::test_graph::{Patience, Sent, TestGraph, limits, name};
use crate::graph::*;

const DAY: i64 = 86_400_000_000;
const NOW: i64 = 20 * DAY;

fn rows() -> impl Strategy<Value = Vec<Sent>> {
    // Few distinct values and times, for ties.
    let value = prop_oneof![0_u128..4, Just(1 << 100), Just(u128::MAX)];
    let row = (0..9_u32, 0..9_u32, 0..2_u32, 0..25_i64, value);
    let row = row.prop_map(|(from, to, token, day, value)| Sent { from, to, token, time: day * DAY, value });
    prop::collection::vec(row, 0..40)
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Out), Just(Direction::In), Just(Direction::Both)]
}

/// Transfers from one wallet to another, computed from rows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ExpectedPair {
    transfers: u64,
    value: U256,
    first: i64,
    last: i64,
    token: Option<u32>,
}

fn pairs(rows: &[Sent], native_only: bool, min_transfers: u64) -> BTreeMap<(u32, u32), ExpectedPair> {
    let mut by_asset: BTreeMap<(u32, u32, u32), ExpectedPair> = BTreeMap::new();
    for row in rows.iter().filter(|row| !native_only || row.token == 0) {
        let none =
            ExpectedPair { transfers: 0, value: U256::ZERO, first: i64::MAX, last: i64::MIN, token: Some(row.token) };
        let pair = by_asset.entry((row.from, row.to, row.token)).or_insert(none);
        pair.transfers += 1;
        pair.value += U256::new(row.value);
        pair.first = pair.first.min(row.time);
        pair.last = pair.last.max(row.time);
    }
    let mut all: BTreeMap<(u32, u32), ExpectedPair> = BTreeMap::new();
    for ((from, to, _), pair) in by_asset.into_iter().filter(|(_, pair)| pair.transfers >= min_transfers) {
        all.entry((from, to))
            .and_modify(|sum| {
                *sum = ExpectedPair {
                    transfers: sum.transfers + pair.transfers,
                    value: U256::ZERO,
                    first: sum.first.min(pair.first),
                    last: sum.last.max(pair.last),
                    token: None,
                }
            })
            .or_insert(pair);
    }
    all
}

/// A step as a test sees it, by cost in whole units.
type Seen = (u64, (u32, u32), ExpectedPair);

/// Every step that may be walked: the cheaper where there are two, the forward one where they are
/// equal.
fn walkable(rows: &[Sent], direction: Direction, filter: &EdgeFilter, weight: Weight) -> BTreeMap<(u32, u32), Seen> {
    let pairs = pairs(rows, filter.assets == AssetSelection::Native, filter.min_transfers);
    let mut totals: BTreeMap<u32, U256> = BTreeMap::new();
    for ((from, to), pair) in &pairs {
        if direction != Direction::In {
            *totals.entry(*from).or_insert(U256::ZERO) += pair.value;
        }
        if direction != Direction::Out {
            *totals.entry(*to).or_insert(U256::ZERO) += pair.value;
        }
    }
    let mut steps: BTreeMap<(u32, u32), Seen> = BTreeMap::new();
    let mut add = |left: u32, entered: u32, ends: (u32, u32), pair: ExpectedPair| {
        let cost = match weight {
            Weight::Hops => 1,
            Weight::Value if pair.value == U256::ZERO => return,
            Weight::Value => {
                let share = pair.value.as_f64() / totals[&left].as_f64();
                (-share.ln() * 2_f64.powi(40)).round() as u64
            }
            Weight::Recency { now } => (now - pair.last).max(0) as u64,
        };
        let known = steps.entry((left, entered)).or_insert((cost, ends, pair));
        if cost < known.0 {
            *known = (cost, ends, pair);
        }
    };
    if direction != Direction::In {
        pairs.iter().for_each(|((from, to), pair)| add(*from, *to, (*from, *to), *pair));
    }
    if direction != Direction::Out {
        pairs.iter().for_each(|((from, to), pair)| add(*to, *from, (*from, *to), *pair));
    }
    steps
}

/// Returns all loopless paths in order.
fn all_paths(
    steps: &BTreeMap<(u32, u32), Seen>,
    source: u32,
    target: u32,
    max_hops: usize,
) -> Vec<(u64, usize, Vec<String>, Vec<u32>)> {
    let mut found = Vec::new();
    let mut open = vec![(0, vec![source])];
    while let Some((cost, wallets)) = open.pop() {
        let at = wallets[wallets.len() - 1];
        if at == target {
            found.push((cost, wallets.len() - 1, wallets.iter().map(|wallet| name(*wallet)).collect(), wallets));
        } else if wallets.len() <= max_hops {
            for ((_, next), step) in steps.range((at, 0)..=(at, u32::MAX)) {
                if !wallets.contains(next) {
                    open.push((cost + step.0, [wallets.as_slice(), &[*next]].concat()));
                }
            }
        }
    }
    found.sort();
    found
}

fn unit(weight: Weight) -> f64 {
    match weight {
        Weight::Hops => 1.0,
        Weight::Value => 2_f64.powi(40),
        Weight::Recency { .. } => DAY as f64,
    }
}

/// Whole costs may be rounded differently in a test, in the last of their 40 binary places.
fn close(value: f64, other: f64) -> bool {
    (value - other).abs() < 1e-9
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn paths_are_the_first_loopless_paths(
        rows in rows(),
        overlay_rows in 0_usize..20,
        direction in direction(),
        weight in prop_oneof![Just(Weight::Hops), Just(Weight::Value), Just(Weight::Recency { now: NOW })],
        native_only in any::<bool>(),
        min_transfers in 1_u64..3,
        depth in 1_i32..9,
        k in prop_oneof![Just(1), 1_i32..12, Just(100)],
        ends in (0..9_u32, 1..9_u32),
    ) {
        let test = TestGraph::new(&rows, overlay_rows);
        let graph = test.graph();
        let assets = if native_only || weight == Weight::Value { AssetSelection::Native } else { AssetSelection::All };
        let filter = EdgeFilter { assets, min_transfers, ..EdgeFilter::default() };
        let (source, target) = (ends.0, (ends.0 + ends.1) % 9);
        let search = || shortest_paths(
            &graph, test.wallet(source), test.wallet(target), direction, &filter, weight, k, &limits(depth), &mut Uninterrupted,
        );
        let paths = match search() {
            Err(SearchError::ValueOverflow) => {
                // Sums of a few `u128` fit into 256 bits.
                return Err(TestCaseError::fail("overflow"));
            }
            found => found.unwrap(),
        };
        prop_assert_eq!(&paths, &search().unwrap());
        prop_assert_eq!(paths.halted, None);

        let steps = walkable(&rows, direction, &filter, weight);
        let expected = all_paths(&steps, source, target, depth as usize);
        prop_assert_eq!(paths.paths.len(), expected.len().min(k as usize));
        let exact = weight != Weight::Value;
        let mut seen = BTreeSet::new();
        for (path, (cost, _, _, wallets)) in paths.paths.iter().zip(&expected) {
            let numbers: Vec<u32> = path.wallets.iter().map(|wallet| test.number(*wallet)).collect();
            prop_assert!(close(path.cost, *cost as f64 / unit(weight)), "{} {}", path.cost, cost);
            if exact {
                prop_assert_eq!(&numbers, wallets);
            }
            prop_assert_eq!(path.steps.len() + 1, numbers.len());
            prop_assert!(path.steps.len() <= depth as usize);
            let mut sum = 0.0;
            for (number, step) in path.steps.iter().enumerate() {
                let (_, ends, pair) = steps[&(numbers[number], numbers[number + 1])];
                let cost = steps[&(numbers[number], numbers[number + 1])].0;
                prop_assert_eq!((test.number(step.from), test.number(step.to)), ends);
                let value = (step.transfers, step.value, step.first, step.last, step.asset);
                let asset = pair.token.map(|token| test.token(token));
                prop_assert_eq!(value, (pair.transfers, pair.value, pair.first, pair.last, asset));
                prop_assert!(close(step.cost, cost as f64 / unit(weight)));
                sum += step.cost;
            }
            prop_assert!(close(path.cost, sum));
            prop_assert!(seen.insert(numbers));
        }
        // The order is that of exact sums, in spite of rounding.
        let order = |path: &Path| (path.wallets.len(), path.wallets.iter().map(|wallet| graph.order(*wallet)).collect::<Vec<_>>());
        prop_assert!(paths.paths.is_sorted_by(|a, b| a.cost < b.cost || (a.cost == b.cost && order(a) < order(b))));
    }

    #[test]
    fn the_cheapest_path_agrees_with_petgraph(rows in rows(), direction in direction(), target in 1..9_u32) {
        let test = TestGraph::new(&rows, 0);
        for weight in [Weight::Hops, Weight::Value, Weight::Recency { now: NOW }] {
            let steps = walkable(&rows, direction, &EdgeFilter::default(), weight);
            let edges = steps.iter().map(|((from, to), step)| (*from, *to, step.0));
            let mut peer: DiGraph<(), u64> = DiGraph::from_edges(edges);
            while peer.node_count() < 9 {
                peer.add_node(());
            }
            let expected = petgraph::algo::dijkstra(&peer, NodeIndex::new(0), None, |edge| *edge.weight());
            let found = shortest_paths(
                &test.graph(), test.wallet(0), test.wallet(target), direction, &EdgeFilter::default(), weight, 1, &limits(32),
                &mut Uninterrupted,
            );
            let found = found.unwrap().paths;
            match expected.get(&NodeIndex::new(target as usize)) {
                Some(cost) => prop_assert!(close(found[0].cost, *cost as f64 / unit(weight))),
                None => prop_assert!(found.is_empty()),
            }
        }
    }

    #[test]
    fn limits_end_searches_with_real_paths(rows in rows(), direction in direction(), max_wallets in 1_u64..9, checks in 1_u32..6) {
        let test = TestGraph::new(&rows, 5);
        let graph = test.graph();
        for weight in [Weight::Hops, Weight::Value, Weight::Recency { now: NOW }] {
            let bounded = SearchLimits { max_wallets: Some(max_wallets), ..limits(8) };
            let filter = EdgeFilter::default();
            let all = |limits: &SearchLimits, checks: u32| {
                shortest_paths(&graph, test.wallet(0), test.wallet(1), direction, &filter, weight, 5, limits, &mut Patience(checks))
                    .unwrap()
            };
            let free = all(&limits(8), u32::MAX);
            for paths in [all(&bounded, u32::MAX), all(&limits(8), checks)] {
                if paths.halted.is_none() {
                    prop_assert_eq!(&paths, &free);
                }
                for path in &paths.paths {
                    prop_assert_eq!((path.wallets[0], *path.wallets.last().unwrap()), (test.wallet(0), test.wallet(1)));
                    prop_assert_eq!(path.wallets.len(), path.wallets.iter().collect::<BTreeSet<_>>().len());
                }
            }
        }
    }
}

/// A chain of wallets, each of which pays the next.
fn chain(length: u32) -> Vec<Sent> {
    (0..length).map(|from| Sent::coins(from, from + 1, 1)).collect()
}

fn one(
    test: &TestGraph,
    ends: (u32, u32),
    weight: Weight,
    k: i32,
    limits: &SearchLimits,
) -> Result<Paths, SearchError> {
    let (source, target) = (test.wallet(ends.0), test.wallet(ends.1));
    shortest_paths(
        &test.graph(),
        source,
        target,
        Direction::Out,
        &EdgeFilter::default(),
        weight,
        k,
        limits,
        &mut Uninterrupted,
    )
}

const WEIGHTS: [Weight; 3] = [Weight::Hops, Weight::Value, Weight::Recency { now: NOW }];

#[test]
fn a_wallet_is_its_own_path() {
    let test = TestGraph::new(&chain(2), 0);
    for weight in WEIGHTS {
        let paths = one(&test, (1, 1), weight, 9, &limits(3)).unwrap();
        assert_eq!(paths.paths, [Path { wallets: vec![test.wallet(1)], steps: vec![], cost: 0.0 }]);
    }
}

#[test]
fn the_number_of_hops_is_limited_exactly() {
    let test = TestGraph::new(&chain(32), 10);
    for weight in WEIGHTS {
        for hops in 1..=32_u32 {
            let too_short = if hops > 1 {
                one(&test, (0, hops), weight, 1, &limits(hops as i32 - 1)).unwrap().paths
            } else {
                vec![]
            };
            assert!(too_short.is_empty());
            let found = one(&test, (0, hops), weight, 3, &limits(hops as i32)).unwrap().paths;
            assert_eq!(found.iter().map(|path| path.steps.len() as u32).collect::<Vec<_>>(), [hops]);
        }
    }
}

#[test]
fn invalid_arguments_are_refused() {
    let test = TestGraph::new(&chain(2), 0);
    for depth in [i32::MIN, 0, 33] {
        assert_eq!(one(&test, (0, 1), Weight::Hops, 1, &limits(depth)), Err(SearchError::Depth { depth, limit: 32 }));
    }
    for k in [i32::MIN, 0, 101] {
        assert_eq!(one(&test, (0, 1), Weight::Hops, k, &limits(1)), Err(SearchError::Paths { k, limit: 100 }));
    }
    for assets in [AssetSelection::All, AssetSelection::Tokens] {
        let filter = EdgeFilter { assets, ..EdgeFilter::default() };
        let found = shortest_paths(
            &test.graph(),
            WalletId::new(0),
            WalletId::new(1),
            Direction::Out,
            &filter,
            Weight::Value,
            1,
            &limits(1),
            &mut Uninterrupted,
        );
        assert_eq!(found, Err(SearchError::SeveralAssets));
    }
}

#[test]
fn memory_is_an_error_and_time_or_wallets_end_the_search() {
    let rows: Vec<Sent> =
        (1..400).flat_map(|peer| [Sent::coins(0, peer, 1), Sent::coins(peer, 400 + peer, 1)]).collect();
    let test = TestGraph::new(&rows, 0);
    for weight in WEIGHTS {
        let budget = if weight == Weight::Hops { 60 } else { 900 };
        let tight = SearchLimits { memory: MemoryBudget::new(budget), ..limits(3) };
        let found = one(&test, (0, 500), weight, 1, &tight);
        assert!(matches!(found, Err(SearchError::Memory { budget: reported, .. }) if reported == budget), "{found:?}");
        let few = SearchLimits { max_wallets: Some(3), ..limits(3) };
        let paths = one(&test, (0, 500), weight, 1, &few).unwrap();
        // By hops, the hub is not expanded.
        let expected = if weight == Weight::Hops { (1, None) } else { (0, Some(Halt::Wallets)) };
        assert_eq!((paths.paths.len(), paths.halted), expected);
        // The target has no edges, so there is nothing to expand.
        let paths = one(&test, (0, 999), weight, 1, &few).unwrap();
        assert_eq!((paths.paths.len(), paths.halted), (0, None));
        let paths = shortest_paths(
            &test.graph(),
            test.wallet(0),
            test.wallet(500),
            Direction::Out,
            &EdgeFilter::default(),
            weight,
            1,
            &limits(3),
            &mut Patience(1),
        );
        assert_eq!(paths.unwrap().halted, Some(Halt::Time));
        let needed = SearchLimits { max_wallets: Some(4), ..limits(3) };
        let paths = one(&test, (0, 500), Weight::Hops, 1, &needed).unwrap();
        assert_eq!((paths.paths.len(), paths.halted), (1, None));
    }
}

#[test]
fn a_hub_between_two_wallets_is_not_expanded() {
    // All wallets pay the hub, and the hub pays all wallets.
    let mut rows: Vec<Sent> = (1..900).flat_map(|peer| [Sent::coins(0, peer, 1), Sent::coins(peer, 0, 1)]).collect();
    rows.push(Sent::coins(1, 950, 1));
    rows.push(Sent::coins(950, 2, 1));
    let test = TestGraph::new(&rows, 2);
    // Neither its payers nor its receivers are visited: only 1, 950, 2 and the hub.
    let few = SearchLimits { max_wallets: Some(6), ..limits(4) };
    let paths = one(&test, (1, 2), Weight::Hops, 1, &few).unwrap();
    assert_eq!(paths.halted, None);
    let numbers = |path: &Path| path.wallets.iter().map(|wallet| test.number(*wallet)).collect::<Vec<_>>();
    assert_eq!(numbers(&paths.paths[0]), [1, 0, 2]);
    // Through the hub and on to a wallet that the hub alone pays.
    let paths = one(&test, (3, 2), Weight::Hops, 2, &limits(4)).unwrap();
    assert_eq!(paths.paths.iter().map(numbers).collect::<Vec<_>>(), [vec![3, 0, 2], vec![3, 0, 1, 950, 2]]);
    // The same in the other direction.
    let (source, target) = (test.wallet(2), test.wallet(3));
    let filter = EdgeFilter::default();
    let paths = shortest_paths(
        &test.graph(),
        source,
        target,
        Direction::In,
        &filter,
        Weight::Hops,
        2,
        &limits(4),
        &mut Uninterrupted,
    );
    assert_eq!(paths.unwrap().paths.iter().map(numbers).collect::<Vec<_>>(), [vec![2, 0, 3], vec![2, 950, 1, 0, 3]]);
}

#[test]
fn funds_flow_along_the_largest_share() {
    let day = |from, to, value, day: i64| Sent { from, to, token: 0, time: day * DAY, value };
    // 60 % of a half on the way round, 20 % on the direct one
    let rows = [day(0, 1, 50, 1), day(0, 3, 20, 19), day(0, 9, 30, 1), day(1, 3, 60, 1), day(1, 9, 40, 1)];
    let test = TestGraph::new(&rows, 0);
    let path = |weight| one(&test, (0, 3), weight, 1, &limits(4)).unwrap().paths.remove(0);
    let value = path(Weight::Value);
    assert_eq!(value.steps.len(), 2);
    assert!(close((-value.cost).exp(), 0.3));
    let recent = path(Weight::Recency { now: NOW });
    assert_eq!((recent.steps.len(), recent.cost), (1, 1.0));
    // A step in the future costs nothing.
    assert_eq!(path(Weight::Recency { now: -DAY }).cost, 0.0);
    assert!(path(Weight::Recency { now: i64::MAX }).cost > 0.0);
}
