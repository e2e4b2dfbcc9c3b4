use proptest::prelude::*;

use super::*;
use crate::graph::test_graph::{Sent, TestGraph};
use crate::graph::{
    Base, Builder, Graph, HeapScratch, HeapSink, MemoryBudget, Overlay, Position, Status, TransferRow, U256,
    Uninterrupted,
};
use crate::label::LabelKind;

const COIN: u128 = 1_000_000_000_000_000_000;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Wallets of random histories.
const WALLETS: u32 = 9;

fn sent(from: u32, to: u32, time: i64, value: u128) -> Sent {
    Sent { time, ..Sent::coins(from, to, value) }
}

fn labelled(graph: &TestGraph, illicit: &[u32], services: &[u32]) -> Labelled {
    let mut labelled = Labelled::new(graph.graph().wallets(), &mut MemoryBudget::new(1 << 20)).unwrap();
    for (wallets, kind) in [(illicit, LabelKind::Illicit), (services, LabelKind::Service)] {
        for wallet in wallets {
            labelled.mark(graph.wallet(*wallet), kind);
        }
    }
    labelled
}

fn look(graph: &TestGraph, wallet: u32, until: Option<i64>, labelled: &Labelled, all: bool) -> Option<Row> {
    let graph_of = graph.graph();
    let scene = Scene::new(&graph_of, until, labelled, &mut Uninterrupted).unwrap();
    let surroundings = if all {
        Surroundings::of_all(&scene, &mut MemoryBudget::new(1 << 20), &mut Uninterrupted).unwrap()
    } else {
        Surroundings::Asked
    };
    let number = graph.wallet(wallet);
    let mut extractor = Extractor::default();
    let seen = extractor.look(&scene, number, &surroundings, &mut Uninterrupted).unwrap();
    seen.map(|(row, coverage)| {
        assert_eq!(coverage, Coverage::FULL);
        row
    })
}

fn bits(row: Option<Row>) -> Option<Vec<u64>> {
    row.map(|row| row.iter().map(|value| value.to_bits()).collect())
}

fn value(row: &Row, feature: Feature) -> f64 {
    row[feature as usize]
}

/// Two thieves pay a mule, a friend pays once more than nothing, and the mule pays a bank and tries once more.
fn example() -> TestGraph {
    let rows = [
        sent(1, 0, 0, 4 * COIN),
        sent(2, 0, DAY, 4 * COIN),
        sent(3, 0, 3 * DAY, COIN / 10_000),
        sent(0, 4, DAY + 3_600 * SECOND, 6 * COIN),
        sent(0, 3, 4 * DAY, COIN),
        sent(0, 4, 5 * DAY, COIN),
        sent(2, 3, 5 * DAY, 7),
    ];
    TestGraph::with_failed(&rows, |row| row == 5, 2)
}

#[test]
fn a_history_that_is_worked_out_by_hand() {
    let graph = example();
    let row = look(&graph, 0, None, &labelled(&graph, &[1, 2], &[4]), false).unwrap();
    let is = |feature: Feature, expected: f64| {
        let found = value(&row, feature);
        // logarithms are added up as multiples of 2^-20
        assert!((found - expected).abs() < 1e-6, "{feature:?} is {found}, not {expected}");
    };
    is(Feature::Transactions, 5.0);
    is(Feature::ReceivedCountShare, 0.6);
    is(Feature::FailedShare, 1.0 / 3.0);
    is(Feature::ReceivedTotal, 8.0001);
    is(Feature::SentReceivedRatio, 7.0 / 8.0001);
    is(Feature::ReceivedMedian, 4.0);
    is(Feature::ReceivedMin, 0.0001);
    is(Feature::ReceivedTopShare, 4.0 / 8.0001);
    is(Feature::ReceivedCommonShare, 2.0 / 3.0);
    is(Feature::ReceivedDustShare, 1.0 / 3.0);
    is(Feature::ReceivedRoundShare, 2.0 / 3.0);
    is(Feature::ReceivedEntropy, -(2.0 / 3.0 * (2.0_f64 / 3.0).log2() + 1.0 / 3.0 * (1.0_f64 / 3.0).log2()));
    is(Feature::Lifetime, 4.0 * 86_400.0);
    is(Feature::ReceivedSpanShare, 0.75);
    is(Feature::ActiveDays, 4.0);
    is(Feature::GapMean, 86_400.0);
    is(Feature::GapLongestShare, (2.0 * 86_400.0 - 3_600.0) / (4.0 * 86_400.0));
    // the first two receipts wait for the first payment, the third for the second
    is(Feature::OnwardDelay, 86_400.0);
    // 4 coins wait a day and an hour, 2 an hour, 1 three days
    let hour = 3_600.0;
    is(Feature::HoldingTime, (4.0 * 25.0 * hour + 2.0 * hour + 72.0 * hour) / 7.0);
    is(Feature::PassedOnShare, 2.0 / 8.0001);
    is(Feature::UnspentShare, 1.0001 / 8.0001);
    is(Feature::LastSentDelay, 86_400.0);
    is(Feature::Senders, 3.0);
    is(Feature::Receivers, 2.0);
    is(Feature::FanInShare, 0.6);
    is(Feature::MutualShare, 0.25);
    is(Feature::TopSenderShare, 4.0 / 8.0001);
    is(Feature::TopReceiverShare, 6.0 / 7.0);
    is(Feature::SendersSourceShare, 2.0 / 3.0);
    is(Feature::SendersSingleShare, 1.0 / 3.0);
    is(Feature::SendersFanOut, (1.0 + 3.0_f64.log2() + 1.0) / 3.0);
    is(Feature::IllicitSenders, 2.0);
    is(Feature::IllicitReceivedShare, 8.0 / 8.0001);
    // the friend is paid by a thief, too
    is(Feature::SendersPaidByIllicit, 1.0 / 3.0);
    is(Feature::ReceiversPaidByIllicit, 0.5);
    is(Feature::ServiceSentShare, 6.0 / 7.0);
    // hardly anybody is labelled: that none is met says nothing
    assert!(value(&row, Feature::IllicitReceivers).is_nan() && value(&row, Feature::ServiceReceivedShare).is_nan());
}

