//! Scores are compared with the simplest definitions. Petgraph's `page_rank` does not qualify: it
//! only teleports to wallets that a wallet does not send to.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::graph::test_graph::{Patience, Sent, TestGraph, name};
use crate::graph::{SearchError, Uninterrupted};

fn memory() -> MemoryBudget {
    MemoryBudget::new(1 << 26)
}

fn ask(test: &TestGraph, measure: Measure, wanted: Wanted) -> Centrality {
    let filter = EdgeFilter::default();
    let question = CentralityQuestion { network: "testnet", measure, filter, wanted, memory: memory() };
    centrality(&test.graph(), &question, &mut Uninterrupted).unwrap()
}

fn measure(name: &str, options: serde_json::Value) -> Measure {
    Measure::parse(name, &options).unwrap()
}

/// By address.
fn scores(test: &TestGraph, measure: Measure) -> BTreeMap<String, f64> {
    let found = ask(test, measure, Wanted::Top(1000)).found;
    found.iter().map(|one| (test.graph().address(one.wallet).unwrap().to_owned(), one.score)).collect()
}

fn rows() -> impl Strategy<Value = Vec<Sent>> {
    let row = (0..9_u32, 0..9_u32, 0..3_u32);
    let sent = |(from, to, token)| Sent { from, to, token: token / 2, time: 0, value: 1 };
    prop::collection::vec(row.prop_map(sent), 1..40)
}

/// Pairs by name, with their transfers.
fn pairs(rows: &[Sent]) -> BTreeMap<(String, String), u32> {
    let mut pairs = BTreeMap::new();
    for row in rows.iter().filter(|row| row.token == 0) {
        *pairs.entry((name(row.from), name(row.to))).or_insert(0) += 1;
    }
    pairs
}

fn nodes(pairs: &BTreeMap<(String, String), u32>) -> Vec<String> {
    let nodes: BTreeSet<&String> = pairs.keys().flat_map(|(from, to)| [from, to]).collect();
    nodes.into_iter().cloned().collect()
}

fn close(got: &BTreeMap<String, f64>, expected: &BTreeMap<String, f64>, by: f64) -> bool {
    got.keys().eq(expected.keys()) && got.iter().all(|(wallet, score)| (score - expected[wallet]).abs() <= by)
}

