//! Definitions written down as plainly as can be, and the same found by the detectors.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn rows(wallets: u32, times: i64, values: u128, most: usize) -> impl Strategy<Value = Vec<Sent>> {
    let row =
        (0..wallets, 0..wallets, 0..times, 0..values).prop_map(|(from, to, time, value)| sent(from, to, time, value));
    prop::collection::vec(row, 0..most).prop_map(distinct)
}

fn counts(rows: &[Sent]) -> Vec<Sent> {
    rows.iter().filter(|row| row.from != row.to && row.value > 0).cloned().collect()
}

/// A window that could be reported: of which subject, when it begins, how much it holds, and with
/// which transfers.
type Window<S> = (S, i64, usize, Evidence);

/// Selects the reported windows.
fn reported<S: Ord + Clone>(windows: Vec<Window<S>>, length: i64) -> Vec<Evidence> {
    let mut best: BTreeMap<(S, i64), Window<S>> = BTreeMap::new();
    for one in windows {
        let tile = one.1.div_euclid(length);
        let known = best.entry((one.0.clone(), tile)).or_insert_with(|| one.clone());
        if (one.2, -one.1) > (known.2, -known.1) {
            *known = one;
        }
    }
    let stays = |((subject, tile), one): (&(S, i64), &Window<S>)| {
        let neighbours = [tile - 1, tile + 1].into_iter().filter_map(|tile| best.get(&(subject.clone(), tile)));
        let mut overlapping = neighbours.filter(|other| (other.1 - one.1).abs() <= length);
        let yields = overlapping.any(|other| (other.2, -other.1) > (one.2, -one.1));
        (!yields).then(|| one.3.clone())
    };
    let mut all: Vec<Evidence> = best.iter().filter_map(stays).collect();
    all.sort();
    all
}

fn all_evidence(test: &TestGraph, detected: &Detected) -> Vec<Evidence> {
    let mut all: Vec<Evidence> = detected.findings.iter().map(|one| evidence(test, one)).collect();
    all.sort();
    all
}

fn as_evidence<'a>(rows: impl IntoIterator<Item = &'a Sent>) -> Evidence {
    rows.into_iter().map(|row| (row.time, row.from, row.to, row.value)).collect()
}

fn times(rows: &[Sent]) -> BTreeSet<i64> {
    rows.iter().map(|row| row.time).collect()
}

fn within(rows: &[Sent], start: i64, window: i64) -> Vec<Sent> {
    rows.iter().filter(|row| row.time >= start && row.time <= start + window).cloned().collect()
}

fn fans(rows: &[Sent], out: bool, window: i64, least: usize) -> Vec<Evidence> {
    let own = |row: &Sent| if out { row.from } else { row.to };
    let other = |row: &Sent| if out { row.to } else { row.from };
    let mut windows = Vec::new();
    for center in 0..20 {
        let of_one: Vec<Sent> = counts(rows).into_iter().filter(|row| own(row) == center).collect();
        for start in times(&of_one) {
            let inside = within(&of_one, start, window);
            let fan = inside.iter().map(other).collect::<BTreeSet<u32>>().len();
            if fan >= least {
                windows.push((center, start, fan, as_evidence(&inside)));
            }
        }
    }
    reported(windows, window)
}

fn gather_scatter(rows: &[Sent], window: i64, least: usize) -> Vec<Evidence> {
    let (all, half) = (counts(rows), window / 2);
    let mut windows = Vec::new();
    for center in 0..20 {
        let out: Vec<Sent> = all.iter().filter(|row| row.from == center).cloned().collect();
        for moment in times(&out) {
            let came: Vec<&Sent> =
                all.iter().filter(|row| row.to == center && row.time < moment && row.time >= moment - half).collect();
            let went = within(&out, moment, half);
            let senders = came.iter().map(|row| row.from).collect::<BTreeSet<u32>>().len();
            let receivers = went.iter().map(|row| row.to).collect::<BTreeSet<u32>>().len();
            if senders.min(receivers) >= least {
                let evidence = as_evidence(came.into_iter().chain(&went));
                windows.push((center, moment, senders.min(receivers), evidence));
            }
        }
    }
    reported(windows, window)
}

