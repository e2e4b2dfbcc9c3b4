//! Findings: members, identity, and selection of the strongest.

use std::cmp::{Ordering, Reverse};
use std::collections::HashSet;

use serde_json::{Map, Value};
use xxhash_rust::xxh3::Xxh3;

use crate::graph::budget::Interrupt;
use crate::graph::budget::MemoryBudget;
use crate::graph::error::{Damaged, SearchError};
use crate::graph::file::sorting::sort_with_room;
use crate::graph::types::U256;
use crate::graph::types::WalletId;
use crate::graph::view::graph::Graph;

/// A transfer of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Time of the transfer.
    pub time: i64,
    /// Its number in the graph.
    pub number: u64,
    /// Sender.
    pub from: WalletId,
    /// Receiver.
    pub to: WalletId,
    /// Amount.
    pub value: U256,
}

/// A pattern that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Identity, the same in every run: a hash of the pattern, the network, the asset, and time,
    /// wallets and value of every transfer.
    pub id: u128,
    /// Strength, from 0 to 1.
    pub strength: f64,
    /// Central wallet, then the others by role and address, each once.
    pub wallets: Vec<WalletId>,
    /// Transfers of the finding, by time.
    pub transfers: Vec<Member>,
    /// Sum of the transfers, if it is at most 2^256 - 1 units.
    pub total: Option<U256>,
    /// Time of the first transfer.
    pub first: i64,
    /// Time of the last transfer.
    pub last: i64,
    /// Details specific to the pattern.
    pub details: Map<String, Value>,
}

/// A finding as its detector makes it.
pub(super) struct FindingDraft {
    pub strength: f64,
    /// Central wallet; the others are listed by role.
    pub center: WalletId,
    pub roles: Vec<Role>,
    pub transfers: Vec<Member>,
    pub details: Map<String, Value>,
}

/// The wallets of a role.
pub(super) enum Role {
    /// By address.
    Set(Vec<WalletId>),
    /// In a meaningful order.
    Sequence(Vec<WalletId>),
}

/// Bytes of a finding without its lists, most of them for the details.
const FINDING: usize = 1_024;

impl Finding {
    /// Makes a finding of a draft. O(n log n) in its transfers.
    pub(super) fn new(
        graph: &Graph<'_>,
        named: &Named<'_>,
        draft: FindingDraft,
        interrupt: &mut impl Interrupt,
    ) -> Result<Self, Damaged> {
        let FindingDraft { strength, center, roles, mut transfers, details } = draft;
        sort_long(&mut transfers, interrupt, |a, b| compare(graph, a, b));
        transfers.dedup_by_key(|transfer| transfer.number);
        let mut listed = HashSet::from([center]);
        let mut wallets = vec![center];
        for role in roles {
            let of_role = match role {
                Role::Sequence(wallets) => wallets,
                Role::Set(mut wallets) => {
                    sort_long(&mut wallets, interrupt, |a, b| graph.order(*a).cmp(&graph.order(*b)));
                    wallets.dedup();
                    wallets
                }
            };
            wallets.extend(of_role.into_iter().filter(|wallet| listed.insert(*wallet)));
        }
        let total = transfers.iter().try_fold(U256::ZERO, |sum, transfer| sum.checked_add(transfer.value));
        let (first, last) = (
            transfers.first().map_or(0, |transfer| transfer.time),
            transfers.last().map_or(0, |transfer| transfer.time),
        );
        // Sums of floats may differ in their last digits between machines.
        let strength = (strength.clamp(0.0, 1.0) * 1e6).round() / 1e6;
        let id = named.hash(graph, &transfers, interrupt)?;
        Ok(Self { id, strength, wallets, transfers, total, first, last, details })
    }

    /// Returns its size in memory.
    pub(super) fn bytes(&self) -> usize {
        FINDING + self.wallets.capacity() * size_of::<WalletId>() + self.transfers.capacity() * size_of::<Member>()
    }

    /// Returns the sort key: strongest first, then earliest, then by the central wallet.
    fn rank(&self, graph: &Graph<'_>) -> Rank {
        let center = self.wallets.first().map_or(0, |wallet| graph.order(*wallet));
        (Reverse(self.strength.to_bits()), self.first, center, self.id)
    }
}

