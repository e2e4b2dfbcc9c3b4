use proptest::prelude::*;

use super::*;
use crate::graph::test_graph::{Sent, TestGraph};
use crate::graph::{
    Base, Builder, Graph, HeapScratch, HeapSink, MemoryBudget, Overlay, Position, Status, TransferRow, U256,
    Uninterrupted,
};
use crate::label::LabelKind;
use crate::risk::scorecard::is_not_covered;

const COIN: u128 = 1_000_000_000_000_000_000;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Wallets in random histories.
const WALLETS: u32 = 9;

fn sent(from: u32, to: u32, time: i64, value: u128) -> Sent {
    Sent { time, ..Sent::coins(from, to, value) }
}

fn labelled(graph: &TestGraph, illicit: &[u32], services: &[u32]) -> LabelledWallets {
    let mut labelled = LabelledWallets::new(graph.graph().wallets(), &mut MemoryBudget::new(1 << 20)).unwrap();
    for (wallets, kind) in [(illicit, LabelKind::Illicit), (services, LabelKind::Service)] {
        for wallet in wallets {
            labelled.mark(graph.wallet(*wallet), kind);
        }
    }
    labelled
}

/// Extracts the features of a wallet, with contacts counted on demand or in advance.
fn extract(
    graph: &TestGraph,
    wallet: u32,
    until: Option<i64>,
    labelled: &LabelledWallets,
    precompute: bool,
) -> Option<FeatureRow> {
    let view = graph.graph();
    let histories = HistoryCoverage::complete();
    let context = ExtractContext::new(&view, until, labelled, &histories, &mut Uninterrupted).unwrap();
    let contacts = if precompute {
        ContactCounts::precompute(&context, &mut MemoryBudget::new(1 << 20), &mut Uninterrupted).unwrap()
    } else {
        ContactCounts::OnDemand
    };
    let wallet = graph.wallet(wallet);
    let features = Extractor::default().extract(&context, wallet, &contacts, &mut Uninterrupted).unwrap();
    features.map(|(row, coverage)| {
        assert_eq!(coverage, Coverage::FULL);
        row
    })
}

fn bits(row: Option<FeatureRow>) -> Option<Vec<u64>> {
    row.map(|row| row.iter().map(|value| value.to_bits()).collect())
}

fn value(row: &FeatureRow, feature: Feature) -> f64 {
    row[feature as usize]
}

