//! Invariants of every pattern.

use proptest::prelude::*;

use super::*;
use crate::graph::Graph;
use crate::graph::test_graph::Patience;

const HOUR: i64 = 3_600_000_000;

/// Half a day, in which hours are counted.
const WINDOW: i64 = 12 * HOUR;

fn rows() -> impl Strategy<Value = Vec<Sent>> {
    let value = prop_oneof![3 => 0_u128..12, 2 => 90_u128..100];
    let row =
        (0..8_u32, 0..8_u32, 0..240_i64, value).prop_map(|(from, to, hour, value)| sent(from, to, hour * HOUR, value));
    prop::collection::vec(row, 0..120)
}

/// All of a finding that does not depend on the numbers of a graph.
fn seen(graph: &Graph<'_>, detected: &Detected) -> Vec<String> {
    let address = |wallet: &WalletId| graph.address(*wallet).unwrap().to_owned();
    let one = |one: &Finding| {
        let wallets: Vec<String> = one.wallets.iter().map(address).collect();
        let transfers: Vec<_> = one
            .transfers
            .iter()
            .map(|one| (one.time / HOUR, address(&one.from), address(&one.to), one.value))
            .collect();
        let details = Value::Object(one.details.clone());
        format!("{:032x} {} {wallets:?} {transfers:?} {:?} {details}", one.id, one.strength, one.total)
    };
    detected.findings.iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn findings_are_the_same_from_any_graph_piece_by_piece_and_near_what_changed(
        rows in rows(),
        over in 1..60_usize,
        (from, length) in (0..240_i64, 1..100_i64),
        pieces in 4_usize..40,
        max_fan in prop_oneof![2_u32..6, Just(100)],
    ) {
        let (whole, laid_over) = (TestGraph::new(&rows, 0), TestGraph::new(&rows, over));
        for described in PATTERN_TYPES {
            let mut options = small(described.name);
            if described.options.iter().any(|one| one.name == "max_fan") {
                options["max_fan"] = max_fan.into();
            }
            let pattern = Pattern::parse(described.name, WINDOW, &options, 0).unwrap();
            let graph = whole.graph();
            let all = detect(&graph, &pattern, &scope(ROOM), &mut Uninterrupted).unwrap();
            let everything = seen(&graph, &all);
            for one in &all.findings {
                prop_assert!((0.0..=1.0).contains(&one.strength));
                prop_assert!(one.last - one.first <= WINDOW, "{}: {:?}", described.name, one);
                prop_assert!(one.transfers.is_sorted_by_key(|one| one.time));
                let members: BTreeSet<WalletId> = one.transfers.iter().flat_map(|one| [one.from, one.to]).collect();
                let named: BTreeSet<WalletId> = one.wallets.iter().copied().collect();
                prop_assert_eq!(named.len(), one.wallets.len());
                prop_assert!(members.is_subset(&named), "{}: {:?}", described.name, one);
            }

            // what lies over the base counts as what is in it
            let graph = laid_over.graph();
            let other = detect(&graph, &pattern, &scope(ROOM), &mut Uninterrupted).unwrap();
            prop_assert_eq!(&seen(&graph, &other), &everything, "{}", described.name);

            // with little memory the same is found in pieces, or nothing
            let graph = whole.graph();
            let little = scope(graph.wallets() as usize * 20 + pieces * 2_000 + all.findings.len() * 4_000);
            match detect(&graph, &pattern, &little, &mut Uninterrupted) {
                Ok(other) => prop_assert_eq!(&seen(&graph, &other), &everything, "{}", described.name),
                Err(error) => {
                    let memory = matches!(error, SearchError::PatternMemory { .. });
                    prop_assert!(memory, "{}", error);
                }
            }

            // what begins in a range of time is decided by what is near it
            let (since, until) = (from * HOUR, (from + length) * HOUR);
            let (before, after) = pattern.horizon();
            let mut near = scope(ROOM);
            near.filter.since = Some(since - before);
            near.filter.until = Some(until + after + 1);
            let mut near = detect(&graph, &pattern, &near, &mut Uninterrupted).unwrap();
            near.findings.retain(|one| one.first >= since && one.first <= until);
            let mut expected = all.clone();
            expected.findings.retain(|one| one.first >= since && one.first <= until);
            prop_assert_eq!(seen(&graph, &near), seen(&graph, &expected), "{}", described.name);

            // of one wallet: those that it is a member of; of many: the strongest
            let mut of_one = scope(ROOM);
            of_one.wallet = all.findings.last().and_then(|one| one.wallets.last().copied());
            if let Some(wallet) = of_one.wallet {
                let other = detect(&graph, &pattern, &of_one, &mut Uninterrupted).unwrap();
                let mut expected = all.clone();
                expected.findings.retain(|one| one.wallets.contains(&wallet));
                prop_assert_eq!(seen(&graph, &other), seen(&graph, &expected), "{}", described.name);
            }
            let few = PatternScope { max_findings: Some(2), ..scope(ROOM) };
            let few = detect(&graph, &pattern, &few, &mut Uninterrupted).unwrap();
            let mut expected = all.clone();
            expected.findings.truncate(2);
            prop_assert_eq!(seen(&graph, &few), seen(&graph, &expected), "{}", described.name);
            prop_assert_eq!(few.more, all.findings.len() > 2);
        }
    }
}

