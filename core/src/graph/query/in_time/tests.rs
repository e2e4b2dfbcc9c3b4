//! Results agree with a plain definition: all sequences of transfers, hop by hop.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::graph::test_graph::{Patience, Sent, TestGraph, limits};
use crate::graph::{AssetSelection, MemoryBudget, Position, Uninterrupted};

/// A transfer with its order among those of the same time.
type Row = (Sent, Position);

fn rows(wallets: u32, times: i64, most: usize) -> impl Strategy<Value = Vec<Row>> {
    let position = (
        prop_oneof![4 => 0..2_u64, 1 => Just(Position::UNKNOWN_BLOCK)],
        prop::option::of(0..2_u32),
        prop::option::of(0..3_u32),
    )
        .prop_map(|(block, transaction_index, log_index)| Position { block, transaction_index, log_index });
    let row = (0..wallets, 0..wallets, 0..times, 1..9_u128, position);
    let row = row.prop_map(|(from, to, time, value, position)| (Sent { from, to, token: 0, time, value }, position));
    prop::collection::vec(row, 0..most)
}

fn test_graph(rows: &[Row], overlaid: usize) -> TestGraph {
    let sent: Vec<Sent> = rows.iter().map(|row| row.0.clone()).collect();
    TestGraph::with(&sent, |_| false, |number| rows[number].1, overlaid)
}

/// Returns whether the second transfer may follow the first, and whether that is known.
fn follows(first: &Row, second: &Row) -> (bool, bool) {
    if first.0.time != second.0.time {
        return (first.0.time < second.0.time, true);
    }
    let (a, b) = (first.1, second.1);
    if [a.block, b.block].contains(&Position::UNKNOWN_BLOCK) {
        return (true, false);
    }
    if a.block != b.block {
        return (a.block < b.block, true);
    }
    let (Some(one), Some(other)) = (a.transaction_index, b.transaction_index) else { return (true, false) };
    if (one, a.log_index) == (other, b.log_index) {
        return (true, false);
    }
    ((one, a.log_index) < (other, b.log_index), true)
}

/// The transfers that end a path of each number of hops, those on which the order is known apart.
fn walks(rows: &[Row], source: u32, side: Side, gap: Option<i64>, depth: usize) -> Vec<[BTreeSet<usize>; 2]> {
    let ends = |row: &Row| if side == Side::Out { (row.0.from, row.0.to) } else { (row.0.to, row.0.from) };
    let first: BTreeSet<usize> = (0..rows.len()).filter(|number| ends(&rows[*number]).0 == source).collect();
    let mut levels = vec![[first.clone(), first]];
    for _ in 1..depth {
        let [all, certain] = &levels[levels.len() - 1];
        let step = |before: &BTreeSet<usize>, known: bool| -> BTreeSet<usize> {
            let next = |after: &usize| {
                before.iter().any(|before| {
                    let (one, other) = (&rows[*before], &rows[*after]);
                    let (possible, is_known) =
                        if side == Side::Out { follows(one, other) } else { follows(other, one) };
                    ends(one).1 == ends(other).0
                        && possible
                        && (is_known || !known)
                        && gap.is_none_or(|gap| (one.0.time - other.0.time).abs() <= gap)
                })
            };
            (0..rows.len()).filter(next).collect()
        };
        let next = [step(all, false), step(certain, true)];
        levels.push(next);
    }
    levels
}

/// Depth, transfers, value, time of arrival, and whether the order is inferred, by wallet.
type Expected = BTreeMap<u32, (u32, u64, u128, i64, bool)>;