/// Two thieves and a friend pay a mule; the mule pays a bank and the friend, and a second payment
/// to the bank fails.
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
fn features_of_a_small_history_are_as_computed_by_hand() {
    let graph = example();
    let row = extract(&graph, 0, None, &labelled(&graph, &[1, 2], &[4]), false).unwrap();
    let is = |feature: Feature, expected: f64| {
        let value = value(&row, feature);
        // Logarithms are summed as multiples of 2^-20.
        assert!((value - expected).abs() < 1e-6, "{feature:?} is {value}, not {expected}");
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
    // The first two receipts wait for the first payment, the third for the second.
    is(Feature::OnwardDelay, 86_400.0);
    // 4 coins wait for a day and an hour, 2 for an hour, 1 for three days.
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
    // The friend is paid by a thief, too.
    is(Feature::SendersPaidByIllicit, 1.0 / 3.0);
    is(Feature::ReceiversPaidByIllicit, 0.5);
    is(Feature::ServiceSentShare, 6.0 / 7.0);
    // With so few labels, zero exposure is undefined.
    assert!(value(&row, Feature::IllicitReceivers).is_nan() && value(&row, Feature::ServiceReceivedShare).is_nan());
}

#[test]
fn undefined_features_are_nan_and_not_zero() {
    let graph = TestGraph::new(&[sent(0, 1, 0, 5)], 0);
    let row = extract(&graph, 1, None, &LabelledWallets::default(), false).unwrap();
    for feature in
        [Feature::SentMedian, Feature::GapMean, Feature::OnwardDelay, Feature::TopReceiverShare, Feature::Lifetime]
    {
        assert!(value(&row, feature).is_nan(), "{feature:?}");
    }
    assert_eq!(value(&row, Feature::Receivers), 0.0);
    assert!(extract(&graph, 1, Some(0), &LabelledWallets::default(), false).is_none(), "nothing happened before");
}

#[test]
fn too_many_counterparties_reduce_the_coverage() {
    let senders = MAX_COUNTERPARTIES + 5_000;
    let mut builder = Builder::new(HeapScratch, 0).unwrap();
    for number in 0..senders {
        let from = format!("sender{number:05}");
        // The first by address also pay another wallet.
        let receivers = [Some("hub"), (number < 10).then_some("other")];
        for to in receivers.into_iter().flatten() {
            let row = TransferRow {
                network: "testnet",
                from: Some(&from),
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
    let labelled = LabelledWallets::default();
    let histories = HistoryCoverage::complete();
    let context = ExtractContext::new(&graph, None, &labelled, &histories, &mut Uninterrupted).unwrap();
    let (row, coverage) =
        extractor.extract(&context, hub, &ContactCounts::OnDemand, &mut Uninterrupted).unwrap().unwrap();
    let counterparties = MAX_COUNTERPARTIES as f64 / senders as f64;
    assert_eq!(coverage, Coverage { counterparties, ..Coverage::FULL });
    assert_eq!(value(&row, Feature::Senders), senders as f64);
    let single = value(&row, Feature::SendersSingleShare);
    assert!((single - (1.0 - 10.0 / MAX_COUNTERPARTIES as f64)).abs() < 1e-12, "of those that were counted: {single}");
}

#[test]
fn names_of_features_are_distinct_identifiers() {
    let mut names = NAMES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FEATURES.len(), "names are distinct");
    assert!(
        FEATURES
            .iter()
            .all(|feature| feature.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
    );
    assert_eq!(Feature::ServiceSentShare as usize, FEATURES.len() - 1);
    assert_eq!(Feature::IllicitSenders.spec().name, "illicit_senders");
    assert!(FeatureSpec::named("block_number").is_none());
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

fn every_wallet(graph: &TestGraph, until: Option<i64>, precompute: bool, illicit: &[u32]) -> Vec<Option<Vec<u64>>> {
    let labelled = labelled(graph, illicit, &[7]);
    let exists = |wallet: &u32| graph.wallet(*wallet).get() < graph.graph().wallets();
    (0..WALLETS)
        .map(|wallet| if exists(&wallet) { bits(extract(graph, wallet, until, &labelled, precompute)) } else { None })
        .collect()
}

proptest! {
    #[test]
    fn features_do_not_depend_on_the_calendar((rows, failed) in history(), years in -30_i64..30) {
        let shift = years * 365 * DAY + 12_345_678;
        let shifted: Vec<Sent> = rows.iter().map(|row| Sent { time: row.time + shift, ..row.clone() }).collect();
        let first = TestGraph::with_failed(&rows, |row| failed[row], 0);
        let second = TestGraph::with_failed(&shifted, |row| failed[row], 0);
        prop_assert_eq!(every_wallet(&first, None, false, &[1, 5]), every_wallet(&second, None, false, &[1, 5]));
    }

    #[test]
    fn base_and_overlay_give_the_same_features_as_one_base((rows, failed) in history(), in_overlay in 0_usize..30) {
        let whole = TestGraph::with_failed(&rows, |row| failed[row], 0);
        let parts = TestGraph::with_failed(&rows, |row| failed[row], in_overlay);
        prop_assert_eq!(every_wallet(&whole, None, false, &[1, 5]), every_wallet(&parts, None, false, &[1, 5]));
    }

    #[test]
    fn the_order_of_transfers_with_the_same_time_does_not_matter((rows, failed) in history()) {
        let reversed: Vec<Sent> = rows.iter().rev().cloned().collect();
        let last = rows.len() - 1;
        let first = TestGraph::with_failed(&rows, |row| failed[row], 0);
        let second = TestGraph::with_failed(&reversed, |row| failed[last - row], 0);
        prop_assert_eq!(every_wallet(&first, None, false, &[1, 5]), every_wallet(&second, None, false, &[1, 5]));
    }

    #[test]
    fn contacts_on_demand_and_precomputed_give_the_same_features(
        (rows, failed) in history(), until in prop::option::of(0_i64..40),
    ) {
        let until = until.map(|hours| hours * 3_600 * SECOND);
        let graph = TestGraph::with_failed(&rows, |row| failed[row], 5);
        prop_assert_eq!(every_wallet(&graph, until, false, &[1, 5]), every_wallet(&graph, until, true, &[1, 5]));
    }

    #[test]
    fn features_at_a_past_time_ignore_what_came_later((rows, failed) in history(), until in 0_i64..40) {
        let until = until * 3_600 * SECOND;
        let now = TestGraph::with_failed(&rows, |row| failed[row], 7);
        let (then, failed_then): (Vec<Sent>, Vec<bool>) =
            rows.iter().cloned().zip(failed).filter(|(row, _)| row.time < until).unzip();
        let then = TestGraph::with_failed(&then, |row| failed_then[row], 0);
        prop_assert_eq!(every_wallet(&now, Some(until), false, &[1, 5]), every_wallet(&then, None, false, &[1, 5]));
    }

    #[test]
    fn a_wallets_features_do_not_depend_on_its_own_label(
        (rows, failed) in history(), wallet in 0..WALLETS, precompute in any::<bool>(),
    ) {
        let graph = TestGraph::with_failed(&rows, |row| failed[row], 3);
        prop_assume!(graph.wallet(wallet).get() < graph.graph().wallets());
        let without: Vec<u32> = [1, 5].into_iter().filter(|illicit| *illicit != wallet).collect();
        let with: Vec<u32> = without.iter().copied().chain([wallet]).collect();
        let row = |illicit: &[u32]| bits(extract(&graph, wallet, None, &labelled(&graph, illicit, &[7]), precompute));
        prop_assert_eq!(row(&without), row(&with));
    }
}

/// Extracts the features of a wallet by what is known of the histories.
fn extract_known(graph: &TestGraph, wallet: u32, histories: &HistoryCoverage) -> (FeatureRow, Coverage) {
    let view = graph.graph();
    let labelled = labelled(graph, &[], &[]);
    let context = ExtractContext::new(&view, None, &labelled, histories, &mut Uninterrupted).unwrap();
    let contacts = ContactCounts::OnDemand;
    Extractor::default().extract(&context, graph.wallet(wallet), &contacts, &mut Uninterrupted).unwrap().unwrap()
}

/// Returns the features of a row that are not covered.
fn uncovered(row: &FeatureRow) -> Vec<&'static str> {
    NAMES.iter().zip(row).filter(|(_, value)| is_not_covered(**value)).map(|(name, _)| *name).collect()
}

fn by_basis(bases: &[Basis]) -> Vec<&'static str> {
    FEATURES.iter().filter(|feature| bases.contains(&feature.basis)).map(|feature| feature.name).collect()
}

#[test]
fn the_rows_of_one_wallet_cover_it_and_none_of_its_counterparties() {
    let graph = example();
    // Wallets 2 and 3 dealt with each other, the others with wallet 0 alone.
    let (row, coverage) = extract_known(&graph, 0, &HistoryCoverage::default());
    let expected = Coverage { senders: 2.0 / 3.0, receivers: 0.5, ..Coverage::FULL };
    assert_eq!((coverage, uncovered(&row)), (expected, vec![]));

    let rows = [sent(1, 0, 0, 5), sent(2, 0, 1, 5), sent(0, 3, 2, 4), sent(0, 1, 3, 2), sent(0, 4, 4, 1)];
    let graph = TestGraph::with_failed(&rows, |row| row == 4, 2);
    let (row, coverage) = extract_known(&graph, 0, &HistoryCoverage::default());
    assert_eq!(coverage, Coverage { senders: 0.0, receivers: 0.0, ..Coverage::FULL });
    assert_eq!(uncovered(&row), by_basis(&[Basis::Senders, Basis::Receivers]));

    // A failed payment to a sender makes no other counterparty.
    let rows = [sent(1, 0, 0, 5), sent(2, 0, 1, 5), sent(0, 1, 3, 2)];
    let graph = TestGraph::with_failed(&rows, |row| row == 2, 0);
    assert_eq!(extract_known(&graph, 0, &HistoryCoverage::default()).1.senders, 0.0);
}

#[test]
fn a_wallet_met_only_through_another_is_not_covered_itself() {
    let graph = example();
    for wallet in [1, 4] {
        let (row, coverage) = extract_known(&graph, wallet, &HistoryCoverage::default());
        assert!(!coverage.own, "{wallet}");
        assert_eq!(uncovered(&row), by_basis(&[Basis::Own, Basis::Senders, Basis::Receivers]));
    }
    // Wallet 2 spends what it never received.
    assert!(!extract_known(&graph, 2, &HistoryCoverage::default()).1.own);
    assert!(extract_known(&graph, 3, &HistoryCoverage::default()).1.own);
}

#[test]
fn statements_cover_what_an_estimate_does_not() {
    let rows = [sent(1, 0, 10, 5), sent(2, 0, 20, 5), sent(0, 3, 30, 4), sent(0, 4, 40, 2)];
    let graph = TestGraph::new(&rows, 2);
    let covers = |statements: &[(Option<u32>, i64, i64)]| {
        let mut histories = HistoryCoverage::default();
        for (wallet, from, to) in statements {
            histories.state(wallet.map(|wallet| graph.wallet(wallet)), Period { from: *from, to: *to });
        }
        let coverage = extract_known(&graph, 0, &histories).1;
        (coverage.senders, coverage.receivers)
    };
    assert_eq!(covers(&[(None, 10, 41)]), (1.0, 1.0));
    assert_eq!(covers(&[(None, 11, 41)]), (0.0, 0.0), "the first transfer is not in the period");
    assert_eq!(covers(&[(None, 10, 40)]), (0.0, 0.0), "the last transfer is not in the period");
    assert_eq!(covers(&[(Some(1), i64::MIN, i64::MAX), (Some(3), 0, 20), (Some(3), 20, 50)]), (0.5, 0.5));

    // A statement that the values contradict is not believed: wallet 1 spends what it never
    // received.
    let mut histories = HistoryCoverage::default();
    histories.state(None, Period::ALWAYS);
    assert!(!extract_known(&graph, 1, &histories).1.own);
    assert!(extract_known(&graph, 3, &histories).1.own);
}
