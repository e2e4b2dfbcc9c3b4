//! Clusters: wallets that belong together.
//!
//! Owns the methods ([`ClusterMethod`]): components of the transfer graph, which are facts, and
//! heuristics, which are evidence. Evidence is judged strongest first ([`MergeEvidence`]). Merges
//! that would make a cluster too large, or join wallets that the user keeps apart, are refused and
//! reported. Clusters are computed on demand, so nothing has to be undone: evidence that is
//! withdrawn is absent the next time. Failed transactions move no value and never count, regardless
//! of the filter's `include_failed`.
//!
//! Source of both heuristics: F. Victor, "Address Clustering Heuristics for Ethereum", Financial
//! Cryptography 2020: deposit address reuse, and first funds, similar to multi-participation in
//! airdrops. Refused merges are reported with their reason, because a single false merge can join
//! large clusters into one.

mod components;
mod deposit;
mod funding;
mod labels;
mod merging;
mod options;
mod sets;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::error::{Damaged, SearchError};
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::adjacency::{reserve, step};
use crate::graph::types::{NetworkId, Side, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;
use components::{Labelled, strong, weak};

pub use labels::{Inherited, SourceLabel, inherit};
pub use merging::{Apart, MergeEvidence, Verdict};
pub use options::{ClusterMethod, DepositOptions, FundingOptions};

/// Scope and limits of a clustering.
#[derive(Debug, Clone, Copy)]
pub struct ClusterQuestion<'a> {
    /// Network of the wallets.
    pub network: &'a str,
    /// Method that groups wallets.
    pub method: ClusterMethod,
    /// Transfers that count.
    pub filter: EdgeFilter,
    /// Custodial services, which hold funds of many people and join nothing.
    pub services: &'a [WalletId],
    /// Pairs of wallets that must stay apart.
    pub apart: &'a [Apart],
    /// Minimum size of reported clusters.
    pub min_size: u64,
    /// Maximum size of a cluster; larger merges are refused. Does not apply to components.
    pub max_size: u64,
    /// Memory for the search and its result.
    pub memory: MemoryBudget,
}

/// A cluster of wallets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cluster {
    /// First member by address.
    pub first: WalletId,
    /// Number of members.
    pub wallets: u64,
    /// Number of transfers that count between members.
    pub transfers: u64,
    /// Number of accepted merges.
    pub merges: u64,
    /// Number of refused merges of members.
    pub refused: u64,
    /// Confidence of the weakest merge that holds it together; 1 for components.
    pub confidence: f64,
    /// Start of its members.
    start: usize,
}

/// Result of a clustering.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    /// Clusters, largest first, then by address of the first member.
    pub found: Vec<Cluster>,
    /// All merges with evidence, strongest first; empty for components.
    pub merges: Vec<MergeEvidence>,
    /// Limit that cut the search short, if any.
    pub halted: Option<Halt>,
    members: Vec<WalletId>,
    /// Root of each wallet; empty if the network is unknown.
    labels: Vec<WalletId>,
}

/// Wallets that a cluster's evidence rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Basis {
    /// Deposit addresses or funders behind its merges.
    pub via: Vec<WalletId>,
    /// Services that deposit addresses forward to.
    pub services: Vec<WalletId>,
}

/// Finds the clusters of a network. The time limit ends the search early, with a partial result.
///
/// # Errors
/// [`SearchError::WholeGraph`], [`SearchError::Damaged`].
pub fn clusters<W: Interrupt>(
    graph: &Graph<'_>,
    question: &ClusterQuestion<'_>,
    interrupt: &mut W,
) -> Result<Clusters, SearchError> {
    let Some(network) = graph.network_id(question.network) else {
        return Ok(Clusters {
            found: Vec::new(),
            merges: Vec::new(),
            halted: None,
            members: Vec::new(),
            labels: Vec::new(),
        });
    };
    let filter = EdgeFilter { include_failed: false, min_transfers: 1, ..question.filter };
    let mut memory = question.memory;
    let mut pace = Pace::new(interrupt);
    let scope = ClusterScope { graph, network, filter, question };
    match &question.method {
        ClusterMethod::Weak => {
            let labelled = weak(&scope, &mut memory, &mut pace)?;
            scope.grouped(labelled, Vec::new(), &mut memory, &mut pace)
        }
        ClusterMethod::Strong => {
            let labelled = strong(&scope, &mut memory, &mut pace)?;
            scope.grouped(labelled, Vec::new(), &mut memory, &mut pace)
        }
        ClusterMethod::Deposit(options) => {
            let (evidence, halted) = deposit::evidence(&scope, options, &mut memory, &mut pace)?;
            scope.merged(evidence, halted, &mut memory, &mut pace)
        }
        ClusterMethod::Funding(options) => {
            let (evidence, halted) = funding::evidence(&scope, options, &mut memory, &mut pace)?;
            scope.merged(evidence, halted, &mut memory, &mut pace)
        }
    }
}

