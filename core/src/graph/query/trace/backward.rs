//! Divisions in backward traces: attribution of sent transfers to the received transfers that
//! funded them.
//!
//! Histories are in the order of the flow, the latest event first. An "arriving" transfer is one
//! that the wallet sent and of which a part is to be explained; a "leaving" transfer is one that it
//! received and that explains it.

use std::collections::HashMap;

use super::TaintMethod;
use super::division::{Division, order};
use super::hops::ByHop;
use super::moment::HistoryEvent;
use super::pool::{Order, Piece, Pool, Portion, Taint};
use crate::graph::types::U256;

/// Bytes that a division keeps for an event: a balance, or the sources of a transfer's funds.
pub(super) const PER_EVENT: usize = 2 * size_of::<Lot>() + size_of::<Vec<Lot>>();

/// Each sent transfer took the same share of all funds of the wallet.
#[derive(Debug)]
pub(super) struct BackwardHaircut {
    /// Balance before each event.
    balances: Vec<U256>,
    /// Amount to be explained by earlier receipts.
    wanted: ByHop,
    /// Amount sent beyond the known balance.
    unknown: U256,
}

impl BackwardHaircut {
    pub(super) fn new(events: &[HistoryEvent]) -> Self {
        let mut balances = vec![U256::ZERO; events.len()];
        let mut balance = U256::ZERO;
        for (before, event) in balances.iter_mut().zip(events).rev() {
            *before = balance;
            balance = if event.incoming {
                balance.saturating_add(event.moment.value)
            } else {
                balance.saturating_sub(event.moment.value)
            };
        }
        Self { balances, wanted: ByHop::none(), unknown: U256::ZERO }
    }

    fn before(&self, event: usize) -> U256 {
        self.balances.get(event).copied().unwrap_or(U256::ZERO)
    }
}

impl Division for BackwardHaircut {
    fn arrive(&mut self, event: usize, amount: U256, mark: Option<&Taint>) {
        let Some(mark) = mark else { return };
        let mut explained = mark.by_hop.clone();
        explained.keep(self.before(event), amount);
        self.unknown = self.unknown.saturating_add(mark.by_hop.total() - explained.total());
        self.wanted.add(&explained);
    }

    fn leave(&mut self, event: usize, amount: U256) -> Taint {
        Taint::by_hop(self.wanted.leave(amount, self.before(event).saturating_add(amount)))
    }

    fn held(&self) -> U256 {
        self.wanted.total().saturating_add(self.unknown)
    }

    fn pending(&self) -> bool {
        self.wanted.total() > U256::ZERO
    }
}

/// A part of a received transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lot {
    event: usize,
    start: U256,
    amount: U256,
}

impl Piece for Lot {
    fn amount(&self) -> U256 {
        self.amount
    }

    fn split(self, amount: U256) -> (Self, Self) {
        let rest = Self { start: self.start + amount, amount: self.amount - amount, ..self };
        (Self { amount, ..self }, rest)
    }

    fn join(self, _next: Self) -> Option<Self> {
        None
    }
}

/// Each sent transfer took certain parts of certain received transfers.
#[derive(Debug)]
pub(super) struct BackwardQueue {
    /// Sources of each sent transfer, first to last.
    sources: Vec<Vec<Lot>>,
    /// By received transfer, start and length of its parts to be explained.
    wanted: HashMap<usize, Vec<(U256, U256)>>,
    /// The end of a received transfer leaves first.
    from_the_end: bool,
    to_leave: U256,
    unknown: U256,
}

impl BackwardQueue {
    pub(super) fn new(method: TaintMethod, events: &[HistoryEvent]) -> Self {
        let mut sources = vec![Vec::new(); events.len()];
        let mut pool: Pool<Lot> = Pool::new(order(method));
        for (number, (source, event)) in sources.iter_mut().zip(events).enumerate().rev() {
            if event.incoming {
                pool.put(Lot { event: number, start: U256::ZERO, amount: event.moment.value });
            } else {
                pool.take(event.moment.value, |lot| source.push(lot));
            }
        }
        let from_the_end = order(method) == Order::NewestFirst;
        Self { sources, wanted: HashMap::new(), from_the_end, to_leave: U256::ZERO, unknown: U256::ZERO }
    }
}

impl Division for BackwardQueue {
    fn arrive(&mut self, event: usize, _amount: U256, mark: Option<&Taint>) {
        let Some(mark) = mark else { return };
        let mut lots = self.sources.get(event).into_iter().flatten().copied();
        let mut lot = lots.next();
        for part in &mark.parts {
            let mut rest = part.amount;
            while rest > U256::ZERO {
                let Some(from) = lot else {
                    // Sent beyond the known balance.
                    if part.tainted {
                        self.unknown = self.unknown.saturating_add(rest);
                    }
                    break;
                };
                let length = rest.min(from.amount);
                let (left, stays) = if self.from_the_end {
                    let (stays, left) = from.split(from.amount - length);
                    (left, stays)
                } else {
                    from.split(length)
                };
                if part.tainted {
                    self.wanted.entry(from.event).or_default().push((left.start, length));
                    self.to_leave = self.to_leave.saturating_add(length);
                }
                rest -= length;
                lot = if length < from.amount { Some(stays) } else { lots.next() };
            }
        }
    }

    fn leave(&mut self, event: usize, amount: U256) -> Taint {
        let Some(mut wanted) = self.wanted.remove(&event) else { return Taint::default() };
        wanted.sort_unstable();
        let (mut mark, mut end) = (Taint::default(), U256::ZERO);
        for (start, length) in wanted {
            mark.push(Portion { amount: start - end, tainted: false });
            mark.push(Portion { amount: length, tainted: true });
            end = start + length;
        }
        mark.push(Portion { amount: amount - end, tainted: false });
        self.to_leave -= mark.tainted;
        mark
    }

    fn held(&self) -> U256 {
        self.to_leave.saturating_add(self.unknown)
    }

    fn pending(&self) -> bool {
        self.to_leave > U256::ZERO
    }
}