#[test]
fn what_is_undefined_is_not_zero() {
    let graph = TestGraph::new(&[sent(0, 1, 0, 5)], 0);
    let row = look(&graph, 1, None, &Labelled::default(), false).unwrap();
    for feature in
        [Feature::SentMedian, Feature::GapMean, Feature::OnwardDelay, Feature::TopReceiverShare, Feature::Lifetime]
    {
        assert!(value(&row, feature).is_nan(), "{feature:?}");
    }
    assert_eq!(value(&row, Feature::Receivers), 0.0);
    assert!(look(&graph, 1, Some(0), &Labelled::default(), false).is_none(), "nothing happened before");
}

#[test]
fn a_wallet_with_too_many_counterparties_says_how_much_was_looked_at() {
    let senders = MOST_PEERS + 5_000;
    let mut builder = Builder::new(HeapScratch).unwrap();
    for number in 0..senders {
        let from = format!("sender{number:05}");
        // the first by address deal with somebody else, too
        let others = [Some("hub"), (number < 10).then_some("other")];
        for to in others.into_iter().flatten() {
            let row = TransferRow {
                network: "testnet",
                from: &from,
                to: Some(to),
                token: None,
                time: number as i64,
                value: U256::ONE,
                position: Position::default(),
                status: Status::Confirmed,
            };
            builder.push(&row).unwrap();
        }
    }
    let sink = HeapSink::default();
    let provenance = crate::graph::test_graph::provenance(1);
    builder.finish(&mut Uninterrupted).unwrap().write(&provenance, &sink, &mut Uninterrupted).unwrap();
    let (base, overlay) = (Base::open(sink.into_file().0).unwrap(), Overlay::new());
    let graph = Graph::new(&base, &overlay);
    let hub = graph.wallet("testnet", "hub").unwrap().unwrap();
    let mut extractor = Extractor::default();
    let labelled = Labelled::default();
    let scene = Scene::new(&graph, None, &labelled, &mut Uninterrupted).unwrap();
    let (row, coverage) = extractor.look(&scene, hub, &Surroundings::Asked, &mut Uninterrupted).unwrap().unwrap();
    assert_eq!(coverage, Coverage { transfers: 1.0, counterparties: MOST_PEERS as f64 / senders as f64 });
    assert_eq!(value(&row, Feature::Senders), senders as f64);
    let single = value(&row, Feature::SendersSingleShare);
    assert!((single - (1.0 - 10.0 / MOST_PEERS as f64)).abs() < 1e-12, "of those looked at: {single}");
}

#[test]
fn names_are_those_of_the_catalogue() {
    let mut names = NAMES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FEATURES.len(), "names are told apart");
    assert!(
        FEATURES.iter().all(|one| one.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
    );
    assert_eq!(Feature::ServiceSentShare as usize, FEATURES.len() - 1);
    assert_eq!(Feature::IllicitSenders.spec().name, "illicit_senders");
    assert!(spec_of("block_number").is_none());
}

