//! Contents of a merged file: sizes, added transfers, and the pairs that change.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, Range};

use bytemuck::Zeroable;

use super::OUT_OF_RANGE;
use crate::graph::budget::Interrupt;
use crate::graph::error::BuildError;
use crate::graph::file::base::{Base, Sections};
use crate::graph::file::names::{Extended, MAX_NAMES};
use crate::graph::file::overlay::Overlay;
use crate::graph::file::packed::{TransferKind, pack_position, pack_value};
use crate::graph::file::rows::{AssetPeer, PackedPair, PackedTransfer, PairSum};
use crate::graph::file::scratch::Scratch;
use crate::graph::file::wide::WideStore;
use crate::graph::types::{AssetId, Side, Status, WalletId};

/// A base and an overlay, ready to be written as one file.
pub struct MergePlan<'m, S: Scratch> {
    pub(super) scratch: S,
    pub(super) base: Sections<'m>,
    pub(super) overlay: &'m Overlay,
    pub(super) networks: Vec<String>,
    pub(super) wallets: Extended<'m>,
    pub(super) tokens: Extended<'m>,
    pub(super) wide: WideStore<S>,
    /// Added transfers by number; zeros for one that was removed again.
    pub(super) added: Vec<PackedTransfer>,
    /// New pairs of the senders that changed.
    pub(super) pairs: HashMap<WalletId, Vec<PairPiece>>,
    pub(super) transfers: usize,
    pub(super) receipts: usize,
    pub(super) pair_count: usize,
    pub(super) native_transfers: u64,
}

/// A piece of the pairs of a sender that changed.
#[derive(Debug, Clone)]
pub(super) enum PairPiece {
    /// Unchanged pairs of the base.
    Kept(Range<usize>),
    /// A pair that replaces one of the base, or a new one.
    New(PackedPair),
}

impl PairPiece {
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Kept(pairs) => pairs.end - pairs.start,
            Self::New(_) => 1,
        }
    }
}

impl<'m, S: Scratch> MergePlan<'m, S> {
    /// Sums up the pairs that changed.
    ///
    /// # Errors
    /// When there is not enough memory, or the base is damaged.
    pub fn new<B: Deref<Target = [u8]>, W: Interrupt>(
        scratch: S,
        base: &'m Base<B>,
        overlay: &'m Overlay,
        interrupt: &mut W,
    ) -> Result<Self, BuildError<S::Error>> {
        let networks = base.networks().iter().chain(overlay.new_networks()).cloned().collect();
        let native_transfers = base.native_transfers();
        let base = base.sections();
        base.check_offsets(interrupt)?;
        base.check_pairs(Side::Out, interrupt)?;
        let wallets = Extended::new(base.wallets, overlay.new_wallets());
        let tokens = Extended::new(base.tokens, overlay.new_tokens());
        if wallets.len() as u64 > MAX_NAMES {
            return Err(BuildError::TooMany { what: "wallets", limit: MAX_NAMES });
        }
        let wide = WideStore::copy(&scratch, &base.wide).map_err(BuildError::Scratch)?;
        let mut plan = Self {
            scratch,
            base,
            overlay,
            networks,
            wallets,
            tokens,
            wide,
            added: vec![PackedTransfer::zeroed(); overlay.added_end()],
            pairs: HashMap::new(),
            transfers: base.out_peer.len(),
            receipts: base.in_peer.len(),
            pair_count: base.pair_peer.len(),
            native_transfers,
        };
        plan.count_transfers()?;
        plan.sum_up_pairs(interrupt)?;
        Ok(plan)
    }

