//! Exposures are those of the plainest definition, those of traces to the unit, and the same for
//! one wallet as for many within rounding.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
use crate::graph::Uninterrupted;
use crate::graph::query::trace::{End, Stops, TaintMethod, Terms, TraceOrigin, trace};
use crate::graph::test_graph::{Sent as Row, TestGraph};
use crate::label::{LabelKind, Severity};

/// Wallets from this number on are labelled, with two labels in turn.
const LABELLED: u32 = 6;

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0..9_u32, 0..9_u32, 0..12_i64, 0..50_u128);
    let row =
        row.prop_map(|(from, to, time, value)| Row { from, to, token: 0, time, value: value * 1_000_000_000_000_000 });
    prop::collection::vec(row, 1..40)
}

struct Labelled(BTreeMap<WalletId, u32>);

impl Labelled {
    fn of(graph: &TestGraph) -> Self {
        Self((LABELLED..9).map(|number| (graph.wallet(number), number % 2)).collect())
    }
}

impl Marks for Labelled {
    type Error = SearchError;

    fn prepare(&mut self, _graph: &Graph<'_>, _wallets: &[WalletId]) -> Result<(), SearchError> {
        Ok(())
    }

    fn mark(&self, wallet: WalletId) -> Option<u32> {
        self.0.get(&wallet).copied()
    }
}

impl Stops for Labelled {
    type Error = SearchError;

    fn prepare(&mut self, _graph: &Graph<'_>, _wallets: &[WalletId]) -> Result<(), SearchError> {
        Ok(())
    }

    fn stops_at(&self, wallet: WalletId) -> bool {
        self.mark(wallet).is_some()
    }
}

fn terms(flow: Flow, max_hops: u32) -> ExposureTerms {
    let memory = MemoryBudget::new(1 << 26);
    ExposureTerms {
        flow,
        assets: AssetSelection::Native,
        since: None,
        until: None,
        max_hops,
        max_fan_out: None,
        memory,
    }
}

fn found(graph: &TestGraph, asked: &[u32], terms: &ExposureTerms) -> Vec<Exposed> {
    let asked: Vec<WalletId> = asked.iter().map(|number| graph.wallet(*number)).collect();
    let found = exposures(&graph.graph(), &asked, terms, &mut Labelled::of(graph), &mut Uninterrupted).unwrap();
    assert_eq!(found.halted, None);
    found.found
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-6 * one.abs().max(other.abs()) + 1_000.0
}

fn active(rows: &[Row]) -> Vec<u32> {
    let seen: BTreeSet<u32> =
        rows.iter().flat_map(|row| [row.from, row.to]).filter(|number| *number < LABELLED).collect();
    seen.into_iter().collect()
}

/// Computes shares of balances by wallet, label and hop, in full at every transfer.
fn definition(rows: &[Row], asked: u32, flow: Flow, max_hops: u32) -> BTreeMap<(u32, u32), f64> {
    let mut ordered: Vec<(usize, &Row)> = rows.iter().enumerate().filter(|(_, row)| row.value > 0).collect();
    ordered.sort_by_key(|(number, row)| (row.time, *number));
    let mut balances = HashMap::<u32, f64>::new();
    let mut passing = Vec::new();
    for (_, row) in ordered {
        let amount = row.value as f64;
        let own = balances.entry(row.from).or_default();
        if row.from == row.to {
            // nothing moves, but what was there was there
            passing.push((row, (*own / amount).min(1.0), 0.0, 0.0));
            *own = own.max(amount);
            continue;
        }
        let (held, leaves) = ((*own / amount).min(1.0), if *own > amount { amount / *own } else { 1.0 });
        *own = (*own - amount).max(0.0);
        let other = balances.entry(row.to).or_default();
        let mixed = amount / (*other + amount);
        *other += amount;
        passing.push((row, held, leaves, mixed));
    }
    if flow == Flow::Forward {
        passing.reverse();
    }
    let mut made_up = HashMap::<u32, BTreeMap<(u32, u32), f64>>::new();
    let mut sums = BTreeMap::new();
    for (row, held, leaves, mixed) in passing {
        if row.from == row.to {
            if flow == Flow::Backward {
                made_up.entry(row.from).or_default().values_mut().for_each(|share| *share *= held);
            }
            continue;
        }
        let (there, here, part, mixed) =
            if flow == Flow::Backward { (row.from, row.to, held, mixed) } else { (row.to, row.from, 1.0, leaves) };
        let moved: BTreeMap<(u32, u32), f64> = if there == asked {
            // Own funds that came back.
            BTreeMap::new()
        } else if there >= LABELLED {
            BTreeMap::from([((there % 2, 1), 1.0)])
        } else {
            let known = made_up.entry(there).or_default();
            known.iter().map(|((label, hop), share)| ((*label, hop + 1), share * part)).collect()
        };
        if here == asked {
            for (key, share) in &moved {
                *sums.entry(*key).or_insert(0.0) += share * row.value as f64;
            }
        }
        let own = made_up.entry(here).or_default();
        own.values_mut().for_each(|share| *share *= 1.0 - mixed);
        for (key, share) in moved {
            *own.entry(key).or_default() += share * mixed;
        }
    }
    sums.into_iter().filter(|((_, hop), _)| *hop <= max_hops).collect()
}

