//! Clusters are compared with the simplest definitions.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::graph::DiGraph;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::graph::test_graph::{Patience, Sent, TestGraph, name};
use crate::graph::{SearchError, Uninterrupted};

const HOUR: i64 = 3_600_000_000;
const NETWORK: &str = "testnet";

fn memory() -> MemoryBudget {
    MemoryBudget::new(1 << 26)
}

struct Case<'a> {
    test: &'a TestGraph,
    method: ClusterMethod,
    services: &'a [u32],
    apart: &'a [(u32, u32)],
    min_size: u64,
    max_size: u64,
    filter: EdgeFilter,
}

impl<'a> Case<'a> {
    fn new(test: &'a TestGraph, method: ClusterMethod) -> Self {
        let filter = EdgeFilter::default();
        Self { test, method, services: &[], apart: &[], min_size: 2, max_size: 1_000, filter }
    }

    fn run(&self) -> Clusters {
        self.watched(&mut Uninterrupted, memory()).unwrap()
    }

    fn watched(&self, interrupt: &mut impl Interrupt, memory: MemoryBudget) -> Result<Clusters, SearchError> {
        let services: Vec<WalletId> = self.services.iter().map(|wallet| self.test.wallet(*wallet)).collect();
        let wallet = |number: u32| self.test.wallet(number);
        let apart = self.apart.iter().map(|(one, other)| Apart { one: wallet(*one), other: wallet(*other) });
        let apart: Vec<Apart> = apart.collect();
        let question = ClusterQuestion {
            network: NETWORK,
            method: self.method,
            filter: self.filter,
            services: &services,
            apart: &apart,
            min_size: self.min_size,
            max_size: self.max_size,
            memory,
        };
        clusters(&self.test.graph(), &question, interrupt)
    }

    fn names(&self, wallet: WalletId) -> String {
        self.test.graph().address(wallet).unwrap().to_owned()
    }

    /// Members by address of each cluster, in the order of the answer.
    fn sets(&self) -> Vec<BTreeSet<String>> {
        let answer = self.run();
        let members = |one: &Cluster| answer.members(one).iter().map(|wallet| self.names(*wallet)).collect();
        answer.found.iter().map(members).collect()
    }
}

fn deposit(options: serde_json::Value) -> ClusterMethod {
    ClusterMethod::parse("deposit", &options).unwrap()
}

fn funding(options: serde_json::Value) -> ClusterMethod {
    ClusterMethod::parse("funding", &options).unwrap()
}

fn set(wallets: &[u32]) -> BTreeSet<String> {
    wallets.iter().map(|wallet| name(*wallet)).collect()
}

fn rows(wallets: u32) -> impl Strategy<Value = Vec<Sent>> {
    let row = (0..wallets, 0..wallets, 0..2_u32, 0..8_i64, 0..6_u128);
    let sent = |(from, to, token, time, value)| Sent { from, to, token, time: time * HOUR, value };
    prop::collection::vec(row.prop_map(sent), 0..50)
}

/// Largest first, then by the first member.
fn by_size(sets: impl IntoIterator<Item = BTreeSet<String>>, least: usize) -> Vec<BTreeSet<String>> {
    let mut sets: Vec<BTreeSet<String>> = sets.into_iter().filter(|set| set.len() >= least).collect();
    sets.sort_by_key(|set| (Reverse(set.len()), set.first().cloned()));
    sets
}

/// Sets closed under pairs, by merging until nothing changes.
fn closed(pairs: &[(u32, u32)]) -> Vec<BTreeSet<String>> {
    let mut sets: Vec<BTreeSet<String>> = Vec::new();
    for (one, other) in pairs {
        let both = set(&[*one, *other]);
        let (touched, mut rest): (Vec<_>, Vec<_>) = sets.into_iter().partition(|set| !set.is_disjoint(&both));
        rest.push(touched.into_iter().flatten().chain(both).collect());
        sets = rest;
    }
    sets
}