    /// Packs added transfers, and counts transfers and receipts.
    fn count_transfers(&mut self) -> Result<(), BuildError<S::Error>> {
        for (number, transfer) in self.overlay.all_added() {
            let mut tables = self.wide.growing(&self.scratch);
            let value = pack_value(transfer.value, &mut tables).map_err(BuildError::Scratch)?;
            let position = pack_position(transfer.position, &mut tables).map_err(BuildError::Scratch)?;
            let kind = TransferKind::new(transfer.asset, transfer.source, transfer.status);
            let packed = PackedTransfer::new(transfer.time, value, position, transfer.from, transfer.to, kind);
            self.added[number as usize] = packed;
            self.transfers += 1;
            self.receipts += usize::from(transfer.to != WalletId::NONE);
            self.native_transfers += u64::from(transfer.asset == AssetId::NATIVE);
        }
        for number in self.overlay.all_removed() {
            let number = number as usize;
            let has_receiver = *self.base.out_peer.get(number).ok_or(OUT_OF_RANGE)? != WalletId::NONE;
            let is_native = self.base.out_kind[number].asset() == AssetId::NATIVE;
            self.transfers -= 1;
            self.receipts = self.receipts.checked_sub(usize::from(has_receiver)).ok_or(OUT_OF_RANGE)?;
            self.native_transfers = self.native_transfers.checked_sub(u64::from(is_native)).ok_or(OUT_OF_RANGE)?;
        }
        if self.transfers as u64 > MAX_NAMES {
            return Err(BuildError::TooMany { what: "transfers", limit: MAX_NAMES });
        }
        Ok(())
    }

    fn sum_up_pairs(&mut self, interrupt: &mut impl Interrupt) -> Result<(), BuildError<S::Error>> {
        for wallet in self.overlay.touched(Side::Out) {
            interrupt.should_stop();
            // A missing sender has no edges.
            if wallet == WalletId::NO_SENDER {
                continue;
            }
            let pieces = self.merged_pairs(wallet, interrupt)?;
            let before = self.base.pairs(wallet, Side::Out).0.len();
            self.pair_count = self.pair_count + pieces.iter().map(PairPiece::len).sum::<usize>() - before;
            self.pairs.insert(wallet, pieces);
        }
        Ok(())
    }

    /// Returns the pairs of a sender after the changes, by asset and receiver.
    fn merged_pairs(
        &mut self,
        wallet: WalletId,
        interrupt: &mut impl Interrupt,
    ) -> Result<Vec<PairPiece>, BuildError<S::Error>> {
        let base = &self.base;
        let remainders = self.overlay.remainders(base, wallet, Side::Out, &mut || {
            interrupt.should_stop();
        })?;
        let mut changed: BTreeMap<AssetPeer, PairSum> = remainders.keys().map(|key| (*key, PairSum::EMPTY)).collect();
        for number in self.overlay.added(wallet, Side::Out) {
            let transfer = self.overlay.added_transfer(*number);
            let transfer = transfer.filter(|added| added.to != WalletId::NONE && added.status != Status::Failed);
            if let Some(transfer) = transfer {
                let key = (transfer.asset, transfer.to);
                changed.entry(key).or_insert(PairSum::EMPTY).add(transfer.time, transfer.value);
            }
        }
        let range = base.pairs(wallet, Side::Out).0;
        let key_of = |pair: usize| (base.pair_asset[pair], base.pair_peer[pair]);
        let mut pieces = Vec::with_capacity(2 * changed.len() + 1);
        let mut from = range.start;
        let mut tables = self.wide.growing(&self.scratch);
        for (key, mut sum) in changed {
            let to = partition_point(from..range.end, |pair| key_of(pair) >= key);
            if from < to {
                pieces.push(PairPiece::Kept(from..to));
            }
            from = to;
            let mut former = 0;
            if to < range.end && key_of(to) == key {
                from += 1;
                former = base.pair_value[to];
                sum.join(&remainders.get(&key).copied().unwrap_or(PairSum {
                    count: base.pair_count[to],
                    first: base.pair_first[to],
                    last: base.pair_last[to],
                    // BEYOND is unreadable, and a sum beyond 256 bits stays beyond.
                    value: base.wide.value(base.pair_value[to]).ok(),
                }));
            }
            if sum.count > 0 {
                let (asset, peer) = key;
                pieces.push(PairPiece::New(sum.pack(peer, asset, former, &mut tables).map_err(BuildError::Scratch)?));
            }
        }
        if from < range.end {
            pieces.push(PairPiece::Kept(from..range.end));
        }
        Ok(pieces)
    }
}

/// Returns the first number of a range for which `holds` is true, given that it is true for all
/// that follow.
fn partition_point(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}
