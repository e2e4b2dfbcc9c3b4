//! Order of simultaneous transfers whose positions do not tell it: they follow the money.
//!
//! A tie is a set of transfers of one asset with the same time, block, index in the block and log.
//! Native transfers without an index in the block tie with all others of the block, because
//! positions within a transaction do not order two transactions. Within a tie, a wallet that
//! receives can send on: each wallet has a rank, zero if it received nothing in the tie, otherwise
//! one more than the largest rank among its senders, and transfers move in the order of their
//! senders' ranks. Wallets of a cycle have consecutive ranks: next comes one that received nothing
//! from those of the cycle that are left, otherwise one that has received something before,
//! otherwise any; among several the one with the first address.
//!
//! Ranks depend on the transfers of the tie alone, and not on the wallet that a search began at or
//! on its direction.

use std::collections::{BTreeSet, HashMap};

use crate::graph::budget::{Interrupt, Pace};
use crate::graph::error::{Damaged, SearchError};
use crate::graph::types::{AssetId, Position, Side, U256, WalletId};
use crate::graph::view::filter::{AssetSelection, EdgeFilter};
use crate::graph::view::graph::Graph;
use crate::graph::view::transfers::Transfer;

/// Bytes of a known rank, with the spare capacity of the table.
const RANK_ENTRY: usize = 2 * (size_of::<(Tie, WalletId)>() + size_of::<u32>());

/// Identifies the transfers whose order is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tie {
    pub asset: AssetId,
    pub time: i64,
    position: Position,
}

impl Tie {
    pub(crate) const fn new(asset: AssetId, time: i64, position: Position) -> Self {
        let position = if is_unordered(asset, position) { Position { log_index: None, ..position } } else { position };
        Self { asset, time, position }
    }

    const fn of(transfer: &Transfer) -> Self {
        Self::new(transfer.asset, transfer.time, transfer.position)
    }
}

/// Reports whether a position within a transaction does not order it among other transactions.
pub(crate) const fn is_unordered(asset: AssetId, position: Position) -> bool {
    asset.get() == AssetId::NATIVE.get() && position.transaction_index.is_none()
}

/// Ranks of wallets in ties, computed when they are first asked for.
#[derive(Debug, Default)]
pub(crate) struct TieRanks {
    ranks: HashMap<(Tie, WalletId), u32>,
    booked: usize,
}

/// The transfers of a tie that lead to a wallet.
#[derive(Debug, Default)]
struct Upstream {
    wallets: Vec<WalletId>,
    places: HashMap<WalletId, usize>,
    /// By wallet, the wallets that it received from.
    senders: Vec<Vec<usize>>,
}

impl TieRanks {
    /// Returns the rank of a wallet among the senders of a tie. O(log transfers) for a wallet that
    /// received nothing in it; otherwise linear in the transfers of the tie that lead to the
    /// wallet, once for all of them.
    pub(crate) fn rank<W: Interrupt>(
        &mut self,
        graph: &Graph<'_>,
        sender: WalletId,
        tie: Tie,
        pace: &mut Pace<'_, W>,
    ) -> Result<u32, SearchError> {
        if !received(graph, sender, tie)? {
            return Ok(0);
        }
        if let Some(rank) = self.ranks.get(&(tie, sender)) {
            return Ok(*rank);
        }
        let upstream = Upstream::read(graph, sender, tie, pace)?;
        for (wallet, rank) in upstream.wallets.iter().zip(upstream.ranks(graph, pace)) {
            self.ranks.insert((tie, *wallet), rank);
        }
        self.booked += upstream.wallets.len() * RANK_ENTRY;
        Ok(self.ranks.get(&(tie, sender)).copied().unwrap_or(0))
    }

    /// Returns the bytes that the ranks have taken since the last call.
    pub(crate) const fn take_booked(&mut self) -> usize {
        std::mem::replace(&mut self.booked, 0)
    }
}

/// Selects the transfers of the time of a tie.
fn moment(tie: Tie) -> EdgeFilter {
    let asset = if tie.asset == AssetId::NATIVE { AssetSelection::Native } else { AssetSelection::Token(tie.asset) };
    EdgeFilter { since: Some(tie.time), ..EdgeFilter::history(asset, tie.time.checked_add(1)) }
}

