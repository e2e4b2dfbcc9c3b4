//! Transfers of a wallet, from base and overlay together.

use std::ops::Range;

use crate::graph::error::Damaged;
use crate::graph::file::overlay::AddedTransfer;
use crate::graph::types::{AssetId, Position, Side, Status, U256, WalletId};
use crate::graph::view::basket::Seen;
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::{Graph, OUT_OF_RANGE};

/// Receipts whose transfers are prefetched together.
const PREFETCH: usize = 64;

/// A transfer as seen from one of its two wallets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Number of the transfer, the same from both sides. It means nothing outside the graph it
    /// comes from.
    pub number: u64,
    /// The wallet at the other end; `None` for a contract creation, a burn or a reward.
    pub peer: Option<WalletId>,
    /// Asset that moved.
    pub asset: AssetId,
    /// Time in microseconds.
    pub time: i64,
    /// Amount in units of the asset.
    pub value: U256,
    /// Order among transfers of the same time.
    pub position: Position,
    /// Effect of the transfer.
    pub status: Status,
}

impl Transfer {
    fn of_overlay(added: &AddedTransfer, number: u64, side: Side) -> Self {
        let peer = if side == Side::Out { added.to } else { added.from };
        Self {
            number,
            peer: peer.some(),
            asset: added.asset,
            time: added.time,
            value: added.value,
            position: added.position,
            status: added.status,
        }
    }

    /// Returns whether the filter counts the transfer. `min_transfers` does not apply.
    pub(super) fn is_counted(&self, filter: &EdgeFilter) -> bool {
        filter.assets.contains(self.asset)
            && filter.since.is_none_or(|since| self.time >= since)
            && filter.until.is_none_or(|until| self.time < until)
            && filter.min_value.is_none_or(|min_value| self.value >= min_value)
            && (filter.include_failed || self.status != Status::Failed)
    }
}

/// Storage of a transfer.
enum Stored<'g> {
    Base(usize),
    Overlay(&'g AddedTransfer),
}

impl<'g> Graph<'g> {
    /// Calls `each` for every transfer of a wallet on a side, by time and position.
    ///
    /// # Errors
    /// When the base is damaged, and the first error of `each`.
    pub fn transfers<E, F>(&self, wallet: WalletId, side: Side, each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Transfer) -> Result<(), E>,
    {
        self.transfers_within(wallet, side, self.base.transfers(wallet, side), each)
    }

    /// Calls `each` for the counted transfers of a wallet on a side, by time and position. Pairs
    /// are not considered: `min_transfers` does not apply. Transfers of a basket are shown as those
    /// of one asset if the filter selects it.
    ///
    /// # Errors
    /// When the base is damaged, and the first error of `each`.
    pub fn counted_transfers<E, F>(&self, wallet: WalletId, side: Side, filter: &EdgeFilter, each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Transfer) -> Result<(), E>,
    {
        self.counted_transfers_with(wallet, side, filter, |_| true, each)
    }