fn scatter_gather(rows: &[Sent], window: i64, least: usize) -> Vec<Evidence> {
    let all = counts(rows);
    let mut windows = Vec::new();
    for (source, sink) in (0..12).flat_map(|source| (0..12).map(move |sink| (source, sink))).filter(|(a, b)| a != b) {
        for start in times(&all) {
            let inside = within(&all, start, window);
            let first = inside.iter().filter(|row| row.from == source && row.to != sink);
            let ways: Vec<(&Sent, &Sent)> = first
                .flat_map(|a| inside.iter().map(move |b| (a, b)))
                .filter(|(a, b)| b.from == a.to && b.to == sink && b.time >= a.time)
                .collect();
            let fan = ways.iter().map(|way| way.0.to).collect::<BTreeSet<u32>>().len();
            // a window begins when the source sends: to one who has no part in it is no beginning
            let begins = ways.iter().any(|way| way.0.time == start);
            if fan >= least && begins {
                windows.push(((source, sink), start, fan, as_evidence(ways.iter().flat_map(|way| [way.0, way.1]))));
            }
        }
    }
    reported(windows, window)
}

/// `tolerance` in tenths.
fn pass_through(rows: &[Sent], window: i64, least: usize, tolerance: u128) -> Vec<Evidence> {
    let all = counts(rows);
    let near = |less: u128, more: u128| less * 10 >= more * (10 - tolerance);
    let sum = |rows: &[Sent]| rows.iter().map(|row| row.value).sum::<u128>();
    let mut windows = Vec::new();
    for center in 0..20 {
        let came: Vec<Sent> = all.iter().filter(|row| row.to == center).cloned().collect();
        let went: Vec<Sent> = all.iter().filter(|row| row.from == center).cloned().collect();
        for start in times(&came) {
            let (came, went) = (within(&came, start, window), within(&went, start, window));
            let until = |rows: &[Sent], time: i64| {
                sum(&rows.iter().filter(|row| row.time <= time).cloned().collect::<Vec<_>>())
            };
            let follows = went.iter().all(|row| near(until(&came, row.time), until(&went, row.time)));
            let (less, more) = (sum(&came).min(sum(&went)), sum(&came).max(sum(&went)));
            if !went.is_empty() && came.len() + went.len() >= least && near(less, more) && follows {
                windows.push((center, start, less as usize, as_evidence(came.iter().chain(&went))));
            }
        }
    }
    reported(windows, window)
}

struct CycleOptions {
    min: usize,
    max: usize,
    /// In tenths.
    tolerance: u128,
    focus: f64,
    ordered: bool,
}

/// Simple cycles of wallets, each from its smallest.
fn round_trips(pairs: &BTreeSet<(u32, u32)>, options: &CycleOptions) -> Vec<Vec<u32>> {
    fn extend(path: &mut Vec<u32>, pairs: &BTreeSet<(u32, u32)>, options: &CycleOptions, found: &mut Vec<Vec<u32>>) {
        let last = path[path.len() - 1];
        for (_, to) in pairs.iter().filter(|pair| pair.0 == last) {
            if *to == path[0] && path.len() >= options.min {
                found.push(path.clone());
            } else if *to > path[0] && !path.contains(to) && path.len() < options.max {
                path.push(*to);
                extend(path, pairs, options, found);
                path.pop();
            }
        }
    }
    let mut found = Vec::new();
    for root in 0..12 {
        extend(&mut vec![root], pairs, options, &mut found);
    }
    found
}

