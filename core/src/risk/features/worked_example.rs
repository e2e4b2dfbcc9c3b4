//! Every feature of one wallet, worked out by hand.

use super::*;
use crate::graph::test_graph::provenance;
use crate::graph::{
    Base, Builder, HeapBuffer, HeapScratch, HeapSink, MemoryBudget, Overlay, Position, Status, TransferRow, U256,
    Uninterrupted,
};
use crate::label::LabelKind;

const NETWORK: &str = "testnet";

/// Units in a ten-thousandth of a coin: the smallest amount of the example.
const SMALLEST: u128 = 100_000_000_000_000;

/// Microseconds in an hour.
const HOUR: i64 = 3_600_000_000;

/// Customers of the exchange: they make it a hub.
const CUSTOMERS: u32 = 1_000;

/// A transfer: hours since the first one, sender, receiver if it creates no contract, and the value
/// in ten-thousandths of a coin.
type Movement<'m> = (i64, &'m str, Option<&'m str>, u32);

/// Transfers that took effect. Two thieves pay the mule, which pays an exchange, a friend, a
/// launderer and a contract, and creates a contract.
const CONFIRMED: [Movement<'static>; 16] = [
    // Receipts: 4, 4, 0.0001, 0.75 and 0.0001 coins, 8.7502 in all.
    (0, "thief1", Some("mule"), 40_000),
    (24, "thief2", Some("mule"), 40_000),
    (72, "friend", Some("mule"), 1),
    (100, "exchange", Some("mule"), 7_500),
    (101, "friend", Some("mule"), 1),
    // Payments: 6, 1, 0.5, 0 and 1 coins, 8.5 in all.
    (25, "mule", Some("exchange"), 60_000),
    (96, "mule", Some("friend"), 10_000),
    (110, "mule", Some("launderer"), 5_000),
    (112, "mule", Some("contract"), 0),
    (114, "mule", Some("friend"), 10_000),
    // A contract is created: no counterparty.
    (121, "mule", None, 0),
    // A transfer to itself moves nothing.
    (122, "mule", Some("mule"), 90_000),
    // Transfers of the others.
    (5, "launderer", Some("thief1"), 10),
    (6, "thief1", Some("exchange"), 20),
    (7, "thief1", Some("friend"), 30),
    (8, "friend", Some("launderer"), 40),
];

/// A payment that failed.
const FAILED: Movement<'static> = (120, "mule", Some("exchange"), 10_000);

fn graph() -> Base<HeapBuffer> {
    let mut builder = Builder::new(HeapScratch, 0).unwrap();
    let mut push = |(hours, from, to, value): Movement<'_>, status| {
        let row = TransferRow {
            network: NETWORK,
            from: Some(from),
            to,
            token: None,
            time: hours * HOUR,
            value: U256::new(u128::from(value) * SMALLEST),
            position: Position::default(),
            status,
        };
        builder.push(&row).unwrap();
    };
    for movement in CONFIRMED {
        push(movement, Status::Confirmed);
    }
    push(FAILED, Status::Failed);
    for number in 0..CUSTOMERS {
        push((9, &format!("customer{number}"), Some("exchange"), 1), Status::Confirmed);
    }
    let sink = HeapSink::default();
    builder.finish(&mut Uninterrupted).unwrap().write(&provenance(1), &sink, &mut Uninterrupted).unwrap();
    Base::open(sink.into_file().0).unwrap()
}

