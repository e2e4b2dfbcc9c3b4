//! Wallets that belong together.
//!
//! Owns the methods ([`Method`]): components of the transfer graph, which are facts, and heuristics, which are evidence. Evidence is
//! taken strongest first ([`Merge`]); what would make a cluster too large, or bring together what the user keeps apart, is refused
//! and said to be. Clusters are computed when they are asked for, so nothing has to be undone: evidence that is taken back is not
//! there the next time. Failed transactions moved no value: the filter's `include_failed` is not looked at, they never count.
//!
//! Source of both heuristics: F. Victor, "Address Clustering Heuristics for Ethereum", Financial Cryptography 2020: deposit address
//! reuse, and first funds in the manner of multi-participation in airdrops. What a cluster is kept from, and why, is what users of
//! transaction graphs miss most: one false merge makes a supercluster of everything.

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

pub use labels::{Inherited, Known, inherit};
pub use merging::{Apart, Merge, Verdict};
pub use options::{DepositOptions, FundingOptions, Method};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct ClusterQuestion<'a> {
    /// Of which network.
    pub network: &'a str,
    /// How.
    pub method: Method,
    /// By which transfers.
    pub filter: EdgeFilter,
    /// Custodians: they are many people's, and join nothing.
    pub services: &'a [WalletId],
    /// Pairs that must not come together.
    pub apart: &'a [Apart],
    /// Clusters with fewer wallets are left out.
    pub min_size: u64,
    /// Merges that would make a larger cluster are refused. Does not apply to components.
    pub max_size: u64,
    /// Memory for it all.
    pub memory: MemoryBudget,
}

/// Wallets that belong together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cluster {
    /// The first of them by address.
    pub first: WalletId,
    /// How many.
    pub wallets: u64,
    /// Transfers that count among them.
    pub transfers: u64,
    /// Merges that were accepted.
    pub merges: u64,
    /// Merges with one of them that were refused.
    pub refused: u64,
    /// Of the weakest merge that holds it together; 1 for components.
    pub confidence: f64,
    /// Its place among the members.
    start: usize,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    /// Largest first, then by address of the first member.
    pub found: Vec<Cluster>,
    /// All merges that there was evidence for, strongest first; none for components.
    pub merges: Vec<Merge>,
    /// Why it is not all, if it is not.
    pub halted: Option<Halt>,
    members: Vec<WalletId>,
    /// Of each wallet its root; empty when the network is unknown.
    labels: Vec<WalletId>,
}

/// What a cluster rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Basis {
    /// Deposit addresses or funders behind its merges.
    pub via: Vec<WalletId>,
    /// Services that deposit addresses forward to.
    pub services: Vec<WalletId>,
}