proptest! {
    #[test]
    fn degrees_count_other_wallets(rows in rows(), overlaid in 0_usize..40) {
        let test = TestGraph::new(&rows, overlaid);
        let pairs = pairs(&rows);
        let others = |wallet: &String, out: bool, into: bool| {
            let ends = pairs.keys().filter(|(from, to)| from != to && ((out && from == wallet) || (into && to == wallet)));
            let others: BTreeSet<&String> = ends.map(|(from, to)| if from == wallet { to } else { from }).collect();
            others.len() as f64
        };
        for (direction, out, into) in [("both", true, true), ("out", true, false), ("in", false, true)] {
            let expected = nodes(&pairs).into_iter().map(|one| (one.clone(), others(&one, out, into))).collect();
            prop_assert_eq!(scores(&test, measure("degree", json!({"direction": direction}))), expected);
        }
        let answer = ask(&test, measure("degree", json!({})), Wanted::Top(1000));
        prop_assert_eq!((answer.wallets, answer.pairs), (nodes(&pairs).len() as u64, pairs.len() as u64));
        for one in &answer.found {
            let wallet = test.graph().address(one.wallet).unwrap().to_owned();
            let degrees = (f64::from(one.in_degree), f64::from(one.out_degree));
            prop_assert_eq!(degrees, (others(&wallet, false, true), others(&wallet, true, false)));
            prop_assert_eq!(one.rank as usize, 1 + answer.found.iter().filter(|other| other.score > one.score).count());
            prop_assert_eq!(&ask(&test, measure("degree", json!({})), Wanted::Wallet(one.wallet)).found, &[*one]);
        }
        let order = |one: &Scored| (Reverse(OrderedScore(one.score)), test.graph().address(one.wallet).unwrap().to_owned());
        prop_assert!(answer.found.is_sorted_by_key(order));
        prop_assert_eq!(&ask(&test, measure("degree", json!({})), Wanted::Top(2)).found, &answer.found[..answer.found.len().min(2)]);
    }

    #[test]
    fn pagerank_is_the_fixed_point_of_the_definition(rows in rows(), overlaid in 0_usize..40) {
        let test = TestGraph::new(&rows, overlaid);
        let pairs = pairs(&rows);
        let nodes = nodes(&pairs);
        for weighted in [false, true] {
            let weight = if weighted { "transfers" } else { "none" };
            let options = json!({"weight": weight, "damping": 0.7, "tolerance": 1e-12});
            let got = scores(&test, measure("pagerank", options));
            // as networkx: power iteration over the whole matrix, dangling mass spread evenly
            let mut expected: BTreeMap<String, f64> = nodes.iter().map(|one| (one.clone(), 1.0 / nodes.len() as f64)).collect();
            let of = |count: u32| if weighted { f64::from(count) } else { 1.0 };
            for _ in 0..200 {
                let mut next: BTreeMap<String, f64> = nodes.iter().map(|one| (one.clone(), 0.3 / nodes.len() as f64)).collect();
                for from in &nodes {
                    let sent: f64 = pairs.iter().filter(|(pair, _)| pair.0 == *from).map(|(_, count)| of(*count)).sum();
                    for to in &nodes {
                        let share = match pairs.get(&(from.clone(), to.clone())) {
                            Some(count) => of(*count) / sent,
                            None if sent == 0.0 => 1.0 / nodes.len() as f64,
                            None => 0.0,
                        };
                        *next.get_mut(to).unwrap() += 0.7 * expected[from] * share;
                    }
                }
                expected = next;
            }
            prop_assert!(close(&got, &expected, 1e-9), "{got:?} {expected:?}");
            prop_assert!((got.values().sum::<f64>() - 1.0).abs() < 1e-9 || nodes.is_empty());
        }
    }

    #[test]
    fn betweenness_from_all_wallets_counts_all_shortest_paths(rows in rows(), overlaid in 0_usize..40) {
        let test = TestGraph::new(&rows, overlaid);
        let pairs = pairs(&rows);
        let nodes = nodes(&pairs);
        // distances and numbers of shortest paths by relaxation
        let count = nodes.len();
        let mut expected: BTreeMap<String, f64> = nodes.iter().map(|one| (one.clone(), 0.0)).collect();
        let walk = |source: usize| {
            let (mut distance, mut paths) = (vec![usize::MAX; count], vec![0.0; count]);
            (distance[source], paths[source]) = (0, 1.0);
            for depth in 0..count {
                for to in 0..count {
                    let before = (0..count).filter(|from| {
                        distance[*from] == depth && pairs.contains_key(&(nodes[*from].clone(), nodes[to].clone()))
                    });
                    let before: Vec<usize> = before.collect();
                    if distance[to] == usize::MAX && !before.is_empty() {
                        distance[to] = depth + 1;
                        paths[to] = before.iter().map(|from| paths[*from]).sum();
                    }
                }
            }
            (distance, paths)
        };
        let walks: Vec<(Vec<usize>, Vec<f64>)> = (0..count).map(walk).collect();
        for (source, (distance, paths)) in walks.iter().enumerate() {
            for target in (0..count).filter(|target| *target != source && distance[*target] != usize::MAX) {
                for (middle, node) in nodes.iter().enumerate().filter(|(middle, _)| *middle != source && *middle != target) {
                    let (from_middle, paths_from_middle) = &walks[middle];
                    if distance[middle] != usize::MAX && from_middle[target] != usize::MAX
                        && distance[middle] + from_middle[target] == distance[target]
                    {
                        *expected.get_mut(node).unwrap() += paths[middle] * paths_from_middle[target] / paths[target];
                    }
                }
            }
        }
        let got = scores(&test, measure("betweenness", json!({"samples": 1000})));
        prop_assert!(close(&got, &expected, 1e-9), "{got:?} {expected:?}");
        let pairs = (count as f64 - 1.0) * (count as f64 - 2.0);
        if count > 2 {
            let got = scores(&test, measure("betweenness", json!({"samples": 1000, "normalized": true})));
            let expected = expected.into_iter().map(|(wallet, score)| (wallet, score / pairs)).collect();
            prop_assert!(close(&got, &expected, 1e-9));
        }
    }

    #[test]
    fn failed_transactions_connect_no_wallets(
        rows in rows(),
        failed in prop::collection::vec(any::<bool>(), 40),
        overlaid in 0_usize..40,
    ) {
        let test = TestGraph::with_failed(&rows, |number| failed[number], overlaid);
        let rest: Vec<Sent> = rows.iter().zip(&failed).filter(|(_, failed)| !**failed).map(|(row, _)| row.clone()).collect();
        let without = TestGraph::new(&rest, 0);
        for asked in [measure("degree", json!({})), measure("pagerank", json!({})), measure("betweenness", json!({}))] {
            prop_assert_eq!(scores(&test, asked), scores(&without, asked));
        }
    }

    #[test]
    fn scores_do_not_depend_on_the_file(rows in rows(), overlaid in 0_usize..40, samples in 1_u32..5) {
        let (one, other) = (TestGraph::new(&rows, 0), TestGraph::new(&rows, overlaid));
        for asked in [measure("pagerank", json!({})), measure("betweenness", json!({"samples": samples, "seed": 3}))] {
            prop_assert_eq!(scores(&one, asked), scores(&other, asked));
        }
    }
}