/// The value of each feature of the mule, in the order of the catalogue.
fn expected() -> Vec<(&'static str, f64)> {
    let hour = 3_600.0;
    let (received, sent) = (8.7502, 8.5);
    // The first transfer was at hour 0, the last payment at hour 114.
    let lifetime = 114.0 * hour;
    // Hours of all transfers: 0, 24, 25, 72, 96, 100, 101, 110, 112, 114. Nine gaps: 24, 1, 47, 24,
    // 4, 1, 9, 2, 2.
    let gap_mean = lifetime / 9.0;
    let gap_squares =
        (24.0_f64.powi(2) * 2.0 + 47.0_f64.powi(2) + 4.0_f64.powi(2) + 9.0_f64.powi(2) + 10.0) * hour * hour;
    let log2 = |count: f64| (1.0 + count).log2();
    // Senders and receivers of the exchange: the customers, the mule and a thief; the mule.
    let (exchange_in, exchange_out) = (1_002.0, 1.0);
    vec![
        // Five receipts and five payments.
        ("transactions", 5.0 + 5.0),
        ("received_count_share", 5.0 / 10.0),
        ("contracts_created", 1.0),
        ("received_total", 4.0 + 4.0 + 0.0001 + 0.75 + 0.0001),
        ("sent_received_ratio", (6.0 + 1.0 + 0.5 + 0.0 + 1.0) / received),
        ("received_mean", received / 5.0),
        // Sorted: 0.0001, 0.0001, 0.75, 4, 4.
        ("received_median", 0.75),
        ("received_min", 0.0001),
        (
            "received_variation",
            ((2.0 * 16.0 + 0.75 * 0.75 + 2.0 * 0.0001 * 0.0001) / 5.0 - (received / 5.0).powi(2)).sqrt()
                / (received / 5.0),
        ),
        ("received_top_share", 4.0 / received),
        // Two of 4 coins, as many as of 0.0001.
        ("received_common_share", 2.0 / 5.0),
        // Amounts 4 and 0.0001 have two fifths each, 0.75 has one.
        ("received_entropy", -(2.0 * 0.4 * 0.4_f64.log2() + 0.2 * 0.2_f64.log2())),
        // Both of 4 coins.
        ("received_round_share", 2.0 / 5.0),
        // Both of 4 coins, and 0.75.
        ("received_short_share", 3.0 / 5.0),
        // Both of 0.0001 coins.
        ("received_dust_share", 2.0 / 5.0),
        // Sorted: 0, 0.5, 1, 1, 6.
        ("sent_median", 1.0),
        ("sent_min", 0.0),
        ("sent_variation", ((36.0 + 1.0 + 0.25 + 0.0 + 1.0) / 5.0 - 1.7_f64.powi(2)).sqrt() / 1.7),
        ("sent_top_share", 6.0 / sent),
        // Both of 1 coin.
        ("sent_common_share", 2.0 / 5.0),
        // All but the payment of nothing.
        ("sent_round_share", 4.0 / 5.0),
        // The payment to the contract.
        ("sent_empty_share", 1.0 / 5.0),
        // Tried: five payments, the one that failed, the creation, and the transfer to itself.
        ("failed_share", 1.0 / 8.0),
        ("lifetime", lifetime),
        ("received_span", 101.0 * hour),
        ("sent_span", (114.0 - 25.0) * hour),
        ("received_span_share", 101.0 / 114.0),
        ("sent_centre", (25.0 + 96.0 + 110.0 + 112.0 + 114.0) / 5.0 / 114.0),
        // Days 0, 1, 3 and 4.
        ("active_days", 4.0),
        ("gap_mean", gap_mean),
        // Sorted: 1, 1, 2, 2, 4, 9, 24, 24, 47.
        ("gap_median", 4.0 * hour),
        ("gap_short", 1.0 * hour),
        ("gap_variation", (gap_squares / 9.0 - gap_mean * gap_mean).sqrt() / gap_mean),
        ("gap_longest_share", 47.0 / 114.0),
        // Gaps 24, 48, 28, 1: of an even number the lower one in the middle.
        ("received_gap_median", 24.0 * hour),
        // Gaps 71, 14, 2, 2.
        ("sent_gap_median", 2.0 * hour),
        // From 0 to 25, 24 to 25, 72 to 96, 100 to 110, and 101 to 110: 25, 1, 24, 10 and 9.
        ("onward_delay", 10.0 * hour),
        ("last_sent_delay", (114.0 - 101.0) * hour),
        // 6 coins at 25: 4 are held for 25 hours, 2 for one. 1 at 96: 72 hours. 0.5 at 110: 86
        // hours. 1 at 114: 0.5 for 90 hours, 0.0001 for 42, and 0.4999 of the 0.75 for 14.
        (
            "holding_time",
            (4.0 * 25.0 + 2.0 * 1.0 + 1.0 * 72.0 + 0.5 * 86.0 + 0.5 * 90.0 + 0.0001 * 42.0 + 0.4999 * 14.0) * hour
                / sent,
        ),
        // The 2 that are held for one hour, and the 0.4999 for 14.
        ("passed_on_share", (2.0 + 0.4999) / received),
        ("unspent_share", (received - sent) / received),
        // Two thieves, the friend and the exchange.
        ("senders", 4.0),
        ("senders_per_receipt", 4.0 / 5.0),
        ("top_sender_share", 4.0 / received),
        // The friend paid twice.
        ("top_sender_count_share", 2.0 / 5.0),
        // The exchange, the friend, the launderer and the contract.
        ("receivers", 4.0),
        ("receivers_per_payment", 4.0 / 5.0),
        ("top_receiver_share", 6.0 / sent),
        ("fan_in_share", 4.0 / (4.0 + 4.0)),
        // Friend and exchange, of six counterparties.
        ("mutual_share", 2.0 / 6.0),
        // The first thief is paid by the launderer, the second by no one, the friend by the mule
        // and a thief.
        ("senders_fan_in", (log2(1.0) + log2(0.0) + log2(2.0) + log2(exchange_in)) / 4.0),
        // The first thief pays mule, exchange and friend, the second the mule, the friend the mule
        // and the launderer.
        ("senders_fan_out", (log2(3.0) + log2(1.0) + log2(2.0) + log2(exchange_out)) / 4.0),
        ("senders_largest_fan_in", exchange_in),
        // The second thief.
        ("senders_single_share", 1.0 / 4.0),
        ("senders_source_share", 1.0 / 4.0),
        // The exchange.
        ("senders_hub_share", 1.0 / 4.0),
        // The friend is paid by the mule and a thief, the launderer by mule and friend, the
        // contract by the mule.
        ("receivers_fan_in", (log2(exchange_in) + log2(2.0) + log2(2.0) + log2(1.0)) / 4.0),
        // The friend pays mule and launderer, the launderer a thief, the contract no one.
        ("receivers_fan_out", (log2(exchange_out) + log2(2.0) + log2(1.0) + log2(0.0)) / 4.0),
        ("receivers_largest_fan_in", exchange_in),
        // The contract.
        ("receivers_single_share", 1.0 / 4.0),
        // The exchange.
        ("receivers_hub_share", 1.0 / 4.0),
        ("sent_to_hubs_share", 6.0 / sent),
        // The thieves.
        ("illicit_senders", 2.0),
        ("illicit_received_share", (4.0 + 4.0) / received),
        // The launderer.
        ("illicit_receivers", 1.0),
        ("illicit_sent_share", 0.5 / sent),
        // The friend pays the launderer.
        ("senders_paying_illicit", 1.0 / 4.0),
        // The launderer pays the first thief, which pays the friend. It also pays the exchange, but
        // that is a hub.
        ("senders_paid_by_illicit", 2.0 / 4.0),
        // The friend.
        ("receivers_paid_by_illicit", 1.0 / 4.0),
        // The friend pays the launderer, which pays the first thief.
        ("receivers_paying_illicit", 2.0 / 4.0),
        // The exchange.
        ("service_received_share", 0.75 / received),
        ("service_sent_share", 6.0 / sent),
    ]
}