fn counting(rows: &[Sent]) -> impl Iterator<Item = &Sent> {
    rows.iter().filter(|row| row.token == 0)
}

proptest! {
    #[test]
    fn weak_components_are_closures_of_pairs(rows in rows(14), overlaid in 0_usize..50) {
        let test = TestGraph::new(&rows, overlaid);
        let pairs: Vec<(u32, u32)> = counting(&rows).map(|row| (row.from, row.to)).collect();
        let mut case = Case::new(&test, ClusterMethod::Weak);
        prop_assert_eq!(case.sets(), by_size(closed(&pairs), 2));
        // wallets that only sent to themselves
        case.min_size = 1;
        prop_assert_eq!(case.sets(), by_size(closed(&pairs), 1));
        for cluster in &case.run().found {
            let members: BTreeSet<String> = case.run().members(cluster).iter().map(|one| case.names(*one)).collect();
            let among = pairs.iter().filter(|pair| members.contains(&name(pair.0)));
            prop_assert_eq!(cluster.transfers, among.count() as u64);
            prop_assert_eq!(Some(&case.names(cluster.first)), members.first());
        }
    }

    #[test]
    fn strong_components_are_those_of_petgraph(rows in rows(14), overlaid in 0_usize..50) {
        let test = TestGraph::new(&rows, overlaid);
        let edges: Vec<(u32, u32)> = counting(&rows).map(|row| (row.from, row.to)).collect();
        let graph = DiGraph::<(), ()>::from_edges(&edges);
        let sets = petgraph::algo::kosaraju_scc(&graph).into_iter();
        let expected = sets.map(|nodes| nodes.into_iter().map(|node| name(node.index() as u32)).collect());
        let case = Case::new(&test, ClusterMethod::Strong);
        prop_assert_eq!(case.sets(), by_size(expected, 2));
        for cluster in &case.run().found {
            let members: BTreeSet<String> = case.run().members(cluster).iter().map(|one| case.names(*one)).collect();
            let among = edges.iter().filter(|(a, b)| members.contains(&name(*a)) && members.contains(&name(*b)));
            prop_assert_eq!(cluster.transfers, among.count() as u64);
        }
    }

    #[test]
    fn deposit_addresses_are_those_of_the_definition(
        rows in rows(9),
        overlaid in 0_usize..50,
        share in 5_u64..=10,
        delay in 1_i64..6,
        max_senders in 1_usize..4,
        max_deposits in 1_usize..3,
        max_peers in 1_usize..6,
    ) {
        // wallets 0 and 1 are services
        let test = TestGraph::new(&rows, overlaid);
        let options = json!({"forward_share": share as f64 / 10.0, "max_delay_hours": delay, "max_senders": max_senders,
                             "max_deposits": max_deposits, "max_peers": max_peers});
        let mut case = Case::new(&test, deposit(options));
        case.services = &[0, 1];
        let coins: Vec<&Sent> = counting(&rows).collect();
        let mut pairs = Vec::new();
        for wallet in 2..9 {
            let moves = |row: &&&Sent| row.from != row.to && row.value > 0;
            let mut receipts: Vec<&Sent> = coins.iter().filter(moves).filter(|row| row.to == wallet).copied().collect();
            let sent: Vec<&Sent> = coins.iter().filter(moves).filter(|row| row.from == wallet).copied().collect();
            let (mut to_services, elsewhere): (Vec<&Sent>, Vec<&Sent>) = sent.into_iter().partition(|row| row.to < 2);
            let receivers: BTreeSet<u32> = to_services.iter().map(|row| row.to).collect();
            let senders: BTreeSet<u32> = receipts.iter().map(|row| row.from).collect();
            if receivers.len() != 1 || senders.is_empty() || senders.len() > max_senders {
                continue;
            }
            // coin by coin: each forwarded one is the oldest that is there and not too old
            receipts.sort_by_key(|row| row.time);
            to_services.sort_by_key(|row| row.time);
            let mut there: Vec<(i64, bool)> =
                receipts.iter().flat_map(|row| (0..row.value).map(|_| (row.time, true))).collect();
            let received = there.len() as u128;
            let mut matched = 0_u128;
            for forward in &to_services {
                for _ in 0..forward.value {
                    let fits = |coin: &&mut (i64, bool)| {
                        coin.1 && coin.0 <= forward.time && forward.time - coin.0 <= delay * HOUR
                    };
                    if let Some(coin) = there.iter_mut().find(fits) {
                        coin.1 = false;
                        matched += 1;
                    }
                }
            }
            let elsewhere: u128 = elsewhere.iter().map(|row| row.value).sum();
            if matched * 10 >= received * u128::from(share) && elsewhere * 10 <= received * u128::from(10 - share) {
                for sender in senders.into_iter().filter(|sender| *sender >= 2) {
                    let ends = coins.iter().filter(|row| (row.from == sender) != (row.to == sender));
                    let peers: BTreeSet<u32> = ends.map(|row| row.from + row.to - sender).collect();
                    if peers.len() <= max_peers {
                        pairs.push((sender, wallet));
                    }
                }
            }
        }
        let all = pairs.clone();
        pairs.retain(|(sender, _)| all.iter().filter(|pair| pair.0 == *sender).count() <= max_deposits);
        prop_assert_eq!(case.sets(), by_size(closed(&pairs), 2));
        let found: BTreeSet<(String, String)> =
            case.run().merges.iter().map(|one| (case.names(one.wallet), case.names(one.merged_with))).collect();
        let expected: BTreeSet<(String, String)> = pairs.iter().map(|(a, b)| (name(*a), name(*b))).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn rows_of_first_funds_are_those_of_the_definition(
        rows in rows(12),
        overlaid in 0_usize..50,
        window in 1_i64..4,
        min_wallets in 2_usize..4,
        max_wallets in 2_usize..6,
        max_peers in 1_usize..8,
        since in prop::option::of(0_i64..6),
    ) {
        let test = TestGraph::new(&rows, overlaid);
        let options = json!({"window_hours": window, "min_wallets": min_wallets, "max_wallets": max_wallets,
                             "max_peers": max_peers});
        let mut case = Case::new(&test, funding(options));
        case.services = &[0];
        case.filter.since = since.map(|hours| hours * HOUR);
        let coins: Vec<(usize, &Sent)> = rows.iter().enumerate().filter(|(_, row)| row.token == 0).collect();
        let mut funded: BTreeMap<u32, Vec<(i64, String, u32)>> = BTreeMap::new();
        for wallet in 1..12 {
            let receipts = coins.iter().filter(|(_, row)| row.to == wallet && row.from != wallet && row.value > 0);
            if let Some((_, first)) = receipts.min_by_key(|(number, row)| (row.time, *number))
                && case.filter.since.is_none_or(|since| first.time >= since)
            {
                funded.entry(first.from).or_default().push((first.time, name(wallet), wallet));
            }
        }
        let is_hub = |wallet: u32| {
            let counts = |row: &Sent| case.filter.since.is_none_or(|since| row.time >= since);
            let ends = coins.iter().filter(|(_, row)| counts(row) && (row.from == wallet) != (row.to == wallet));
            ends.map(|(_, row)| row.from + row.to - wallet).collect::<BTreeSet<u32>>().len() > max_peers
        };
        let mut pairs = Vec::new();
        for (funder, mut all) in funded {
            if funder == 0 || is_hub(funder) || all.len() > max_wallets {
                continue;
            }
            all.sort();
            all.retain(|(_, _, wallet)| !is_hub(*wallet));
            for row in all.chunk_by(|a, b| b.0 - a.0 <= window * HOUR).filter(|row| row.len() >= min_wallets) {
                pairs.extend(row.windows(2).map(|pair| (pair[0].2, pair[1].2)));
            }
        }
        prop_assert_eq!(case.sets(), by_size(closed(&pairs), 2));
    }

    #[test]
    fn clusters_respect_the_maximum_size_and_pairs_kept_apart(
        rows in rows(12),
        max_size in 2_u64..6,
        apart in prop::collection::vec((2_u32..12, 2_u32..12), 0..4),
    ) {
        let test = TestGraph::new(&rows, 0);
        let mut case = Case::new(&test, deposit(json!({"forward_share": 0.5, "max_delay_hours": 8})));
        let apart: Vec<(u32, u32)> = apart.into_iter().filter(|(one, other)| one != other).collect();
        case.services = &[0, 1];
        let free = case.sets();
        case.max_size = max_size;
        case.apart = &apart;
        let answer = case.run();
        for members in case.sets() {
            prop_assert!(members.len() as u64 <= max_size);
            prop_assert!(apart.iter().all(|(one, other)| !members.is_superset(&set(&[*one, *other]))));
            prop_assert!(free.iter().any(|whole| whole.is_superset(&members)));
        }
        // what was refused would have broken a rule; what was accepted is in one cluster
        for merge in &answer.merges {
            let together = answer.root(merge.wallet) == answer.root(merge.merged_with);
            prop_assert_eq!(merge.verdict.is_accepted(), together);
        }
        let joined = |merge: &&MergeEvidence| merge.verdict == Verdict::Accepted { joined: true };
        let members: u64 = answer.found.iter().map(|one| one.wallets - 1).sum();
        prop_assert_eq!(answer.merges.iter().filter(joined).count() as u64, members);
        prop_assert!(answer.merges.is_sorted_by(|a, b| a.confidence >= b.confidence));
    }
}

proptest! {
    #[test]
    fn failed_transactions_are_no_evidence(
        rows in rows(9),
        failed in prop::collection::vec(any::<bool>(), 50),
        overlaid in 0_usize..50,
    ) {
        let test = TestGraph::with_failed(&rows, |number| failed[number], overlaid);
        let rest: Vec<Sent> = rows.iter().zip(&failed).filter(|(_, failed)| !**failed).map(|(row, _)| row.clone()).collect();
        let without = TestGraph::new(&rest, 0);
        for method in [ClusterMethod::Weak, ClusterMethod::Strong, deposit(json!({"forward_share": 0.5})), funding(json!({"min_wallets": 2}))] {
            let (mut with, mut without) = (Case::new(&test, method), Case::new(&without, method));
            (with.services, without.services) = (&[0, 1], &[0, 1]);
            with.filter.include_failed = true;
            let all = |case: &Case<'_>| -> Vec<(u64, u64, u64)> {
                case.run().found.iter().map(|one| (one.wallets, one.transfers, one.merges)).collect()
            };
            prop_assert_eq!(with.sets(), without.sets());
            prop_assert_eq!(all(&with), all(&without));
        }
    }
}