fn expected(rows: &[Row], source: u32, side: Side, gap: Option<i64>, depth: usize) -> Expected {
    let to = |number: &usize| if side == Side::Out { rows[*number].0.to } else { rows[*number].0.from };
    let levels = walks(rows, source, side, gap, depth);
    let mut wallets = Expected::new();
    for (depth, [all, certain]) in (1..).zip(&levels) {
        for number in all {
            let wallet = to(number);
            let time = rows[*number].0.time;
            let entry = wallets.entry(wallet).or_insert((depth, 0, 0, time, true));
            entry.3 = if side == Side::Out { entry.3.min(time) } else { entry.3.max(time) };
            if entry.0 == depth {
                entry.1 += 1;
                entry.2 += rows[*number].0.value;
                entry.4 &= !certain.contains(number);
            }
        }
    }
    wallets.remove(&source);
    wallets
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Out), Just(Side::In)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn results_agree_with_all_sequences_of_transfers(
        (rows, overlaid) in (rows(7, 8, 50), 0..20_usize),
        (source, target) in (0..7_u32, 0..7_u32),
        side in side(),
        gap in prop::option::of(0..5_i64),
        depth in 1..7_i32,
    ) {
        let test = test_graph(&rows, overlaid);
        let graph = test.graph();
        let (from, to) = (test.wallet(source), test.wallet(target));
        prop_assume!(from.get() < graph.wallets());
        let filter = EdgeFilter::default();
        let expected = expected(&rows, source, side, gap, depth.unsigned_abs() as usize);

        let reached = reach(&graph, from, side, &filter, gap, &limits(depth), &mut Uninterrupted).unwrap();
        prop_assert_eq!(reached.halted, None);
        let mut levels: BTreeMap<u32, (u64, u64, u128, bool)> = BTreeMap::from([(0, (1, 0, 0, false))]);
        for (depth, transfers, value, _, inferred) in expected.values() {
            let level = levels.entry(*depth).or_default();
            *level = (level.0 + 1, level.1 + transfers, level.2 + value, level.3 | inferred);
        }
        let got: BTreeMap<u32, (u64, u64, u128, bool)> = reached
            .levels
            .iter()
            .map(|level| (level.depth, (level.wallets, level.transfers, level.value.as_u128(), level.order_inferred)))
            .collect();
        prop_assert_eq!(got, levels);

        let found = connections(&graph, from, side, &filter, gap, None, &limits(depth), &mut Uninterrupted).unwrap();
        let got: Expected = found
            .wallets
            .iter()
            .map(|one| {
                let reached = one.in_time.unwrap();
                (test.number(one.wallet), (one.depth, one.transfers, one.value.as_u128(), reached.at, reached.order_inferred))
            })
            .collect();
        prop_assert_eq!(&got, &expected);

        prop_assume!(to.get() < graph.wallets() && source != target);
        let found = path(&graph, from, to, side, &filter, gap, &limits(depth), &mut Uninterrupted).unwrap();
        prop_assert_eq!(found.hops.as_ref().map(|hops| hops.len() as u32), expected.get(&target).map(|one| one.0));
        if let Some(hops) = &found.hops {
            let row = |hop: &TimedHop| {
                let sent = (test.number(hop.from), test.number(hop.transfer.peer.unwrap()));
                (Sent { from: sent.0, to: sent.1, token: 0, time: hop.transfer.time, value: hop.transfer.value.as_u128() }, hop.transfer.position)
            };
            let along: Vec<Row> = hops.iter().map(row).collect();
            let ends = |row: &Row| if side == Side::Out { (row.0.from, row.0.to) } else { (row.0.to, row.0.from) };
            prop_assert_eq!((ends(&along[0]).0, ends(&along[along.len() - 1]).1), (source, target));
            let mut is_known = true;
            for pair in along.windows(2) {
                prop_assert_eq!(ends(&pair[0]).1, ends(&pair[1]).0);
                let (possible, known) = if side == Side::Out { follows(&pair[0], &pair[1]) } else { follows(&pair[1], &pair[0]) };
                is_known &= known;
                prop_assert!(possible && gap.is_none_or(|gap| (pair[0].0.time - pair[1].0.time).abs() <= gap));
            }
            prop_assert_eq!(found.order_inferred, !is_known);
            // Of the paths with the fewest hops, it arrives first.
            let last = &walks(&rows, source, side, gap, hops.len())[hops.len() - 1][0];
            let times = last.iter().filter(|number| ends(&rows[**number]).1 == target).map(|number| rows[*number].0.time);
            let first = if side == Side::Out { times.min() } else { times.max() };
            prop_assert_eq!(Some(along[along.len() - 1].0.time), first);
        }
    }
}

fn sent(from: u32, to: u32, time: i64) -> Sent {
    Sent { from, to, token: 0, time, value: 1 }
}

fn depths(test: &TestGraph, gap: Option<i64>, assets: AssetSelection) -> Vec<(u32, u32, bool)> {
    let filter = EdgeFilter { assets, ..EdgeFilter::default() };
    let graph = test.graph();
    let found =
        connections(&graph, test.wallet(0), Side::Out, &filter, gap, None, &limits(9), &mut Uninterrupted).unwrap();
    let mut depths: Vec<(u32, u32, bool)> = found
        .wallets
        .iter()
        .map(|one| (test.number(one.wallet), one.depth, one.in_time.unwrap().order_inferred))
        .collect();
    depths.sort_unstable();
    depths
}

