//! Breadth-first results agree with a plain definition: distances by relaxation to a fixed point,
//! then sums over the rows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::graph::test_graph::{Patience, Sent, TestGraph, limits, name};
use crate::graph::*;

fn rows() -> impl Strategy<Value = Vec<Sent>> {
    let value = prop_oneof![4 => 0_u128..6, 1 => Just(1_u128 << 100), 1 => Just(u128::MAX)];
    let row = (0..10_u32, 0..10_u32, 0..2_u32, 0..6_i64, value);
    prop::collection::vec(row.prop_map(|(from, to, token, time, value)| Sent { from, to, token, time, value }), 0..50)
}

/// Returns the counted rows as (walked from, walked to, value, time).
fn walks(rows: &[Sent], direction: Direction, filter: &EdgeFilter) -> Vec<(u32, u32, U256, i64)> {
    let counts = |row: &&Sent| {
        (row.token == 0 || filter.assets == AssetSelection::All)
            && filter.since.is_none_or(|since| row.time >= since)
            && filter.until.is_none_or(|until| row.time < until)
    };
    let strength = |row: &Sent| {
        let same = |other: &&Sent| (other.from, other.to, other.token) == (row.from, row.to, row.token);
        rows.iter().filter(counts).filter(same).count() as u64
    };
    let mut walks = Vec::new();
    for row in rows.iter().filter(counts).filter(|row| strength(row) >= filter.min_transfers) {
        let value = if filter.assets.is_single() { U256::new(row.value) } else { U256::ZERO };
        if direction != Direction::In {
            walks.push((row.from, row.to, value, row.time));
        }
        if direction != Direction::Out {
            walks.push((row.to, row.from, value, row.time));
        }
    }
    walks
}

fn distances(walks: &[(u32, u32, U256, i64)], source: u32, max_depth: u32) -> BTreeMap<u32, u32> {
    let mut distance = BTreeMap::from([(source, 0)]);
    for _ in 0..walks.len() {
        for (from, to, _, _) in walks {
            if let Some(depth) = distance.get(from).copied().filter(|depth| *depth < max_depth) {
                let reached = distance.entry(*to).or_insert(depth + 1);
                *reached = (*reached).min(depth + 1);
            }
        }
    }
    distance
}

/// Depth, transfers, value, first time, last time, and the transfers by predecessor of a wallet.
type Expected = (u32, u64, U256, i64, i64, BTreeMap<String, u64>);

fn expected(
    rows: &[Sent],
    source: u32,
    direction: Direction,
    filter: &EdgeFilter,
    depth: u32,
) -> BTreeMap<String, Expected> {
    let walks = walks(rows, direction, filter);
    let distance = distances(&walks, source, depth);
    let mut wallets: BTreeMap<String, Expected> = BTreeMap::new();
    for (from, to, value, time) in &walks {
        if let (Some(before), Some(own)) = (distance.get(from), distance.get(to))
            && before + 1 == *own
        {
            let none = (*own, 0, U256::ZERO, i64::MAX, i64::MIN, BTreeMap::new());
            let sums = wallets.entry(name(*to)).or_insert(none);
            sums.1 += 1;
            sums.2 += *value;
            (sums.3, sums.4) = (sums.3.min(*time), sums.4.max(*time));
            *sums.5.entry(name(*from)).or_default() += 1;
        }
    }
    wallets
}

