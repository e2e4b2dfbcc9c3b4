//! Divisions in forward traces. [`Poison`] and [`HighestFirst`] work in both directions.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::division::{Division, order};
use super::hops::ByHop;
use super::moment::HistoryEvent;
use super::pool::{Pool, Portion, Taint};
use super::{Flow, TaintMethod};
use crate::graph::budget::Interrupt;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::types::U256;

/// Bytes that [`HighestFirst`] keeps for an event.
pub(super) const PER_EVENT: usize = 4 * (size_of::<U256>() + size_of::<usize>());

/// Everything that leaves is tainted once any taint has arrived.
#[derive(Debug, Default)]
pub(super) struct Poison {
    tainted: bool,
    arrived: U256,
    left: U256,
}

impl Division for Poison {
    fn arrive(&mut self, _event: usize, _amount: U256, mark: Option<&Taint>) {
        if let Some(mark) = mark {
            self.tainted = true;
            self.arrived = self.arrived.saturating_add(mark.tainted);
        }
    }

    fn leave(&mut self, _event: usize, amount: U256) -> Taint {
        if !self.tainted {
            return Taint::default();
        }
        self.left = self.left.saturating_add(amount);
        Taint::of(amount)
    }

    fn held(&self) -> U256 {
        self.arrived.saturating_sub(self.left)
    }

    fn pending(&self) -> bool {
        self.tainted
    }
}

/// A leaving transfer is tainted by the same share as the balance.
#[derive(Debug, Default)]
pub(super) struct ForwardHaircut {
    balance: U256,
    /// Never more than the balance.
    tainted: ByHop,
}

impl Division for ForwardHaircut {
    fn arrive(&mut self, _event: usize, amount: U256, mark: Option<&Taint>) {
        self.balance = self.balance.saturating_add(amount);
        if let Some(mark) = mark {
            self.tainted.add(&mark.by_hop);
        }
    }

    fn leave(&mut self, _event: usize, amount: U256) -> Taint {
        let leaving = self.tainted.leave(amount, self.balance);
        self.balance = self.balance.saturating_sub(amount);
        Taint::by_hop(leaving)
    }

    fn held(&self) -> U256 {
        self.tainted.total()
    }

    fn pending(&self) -> bool {
        self.tainted.total() > U256::ZERO
    }
}

/// Funds leave in the order of arrival, or in reverse order.
#[derive(Debug)]
pub(super) struct ForwardQueue {
    pool: Pool<Portion>,
    tainted: U256,
}

impl ForwardQueue {
    pub(super) const fn new(method: TaintMethod) -> Self {
        Self { pool: Pool::new(order(method)), tainted: U256::ZERO }
    }
}

impl Division for ForwardQueue {
    fn arrive(&mut self, _event: usize, amount: U256, mark: Option<&Taint>) {
        match mark {
            Some(mark) => {
                self.tainted = self.tainted.saturating_add(mark.tainted);
                mark.parts.iter().for_each(|part| self.pool.put(*part));
            }
            None => self.pool.put(Portion { amount, tainted: false }),
        }
    }

    fn leave(&mut self, _event: usize, amount: U256) -> Taint {
        let mut mark = Taint::default();
        let lacking = self.pool.take(amount, |part| mark.push(part));
        mark.push(Portion { amount: lacking, tainted: false });
        self.tainted -= mark.tainted;
        mark
    }

    fn held(&self) -> U256 {
        self.tainted
    }

    fn pending(&self) -> bool {
        self.tainted > U256::ZERO
    }
}

/// Tainted funds leave with the largest of the remaining transfers, further ones with the next
/// largest.
#[derive(Debug)]
pub(super) struct HighestFirst {
    /// Remaining transfers that can carry more taint.
    open: BTreeSet<(Reverse<U256>, usize)>,
    carried: HashMap<usize, U256>,
    to_leave: U256,
    /// Taint that no transfer had capacity for.
    stays: U256,
}

impl HighestFirst {
    pub(super) fn new(events: &[HistoryEvent], flow: Flow, interrupt: &mut impl Interrupt) -> Self {
        let leaving = events.iter().enumerate().filter(|(_, event)| event.side() == flow.side());
        let open = leaving.filter(|(_, event)| event.moment.value > U256::ZERO);
        let mut open: Vec<(Reverse<U256>, usize)> =
            open.map(|(number, event)| (Reverse(event.moment.value), number)).collect();
        // A set is built quickly from sorted items.
        sort_with_room(&mut open, interrupt, Ord::cmp);
        let open = open.into_iter().collect();
        Self { open, carried: HashMap::new(), to_leave: U256::ZERO, stays: U256::ZERO }
    }
}

impl Division for HighestFirst {
    fn arrive(&mut self, _event: usize, _amount: U256, mark: Option<&Taint>) {
        let mut rest = mark.map_or(U256::ZERO, |mark| mark.tainted);
        while rest > U256::ZERO {
            let Some((Reverse(amount), event)) = self.open.first().copied() else { break };
            let carried = self.carried.entry(event).or_insert(U256::ZERO);
            let more = rest.min(amount - *carried);
            *carried += more;
            self.to_leave = self.to_leave.saturating_add(more);
            rest -= more;
            if *carried == amount {
                self.open.pop_first();
            }
        }
        self.stays = self.stays.saturating_add(rest);
    }

    fn leave(&mut self, event: usize, amount: U256) -> Taint {
        self.open.remove(&(Reverse(amount), event));
        let carried = self.carried.remove(&event).unwrap_or(U256::ZERO);
        self.to_leave -= carried;
        Taint::of(carried)
    }

    fn held(&self) -> U256 {
        self.stays.saturating_add(self.to_leave)
    }

    fn pending(&self) -> bool {
        self.to_leave > U256::ZERO
    }
}