/// Finds the clusters of a network. Time that is used up ends it early, with what was found until then.
///
/// # Errors
/// [`SearchError::WholeGraph`], [`SearchError::Damaged`].
pub fn clusters<W: Interrupt>(
    graph: &Graph<'_>,
    question: &ClusterQuestion<'_>,
    interrupt: &mut W,
) -> Result<Clusters, SearchError> {
    let Some(network) = graph.network_number(question.network) else {
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
    let asked = Asked { graph, network, filter, question };
    match &question.method {
        Method::Weak => {
            let labelled = weak(graph, network, &filter, &mut memory, &mut pace)?;
            asked.grouped(labelled, Vec::new(), &mut memory, &mut pace)
        }
        Method::Strong => {
            let labelled = strong(graph, network, &filter, &mut memory, &mut pace)?;
            asked.grouped(labelled, Vec::new(), &mut memory, &mut pace)
        }
        Method::Deposit(options) => {
            let (evidence, halted) = deposit::evidence(&asked, options, &mut memory, &mut pace)?;
            asked.merged(evidence, halted, &mut memory, &mut pace)
        }
        Method::Funding(options) => {
            let (evidence, halted) = funding::evidence(&asked, options, &mut memory, &mut pace)?;
            asked.merged(evidence, halted, &mut memory, &mut pace)
        }
    }
}

/// A question with the graph that answers it.
struct Asked<'a, 'g> {
    graph: &'a Graph<'g>,
    network: NetworkId,
    filter: EdgeFilter,
    question: &'a ClusterQuestion<'a>,
}

impl Asked<'_, '_> {
    fn merged<W: Interrupt>(
        &self,
        evidence: Vec<Merge>,
        halted: Option<Halt>,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Clusters, SearchError> {
        let (labels, merges) = merging::take(self, evidence, memory, pace)?;
        self.grouped(Labelled { labels, sent: None, halted }, merges, memory, pace)
    }

    /// Gathers the members of each label: a counting sort. O(wallets), and the transfers of the members.
    fn grouped<W: Interrupt>(
        &self,
        labelled: Labelled,
        merges: Vec<Merge>,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Clusters, SearchError> {
        let Labelled { labels, sent, halted } = labelled;
        let graph = self.graph;
        reserve(memory, 8 * labels.len(), labels.len())?;
        let ours = || graph.wallet_ids().zip(&labels).filter(|(wallet, _)| graph.is_of(*wallet, self.network));
        // first how many a root has, then the place of its cluster among those found
        let mut places = vec![0_u32; labels.len()];
        for (_, root) in ours() {
            let _ = pace.step(0);
            if let Some(count) = places.get_mut(root.index()) {
                *count += 1;
            }
        }
        let (mut found, mut members) = (Vec::new(), 0);
        for (root, place) in graph.wallet_ids().zip(&mut places) {
            let wallets = u64::from(*place);
            *place = NOWHERE;
            let _ = pace.step(0);
            if wallets == 0 || wallets < self.question.min_size || (wallets == 1 && !self.has_transfers(root)?) {
                continue;
            }
            if found.len() == found.capacity() {
                reserve(memory, size_of::<Cluster>() * found.len().max(4), labels.len())?;
            }
            *place = found.len() as u32;
            let start = members;
            members += wallets as usize;
            let (transfers, merges, refused, confidence) = (0, 0, 0, 1.0);
            // counted anew as members are put in their places
            found.push(Cluster { first: root, wallets: 0, transfers, merges, refused, confidence, start });
        }
        let mut clusters =
            Clusters { found, merges, halted, members: vec![WalletId::NONE; members], labels: Vec::new() };
        for (wallet, root) in ours() {
            let _ = pace.step(0);
            let place = places.get(root.index()).copied().unwrap_or(NOWHERE);
            let Some(cluster) = clusters.found.get_mut(place as usize) else { continue };
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
        let place = |wallet: WalletId| places.get(labels.get(wallet.index())?.index()).copied();
        for merge in &clusters.merges {
            let _ = pace.step(0);
            let accepted = merge.verdict.is_accepted();
            let ends = [merge.wallet, merge.merged_with].map(place);
            for end in if accepted || ends[0] == ends[1] { &ends[..1] } else { &ends[..] } {
                let Some(cluster) = end.and_then(|place| clusters.found.get_mut(place as usize)) else { continue };
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

    /// Whether a wallet has a transfer that counts.
    fn has_transfers(&self, wallet: WalletId) -> Result<bool, Damaged> {
        for side in [Side::Out, Side::In] {
            let looked = self.graph.counted_transfers(wallet, side, &self.filter, |_| Err(Seen::Something));
            match looked {
                Err(Seen::Something) => return Ok(true),
                Err(Seen::Damaged(damaged)) => return Err(damaged),
                Ok(()) => {}
            }
        }
        Ok(false)
    }

    fn by_size<W: Interrupt>(
        &self,
        found: Vec<Cluster>,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Vec<Cluster>, SearchError> {
        type Keyed = ((Reverse<u64>, u64), u32);
        reserve(memory, (2 * size_of::<Keyed>() + size_of::<Cluster>()) * found.len(), found.len())?;
        let key = |one: &Cluster| (Reverse(one.wallets), self.graph.order(one.first));
        let mut keyed: Vec<Keyed> = found.iter().map(key).zip(0..).collect();
        sort_with_room(&mut keyed, pace.interrupt(), |a, b| a.0.cmp(&b.0));
        Ok(keyed.into_iter().filter_map(|(_, place)| found.get(place as usize).copied()).collect())
    }
}

const NOWHERE: u32 = u32::MAX;

/// What ends the look for a first transfer.
enum Seen {
    Something,
    Damaged(Damaged),
}

impl From<Damaged> for Seen {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged)
    }
}

impl Clusters {
    /// All members of a cluster, in no order.
    #[must_use]
    pub fn members(&self, cluster: &Cluster) -> &[WalletId] {
        let end = cluster.start.saturating_add(cluster.wallets as usize);
        self.members.get(cluster.start..end).unwrap_or(&[])
    }

    /// The root of a wallet's cluster: the same for all members, whether the cluster is among those found or not.
    #[must_use]
    pub fn root(&self, wallet: WalletId) -> Option<WalletId> {
        self.labels.get(wallet.index()).copied()
    }

    /// The merges of a wallet's cluster, accepted or refused, or all of them.
    pub fn merges_of(&self, wallet: Option<WalletId>) -> impl Iterator<Item = Merge> {
        let root = wallet.map(|wallet| self.root(wallet));
        let ends = |merge: &Merge| [merge.wallet, merge.merged_with].map(|end| self.root(end));
        self.merges.iter().filter(move |merge| root.is_none_or(|root| ends(merge).contains(&root))).copied()
    }

    /// Of each root what its cluster rests on, each wallet once, by address. O(merges log merges).
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

    /// The first members by address. O(members log most): the largest cluster of a graph is most of it.
    pub fn first_members(
        &self,
        graph: &Graph<'_>,
        cluster: &Cluster,
        most: usize,
        interrupt: &mut impl Interrupt,
    ) -> Vec<WalletId> {
        let mut pace = Pace::new(interrupt);
        let mut first: BinaryHeap<(u64, WalletId)> = BinaryHeap::new();
        for wallet in self.members(cluster).iter().filter(|_| most > 0) {
            let _ = step(&mut pace);
            let one = (graph.order(*wallet), *wallet);
            if first.len() < most {
                first.push(one);
            } else if let Some(mut last) = first.peek_mut().filter(|last| one < **last) {
                *last = one;
            }
        }
        let mut first = first.into_vec();
        sort_with_room(&mut first, pace.interrupt(), Ord::cmp);
        first.into_iter().map(|(_, wallet)| wallet).collect()
    }
}

#[cfg(test)]
mod tests;