/// Wallets 10.. pay into deposit address 2 of service 0, which forwards at once.
fn paid_in(senders: &[u32], deposit: u32, service: u32) -> Vec<Sent> {
    let mut rows = Vec::new();
    for (hour, sender) in (0..).zip(senders) {
        let time = hour * HOUR;
        rows.push(Sent { from: *sender, to: deposit, token: 0, time, value: 100 });
        rows.push(Sent { from: deposit, to: service, token: 0, time: time + 1, value: 99 });
    }
    rows
}

#[test]
fn customers_of_one_deposit_address_are_one_and_the_service_is_not_among_them() {
    let mut rows = paid_in(&[10, 11], 2, 0);
    rows.extend(paid_in(&[11, 12], 3, 0));
    rows.extend(paid_in(&[20], 4, 0));
    let test = TestGraph::new(&rows, 3);
    let mut case = Case::new(&test, deposit(json!({})));
    case.services = &[0];
    assert_eq!(case.sets(), [set(&[2, 3, 10, 11, 12]), set(&[4, 20])]);
    let answer = case.run();
    assert_eq!((answer.found[0].merges, answer.found[0].refused, answer.found[0].transfers), (4, 0, 4));
    let bases = answer.bases(&test.graph());
    let basis = &bases[&answer.root(test.wallet(10)).unwrap()];
    assert_eq!((basis.via.len(), &basis.services), (2, &vec![test.wallet(0)]));
    // Without a label, there is no service.
    case.services = &[];
    assert!(case.sets().is_empty());
}

