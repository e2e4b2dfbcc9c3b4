//! Communities of wallets: groups that transact more among themselves than with others.
//!
//! Owns the method and the modularity of its result. Wallets of a network are joined with each
//! other by the transfers that count, in either direction; transfers of a wallet to itself do not
//! join anything. Label propagation moves each wallet to the community of its counterparties that
//! gains the most modularity, in an order given by a seed, until no move gains anything; then
//! communities are joined in the same way, as if each was a wallet. Sources: M. E. J. Newman, M.
//! Girvan, "Finding and evaluating community structure in networks", Phys. Rev. E 69, 2004; M.
//! Barber, J. Clark, "Detecting network communities by propagating labels under constraints", Phys.
//! Rev. E 80, 2009; V. D. Blondel et al., "Fast unfolding of communities in large networks", J.
//! Stat. Mech., 2008.
//!
//! Gains are integers, so the result is the same for every file of the same graph. Not a crate:
//! those for Leiden and Louvain can neither be cancelled nor book their memory.

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::graph::budget::{Halt, Interrupt, MemoryBudget, Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::adjacency::{Adjacency, Links, reserve, step};
use crate::graph::query::options::{Options, OptionsError};
use crate::graph::types::WalletId;
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

/// Thousandths of a whole.
const WHOLE: f64 = 1_000.0;

/// Parameters of [`communities`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommunityOptions {
    /// `seed` of the order in which wallets are moved. Default 0.
    pub seed: u64,
    /// `resolution`, in thousandths: larger values give smaller communities. Default 1.
    pub resolution: u64,
    /// `weight` transfers (default): counterparties count by their transfers. none: all are equal.
    pub weighted: bool,
    /// `iterations`: maximum number of rounds before communities are joined. Default 100.
    pub iterations: u32,
}

impl CommunityOptions {
    /// Parses the options.
    ///
    /// # Errors
    /// An unknown key, or a value out of range.
    pub fn parse(options: &Value) -> Result<Self, OptionsError> {
        let options = Options::new("wallet_communities", options, &["seed", "resolution", "weight", "iterations"])?;
        Ok(Self {
            seed: options.whole("seed", 0, 0, u64::MAX)?,
            resolution: (options.number("resolution", 1.0, 0.001, 1_000.0)? * WHOLE).round() as u64,
            weighted: options.choice("weight", &["transfers", "none"])? == 0,
            iterations: options.whole("iterations", 100, 1, 10_000)? as u32,
        })
    }
}

/// Scope and limits of a search for communities.
#[derive(Debug, Clone, Copy)]
pub struct CommunityQuestion<'a> {
    /// Network of the wallets.
    pub network: &'a str,
    /// Parameters of the method.
    pub options: CommunityOptions,
    /// Transfers that count.
    pub filter: EdgeFilter,
    /// Memory for the search and its result.
    pub memory: MemoryBudget,
}

/// A community.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Community {
    /// Its first wallet by address.
    pub first: WalletId,
    /// Number of its wallets.
    pub wallets: u64,
    /// Transfers between its wallets, those of a wallet to itself included.
    pub inside: u64,
    /// Transfers from or to wallets of other communities.
    pub outside: u64,
    number: u32,
}

/// Result of [`communities`].
#[derive(Debug, Clone, PartialEq)]
pub struct Communities {
    /// Communities, largest first, then by the address of the first wallet.
    pub found: Vec<Community>,
    /// Share of transfers inside of communities beyond what chance would give, from -0.5 to 1; by
    /// the weights and the resolution of the search.
    pub modularity: f64,
    /// Limit that ended the search before no move gained anything.
    pub halted: Option<Halt>,
    /// Wallets in the order of addresses, and the number of the community of each.
    wallets: Vec<WalletId>,
    community: Vec<u32>,
    /// Wallets by community, then address, as indexes.
    by_community: Vec<u32>,
}