/// Strengths are not negative, so their bits have the same order.
type Rank = (Reverse<u64>, i64, u64, u128);

/// Length from which sorting takes milliseconds.
const LONG: usize = 1 << 14;

/// Sorts a list of any length with cancellation checks; needs memory for a copy.
pub(super) fn sort_long<T: Copy>(
    data: &mut [T],
    interrupt: &mut impl Interrupt,
    compare: impl FnMut(&T, &T) -> Ordering,
) {
    if data.len() < LONG {
        data.sort_by(compare);
    } else {
        sort_with_room(data, interrupt, compare);
    }
}

/// Sorts large items by key, and moves each only once.
pub(super) fn sort_by_key<T, K: Ord + Copy>(
    data: Vec<T>,
    interrupt: &mut impl Interrupt,
    key: impl Fn(&T) -> K,
) -> Vec<T> {
    let mut keys: Vec<(K, usize)> = data.iter().map(key).zip(0..).collect();
    sort_long(&mut keys, interrupt, Ord::cmp);
    let mut data: Vec<Option<T>> = data.into_iter().map(Some).collect();
    keys.into_iter().filter_map(|(_, index)| data.get_mut(index)?.take()).collect()
}

/// Compares by time, then by criteria that do not depend on the numbers of a graph.
pub(super) fn compare(graph: &Graph<'_>, a: &Member, b: &Member) -> Ordering {
    let wallets = |member: &Member| (graph.order(member.from), graph.order(member.to));
    a.time
        .cmp(&b.time)
        .then_with(|| wallets(a).cmp(&wallets(b)))
        .then(a.value.cmp(&b.value))
        .then(a.number.cmp(&b.number))
}

/// Context of a finding's transfers, a part of its identity.
pub(super) struct Named<'n> {
    pub pattern: &'static str,
    pub network: &'n str,
    pub asset: &'n str,
}

impl Named<'_> {
    fn hash(&self, graph: &Graph<'_>, transfers: &[Member], interrupt: &mut impl Interrupt) -> Result<u128, Damaged> {
        let mut hasher = Xxh3::new();
        let mut text = |text: &str| {
            hasher.update(text.as_bytes());
            hasher.update(&[0xff]);
        };
        text(self.pattern);
        text(self.network);
        text(self.asset);
        for (index, transfer) in transfers.iter().enumerate() {
            if index % LONG == LONG - 1 {
                interrupt.should_stop();
            }
            hasher.update(&transfer.time.to_le_bytes());
            for wallet in [transfer.from, transfer.to] {
                hasher.update(graph.address(wallet)?.as_bytes());
                hasher.update(&[0xff]);
            }
            hasher.update(&transfer.value.to_le_bytes());
        }
        Ok(hasher.digest128())
    }
}

/// The strongest findings.
#[derive(Debug, Default)]
pub(super) struct Strongest {
    pub found: Vec<Finding>,
    most: Option<usize>,
    /// Restricts findings to those of one wallet.
    wallet: Option<WalletId>,
    /// Strength below which findings are not kept.
    least: f64,
    /// There were more findings than are kept.
    pub cut: bool,
}

/// Number of additional findings kept before the list is shrunk.
const SPARE: usize = 1 << 10;

impl Strongest {
    pub(super) const fn new(most: Option<usize>, wallet: Option<WalletId>) -> Self {
        Self { found: Vec::new(), most, wallet, least: 0.0, cut: false }
    }

    /// Adds a finding, whose bytes are booked already. Bytes of discarded findings are given back.
    pub(super) fn add(
        &mut self,
        finding: Finding,
        graph: &Graph<'_>,
        room: &mut MemoryBudget,
        interrupt: &mut impl Interrupt,
    ) {
        if self.wallet.is_some_and(|wallet| !finding.wallets.contains(&wallet)) {
            room.give(finding.bytes());
        } else if finding.strength < self.least {
            self.cut = true;
            room.give(finding.bytes());
        } else {
            self.found.push(finding);
            if self.most.is_some_and(|most| self.found.len() >= most.saturating_mul(2).saturating_add(SPARE)) {
                self.shrink(graph, room, interrupt);
            }
        }
    }