#[test]
fn confidence_grows_with_forwards_and_shrinks_with_senders() {
    let rows = [paid_in(&[10, 10, 10, 10], 2, 0), paid_in(&[20], 3, 0), paid_in(&[30, 31], 4, 0)].concat();
    let test = TestGraph::new(&rows, 0);
    let mut case = Case::new(&test, deposit(json!({"max_senders": 4})));
    case.services = &[0];
    let answer = case.run();
    let of = |wallet: u32| {
        let merge = answer.merges_of(Some(test.wallet(wallet))).next().unwrap();
        (merge.confidence * 1e6).round() / 1e6
    };
    assert_eq!((of(10), of(20), of(30)), (0.825, 0.66, 0.55688 - 0.000005));
}

#[test]
fn the_strongest_evidence_is_accepted_first_and_larger_merges_are_refused() {
    let rows = [paid_in(&[10, 10, 10], 2, 0), paid_in(&[10], 3, 0), paid_in(&[10], 4, 0)].concat();
    let test = TestGraph::new(&rows, 0);
    let mut case = Case::new(&test, deposit(json!({})));
    case.services = &[0];
    case.max_size = 3;
    // 3 and 4 prove the same: the first by address is taken
    let first = [3, 4].into_iter().min_by_key(|wallet| name(*wallet)).unwrap();
    assert_eq!(case.sets(), [set(&[2, 10, first])]);
    let answer = case.run();
    assert_eq!((answer.found[0].merges, answer.found[0].refused), (2, 1));
    assert_eq!(answer.merges.last().unwrap().verdict, Verdict::TooLarge);
}