#[test]
fn funds_do_not_move_before_they_arrive_nor_after_the_gap() {
    // Early at wallet 1 by two hops, late by one; wallet 2 sends in between.
    let rows = [sent(0, 1, 9), sent(0, 3, 1), sent(3, 1, 2), sent(1, 2, 5), sent(2, 4, 4), sent(2, 5, 50)];
    let test = TestGraph::new(&rows, 2);
    let all = [(1, 1, false), (2, 3, false), (3, 1, false), (5, 4, false)];
    assert_eq!(depths(&test, None, AssetSelection::Native), all);
    assert_eq!(depths(&test, Some(3), AssetSelection::Native), all[..3]);
    assert_eq!(depths(&test, Some(2), AssetSelection::Native), [all[0], all[2]]);
}

#[test]
fn numbers_of_logs_and_of_internal_transfers_are_not_compared() {
    let position = |transaction_index, log_index| Position { block: 7, transaction_index, log_index };
    let token = |from, to| Sent { token: 1, ..sent(from, to, 0) };
    let graph = |rows: [(Sent, Position); 2]| {
        let sent = rows.clone().map(|row| row.0);
        TestGraph::with(&sent, |_| false, |number| rows[number].1, 0)
    };
    let all = |rows| depths(&graph(rows), None, AssetSelection::All);
    // Logs of one block have an order.
    let (early, late) = (position(None, Some(1)), position(None, Some(2)));
    assert_eq!(all([(token(0, 1), early), (token(1, 2), late)]), [(1, 1, false), (2, 2, false)]);
    assert_eq!(all([(token(0, 1), late), (token(1, 2), early)]), [(1, 1, false)]);
    // An internal transfer and a log have none.
    let internal = position(Some(0), Some(5));
    for rows in [[(token(0, 1), late), (sent(1, 2, 0), internal)], [(sent(0, 1, 0), internal), (token(1, 2), early)]] {
        assert_eq!(all(rows), [(1, 1, false), (2, 2, true)]);
    }
}

#[test]
fn limits_end_a_search_in_time() {
    let rows: Vec<Sent> = (1..=60_000).map(|spoke| sent(0, spoke, i64::from(spoke))).collect();
    let test = TestGraph::new(&rows, 0);
    let (graph, filter) = (test.graph(), EdgeFilter::default());
    let hub = test.wallet(0);
    let few = SearchLimits { max_wallets: Some(10), ..limits(2) };
    let reached = reach(&graph, hub, Side::Out, &filter, None, &few, &mut Uninterrupted).unwrap();
    assert_eq!((reached.halted, reached.levels[1].wallets), (Some(Halt::Wallets), 9));
    let reached = reach(&graph, hub, Side::Out, &filter, None, &limits(2), &mut Patience(3)).unwrap();
    assert_eq!(reached.halted, Some(Halt::Time));
    assert!(reached.levels[1].wallets < 40_000);
    let little = SearchLimits { memory: MemoryBudget::new(10_000), ..limits(2) };
    let error = reach(&graph, hub, Side::Out, &filter, Some(5), &little, &mut Uninterrupted).unwrap_err();
    assert!(matches!(error, SearchError::Memory { budget: 10_000, depth: 1, .. }), "{error}");
    let error = path(&graph, hub, hub, Side::Out, &filter, None, &limits(33), &mut Uninterrupted).unwrap_err();
    assert_eq!(error, SearchError::Depth { depth: 33, limit: 32 });
}

#[test]
fn a_hub_that_receives_and_sends_much_is_read_once() {
    /// Counts cancellation checks.
    struct Checks(u64);
    impl Interrupt for Checks {
        fn should_stop(&mut self) -> bool {
            self.0 += 1;
            false
        }
    }
    // Receipts and sendings of wallet 1 in turn, so each receipt opens another range.
    let count = 20_000;
    let rows: Vec<Sent> = (0..count)
        .flat_map(|number| {
            let spoke = 10 + number as u32 % 300;
            [sent(0, 1, 2 * number), sent(1, spoke, 2 * number + 1)]
        })
        .collect();
    let test = TestGraph::new(&rows, 0);
    for gap in [None, Some(0), Some(1), Some(1_000)] {
        let mut checks = Checks(0);
        let filter = EdgeFilter::default();
        reach(&test.graph(), test.wallet(0), Side::Out, &filter, gap, &limits(3), &mut checks).unwrap();
        assert!(checks.0 < 60, "{gap:?}: {}", checks.0);
    }
}