impl Communities {
    fn none(halted: Option<Halt>) -> Self {
        let (wallets, community, by_community) = (Vec::new(), Vec::new(), Vec::new());
        Self { found: Vec::new(), modularity: 0.0, halted, wallets, community, by_community }
    }

    /// Returns the wallets of a community, by address.
    pub fn members(&self, community: &Community) -> impl Iterator<Item = WalletId> {
        let number = |index: &u32| self.community.get(*index as usize).copied().unwrap_or(u32::MAX);
        let start = self.by_community.partition_point(|index| number(index) < community.number);
        let members = self.by_community.get(start..).unwrap_or_default();
        let members = members.get(..community.wallets as usize).unwrap_or_default();
        members.iter().filter_map(|index| self.wallets.get(*index as usize).copied())
    }

    /// Returns the community of a wallet.
    #[must_use]
    pub fn of(&self, wallet: WalletId) -> Option<&Community> {
        let index = self.wallets.iter().position(|other| *other == wallet)?;
        let number = self.community.get(index)?;
        self.found.iter().find(|community| community.number == *number)
    }
}

/// Finds the communities of a network. O(pairs) a round, with about 60 bytes a pair and 80 a
/// wallet.
///
/// # Errors
/// [`SearchError::WholeGraph`], [`SearchError::Damaged`].
pub fn communities<W: Interrupt>(
    graph: &Graph<'_>,
    question: &CommunityQuestion<'_>,
    interrupt: &mut W,
) -> Result<Communities, SearchError> {
    let Some(network) = graph.network_id(question.network) else { return Ok(Communities::none(None)) };
    let filter = EdgeFilter { include_failed: false, min_transfers: 1, ..question.filter };
    let (mut memory, mut pace) = (question.memory, Pace::new(interrupt));
    let read = Links::new(graph, network, &filter, &mut memory, &mut pace).and_then(|links| {
        let senders = links.out.reversed(&mut memory, &mut pace)?;
        let level = Level::of(&links.out, &senders, question.options.weighted, &mut memory, &mut pace)?;
        Ok((links, level))
    });
    let (links, base) = match read {
        Ok(read) => read,
        Err(stop) => return Ok(Communities::none(Some(stop.into_halt()?))),
    };
    let nodes = links.wallets.len();
    reserve(&mut memory, 32 * nodes, nodes)?;
    let mut hashed = Vec::with_capacity(nodes);
    for (node, wallet) in (0_u32..).zip(&links.wallets) {
        let _ = pace.step(0);
        hashed.push((xxh3_64_with_seed(graph.address(*wallet)?.as_bytes(), question.options.seed), node));
    }
    sort_with_room(&mut hashed, pace.interrupt(), Ord::cmp);
    let mut order: Vec<u32> = hashed.into_iter().map(|(_, node)| node).collect();
    // Number of the community of each wallet.
    let mut community: Vec<u32> = (0..nodes as u32).collect();
    let mut halted = None;
    let mut joined: Option<Level> = None;
    while halted.is_none() {
        let level = joined.as_ref().unwrap_or(&base);
        let moved;
        (moved, halted) = match level.propagate(&order, &question.options, &mut memory, &mut pace) {
            Ok(moved) => (moved, None),
            Err((moved, stop)) => (moved, Some(stop.into_halt()?)),
        };
        let (numbers, count) = numbered(&moved, &order);
        for own in &mut community {
            let _ = pace.step(0);
            *own = numbers[*own as usize];
        }
        if count == level.nodes() || halted.is_some() {
            break;
        }
        match level.joined(&numbers, count, &mut memory, &mut pace) {
            Ok(next) => joined = Some(next),
            Err(stop) => halted = Some(stop.into_halt()?),
        }
        order = (0..count as u32).collect();
    }
    drop(joined);
    let mut answer = summary(links, community, halted, &mut memory, &mut pace)?;
    answer.modularity = base.modularity(&answer.community, question.options.resolution, &mut pace);
    Ok(answer)
}

