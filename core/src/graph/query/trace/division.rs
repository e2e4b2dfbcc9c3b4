//! Interface of the methods that divide funds, and the order in which funds leave.

use super::TaintMethod;
use super::moment::HistoryEvent;
use super::pool::{Order, Taint};
use crate::graph::types::{Side, U256, WalletId};

/// Division of tainted funds among the transfers with which they leave. Events are identified by
/// their index in the history, which is in the order of the flow; they are processed one by one.
pub(super) trait Division {
    /// Processes an arriving transfer with its taint.
    fn arrive(&mut self, event: usize, amount: U256, mark: Option<&Taint>);

    /// Processes a leaving transfer; returns its taint.
    fn leave(&mut self, event: usize, amount: U256) -> Taint;

    /// Returns the tainted funds that have arrived and not left.
    fn held(&self) -> U256;

    /// Reports whether any of them may still leave.
    fn pending(&self) -> bool;
}

impl HistoryEvent {
    pub(super) const fn side(&self) -> Side {
        if self.incoming { Side::In } else { Side::Out }
    }

    /// Returns the sender, given the wallet of the history; `None` for a reward.
    pub(super) const fn sender(&self, wallet: WalletId) -> Option<WalletId> {
        if self.incoming { self.peer } else { Some(wallet) }
    }
}

/// Returns the order in which funds leave.
pub(super) const fn order(method: TaintMethod) -> Order {
    match method {
        TaintMethod::Lifo => Order::NewestFirst,
        _ => Order::OldestFirst,
    }
}
