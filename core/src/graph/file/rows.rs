//! Transfers and pairs in the packed form in which builds and merges handle them.

use std::cmp::Ordering;
use std::collections::HashMap;

use bytemuck::{Pod, Zeroable};

use crate::graph::budget::Interrupt;
use crate::graph::file::packed::{BEYOND, TransferKind, WideSlices, WideTables, repack_value};
use crate::graph::types::{AssetId, U256, WalletId};

/// Elements processed between two cancellation checks.
pub(crate) const ELEMENTS_PER_CHECK: usize = 1 << 16;

/// A transfer, packed.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PackedTransfer {
    pub time: i64,
    pub value: u64,
    pub position: u64,
    pub from: WalletId,
    pub to: WalletId,
    pub kind: TransferKind,
    padding: u32,
}

impl PackedTransfer {
    pub(crate) const fn new(
        time: i64,
        value: u64,
        position: u64,
        from: WalletId,
        to: WalletId,
        kind: TransferKind,
    ) -> Self {
        Self { time, value, position, from, to, kind, padding: 0 }
    }
}

/// The sum of what a wallet sent another in one asset, packed.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PackedPair {
    pub first: i64,
    pub last: i64,
    pub value: u64,
    pub peer: WalletId,
    pub asset: AssetId,
    pub count: u32,
    padding: u32,
}

/// Asset and counterparty of a pair.
pub(crate) type AssetPeer = (AssetId, WalletId);

/// Sums of some pairs of a wallet.
pub(crate) type PairSums = HashMap<AssetPeer, PairSum>;

/// Accumulates a pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PairSum {
    pub count: u32,
    pub first: i64,
    pub last: i64,
    /// `None` for a sum beyond 256 bits.
    pub value: Option<U256>,
}

impl PairSum {
    pub(crate) const EMPTY: Self = Self { count: 0, first: i64::MAX, last: i64::MIN, value: Some(U256::ZERO) };

    pub(crate) fn add(&mut self, time: i64, value: U256) {
        self.count += 1;
        self.first = self.first.min(time);
        self.last = self.last.max(time);
        self.value = self.value.and_then(|sum| sum.checked_add(value));
    }

    pub(crate) fn join(&mut self, other: &Self) {
        // A damaged file may count more transfers than a file can hold.
        self.count = self.count.saturating_add(other.count);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.value = self.value.zip(other.value).and_then(|(sum, more)| sum.checked_add(more));
    }

    /// Packs the sum. `former` is the packed value of the pair that it replaces, or 0.
    pub(crate) fn pack<T: WideTables>(
        &self,
        peer: WalletId,
        asset: AssetId,
        former: u64,
        tables: &mut T,
    ) -> Result<PackedPair, T::Error> {
        let value = match self.value {
            Some(sum) => repack_value(former, sum, tables)?,
            None => BEYOND,
        };
        Ok(PackedPair { first: self.first, last: self.last, value, peer, asset, count: self.count, padding: 0 })
    }
}

/// Compares two packed positions. Damaged ones compare as equal; those of a builder are never
/// damaged.
pub(crate) fn compare_positions(a: u64, b: u64, wide: &WideSlices<'_>) -> Ordering {
    match (wide.position(a), wide.position(b)) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => Ordering::Equal,
    }
}

/// Fills `offsets` from the number of times that each wallet occurs.
pub(crate) fn tally(offsets: &mut [u32], wallets: impl Iterator<Item = WalletId>, interrupt: &mut impl Interrupt) {
    for (step, wallet) in wallets.enumerate() {
        if step % ELEMENTS_PER_CHECK == 0 {
            interrupt.should_stop();
        }
        offsets[wallet.index() + 1] += 1;
    }
    let mut sum = 0;
    for offset in offsets {
        sum += *offset;
        *offset = sum;
    }
}
