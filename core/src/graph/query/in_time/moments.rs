//! The order of transfers in time, where it is known, and its bounds where it is not.

use crate::graph::query::ties::is_unordered;
use crate::graph::types::{AssetId, Position, Side};
use crate::graph::view::filter::AssetSelection;
use crate::graph::view::transfers::Transfer;

/// A place in the order of transfers, in the direction in which they are followed: backward in time
/// if transfers are followed to their senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::graph::query) struct Key {
    pub time: i64,
    block: u64,
    /// Index of the transaction in its block plus one; 0 if unknown.
    transaction: u32,
    /// Index within the transaction plus one; 0 for the value of the transaction itself.
    log: u32,
}

impl Key {
    /// Before every transfer.
    pub(in crate::graph::query) const FIRST: Self = Self { time: i64::MIN, block: 0, transaction: 0, log: 0 };

    /// After every transfer.
    pub(in crate::graph::query) const LAST: Self =
        Self { time: i64::MAX, block: u64::MAX, transaction: u32::MAX, log: u32::MAX };

    /// Returns the place after every transfer up to a time, inclusive.
    pub(in crate::graph::query) const fn after(time: i64) -> Self {
        if time == i64::MAX { Self::LAST } else { Self { time: time + 1, ..Self::FIRST } }
    }

    /// Reports whether no transfer of its time is before it.
    pub(in crate::graph::query) const fn begins_its_time(self) -> bool {
        self.block == 0 && self.transaction == 0 && self.log == 0
    }

    const fn reversed(self) -> Self {
        // No place is as late as `LAST`.
        let block = if self.block == u64::MAX { 0 } else { u64::MAX - 1 - self.block };
        Self { time: !self.time, block, transaction: u32::MAX - self.transaction, log: u32::MAX - self.log }
    }
}

/// Earliest and latest place that a transfer can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::graph::query) struct Place {
    pub earliest: Key,
    pub latest: Key,
}

/// Assets whose transfers have an order within a block: the values of transactions with their
/// internal transfers, or the logs of tokens. Both are numbered separately, so the order of one
/// among the others is unknown unless they are of different transactions that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::graph::query) enum AssetClass {
    Native,
    Token,
}

impl AssetClass {
    /// Returns the classes of the selected assets, each with its assets.
    pub(in crate::graph::query) fn of(assets: AssetSelection) -> Vec<(Self, AssetSelection)> {
        let native = (Self::Native, AssetSelection::Native);
        match assets {
            AssetSelection::Native => vec![native],
            AssetSelection::Token(_) | AssetSelection::Tokens => vec![(Self::Token, assets)],
            AssetSelection::All => vec![native, (Self::Token, AssetSelection::Tokens)],
        }
    }

    pub(in crate::graph::query) const fn of_asset(asset: AssetId) -> Self {
        if asset.get() == AssetId::NATIVE.get() { Self::Native } else { Self::Token }
    }
}

impl Place {
    /// Returns the place of a transfer among those of a class, in the direction of a side.
    pub(in crate::graph::query) fn among(transfer: &Transfer, class: AssetClass, side: Side) -> Self {
        let Position { block, transaction_index, log_index } = transfer.position;
        let transaction = transaction_index.map_or(0, |index| index.saturating_add(1));
        let log = log_index.map_or(0, |index| index.saturating_add(1));
        let key = |transaction, log| Key { time: transfer.time, block, transaction, log };
        let is_own = AssetClass::of_asset(transfer.asset) == class;
        let (earliest, latest) = if block == Position::UNKNOWN_BLOCK {
            (Key { block: 0, ..key(0, 0) }, Key { block: u64::MAX - 1, ..key(u32::MAX, u32::MAX) })
        } else if is_own && !is_unordered(transfer.asset, transfer.position) {
            (key(transaction, log), key(transaction, log))
        } else if !is_own && class == AssetClass::Native && transaction > 0 {
            // After the value of the transaction.
            (key(transaction, 1), key(transaction, u32::MAX))
        } else {
            (key(0, 0), key(u32::MAX, u32::MAX))
        };
        match side {
            Side::Out => Self { earliest, latest },
            Side::In => Self { earliest: latest.reversed(), latest: earliest.reversed() },
        }
    }
}

/// Returns the range of times, both inclusive, in which transfers from `start` to before `end` are.
pub(in crate::graph::query) const fn times(start: Key, end: Key, side: Side) -> (i64, i64) {
    let last = if end.begins_its_time() { end.time.saturating_sub(1) } else { end.time };
    match side {
        Side::Out => (start.time, last),
        Side::In => (!last, !start.time),
    }
}
