//! What a method of dividing funds must answer, and which funds leave first.

use super::Method;
use super::moment::Event;
use super::pool::{Mark, Order};
use crate::graph::types::Side;
use crate::graph::types::U256;

/// How tainted funds are divided among the transfers with which they leave. Events are named by their place in the history, which is
/// in the order of the flow; they pass one by one.
pub trait Division {
    /// A transfer arrives, carrying `mark`.
    fn arrive(&mut self, event: usize, amount: U256, mark: Option<&Mark>);

    /// A transfer leaves: what it carries.
    fn leave(&mut self, event: usize, amount: U256) -> Mark;

    /// Tainted funds that have arrived and not left.
    fn held(&self) -> U256;

    /// Of them, what may still leave.
    fn pending(&self) -> bool;
}

impl Event {
    pub const fn side(&self) -> Side {
        if self.incoming { Side::In } else { Side::Out }
    }
}

/// Which funds leave first.
pub const fn order(method: Method) -> Order {
    match method {
        Method::Lifo => Order::NewestFirst,
        _ => Order::OldestFirst,
    }
}
