//! Amounts by the number of transfers that they have made.

use super::ratio::share;
use crate::graph::types::U256;

/// No path.
pub(super) const NO_PATH: u32 = u32::MAX;

/// An amount that has made a number of transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HopAmount {
    /// Number of transfers from the origin.
    pub hop: u32,
    pub amount: U256,
    /// Node of the path of its largest contribution, if paths are recorded.
    pub path: u32,
}

/// Amounts in ascending order of hops.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ByHop {
    parts: Vec<HopAmount>,
    total: U256,
}

impl ByHop {
    pub(super) const fn none() -> Self {
        Self { parts: Vec::new(), total: U256::ZERO }
    }

    pub(super) fn of(hop: u32, amount: U256) -> Self {
        Self { parts: vec![HopAmount { hop, amount, path: NO_PATH }], total: amount }
    }

    pub(super) const fn total(&self) -> U256 {
        self.total
    }

    /// Returns the smallest number of transfers.
    pub(super) fn nearest(&self) -> Option<u32> {
        self.parts.first().map(|part| part.hop)
    }

    pub(super) fn parts(&self) -> &[HopAmount] {
        &self.parts
    }

    pub(super) fn parts_mut(&mut self) -> &mut [HopAmount] {
        &mut self.parts
    }

    /// Adds amounts. Those with the same hops become one, with the path of the larger one.
    pub(super) fn add(&mut self, more: &Self) {
        for part in &more.parts {
            match self.parts.binary_search_by_key(&part.hop, |own| own.hop) {
                Ok(index) => {
                    if let Some(own) = self.parts.get_mut(index) {
                        own.path = if part.amount > own.amount { part.path } else { own.path };
                        own.amount = own.amount.saturating_add(part.amount);
                    }
                }
                Err(index) => self.parts.insert(index, *part),
            }
        }
        self.total = self.total.saturating_add(more.total);
    }

    /// Removes the share `part / whole` of the amounts, rounded down. It has made one more
    /// transfer.
    pub(super) fn leave(&mut self, part: U256, whole: U256) -> Self {
        if self.total == U256::ZERO {
            return Self::none();
        }
        if part >= whole {
            let mut all = std::mem::take(self);
            all.parts.iter_mut().for_each(|leaving| leaving.hop += 1);
            return all;
        }
        let mut leaving = Self { parts: Vec::with_capacity(self.parts.len()), total: U256::ZERO };
        let (mut before, mut left) = (U256::ZERO, U256::ZERO);
        for own in &mut self.parts {
            before = before.saturating_add(own.amount);
            // Sums are rounded, not parts, so that rounding does not grow with their number.
            let amount = share(before, part, whole) - left;
            if amount > U256::ZERO {
                left += amount;
                own.amount -= amount;
                leaving.parts.push(HopAmount { hop: own.hop + 1, amount, path: own.path });
            }
        }
        leaving.total = left;
        self.total -= left;
        self.parts.retain(|own| own.amount > U256::ZERO);
        leaving
    }

    /// Takes back the transfer that has just been counted, unless it is the first.
    pub(super) fn uncount(&mut self) {
        self.parts.iter_mut().for_each(|own| own.hop = own.hop.saturating_sub(1).max(1));
    }

    /// Keeps the share `part / whole` of the amounts, rounded down.
    pub(super) fn keep(&mut self, part: U256, whole: U256) {
        if part >= whole {
            return;
        }
        let mut kept = self.leave(part, whole);
        kept.uncount();
        *self = kept;
    }

    /// Removes the amounts that have made at least `hops` transfers, and returns their sum.
    pub(super) fn end_at(&mut self, hops: u32) -> U256 {
        let first = self.parts.partition_point(|part| part.hop < hops);
        let ended = self.parts.split_off(first).iter().fold(U256::ZERO, |sum, part| sum.saturating_add(part.amount));
        self.total -= ended;
        ended
    }
}
