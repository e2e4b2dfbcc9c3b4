//! The order of transfers in time.

use std::cmp::Ordering;

use super::Flow;
use crate::graph::types::WalletId;
use crate::graph::types::{Position, U256};

/// Time of a transfer, and the criteria that order transfers of the same time. Unique among the
/// transfers of an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub time: i64,
    pub position: Position,
    /// Rank of the sender by address. Of the receiver, too; the creation of a contract has the
    /// largest rank.
    pub from: u64,
    pub to: u64,
    pub value: U256,
    /// Distinguishes transfers that are equal in all other fields; their order does not matter.
    pub number: u64,
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
    pub peer: Option<WalletId>,
    /// The wallet received the transfer.
    pub incoming: bool,
    pub status: crate::graph::Status,
}
