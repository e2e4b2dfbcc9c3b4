//! Traces are those of the plainest definition: every unit of money is a thing of its own that
//! remembers where it was.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::graph::test_graph::{Patience, Sent as Row, TestGraph};
use crate::graph::{AssetId, Damaged, Direction, EdgeFilter, Side, Transfer, Uninterrupted, connections};

const ORIGIN: u32 = 0;

fn rows(most: u128) -> impl Strategy<Value = Vec<Row>> {
    let row = (0..7_u32, 0..7_u32, 0..12_i64, 0..=most);
    let row = row.prop_map(|(from, to, time, value)| Row { from, to, token: 0, time, value });
    prop::collection::vec(row, 1..40)
}

/// Sorts rows by time; the blocks of a test graph are numbered like its rows.
fn in_order(rows: &[Row]) -> Vec<(usize, Row)> {
    let mut ordered: Vec<(usize, Row)> = rows.iter().cloned().enumerate().collect();
    ordered.sort_by_key(|(number, row)| (row.time, *number));
    ordered
}

fn terms(flow: Flow, method: TaintMethod) -> Terms {
    Terms {
        flow,
        method,
        assets: AssetSelection::Native,
        since: None,
        until: None,
        max_hops: 1_000,
        min_value: None,
        max_fan_out: None,
        max_wallets: None,
        min_share: 0,
        late_steps: 0,
        follows_before_since: false,
        paths: false,
        memory: MemoryBudget::new(1 << 26),
    }
}

fn traced(graph: &TestGraph, origin: &TraceOrigin, terms: &Terms) -> Trace {
    trace(&graph.graph(), origin, terms, &mut NoStops, &mut Uninterrupted).unwrap()
}

/// Tainted amounts by row.
fn by_row(trace: &Trace) -> BTreeMap<usize, U256> {
    trace.steps.iter().map(|step| (step.position.block as usize, step.tainted)).collect()
}

/// The transfer of a row.
fn sent(graph: &TestGraph, rows: &[Row], number: usize) -> SentTransfer {
    let from = graph.wallet(rows[number].from);
    let mut found: Option<Transfer> = None;
    let each = |transfer: Transfer| -> Result<(), Damaged> {
        if transfer.position.block == number as u64 {
            found = Some(transfer);
        }
        Ok(())
    };
    graph.graph().transfers(from, Side::Out, each).unwrap();
    SentTransfer { from: Some(from), transfer: found.unwrap() }
}

/// Every unit of money with the rows it went through. What a wallet lacks is made when it is
/// needed, and taken last.
fn units(rows: &[Row], newest_first: bool) -> Vec<Vec<usize>> {
    let mut histories: Vec<Vec<usize>> = Vec::new();
    let mut wallets: HashMap<u32, VecDeque<usize>> = HashMap::new();
    for (number, row) in in_order(rows) {
        let mut moved = Vec::new();
        for _ in 0..row.value {
            let held = wallets.entry(row.from).or_default();
            let unit = if newest_first { held.pop_back() } else { held.pop_front() };
            let unit = unit.unwrap_or_else(|| {
                histories.push(Vec::new());
                histories.len() - 1
            });
            histories[unit].push(number);
            moved.push(unit);
        }
        wallets.entry(row.to).or_default().extend(moved);
    }
    histories
}

/// Rows of the origin, and the wallets at which its funds are not followed further.
struct Seeds(BTreeSet<usize>);

impl Seeds {
    fn of_wallet(rows: &[Row], flow: Flow) -> Self {
        let seed =
            |row: &Row| row.from != row.to && if flow == Flow::Forward { row.from == ORIGIN } else { row.to == ORIGIN };
        Self(rows.iter().enumerate().filter(|(_, row)| seed(row)).map(|(number, _)| number).collect())
    }
}

/// Counts the units of each row that belong to the origin.
fn queue_definition(rows: &[Row], seeds: &Seeds, flow: Flow, newest_first: bool) -> BTreeMap<usize, U256> {
    let mut tainted = BTreeMap::new();
    for history in units(rows, newest_first) {
        let mut followed = false;
        let path: Vec<usize> = if flow == Flow::Forward { history } else { history.into_iter().rev().collect() };
        for number in path {
            let row = &rows[number];
            let leaves_origin = row.from != row.to && if flow == Flow::Forward { row.from } else { row.to } == ORIGIN;
            followed = (followed && !within_origin(row)) || leaves_origin || seeds.0.contains(&number);
            if followed {
                *tainted.entry(number).or_insert(U256::ZERO) += U256::ONE;
            }
            let comes_back = if flow == Flow::Forward { row.to } else { row.from } == ORIGIN;
            followed &= !comes_back;
        }
    }
    tainted
}