fn cycles(rows: &[Sent], window: i64, options: &CycleOptions) -> Vec<Evidence> {
    let all = counts(rows);
    let pairs: BTreeSet<(u32, u32)> = all.iter().map(|row| (row.from, row.to)).collect();
    let mut windows = Vec::new();
    for wallets in round_trips(&pairs, options) {
        let steps = wallets.len();
        let step =
            |row: &Sent| (0..steps).find(|place| (wallets[*place], wallets[(place + 1) % steps]) == (row.from, row.to));
        let own: Vec<Sent> = all.iter().filter(|row| step(row).is_some()).cloned().collect();
        for start in times(&own) {
            let inside = within(&own, start, window);
            let mut best: Option<(usize, u128, Evidence)> = None;
            for highest in inside.iter().map(|row| row.value).collect::<BTreeSet<u128>>() {
                let (fits, highest) = if options.tolerance == 10 {
                    (i32::MAX as u128, inside.iter().map(|row| row.value).max().unwrap())
                } else {
                    (0, highest)
                };
                let fits = |row: &Sent| {
                    fits > 0 || (row.value <= highest && row.value * 10 >= highest * (10 - options.tolerance))
                };
                let band: Vec<Sent> = inside.iter().filter(|row| fits(row)).cloned().collect();
                let full = (0..steps).all(|place| band.iter().any(|row| step(row) == Some(place)));
                let begins = band.iter().any(|row| row.time == start);
                let focused = options.tolerance == 10
                    || (0..steps).all(|place| {
                        let of_wallet = within(&all, start, window);
                        let of_wallet = of_wallet.iter().filter(|row| row.from == wallets[place] && fits(row)).count();
                        let on = band.iter().filter(|row| step(row) == Some(place)).count();
                        on as f64 >= options.focus * of_wallet as f64
                    });
                if !full || !begins || !focused {
                    continue;
                }
                let evidence =
                    if options.ordered { in_order(&band, steps, start, step) } else { Some(as_evidence(&band)) };
                if let Some(evidence) = evidence
                    && best.as_ref().is_none_or(|best| (evidence.len(), highest) > (best.0, best.1))
                {
                    best = Some((evidence.len(), highest, evidence));
                }
            }
            if let Some((count, _, evidence)) = best {
                windows.push((wallets.clone(), start, count, evidence));
            }
        }
    }
    reported(windows, window)
}

fn in_order(band: &[Sent], steps: usize, start: i64, step: impl Fn(&Sent) -> Option<usize>) -> Option<Evidence> {
    let mut firsts: Vec<&Sent> = band.iter().filter(|row| row.time == start).collect();
    firsts.sort_by_key(|row| key(row));
    firsts.into_iter().find_map(|first| {
        let mut chain = vec![first];
        for next in 1..steps {
            let wanted = (step(first)? + next) % steps;
            let from = chain[chain.len() - 1].time;
            let rows = band.iter().filter(|row| step(row) == Some(wanted) && row.time >= from);
            chain.push(rows.min_by_key(|row| key(row))?);
        }
        Some(as_evidence(chain))
    })
}

/// The order of transfers: by time, then by addresses and value.
fn key(row: &Sent) -> (i64, String, String, u128) {
    (row.time, name(row.from), name(row.to), row.value)
}