#[test]
fn wallets_kept_apart_are_not_joined_through_others() {
    let rows = [paid_in(&[10, 11], 2, 0), paid_in(&[11, 12], 3, 0)].concat();
    let test = TestGraph::new(&rows, 0);
    let mut case = Case::new(&test, deposit(json!({})));
    case.services = &[0];
    case.apart = &[(50, 51), (12, 10)];
    let answer = case.run();
    assert_ne!(answer.root(test.wallet(10)), answer.root(test.wallet(12)));
    let refused: Vec<&MergeEvidence> = answer.merges.iter().filter(|merge| !merge.verdict.is_accepted()).collect();
    assert_eq!(refused.iter().map(|merge| merge.verdict).collect::<Vec<_>>(), [Verdict::Apart(1)]);
    case.apart = &[];
    assert_eq!(case.sets(), [set(&[2, 3, 10, 11, 12])]);
}

#[test]
fn merges_name_the_transfers_behind_them() {
    let rows =
        [paid_in(&[10, 10, 11], 2, 0), vec![Sent::coins(11, 20, 5), Sent::coins(11, 21, 0), Sent::coins(11, 21, 7)]];
    let rows = rows.concat();
    let test = TestGraph::new(&rows, 2);
    let mut case = Case::new(&test, deposit(json!({})));
    case.services = &[0];
    let answer = case.run();
    let merge = answer.merges_of(Some(test.wallet(10))).find(|merge| merge.wallet == test.wallet(10)).unwrap();
    let transfers = merge.transfers(&test.graph(), &case.filter, 2).unwrap();
    let ends = |(from, transfer): &(WalletId, crate::graph::Transfer)| {
        (test.number(*from), test.number(transfer.peer.unwrap()))
    };
    assert_eq!(transfers.iter().map(ends).collect::<Vec<_>>(), [(10, 2), (10, 2), (2, 0), (2, 0)]);
    case.method = funding(json!({"min_wallets": 2}));
    let answer = case.run();
    let merge = answer.merges_of(Some(test.wallet(20))).next().unwrap();
    let transfers = merge.transfers(&test.graph(), &case.filter, 2).unwrap();
    let values: Vec<u128> = transfers.iter().map(|(_, transfer)| transfer.value.as_u128()).collect();
    assert_eq!(values.iter().sum::<u128>(), 12);
}