    /// Reads [`Self::counted_transfers`] of the counterparties that `wanted` selects. The others
    /// cost next to nothing.
    ///
    /// # Errors
    /// When the base is damaged, and the first error of `each`.
    pub(crate) fn counted_transfers_with<E, F>(
        &self,
        wallet: WalletId,
        side: Side,
        filter: &EdgeFilter,
        wanted: impl FnMut(Option<WalletId>) -> bool,
        mut each: F,
    ) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Transfer) -> Result<(), E>,
    {
        let window = self.window(wallet, side, filter)?;
        if let Some(basket) = self.basket.filter(|basket| basket.selection() == filter.assets) {
            return self.transfers_with(wallet, side, window, wanted, |transfer| match basket.see(wallet, transfer) {
                Seen::Moved(transfer) if transfer.is_counted(filter) => each(transfer),
                Seen::Moved(_) | Seen::Stayed | Seen::Unvalued | Seen::Nft => Ok(()),
            });
        }
        self.transfers_with(wallet, side, window, wanted, |transfer| {
            if transfer.is_counted(filter) { each(transfer) } else { Ok(()) }
        })
    }

    /// Calls `each` with the receiver of every counted transfer that a wallet sent, by time and
    /// position; `None` for a contract creation. Pairs are not considered: `min_transfers` does not
    /// apply. Reads only eight bytes per transfer if the filter has no bounds on time or value.
    ///
    /// # Errors
    /// When the base is damaged, and the first error of `each`.
    #[inline]
    pub fn receivers<E, F>(&self, wallet: WalletId, filter: &EdgeFilter, mut each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Option<WalletId>) -> Result<(), E>,
    {
        let unbounded = filter.since.is_none() && filter.until.is_none() && filter.min_value.is_none();
        if !unbounded || !self.overlay.is_untouched(wallet, Side::Out) {
            return self.counted_transfers(wallet, Side::Out, filter, |transfer| each(transfer.peer));
        }
        let range = self.base.transfers(wallet, Side::Out);
        let (peers, kinds) = (self.base.out_peer.get(range.clone()), self.base.out_kind.get(range));
        let (Some(peers), Some(kinds)) = (peers, kinds) else { return Err(OUT_OF_RANGE.into()) };
        for (peer, kind) in peers.iter().zip(kinds) {
            let failed = !filter.include_failed && kind.status() == Status::Failed;
            if !failed && filter.assets.contains(kind.asset()) {
                each(peer.some())?;
            }
        }
        Ok(())
    }

    /// Calls `each` for the counted transfers from one wallet to another, by time and position.
    /// O(transfers of the wallet that has fewer).
    ///
    /// # Errors
    /// When the base is damaged, and the first error of `each`.
    pub fn transfers_between<E, F>(
        &self,
        from: WalletId,
        to: WalletId,
        filter: &EdgeFilter,
        mut each: F,
    ) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Transfer) -> Result<(), E>,
    {
        let (sent, received) = (self.base.transfers(from, Side::Out), self.base.transfers(to, Side::In));
        let (wallet, side, peer) =
            if sent.len() <= received.len() { (from, Side::Out, to) } else { (to, Side::In, from) };
        let window = self.window(wallet, side, filter)?;
        self.transfers_within(wallet, side, window, |transfer| {
            if transfer.peer == Some(peer) && transfer.is_counted(filter) { each(transfer) } else { Ok(()) }
        })
    }

    /// Returns an upper bound of the number of transfers that a wallet has on a side: the cost of
    /// reading them.
    #[must_use]
    pub fn transfer_count(&self, wallet: WalletId, side: Side) -> usize {
        self.base.transfers(wallet, side).len() + self.overlay.added(wallet, side).len()
    }

    /// Returns a transfer by its number, as seen from its sender; of a basket as one of its asset.
    ///
    /// # Errors
    /// When the base is damaged, or there is no such transfer.
    pub fn transfer(&self, number: u64) -> Result<Transfer, Damaged> {
        let transfer = match self.stored(number)? {
            Stored::Base(entry) => self.base_transfer(Side::Out, entry, entry)?,
            Stored::Overlay(added) => Transfer::of_overlay(added, number, Side::Out),
        };
        Ok(self.basket.map_or(transfer, |basket| basket.shown(transfer)))
    }

    /// Returns the sender of a transfer, by the number of the transfer; `None` for a reward.
    /// O(log wallets).
    ///
    /// # Errors
    /// When the base is damaged, or there is no such transfer.
    pub fn sender(&self, number: u64) -> Result<Option<WalletId>, Damaged> {
        match self.stored(number)? {
            Stored::Base(entry) => {
                let after = self.base.out_offsets.partition_point(|start| *start as usize <= entry);
                after.checked_sub(1).map(|wallet| WalletId::new(wallet as u32).some()).ok_or(OUT_OF_RANGE)
            }
            Stored::Overlay(added) => Ok(added.from.some()),
        }
    }

    /// Prefetches the receipts of wallets. A caller that visits many wallets in turn calls it with
    /// the next few dozen.
    pub fn read_ahead(&self, wallets: &[WalletId]) {
        for wallet in wallets {
            let receipts = self.base.transfers(*wallet, Side::In);
            self.prefetch(receipts.start..receipts.end.min(receipts.start + PREFETCH));
        }
    }

    /// Reads the transfers behind receipts. They are scattered, and many are fetched from memory in
    /// the time of one as long as nothing depends on their contents.
    fn prefetch(&self, receipts: Range<usize>) {
        let base = &self.base;
        let mut sum = 0_u64;
        for number in base.in_transfer.get(receipts).unwrap_or_default() {
            let number = *number as usize;
            let kind = base.out_kind.get(number).map_or(0, |kind| u64::from(kind.bits()));
            let time = base.out_time.get(number).map_or(0, |time| time.cast_unsigned());
            let value = base.out_value.get(number).copied().unwrap_or_default();
            let position = base.out_position.get(number).copied().unwrap_or_default();
            sum = sum.wrapping_add(kind ^ time ^ value ^ position);
        }
        // Keeps the compiler from dropping the reads.
        std::hint::black_box(sum);
    }

    /// Finds a transfer by its number. Those of the overlay are numbered after those of the base.
    fn stored(&self, number: u64) -> Result<Stored<'g>, Damaged> {
        let entry = usize::try_from(number).map_err(|_| OUT_OF_RANGE)?;
        let Some(added) = entry.checked_sub(self.base.out_peer.len()) else { return Ok(Stored::Base(entry)) };
        let added = u32::try_from(added).ok().and_then(|added| self.overlay.added_transfer(added));
        added.map(Stored::Overlay).ok_or(OUT_OF_RANGE)
    }

    pub(super) fn transfers_within<E, F>(
        &self,
        wallet: WalletId,
        side: Side,
        range: Range<usize>,
        each: F,
    ) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Transfer) -> Result<(), E>,
    {
        self.transfers_with(wallet, side, range, |_| true, each)
    }

    /// Merges the base's entries of `range` with the overlay's, without the removed ones.
    #[inline]
    fn transfers_with<E, F>(
        &self,
        wallet: WalletId,
        side: Side,
        range: Range<usize>,
        mut wanted: impl FnMut(Option<WalletId>) -> bool,
        mut each: F,
    ) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Transfer) -> Result<(), E>,
    {
        let first_added = self.base.out_peer.len() as u64;
        let of_overlay = |number: &u32| {
            let added = self.overlay.added_transfer(*number)?;
            Some(Transfer::of_overlay(added, first_added + u64::from(*number), side))
        };
        let mut added = self.overlay.added(wallet, side).iter().filter_map(of_overlay).peekable();
        let peers = if side == Side::Out { self.base.out_peer } else { self.base.in_peer };
        let has_removals = self.overlay.removed_count(wallet, side) > 0;
        let end = range.end;
        let mut prefetched = if side == Side::In { range.start } else { end };
        for entry in range {
            if entry == prefetched && end - entry > 1 {
                prefetched = end.min(entry + PREFETCH);
                self.prefetch(entry..prefetched);
            }
            let peer = *peers.get(entry).ok_or(OUT_OF_RANGE)?;
            if !wanted(peer.some()) {
                continue;
            }
            let number = self.base.transfer(side, entry)?;
            if has_removals && self.overlay.is_removed(number as u32) {
                continue;
            }
            let transfer = self.base_transfer(side, entry, number)?;
            let key = (transfer.time, transfer.position);
            while let Some(earlier) = added.next_if(|added| (added.time, added.position) < key) {
                if wanted(earlier.peer) {
                    each(earlier)?;
                }
            }
            each(transfer)?;
        }
        added.filter(|transfer| wanted(transfer.peer)).try_for_each(each)
    }

    #[inline]
    fn base_transfer(&self, side: Side, entry: usize, number: usize) -> Result<Transfer, Damaged> {
        let base = &self.base;
        let kind = *base.out_kind.get(number).ok_or(OUT_OF_RANGE)?;
        let peers = if side == Side::Out { base.out_peer } else { base.in_peer };
        let peer = *peers.get(entry).ok_or(OUT_OF_RANGE)?;
        Ok(Transfer {
            number: number as u64,
            peer: peer.some(),
            asset: kind.asset(),
            time: base.out_time[number],
            value: base.wide.value(base.out_value[number])?,
            position: base.wide.position(base.out_position[number])?,
            status: kind.status(),
        })
    }

    /// Returns the base's entries of a side within the filter's window, by binary search on time.
    pub(super) fn window(&self, wallet: WalletId, side: Side, filter: &EdgeFilter) -> Result<Range<usize>, Damaged> {
        let range = self.base.transfers(wallet, side);
        let first_from = |limit: i64| -> Result<usize, Damaged> {
            let (mut low, mut high) = (range.start, range.end);
            while low < high {
                let middle = low + (high - low) / 2;
                let time = self.base.out_time.get(self.base.transfer(side, middle)?).ok_or(OUT_OF_RANGE)?;
                if *time < limit {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            Ok(low)
        };
        let start = filter.since.map_or(Ok(range.start), first_from)?;
        let end = filter.until.map_or(Ok(range.end), first_from)?;
        Ok(start..end.max(start))
    }
}