#[test]
fn betweenness_is_finite_whatever_the_number_of_paths() {
    // Layers of two wallets, each of which sends to both of the next: 2^d shortest paths. The
    // wallets of a chain of the same length are on one path each.
    let layers = 1_100;
    let rows: Vec<Sent> = (0..layers - 1)
        .flat_map(|layer| {
            let (a, b, chain) = (layer * 2 + 1, layer * 2 + 2, 4_000 + layer);
            let next = [a + 2, b + 2].into_iter().flat_map(move |to| [Sent::coins(a, to, 1), Sent::coins(b, to, 1)]);
            next.chain([Sent::coins(chain, chain + 1, 1)])
        })
        .chain([Sent::coins(9_000, 1, 1), Sent::coins(9_000, 2, 1), Sent::coins(9_000, 4_000, 1)])
        .collect();
    let test = TestGraph::new(&rows, 0);
    let answer = ask(&test, measure("betweenness", json!({"samples": 1_000_000})), Wanted::Top(10_000));
    let score = |number: u32| answer.found.iter().find(|one| one.wallet == test.wallet(number)).unwrap().score;
    // Half of the paths from each earlier wallet to each later one, and from the common source.
    for layer in [0, 1, 400, 549, 600, 1_050, 1_098] {
        let (before, after) = (f64::from(layer), f64::from(layers - 1 - layer));
        let expected = (2.0 * before + 1.0) * 2.0 * after / 2.0;
        assert!((score(layer * 2 + 1) / expected - 1.0).abs() < 1e-9, "{layer}: {}", score(layer * 2 + 1));
        let expected = (before + 1.0) * after;
        assert!((score(4_000 + layer) / expected - 1.0).abs() < 1e-9, "{layer}: {}", score(4_000 + layer));
    }
    assert!(answer.found.iter().all(|one| one.score.is_finite()));
}

#[test]
fn a_sample_is_scaled_to_the_whole() {
    // A star: all wallets send to the center, which sends to all.
    let rows: Vec<Sent> = (1..20).flat_map(|one| [Sent::coins(0, one, 1), Sent::coins(one, 0, 1)]).collect();
    let test = TestGraph::new(&rows, 0);
    let answer = ask(&test, measure("betweenness", json!({"samples": 5})), Wanted::Top(1));
    assert_eq!(answer.effort, Effort::Sampled { pivots: 5 });
    assert_eq!(answer.found[0].wallet, test.wallet(0));
    // exactly 19 * 18; a pivot in the middle counts nothing
    let score = answer.found[0].score;
    assert!(score == 18.0 * 20.0 || score == 18.0 * 4.0 * 20.0 / 5.0, "{score}");
}

#[test]
fn limits_end_the_computation_early_and_are_reported() {
    let rows: Vec<Sent> = (0..9).map(|one| Sent::coins(one, (one * 5 + 1) % 9, 1)).collect();
    let test = TestGraph::new(&rows, 0);
    for (name, options) in [("degree", json!({})), ("pagerank", json!({})), ("betweenness", json!({}))] {
        let question = |memory| CentralityQuestion {
            network: "testnet",
            measure: measure(name, options.clone()),
            filter: EdgeFilter::default(),
            wanted: Wanted::Top(3),
            memory,
        };
        let answer = centrality(&test.graph(), &question(memory()), &mut Patience(1)).unwrap();
        assert_eq!((answer.halted, answer.found.len()), (Some(Halt::Time), 0));
        let error = centrality(&test.graph(), &question(MemoryBudget::new(200)), &mut Uninterrupted).unwrap_err();
        assert!(matches!(error, SearchError::WholeGraph { .. }));
        let unknown = CentralityQuestion { network: "elsewhere", ..question(memory()) };
        assert!(centrality(&test.graph(), &unknown, &mut Uninterrupted).unwrap().found.is_empty());
    }
}

#[test]
fn iteration_reports_whether_it_converged() {
    let rows = [Sent::coins(0, 1, 1), Sent::coins(1, 2, 1), Sent::coins(2, 0, 1), Sent::coins(0, 2, 1)];
    let test = TestGraph::new(&rows, 0);
    let answer = ask(&test, measure("pagerank", json!({"iterations": 2})), Wanted::Top(9));
    assert!(matches!(answer.effort, Effort::Iterated { rounds: 2, converged: false, .. }));
    assert_eq!(answer.shortfall(), Some("iterations reached before tolerance"));
    let answer = ask(&test, measure("pagerank", json!({"damping": 0.5})), Wanted::Top(9));
    assert!(matches!(answer.effort, Effort::Iterated { converged: true, .. }));
}

#[test]
fn parameters_are_checked() {
    let error = |name: &str, options| Measure::parse(name, &options).unwrap_err().to_string();
    assert_eq!(error("fame", json!({})), "measure must be degree, pagerank or betweenness, not \"fame\"");
    assert_eq!(
        error("degree", json!({"direction": "up"})),
        "option \"direction\" must be both or in or out, not \"up\""
    );
    assert!(error("pagerank", json!({"iterations": 1001})).starts_with("option \"iterations\" must be a whole number"));
}