#[test]
fn the_first_members_are_the_first_by_address() {
    let rows: Vec<Sent> = (1..40).map(|wallet| Sent::coins(0, wallet, 1)).collect();
    let test = TestGraph::new(&rows, 5);
    let case = Case::new(&test, ClusterMethod::Weak);
    let answer = case.run();
    let mut expected: Vec<String> = (0..40).map(name).collect();
    expected.sort();
    for most in [0, 1, 7, 40, 100] {
        let first = answer.first_members(&test.graph(), &answer.found[0], most, &mut Uninterrupted);
        let first: Vec<String> = first.into_iter().map(|wallet| case.names(wallet)).collect();
        assert_eq!(first, expected[..most.min(40)]);
    }
}

#[test]
fn a_chain_as_long_as_the_graph_does_not_overflow_the_stack() {
    let rows: Vec<Sent> = (0..999).map(|wallet| Sent::coins(wallet, wallet + 1, 1)).collect();
    let test = TestGraph::new(&[&rows[..], &[Sent::coins(999, 0, 1)]].concat(), 0);
    assert_eq!(Case::new(&test, ClusterMethod::Strong).run().found[0].wallets, 1000);
}

#[test]
fn limits_end_the_search_early_and_are_reported() {
    let rows = [paid_in(&[10, 11], 2, 0), paid_in(&[11, 12], 3, 0)].concat();
    let test = TestGraph::new(&rows, 0);
    for method in [ClusterMethod::Weak, ClusterMethod::Strong, deposit(json!({})), funding(json!({}))] {
        let mut case = Case::new(&test, method);
        case.services = &[0];
        assert_eq!(case.watched(&mut Patience(1), memory()).unwrap().halted, Some(Halt::Time), "{method:?}");
        let error = case.watched(&mut Uninterrupted, MemoryBudget::new(30)).unwrap_err();
        assert!(matches!(error, SearchError::WholeGraph { .. }), "{method:?}");
        assert_eq!(case.run().halted, None);
    }
}

#[test]
fn an_unknown_network_has_no_cluster() {
    let test = TestGraph::new(&[Sent::coins(0, 1, 1)], 0);
    let filter = EdgeFilter::default();
    let (services, apart, memory) = (&[], &[], memory());
    let question = ClusterQuestion {
        network: "elsewhere",
        method: ClusterMethod::Weak,
        filter,
        services,
        apart,
        min_size: 1,
        max_size: 9,
        memory,
    };
    assert!(clusters(&test.graph(), &question, &mut Uninterrupted).unwrap().found.is_empty());
}

#[test]
fn parameters_are_checked() {
    let error = |name: &str, options| ClusterMethod::parse(name, &options).unwrap_err().to_string();
    assert_eq!(error("strange", json!({})), "method must be weak, strong, deposit or funding, not \"strange\"");
    let unknown = "option \"share\" is unknown: deposit takes forward_share, max_delay_hours, max_senders, \
                   max_deposits, max_peers";
    assert_eq!(error("Deposit", json!({"share": 1})), unknown);
    let range = "option \"forward_share\" must be a number from 0.5 to 1, not 2";
    assert_eq!(error("deposit", json!({"forward_share": 2})), range);
    assert!(ClusterMethod::Weak.check_merges().is_err());
    let filter = EdgeFilter { assets: crate::graph::AssetSelection::All, ..EdgeFilter::default() };
    assert!(deposit(json!({})).check(&filter).is_err());
    assert!(funding(json!({})).check(&filter).is_ok());
}