fn within_origin(row: &Row) -> bool {
    row.from == ORIGIN && row.to == ORIGIN
}

/// Computes forward haircut shares from balances, by hops; the sum of the nearest is rounded down.
fn haircut_definition(rows: &[(usize, Row)], seeds: &Seeds, max_hops: u32) -> BTreeMap<usize, U256> {
    let (mut balances, mut tainted) = (HashMap::<u32, u128>::new(), HashMap::<u32, BTreeMap<u32, u128>>::new());
    let mut found = BTreeMap::new();
    for (number, row) in rows {
        let (balance, own) = (balances.entry(row.from).or_default(), tainted.entry(row.from).or_default());
        let mut moved = BTreeMap::new();
        let (mut sum, mut left) = (0, 0);
        for (hop, amount) in own.iter_mut() {
            sum += *amount;
            let share = if row.value >= *balance { *amount } else { sum * row.value / *balance - left };
            left += share;
            *amount -= share;
            moved.insert(hop + u32::from(row.from != row.to), share);
        }
        *balance = balance.saturating_sub(row.value);
        *balances.entry(row.to).or_default() += row.value;
        if seeds.0.contains(number) {
            moved = BTreeMap::from([(1, row.value)]);
        }
        let sum: u128 = moved.values().sum();
        if sum > 0 {
            found.insert(*number, U256::new(sum));
        }
        if row.to != ORIGIN {
            for (hop, amount) in moved.into_iter().filter(|(hop, _)| *hop < max_hops) {
                *tainted.entry(row.to).or_default().entry(hop).or_default() += amount;
            }
        }
    }
    found
}

/// Returns the share of each later row that consists of a row's amount; backward traces must agree.
fn shares_of(rows: &[Row], number: usize) -> BTreeMap<usize, f64> {
    let (mut balances, mut own) = (HashMap::<u32, u128>::new(), HashMap::<u32, f64>::new());
    let mut found = BTreeMap::new();
    for (later, row) in in_order(rows) {
        let (balance, held) = (balances.entry(row.from).or_default(), own.entry(row.from).or_default());
        let share = if row.value >= *balance { *held } else { *held * row.value as f64 / *balance as f64 };
        *held -= share;
        *balance = balance.saturating_sub(row.value);
        *balances.entry(row.to).or_default() += row.value;
        let moved = if later == number { row.value as f64 } else { share };
        found.insert(later, moved);
        // what comes to the origin stays there
        if row.to != ORIGIN {
            *own.entry(row.to).or_default() += moved;
        }
    }
    found
}

/// Assigns arriving funds to the largest of a wallet's later transfers.
fn tiho_definition(rows: &[Row], seeds: &Seeds, flow: Flow) -> BTreeMap<usize, U256> {
    let mut ordered = in_order(rows);
    if flow == Flow::Backward {
        ordered.reverse();
    }
    let ends = |row: &Row| if flow == Flow::Forward { (row.from, row.to) } else { (row.to, row.from) };
    let mut carried: BTreeMap<usize, u128> = BTreeMap::new();
    for (place, (number, row)) in ordered.iter().enumerate() {
        let moved = if seeds.0.contains(number) { row.value } else { carried.get(number).copied().unwrap_or(0) };
        carried.insert(*number, moved);
        let (_, arrives) = ends(row);
        if arrives == ORIGIN {
            continue;
        }
        let mut later: Vec<&(usize, Row)> =
            ordered[place + 1..].iter().filter(|(_, row)| ends(row).0 == arrives).collect();
        later.sort_by_key(|(_, row)| std::cmp::Reverse(row.value));
        let mut rest = moved;
        for (number, row) in later {
            let room = carried.entry(*number).or_default();
            let more = rest.min(row.value - *room);
            *room += more;
            rest -= more;
        }
    }
    carried.into_iter().filter(|(_, moved)| *moved > 0).map(|(number, moved)| (number, U256::new(moved))).collect()
}

