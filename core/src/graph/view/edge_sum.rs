//! Sums of the transfers between two wallets, wider than the values that they add up.

use crate::graph::file::rows::PairSum;
use crate::graph::types::{AssetId, U256, WalletId};
use crate::graph::view::filter::Edge;

/// Sum of the transfers of one asset between two wallets, of up to 512 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct EdgeSum {
    pub count: u64,
    pub first: i64,
    pub last: i64,
    pub value: U256,
    /// Multiples of 2^256.
    pub carried: U256,
}

impl Default for EdgeSum {
    fn default() -> Self {
        Self { count: 0, first: i64::MAX, last: i64::MIN, value: U256::ZERO, carried: U256::ZERO }
    }
}

impl EdgeSum {
    pub(super) const fn of_edge(edge: &Edge) -> Self {
        Self { count: edge.transfers, first: edge.first, last: edge.last, value: edge.value, carried: U256::ZERO }
    }

    /// A sum beyond 256 bits stays beyond.
    pub(super) fn of_pair(pair: &PairSum) -> Self {
        let PairSum { count, first, last, value } = *pair;
        let (value, carried) = value.map_or((U256::MAX, U256::ONE), |value| (value, U256::ZERO));
        Self { count: u64::from(count), first, last, value, carried }
    }

    pub(super) fn add(&mut self, time: i64, value: U256) {
        self.join(&Self { count: 1, first: time, last: time, value, carried: U256::ZERO });
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        let (value, overflows) = self.value.overflowing_add(other.value);
        self.value = value;
        self.carried = self.carried.saturating_add(other.carried).saturating_add(U256::from(overflows));
    }

    /// Calls `each` with the sum as one edge. A sum beyond 256 bits becomes two edges, so that a
    /// caller that adds them up meets the overflow. Without `with_value` the value is zero.
    pub(super) fn emit<E>(
        &self,
        peer: WalletId,
        asset: AssetId,
        with_value: bool,
        each: &mut impl FnMut(Edge) -> Result<(), E>,
    ) -> Result<(), E> {
        let overflows = with_value && self.carried != U256::ZERO;
        let value = if overflows { U256::MAX } else { self.value };
        let value = if with_value { value } else { U256::ZERO };
        let edge = Edge { peer, asset, transfers: self.count, value, first: self.first, last: self.last };
        each(edge)?;
        if overflows { each(Edge { transfers: 0, ..edge }) } else { Ok(()) }
    }
}
