//! Each pattern is found where it was planted in noise, and noise alone is not taken for it.

use super::*;
use crate::graph::{Base, Builder, HeapBuffer, HeapScratch, HeapSink, Overlay, Position, Status, TransferRow, file};

const MINUTE: i64 = 60_000_000;
const WINDOW: i64 = 24 * 60 * MINUTE;

/// Wallets of the noise.
const CROWD: u32 = 400;

/// A thousand payments in four weeks, of amounts of their own, by a crowd that does not know each
/// other.
fn noise() -> Vec<Sent> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    (0..1_000)
        .map(|_| {
            let from = next(u64::from(CROWD)) as u32;
            let to = (from + 1 + next(u64::from(CROWD) - 1) as u32) % CROWD;
            sent(from, to, next(28 * 24 * 60) as i64 * MINUTE, 1_000 + u128::from(next(88_000)))
        })
        .collect()
}

/// At a time in the second week.
fn at(minutes: i64) -> i64 {
    10 * WINDOW + minutes * MINUTE
}

fn check(name: &str, planted: &[Sent]) {
    check_with(name, &json!({}), planted);
}

fn check_with(name: &str, options: &Value, planted: &[Sent]) {
    let alone = TestGraph::new(&noise(), 100);
    assert_eq!(found(&alone, name, WINDOW, options).findings, [], "{name} in noise");
    let rows: Vec<Sent> = noise().into_iter().chain(planted.iter().cloned()).collect();
    let test = TestGraph::new(&rows, 50);
    let detected = found(&test, name, WINDOW, options);
    let wanted: Evidence = planted.iter().map(|row| (row.time, row.from, row.to, row.value)).collect();
    let all: Vec<Evidence> = detected.findings.iter().map(|one| evidence(&test, one)).collect();
    assert_eq!(all, [wanted], "{name}");
    assert_eq!(detected.reason(), None);
    assert!(detected.findings[0].strength > 0.3, "{name}: {}", detected.findings[0].strength);
}

#[test]
fn fans() {
    let out: Vec<Sent> = (0..12).map(|spoke| sent(500, 510 + spoke, at(i64::from(spoke) * 7), 5_000)).collect();
    check("fan_out", &out);
    let back: Vec<Sent> = out.iter().map(|one| sent(one.to, one.from, one.time, one.value)).collect();
    check("fan_in", &back);
}

#[test]
fn gather_scatter() {
    let gather = (0..6).map(|spoke| sent(510 + spoke, 500, at(i64::from(spoke)), 5_000));
    let scatter = (0..6).map(|spoke| sent(500, 520 + spoke, at(100 + i64::from(spoke)), 4_900));
    check("gather_scatter", &gather.chain(scatter).collect::<Vec<_>>());
}

#[test]
fn scatter_gather() {
    let scatter = (0..5).map(|spoke| sent(500, 510 + spoke, at(i64::from(spoke)), 5_000));
    let gather = (0..5).map(|spoke| sent(510 + spoke, 520, at(100 + i64::from(spoke)), 4_900));
    check("scatter_gather", &scatter.chain(gather).collect::<Vec<_>>());
}

#[test]
fn cycles() {
    // two parallel transfers on one step, and the round does not begin with the first transfer
    let steps = [(500, 501, 30), (501, 502, 40), (501, 502, 45), (502, 503, 10), (503, 500, 20)];
    let round: Vec<Sent> =
        steps.iter().map(|(from, to, minutes)| sent(*from, *to, at(*minutes), 70_000 - *minutes as u128)).collect();
    check("cycle", &round);
    let rows: Vec<Sent> = noise().into_iter().chain(round).collect();
    let test = TestGraph::new(&rows, 0);
    let detected = found(&test, "cycle", WINDOW, &json!({"ordered": true}));
    assert_eq!(detected.findings.len(), 1);
    assert_eq!(detected.findings[0].transfers.len(), 4);
    assert_eq!(found(&test, "cycle", 35 * MINUTE, &json!({})).findings.len(), 1);
    assert_eq!(found(&test, "cycle", 29 * MINUTE, &json!({})).findings.len(), 0);
}

#[test]
fn many_parallel_transfers_are_one_cycle() {
    let round: Vec<Sent> = (0..30)
        .flat_map(|turn| {
            (0..3).map(move |step| sent(500 + step, 500 + (step + 1) % 3, at(turn * 3 + i64::from(step)), 9_000))
        })
        .collect();
    check("cycle", &round);
}

#[test]
fn wash_trading() {
    let round: Vec<Sent> = (0..6)
        .map(|turn| sent(500 + turn % 2, 501 - turn % 2, at(i64::from(turn)), 8_000 + u128::from(turn)))
        .collect();
    check("wash_trading", &round);
}

#[test]
fn layers() {
    let layer = |from: u32, to: u32, minutes: i64, width: u32| {
        (0..width * width).map(move |pair| {
            sent(from + pair / width, to + pair % width, at(minutes + i64::from(pair)), 3_000 + u128::from(pair))
        })
    };
    check("bipartite", &layer(500, 510, 0, 3).collect::<Vec<_>>());
    check("stack", &layer(500, 510, 0, 2).chain(layer(510, 520, 30, 2)).collect::<Vec<_>>());
}