fn explained(graph: &TestGraph, asked: u32, terms: &ExposureTerms) -> ExplainedExposure {
    explain(&graph.graph(), graph.wallet(asked), terms, &mut Labelled::of(graph), &mut Uninterrupted).unwrap()
}

/// Values by label and hop, and at hubs.
fn by_label(parts: &[Exposure]) -> BTreeMap<(Part, u32), f64> {
    let mut sums = BTreeMap::new();
    for part in parts {
        match part.part {
            Part::Mark(_) => *sums.entry((part.part, part.hops)).or_default() += part.value,
            Part::FanOut => *sums.entry((part.part, 0)).or_default() += part.value,
            Part::Own | Part::Hops => {}
        }
    }
    sums
}

fn flow_of(forward: bool) -> Flow {
    if forward { Flow::Forward } else { Flow::Backward }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn exposures_match_the_definition(rows in rows(), over in 0..20_usize, max_hops in 1..6_u32, forward: bool) {
        let graph = TestGraph::new(&rows, over);
        let flow = flow_of(forward);
        let asked = active(&rows);
        let many = found(&graph, &asked, &terms(flow, max_hops));
        for (number, exposed) in asked.iter().zip(&many) {
            let expected = definition(&rows, *number, flow, max_hops);
            let own: BTreeMap<(u32, u32), f64> = exposed
                .parts
                .iter()
                .filter_map(|one| if let Part::Mark(label) = one.part { Some(((label, one.hops), one.value)) } else { None })
                .collect();
            for key in own.keys().chain(expected.keys()) {
                let (own, expected) = (own.get(key).copied().unwrap_or(0.0), expected.get(key).copied().unwrap_or(0.0));
                prop_assert!(close(own, expected), "{} {:?}: {} against {}", number, key, own, expected);
            }
            // alone as among others, to the last bit
            let alone = found(&graph, &[*number], &terms(flow, max_hops));
            prop_assert_eq!(by_label(&alone[0].parts), by_label(&exposed.parts));
            prop_assert_eq!(&alone[0].direct, &exposed.direct);
        }
    }

    #[test]
    fn parts_add_up_to_the_unit_and_their_paths_lead_there(
        rows in rows(), max_hops in 1..6_u32, forward: bool, fan_out in prop::option::of(1..4_u64), tied: bool,
    ) {
        let graph = if tied { TestGraph::in_one_block(&rows, 5) } else { TestGraph::new(&rows, 5) };
        let flow = flow_of(forward);
        let terms = ExposureTerms { max_fan_out: fan_out, ..terms(flow, max_hops) };
        for number in active(&rows) {
            let exposed = explained(&graph, number, &terms);
            let parts = exposed.parts.iter().map(|part| part.value);
            let sum = parts.chain(exposed.remainders.iter().map(|end| end.amount)).fold(U256::ZERO, |sum, part| sum + part);
            prop_assert_eq!(sum, exposed.total.value);
            for part in &exposed.parts {
                prop_assert_eq!(part.path.len(), part.hops as usize);
                let mut at = if forward { exposed.wallet } else { part.wallet };
                let mut before = i64::MIN;
                for step in &part.path {
                    let transfer = graph.graph().transfer(*step).unwrap();
                    prop_assert!(transfer.time >= before && graph.graph().sender(*step).unwrap() == Some(at));
                    (at, before) = (transfer.peer.unwrap(), transfer.time);
                }
                prop_assert_eq!(at, if forward { part.wallet } else { exposed.wallet });
                if part.hops == 1 {
                    let (_, direct) = exposed.direct.iter().find(|(wallet, _)| *wallet == part.wallet).unwrap();
                    prop_assert_eq!(direct.value, part.value);
                }
            }
        }
    }

    #[test]
    fn a_haircut_trace_has_the_lines_of_the_exposure_to_the_unit(
        rows in rows(), asked in 0..LABELLED, forward: bool, max_hops in 1..7_u32, fan_out in prop::option::of(1..4_u64), tied: bool,
    ) {
        let graph = if tied { TestGraph::in_one_block(&rows, 5) } else { TestGraph::new(&rows, 5) };
        let flow = flow_of(forward);
        let trace_terms = Terms {
            flow,
            method: TaintMethod::Haircut,
            assets: AssetSelection::Native,
            since: None,
            until: None,
            max_hops,
            min_value: None,
            max_fan_out: fan_out,
            max_wallets: None,
            min_share: 0,
        late_steps: 0,
            follows_before_since: false,
            paths: false,
            memory: MemoryBudget::new(1 << 26),
        };
        let origin = TraceOrigin::Wallet(graph.wallet(asked));
        let traced = trace(&graph.graph(), &origin, &trace_terms, &mut Labelled::of(&graph), &mut Uninterrupted).unwrap();
        let exposed = explained(&graph, asked, &ExposureTerms { max_fan_out: fan_out, ..terms(flow, max_hops) });
        let label_of = |wallet| Labelled::of(&graph).mark(wallet).map(|mark| PartyLabel {
            category: ["scam", "exchange"][mark as usize], kind: LabelKind::Illicit, severity: Severity::High,
        });
        let statement = Statement::new(&exposed, flow, label_of, |wallet| graph.graph().order(wallet));
        let mut lines = BTreeMap::<String, U256>::new();
        for line in statement.lines.iter().filter(|line| line.value > U256::ZERO) {
            let name = line.label.map_or(line.heading.name(), |label| label.category);
            *lines.entry(name.to_owned()).or_insert(U256::ZERO) += line.value;
        }
        let mut ends = BTreeMap::<String, U256>::new();
        for end in &traced.ends {
            let name = match end.end {
                End::Stop => label_of(end.wallet.unwrap()).unwrap().category,
                End::TraceOrigin => "own funds",
                other => other.name(flow),
            };
            *ends.entry(name.to_owned()).or_insert(U256::ZERO) += end.amount;
        }
        prop_assert_eq!(lines, ends);
        prop_assert_eq!(traced.shortfalls, exposed.shortfalls);
    }

    #[test]
    fn many_wallets_have_the_exposure_of_each_alone_within_rounding(
        rows in rows(), forward: bool, max_hops in 1..7_u32, fan_out in prop::option::of(1..4_u64), tied: bool,
    ) {
        let graph = if tied { TestGraph::in_one_block(&rows, 5) } else { TestGraph::new(&rows, 5) };
        let terms = ExposureTerms { max_fan_out: fan_out, ..terms(flow_of(forward), max_hops) };
        let labels = Labelled::of(&graph);
        let asked = active(&rows);
        for (number, exposed) in asked.iter().zip(found(&graph, &asked, &terms)) {
            let alone = explained(&graph, *number, &terms);
            let (own, exact) = (by_label(&exposed.parts), by_label(&alone.by_mark(|wallet| labels.mark(wallet))));
            for key in own.keys().chain(exact.keys()) {
                let [own, exact] = [&own, &exact].map(|parts| parts.get(key).copied().unwrap_or(0.0));
                prop_assert!(close(own, exact), "{} {:?}: {} against {}", number, key, own, exact);
            }
            let beyond: f64 =
                exposed.parts.iter().filter(|part| part.part == Part::Hops).map(|part| part.value).sum();
            let cut: f64 =
                alone.remainders.iter().filter(|end| end.end == End::Hops).map(|end| end.amount.as_f64()).sum();
            prop_assert!(beyond + 1_000.0 >= cut * (1.0 - 1e-9), "{}: {} against {}", number, beyond, cut);
        }
    }
}

