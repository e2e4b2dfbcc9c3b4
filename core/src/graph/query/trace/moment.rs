//! The order of transfers in time.

use std::cmp::Ordering;

use super::Flow;
use crate::graph::query::ties::{Tie, is_unordered};
use crate::graph::types::{AssetId, Position, U256, WalletId};
use crate::graph::view::graph::Graph;
use crate::graph::view::transfers::Transfer;

/// Time of a transfer, and the criteria that order transfers of the same time. Unique among the
/// transfers of an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::graph::query) struct Moment {
    pub time: i64,
    pub position: Position,
    /// The position within the transaction does not order it among other transactions.
    unordered: bool,
    /// Rank of the sender within a tie. A wallet that only receives in a tie does not know it, and
    /// has zero.
    pub rank: u32,
    /// Order of the sender by address; zero for a reward. Of the receiver, too; the creation of a
    /// contract has the largest.
    pub from: u64,
    pub to: u64,
    pub value: U256,
    /// Distinguishes transfers that are equal in all other fields; their order does not matter.
    pub number: u64,
}

impl Moment {
    /// Makes the moment of a transfer outside of ties, given its sender and seen from there.
    pub(in crate::graph::query) fn of(graph: &Graph<'_>, from: Option<WalletId>, transfer: &Transfer) -> Self {
        let Transfer { asset, time, position, value, number, .. } = *transfer;
        let from = from.map_or(0, |from| graph.order(from));
        let to = transfer.peer.map_or(u64::MAX, |peer| graph.order(peer));
        Self { time, position, unordered: is_unordered(asset, position), rank: 0, from, to, value, number }
    }

    pub(super) fn is_before_tie_of(&self, other: &Self) -> bool {
        self.known_order() < other.known_order()
    }

    /// Returns the moment as a wallet has it that does not know the rank of the sender.
    pub(super) const fn unranked(self) -> Self {
        Self { rank: 0, ..self }
    }

    fn known_order(&self) -> (i64, u64, Option<u32>, Option<u32>) {
        let Position { block, transaction_index, log_index } = self.position;
        (self.time, block, transaction_index, log_index.filter(|_| !self.unordered))
    }

    /// Reports whether positions do not tell the order of two transfers.
    pub(in crate::graph::query) fn is_tied(&self, other: &Self) -> bool {
        self.known_order() == other.known_order()
    }

    pub(super) const fn tie(&self, asset: AssetId) -> Tie {
        Tie::new(asset, self.time, self.position)
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        let within_tie = |moment: &Self| (moment.rank, moment.position.log_index, moment.from, moment.to);
        self.time
            .cmp(&other.time)
            .then_with(|| self.known_order().cmp(&other.known_order()))
            .then_with(|| within_tie(self).cmp(&within_tie(other)))
            .then_with(|| self.value.cmp(&other.value))
            .then_with(|| self.number.cmp(&other.number))
    }
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Entry of the event queue: the next moment in the direction of the flow is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueuedEvent {
    pub moment: Moment,
    pub flow: Flow,
    pub account: usize,
    pub event: usize,
}

impl Ord for QueuedEvent {
    fn cmp(&self, other: &Self) -> Ordering {
        in_flow(self.flow, &other.moment, &self.moment)
    }
}

impl PartialOrd for QueuedEvent {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares two moments in the direction of the flow.
pub(super) fn in_flow(flow: Flow, left: &Moment, right: &Moment) -> Ordering {
    match flow {
        Flow::Forward => left.cmp(right),
        Flow::Backward => right.cmp(left),
    }
}

/// A transfer in the history of one of its two wallets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HistoryEvent {
    pub moment: Moment,
    /// The other wallet; `None` for the creation of a contract, a burn or a reward.
    pub peer: Option<WalletId>,
    /// The wallet received the transfer.
    pub incoming: bool,
    /// The wallet received and sent within the tie of the transfer.
    pub inferred: bool,
    /// The wallet received and sent at the time of the transfer, and the block of one of these
    /// transfers is unknown.
    pub unplaced: bool,
    pub status: crate::graph::Status,
}