fn poison_definition(rows: &[Row], seeds: &Seeds, flow: Flow) -> BTreeMap<usize, U256> {
    let mut ordered = in_order(rows);
    if flow == Flow::Backward {
        ordered.reverse();
    }
    let (mut tainted, mut found) = (BTreeSet::new(), BTreeMap::new());
    for (number, row) in ordered.iter().filter(|(_, row)| row.value > 0) {
        let (left, arrives) = if flow == Flow::Forward { (row.from, row.to) } else { (row.to, row.from) };
        if seeds.0.contains(number) || tainted.contains(&left) {
            found.insert(*number, U256::new(row.value));
            if arrives != ORIGIN {
                tainted.insert(arrives);
            }
        }
    }
    found
}

fn total(ends: &[EndedAmount]) -> U256 {
    ends.iter().map(|one| one.amount).fold(U256::ZERO, |sum, amount| sum + amount)
}

fn origin_total(trace: &Trace) -> U256 {
    trace.origin.iter().fold(U256::ZERO, |sum, (_, amount)| sum + *amount)
}

/// Checks the invariants of every trace, complete or cut short.
fn check_conserved(trace: &Trace, terms: &Terms) -> Result<(), TestCaseError> {
    if terms.method != TaintMethod::Poison {
        prop_assert_eq!(total(&trace.ends), origin_total(trace), "{:?}", trace);
    }
    let moments: Vec<(i64, u64)> = trace.steps.iter().map(|step| (step.time, step.position.block)).collect();
    let in_flow = if terms.flow == Flow::Forward { moments.is_sorted() } else { moments.iter().rev().is_sorted() };
    prop_assert!(in_flow, "{:?}", moments);
    for step in &trace.steps {
        prop_assert!(
            step.tainted > U256::ZERO && step.tainted <= step.amount && step.hop >= 1 && step.hop <= terms.max_hops
        );
    }
    Ok(())
}

/// Checks that no amount is lost where positions do not order transfers.
fn check_conserved_in_ties(trace: &Trace, method: TaintMethod) -> Result<(), TestCaseError> {
    if method != TaintMethod::Poison {
        prop_assert_eq!(total(&trace.ends), origin_total(trace), "{:?}", trace);
    }
    for step in &trace.steps {
        prop_assert!(step.tainted > U256::ZERO && step.tainted <= step.amount);
    }
    Ok(())
}

fn flows() -> impl Strategy<Value = Flow> {
    prop_oneof![Just(Flow::Forward), Just(Flow::Backward)]
}