fn wash(rows: &[Sent], window: i64, max_wallets: usize, least: usize, tolerance: u128) -> Vec<Evidence> {
    let all = counts(rows);
    let pairs: BTreeSet<(u32, u32)> = all.iter().map(|row| (row.from, row.to)).collect();
    let options = CycleOptions { min: 2, max: max_wallets, tolerance: 10, focus: 0.0, ordered: false };
    let mut windows = Vec::new();
    for wallets in round_trips(&pairs, &options) {
        let steps: Vec<(u32, u32)> =
            (0..wallets.len()).map(|place| (wallets[place], wallets[(place + 1) % wallets.len()])).collect();
        let own: Vec<Sent> = all.iter().filter(|row| steps.contains(&(row.from, row.to))).cloned().collect();
        for start in times(&own) {
            let inside = within(&own, start, window);
            let of_step = |step: &(u32, u32)| inside.iter().filter(move |row| (row.from, row.to) == *step).collect();
            let by_step: Vec<Vec<&Sent>> = steps.iter().map(of_step).collect();
            let sums = || by_step.iter().map(|rows| rows.iter().map(|row| row.value).sum::<u128>());
            let enough = by_step.iter().all(|rows| rows.len() >= least);
            if enough && sums().min().unwrap() * 10 >= sums().max().unwrap() * (10 - tolerance) {
                windows.push((wallets.clone(), start, inside.len(), as_evidence(&inside)));
            }
        }
    }
    reported(windows, window)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn fans_match_their_definition(
        rows in rows(7, 40, 9, 60),
        over in 0..20_usize,
        window in 1_i64..12,
        least in 2_usize..4,
    ) {
        let test = TestGraph::new(&rows, over);
        let options = json!({"min_fan": least});
        for (pattern, out) in [("fan_out", true), ("fan_in", false)] {
            let detected = found(&test, pattern, window, &options);
            prop_assert_eq!(all_evidence(&test, &detected), fans(&rows, out, window, least), "{}", pattern);
        }
        let detected = found(&test, "gather_scatter", window, &options);
        prop_assert_eq!(all_evidence(&test, &detected), gather_scatter(&rows, window, least));
    }

    #[test]
    fn scatter_gather_matches_its_definition(
        rows in rows(7, 40, 9, 60),
        over in 0..20_usize,
        window in 1_i64..16,
        least in 2_usize..4,
    ) {
        let test = TestGraph::new(&rows, over);
        let detected = found(&test, "scatter_gather", window, &json!({"min_fan": least}));
        prop_assert_eq!(all_evidence(&test, &detected), scatter_gather(&rows, window, least));
    }

    #[test]
    fn pass_through_matches_its_definition(
        rows in rows(4, 40, 9, 60),
        over in 0..20_usize,
        window in 1_i64..20,
        least in 2_usize..5,
        tolerance in prop_oneof![Just(0_u128), Just(1), Just(3), Just(7)],
    ) {
        let test = TestGraph::new(&rows, over);
        let options = json!({"min_transfers": least, "tolerance": tolerance as f64 / 10.0});
        let detected = found(&test, "pass_through", window, &options);
        let mut expected = pass_through(&rows, window, least, tolerance);
        // Two wallets that send to each other are one finding.
        expected.dedup();
        prop_assert_eq!(all_evidence(&test, &detected), expected);
    }

    #[test]
    fn cycles_of_many_transfers_match_their_definition(
        rows in rows(3, 12, 40, 90),
        over in 0..20_usize,
        window in 1_i64..8,
        tolerance in prop_oneof![Just(0_u128), Just(2), Just(5), Just(8)],
        focus in prop_oneof![Just(0.0), Just(0.7), Just(1.0)],
        ordered: bool,
    ) {
        let test = TestGraph::new(&rows, over);
        let options = json!({
            "min_length": 2, "max_length": 3, "tolerance": tolerance as f64 / 10.0, "ordered": ordered, "min_focus": focus,
        });
        let detected = found(&test, "cycle", window, &options);
        let expected = cycles(&rows, window, &CycleOptions { min: 2, max: 3, tolerance, focus, ordered });
        prop_assert_eq!(all_evidence(&test, &detected), expected);
    }

    #[test]
    fn cycles_match_their_definition(
        rows in rows(6, 30, 30, 40),
        over in 0..20_usize,
        window in 1_i64..20,
        (min, more) in (2_usize..4, 0_usize..4),
        tolerance in prop_oneof![Just(0_u128), Just(1), Just(5), Just(10)],
        focus in prop_oneof![Just(0.0), Just(0.5), Just(1.0)],
        ordered: bool,
    ) {
        let test = TestGraph::new(&rows, over);
        let max = min + more;
        let options = json!({
            "min_length": min, "max_length": max, "tolerance": tolerance as f64 / 10.0, "ordered": ordered,
            "min_focus": focus,
        });
        let detected = found(&test, "cycle", window, &options);
        let expected = cycles(&rows, window, &CycleOptions { min, max, tolerance, focus, ordered });
        prop_assert_eq!(all_evidence(&test, &detected), expected);
    }

    #[test]
    fn wash_trading_matches_its_definition(
        rows in rows(5, 30, 9, 60),
        over in 0..20_usize,
        window in 1_i64..20,
        max_wallets in 2_usize..5,
        least in 1_usize..3,
        tolerance in prop_oneof![Just(0_u128), Just(1), Just(5)],
    ) {
        let test = TestGraph::new(&rows, over);
        let options = json!({"max_wallets": max_wallets, "min_rounds": least, "tolerance": tolerance as f64 / 10.0});
        let detected = found(&test, "wash_trading", window, &options);
        prop_assert_eq!(all_evidence(&test, &detected), wash(&rows, window, max_wallets, least, tolerance));
    }
}