/// Reports whether a wallet received anything from others in a tie.
fn received(graph: &Graph<'_>, wallet: WalletId, tie: Tie) -> Result<bool, SearchError> {
    /// Ends the loop.
    enum End {
        Found,
        Damaged(Damaged),
    }
    impl From<Damaged> for End {
        fn from(error: Damaged) -> Self {
            Self::Damaged(error)
        }
    }
    let result = graph.counted_transfers(wallet, Side::In, &moment(tie), |transfer| {
        let counts = Tie::of(&transfer) == tie && transfer.value > U256::ZERO && transfer.peer != Some(wallet);
        // A reward has no sender that could have received.
        if counts && transfer.peer.is_some() { Err(End::Found) } else { Ok(()) }
    });
    match result {
        Ok(()) => Ok(false),
        Err(End::Found) => Ok(true),
        Err(End::Damaged(error)) => Err(error.into()),
    }
}

impl Upstream {
    fn read<W: Interrupt>(
        graph: &Graph<'_>,
        start: WalletId,
        tie: Tie,
        pace: &mut Pace<'_, W>,
    ) -> Result<Self, SearchError> {
        let mut upstream = Self::default();
        upstream.place(start);
        let mut next = 0;
        while let Some(wallet) = upstream.wallets.get(next).copied() {
            let mut senders = Vec::new();
            graph.counted_transfers(wallet, Side::In, &moment(tie), |transfer| -> Result<(), SearchError> {
                pace.step(0);
                if Tie::of(&transfer) == tie
                    && transfer.value > U256::ZERO
                    && let Some(sender) = transfer.peer.filter(|sender| *sender != wallet)
                {
                    senders.push(upstream.place(sender));
                }
                Ok(())
            })?;
            senders.sort_unstable();
            senders.dedup();
            if let Some(slot) = upstream.senders.get_mut(next) {
                *slot = senders;
            }
            next += 1;
        }
        Ok(upstream)
    }

    fn place(&mut self, wallet: WalletId) -> usize {
        *self.places.entry(wallet).or_insert_with(|| {
            self.wallets.push(wallet);
            self.senders.push(Vec::new());
            self.wallets.len() - 1
        })
    }

    fn senders(&self, place: usize) -> &[usize] {
        self.senders.get(place).map_or(&[], Vec::as_slice)
    }

    /// Returns the rank of each wallet.
    fn ranks<W: Interrupt>(&self, graph: &Graph<'_>, pace: &mut Pace<'_, W>) -> Vec<u32> {
        let mut ranks = vec![0_u32; self.wallets.len()];
        for component in self.components(pace) {
            pace.step(component.len());
            let members: BTreeSet<usize> = component.iter().copied().collect();
            let before = component.iter().flat_map(|member| self.senders(*member));
            let before = before.filter(|sender| !members.contains(sender));
            let base = before.filter_map(|sender| ranks.get(*sender)).max().map(|rank| rank.saturating_add(1));
            for (offset, member) in (0..).zip(self.sequence(&members, graph)) {
                // A wallet that received nothing is alone, and has rank 0.
                let first = base.unwrap_or(u32::from(members.len() > 1));
                if let Some(rank) = ranks.get_mut(member) {
                    *rank = first.saturating_add(offset);
                }
            }
        }
        ranks
    }

    /// Orders the wallets of a strongly connected component.
    fn sequence(&self, members: &BTreeSet<usize>, graph: &Graph<'_>) -> Vec<usize> {
        if members.len() == 1 {
            return members.iter().copied().collect();
        }
        let order = |member: usize| self.wallets.get(member).map_or(u64::MAX, |wallet| graph.order(*wallet));
        let mut receivers: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut waits: HashMap<usize, usize> = HashMap::new();
        for member in members {
            for sender in self.senders(*member).iter().filter(|sender| members.contains(sender)) {
                receivers.entry(*sender).or_default().push(*member);
                *waits.entry(*member).or_default() += 1;
            }
        }
        let fed_from_outside = |member: &usize| self.senders(*member).iter().any(|sender| !members.contains(sender));
        let entry = |member: &usize| (order(*member), *member);
        let mut left: BTreeSet<(u64, usize)> = members.iter().map(entry).collect();
        let mut fed: BTreeSet<(u64, usize)> =
            members.iter().filter(|member| fed_from_outside(member)).map(entry).collect();
        let mut ready: BTreeSet<(u64, usize)> = BTreeSet::new();
        let mut sequence = Vec::with_capacity(members.len());
        while let Some(next) = ready.first().or_else(|| fed.first()).or_else(|| left.first()).copied() {
            for set in [&mut ready, &mut fed, &mut left] {
                set.remove(&next);
            }
            sequence.push(next.1);
            for receiver in receivers.get(&next.1).into_iter().flatten() {
                let (Some(waiting), receiver) = (waits.get_mut(receiver), entry(receiver)) else { continue };
                *waiting -= 1;
                if left.contains(&receiver) {
                    fed.insert(receiver);
                    if *waiting == 0 {
                        ready.insert(receiver);
                    }
                }
            }
        }
        sequence
    }

