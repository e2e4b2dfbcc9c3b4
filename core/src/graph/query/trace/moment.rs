//! The order in which transfers happened.

use std::cmp::Ordering;

use super::Flow;
use crate::graph::types::WalletId;
use crate::graph::types::{Position, U256};

/// When a transfer happened, and what decides between transfers of one time. No two of one asset share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub time: i64,
    pub position: Position,
    /// By address; the largest of all for the creation of a contract.
    pub from: u64,
    pub to: u64,
    pub value: U256,
    /// Transfers that nothing else tells apart may change places.
    pub number: u64,
}

/// Something that waits for its moment: the next in the direction of the flow is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub moment: Moment,
    pub flow: Flow,
    pub account: usize,
    pub event: usize,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        in_flow(self.flow, &other.moment, &self.moment)
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Which of two moments the flow meets first.
pub fn in_flow(flow: Flow, one: &Moment, other: &Moment) -> Ordering {
    match flow {
        Flow::Forward => one.cmp(other),
        Flow::Backward => other.cmp(one),
    }
}

/// A transfer as one of its two wallets has it in its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub moment: Moment,
    pub peer: Option<WalletId>,
    /// Whether the wallet received it.
    pub incoming: bool,
    pub status: crate::graph::Status,
}