#[test]
fn chains() {
    let walk: Vec<Sent> =
        (0..6).map(|hop| sent(500 + hop, 501 + hop, at(i64::from(hop) * 10), 50_000 - 100 * u128::from(hop))).collect();
    check("random_walk", &walk);
    let peels: Vec<Sent> = (0..4)
        .flat_map(|hop| {
            let (value, time) = (90_000 - 5_000 * u128::from(hop), at(i64::from(hop) * 10));
            let peeled = sent(500 + hop, 600 + hop, time, 5_000);
            [sent(500 + hop, 501 + hop, time, value)].into_iter().chain((hop > 0).then_some(peeled))
        })
        .collect();
    check("peeling_chain", &peels);
}

#[test]
fn flows() {
    let passed = [(510, 500, 0, 40_000), (511, 500, 5, 30_000), (500, 520, 60, 69_000)];
    let passed = passed.map(|(from, to, minutes, value)| sent(from, to, at(minutes), value));
    // of two transfers by chance one is like the other now and then
    check_with("pass_through", &json!({"min_transfers": 3}), &passed);
    // what goes before it came does not pass through
    let before = [(500, 520, 0, 69_000), (510, 500, 5, 70_000), (500, 521, 9, 100)];
    let rows: Vec<Sent> = before.map(|(from, to, minutes, value)| sent(from, to, at(minutes), value)).to_vec();
    assert_eq!(found(&TestGraph::new(&rows, 0), "pass_through", WINDOW, &json!({})).findings, []);
    let below: Vec<Sent> =
        (0..4).map(|part| sent(500, 510 + part, at(i64::from(part)), 98_000 + u128::from(part))).collect();
    check("structuring", &below);
    let test = TestGraph::new(&below, 0);
    let found = |options| found(&test, "structuring", WINDOW, &options).findings.len();
    assert_eq!(found(json!({"threshold": 98_500})), 1);
    assert_eq!(found(json!({"threshold": 98_001})), 0);
    assert_eq!(found(json!({"received": true})), 0);
}

#[test]
fn dormant_awakened() {
    let day = 24 * 60;
    let old = [sent(510, 500, at(-400 * day), 60_000), sent(500, 511, at(-390 * day), 10_000)];
    // Dust in between does not wake the wallet.
    let dust = [sent(512, 500, at(-5 * day), 1)];
    let woken = [sent(500, 520, at(0), 30_000), sent(500, 521, at(60), 5_000)];
    let rows: Vec<Sent> = noise().into_iter().chain(old).chain(dust).chain(woken.clone()).collect();
    let test = TestGraph::new(&rows, 4);
    let detected = found(&test, "dormant_awakened", WINDOW, &json!({}));
    let wanted: Evidence = woken.iter().map(|row| (row.time, row.from, row.to, row.value)).collect();
    assert_eq!(detected.findings.iter().map(|one| evidence(&test, one)).collect::<Vec<_>>(), [wanted]);
    assert_eq!(detected.findings[0].details["silent_days"], 390);
    assert_eq!(detected.findings[0].details["held"], "50000");
    assert_eq!(found(&test, "dormant_awakened", WINDOW, &json!({"min_share": 0.8})).findings, []);
    assert_eq!(found(&test, "dormant_awakened", WINDOW, &json!({"min_silence_days": 391})).findings, []);
    assert_eq!(found(&TestGraph::new(&noise(), 0), "dormant_awakened", WINDOW, &json!({})).findings, []);
}

/// A graph of wallets by their addresses.
fn by_address(rows: &[(&str, &str, i64, u128)]) -> (Base<HeapBuffer>, Overlay) {
    let mut builder = Builder::new(HeapScratch, 0).unwrap();
    for (from, to, time, value) in rows {
        let row = TransferRow {
            network: "testnet",
            from: Some(from),
            to: Some(to),
            token: None,
            time: *time,
            value: U256::new(*value),
            position: Position::default(),
            status: Status::Confirmed,
        };
        builder.push(&row).unwrap();
    }
    let sink = HeapSink::default();
    builder.finish(&mut Uninterrupted).unwrap().write(&file::tests::provenance(1), &sink, &mut Uninterrupted).unwrap();
    (Base::open(sink.into_file().0).unwrap(), Overlay::new())
}

#[test]
fn address_poisoning() {
    let (real, fake, other) = (
        "0xabcd000000000000000000000000000000001234",
        "0xabcd999999999999999999999999999999991234",
        "0xabcd999999999999999999999999999999991235",
    );
    let victim = "0x1111111111111111111111111111111111111111";
    let rows = [
        (victim, real, at(0), 1_000_000),
        (fake, victim, at(10), 0),
        (victim, fake, at(20), 5),
        // too much for dust, another address, before the victim dealt with anybody
        (fake, victim, at(30), 50_000),
        (other, victim, at(40), 0),
        (fake, victim, at(-10), 0),
    ];
    let (base, overlay) = by_address(&rows);
    let graph = Graph::new(&base, &overlay);
    let detect = |options: Value| {
        let pattern = Pattern::parse("address_poisoning", WINDOW, &options, 0).unwrap();
        detect(&graph, &pattern, &scope(ROOM), &mut Uninterrupted).unwrap().findings
    };
    let found = detect(json!({}));
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].wallets.iter().map(|one| graph.address(*one).unwrap()).collect::<Vec<_>>(),
        [victim, fake, real]
    );
    assert_eq!(found[0].transfers.iter().map(|one| one.time).collect::<Vec<_>>(), [at(10), at(20)]);
    assert_eq!(found[0].details["imitates"], real);
    assert_eq!(found[0].details["same_digits"], 8);
    assert_eq!(detect(json!({"digits": 5})), []);
    assert_eq!(detect(json!({"dust": 0.1}))[0].transfers.len(), 3);
}