fn methods() -> impl Strategy<Value = TaintMethod> {
    prop::sample::select(TaintMethod::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn funds_of_a_wallet_are_traced_as_defined(rows in rows(9), over in 0..20_usize, flow in flows(), method in methods()) {
        let graph = TestGraph::new(&rows, over);
        let terms = terms(flow, method);
        let found = traced(&graph, &TraceOrigin::Wallet(graph.wallet(ORIGIN)), &terms);
        let seeds = Seeds::of_wallet(&rows, flow);
        let expected = match (method, flow) {
            (TaintMethod::Poison, _) => Some(poison_definition(&rows, &seeds, flow)),
            (TaintMethod::Tiho, _) => Some(tiho_definition(&rows, &seeds, flow)),
            (TaintMethod::Haircut, Flow::Forward) => Some(haircut_definition(&in_order(&rows), &seeds, terms.max_hops)),
            // see below
            (TaintMethod::Haircut, Flow::Backward) => None,
            (TaintMethod::Fifo, _) => Some(queue_definition(&rows, &seeds, flow, false)),
            (TaintMethod::Lifo, _) => Some(queue_definition(&rows, &seeds, flow, true)),
        };
        if let Some(expected) = expected {
            prop_assert_eq!(by_row(&found), expected);
        }
        check_conserved(&found, &terms)?;
    }

    #[test]
    fn given_transfers_are_traced_as_defined(
        rows in rows(9), picked in prop::collection::btree_set(0..40_usize, 1..4), method in methods(), flow in flows(),
    ) {
        // wallet 0 is nothing special here
        let rows: Vec<Row> = rows.into_iter().map(|row| Row { from: row.from + 1, to: row.to + 1, ..row }).collect();
        let graph = TestGraph::new(&rows, 5);
        let seeds = Seeds(picked.into_iter().filter(|number| rows.get(*number).is_some_and(|row| row.value > 0)).collect());
        let origin = TraceOrigin::Transfers(seeds.0.iter().map(|number| sent(&graph, &rows, *number)).collect());
        let terms = terms(flow, method);
        let found = traced(&graph, &origin, &terms);
        check_conserved(&found, &terms)?;
        let expected = match (method, flow) {
            (TaintMethod::Poison, _) => poison_definition(&rows, &seeds, flow),
            (TaintMethod::Tiho, _) => tiho_definition(&rows, &seeds, flow),
            (TaintMethod::Haircut, Flow::Forward) => haircut_definition(&in_order(&rows), &seeds, terms.max_hops),
            (TaintMethod::Haircut, Flow::Backward) => return Ok(()),
            (TaintMethod::Fifo, _) => queue_definition(&rows, &seeds, flow, false),
            (TaintMethod::Lifo, _) => queue_definition(&rows, &seeds, flow, true),
        };
        prop_assert_eq!(by_row(&found), expected);
    }

    #[test]
    fn backward_haircut_finds_what_forward_haircut_sends(rows in rows(9)) {
        // large amounts, so that rounding is small in comparison
        let rows: Vec<Row> = rows.into_iter().map(|row| Row { value: row.value * 1_000_000_000_000, ..row }).collect();
        let graph = TestGraph::new(&rows, 5);
        let found = by_row(&traced(&graph, &TraceOrigin::Wallet(graph.wallet(ORIGIN)), &terms(Flow::Backward, TaintMethod::Haircut)));
        let seeds = Seeds::of_wallet(&rows, Flow::Backward);
        for number in 0..rows.len() {
            let shares = shares_of(&rows, number);
            let reached: f64 = seeds.0.iter().filter_map(|seed| shares.get(seed)).sum();
            let own = found.get(&number).copied().unwrap_or(U256::ZERO).as_f64();
            if !within_origin(&rows[number]) {
                prop_assert!((own - reached).abs() <= 1_000.0, "row {}: {} against {}", number, own, reached);
            }
        }
    }

    #[test]
    fn limits_conserve_amounts(
        rows in rows(50), flow in flows(), method in methods(), max_hops in 1..4_u32, least in 0..20_u64,
        fan_out in prop::option::of(0..3_u64), min_share in 0..200_000_u32, late_steps in 0..4_usize, wallets in prop::option::of(0..4_u64), window in prop::option::of((0..6_i64, 6..12_i64)),
    ) {
        let graph = TestGraph::new(&rows, 5);
        let terms = Terms {
            max_hops,
            min_value: Some(U256::from(least)),
            max_fan_out: fan_out,
            max_wallets: wallets,
            min_share,
            late_steps,
            since: window.map(|(since, _)| since),
            until: window.map(|(_, until)| until),
            ..terms(flow, method)
        };
        let found = traced(&graph, &TraceOrigin::Wallet(graph.wallet(ORIGIN)), &terms);
        check_conserved(&found, &terms)?;
        let within = |step: &TraceStep| window.is_none_or(|(since, until)| step.time >= since && step.time < until);
        prop_assert!(found.steps.iter().all(within));
        let is_cut_by_size = |end: &EndedAmount| matches!(end.end, End::Wallets | End::Time | End::Memory);
        prop_assert_eq!(found.cut.is_some(), found.ends.iter().any(is_cut_by_size));
        prop_assert_eq!(found.cuts().is_empty(), !found.ends.iter().any(|end| end.end.is_cut()));
        // as often as asked
        let again = traced(&TestGraph::new(&rows, 20), &TraceOrigin::Wallet(graph.wallet(ORIGIN)), &terms);
        prop_assert_eq!(by_row(&found).len(), again.steps.len());
    }

    #[test]
    fn haircut_counts_the_transfers_of_each_part(rows in rows(50), max_hops in 1..5_u32) {
        let graph = TestGraph::new(&rows, 5);
        let terms = Terms { max_hops, ..terms(Flow::Forward, TaintMethod::Haircut) };
        let found = traced(&graph, &TraceOrigin::Wallet(graph.wallet(ORIGIN)), &terms);
        let seeds = Seeds::of_wallet(&rows, Flow::Forward);
        prop_assert_eq!(by_row(&found), haircut_definition(&in_order(&rows), &seeds, max_hops));
    }

    #[test]
    fn rows_of_a_tie_may_come_in_any_order(
        rows in rows(9), keys in prop::collection::vec(any::<u64>(), 40), over in 0..20_usize, flow in flows(), method in methods(),
    ) {
        // Few times, so that most rows are tied.
        let rows: Vec<Row> = rows.into_iter().map(|row| Row { time: row.time / 4, ..row }).collect();
        let mut shuffled: Vec<(u64, Row)> = keys.into_iter().zip(rows.clone()).collect();
        shuffled.sort_by_key(|(key, _)| *key);
        let shuffled: Vec<Row> = shuffled.into_iter().map(|(_, row)| row).collect();
        let [one, other] = [(&rows, over), (&shuffled, 3)].map(|(rows, over)| {
            let graph = TestGraph::in_one_block(rows, over);
            let found = traced(&graph, &TraceOrigin::Wallet(graph.wallet(ORIGIN)), &terms(flow, method));
            let step = |step: &TraceStep| {
                let ends = [step.from, step.to].map(|wallet| graph.number(wallet.unwrap()));
                (step.time, ends, step.amount, step.tainted, step.hop, step.inferred)
            };
            let mut steps: Vec<_> = found.steps.iter().map(step).collect();
            steps.sort_unstable();
            let end = |end: &EndedAmount| (graph.number(end.wallet.unwrap()), end.end, end.amount, end.hop, end.inferred);
            let mut ends: Vec<_> = found.ends.iter().map(end).collect();
            ends.sort_unstable();
            check_conserved_in_ties(&found, method).unwrap();
            (steps, ends)
        });
        prop_assert_eq!(one, other);
    }

    #[test]
    fn money_passes_through_a_tie_in_its_own_direction(
        rows in rows(9), flow in flows(),
    ) {
        // Without cycles: wallets send to higher numbers alone. The same rows, one after another in
        // the order of what happened before them, have the same trace.
        let rows: Vec<Row> = rows.into_iter().filter(|row| row.from < row.to).map(|row| Row { time: 0, ..row }).collect();
        let mut ordered = rows.clone();
        let mut depth = [0; 7];
        for sender in 0..7 {
            for row in rows.iter().filter(|row| row.from == sender && row.value > 0) {
                depth[row.to as usize] = depth[row.to as usize].max(depth[sender as usize] + 1);
            }
        }
        ordered.sort_by_key(|row| (depth[row.from as usize], row.from, row.to, row.value));
        let origin = rows.iter().map(|row| if flow == Flow::Forward { row.from } else { row.to }).max().unwrap_or(0);
        let [tied, apart] = [TestGraph::in_one_block(&rows, 4), TestGraph::new(&ordered, 4)].map(|graph| {
            let found = traced(&graph, &TraceOrigin::Wallet(graph.wallet(origin)), &terms(flow, TaintMethod::Haircut));
            let mut ends: Vec<_> = found.ends.iter().map(|end| (graph.number(end.wallet.unwrap()), end.end, end.amount)).collect();
            ends.sort_unstable();
            ends
        });
        prop_assert_eq!(tied, apart);
    }

    #[test]
    fn shortfalls_are_what_balances_lack(rows in rows(30), until in prop::option::of(1..12_i64)) {
        let graph = TestGraph::new(&rows, 5);
        let terms = Terms { until, ..terms(Flow::Forward, TaintMethod::Haircut) };
        let found = traced(&graph, &TraceOrigin::Wallet(graph.wallet(ORIGIN)), &terms);
        let mut since: HashMap<u32, usize> = HashMap::from([(ORIGIN, 0)]);
        let order: Vec<usize> = in_order(&rows).into_iter().map(|(number, _)| number).collect();
        for step in &found.steps {
            let place = order.iter().position(|number| *number == step.position.block as usize).unwrap();
            // Wallets at which nothing could be followed have no account.
            if step.to.is_some_and(|to| graph.graph().transfer_count(to, Side::Out) > 0) {
                since.entry(graph.number(step.to.unwrap())).or_insert(place);
            }
        }
        let (mut balances, mut expected) = (HashMap::<u32, u128>::new(), BTreeMap::<u32, (u128, u64, i64)>::new());
        for (place, (_, row)) in in_order(&rows).iter().enumerate() {
            if until.is_some_and(|until| row.time >= until) {
                break;
            }
            let balance = balances.entry(row.from).or_default();
            let lacking = row.value.saturating_sub(*balance);
            *balance = balance.saturating_sub(row.value);
            if lacking > 0 && since.get(&row.from).is_some_and(|since| place > *since || row.from == ORIGIN) {
                let sum = expected.entry(row.from).or_insert((0, 0, row.time));
                (sum.0, sum.1) = (sum.0 + lacking, sum.1 + 1);
            }
            *balances.entry(row.to).or_default() += row.value;
        }
        let own = found.shortfalls.iter().map(|one| (graph.number(one.wallet), (one.amount.as_u128(), one.transfers, one.first)));
        prop_assert_eq!(own.collect::<BTreeMap<_, _>>(), expected);
    }

    #[test]
    fn a_trace_that_is_cut_short_reports_the_limit(rows in rows(50), flow in flows(), method in methods()) {
        let graph = TestGraph::new(&rows, 5);
        let terms = terms(flow, method);
        let origin = TraceOrigin::Wallet(graph.wallet(ORIGIN));
        let found = trace(&graph.graph(), &origin, &terms, &mut NoStops, &mut Patience(1)).unwrap();
        check_conserved(&found, &terms)?;
        let small = Terms { memory: MemoryBudget::new(4_000), ..terms };
        match trace(&graph.graph(), &origin, &small, &mut NoStops, &mut Uninterrupted) {
            Ok(found) => check_conserved(&found, &small)?,
            Err(error) => {
                let out_of_memory = matches!(error, SearchError::Memory { .. });
                prop_assert!(out_of_memory, "{}", error);
            }
        }
    }
}

fn coins(from: u32, to: u32, time: i64, value: u128) -> Row {
    Row { from, to, token: 0, time, value }
}

/// Stops at a wallet.
struct At(WalletId);

impl Stops for At {
    type Error = SearchError;

    fn prepare(&mut self, _graph: &Graph<'_>, _wallets: &[WalletId]) -> Result<(), SearchError> {
        Ok(())
    }

    fn stops_at(&self, wallet: WalletId) -> bool {
        wallet == self.0
    }
}

#[test]
fn methods_divide_a_mixed_wallet_as_defined() {
    // 10 clean come first, then 10 tainted, then 12 and 8 leave
    let rows = [coins(5, 1, 1, 10), coins(ORIGIN, 1, 2, 10), coins(1, 2, 3, 8), coins(1, 3, 4, 12)];
    let graph = TestGraph::new(&rows, 0);
    let carried = |method| {
        let found = by_row(&traced(&graph, &TraceOrigin::Wallet(graph.wallet(ORIGIN)), &terms(Flow::Forward, method)));
        [2, 3].map(|row| found.get(&row).map_or(0, |amount| amount.as_u128()))
    };
    assert_eq!(carried(TaintMethod::Poison), [8, 12]);
    assert_eq!(carried(TaintMethod::Haircut), [4, 6]);
    assert_eq!(carried(TaintMethod::Fifo), [0, 10]);
    assert_eq!(carried(TaintMethod::Lifo), [8, 2]);
    assert_eq!(carried(TaintMethod::Tiho), [0, 10]);
}

#[test]
fn tracing_stops_at_services_and_reports_them() {
    let rows = [coins(ORIGIN, 1, 1, 10), coins(1, 2, 2, 7), coins(2, 3, 3, 7)];
    let graph = TestGraph::new(&rows, 0);
    let origin = TraceOrigin::Wallet(graph.wallet(ORIGIN));
    let mut stop = At(graph.wallet(2));
    let found =
        trace(&graph.graph(), &origin, &terms(Flow::Forward, TaintMethod::Haircut), &mut stop, &mut Uninterrupted)
            .unwrap();
    let ends: Vec<(u32, End, u128, u32)> = found
        .ends
        .iter()
        .map(|end| (graph.number(end.wallet.unwrap()), end.end, end.amount.as_u128(), end.hop))
        .collect();
    assert_eq!(ends, [(2, End::Stop, 7, 2), (1, End::Held, 3, 1)]);
    assert_eq!(found.steps.iter().map(|step| step.end).collect::<Vec<_>>(), [None, Some(End::Stop)]);
    assert_eq!(found.cut, None);
}

#[test]
fn parts_with_different_paths_end_after_their_own_hops() {
    // 8 come to 2 directly and 4 through 1; at 3 the latter have made three transfers.
    let rows =
        [coins(ORIGIN, 1, 1, 4), coins(ORIGIN, 2, 2, 8), coins(1, 2, 3, 4), coins(2, 3, 4, 12), coins(3, 4, 5, 12)];
    let graph = TestGraph::new(&rows, 0);
    let terms = Terms { max_hops: 3, ..terms(Flow::Forward, TaintMethod::Haircut) };
    let found = traced(&graph, &TraceOrigin::Wallet(graph.wallet(ORIGIN)), &terms);
    let ends: Vec<_> =
        found.ends.iter().map(|end| (graph.number(end.wallet.unwrap()), end.end, end.amount.as_u128())).collect();
    assert_eq!(ends, [(4, End::Held, 8), (3, End::Hops, 4)]);
    assert_eq!(found.cuts(), [(End::Hops, vec![(AssetId::NATIVE, U256::new(4))])]);
}

#[test]
fn a_trace_ends_once_little_is_moving() {
    // Half of what is left goes on at each step.
    let mut rows = vec![coins(ORIGIN, 1, 0, 1024)];
    rows.extend((1..11).map(|step| coins(step, step + 1, i64::from(step), 1024 >> step)));
    let graph = TestGraph::new(&rows, 0);
    let terms = Terms { min_share: 10_000, ..terms(Flow::Forward, TaintMethod::Haircut) };
    let found = traced(&graph, &TraceOrigin::Wallet(graph.wallet(ORIGIN)), &terms);
    // 8 of 1024 are less than 1 %.
    let cut: Vec<_> = found.ends.iter().filter(|end| end.end == End::Share).collect();
    assert_eq!(cut.iter().map(|end| end.amount.as_u128()).collect::<Vec<_>>(), [8]);
    assert_eq!((graph.number(cut[0].wallet.unwrap()), total(&found.ends)), (8, U256::new(1024)));
    assert_eq!(found.cuts(), [(End::Share, vec![(AssetId::NATIVE, U256::new(8))])]);
    // What is left is followed as long as that is cheap.
    for (late_steps, cut) in [(1, Some(4)), (2, Some(2)), (3, None)] {
        let found = traced(&graph, &TraceOrigin::Wallet(graph.wallet(ORIGIN)), &Terms { late_steps, ..terms });
        let amounts = found.cuts().into_iter().map(|(_, sums)| sums[0].1.as_u128()).next();
        assert_eq!((amounts, total(&found.ends)), (cut, U256::new(1024)));
    }
}

#[test]
fn a_mixer_pays_out_within_the_transaction_that_paid_it() {
    // In one transaction 1 pays the mixer 2, and 2 pays 3 and 4; then 3 goes on.
    let rows = [coins(ORIGIN, 1, 1, 10), coins(2, 3, 2, 6), coins(2, 4, 2, 4), coins(1, 2, 2, 10), coins(3, 5, 3, 6)];
    let graph = TestGraph::in_one_block(&rows, 0);
    for (flow, origin, end) in [(Flow::Forward, ORIGIN, 5), (Flow::Backward, 5, ORIGIN)] {
        let found = traced(&graph, &TraceOrigin::Wallet(graph.wallet(origin)), &terms(flow, TaintMethod::Haircut));
        let ends: Vec<_> = found
            .ends
            .iter()
            .map(|end| (graph.number(end.wallet.unwrap()), end.amount.as_u128(), end.inferred))
            .collect();
        assert!(ends.contains(&(end, 6, true)), "{ends:?}");
        let lacking: Vec<_> = found.shortfalls.iter().map(|one| graph.number(one.wallet)).collect();
        assert_eq!(lacking, [ORIGIN]);
    }
}

#[test]
fn positions_within_a_transaction_are_kept_in_ties_and_order_transactions_with_an_index() {
    // 1 sends before it receives, says the position.
    let rows = [coins(1, 2, 1, 5), coins(ORIGIN, 1, 1, 5), coins(1, 3, 2, 5)];
    let position = |number: usize| Position { block: 7, transaction_index: Some(3), log_index: Some(number as u32) };
    let ends = |graph: &TestGraph| -> Vec<(u32, bool)> {
        let origin = TraceOrigin::Wallet(graph.wallet(ORIGIN));
        let found = traced(graph, &origin, &terms(Flow::Forward, TaintMethod::Haircut));
        found.ends.iter().map(|end| (graph.number(end.wallet.unwrap()), end.inferred)).collect()
    };
    assert_eq!(ends(&TestGraph::with(&rows, |_| false, position, 0)), [(3, false)]);
    let unknown = |number: usize| Position { transaction_index: None, ..position(number) };
    assert_eq!(ends(&TestGraph::with(&rows, |_| false, unknown, 0)), [(2, true)]);
}

#[test]
fn a_transfer_without_a_block_comes_last_and_the_order_is_inferred() {
    // 1 sends, and a transfer to or from it at the same time is of an unknown block.
    let rows = [coins(ORIGIN, 1, 1, 5), coins(1, 2, 1, 5)];
    let ends = |unplaced: usize| -> Vec<(u32, bool)> {
        let position = |number: usize| {
            let block = if number == unplaced { Position::UNKNOWN_BLOCK } else { 7 };
            Position { block, transaction_index: Some(number as u32), log_index: None }
        };
        let graph = TestGraph::with(&rows, |_| false, position, 0);
        let origin = TraceOrigin::Wallet(graph.wallet(ORIGIN));
        let found = traced(&graph, &origin, &terms(Flow::Forward, TaintMethod::Haircut));
        found.ends.iter().map(|end| (graph.number(end.wallet.unwrap()), end.inferred)).collect()
    };
    assert_eq!(ends(2), [(2, false)], "both have a place");
    assert_eq!(ends(1), [(2, true)], "the payment comes last");
    assert_eq!(ends(0), [(1, true)], "what comes last is not paid on");
}

#[test]
fn paths_to_stops_are_those_of_the_largest_parts() {
    let rows =
        [coins(ORIGIN, 1, 1, 4), coins(ORIGIN, 2, 2, 8), coins(1, 3, 3, 4), coins(2, 3, 4, 8), coins(3, 4, 5, 12)];
    let graph = TestGraph::new(&rows, 0);
    let terms = Terms { paths: true, ..terms(Flow::Forward, TaintMethod::Haircut) };
    let origin = TraceOrigin::Wallet(graph.wallet(ORIGIN));
    let found = trace(&graph.graph(), &origin, &terms, &mut At(graph.wallet(4)), &mut Uninterrupted).unwrap();
    assert_eq!(found.stopped.len(), 1);
    let part = &found.stopped[0];
    assert_eq!((part.hops, part.amount), (3, U256::new(12)));
    let row = |number: &u64| graph.graph().transfer(*number).unwrap().position.block;
    assert_eq!(part.path.iter().map(row).collect::<Vec<_>>(), [1, 3, 4]);
}

#[test]
fn assets_are_traced_separately() {
    let token = |row: Row| Row { token: 1, ..row };
    let rows = [coins(ORIGIN, 1, 1, 10), token(coins(ORIGIN, 1, 2, 5)), token(coins(1, 2, 3, 5))];
    let graph = TestGraph::new(&rows, 1);
    let all = Terms { assets: AssetSelection::All, ..terms(Flow::Forward, TaintMethod::Haircut) };
    let found = traced(&graph, &TraceOrigin::Wallet(graph.wallet(ORIGIN)), &all);
    let token = graph.token(1);
    assert_eq!(found.origin, [(AssetId::NATIVE, U256::new(10)), (token, U256::new(5))]);
    let ends: Vec<(u32, u128)> =
        found.ends.iter().map(|end| (graph.number(end.wallet.unwrap()), end.amount.as_u128())).collect();
    assert_eq!(ends, [(1, 10), (2, 5)]);
}

#[test]
fn a_transfer_has_one_number_from_both_sides() {
    let rows = [coins(1, 2, 1, 1), coins(2, 1, 2, 1), coins(1, 2, 3, 1), coins(1, 1, 3, 1)];
    let graph = TestGraph::new(&rows, 2);
    let numbers = |side| {
        let mut found = BTreeMap::new();
        for wallet in [1, 2] {
            let each = |transfer: Transfer| -> Result<(), Damaged> {
                assert_eq!(found.insert(transfer.position.block, transfer.number), None);
                Ok(())
            };
            graph.graph().transfers(graph.wallet(wallet), side, each).unwrap();
        }
        found
    };
    assert_eq!(numbers(Side::Out), numbers(Side::In));
    assert_eq!(numbers(Side::Out).into_values().collect::<BTreeSet<_>>().len(), 4);
    let filter = EdgeFilter::default();
    let limits = crate::graph::test_graph::limits(1);
    let found =
        connections(&graph.graph(), graph.wallet(1), Direction::Out, &filter, None, &limits, &mut Uninterrupted);
    assert_eq!(found.unwrap().wallets.len(), 1);
}