#[test]
fn every_feature_has_the_value_that_is_worked_out_by_hand() {
    let expected = expected();
    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, NAMES, "every feature of the catalogue needs an expected value");

    let (base, overlay) = (graph(), Overlay::new());
    let graph = Graph::new(&base, &overlay);
    let wallet = |name: &str| graph.wallet(NETWORK, name).unwrap().unwrap();
    let mut labelled = LabelledWallets::new(graph.wallets(), &mut MemoryBudget::new(1 << 20)).unwrap();
    for name in ["thief1", "thief2", "launderer"] {
        labelled.mark(wallet(name), LabelKind::Illicit);
    }
    labelled.mark(wallet("exchange"), LabelKind::Service);
    let histories = HistoryCoverage::complete();
    let context = ExtractContext::new(&graph, None, &labelled, &histories, &mut Uninterrupted).unwrap();
    let mut extractor = Extractor::default();
    let extracted = extractor.extract(&context, wallet("mule"), &ContactCounts::OnDemand, &mut Uninterrupted).unwrap();
    let (row, coverage) = extracted.unwrap();
    assert_eq!(coverage, Coverage::FULL);
    for ((name, expected), value) in expected.into_iter().zip(row) {
        // Logarithms are summed as multiples of 2^-20.
        let tolerance =
            if FeatureSpec::named(name).unwrap().unit == FeatureUnit::Log2 { 1e-6 } else { 1e-12 * expected.abs() };
        assert!((value - expected).abs() <= tolerance, "{name} is {value}, not {expected}");
    }
}
