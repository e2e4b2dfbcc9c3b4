//! Judgement of evidence, strongest first, with limits on the resulting clusters.

use std::collections::HashMap;

use super::ClusterScope;
use super::components::into_roots;
use super::sets::DisjointSets;
use crate::graph::budget::Interrupt;
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::error::{Damaged, SearchError};
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::adjacency::{reserve, step};
use crate::graph::types::U256;
use crate::graph::types::WalletId;
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;
use crate::graph::view::transfers::Transfer;

/// Two wallets that must not be in the same cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    /// One wallet.
    pub one: WalletId,
    /// The other wallet.
    pub other: WalletId,
}

/// Evidence that two wallets belong together, with its verdict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MergeEvidence {
    /// Deposit: the sender. Funding: the wallet funded earlier.
    pub wallet: WalletId,
    /// Deposit: the deposit address. Funding: the wallet funded next.
    pub merged_with: WalletId,
    /// Deposit: the deposit address. Funding: the funder of both.
    pub via: WalletId,
    /// Deposit: the service that the deposit address forwards to.
    pub service: Option<WalletId>,
    /// Time of the first transfer of the evidence.
    pub first: i64,
    /// Time of the last transfer of the evidence.
    pub last: i64,
    /// Confidence, up to 1; see the method.
    pub confidence: f64,
    /// Acceptance, or the reason of the refusal.
    pub verdict: Verdict,
}

impl MergeEvidence {
    /// Returns the transfers of the evidence with their senders, in order: the first ones of each
    /// pair of wallets. Deposit: to the deposit address, and from there to the service. Funding:
    /// the first funds of both.
    ///
    /// # Errors
    /// When the graph is damaged.
    pub fn transfers(
        &self,
        graph: &Graph<'_>,
        filter: &EdgeFilter,
        limit_per_pair: usize,
    ) -> Result<Vec<(WalletId, Transfer)>, Damaged> {
        let steps = match self.service {
            Some(service) => [(self.wallet, self.via, None), (self.via, service, None)],
            None => [(self.via, self.wallet, Some(self.first)), (self.via, self.merged_with, Some(self.last))],
        };
        let filter = EdgeFilter { include_failed: false, min_transfers: 1, ..*filter };
        let mut transfers = Vec::new();
        for (from, to, time) in steps {
            let limit = transfers.len() + if time.is_some() { 1 } else { limit_per_pair };
            graph.transfers_between(from, to, &filter, |transfer| -> Result<(), Damaged> {
                let counts = transfer.value > U256::ZERO && time.is_none_or(|time| transfer.time == time);
                if counts && transfers.len() < limit {
                    transfers.push((from, Transfer { peer: Some(to), ..transfer }));
                }
                Ok(())
            })?;
        }
        Ok(transfers)
    }
}

/// Judgement of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Both wallets are in one cluster, by this merge or an earlier one.
    Accepted {
        /// This merge joined them.
        joined: bool,
    },
    /// The cluster would have become too large.
    TooLarge,
    /// Two wallets that must stay apart would have been joined; holds the index of the pair in the
    /// question.
    Apart(usize),
}

impl Verdict {
    /// Reports whether both wallets are in one cluster.
    #[must_use]
    pub const fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted { .. })
    }
}

/// Judges all evidence, strongest first, ties by address. Returns the root of each wallet's
/// cluster, and the merges in the order of judgement. O(merges log merges + wallets), with eight
/// bytes a wallet.
pub(super) fn judge<W: Interrupt>(
    scope: &ClusterScope<'_, '_>,
    mut evidence: Vec<MergeEvidence>,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<(Vec<WalletId>, Vec<MergeEvidence>), SearchError> {
    let (graph, question) = (scope.graph, scope.question);
    let wallets = graph.wallets();
    reserve(memory, 8 * wallets as usize + size_of::<MergeEvidence>() * evidence.len(), wallets as usize)?;
    let key = |merge: &MergeEvidence| [merge.wallet, merge.merged_with, merge.via].map(|wallet| graph.order(wallet));
    sort_with_room(&mut evidence, pace.interrupt(), |a, b| {
        b.confidence.total_cmp(&a.confidence).then_with(|| key(a).cmp(&key(b)))
    });
    let mut sets = DisjointSets::new(wallets);
    let mut sizes = vec![1_u32; wallets as usize];
    let mut apart = ApartIndex::new(question.apart);
    for merge in &mut evidence {
        // All collected evidence is judged, even after the time limit.
        let _ = step(pace);
        let (left, right) = (sets.find(merge.wallet), sets.find(merge.merged_with));
        merge.verdict = if left == right {
            Verdict::Accepted { joined: false }
        } else if let Some(entry) = apart.between(left, right, &mut sets) {
            Verdict::Apart(entry)
        } else {
            let size = |root: WalletId| sizes.get(root.index()).copied().unwrap_or(1);
            let (left_size, right_size) = (size(left), size(right));
            if u64::from(left_size) + u64::from(right_size) > question.max_size {
                Verdict::TooLarge
            } else {
                let (above, below) = if left_size >= right_size { (left, right) } else { (right, left) };
                sets.hang(below, above);
                apart.merge(below, above);
                if let Some(size) = sizes.get_mut(above.index()) {
                    *size = left_size + right_size;
                }
                Verdict::Accepted { joined: true }
            }
        };
    }
    Ok((into_roots(sets, pace), evidence))
}

/// By root, the wallets that its members must stay apart from, with the indexes of the pairs.
struct ApartIndex(HashMap<WalletId, Vec<(WalletId, usize)>>);

impl ApartIndex {
    fn new(apart: &[Apart]) -> Self {
        let mut by_wallet: HashMap<WalletId, Vec<(WalletId, usize)>> = HashMap::new();
        for (entry, pair) in apart.iter().enumerate() {
            by_wallet.entry(pair.one).or_default().push((pair.other, entry));
            by_wallet.entry(pair.other).or_default().push((pair.one, entry));
        }
        Self(by_wallet)
    }

    /// Returns the first pair that keeps two sets apart. O(pairs of the set that has fewer).
    fn between(&self, left: WalletId, right: WalletId, sets: &mut DisjointSets) -> Option<usize> {
        let (left_pairs, right_pairs) = (self.0.get(&left)?, self.0.get(&right)?);
        let (pairs, root) =
            if left_pairs.len() <= right_pairs.len() { (left_pairs, right) } else { (right_pairs, left) };
        pairs.iter().filter(|(wallet, _)| sets.find(*wallet) == root).map(|(_, entry)| *entry).min()
    }

    /// Moves the pairs of a set to the set that it was joined to.
    fn merge(&mut self, below: WalletId, above: WalletId) {
        if let Some(pairs) = self.0.remove(&below) {
            self.0.entry(above).or_default().extend(pairs);
        }
    }
}
