//! Evidence taken strongest first, with a bound on what it may bring together.

use std::collections::HashMap;

use super::Asked;
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
use crate::graph::view::graph::{Graph, Transfer};

/// Two wallets that must not come into one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    /// One.
    pub one: WalletId,
    /// The other.
    pub other: WalletId,
}

/// Evidence that two wallets belong together, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merge {
    /// Deposit: the sender. Funding: the one funded earlier.
    pub wallet: WalletId,
    /// Deposit: the deposit address. Funding: the one funded next.
    pub merged_with: WalletId,
    /// Deposit: the deposit address. Funding: who funded both.
    pub via: WalletId,
    /// Deposit: where the deposit address forwards to.
    pub service: Option<WalletId>,
    /// When the evidence begins.
    pub first: i64,
    /// When it ends.
    pub last: i64,
    /// How sure it is, up to 1; see the method.
    pub confidence: f64,
    /// What became of it.
    pub verdict: Verdict,
}

impl Merge {
    /// The transfers behind it with their senders, in order: the first ones of each pair of wallets. Deposit: to the deposit
    /// address, and from there to the service. Funding: the first funds of both.
    ///
    /// # Errors
    /// When the graph does not hold together.
    pub fn transfers(
        &self,
        graph: &Graph<'_>,
        filter: &EdgeFilter,
        most: usize,
    ) -> Result<Vec<(WalletId, Transfer)>, Damaged> {
        let steps = match self.service {
            Some(service) => [(self.wallet, self.via, None), (self.via, service, None)],
            None => [(self.via, self.wallet, Some(self.first)), (self.via, self.merged_with, Some(self.last))],
        };
        let filter = EdgeFilter { include_failed: false, min_transfers: 1, ..*filter };
        let mut found = Vec::new();
        for (from, to, time) in steps {
            let most = found.len() + if time.is_some() { 1 } else { most };
            graph.transfers_between(from, to, &filter, |transfer| -> Result<(), Damaged> {
                let counts = transfer.value > U256::ZERO && time.is_none_or(|time| transfer.time == time);
                if counts && found.len() < most {
                    found.push((from, Transfer { peer: Some(to), ..transfer }));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }
}

/// What became of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Both are in one cluster: by this merge, or already.
    Accepted {
        /// Whether it was this merge that brought them together.
        joined: bool,
    },
    /// The cluster would have become too large.
    TooLarge,
    /// Two wallets would have come together that are kept apart: by the entry of the question's list with this number.
    Apart(usize),
}

impl Verdict {
    /// Whether both wallets are in one cluster.
    #[must_use]
    pub const fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted { .. })
    }
}

/// Judges all evidence, strongest first, ties by address. Returns of each wallet the root of its cluster, and the merges in the
/// order they were judged. O(merges log merges + wallets), with eight bytes a wallet.
pub(super) fn take<W: Interrupt>(
    asked: &Asked<'_, '_>,
    mut evidence: Vec<Merge>,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<(Vec<WalletId>, Vec<Merge>), SearchError> {
    let (graph, question) = (asked.graph, asked.question);
    let wallets = graph.wallets();
    reserve(memory, 8 * wallets as usize + size_of::<Merge>() * evidence.len(), wallets as usize)?;
    let key = |one: &Merge| [one.wallet, one.merged_with, one.via].map(|wallet| graph.order(wallet));
    sort_with_room(&mut evidence, pace.interrupt(), |a, b| {
        b.confidence.total_cmp(&a.confidence).then_with(|| key(a).cmp(&key(b)))
    });
    let mut sets = DisjointSets::new(wallets);
    let mut sizes = vec![1_u32; wallets as usize];
    let mut foes = Foes::new(question.apart);
    for merge in &mut evidence {
        // evidence that was found is judged, whatever the time
        let _ = step(pace);
        let (one, other) = (sets.find(merge.wallet), sets.find(merge.merged_with));
        merge.verdict = if one == other {
            Verdict::Accepted { joined: false }
        } else if let Some(entry) = foes.between(one, other, &mut sets) {
            Verdict::Apart(entry)
        } else {
            let size = |root: WalletId| sizes.get(root.index()).copied().unwrap_or(1);
            let (of_one, of_other) = (size(one), size(other));
            if u64::from(of_one) + u64::from(of_other) > question.max_size {
                Verdict::TooLarge
            } else {
                let (above, below) = if of_one >= of_other { (one, other) } else { (other, one) };
                sets.hang(below, above);
                foes.follow(below, above);
                if let Some(size) = sizes.get_mut(above.index()) {
                    *size = of_one + of_other;
                }
                Verdict::Accepted { joined: true }
            }
        };
    }
    Ok((into_roots(sets, pace), evidence))
}

/// By root, whom its members must not come together with, and which entry says so.
struct Foes(HashMap<WalletId, Vec<(WalletId, usize)>>);

impl Foes {
    fn new(apart: &[Apart]) -> Self {
        let mut foes: HashMap<WalletId, Vec<(WalletId, usize)>> = HashMap::new();
        for (entry, pair) in apart.iter().enumerate() {
            foes.entry(pair.one).or_default().push((pair.other, entry));
            foes.entry(pair.other).or_default().push((pair.one, entry));
        }
        Self(foes)
    }

    /// The first entry that keeps two sets apart. O(entries about the one that has fewer).
    fn between(&self, one: WalletId, other: WalletId, sets: &mut DisjointSets) -> Option<usize> {
        let (of_one, of_other) = (self.0.get(&one)?, self.0.get(&other)?);
        let (foes, root) = if of_one.len() <= of_other.len() { (of_one, other) } else { (of_other, one) };
        foes.iter().filter(|(foe, _)| sets.find(*foe) == root).map(|(_, entry)| *entry).min()
    }

    /// A set went into another.
    fn follow(&mut self, below: WalletId, above: WalletId) {
        if let Some(foes) = self.0.remove(&below) {
            self.0.entry(above).or_default().extend(foes);
        }
    }
}