    /// Returns the strongly connected components, senders before receivers (Tarjan, 1972, with an
    /// explicit stack). O(wallets + transfers).
    fn components<W: Interrupt>(&self, pace: &mut Pace<'_, W>) -> Vec<Vec<usize>> {
        const UNSEEN: usize = usize::MAX;
        let count = self.wallets.len();
        let (mut index, mut low, mut on_stack) = (vec![UNSEEN; count], vec![UNSEEN; count], vec![false; count]);
        let (mut stack, mut components, mut counter) = (Vec::new(), Vec::new(), 0);
        for root in 0..count {
            if index[root] != UNSEEN {
                continue;
            }
            // A wallet, and how many of its senders have been visited.
            let mut calls = vec![(root, 0)];
            while let Some((wallet, visited)) = calls.pop() {
                pace.step(0);
                if visited == 0 {
                    (index[wallet], low[wallet], on_stack[wallet]) = (counter, counter, true);
                    counter += 1;
                    stack.push(wallet);
                }
                let Some(sender) = self.senders(wallet).get(visited).copied() else {
                    if low[wallet] == index[wallet] {
                        let start = stack.iter().rposition(|member| *member == wallet).unwrap_or(0);
                        let component = stack.split_off(start);
                        component.iter().for_each(|member| on_stack[*member] = false);
                        components.push(component);
                    }
                    if let Some((parent, _)) = calls.last() {
                        low[*parent] = low[*parent].min(low[wallet]);
                    }
                    continue;
                };
                calls.push((wallet, visited + 1));
                if index[sender] == UNSEEN {
                    calls.push((sender, 0));
                } else if on_stack[sender] {
                    low[wallet] = low[wallet].min(index[sender]);
                }
            }
        }
        components
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::Uninterrupted;
    use crate::graph::test_graph::{Sent, TestGraph};

    fn ranks(rows: &[(u32, u32)], wallets: &[u32]) -> Vec<u32> {
        let rows: Vec<Sent> = rows.iter().map(|(from, to)| Sent::coins(*from, *to, 1)).collect();
        let test = TestGraph::in_one_block(&rows, rows.len() / 3);
        let (graph, mut ranks) = (test.graph(), TieRanks::default());
        let tie = Tie::new(AssetId::NATIVE, 0, Position::default());
        let rank =
            |wallet: &u32| ranks.rank(&graph, test.wallet(*wallet), tie, &mut Pace::new(&mut Uninterrupted)).unwrap();
        wallets.iter().map(rank).collect()
    }

    #[test]
    fn a_wallet_sends_after_everyone_that_it_received_from() {
        assert_eq!(ranks(&[(1, 2), (2, 3), (1, 3), (3, 4)], &[1, 2, 3, 4]), [0, 1, 2, 3]);
    }

    #[test]
    fn cycles_begin_where_money_came_in_or_at_the_first_address() {
        // Addresses of test wallets 1, 2, 3 are w010, w017, w024.
        assert_eq!(ranks(&[(3, 2), (2, 3), (3, 1)], &[3, 2, 1]), [2, 1, 3]);
        assert_eq!(ranks(&[(9, 3), (3, 2), (2, 3)], &[9, 2, 3]), [0, 2, 1]);
    }

    #[test]
    fn a_transfer_to_oneself_is_no_receipt() {
        assert_eq!(ranks(&[(1, 1), (1, 2)], &[1, 2]), [0, 1]);
    }

    proptest! {
        #[test]
        fn ranks_do_not_depend_on_the_order_of_rows(
            rows in prop::collection::vec((0..8_u32, 0..8_u32), 1..20), seed: u64,
        ) {
            let mut shuffled = rows.clone();
            shuffled.sort_by_key(|(from, to)| (u64::from(from * 31 + to) ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let wallets: Vec<u32> = rows.iter().flat_map(|(from, to)| [*from, *to]).collect();
            let own = ranks(&rows, &wallets);
            prop_assert_eq!(&own, &ranks(&shuffled, &wallets));
            // Without a cycle, money arrives before it leaves.
            let rank: HashMap<u32, u32> = wallets.iter().copied().zip(own).collect();
            let acyclic = rows.iter().all(|(from, to)| from <= to);
            if acyclic {
                for (from, to) in rows.iter().filter(|(from, to)| from < to) {
                    prop_assert!(rank[from] < rank[to]);
                }
            }
        }
    }
}