/// Numbers communities by their first member in the order; returns the number of each node, and
/// their count.
fn numbered(community: &[u32], order: &[u32]) -> (Vec<u32>, usize) {
    let mut number = vec![u32::MAX; community.len()];
    let mut count = 0;
    for node in order {
        let own = &mut number[community[*node as usize] as usize];
        if *own == u32::MAX {
            *own = count;
            count += 1;
        }
    }
    (community.iter().map(|community| number[*community as usize]).collect(), count as usize)
}

/// An undirected graph with weights.
struct Level {
    offsets: Vec<usize>,
    peers: Vec<u32>,
    weights: Vec<u64>,
    /// Twice the weight inside of each node.
    inside: Vec<u64>,
    /// Sum of the weights of each node, those inside twice.
    degrees: Vec<u64>,
    /// Sum of the degrees.
    total: u64,
}

impl Level {
    fn nodes(&self) -> usize {
        self.degrees.len()
    }

    fn of<W: Interrupt>(
        out: &Adjacency,
        senders: &Adjacency,
        weighted: bool,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Self, Stop> {
        let nodes = out.nodes();
        reserve(memory, 24 * out.pairs() + 36 * nodes, nodes)?;
        let mut builder = LevelBuilder::new(nodes, 2 * out.pairs());
        for node in 0..nodes {
            for adjacency in [out, senders] {
                let (peers, transfers) = adjacency.of(node);
                for (peer, transfers) in peers.iter().zip(transfers) {
                    step(pace)?;
                    if *peer as usize != node {
                        builder.add(*peer, u64::from(*transfers));
                    }
                }
            }
            builder.finish_node(0, !weighted);
        }
        Ok(builder.level)
    }

    /// Joins the nodes of each community to one node.
    fn joined<W: Interrupt>(
        &self,
        numbers: &[u32],
        count: usize,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Self, Stop> {
        reserve(memory, 12 * self.peers.len() + 36 * count + 8 * self.nodes(), count)?;
        let mut by_number: Vec<u32> = (0..self.nodes() as u32).collect();
        sort_with_room(&mut by_number, pace.interrupt(), |a, b| numbers[*a as usize].cmp(&numbers[*b as usize]));
        let mut builder = LevelBuilder::new(count, self.peers.len());
        for members in by_number.chunk_by(|a, b| numbers[*a as usize] == numbers[*b as usize]) {
            let own = numbers[members[0] as usize];
            let mut inside = 0;
            for node in members {
                step(pace)?;
                inside += self.inside[*node as usize];
                for (peer, weight) in self.peers_of(*node) {
                    step(pace)?;
                    let other = numbers[peer as usize];
                    if other == own {
                        inside += weight;
                    } else {
                        builder.add(other, weight);
                    }
                }
            }
            builder.finish_node(inside, false);
        }
        Ok(builder.level)
    }

    fn peers_of(&self, node: u32) -> impl Iterator<Item = (u32, u64)> {
        let range = self.offsets[node as usize]..self.offsets[node as usize + 1];
        self.peers[range.clone()].iter().copied().zip(self.weights[range].iter().copied())
    }

    fn modularity<W: Interrupt>(&self, community: &[u32], resolution: u64, pace: &mut Pace<'_, W>) -> f64 {
        let count = community.iter().max().map_or(0, |last| *last as usize + 1);
        let (mut inside, mut degrees) = (vec![0_u64; count], vec![0_u64; count]);
        for (node, own) in (0..).zip(community) {
            degrees[*own as usize] += self.degrees[node as usize];
            for (peer, weight) in self.peers_of(node) {
                let _ = pace.step(0);
                inside[*own as usize] += if community[peer as usize] == *own { weight } else { 0 };
            }
        }
        let (total, resolution) = (self.total.max(1) as f64, resolution as f64 / WHOLE);
        let of_one = |(inside, degree): (&u64, &u64)| {
            let share = *degree as f64 / total;
            *inside as f64 / total - resolution * share * share
        };
        inside.iter().zip(&degrees).map(of_one).sum()
    }

    /// Moves nodes until no move gains anything; returns the community of each node. An end by a
    /// limit returns the moves so far.
    fn propagate<W: Interrupt>(
        &self,
        order: &[u32],
        options: &CommunityOptions,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Vec<u32>, (Vec<u32>, Stop)> {
        let nodes = self.nodes();
        let mut community: Vec<u32> = (0..nodes as u32).collect();
        let bytes = 24 * nodes;
        if let Err(error) = reserve(memory, bytes, nodes) {
            return Err((community, error.into()));
        }
        let mut degrees = self.degrees.clone();
        // Weight of the node in progress to each community.
        let mut weights = vec![0_u64; nodes];
        let mut near: Vec<u32> = Vec::new();
        for _ in 0..options.iterations {
            let mut is_moved = false;
            for node in order {
                near.clear();
                for (peer, weight) in self.peers_of(*node) {
                    let _ = pace.step(0);
                    let other = community[peer as usize];
                    if weights[other as usize] == 0 {
                        near.push(other);
                    }
                    weights[other as usize] += weight;
                }
                if let Some(halt) = pace.step(0) {
                    return Err((community, Stop::Halt(halt)));
                }
                let (own, degree) = (community[*node as usize], self.degrees[*node as usize]);
                degrees[own as usize] -= degree;
                let gain = |other: u32| {
                    let expected = i128::from(degree) * i128::from(degrees[other as usize]);
                    i128::from(weights[other as usize]) * i128::from(self.total) * WHOLE as i128
                        - expected * i128::from(options.resolution)
                };
                let mut best = (gain(own), own);
                for other in &near {
                    let gain = gain(*other);
                    if gain > best.0 || (gain == best.0 && best.1 != own && *other < best.1) {
                        best = (gain, *other);
                    }
                }
                for other in &near {
                    weights[*other as usize] = 0;
                }
                degrees[best.1 as usize] += degree;
                is_moved |= best.1 != own;
                community[*node as usize] = best.1;
            }
            if !is_moved {
                break;
            }
        }
        memory.give(bytes);
        Ok(community)
    }
}

struct LevelBuilder {
    level: Level,
    /// Weight of the node in progress to each node.
    weights: Vec<u64>,
    near: Vec<u32>,
}

impl LevelBuilder {
    fn new(nodes: usize, pairs: usize) -> Self {
        let level = Level {
            offsets: vec![0],
            peers: Vec::with_capacity(pairs),
            weights: Vec::with_capacity(pairs),
            inside: Vec::with_capacity(nodes),
            degrees: Vec::with_capacity(nodes),
            total: 0,
        };
        Self { level, weights: vec![0; nodes], near: Vec::new() }
    }

    fn add(&mut self, peer: u32, weight: u64) {
        let sum = &mut self.weights[peer as usize];
        if *sum == 0 {
            self.near.push(peer);
        }
        *sum += weight;
    }

    fn finish_node(&mut self, inside: u64, is_equal: bool) {
        let mut degree = inside;
        for peer in self.near.drain(..) {
            let weight = std::mem::take(&mut self.weights[peer as usize]);
            let weight = if is_equal { 1 } else { weight };
            self.level.peers.push(peer);
            self.level.weights.push(weight);
            degree += weight;
        }
        self.level.inside.push(inside);
        self.level.degrees.push(degree);
        self.level.total += degree;
        self.level.offsets.push(self.level.peers.len());
    }
}

/// Sums up the transfers of each community.
fn summary<W: Interrupt>(
    links: Links,
    community: Vec<u32>,
    halted: Option<Halt>,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<Communities, SearchError> {
    let nodes = links.wallets.len();
    reserve(memory, (size_of::<Community>() + 28) * nodes, nodes)?;
    let count = community.iter().max().map_or(0, |last| *last as usize + 1);
    let none = Community { first: WalletId::NONE, wallets: 0, inside: 0, outside: 0, number: 0 };
    let mut found = vec![none; count];
    for (node, wallet) in links.wallets.iter().enumerate() {
        let own = community[node];
        let entry = &mut found[own as usize];
        if entry.wallets == 0 {
            (entry.first, entry.number) = (*wallet, own);
        }
        entry.wallets += 1;
        let (peers, transfers) = links.out.of(node);
        for (peer, transfers) in peers.iter().zip(transfers) {
            let _ = pace.step(0);
            let other = community[*peer as usize];
            if other == own {
                found[own as usize].inside += u64::from(*transfers);
            } else {
                found[own as usize].outside += u64::from(*transfers);
                found[other as usize].outside += u64::from(*transfers);
            }
        }
    }
    let mut by_community: Vec<u32> = (0..nodes as u32).collect();
    sort_with_room(&mut by_community, pace.interrupt(), |a, b| community[*a as usize].cmp(&community[*b as usize]));
    // Communities are numbered by their first wallet in the order of moves; wallets are in the
    // order of addresses.
    let mut keyed: Vec<(std::cmp::Reverse<u64>, u32)> = Vec::with_capacity(count);
    let mut is_listed = vec![false; count];
    for own in &community {
        if !std::mem::replace(&mut is_listed[*own as usize], true) {
            keyed.push((std::cmp::Reverse(found[*own as usize].wallets), *own));
        }
    }
    // Stable: of equal sizes, the first by address stays first.
    sort_with_room(&mut keyed, pace.interrupt(), |a, b| a.0.cmp(&b.0));
    let found = keyed.into_iter().map(|(_, number)| found[number as usize]).collect();
    Ok(Communities { found, modularity: 0.0, halted, wallets: links.wallets, community, by_community })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::graph::Uninterrupted;
    use crate::graph::test_graph::{Patience, Sent, TestGraph};

    fn question(options: &Value, memory: usize) -> CommunityQuestion<'static> {
        let options = CommunityOptions::parse(options).unwrap();
        CommunityQuestion {
            network: "testnet",
            options,
            filter: EdgeFilter::default(),
            memory: MemoryBudget::new(memory),
        }
    }

    fn ask(test: &TestGraph, options: &Value) -> Communities {
        communities(&test.graph(), &question(options, 1 << 26), &mut Uninterrupted).unwrap()
    }

    fn groups(test: &TestGraph, answer: &Communities) -> BTreeSet<BTreeSet<u32>> {
        let members = |one: &Community| answer.members(one).map(|wallet| test.number(wallet)).collect();
        answer.found.iter().map(members).collect()
    }

    /// Modularity by its definition, over all pairs of wallets.
    fn modularity(rows: &[Sent], groups: &BTreeSet<BTreeSet<u32>>) -> f64 {
        let rows: Vec<&Sent> = rows.iter().filter(|row| row.from != row.to).collect();
        let count = 2.0 * rows.len() as f64;
        let degree = |wallet: u32| rows.iter().filter(|row| row.from == wallet || row.to == wallet).count() as f64;
        let mut sum = 0.0;
        for group in groups {
            for a in group {
                for b in group {
                    let between =
                        rows.iter().filter(|row| (row.from, row.to) == (*a, *b) || (row.to, row.from) == (*a, *b));
                    sum += between.count() as f64 - degree(*a) * degree(*b) / count;
                }
            }
        }
        if rows.is_empty() { 0.0 } else { sum / count }
    }

    proptest! {
        #[test]
        fn a_partition_has_its_modularity_and_no_wallet_gains_by_a_move(
            rows in prop::collection::vec((0..12_u32, 0..12_u32), 1..50),
            overlaid in 0_usize..40,
            seed in 0..5_u64,
        ) {
            let rows: Vec<Sent> = rows.into_iter().map(|(from, to)| Sent::coins(from, to, 1)).collect();
            let test = TestGraph::new(&rows, overlaid);
            let answer = ask(&test, &json!({"seed": seed}));
            prop_assert_eq!(&answer, &ask(&TestGraph::new(&rows, overlaid), &json!({"seed": seed})));
            let groups = groups(&test, &answer);
            let all: BTreeSet<u32> = rows.iter().flat_map(|row| [row.from, row.to]).collect();
            prop_assert_eq!(groups.iter().map(BTreeSet::len).sum::<usize>(), all.len());
            prop_assert_eq!(groups.iter().flatten().copied().collect::<BTreeSet<u32>>(), all.clone());
            let own = modularity(&rows, &groups);
            prop_assert!((answer.modularity - own).abs() < 1e-9, "{} {own}", answer.modularity);
            // At least as good as everyone alone, and as all together.
            let alone = all.iter().map(|wallet| BTreeSet::from([*wallet])).collect();
            prop_assert!(own >= modularity(&rows, &alone) - 1e-9);
            prop_assert!(own >= modularity(&rows, &BTreeSet::from([all])) - 1e-9);
            let (inside, outside) = answer.found.iter().fold((0, 0), |sum, one| (sum.0 + one.inside, sum.1 + one.outside));
            prop_assert_eq!(inside + outside / 2, rows.len() as u64);
            for one in &answer.found {
                let members: Vec<WalletId> = answer.members(one).collect();
                prop_assert_eq!(members[0], one.first);
                prop_assert!(members.iter().all(|wallet| answer.of(*wallet) == Some(one)));
            }
            prop_assert!(answer.found.is_sorted_by_key(|one| std::cmp::Reverse(one.wallets)));
            // The same groups from any file.
            let other = TestGraph::new(&rows, 0);
            prop_assert_eq!(self::groups(&other, &ask(&other, &json!({"seed": seed}))), groups);
        }
    }

    #[test]
    fn groups_that_one_transfer_joins_are_found() {
        // A ring of twelve groups of six wallets.
        let inside = |group: u32| {
            (0..6).flat_map(move |a| (0..6).filter(move |b| a != *b).map(move |b| (6 * group + a, 6 * group + b)))
        };
        let rows: Vec<Sent> = (0..12)
            .flat_map(|group| inside(group).chain([(6 * group, 6 * ((group + 1) % 12) + 3)]))
            .map(|(from, to)| Sent::coins(from, to, 1))
            .collect();
        let test = TestGraph::new(&rows, 30);
        let expected: BTreeSet<BTreeSet<u32>> = (0..12).map(|group| (6 * group..6 * group + 6).collect()).collect();
        for options in [json!({}), json!({"seed": 7}), json!({"weight": "none"})] {
            let answer = ask(&test, &options);
            assert_eq!(groups(&test, &answer), expected, "{options}");
            assert!(answer.modularity > 0.8 && answer.halted.is_none());
        }
        let answer = ask(&test, &json!({"resolution": 0.01}));
        assert_eq!(answer.found.len(), 1);
    }

    #[test]
    fn limits_end_a_search_for_communities() {
        let rows: Vec<Sent> = (0..900).map(|one| Sent::coins(one, (one + 1) % 900, 1)).collect();
        let test = TestGraph::new(&rows, 0);
        let ended = communities(&test.graph(), &question(&json!({}), 1 << 26), &mut Patience(1)).unwrap();
        assert_eq!((ended.halted, ended.found.len()), (Some(Halt::Time), 0));
        let error = communities(&test.graph(), &question(&json!({}), 20_000), &mut Uninterrupted).unwrap_err();
        assert!(matches!(error, SearchError::WholeGraph { budget: 20_000, .. }), "{error}");
        let few = ask(&test, &json!({"iterations": 1}));
        assert!(few.modularity > 0.5);
        let error = CommunityOptions::parse(&json!({"resolution": 0})).unwrap_err();
        assert!(error.to_string().contains("resolution"), "{error}");
    }
}
