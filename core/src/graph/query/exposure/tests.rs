//! Exposures are those of the plainest definition, those of traces to the unit, and the same for
//! one wallet as for many within rounding.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::graph::query::trace::{End, ShortfallScope, Stops, TaintMethod, Terms, TraceOrigin, own_shortfall, trace};
use crate::graph::test_graph::{Sent as Row, TestGraph};
use crate::graph::{Basket, Factor, Price, Uninterrupted, Valuation, Wrapper};
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
        let statement = Statement::new(&exposed, flow, label_of, |wallet| graph.graph().order(wallet), |_| false);
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
            // The wallet's own shortfall is exact, those on the way to a label are never missed.
            let scope = ShortfallScope {
                assets: AssetSelection::Native, since: None, until: None, memory: MemoryBudget::new(1 << 26),
            };
            let own = own_shortfall(&graph.graph(), exposed.wallet, &scope, &mut Uninterrupted).unwrap();
            let of_origin = alone.shortfalls.iter().find(|shortfall| shortfall.hop == 0 && shortfall.wallet == exposed.wallet);
            prop_assert_eq!(own.map(|own| own.amount), of_origin.map(|origin| origin.amount));
            prop_assert_eq!(own.map(|own| own.first), of_origin.map(|origin| origin.first));
            let in_batch = exposed.own_shortfall.map(|lacking| lacking.map(|lacking| (lacking.amount, lacking.first, lacking.last)));
            prop_assert!(in_batch.is_none_or(|batch| batch == own.map(|own| (own.amount, own.first, own.last))));
            let lacks = |wallet: &WalletId| {
                *wallet != exposed.wallet && alone.shortfalls.iter().any(|shortfall| shortfall.wallet == *wallet)
            };
            let on_the_way = |part: &ExplainedPart| {
                part.path.iter().filter_map(|step| graph.graph().sender(*step).unwrap()).any(|wallet| wallet != part.wallet && lacks(&wallet))
            };
            prop_assert!(exposed.passes_shortfall || !alone.parts.iter().any(on_the_way));
            let of_it = found(&graph, &[*number], &terms);
            prop_assert_eq!(of_it[0].passes_shortfall, exposed.passes_shortfall);
        }
    }

    #[test]
    fn a_basket_of_one_asset_at_price_one_has_the_lines_of_the_asset(
        rows in rows_of_assets(), asked in 0..LABELLED, forward: bool, max_hops in 1..5_u32,
    ) {
        let graph = TestGraph::new(&rows, 5);
        let terms = terms(flow_of(forward), max_hops);
        let basket = basket_of(&graph, &[(0, always(1))]);
        let plain = explained(&graph, asked, &terms);
        let valued = explained_in(&graph, &basket, asked, &terms);
        prop_assert_eq!(&valued.parts, &plain.parts);
        prop_assert_eq!(&valued.remainders, &plain.remainders);
        prop_assert_eq!(&valued.shortfalls, &plain.shortfalls);
        prop_assert_eq!(valued.total, plain.total);
        // Own transfers of the token are counted at least.
        let leaves = |row: &&Row| row.token == 1 && row.value > 0 && row.from != row.to
            && if forward { row.from } else { row.to } == asked;
        let own = rows.iter().filter(leaves).count() as u64;
        let counted = valued.unvalued.iter().map(|of_asset| of_asset.transfers).sum::<u64>();
        prop_assert!(counted >= own && (own == 0 || valued.unvalued[0].asset == graph.token(1)));
        prop_assert!(plain.unvalued.is_empty());
    }

    #[test]
    fn a_basket_is_one_asset_with_the_values_of_all(
        rows in rows_of_assets(), asked in 0..LABELLED, forward: bool, max_hops in 1..5_u32, prices in (0..4_u128, 0..4_u128),
    ) {
        let graph = TestGraph::new(&rows, 5);
        let terms = terms(flow_of(forward), max_hops);
        let basket = basket_of(&graph, &[(0, always(prices.0)), (1, always(prices.1))]);
        let price = |row: &Row| if row.token == 0 { prices.0 } else { prices.1 };
        let merged: Vec<Row> =
            rows.iter().map(|row| Row { token: 0, value: row.value * price(row), ..row.clone() }).collect();
        let merged = TestGraph::new(&merged, 5);
        let (valued, plain) = (explained_in(&graph, &basket, asked, &terms), explained(&merged, asked, &terms));
        let lines = |graph: &TestGraph, exposed: &ExplainedExposure| -> Vec<(String, u32, U256)> {
            let address = |wallet| graph.graph().address(wallet).unwrap().to_owned();
            let parts = exposed.parts.iter().map(|part| (address(part.wallet), part.hops, part.value));
            let ends = exposed.remainders.iter().map(|end| {
                (format!("{:?} {}", end.end, end.wallet.map(address).unwrap_or_default()), end.hop, end.amount)
            });
            let mut lines: Vec<_> = parts.chain(ends).collect();
            lines.sort();
            lines
        };
        prop_assert_eq!(lines(&graph, &valued), lines(&merged, &plain));
        prop_assert_eq!(valued.total.value, plain.total.value);
        prop_assert!(valued.unvalued.is_empty());
    }

    #[test]
    fn values_with_gaps_in_prices_add_up_and_gaps_are_counted(
        rows in rows_of_assets(), forward: bool, max_hops in 1..5_u32, gap in (0..12_i64, 0..12_i64),
    ) {
        let graph = TestGraph::new(&rows, 5);
        let terms = terms(flow_of(forward), max_hops);
        let (from, until) = (gap.0.min(gap.1), gap.0.max(gap.1));
        let prices = Valuation::Priced(vec![
            Price { from: i64::MIN, until: from, factor: factor(2) }, Price { from: until, until: i64::MAX, factor: factor(3) },
        ]);
        let basket = basket_of(&graph, &[(0, prices), (1, always(1))]);
        for number in active(&rows) {
            let exposed = explained_in(&graph, &basket, number, &terms);
            let parts = exposed.parts.iter().map(|part| part.value);
            let sum = parts.chain(exposed.remainders.iter().map(|end| end.amount)).fold(U256::ZERO, |sum, part| sum + part);
            prop_assert_eq!(sum, exposed.total.value);
            let leaves = |row: &&Row| row.from != row.to && if forward { row.from } else { row.to } == number;
            let own = || rows.iter().filter(leaves).filter(|row| row.value > 0);
            let in_gap = |row: &&Row| row.token == 0 && (from..until).contains(&row.time);
            let expected = own().filter(|row| !in_gap(row)).map(|row| {
                U256::new(row.value * if row.token > 0 { 1 } else if row.time < from { 2 } else { 3 })
            });
            prop_assert_eq!(exposed.total.value, expected.fold(U256::ZERO, |sum, value| sum + value));
            let counted = exposed.unvalued.iter().map(|of_asset| of_asset.transfers).sum::<u64>();
            prop_assert!(counted >= own().filter(in_gap).count() as u64);
            // The same for many wallets at once, within rounding.
            let asked = [graph.wallet(number)];
            let view = graph.graph().with_basket(&basket);
            let many = exposures(&view, &asked, &terms, &mut Labelled::of(&graph), &mut Uninterrupted).unwrap();
            let labels = Labelled::of(&graph);
            let (own, exact) = (by_label(&many.found[0].parts), by_label(&exposed.by_mark(|wallet| labels.mark(wallet))));
            for key in own.keys().chain(exact.keys()) {
                let [own, exact] = [&own, &exact].map(|parts| parts.get(key).copied().unwrap_or(0.0));
                prop_assert!(close(own, exact), "{} {:?}: {} against {}", number, key, own, exact);
            }
        }
    }
}