#[test]
fn too_little_memory_is_an_error() {
    let rows: Vec<Row> =
        (0..200).map(|number| Row { from: number % 6, to: (number + 1) % 8, token: 0, time: 0, value: 5 }).collect();
    let graph = TestGraph::new(&rows, 0);
    for bytes in [500, 1_000, 2_000] {
        let terms = ExposureTerms { memory: MemoryBudget::new(bytes), ..terms(Flow::Backward, 3) };
        let asked = [graph.wallet(1)];
        let found = exposures(&graph.graph(), &asked, &terms, &mut Labelled::of(&graph), &mut Uninterrupted);
        assert!(matches!(found, Err(SearchError::Memory { .. })), "{bytes}");
    }
}

#[test]
fn amounts_are_rounded_to_the_digits_of_ratios() {
    let units = |amount| whole_units(amount).as_u128();
    assert_eq!([units(0.0), units(1e-30), units(0.7), units(1.0), units(1.6)], [0, 1, 1, 1, 2]);
    assert_eq!(units(20_000_000_000_000_004_096.0), 20_000_000_000_000_000_000);
    assert_eq!(units(123_456_789_012_345.0), 123_456_789_012_345);
    assert_eq!(units(1_234_567_890_123_456.0), 1_234_567_890_123_460);
    assert_eq!(whole_units(1e77), U256::new(10).pow(77));
}