/// A question with its graph and filter.
struct ClusterScope<'a, 'g> {
    graph: &'a Graph<'g>,
    network: NetworkId,
    filter: EdgeFilter,
    question: &'a ClusterQuestion<'a>,
}

impl ClusterScope<'_, '_> {
    fn merged<W: Interrupt>(
        &self,
        evidence: Vec<MergeEvidence>,
        halted: Option<Halt>,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Clusters, SearchError> {
        let (labels, merges) = merging::judge(self, evidence, memory, pace)?;
        self.grouped(Labelled { labels, sent: None, halted }, merges, memory, pace)
    }

    /// Gathers the members of each label by a counting sort. O(wallets), and the transfers of the
    /// members.
    fn grouped<W: Interrupt>(
        &self,
        labelled: Labelled,
        merges: Vec<MergeEvidence>,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Clusters, SearchError> {
        let Labelled { labels, sent, halted } = labelled;
        let graph = self.graph;
        reserve(memory, 8 * labels.len(), labels.len())?;
        let wallets_of_network =
            || graph.wallet_ids().zip(&labels).filter(|(wallet, _)| graph.is_of(*wallet, self.network));
        // First the number of members of a root, then the index of its cluster.
        let mut places = vec![0_u32; labels.len()];
        for (_, root) in wallets_of_network() {
            let _ = pace.step(0);
            if let Some(count) = places.get_mut(root.index()) {
                *count += 1;
            }
        }
        let (mut found, mut members) = (Vec::new(), 0);
        for (root, entry) in graph.wallet_ids().zip(&mut places) {
            let wallets = u64::from(*entry);
            *entry = NOWHERE;
            let _ = pace.step(0);
            if wallets == 0 || wallets < self.question.min_size || (wallets == 1 && !self.has_transfers(root)?) {
                continue;
            }
            if found.len() == found.capacity() {
                reserve(memory, size_of::<Cluster>() * found.len().max(4), labels.len())?;
            }
            *entry = found.len() as u32;
            let start = members;
            members += wallets as usize;
            let (transfers, merges, refused, confidence) = (0, 0, 0, 1.0);
            // Counted again as members are placed.
            found.push(Cluster { first: root, wallets: 0, transfers, merges, refused, confidence, start });
        }
        let mut clusters =
            Clusters { found, merges, halted, members: vec![WalletId::NONE; members], labels: Vec::new() };
        for (wallet, root) in wallets_of_network() {
            let _ = pace.step(0);
            let index = places.get(root.index()).copied().unwrap_or(NOWHERE);
            let Some(cluster) = clusters.found.get_mut(index as usize) else { continue };
            if let Some(member) = clusters.members.get_mut(cluster.start + cluster.wallets as usize) {
                *member = wallet;
            }
            cluster.wallets += 1;
            if graph.order(wallet) < graph.order(cluster.first) {
                cluster.first = wallet;
            }
            match sent.as_ref().and_then(|sent| sent.get(wallet.index())) {
                Some(sent) => cluster.transfers += u64::from(*sent),
                None => graph.receivers(wallet, &self.filter, |peer| -> Result<(), SearchError> {
                    let _ = pace.step(0);
                    if peer.and_then(|peer| labels.get(peer.index())) == Some(root) {
                        cluster.transfers += 1;
                    }
                    Ok(())
                })?,
            }
        }
        let index_of = |wallet: WalletId| places.get(labels.get(wallet.index())?.index()).copied();
        for merge in &clusters.merges {
            let _ = pace.step(0);
            let accepted = merge.verdict.is_accepted();
            let ends = [merge.wallet, merge.merged_with].map(index_of);
            for end in if accepted || ends[0] == ends[1] { &ends[..1] } else { &ends[..] } {
                let Some(cluster) = end.and_then(|index| clusters.found.get_mut(index as usize)) else { continue };
                if accepted {
                    cluster.merges += 1;
                    if merge.verdict == (Verdict::Accepted { joined: true }) {
                        cluster.confidence = cluster.confidence.min(merge.confidence);
                    }
                } else {
                    cluster.refused += 1;
                }
            }
        }
        drop(places);
        clusters.labels = labels;
        clusters.found = self.by_size(std::mem::take(&mut clusters.found), memory, pace)?;
        Ok(clusters)
    }

    /// Reports whether a wallet has a transfer that counts.
    fn has_transfers(&self, wallet: WalletId) -> Result<bool, Damaged> {
        for side in [Side::Out, Side::In] {
            let scan = self.graph.counted_transfers(wallet, side, &self.filter, |_| Err(FirstTransfer::Found));
            match scan {
                Err(FirstTransfer::Found) => return Ok(true),
                Err(FirstTransfer::Damaged(damaged)) => return Err(damaged),
                Ok(()) => {}
            }
        }
        Ok(false)
    }

    fn by_size<W: Interrupt>(
        &self,
        clusters: Vec<Cluster>,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Vec<Cluster>, SearchError> {
        type Keyed = ((Reverse<u64>, u64), u32);
        reserve(memory, (2 * size_of::<Keyed>() + size_of::<Cluster>()) * clusters.len(), clusters.len())?;
        let key = |cluster: &Cluster| (Reverse(cluster.wallets), self.graph.order(cluster.first));
        let mut keyed: Vec<Keyed> = clusters.iter().map(key).zip(0..).collect();
        sort_with_room(&mut keyed, pace.interrupt(), |a, b| a.0.cmp(&b.0));
        Ok(keyed.into_iter().filter_map(|(_, index)| clusters.get(index as usize).copied()).collect())
    }
}

const NOWHERE: u32 = u32::MAX;

/// End of the search for a first transfer.
enum FirstTransfer {
    Found,
    Damaged(Damaged),
}

impl From<Damaged> for FirstTransfer {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged)
    }
}

impl Clusters {
    /// Returns all members of a cluster, in no particular order.
    #[must_use]
    pub fn members(&self, cluster: &Cluster) -> &[WalletId] {
        let end = cluster.start.saturating_add(cluster.wallets as usize);
        self.members.get(cluster.start..end).unwrap_or(&[])
    }