    /// Sorts the findings, removes duplicates, and discards the weakest beyond the maximum.
    pub(super) fn shrink(&mut self, graph: &Graph<'_>, room: &mut MemoryBudget, interrupt: &mut impl Interrupt) {
        // The same transfers may be found with another central wallet or strength: the first by
        // rank stays.
        self.found =
            sort_by_key(std::mem::take(&mut self.found), interrupt, |finding| (finding.id, finding.rank(graph)));
        self.found.dedup_by(|a, b| {
            let same = a.id == b.id;
            if same {
                room.give(a.bytes());
            }
            same
        });
        self.found = sort_by_key(std::mem::take(&mut self.found), interrupt, |finding| finding.rank(graph));
        let Some(most) = self.most else { return };
        if self.found.len() > most {
            self.cut = true;
            for gone in self.found.drain(most..) {
                room.give(gone.bytes());
            }
        }
        if self.found.len() == most {
            self.least = self.found.last().map_or(0.0, |finding| finding.strength);
        }
    }
}

/// Returns `1 - 2^(-count / least)`: one half at the minimum, and near one at a multiple of it.
pub(super) fn size(count: u64, least: u64) -> f64 {
    1.0 - (-(count as f64) / least.max(1) as f64).exp2()
}

/// Returns the evenness of amounts, from 1/n to 1: the inverse of Simpson's index divided by their
/// number.
pub(super) fn evenness(amounts: impl Iterator<Item = U256>) -> f64 {
    let (mut count, mut sum, mut squares) = (0_u64, 0.0, 0.0);
    for amount in amounts.map(U256::as_f64) {
        count += 1;
        sum += amount;
        squares += amount * amount;
    }
    if squares > 0.0 { sum * sum / (squares * count as f64) } else { 0.0 }
}

/// Returns the ratio of the smaller amount to the larger.
pub(super) fn balance(a: U256, b: U256) -> f64 {
    let most = a.max(b);
    if most == U256::ZERO { 0.0 } else { a.min(b).as_f64() / most.as_f64() }
}

/// Returns the unused share of a window, from 0 to 1.
pub(super) fn concentration(span: i64, window: i64) -> f64 {
    (1.0 - span as f64 / window as f64).clamp(0.0, 1.0)
}

/// A ratio in millionths, for exact comparisons of amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExactRatio(u64);

/// Millionths of a whole.
pub(super) const WHOLE: u64 = 1_000_000;

impl ExactRatio {
    pub(super) fn new(ratio: f64) -> Self {
        Self((ratio.clamp(0.0, 1.0) * WHOLE as f64).round() as u64)
    }

    pub(super) const fn rest(self) -> Self {
        Self(WHOLE - self.0)
    }

    /// Reports whether an amount is at least this share of another.
    pub(super) fn is_at_most(self, amount: U256, total: U256) -> bool {
        let (whole, share) = (U256::from(WHOLE), U256::from(self.0));
        match (amount.checked_mul(whole), total.checked_mul(share)) {
            (Some(amount), Some(total)) => amount >= total,
            // The last digits of such large amounts do not matter.
            _ => amount >= total / whole * share,
        }
    }

    /// Reports whether an amount is at most this share of another.
    pub(super) fn is_at_least(self, amount: U256, total: U256) -> bool {
        let (whole, share) = (U256::from(WHOLE), U256::from(self.0));
        match (amount.checked_mul(whole), total.checked_mul(share)) {
            (Some(amount), Some(total)) => amount <= total,
            _ => amount <= total / whole * share,
        }
    }

    pub(super) const fn is_nothing(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn millionths(self) -> u64 {
        self.0
    }

    pub(super) fn ratio(self) -> f64 {
        self.0 as f64 / WHOLE as f64
    }
}

/// Returns the error of a search that exceeds its memory.
pub(super) const fn no_room(room: &MemoryBudget, findings: usize) -> SearchError {
    SearchError::PatternMemory { budget: room.limit(), findings }
}