#[test]
fn funds_that_have_left_do_not_taint_later_ones() {
    // 60 with many digits from a labelled wallet leave in two parts; what comes then is clean, to
    // the last unit
    let (all, first) = (60_123_456_789_012_345_678_u128, 19_987_654_321_098_765_433_u128);
    let sent = |from, to, time, value| Row { from, to, token: 0, time, value };
    let rows = [
        sent(LABELLED, 1, 1, all),
        sent(1, 2, 2, first),
        sent(1, 2, 3, all - first),
        sent(3, 1, 4, 1_000_000_000_000_000_000),
        sent(1, 4, 5, 1_000_000_000_000_000_000),
    ];
    let graph = TestGraph::new(&rows, 0);
    let parts = &found(&graph, &[4], &terms(Flow::Backward, 3))[0].parts;
    assert!(parts.iter().all(|one| one.value == 0.0), "{parts:?}");
}

#[test]
fn a_labelled_wallet_is_not_exposed_to_itself_but_to_others_of_its_label() {
    // 6 and 8 have one label; 8 gets back what it sent, and something of 6
    let sent = |from, to, time, value| Row { from, to, token: 0, time, value };
    let rows = [sent(8, 1, 1, 5), sent(1, 8, 2, 5), sent(6, 2, 3, 7), sent(2, 8, 4, 7)];
    let graph = TestGraph::new(&rows, 0);
    let own = &found(&graph, &[8, 6], &terms(Flow::Backward, 3))[0].parts;
    let own: Vec<(Part, f64)> = own.iter().map(|one| (one.part, one.value)).collect();
    assert_eq!(own.len(), 2);
    assert!(own.contains(&(Part::Own, 5.0)) && own.contains(&(Part::Mark(0), 7.0)), "{own:?}");
    let explained = explained(&graph, 8, &terms(Flow::Backward, 3));
    let own: Vec<_> = explained.remainders.iter().map(|end| (end.end, end.amount)).collect();
    assert_eq!(own, [(End::TraceOrigin, U256::new(5))]);
}