prop_compose! {
    fn history()(rows in prop::collection::vec(
        (0..WALLETS, 0..WALLETS, 0_i64..40, prop_oneof![0_u128..5, Just(COIN), Just(COIN / 10), 0..3 * COIN], any::<bool>()), 1..60,
    )) -> (Vec<Sent>, Vec<bool>) {
        let failed = rows.iter().map(|row| row.4).collect();
        let rows = rows.into_iter().map(|(from, to, hours, value, _)| sent(from, to, hours * 3_600 * SECOND, value)).collect();
        (rows, failed)
    }
}

fn every_wallet(graph: &TestGraph, until: Option<i64>, all: bool, illicit: &[u32]) -> Vec<Option<Vec<u64>>> {
    let labelled = labelled(graph, illicit, &[7]);
    let known = |wallet: &u32| graph.wallet(*wallet).get() < graph.graph().wallets();
    (0..WALLETS)
        .map(|wallet| if known(&wallet) { bits(look(graph, wallet, until, &labelled, all)) } else { None })
        .collect()
}

proptest! {
    #[test]
    fn the_calendar_is_not_seen((rows, failed) in history(), years in -30_i64..30) {
        let moved: Vec<Sent> = rows.iter().map(|row| Sent { time: row.time + years * 365 * DAY + 12_345_678, ..row.clone() }).collect();
        let (here, there) = (TestGraph::with_failed(&rows, |row| failed[row], 0), TestGraph::with_failed(&moved, |row| failed[row], 0));
        prop_assert_eq!(every_wallet(&here, None, false, &[1, 5]), every_wallet(&there, None, false, &[1, 5]));
    }

    #[test]
    fn a_base_and_what_is_laid_over_it_look_alike((rows, failed) in history(), laid_over in 0_usize..30) {
        let whole = TestGraph::with_failed(&rows, |row| failed[row], 0);
        let parts = TestGraph::with_failed(&rows, |row| failed[row], laid_over);
        prop_assert_eq!(every_wallet(&whole, None, false, &[1, 5]), every_wallet(&parts, None, false, &[1, 5]));
    }

    #[test]
    fn the_order_of_rows_of_one_time_does_not_matter((rows, failed) in history()) {
        let turned: Vec<Sent> = rows.iter().rev().cloned().collect();
        let last = rows.len() - 1;
        let (here, there) = (TestGraph::with_failed(&rows, |row| failed[row], 0), TestGraph::with_failed(&turned, |row| failed[last - row], 0));
        prop_assert_eq!(every_wallet(&here, None, false, &[1, 5]), every_wallet(&there, None, false, &[1, 5]));
    }

    #[test]
    fn one_wallet_looks_as_it_does_among_all((rows, failed) in history(), until in prop::option::of(0_i64..40)) {
        let until = until.map(|hours| hours * 3_600 * SECOND);
        let graph = TestGraph::with_failed(&rows, |row| failed[row], 5);
        prop_assert_eq!(every_wallet(&graph, until, false, &[1, 5]), every_wallet(&graph, until, true, &[1, 5]));
    }

    #[test]
    fn the_past_looks_as_it_did_then((rows, failed) in history(), until in 0_i64..40) {
        let until = until * 3_600 * SECOND;
        let now = TestGraph::with_failed(&rows, |row| failed[row], 7);
        let (then, failed_then): (Vec<Sent>, Vec<bool>) =
            rows.iter().cloned().zip(failed).filter(|(row, _)| row.time < until).unzip();
        let then = TestGraph::with_failed(&then, |row| failed_then[row], 0);
        prop_assert_eq!(every_wallet(&now, Some(until), false, &[1, 5]), every_wallet(&then, None, false, &[1, 5]));
    }

    #[test]
    fn a_wallets_own_label_is_not_seen((rows, failed) in history(), wallet in 0..WALLETS, all in any::<bool>()) {
        let graph = TestGraph::with_failed(&rows, |row| failed[row], 3);
        prop_assume!(graph.wallet(wallet).get() < graph.graph().wallets());
        let without: Vec<u32> = [1, 5].into_iter().filter(|one| *one != wallet).collect();
        let with: Vec<u32> = without.iter().copied().chain([wallet]).collect();
        let row = |illicit: &[u32]| bits(look(&graph, wallet, None, &labelled(&graph, illicit, &[7]), all));
        prop_assert_eq!(row(&without), row(&with));
    }
}