/// The best product over all simple ways from labelled wallets, by trying all.
fn best(ties: &[(u32, u32, f64)], from: u32, to: u32, confidence: f64, decay: f64, left: &BTreeSet<u32>) -> f64 {
    if from == to {
        return confidence;
    }
    let ways = ties.iter().flat_map(|(a, b, sure)| [(*a, *b, *sure), (*b, *a, *sure)]);
    let onwards = ways.filter(|(a, b, _)| *a == from && left.contains(b));
    onwards.fold(0.0, |best_yet: f64, (_, next, sure)| {
        let mut left = left.clone();
        left.remove(&next);
        best_yet.max(best(ties, next, to, confidence * sure * decay, decay, &left))
    })
}

proptest! {
    #[test]
    fn labels_take_the_path_of_highest_confidence(
        ties in prop::collection::vec((0_u32..6, 0_u32..6, 1_u32..=8), 0..8),
        labels in prop::collection::vec((0_u32..6, 0_u32..2, 1_u32..=4), 0..4),
        decay in 1_u32..=4,
        least in 0_u32..8,
    ) {
        // wallets that exist; eighths and quarters multiply exactly
        let rows: Vec<Sent> = (0..6).map(|wallet| Sent::coins(wallet, (wallet + 1) % 6, 1)).collect();
        let test = TestGraph::new(&rows, 0);
        let (decay, least) = (f64::from(decay) / 4.0, f64::from(least) / 16.0 + 0.001);
        let ties: Vec<(u32, u32, f64)> = ties.iter().filter(|(a, b, _)| a != b).map(|(a, b, c)| (*a, *b, f64::from(*c) / 8.0)).collect();
        let merges: Vec<MergeEvidence> = ties.iter().map(|(a, b, confidence)| MergeEvidence {
            wallet: test.wallet(*a), merged_with: test.wallet(*b), via: WalletId::new(0), service: None, first: 0, last: 0,
            confidence: *confidence, verdict: Verdict::Accepted { joined: false },
        }).collect();
        let known: Vec<SourceLabel> = labels.iter().map(|(wallet, category, confidence)| SourceLabel {
            wallet: test.wallet(*wallet), category: *category, confidence: f64::from(*confidence) / 4.0,
        }).collect();
        let found = inherit(&test.graph(), &merges, &known, decay, least, memory(), &mut Uninterrupted).unwrap();
        let mut expected: BTreeMap<(String, u32), f64> = BTreeMap::new();
        for wallet in 0..6 {
            for category in 0..2 {
                let of_category = || labels.iter().filter(|label| label.1 == category);
                if of_category().any(|label| label.0 == wallet) {
                    continue;
                }
                let all: BTreeSet<u32> = (0..6).collect();
                let sure = of_category().fold(0.0, |yet: f64, (from, _, confidence)| {
                    let left = all.iter().copied().filter(|one| one != from).collect();
                    yet.max(best(&ties, *from, wallet, f64::from(*confidence) / 4.0, decay, &left))
                });
                if sure >= least {
                    expected.insert((name(wallet), category), sure);
                }
            }
        }
        let got: Vec<((String, u32), f64)> = found.iter().map(|one| {
            let wallet = test.graph().address(one.wallet).unwrap().to_owned();
            ((wallet, known[one.label].category), one.confidence)
        }).collect();
        prop_assert_eq!(got, expected.into_iter().collect::<Vec<_>>());
        for one in &found {
            // The path exists and has the reported confidence.
            let mut sure = known[one.label].confidence;
            prop_assert_eq!(one.path.first(), Some(&known[one.label].wallet));
            prop_assert_eq!(one.path.last(), Some(&one.wallet));
            for pair in one.path.windows(2) {
                let between = |merge: &&MergeEvidence| [[merge.wallet, merge.merged_with], [merge.merged_with, merge.wallet]].contains(&[pair[0], pair[1]]);
                let tie = merges.iter().filter(between).map(|merge| merge.confidence).fold(0.0, f64::max);
                sure *= tie * decay;
            }
            prop_assert_eq!(sure, one.confidence);
        }
    }
}