fn rows_of_assets() -> impl Strategy<Value = Vec<Row>> {
    (rows(), prop::collection::vec(0..2_u32, 40)).prop_map(|(mut rows, tokens)| {
        rows.iter_mut().zip(tokens).for_each(|(row, token)| row.token = token);
        rows
    })
}

fn factor(price: u128) -> Factor {
    Factor::new(U256::new(price), 0).unwrap()
}

fn always(price: u128) -> Valuation {
    Valuation::Priced(vec![Price { from: i64::MIN, until: i64::MAX, factor: factor(price) }])
}

fn basket_of(graph: &TestGraph, members: &[(u32, Valuation)]) -> Basket {
    let members = members.iter().map(|(token, valuation)| (graph.token(*token), valuation.clone()));
    Basket::new(members.collect(), Vec::new(), None).counting_others(HashSet::new())
}

fn explained_in(graph: &TestGraph, basket: &Basket, asked: u32, terms: &ExposureTerms) -> ExplainedExposure {
    let view = graph.graph().with_basket(basket);
    explain(&view, graph.wallet(asked), terms, &mut Labelled::of(graph), &mut Uninterrupted).unwrap()
}

#[test]
fn wrapping_a_coin_does_not_end_a_trace() {
    // 8 sends 100 to 1, who wraps it at contract 4, where others have wrapped 300, and sends 60 of
    // the token to 2; 2 unwraps them and sends 50 coins to 3. Token 1 has one decimal less.
    let sent = |from, to, token, time, value| Row { from, to, token, time, value };
    let rows = [
        sent(8, 1, 0, 1, 100),
        sent(0, 4, 0, 2, 300),
        sent(1, 4, 0, 3, 100),
        // A mint, as some contracts report it.
        sent(5, 1, 1, 3, 10),
        sent(1, 2, 1, 4, 6),
        sent(4, 2, 0, 5, 60),
        sent(2, 3, 0, 6, 50),
    ];
    let graph = TestGraph::new(&rows, 2);
    let members = [(graph.token(0), Valuation::Fixed(factor(1))), (graph.token(1), Valuation::Fixed(factor(10)))];
    let wrapper = Wrapper { contract: Some(graph.wallet(4)), token: Some(graph.token(1)) };
    let basket = Basket::new(members.into(), vec![wrapper], Some(graph.wallet(5)));
    for many in [true, false] {
        let view = graph.graph().with_basket(&basket);
        let value = |asked: u32, flow: Flow| -> f64 {
            let (terms, asked) = (terms(flow, 4), graph.wallet(asked));
            let mut labels = Labelled::of(&graph);
            if many {
                let found = exposures(&view, &[asked], &terms, &mut labels, &mut Uninterrupted).unwrap();
                return found.found[0].parts.iter().map(|part| part.value).sum();
            }
            let explained = explain(&view, asked, &terms, &mut labels, &mut Uninterrupted).unwrap();
            assert!(explained.shortfalls.is_empty() && explained.unvalued.is_empty());
            explained.parts.iter().map(|part| part.value.as_f64()).sum()
        };
        assert_eq!((value(3, Flow::Backward), value(2, Flow::Backward), value(4, Flow::Backward)), (50.0, 60.0, 0.0));
    }
    // Without the statement, it ends at the contract.
    assert_eq!(explained(&graph, 3, &terms(Flow::Backward, 4)).parts[0].value, U256::new(12));
}

#[test]
fn nfts_are_excluded_and_counted_apart() {
    let sent = |token, value| Row { from: 1, to: LABELLED, token, time: 1, value };
    let graph = TestGraph::new(&[sent(0, 5), sent(1, u128::MAX), sent(1, 0), sent(2, 9), sent(2, 0)], 0);
    let basket = Basket::new([(graph.token(0), always(1))].into(), Vec::new(), None)
        .counting_others(HashSet::from([graph.token(1)]));
    let exposed = explained_in(&graph, &basket, 1, &terms(Flow::Forward, 3));
    let unvalued: Vec<_> = exposed.unvalued.iter().map(|one| (one.asset, one.is_nft, one.transfers)).collect();
    assert_eq!(unvalued, [(graph.token(1), true, 2), (graph.token(2), false, 1)]);
    assert_eq!(exposed.total.value, U256::new(5));
    // Each NFT alone counts as one.
    let nft = Basket::new([(graph.token(1), Valuation::Each)].into(), Vec::new(), None);
    let terms = ExposureTerms { assets: nft.selection(), ..terms(Flow::Forward, 3) };
    assert_eq!(explained_in(&graph, &nft, 1, &terms).total.value, U256::new(2));
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