fn filters() -> impl Strategy<Value = EdgeFilter> {
    let native = EdgeFilter::default();
    prop_oneof![
        4 => Just(native),
        1 => Just(EdgeFilter { assets: AssetSelection::All, ..native }),
        1 => Just(EdgeFilter { since: Some(1), until: Some(5), ..native }),
        1 => Just(EdgeFilter { min_transfers: 2, ..native }),
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![3 => Just(Direction::Out), 2 => Just(Direction::In), 1 => Just(Direction::Both)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn reach_and_connections_agree_with_relaxation(
        rows in rows(),
        overlay_rows in 0..20_usize,
        source in 0..10_u32,
        direction in direction(),
        filter in filters(),
        depth in 1..5_i32,
        totals: bool,
    ) {
        let test = TestGraph::new(&rows, overlay_rows);
        let graph = test.graph();
        let source_id = test.wallet(source);
        prop_assume!(source_id.get() < graph.wallets());
        let expected = expected(&rows, source, direction, &filter, depth.unsigned_abs());

        let reached = reach(&graph, source_id, direction, &filter, totals, &limits(depth), &mut Uninterrupted).unwrap();
        prop_assert_eq!(reached.halted, None);
        let mut levels: BTreeMap<u32, (u64, u64, U256)> = BTreeMap::from([(0, (1, 0, U256::ZERO))]);
        for (own, transfers, value, ..) in expected.values() {
            let level = levels.entry(*own).or_default();
            level.0 += 1;
            if totals {
                level.1 += transfers;
                level.2 += *value;
            }
        }
        let got: BTreeMap<_, _> =
            reached.levels.iter().map(|level| (level.depth, (level.wallets, level.transfers, level.value))).collect();
        prop_assert_eq!(got, levels);

        let found = connections(&graph, source_id, direction, &filter, None, &limits(depth), &mut Uninterrupted).unwrap();
        prop_assert_eq!(found.halted, None);
        let address = |wallet| graph.address(wallet).unwrap().to_owned();
        prop_assert!(found.wallets.is_sorted_by_key(|connection| (connection.depth, std::cmp::Reverse(connection.transfers), address(connection.wallet))));
        let mut seen = BTreeMap::new();
        for connection in &found.wallets {
            let of_depth = found.wallets.iter().filter(|other| other.depth == connection.depth);
            let stronger = of_depth.filter(|other| other.transfers > connection.transfers).count() as i64;
            prop_assert_eq!(connection.rank, stronger + 1);
            let predecessors = &expected[&address(connection.wallet)].5;
            let most = predecessors.values().max().unwrap();
            let strongest = predecessors.iter().find(|(_, transfers)| *transfers == most).unwrap();
            prop_assert_eq!(&address(connection.predecessor), strongest.0);
            seen.insert(address(connection.wallet), (connection.depth, connection.transfers, connection.value, connection.first, connection.last));
        }
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|(wallet, connection)| (wallet, (connection.0, connection.1, connection.2, connection.3, connection.4))).collect();
        prop_assert_eq!(seen, expected);

        let top = connections(&graph, source_id, direction, &filter, Some(2), &limits(depth), &mut Uninterrupted).unwrap();
        let strongest: Vec<ConnectedWallet> = (1..=depth.unsigned_abs())
            .flat_map(|depth| found.wallets.iter().filter(move |connection| connection.depth == depth).take(2).copied())
            .collect();
        prop_assert_eq!(top.wallets, strongest);
    }
}

/// Reads less than a hub's edges between two checks, and ends there.
#[test]
fn a_search_is_ended_within_a_hub() {
    let rows: Vec<Sent> = (1..=60_000).flat_map(|spoke| [Sent::coins(0, spoke, 1), Sent::coins(spoke, 0, 1)]).collect();
    let test = TestGraph::new(&rows, 0);
    let graph = test.graph();
    let hub = test.wallet(0);
    let native = EdgeFilter::default();
    let few = EdgeFilter { min_transfers: 1, assets: AssetSelection::All, ..native };
    for (filter, direction, totals) in [
        (native, Direction::Out, false),
        (native, Direction::Out, true),
        (native, Direction::In, true),
        (few, Direction::Both, true),
    ] {
        let reached = reach(&graph, hub, direction, &filter, totals, &limits(1), &mut Patience(4)).unwrap();
        assert_eq!(reached.halted, Some(Halt::Time));
        assert!(reached.levels.iter().map(|level| level.wallets).sum::<u64>() < 40_000);
        let found = connections(&graph, hub, direction, &filter, None, &limits(1), &mut Patience(4)).unwrap();
        assert_eq!(found.halted, Some(Halt::Time));
        assert!(found.wallets.len() < 40_000);
    }
}

#[test]
fn memory_is_booked_before_it_is_taken() {
    let rows: Vec<Sent> = star(60_000).into_iter().chain((1..=4).map(|spoke| Sent::coins(spoke, 70_000, 1))).collect();
    let test = TestGraph::new(&rows, 0);
    let graph = test.graph();
    let filter = EdgeFilter::default();
    // A small search of a large graph.
    let little = SearchLimits { memory: MemoryBudget::new(20_000), ..limits(3) };
    for totals in [false, true] {
        let (back, out) = (Direction::In, Direction::Out);
        let reached = reach(&graph, test.wallet(70_000), back, &filter, totals, &little, &mut Uninterrupted).unwrap();
        assert_eq!(reached.levels.iter().map(|level| level.wallets).collect::<Vec<_>>(), [1, 4, 1]);
        let error = reach(&graph, test.wallet(0), out, &filter, totals, &little, &mut Uninterrupted).unwrap_err();
        assert!(matches!(error, SearchError::Memory { budget: 20_000, depth: 1, .. }), "{error}");
    }
    // All edges of a hub, before one of them is read.
    let mut checks = Patience(u32::MAX);
    let most = SearchLimits { max_wallets: Some(2), memory: MemoryBudget::new(1 << 20), ..limits(1) };
    let error = connections(&graph, test.wallet(0), Direction::Both, &filter, None, &most, &mut checks).unwrap_err();
    assert!(matches!(error, SearchError::Memory { budget: 0x10_0000, .. }), "{error}");
    assert_eq!(checks.0, u32::MAX);
}

#[test]
fn a_limit_cuts_a_search_at_the_same_wallets_each_time() {
    let rows: Vec<Sent> = (1..=300).flat_map(|spoke| [Sent::coins(0, spoke, 1), Sent::coins(spoke, 0, 1)]).collect();
    let few = SearchLimits { max_wallets: Some(20), ..limits(1) };
    let found = |overlaid| {
        let test = TestGraph::new(&rows, overlaid);
        let filter = EdgeFilter { assets: AssetSelection::All, ..EdgeFilter::default() };
        let found =
            connections(&test.graph(), test.wallet(0), Direction::Both, &filter, None, &few, &mut Uninterrupted);
        found.unwrap().wallets.iter().map(|found| test.number(found.wallet)).collect::<Vec<u32>>()
    };
    assert_eq!(found(0), found(0));
    assert_eq!(found(5), found(5));
    assert_eq!(found(0).len(), 19);
}

#[test]
fn values_of_more_than_128_bits_are_added_once() {
    let wide = |to| Sent { value: u128::MAX, ..Sent::coins(0, to, 0) };
    let rows: Vec<Sent> = (1..=200).flat_map(|spoke| [wide(spoke), wide(spoke)]).collect();
    let test = TestGraph::new(&rows, 0);
    let filter = EdgeFilter::default();
    let source = test.wallet(0);
    let reached = reach(&test.graph(), source, Direction::Out, &filter, true, &limits(2), &mut Uninterrupted).unwrap();
    assert_eq!((reached.levels[1].transfers, reached.levels[1].value), (400, U256::new(u128::MAX) * U256::new(400)));
}

fn star(spokes: u32) -> Vec<Sent> {
    (1..=spokes).map(|spoke| Sent::coins(0, spoke, 1)).collect()
}

#[test]
fn limits_end_a_search_and_are_reported() {
    let test = TestGraph::new(&star(500), 0);
    let graph = test.graph();
    let (hub, filter) = (test.wallet(0), EdgeFilter::default());
    let few = SearchLimits { max_wallets: Some(10), ..limits(1) };
    let reached = reach(&graph, hub, Direction::Out, &filter, true, &few, &mut Uninterrupted).unwrap();
    assert_eq!((reached.halted, reached.levels[1].wallets), (Some(Halt::Wallets), 9));
    let found = connections(&graph, hub, Direction::Out, &filter, None, &few, &mut Uninterrupted).unwrap();
    assert_eq!((found.halted, found.wallets.len()), (Some(Halt::Wallets), 9));
    let reached = reach(&graph, hub, Direction::Out, &filter, true, &limits(3), &mut Patience(0)).unwrap();
    assert_eq!(reached.halted, Some(Halt::Time));
    let little = SearchLimits { memory: MemoryBudget::new(1_000), ..limits(1) };
    let error = reach(&graph, hub, Direction::Out, &filter, true, &little, &mut Uninterrupted).unwrap_err();
    assert!(matches!(error, SearchError::Memory { budget: 1_000, .. }), "{error}");
    let error = connections(&graph, hub, Direction::Out, &filter, None, &little, &mut Uninterrupted).unwrap_err();
    assert!(matches!(error, SearchError::Memory { budget: 1_000, depth: 1, .. }), "{error}");
    for depth in [i32::MIN, 0, 33] {
        let error = reach(&graph, hub, Direction::Out, &filter, true, &limits(depth), &mut Uninterrupted).unwrap_err();
        assert_eq!(error, SearchError::Depth { depth, limit: 32 });
    }
}

#[test]
fn sums_beyond_128_bits_are_exact() {
    let most = Sent { value: u128::MAX, ..Sent::coins(0, 1, 0) };
    let rows: Vec<Sent> = std::iter::repeat_n(most, 1_000).collect();
    let test = TestGraph::new(&rows, 10);
    let reached = reach(
        &test.graph(),
        test.wallet(0),
        Direction::Out,
        &EdgeFilter::default(),
        true,
        &limits(1),
        &mut Uninterrupted,
    )
    .unwrap();
    assert_eq!(reached.levels[1].value, U256::new(u128::MAX) * U256::new(1_000));
}