    /// Returns the root of a wallet's cluster: the same for all members, even if the cluster is not
    /// reported.
    #[must_use]
    pub fn root(&self, wallet: WalletId) -> Option<WalletId> {
        self.labels.get(wallet.index()).copied()
    }

    /// Returns the merges of a wallet's cluster, accepted or refused, or all merges.
    pub fn merges_of(&self, wallet: Option<WalletId>) -> impl Iterator<Item = MergeEvidence> {
        let root = wallet.map(|wallet| self.root(wallet));
        let ends = |merge: &MergeEvidence| [merge.wallet, merge.merged_with].map(|end| self.root(end));
        self.merges.iter().filter(move |merge| root.is_none_or(|root| ends(merge).contains(&root))).copied()
    }

    /// Returns the basis of each cluster by root, each wallet once, by address. O(merges log
    /// merges).
    #[must_use]
    pub fn bases(&self, graph: &Graph<'_>) -> HashMap<WalletId, Basis> {
        let mut bases: HashMap<WalletId, Basis> = HashMap::new();
        for merge in self.merges.iter().filter(|merge| merge.verdict.is_accepted()) {
            let Some(root) = self.root(merge.wallet) else { continue };
            let basis = bases.entry(root).or_default();
            basis.via.push(merge.via);
            basis.services.extend(merge.service);
        }
        for basis in bases.values_mut() {
            for wallets in [&mut basis.via, &mut basis.services] {
                wallets.sort_unstable_by_key(|wallet| graph.order(*wallet));
                wallets.dedup();
            }
        }
        bases
    }

    /// Returns the first members by address. O(members log limit), because the largest cluster may
    /// be most of the graph.
    pub fn first_members(
        &self,
        graph: &Graph<'_>,
        cluster: &Cluster,
        limit: usize,
        interrupt: &mut impl Interrupt,
    ) -> Vec<WalletId> {
        let mut pace = Pace::new(interrupt);
        let mut first: BinaryHeap<(u64, WalletId)> = BinaryHeap::new();
        for wallet in self.members(cluster).iter().filter(|_| limit > 0) {
            let _ = step(&mut pace);
            let candidate = (graph.order(*wallet), *wallet);
            if first.len() < limit {
                first.push(candidate);
            } else if let Some(mut last) = first.peek_mut().filter(|last| candidate < **last) {
                *last = candidate;
            }
        }
        let mut first = first.into_vec();
        sort_with_room(&mut first, pace.interrupt(), Ord::cmp);
        first.into_iter().map(|(_, wallet)| wallet).collect()
    }
}

#[cfg(test)]
mod tests;