#[test]
fn a_search_without_time_or_memory_ends_and_reports_it() {
    let rows: Vec<Sent> = (1..900).map(|spoke| sent(0, spoke, i64::from(spoke), 5)).collect();
    let test = TestGraph::new(&rows, 0);
    let graph = test.graph();
    for described in PATTERN_TYPES {
        let pattern = Pattern::parse(described.name, WINDOW, &small(described.name), 0).unwrap();
        let ended = detect(&graph, &pattern, &scope(ROOM), &mut Patience(1)).unwrap();
        assert!(ended.out_of_time, "{}", described.name);
        assert_eq!(ended.reason().unwrap(), "max_time reached");
        let error = detect(&graph, &pattern, &scope(100), &mut Uninterrupted).unwrap_err();
        assert!(matches!(error, SearchError::PatternMemory { budget: 100, .. }), "{}: {error}", described.name);
    }
    let hub = found(&test, "bipartite", WINDOW, &json!({}));
    assert_eq!(hub.reason().unwrap(), "max_fan reached 1 times");
    let several = EdgeFilter { assets: crate::graph::AssetSelection::All, ..EdgeFilter::default() };
    let pattern = Pattern::parse("cycle", WINDOW, &json!({}), 0).unwrap();
    let error = detect(&graph, &pattern, &PatternScope { filter: several, ..scope(ROOM) }, &mut Uninterrupted);
    assert_eq!(error.unwrap_err(), SearchError::SeveralAssets);
}

#[test]
fn infinite_times_are_in_no_window() {
    let both = [i64::MIN, i64::MAX];
    let rows: Vec<Sent> = both.iter().flat_map(|time| (1..30).map(|spoke| sent(0, spoke, *time, 5))).collect();
    let test = TestGraph::new(&rows, 3);
    for described in PATTERN_TYPES {
        assert!(found(&test, described.name, WINDOW, &small(described.name)).findings.is_empty());
    }
    // the longest window over the earliest and the latest times there are
    let rows: Vec<Sent> =
        (1..30).map(|spoke| sent(0, spoke, both[spoke as usize % 2] / 2 * 2 + 1 - (spoke as i64 % 2) * 2, 5)).collect();
    let test = TestGraph::new(&rows, 3);
    for described in PATTERN_TYPES.iter().filter(|one| one.kind != PatternKind::DormantAwakened) {
        found(&test, described.name, i64::MAX, &small(described.name));
        found(&test, described.name, 1, &small(described.name));
    }
}

/// Counts cancellation checks: one for some thousand steps.
struct Checks(u64);

impl Interrupt for Checks {
    fn should_stop(&mut self) -> bool {
        self.0 += 1;
        false
    }
}

fn checks(name: &str, options: &Value, rows: &[Sent]) -> u64 {
    let test = TestGraph::new(rows, 0);
    let pattern = Pattern::parse(name, 24 * HOUR, options, 0).unwrap();
    let mut checks = Checks(0);
    detect(&test.graph(), &pattern, &scope(ROOM), &mut checks).unwrap();
    checks.0
}

/// A pseudo-random number below a limit.
fn scattered(number: u64, limit: u64) -> u64 {
    (number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % limit
}

#[test]
fn a_busy_cycle_costs_at_most_its_transfers_for_each_window() {
    // Three wallets pass amounts around for a day, also to others, so that no band is focused.
    let rows = |count: u64| -> Vec<Sent> {
        (0..count)
            .flat_map(|number| {
                let time = (number * 24 * 3_600_000_000 / count) as i64;
                let value = 7_000 + u128::from(scattered(number, 3_000));
                let from = (number % 3) as u32;
                let away = (0..2).map(move |other| sent(from, 10 + other, time + 2 + i64::from(other), value));
                std::iter::once(sent(from, (from + 1) % 3, time, value)).chain(away)
            })
            .collect()
    };
    for ordered in [false, true] {
        for focus in [0.0, 0.5] {
            let options = json!({"tolerance": 0.1, "min_focus": focus, "ordered": ordered});
            let (few, many) = (checks("cycle", &options, &rows(600)), checks("cycle", &options, &rows(2_400)));
            // Sixteen times is quadratic, 64 times is cubic.
            assert!(many < few.max(8) * 24, "{ordered} {focus}: {few} {many}");
        }
    }
    let (few, many) =
        (checks("wash_trading", &json!({}), &rows(600)), checks("wash_trading", &json!({}), &rows(9_600)));
    assert!(many < few.max(8) * 24, "{few} {many}");
}

#[test]
fn a_busy_wallet_that_passes_funds_on_costs_as_much_as_its_transfers() {
    // Slowly rising amounts, so that each window holds more than the one before.
    let rows = |count: u64| -> Vec<Sent> {
        let step = 48 * 3_600_000_000 / count as i64;
        (0..count as i64)
            .flat_map(|number| {
                let value = 1_000_000 + number as u128;
                [sent(1, 2, number * step, value), sent(2, 3, number * step + 1, value)]
            })
            .collect()
    };
    let (few, many) =
        (checks("pass_through", &json!({}), &rows(5_000)), checks("pass_through", &json!({}), &rows(40_000)));
    assert!(many < few * 12, "{few} {many}");
}
