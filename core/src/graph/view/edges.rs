//! Edges of a wallet: its transfers summed up by peer and asset.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use crate::graph::error::Damaged;
use crate::graph::file::base::POLL_INTERVAL;
use crate::graph::file::packed::BEYOND;
use crate::graph::file::rows::{PairSum, PairSums};
use crate::graph::types::{AssetId, Side, Status, U256, WalletId};
use crate::graph::view::edge_sum::EdgeSum;
use crate::graph::view::filter::{AssetSelection, Edge, EdgeFilter, PlainEdges, PlainTotals};
use crate::graph::view::graph::{Graph, OUT_OF_RANGE};

type EdgeKey = (AssetId, WalletId);

/// Orders edges as the base has them, so that a limit cuts a search at the same wallet each time.
fn in_order(edges: impl IntoIterator<Item = (EdgeKey, EdgeSum)>) -> Vec<(EdgeKey, EdgeSum)> {
    let mut edges: Vec<(EdgeKey, EdgeSum)> = edges.into_iter().collect();
    edges.sort_unstable_by_key(|edge| edge.0);
    edges
}

impl Graph<'_> {
    /// Returns an upper bound of the number of edges that a wallet has on a side: the cost of
    /// reading them.
    pub(crate) fn degree(&self, wallet: WalletId, side: Side) -> usize {
        self.base.pairs(wallet, side).0.len() + self.overlay.added(wallet, side).len()
    }

    /// Returns the edges of a wallet as slices of the graph's memory, if all of them count and the
    /// overlay does not touch them; with their totals if requested. The fast path of a search.
    #[inline]
    pub(crate) fn plain_edges(
        &self,
        wallet: WalletId,
        side: Side,
        filter: &EdgeFilter,
        with_totals: bool,
    ) -> Option<PlainEdges<'_>> {
        let all_count = filter.assets == AssetSelection::Native && filter.min_transfers <= 1 && filter.is_by_pair();
        if !all_count || !self.overlay.is_untouched(wallet, side) {
            return None;
        }
        let base = &self.base;
        let range = if self.native_only {
            base.all_pairs(wallet, side)
        } else {
            let (range, native_end) = base.pairs(wallet, side);
            range.start..native_end
        };
        match side {
            Side::Out => Some(PlainEdges {
                peers: base.pair_peer.get(range.clone())?,
                totals: if with_totals {
                    let (transfers, values) = (base.pair_count.get(range.clone())?, base.pair_value.get(range)?);
                    Some(PlainTotals { transfers, values, wide: base.wide })
                } else {
                    None
                },
            }),
            // Totals are stored on the side of the senders.
            Side::In if with_totals => None,
            Side::In => Some(PlainEdges { peers: base.in_pair_peer.get(range)?, totals: None }),
        }
    }

    /// Calls `each` for every counted edge of a wallet on a side, one per asset and peer, in no
    /// particular order. O(edges + changed transfers), and once after a change also O(transfers) if
    /// pairs lost some. With a filter that pairs cannot answer, O(transfers).
    ///
    /// # Errors
    /// When the graph is damaged, and the first error of `each`.
    #[inline]
    pub fn edges<E, F>(&self, wallet: WalletId, side: Side, filter: &EdgeFilter, each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Edge) -> Result<(), E>,
    {
        if !filter.is_by_pair() {
            self.counted_edges(wallet, side, filter, each)
        } else if self.overlay.is_untouched(wallet, side) {
            self.base_edges(wallet, side, filter, each)
        } else {
            self.touched_edges(wallet, side, filter, each)
        }
    }

    /// Edges from the pairs of the base alone.
    #[inline]
    fn base_edges<E, F>(&self, wallet: WalletId, side: Side, filter: &EdgeFilter, mut each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Edge) -> Result<(), E>,
    {
        let base = &self.base;
        let range = self.selected_pairs(wallet, side, filter.assets);
        let with_value = filter.assets.is_single();
        // Pairs whose sum does not fit.
        let mut beyond = PairSums::new();
        let mut emit = |pair: usize, peer: WalletId| -> Result<(), E> {
            let (Some(count), Some(code)) = (base.pair_count.get(pair), base.pair_value.get(pair)) else {
                return Err(OUT_OF_RANGE.into());
            };
            let asset = match filter.assets {
                AssetSelection::Native => AssetId::NATIVE,
                _ => base.pair_asset[pair],
            };
            if u64::from(*count) < filter.min_transfers || !filter.assets.contains(asset) {
                return Ok(());
            }
            let value = match base.wide.small(*code) {
                _ if !with_value => U256::ZERO,
                Some(value) => U256::new(value),
                None if *code == BEYOND => {
                    beyond.insert((asset, peer), PairSum::EMPTY);
                    return Ok(());
                }
                None => base.wide.value(*code)?,
            };
            let (first, last) = (base.pair_first[pair], base.pair_last[pair]);
            each(Edge { peer, asset, transfers: u64::from(*count), value, first, last })
        };
        match side {
            Side::Out => {
                let peers = base.pair_peer.get(range.clone()).ok_or(OUT_OF_RANGE)?;
                for (pair, peer) in range.zip(peers) {
                    emit(pair, *peer)?;
                }
            }
            Side::In => {
                let peers = base.in_pair_peer.get(range.clone()).ok_or(OUT_OF_RANGE)?;
                let pairs = base.in_pair_number.get(range).ok_or(OUT_OF_RANGE)?;
                for (pair, peer) in pairs.iter().zip(peers) {
                    emit(*pair as usize, *peer)?;
                }
            }
        }
        if beyond.is_empty() {
            return Ok(());
        }
        base.sum_pairs(wallet, side, &mut beyond, |number| self.overlay.is_removed(number), &mut || (self.poll)())?;
        for ((asset, peer), sum) in in_order(beyond.iter().map(|(key, sum)| (*key, EdgeSum::of_pair(sum)))) {
            sum.emit(peer, asset, true, &mut each)?;
        }
        Ok(())
    }

    /// Returns the base's pairs of a wallet that can be of the selected assets.
    #[inline]
    fn selected_pairs(&self, wallet: WalletId, side: Side, assets: AssetSelection) -> Range<usize> {
        let (range, native_end) = self.base.pairs(wallet, side);
        match assets {
            AssetSelection::Native => range.start..native_end,
            AssetSelection::Tokens | AssetSelection::Token(_) => native_end..range.end,
            AssetSelection::All => range,
        }
    }

    /// Edges of a wallet that the overlay touches: the pairs of the base, less the removed
    /// transfers, plus the added ones.
    fn touched_edges<E, F>(&self, wallet: WalletId, side: Side, filter: &EdgeFilter, mut each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Edge) -> Result<(), E>,
    {
        let mut added = self.added_edges(wallet, side, filter.assets);
        let remainders = self.overlay.remainders(&self.base, wallet, side, &mut || (self.poll)())?;
        let with_value = filter.assets.is_single();
        let all_pairs = EdgeFilter { min_transfers: 0, ..*filter };
        // A pair beyond 256 bits arrives as two edges, which are joined again.
        let mut sums: HashMap<EdgeKey, EdgeSum> = HashMap::new();
        let mut emitted = None;
        let mut steps = 0_usize;
        self.base_edges(wallet, side, &all_pairs, |edge| -> Result<(), E> {
            steps += 1;
            if steps.is_multiple_of(POLL_INTERVAL) {
                (self.poll)();
            }
            let key = (edge.asset, edge.peer);
            if let Some(remainder) = remainders.get(&key) {
                if let Entry::Vacant(vacant) = sums.entry(key) {
                    let mut sum = EdgeSum::of_pair(remainder);
                    if let Some(more) = added.remove(&key) {
                        sum.join(&more);
                    }
                    vacant.insert(sum);
                }
            } else if let Some(sum) = sums.get_mut(&key) {
                sum.join(&EdgeSum::of_edge(&edge));
            } else if let Some(mut sum) = added.remove(&key) {
                sum.join(&EdgeSum::of_edge(&edge));
                sums.insert(key, sum);
            } else if edge.transfers >= filter.min_transfers || emitted == Some(key) {
                emitted = Some(key);
                each(edge)?;
            }
            Ok(())
        })?;
        for ((asset, peer), sum) in in_order(sums.into_iter().chain(added)) {
            if sum.count > 0 && sum.count >= filter.min_transfers {
                sum.emit(peer, asset, with_value, &mut each)?;
            }
        }
        Ok(())
    }

    /// Sums of the overlay's transfers of a wallet by asset and peer.
    fn added_edges(&self, wallet: WalletId, side: Side, assets: AssetSelection) -> HashMap<EdgeKey, EdgeSum> {
        let mut sums: HashMap<EdgeKey, EdgeSum> = HashMap::new();
        for number in self.overlay.added(wallet, side) {
            let Some(added) = self.overlay.added_transfer(*number) else { continue };
            let peer = if side == Side::Out { added.to } else { added.from };
            if let Some(peer) = peer.some()
                && added.status != Status::Failed
                && assets.contains(added.asset)
            {
                sums.entry((added.asset, peer)).or_default().add(added.time, added.value);
            }
        }
        sums
    }

    /// Edges from single transfers, for filters that pairs cannot answer.
    fn counted_edges<E, F>(&self, wallet: WalletId, side: Side, filter: &EdgeFilter, mut each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Edge) -> Result<(), E>,
    {
        let mut sums: HashMap<EdgeKey, EdgeSum> = HashMap::new();
        let window = self.window(wallet, side, filter)?;
        let mut steps = 0_usize;
        self.transfers_within(wallet, side, window, |transfer| -> Result<(), E> {
            steps += 1;
            if steps.is_multiple_of(POLL_INTERVAL) {
                (self.poll)();
            }
            if let Some(peer) = transfer.peer
                && transfer.is_counted(filter)
            {
                // A failed transfer is a contact, and moves nothing.
                let value = if transfer.status == Status::Failed { U256::ZERO } else { transfer.value };
                sums.entry((transfer.asset, peer)).or_default().add(transfer.time, value);
            }
            Ok(())
        })?;
        for ((asset, peer), sum) in in_order(sums) {
            if sum.count >= filter.min_transfers {
                sum.emit(peer, asset, filter.assets.is_single(), &mut each)?;
            }
        }
        Ok(())
    }
}
